"""The suite's settings with another user model, and a test database of its own."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.projects.accounts"]
AUTH_USER_MODEL = "accounts.Account"
if DATABASES["default"]["ENGINE"].endswith("postgresql"):
    DATABASES["default"]["TEST"] = {"NAME": f"test_accounts_{os.getpid()}"}
