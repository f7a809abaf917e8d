"""The example project, and what the other clients' servers would answer."""

import os

from example_project.settings import *  # noqa: F403
from example_project.settings import DATABASES, INSTALLED_APPS, STORAGES
from example_project.settings import S3DIRECT_UPLOADS as OURS

ROOT_URLCONF = "benchmarks.urls"
STATICFILES_DIRS = [os.environ["BENCH_STATIC"]]
INSTALLED_APPS = [*INSTALLED_APPS, "s3_file_field"]
STORAGES = {
    **STORAGES,
    # The same bucket, as django-storages itself knows it.
    "plain": {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            name: value
            for name, value in STORAGES["default"]["OPTIONS"].items()
            if name != "public_endpoint_url"
        },
    },
}
DATABASES["default"]["CONN_MAX_AGE"] = int(os.environ.get("BENCH_CONN_MAX_AGE", "0"))
S3DIRECT_UPLOADS = {
    "DESTINATIONS": {
        **OURS["DESTINATIONS"],
        "films": {"MAX_SIZE": 5 * 1024**4, "CONTENT_TYPES": ["*/*"]},
        "photos": {"MAX_SIZE": 1024**3, "CONTENT_TYPES": ["image/*"]},  # of the example project
    },
}
# A password's proper hash takes a third of a second, in each request of whoever has no session.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
