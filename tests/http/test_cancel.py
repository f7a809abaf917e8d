"""DELETE gives up a pending upload, and deletes a completed one that no model holds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from s3direct_uploads import lifecycle, signals
from s3direct_uploads.exceptions import AlreadyAttached
from s3direct_uploads.models import Upload
from tests.conftest import JPEG, App, Bucket, Connect, row


def test_an_attach_during_a_delete_wins(alice: App) -> None:
    id = alice.upload().json()["id"]
    stale = Upload.objects.get()
    Upload.objects.get().attach()
    with pytest.raises(AlreadyAttached):
        lifecycle.cancel(stale)
    assert row(alice.get(f"{id}/")).status == "completed"


def test_delete_gives_up_a_pending_upload(alice: App, s3: Bucket, connect: Connect) -> None:
    cancelled = []
    begun = alice.begin().json()

    def on_cancel(upload: Upload, **_: Any) -> None:
        cancelled.append(upload)

    connect(signals.upload_cancelled, on_cancel)

    assert [alice.delete(begun["id"]).status_code for _ in range(2)] == [204, 204]

    upload = row(alice.get(f"{begun['id']}/"))
    assert cancelled == [upload], "once"
    assert upload.status == "cancelled"
    assert upload.due_at == upload.url_expires_at + timedelta(hours=1)
    answer = alice.confirm(begun["id"])
    assert (answer.status_code, answer.json()["code"]) == (410, "not_pending")


def test_delete_of_a_completed_upload_waits_until_its_key_is_closed(alice: App, s3: Bucket) -> None:
    begun = alice.begin().json()
    alice.send(begun["request"])
    alice.confirm(begun["id"])

    assert alice.delete(begun["id"]).status_code == 204

    upload = Upload.objects.get()
    assert upload.status == "deleted"
    assert upload.object_deleted_at is None
    assert upload.due_at == upload.key_closes_at
    # If it were deleted now, whoever has the URL could write to its key again.
    assert s3.read(upload) == JPEG
    assert alice.send(begun["request"], JPEG[::-1]) == 412
    assert alice.get(f"{begun['id']}/url/").json()["code"] == "not_completed"


@pytest.mark.parametrize("age", [timedelta(hours=5), timedelta(days=3)])
def test_delete_of_an_old_upload_deletes_its_object_at_once(
    alice: App, s3: Bucket, age: timedelta
) -> None:
    id = alice.upload().json()["id"]
    Upload.objects.update(url_expires_at=timezone.now() - age)

    assert alice.delete(id).status_code == 204

    upload = Upload.objects.get()
    assert upload.status == "deleted"
    assert s3.read(upload) is None
    if age > timedelta(days=1):
        assert upload.object_deleted_at is not None
        assert upload.due_at == upload.object_deleted_at + timedelta(days=7)  # to be pruned
    else:  # a PUT may have been under way, so the sweep looks once more
        assert upload.object_deleted_at is None
        assert upload.due_at is not None
        assert timedelta(hours=23) < upload.due_at - timezone.now() < timedelta(hours=25)


def test_delete_while_s3_is_away_leaves_it_to_the_sweep(
    alice: App, s3: Bucket, s3_away: Callable[[], None]
) -> None:
    upload = row(alice.begin())
    s3_away()
    past = timezone.now() - timedelta(days=3)
    Upload.objects.update(status="completed", completed_at=past, url_expires_at=past)
    assert alice.delete(str(upload.pk)).status_code == 204
    upload.refresh_from_db()
    assert (upload.status, upload.object_deleted_at) == ("deleted", None)
    assert upload.due_at == upload.key_closes_at
