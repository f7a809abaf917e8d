"""Cancel and delete abort the parts in S3."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from s3direct_uploads import signals
from s3direct_uploads.models import Upload
from tests.conftest import App, Bucket, Connect, row
from tests.lifecycle.multipart.conftest import Line, abort_behind_our_back, code, sent


def test_cancel_gives_up_every_upload_at_its_very_key(
    alice: App, s3: Bucket, s3_calls: list[str], connect: Connect
) -> None:
    cancelled = []
    begun = alice.begin_film()
    upload = row(begun)

    def on_cancel(upload: Upload, **_: Any) -> None:
        cancelled.append((upload.status, s3.open_multiparts(upload)))

    connect(signals.upload_cancelled, on_cancel)
    assert alice.send_parts(begun.json()["multipart"]["parts"][:1]) == [200]
    # One from a Create whose answer was lost, and those at other keys.
    s3.client.create_multipart_upload(Bucket=s3.name, Key=upload.key)
    others = [Upload(key=key) for key in (f"{upload.key}2", f"{upload.key}/x", upload.key[:-1])]
    for other in others:
        s3.client.create_multipart_upload(Bucket=s3.name, Key=other.key)
    assert len(s3.open_multiparts(upload)) == 2
    s3_calls.clear()

    assert [alice.delete(str(upload.pk)).status_code for _ in range(2)] == [204, 204]

    assert s3_calls == ["ListMultipartUploads", *["AbortMultipartUpload"] * 2]
    assert cancelled == [("cancelled", [])], "once"
    assert [len(s3.open_multiparts(other)) for other in others] == [1, 1, 1]
    for other in others:
        abort_behind_our_back(s3, other)
    upload.refresh_from_db()
    assert (upload.status, upload.busy_until) == ("cancelled", None)
    assert upload.due_at == upload.key_closes_at
    assert alice.send_parts(begun.json()["multipart"]["parts"]) != [200, 200]
    assert code(alice.confirm(str(upload.pk))) == (410, "not_pending")
    assert s3.read(upload) is None


def test_parts_that_another_aborts_meanwhile_are_no_failure(
    alice: App, s3: Bucket, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    upload = row(alice.begin_film())
    line.meanwhile("AbortMultipartUpload", lambda: abort_behind_our_back(s3, upload))
    assert alice.delete(str(upload.pk)).status_code == 204
    assert s3.open_multiparts(upload) == []
    assert [each for each in caplog.records if each.name == "s3direct_uploads"] == []


def test_cancel_while_s3_is_away_leaves_its_parts_to_the_sweep(
    alice: App, s3: Bucket, s3_away: Callable[[], None]
) -> None:
    upload = row(alice.begin_film())
    s3_away()
    assert alice.delete(str(upload.pk)).status_code == 204
    upload.refresh_from_db()
    assert (upload.status, upload.due_at) == ("cancelled", upload.key_closes_at)
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id]


def test_a_completed_film_is_deleted_as_any_object(alice: App, s3: Bucket) -> None:
    upload = sent(alice)
    assert alice.confirm(str(upload.pk)).status_code == 200
    Upload.objects.update(url_expires_at=timezone.now() - timedelta(days=3))
    assert alice.delete(str(upload.pk)).status_code == 204
    upload.refresh_from_db()
    assert upload.status == "deleted"
    assert upload.object_deleted_at is not None
    assert s3.read(upload) is None
