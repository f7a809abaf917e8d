"""The test's own settings, for a process beside it: the same database, bucket and destinations."""

import json
import os
from typing import Any

from django.conf import settings
from django.db import connection

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

if "S3DIRECT_TEST" in os.environ:
    _given = json.loads(os.environ["S3DIRECT_TEST"])
    DATABASES["default"]["NAME"] = _given["database"]
    STORAGES = _given["storages"]
    S3DIRECT_UPLOADS = _given["uploads"]


def environment(**options: Any) -> dict[str, str]:
    """For such a process; ``options`` are of its default storage: endpoint_url."""
    default = settings.STORAGES["default"]
    storage = {**default, "OPTIONS": {**default["OPTIONS"], **options}}
    given = {
        "database": connection.settings_dict["NAME"],
        "storages": {**settings.STORAGES, "default": storage},
        "uploads": settings.S3DIRECT_UPLOADS,
    }
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.real.settings",
        "S3DIRECT_TEST": json.dumps(given),
    }
