"""The settings by which mypy knows the models: the tests', and those of the example project."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "example_project.pages"]
