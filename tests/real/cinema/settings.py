"""The example project's settings, this host, and the strictest policy that an upload allows."""

from tests.real.site_settings import *  # noqa: F403
from tests.real.site_settings import INSTALLED_APPS, MIDDLEWARE, S3DIRECT_UPLOADS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.real.cinema"]
MIDDLEWARE = [*MIDDLEWARE, "tests.real.cinema.views.strict_policy"]
ROOT_URLCONF = "tests.real.cinema.urls"
LOGIN_URL = "admin:login"
S3DIRECT_UPLOADS = {
    "DESTINATIONS": {
        **S3DIRECT_UPLOADS["DESTINATIONS"],
        "reels": {
            "MAX_SIZE": 300 * 1024**2,
            "MAX_TOTAL_SIZE": 1024**3,
            "CONTENT_TYPES": ["video/*"],
            "PART_SIZE": 5 * 1024**2,
        },
        "stills": {
            "MAX_SIZE": 20 * 1024**2,
            "MAX_TOTAL_SIZE": 1024**3,
            "CONTENT_TYPES": ["image/jpeg", "image/png"],
        },
        "contracts": {
            "MAX_SIZE": 1024**2,
            "MAX_TOTAL_SIZE": 1024**3,
            "CONTENT_TYPES": ["application/pdf"],
            "HOLD": True,
        },
    },
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # a real hash takes 0.3 s
