"""The host with forms, served, and its admin with a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.real.site import Site

from .editor import Editor


@pytest.fixture(scope="module")
def running_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    log = tmp_path_factory.mktemp("cinema") / "log"
    site = Site()
    site.env["DJANGO_SETTINGS_MODULE"] = "tests.real.cinema.settings"
    with site.serving(log):
        site.manage("migrate")  # the tables of its own
        yield site
    said = log.read_text()
    assert "Traceback" not in said
    assert "X-Amz" not in said


@pytest.fixture
def edit(site: Site, chromium: Browser, tmp_path: Path) -> Iterator[Callable[..., Editor]]:
    editors: list[Editor] = []

    def edit(**options: Any) -> Editor:
        editors.append(Editor(site, chromium, tmp_path, **options))
        return editors[-1]

    yield edit
    for editor in editors:
        editor.context.close()
        assert editor.errors == []
    for table in ("cinema_still", "cinema_poster", "cinema_film", "cinema_director"):
        site.database.execute(f"DELETE FROM {table}")
    for table in ("upload", "usage"):
        site.database.execute(f"DELETE FROM s3direct_uploads_{table}")
    found = site.client.list_objects_v2(Bucket=site.bucket).get("Contents", [])
    for each in found:
        site.client.delete_object(Bucket=site.bucket, Key=each["Key"])
