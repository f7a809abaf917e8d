"""The example project, for pages on another origin."""

import os

from example_project.settings import *  # noqa: F403
from example_project.settings import INSTALLED_APPS, MIDDLEWARE, REST_FRAMEWORK
from example_project.settings import S3DIRECT_UPLOADS as OURS
from tests.real.elsewhere import documented

INSTALLED_APPS = [*INSTALLED_APPS]
MIDDLEWARE = [*MIDDLEWARE]
exec(documented.settings(documented.SETTINGS))  # INSTALLED_APPS += …
exec(documented.settings(documented.SESSION_SETTINGS))
CORS_ALLOW_HEADERS += ["upload-token"]  # type: ignore[name-defined]  # noqa: F405  # for visitors
if os.environ.get("FORGETFUL"):
    del CORS_ALLOW_HEADERS  # type: ignore[name-defined]  # the easily forgotten line

ROOT_URLCONF = "tests.real.elsewhere.urls"
REST_FRAMEWORK = {
    **REST_FRAMEWORK,
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "tests.real.elsewhere.views.BearerAuthentication",
        *REST_FRAMEWORK["DEFAULT_AUTHENTICATION_CLASSES"],
    ],
}
S3DIRECT_UPLOADS = {
    "DESTINATIONS": {
        **OURS["DESTINATIONS"],
        "photos": {
            "MAX_SIZE": 1024**3,
            "CONTENT_TYPES": ["image/*"],
            "PART_SIZE": 5 * 1024**2,
        },
    }
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # a real hash takes 0.3 s
