"""The example project with two destinations. LIBRARIES has templates and static files."""

import os
from pathlib import Path
from typing import Any

from example_project.settings import *  # noqa: F403
from example_project.settings import S3DIRECT_UPLOADS as OURS
from example_project.settings import TEMPLATES

LIBRARIES = Path(os.environ["LIBRARIES"])

ROOT_URLCONF = "tests.real.libraries.urls"
STATICFILES_DIRS = [LIBRARIES / "static"]
TEMPLATES = [{**TEMPLATES[0], "DIRS": [LIBRARIES / "templates"]}]
DESTINATIONS: dict[str, Any] = {
    **OURS["DESTINATIONS"],
    "photos": "tests.real.libraries.uploads.Photos",
    "papers": {"MAX_SIZE": 1024**2, "CONTENT_TYPES": ["application/pdf"]},
}
S3DIRECT_UPLOADS = {"DESTINATIONS": DESTINATIONS}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # a real hash takes 0.3 s
