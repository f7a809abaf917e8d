"""An upload in parts past its deadline: completed if all is there, expired if not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from s3direct_uploads import lifecycle, signals
from s3direct_uploads.models import Upload
from tests.conftest import FILM, HOUR, App, Bucket, Connect, age, past_the_deadline, row
from tests.lifecycle.multipart.conftest import Line, code, sent


def test_past_its_deadline_an_incomplete_upload_expires_and_its_parts_are_aborted(
    alice: App, s3: Bucket
) -> None:
    begun = alice.begin_film()
    upload = row(begun)
    assert alice.send_parts(begun.json()["multipart"]["parts"][:1]) == [200]
    past_the_deadline(upload.pk)
    for answer in (alice.renew(str(upload.pk)), alice.sign_parts(str(upload.pk), [1])):
        assert code(answer) == (410, "not_pending"), "nothing is signed, and nothing is settled"
        assert answer.json()["upload"]["status"] == "pending"
    answer = alice.confirm(str(upload.pk))
    assert code(answer) == (410, "not_pending")
    assert answer.json()["upload"]["status"] == "expired"
    assert s3.open_multiparts(upload) == []
    assert s3.read(upload) is None


def test_past_its_deadline_a_complete_upload_is_completed(alice: App, s3: Bucket) -> None:
    upload = sent(alice)
    past_the_deadline(upload.pk)
    assert code(alice.renew(str(upload.pk))) == (410, "not_pending")
    assert alice.confirm(str(upload.pk)).json()["status"] == "completed"
    assert s3.read(upload) == FILM


def test_past_its_deadline_an_upload_ends_although_s3_never_answers_complete(
    alice: App, s3: Bucket, line: Line
) -> None:
    """Nobody knows whether Complete succeeded, so each try leaves a lease."""
    upload = sent(alice)
    past_the_deadline(upload.pk)
    Upload.objects.update(due_at=timezone.now())
    line.lose("CompleteMultipartUpload")
    assert lifecycle.sweep() == {"failed": 1}
    upload.refresh_from_db()
    assert (upload.status, upload.busy_until is None) == ("pending", False)
    age(25 * HOUR)  # it is tried again for a day
    line.lose("CompleteMultipartUpload")
    assert lifecycle.sweep() == {"expired": 1, "cleaned": 1}
    upload.refresh_from_db()
    assert (upload.status, s3.open_multiparts(upload), s3.read(upload)) == ("expired", [], None)


def test_past_its_deadline_nothing_is_signed_while_another_completes_it(alice: App) -> None:
    upload = sent(alice)
    past_the_deadline(upload.pk)
    busy = timezone.now() + timedelta(minutes=1)
    Upload.objects.update(busy_until=busy)
    before = Upload.objects.values().get()
    for answer in (alice.renew(str(upload.pk)), alice.sign_parts(str(upload.pk), [1])):
        assert code(answer) == (410, "not_pending")
        assert "X-Amz" not in answer.text
    assert Upload.objects.values().get() == before


def test_past_its_deadline_an_upload_that_is_cancelled_meanwhile_stays_cancelled(
    alice: App, s3: Bucket, line: Line, connect: Connect
) -> None:
    expired = []

    def on_expire(upload: Upload, **_: Any) -> None:
        expired.append(upload.status)

    connect(signals.upload_expired, on_expire)
    upload = sent(alice)
    past_the_deadline(upload.pk)
    line.meanwhile("ListParts", lambda: lifecycle.cancel(Upload.objects.get()))
    answer = alice.confirm(str(upload.pk))
    assert code(answer) == (410, "not_pending")
    assert (row(answer).status, expired) == ("cancelled", [])
    assert s3.open_multiparts(upload) == []


def test_an_upload_does_not_expire_while_another_completes_it(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = row(alice.begin_film())
    past_the_deadline(upload.pk)
    busy = timezone.now() + timedelta(minutes=1)
    settle = lifecycle.settling._expire

    def too_late(upload: Upload, cause: str) -> None:
        Upload.objects.update(busy_until=busy)
        settle(upload, cause)

    monkeypatch.setattr(lifecycle.settling, "_expire", too_late)
    answer = alice.confirm(str(upload.pk))
    assert code(answer) == (409, "parts_incomplete")
    assert (row(answer).status, row(answer).busy_until) == ("pending", busy)
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id]
