"""What only real servers can show: Ceph, PostgreSQL, Redis, browsers; by ``make test-real``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection


@pytest.fixture(scope="session", autouse=True)
def real_servers() -> None:
    """No test of this folder passes, or is skipped, on a stand-in."""
    browsers = ("CHROMIUM", "FIREFOX", "WEBKIT_DRIVER")
    for name in ("S3_ENDPOINT_URL", "DATABASE_URL", "REDIS_URL", *browsers):
        assert os.environ.get(name), f"{name} is not set: run `make test-real`"
    assert connection.vendor == "postgresql"
    assert settings.STORAGES["default"]["OPTIONS"]["endpoint_url"] == os.environ["S3_ENDPOINT_URL"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest modules begin first. If one began last, the other workers would wait for it.

    xdist takes modules in this order with ``--no-loadscope-reorder``.
    """
    here = Path(__file__).parent

    def place(item: pytest.Item) -> tuple[bool, bool]:
        return item.get_closest_marker("soak") is None, not item.path.is_relative_to(here)

    items.sort(key=place)
