"""Which databases uploads may be stored in, and what the checks say of others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from s3direct_uploads import checks
from tests.conftest import ROOT
from tests.host.conftest import RIGHT, Find, assert_found


def manage(folder: Path, command: str, settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a project with the suite's settings and these."""
    (folder / "hosts_settings.py").write_text(f"from tests.settings import *\n{settings}")
    paths = {"PYTHONPATH": str(folder), "DJANGO_SETTINGS_MODULE": "hosts_settings"}
    return subprocess.run(
        [sys.executable, "manage.py", *command.split()],
        cwd=ROOT,
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("vendor", ["mysql", "oracle"])
def test_other_databases_are_refused(vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.check_database() == []
    monkeypatch.setattr(type(connections["default"]), "vendor", vendor)
    (error,) = checks.check_database()
    assert error.id == "s3direct_uploads.E025"
    assert error.hint
    assert "DATABASE_ROUTERS" not in error.hint, "uploads refer to users, in the same database"


@pytest.mark.parametrize("limits", [{}, {"MAX_PENDING": 5}, {"MAX_TOTAL_SIZE": 1024}])
@pytest.mark.parametrize("options", [{}, {"timeout": 20}, {"transaction_mode": "IMMEDIATE"}])
def test_where_uploads_are_counted_sqlite_should_lock_as_a_transaction_begins(
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    limits: dict[str, int],
    options: dict[str, Any],
) -> None:
    """With SQLite in a file; tests/projects/sqlite has one, and this warning."""
    database: Any = connections["default"]
    monkeypatch.setattr(type(database), "vendor", "sqlite")
    monkeypatch.setattr(type(database), "is_in_memory_db", lambda _: False, raising=False)
    monkeypatch.setitem(database.settings_dict, "OPTIONS", options)
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": {**RIGHT, **limits}}}
    found = checks.check_database()
    is_warned = bool(limits) and "transaction_mode" not in options
    assert [each.id for each in found] == ["s3direct_uploads.W047"] * is_warned
    assert all("'IMMEDIATE'" in str(each.hint) for each in found)


class Router:
    """A host's router: the databases for these models, by name. All others are in the default."""

    writes: dict[str, str] = {}
    reads: dict[str, str] = {}

    def db_for_write(self, model: Any, **_: Any) -> str:
        return self.writes.get(model._meta.label, "default")

    def db_for_read(self, model: Any, **_: Any) -> str:
        return self.reads.get(model._meta.label, "default")


@pytest.mark.parametrize(
    "writes",
    [
        {"s3direct_uploads.Upload": "other", "s3direct_uploads.Usage": "other"},
        {"s3direct_uploads.Upload": "other"},
        {"s3direct_uploads.Usage": "other"},
        {"auth.User": "other"},
    ],
)
def test_uploads_and_their_owners_are_in_one_database(
    find: Find, settings: Any, monkeypatch: pytest.MonkeyPatch, writes: dict[str, str]
) -> None:
    settings.DATABASE_ROUTERS = [f"{__name__}.Router"]
    assert find() == []
    monkeypatch.setattr(Router, "writes", writes)
    found = find()
    assert_found(found, "E048")
    assert "'other'" in found[0].msg


def test_a_host_may_read_from_replicas(
    find: Find, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DATABASE_ROUTERS = [f"{__name__}.Router"]
    replicas = {"s3direct_uploads.Upload": "replica", "auth.User": "replica"}
    monkeypatch.setattr(Router, "reads", replicas)
    assert find() == []


def test_two_databases_are_refused_before_anything_is_migrated(tmp_path: Path) -> None:
    settings = f"""
database = {{"ENGINE": "django.db.backends.sqlite3"}}
DATABASES = {{
    "default": {{**database, "NAME": "{tmp_path}/default"}},
    "other": {{**database, "NAME": "{tmp_path}/other"}},
}}
DATABASE_ROUTERS = ["hosts_settings.Uploads"]

class Uploads:
    def db_for_write(self, model, **hints):
        return "other" if model._meta.app_label == "s3direct_uploads" else None

    db_for_read = db_for_write

    def allow_migrate(self, db, app_label, **hints):
        return (db == "other") == (app_label == "s3direct_uploads")
"""
    for alias in ("default", "other"):
        done = manage(tmp_path, f"migrate --database {alias}", settings)
        assert done.returncode == 1
        assert "(s3direct_uploads.E048) Uploads are written" in done.stderr
        assert "Applying" not in done.stdout
