"""A photo wall and forms. The settings that s3direct_uploads needs are marked with (1) to (3)."""

import os
from pathlib import Path
from typing import Any

import dj_database_url

BASE_DIR = Path(__file__).resolve().parent.parent
env = os.environ.get

DEBUG = env("DEBUG", "1") == "1"
SECRET_KEY = env("SECRET_KEY", "insecure-and-only-for-development" if DEBUG else "")
ALLOWED_HOSTS = [host for host in env("ALLOWED_HOSTS", "").split(",") if host]  # DEBUG: loopback
CSRF_TRUSTED_ORIGINS = [origin for origin in env("CSRF_TRUSTED_ORIGINS", "").split(",") if origin]

INSTALLED_APPS = [
    "example_project.photos",
    "example_project.pages",
    "s3direct_uploads",  # (1)
    "rest_framework",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",  # after the session, before CommonMiddleware
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

SQLITE_PATH = env("SQLITE_PATH", str(BASE_DIR / "db.sqlite3"))
DATABASES: dict[str, Any] = {
    "default": dj_database_url.parse(env("DATABASE_URL") or f"sqlite:///{SQLITE_PATH}"),
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # Several uploads may write at once: each transaction waits for the lock when it begins.
    DATABASES["default"]["OPTIONS"] = {"transaction_mode": "IMMEDIATE", "timeout": 20}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

STORAGES: dict[str, dict[str, Any]] = {
    "default": {  # (2)
        "BACKEND": "s3direct_uploads.storage.S3Storage",
        "OPTIONS": {
            "bucket_name": env("S3_BUCKET", "media"),
            "region_name": env("AWS_REGION", "us-east-1"),
            "access_key": env("AWS_ACCESS_KEY_ID", "demo"),
            "secret_key": env("AWS_SECRET_ACCESS_KEY", "demodemo"),
            # If it is empty, S3 is AWS.
            "endpoint_url": env("S3_ENDPOINT_URL", "http://127.0.0.1:9000") or None,
            # The address for browsers, if it is another one (Docker).
            "public_endpoint_url": env("S3_PUBLIC_ENDPOINT_URL") or None,
        },
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

S3DIRECT_UPLOADS = {  # (3)
    "DESTINATIONS": {
        "photos": {"MAX_SIZE": 1024**3, "CONTENT_TYPES": ["image/*"]},
        "documents": {
            "MAX_SIZE": 100 * 1024**2,
            "CONTENT_TYPES": ["application/pdf", "text/plain", "image/*"],
        },
        "applications": {
            "MAX_SIZE": 10 * 1024**2,
            "CONTENT_TYPES": ["application/pdf"],
            "ANONYMOUS": True,  # visitors need no login
            "MAX_PENDING": 50,  # of all visitors together
            "MAX_TOTAL_SIZE": 1024**3,
        },
    },
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.SessionAuthentication",
        "rest_framework.authentication.BasicAuthentication",
    ],
    # Visitors, by address: without it, one of them could take the limits of all.
    "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.AnonRateThrottle"],
    "DEFAULT_THROTTLE_RATES": {"anon": "60/hour"},
}

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "wall"
LOGOUT_REDIRECT_URL = "login"
DEMO_LOGIN = env("DEMO_LOGIN", "")  # "name:password", shown on the sign-in page

LANGUAGES = [("en", "English"), ("ko", "한국어")]  # of the browser: the first that is here
TIME_ZONE = "UTC"
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "static"
