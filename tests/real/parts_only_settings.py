"""The example project on a server that is taken to have no conditional writes."""

from example_project.settings import *  # noqa: F403
from example_project.settings import STORAGES

STORAGES["default"]["OPTIONS"]["overwrite_guard"] = "multipart"
