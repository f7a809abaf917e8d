"""The suite's settings with local times, and a test database of its own."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

USE_TZ = False
TIME_ZONE = "America/New_York"
if DATABASES["default"]["ENGINE"].endswith("postgresql"):
    DATABASES["default"]["TEST"] = {"NAME": f"test_naive_{os.getpid()}"}
