"""The sweep of pending uploads: lost confirms, and files that never came."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from s3direct_uploads.lifecycle import sweeping
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import Bucket as BucketOfOurs
from s3direct_uploads.s3 import StoredObject
from tests.conftest import DAY, HOUR, JPEG, App, Bucket, age, row, sweep


def test_a_row_that_is_not_due_is_left_alone(alice: App, s3_calls: list[str]) -> None:
    upload = row(alice.begin())
    assert sweep() == {}
    assert s3_calls == []
    assert row(alice.get(f"{upload.pk}/")).due_at == upload.due_at


def test_the_sweep_confirms_an_upload_whose_confirm_was_lost(
    alice: App, s3: Bucket, heard: list[Any], s3_calls: list[str]
) -> None:
    begun = alice.begin().json()
    assert alice.send(begun["request"]) == 200
    age(2 * HOUR)
    s3_calls.clear()
    assert sweep() == {"completed": 1}
    assert s3_calls == [
        "HeadObject",
        "HeadBucket",
        "HeadObject",
    ]  # the HeadBucket asks whether a 404 can be believed
    upload = Upload.objects.get()
    assert (upload.status, upload.due_at) == ("completed", None)
    assert upload.announced_at is not None
    assert heard == [("completed", "sweep")]
    # The client confirms late, and gets the usual answer.
    assert alice.confirm(begun["id"]).json()["status"] == "completed"
    assert heard == [("completed", "sweep")]
    assert sweep() == {}


def test_a_file_that_was_not_sent_is_waited_for_until_its_deadline(
    alice: App, heard: list[Any]
) -> None:
    id = alice.begin().json()["id"]
    age(2 * HOUR)
    assert sweep() == {"waiting": 1}
    upload = Upload.objects.get()
    assert (upload.status, upload.due_at) == ("pending", upload.expires_at)
    assert sweep() == {}
    # After a renew, the sweep looks again when the new URL has ended.
    assert alice.renew(id).status_code == 200
    upload.refresh_from_db()
    assert upload.due_at == upload.url_expires_at + HOUR
    age(DAY)
    assert sweep() == {"expired": 1, "cleaned": 1}
    upload.refresh_from_db()
    assert (upload.status, upload.announced_at) == ("expired", None)
    assert heard == [("expired", None)]
    assert alice.confirm(id).json()["code"] == "not_pending"


def test_a_large_file_is_waited_for_as_long_as_it_may_take(alice: App) -> None:
    upload = row(alice.begin(destination="documents", size=4 * 1024**3))
    age(23 * HOUR)
    assert upload.key_closes_at - upload.created_at > 19 * HOUR  # 4 GiB at 64 KiB/s
    age(2 * HOUR)  # over its deadline, and its URL has long ended
    assert sweep() == {"expired": 1, "cleaned": 1}


def test_a_put_under_way_at_the_deadline_is_waited_for(alice: App) -> None:
    alice.begin(destination="documents", size=4 * 1024**3)
    Upload.objects.update(expires_at=timezone.now(), due_at=timezone.now())
    assert sweep() == {"waiting": 1}
    upload = Upload.objects.get()
    assert (upload.status, upload.due_at) == ("pending", upload.key_closes_at)


def test_an_object_that_is_not_as_declared_is_rejected(
    alice: App, s3: Bucket, heard: list[Any]
) -> None:
    upload = row(alice.begin())
    s3.write(upload, JPEG + b"more")
    age(2 * HOUR)
    assert sweep() == {"rejected": 1, "cleaned": 1}
    upload.refresh_from_db()
    assert upload.status == "rejected"
    assert upload.reason == f"{len(JPEG)} bytes were declared, {len(JPEG) + 4} were sent."
    assert heard == [("rejected", None)]
    assert s3.read(upload) is None


def test_a_renewal_while_s3_is_asked_counts(alice: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Renew was called before the deadline: its URL must find the row pending."""
    alice.begin()
    age(2 * DAY)
    ask, now = sweeping._Sweep._ask, timezone.now()

    def renewed_meanwhile(*args: Any) -> Any:
        answers = ask(*args)
        Upload.objects.update(url_expires_at=now + HOUR, due_at=now + 2 * HOUR)
        return answers

    monkeypatch.setattr(sweeping._Sweep, "_ask", renewed_meanwhile)
    assert sweep() == {}
    upload = Upload.objects.get()
    assert (upload.status, upload.due_at) == ("pending", now + 2 * HOUR)


@pytest.mark.parametrize("by", ["the sweep", "its client"])
def test_a_file_that_arrives_between_the_look_and_the_deadline_counts(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Slow handlers of the host, or a slow S3, can make this time minutes long."""
    upload = row(alice.begin())
    age(2 * DAY)
    # A PUT that is under way can still arrive for one second.
    Upload.objects.update(url_expires_at=timezone.now() + timedelta(seconds=1) - HOUR)
    head = BucketOfOurs.head

    def slow_head(bucket: BucketOfOurs, key: str) -> StoredObject:
        try:
            return head(bucket, key)
        finally:
            if key == upload.key:
                time.sleep(1.1)
                s3.write(upload, JPEG)

    monkeypatch.setattr(BucketOfOurs, "head", slow_head)
    if by == "the sweep":
        assert sweep() == {"waiting": 1}
    else:
        assert alice.confirm(str(upload.pk)).json()["code"] == "object_missing"
    upload.refresh_from_db()
    assert upload.status == "pending"
    monkeypatch.undo()
    age(HOUR)
    assert sweep() == {"completed": 1}
    assert s3.read(upload) == JPEG
