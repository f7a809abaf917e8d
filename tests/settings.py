"""The settings under which the suite runs: SQLite and moto, or what the environment names."""

import os
import secrets
import socket
from contextlib import suppress
from typing import Any

import dj_database_url


def free_port() -> int:
    """A port that nobody listens at. It stays free until a server of ours takes it.

    The system gives ports from 32768 on to every connection, and to who asks for any port. One of
    those may be another process's a moment later.
    """
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


SECRET_KEY = "tests"
USE_TZ = True
ROOT_URLCONF = "tests.urls"
DATABASES = {"default": dj_database_url.parse(os.environ.get("DATABASE_URL", "sqlite:///:memory:"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "s3direct_uploads",
    "example_project.photos",
    "tests",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "static/"
DEMO_LOGIN = ""  # the example project's
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"],
    # A host may set these, and they must have no effect on the app.
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
    "PAGE_SIZE": 3,
}
STORAGES: dict[str, dict[str, Any]] = {
    # A real S3, or the port at which conftest.py starts moto.
    "default": {
        "BACKEND": "s3direct_uploads.storage.S3Storage",
        "OPTIONS": {
            "bucket_name": f"media-{os.getpid()}",
            "endpoint_url": os.environ.get("S3_ENDPOINT_URL") or f"http://127.0.0.1:{free_port()}",
            "region_name": "us-east-1",
            "access_key": os.environ.get("AWS_ACCESS_KEY_ID", "testaccesskey"),
            "secret_key": os.environ.get("AWS_SECRET_ACCESS_KEY", "testsecretkey"),
            "location": "site",
        },
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
S3DIRECT_UPLOADS: dict[str, Any] = {
    "SITE": "tests",
    "DESTINATIONS": {
        "photos": {"MAX_SIZE": 20 * 1024**2, "CONTENT_TYPES": ["image/*"]},
        "albums": "tests.host_app.Albums",
        "documents": {"MAX_SIZE": 10 * 1024**3, "CONTENT_TYPES": ["*/*"]},
    },
}
