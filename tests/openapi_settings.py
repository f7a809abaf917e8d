"""The suite's settings and drf-spectacular: what docs/openapi.yaml is made with."""

from typing import Any

from .settings import *  # noqa: F403
from .settings import INSTALLED_APPS as _APPS
from .settings import REST_FRAMEWORK as _REST_FRAMEWORK

INSTALLED_APPS = [*_APPS, "drf_spectacular"]
REST_FRAMEWORK = {
    **_REST_FRAMEWORK,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "s3direct_uploads",
    "DESCRIPTION": "Uploads that go straight to S3. The destinations are those of the tests; "
    "who may call, and how often, is the project's to say.",
    "VERSION": "1",
    "SCHEMA_PATH_PREFIX": "/api/",
    "PREPROCESSING_HOOKS": ["tests.openapi_settings.only_uploads"],
}


def only_uploads(endpoints: list[Any], **_: Any) -> list[Any]:
    return [endpoint for endpoint in endpoints if endpoint[0].startswith("/api/uploads/")]
