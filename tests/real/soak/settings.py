"""The suite's settings, for the processes that are told in SOAK what is theirs."""

import json
import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES as _DATABASES
from tests.settings import INSTALLED_APPS as _APPS

given = json.loads(os.environ["SOAK"])

ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [*_APPS, "tests.real.soak"]
DATABASES = {"default": {**_DATABASES["default"], "NAME": given["database"], "CONN_MAX_AGE": 60}}
STORAGES, S3DIRECT_UPLOADS = given["storages"], given["uploads"]
