"""Run by tests/lifecycle/test_sqlite.py, with tests.projects.sqlite.settings."""

from __future__ import annotations

import io
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone

from s3direct_uploads import lifecycle
from s3direct_uploads.checks import check_database
from s3direct_uploads.lifecycle import rows, sweeping
from s3direct_uploads.models import Upload, Usage
from s3direct_uploads.testing import completed_upload
from tests.conftest import JPEG, App, row

pytestmark = pytest.mark.django_db(transaction=True)

HELD = 0.05  # seconds; SQLite's own patience is five


@pytest.fixture(autouse=True)
def limits(settings: Any) -> None:
    photos = {"MAX_SIZE": 1024, "CONTENT_TYPES": ["image/*"], "MAX_TOTAL_SIZE": 1024}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": photos}}


@contextmanager
def another_writes() -> Iterator[None]:
    """Another process holds the lock, and commits a moment after this one wants to write."""
    began, wanted = threading.Event(), threading.Event()

    def note(execute: Any, sql: str, *rest: Any) -> Any:
        if not sql.startswith(("SELECT", "SAVEPOINT", "BEGIN")):
            wanted.set()
        return execute(sql, *rest)

    def write() -> None:
        other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE auth_user SET first_name = 'Al'")
        began.set()
        wanted.wait(5)
        time.sleep(HELD)
        other.execute("COMMIT")
        other.close()

    thread = threading.Thread(target=write)
    thread.start()
    began.wait()
    try:
        with connection.execute_wrapper(note):
            yield
        assert wanted.is_set(), "nothing was written while another held the lock"
    finally:
        wanted.set()
        thread.join()


def used(app: App) -> tuple[int, int]:
    usage = Usage.objects.get(owner=app.user)
    return usage.pending, usage.total_size


def delete(upload: Upload) -> None:
    upload.delete()


def delete_in_a_transaction(upload: Upload) -> None:
    with transaction.atomic():
        upload.delete()


def delete_by_a_queryset(upload: Upload) -> None:
    Upload.objects.filter(key=upload.key).delete()


def delete_by_a_queryset_in_a_transaction(upload: Upload) -> None:
    with transaction.atomic():
        Upload.objects.filter(key=upload.key).delete()


def test_the_options_are_djangos_own() -> None:
    assert connection.vendor == "sqlite"
    assert connection.settings_dict["OPTIONS"] == {}
    assert "memory" not in connection.settings_dict["NAME"]


@pytest.mark.parametrize(
    "operation",
    [
        delete,
        delete_in_a_transaction,
        delete_by_a_queryset,
        delete_by_a_queryset_in_a_transaction,
        rows.forget,
        lifecycle.cancel,
    ],
)
def test_a_counted_upload_goes_while_another_writes(
    alice: App, operation: Callable[[Upload], None]
) -> None:
    upload = row(alice.begin())
    assert used(alice) == (1, len(JPEG))
    with another_writes():
        operation(upload)
    upload_is_there = Upload.objects.exists()
    assert upload_is_there is (operation is lifecycle.cancel)
    assert used(alice) == (0, len(JPEG) if upload_is_there else 0)


def test_a_begin_is_counted_while_another_writes(alice: App) -> None:
    """The first of its owner, who has no usage yet, and the next."""
    for count in (1, 2):
        with another_writes():
            answer = alice.begin(headers={"Idempotency-Key": str(count)})
        assert answer.status_code == 201
        assert used(alice) == (count, count * len(JPEG))
    with another_writes():
        assert alice.begin(size=1024).json()["code"] == "quota_exceeded"


def test_a_begin_in_the_hosts_own_transaction_waits_too(alice: App) -> None:
    with another_writes(), transaction.atomic():
        lifecycle.begin(owner=alice.user, destination="photos", filename="a.jpg", size=1)
    assert used(alice) == (1, 1)


def test_an_upload_is_confirmed_while_another_writes(alice: App) -> None:
    begun = alice.begin().json()
    assert alice.send(begun["request"]) == 200
    with another_writes():
        assert alice.confirm(begun["id"]).status_code == 200
    assert used(alice) == (0, len(JPEG))


def test_the_sweep_expires_cleans_and_prunes_while_another_writes(alice: App) -> None:
    alice.begin()
    ago = timezone.now() - timedelta(days=30)
    times = {"url_expires_at": ago, "expires_at": ago, "due_at": ago}
    Upload.objects.update(**times)
    with another_writes():
        assert lifecycle.sweep() == {"expired": 1, "cleaned": 1}
    assert used(alice) == (0, 0)
    Upload.objects.update(due_at=ago)
    with another_writes():
        assert lifecycle.sweep() == {"pruned": 1}
    assert not Upload.objects.exists()


def test_a_tombstone_is_pruned_at_once_while_another_writes(alice: App) -> None:
    """If it failed, the sweep would do it later. But it need not fail."""
    upload = row(alice.begin())
    assert alice.delete(str(upload.pk)).status_code == 204
    ago = timezone.now() - timedelta(days=30)
    Upload.objects.update(object_deleted_at=ago, due_at=ago)
    with another_writes():
        assert sweeping._prune([upload.pk], due_at=ago) == 1
    assert used(alice) == (0, 0)


def test_usage_is_counted_anew_while_another_writes(alice: App) -> None:
    alice.begin()
    Usage.objects.update(pending=9)
    with another_writes():
        call_command("recount_usage", stdout=io.StringIO())
    assert used(alice) == (1, len(JPEG))


def test_an_upload_is_attached_while_another_writes(alice: App) -> None:
    upload = completed_upload(owner=alice.user, destination="photos")
    with another_writes():
        answer = alice.client.post("/api/photos/", {"image": str(upload.pk)}, format="json")
    assert answer.status_code == 201


def test_an_owner_is_deleted_while_another_writes(alice: App) -> None:
    alice.begin()
    with another_writes():
        User.objects.get().delete()
    assert Upload.objects.get().owner is None


def test_a_check_says_that_transactions_should_lock_as_they_begin() -> None:
    [warning] = check_database()
    assert warning.id == "s3direct_uploads.W047"
