"""The suite's settings and drf-spectacular: what docs/openapi.yaml is made with."""

from typing import Any

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as _APPS
from tests.settings import REST_FRAMEWORK as _REST_FRAMEWORK

INSTALLED_APPS = [*_APPS, "drf_spectacular"]
REST_FRAMEWORK = {
    **_REST_FRAMEWORK,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
# None, so that a destination is any string.
S3DIRECT_UPLOADS = {}
SILENCED_SYSTEM_CHECKS = ["s3direct_uploads.E003", "s3direct_uploads.E050"]
SPECTACULAR_SETTINGS = {
    "TITLE": "s3direct_uploads",
    "DESCRIPTION": "Uploads that go straight to S3. Each project has its own destinations. It also "
    "decides who may call, and how often.",
    "VERSION": "1",
    "SCHEMA_PATH_PREFIX": "/api/",
    "PREPROCESSING_HOOKS": ["tests.openapi_settings.only_uploads"],
}


def only_uploads(endpoints: list[Any], **_: Any) -> list[Any]:
    return [endpoint for endpoint in endpoints if endpoint[0].startswith("/api/uploads/")]
