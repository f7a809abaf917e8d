"""The example project on a server that is taken to have no conditional writes."""

from example_project.settings import STORAGES
from tests.real.site_settings import *  # noqa: F403

STORAGES["default"]["OPTIONS"]["overwrite_guard"] = "multipart"
