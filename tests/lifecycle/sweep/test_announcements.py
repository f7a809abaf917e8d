"""The sweep announces a completion that nobody announced."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from s3direct_uploads import signals
from s3direct_uploads.lifecycle import sweeping
from s3direct_uploads.models import Upload
from tests.conftest import JPEG, App, Connect, age, sweep


def test_the_sweep_announces_a_completion_that_was_not_announced(
    alice: App, heard: list[Any]
) -> None:
    id = alice.upload().json()["id"]
    now = timezone.now()
    Upload.objects.update(announced_at=None, due_at=now)  # the process died before its handlers
    heard.clear()
    assert sweep() == {"announced": 1}
    upload = Upload.objects.get(pk=id)
    assert (upload.announced_at or now) > now
    assert upload.due_at is None
    assert heard == [("completed", "sweep")]


def test_what_another_sweep_announces_meanwhile_is_not_announced_again(
    alice: App, heard: list[Any], connect: Connect
) -> None:
    """A thousand handlers that take a second each outlast the lease of their sweep."""
    ids = [alice.upload(body=JPEG + bytes([n])).json()["id"] for n in range(3)]
    Upload.objects.update(announced_at=None)
    for number, id in enumerate(ids):
        due = timezone.now() - timedelta(seconds=9 - number)
        Upload.objects.filter(pk=id).update(due_at=due)
    heard.clear()
    told: list[str] = []

    def take_long(upload: Upload, **_: Any) -> None:
        told.append(str(upload.pk))
        if len(told) == 1:
            deleted, other = (id for id in ids if id != told[0])
            assert alice.delete(deleted).status_code == 204
            age(sweeping.LEASE + timedelta(seconds=2), pk=other)
            assert sweep() == {"announced": 1}

    connect(signals.upload_completed, take_long)
    assert sweep() == {"announced": 1}
    assert len(heard) == len(told) == len(set(told)) == 2
    assert Upload.objects.filter(announced_at=None).get().status == "deleted"


def test_a_handler_that_deletes_its_row_does_not_end_the_sweep(
    alice: App, connect: Connect
) -> None:
    for n in range(3):
        alice.upload(body=JPEG + bytes([n]))
    Upload.objects.update(announced_at=None, due_at=timezone.now())

    def take_over(upload: Upload, **_: Any) -> None:
        Upload.objects.get(pk=upload.pk).delete()

    connect(signals.upload_completed, take_over)
    assert sweep() == {"announced": 3}
    assert not Upload.objects.exists()
