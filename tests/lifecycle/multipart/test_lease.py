"""One process at a time completes the parts: it holds a lease, ``busy_until``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from s3direct_uploads import lifecycle, signals
from s3direct_uploads.models import Upload
from tests.conftest import FILM, App, Bucket, Connect, row
from tests.lifecycle.multipart.conftest import Line, code, complete_behind_our_back, sent


def test_while_another_completes_it_confirm_answers_202(
    alice: App, s3: Bucket, s3_calls: list[str]
) -> None:
    upload = sent(alice)
    busy = timezone.now() + timedelta(minutes=1)
    Upload.objects.update(busy_until=busy)
    s3_calls.clear()

    answer = alice.confirm(str(upload.pk))

    assert answer.status_code == 202
    assert (answer.json()["status"], answer.json()["multipart"]) == ("pending", None)
    assert s3_calls == ["HeadObject"], "it may have died after S3 was through with it"
    assert (row(answer).status, row(answer).busy_until) == ("pending", busy)

    Upload.objects.update(busy_until=timezone.now())  # the other process died
    s3_calls.clear()
    assert alice.confirm(str(upload.pk)).status_code == 200
    assert s3_calls == ["HeadObject", "ListParts", "CompleteMultipartUpload", "HeadObject"]
    assert s3.read(upload) == FILM


def test_an_object_that_is_there_is_confirmed_although_another_has_the_lease(
    alice: App, s3: Bucket, s3_calls: list[str]
) -> None:
    upload = sent(alice)
    Upload.objects.update(busy_until=timezone.now() + timedelta(minutes=1))
    complete_behind_our_back(s3, upload)
    s3_calls.clear()
    confirmed = alice.confirm(str(upload.pk))
    assert confirmed.status_code == 200
    assert s3_calls == ["HeadObject"]
    assert (row(confirmed).status, row(confirmed).busy_until) == ("completed", None)
    assert s3.read(upload) == FILM


def test_two_that_read_the_row_at_once_complete_it_once(
    alice: App, s3: Bucket, line: Line, s3_calls: list[str], connect: Connect
) -> None:
    heard = []

    def listen(upload: Upload, **_: Any) -> None:
        heard.append(upload.pk)

    connect(signals.upload_completed, listen)
    upload = sent(alice)
    stale = Upload.objects.get()
    seen = []
    line.meanwhile("ListParts", lambda: seen.append(lifecycle.confirm(stale).status))
    s3_calls.clear()
    assert alice.confirm(str(upload.pk)).status_code == 200
    assert seen == ["pending"], "the other has it"
    assert s3_calls.count("CompleteMultipartUpload") == 1
    assert lifecycle.confirm(stale).status == "completed"
    assert heard == [upload.pk]


@pytest.mark.parametrize("status", [None, 502, 504])
def test_a_lost_answer_to_complete_keeps_the_lease_and_the_object_is_found(
    alice: App, s3: Bucket, line: Line, s3_calls: list[str], status: int | None
) -> None:
    upload = sent(alice)
    line.lose_answer("CompleteMultipartUpload", status)
    s3_calls.clear()

    answer = alice.confirm(str(upload.pk))

    assert code(answer) == (503, "bucket_unavailable")
    assert answer["Retry-After"] == str(answer.json()["retry_after"])
    assert s3_calls == ["ListParts", "CompleteMultipartUpload"], "once"
    upload.refresh_from_db()
    assert upload.status == "pending"
    assert upload.busy_until is not None
    assert timezone.now() + timedelta(minutes=3) < upload.busy_until

    confirmed = alice.confirm(str(upload.pk))
    assert confirmed.status_code == 200
    assert s3_calls[2:] == ["HeadObject"]
    assert (row(confirmed).status, row(confirmed).busy_until) == ("completed", None)
    assert s3.read(upload) == FILM


def test_a_complete_that_never_arrived_is_repeated_once_the_lease_is_over(
    alice: App, s3: Bucket, line: Line
) -> None:
    upload = sent(alice)
    line.lose("CompleteMultipartUpload")
    assert alice.confirm(str(upload.pk)).status_code == 503
    assert alice.confirm(str(upload.pk)).status_code == 202, "S3 may still be at it"
    assert s3.read(upload) is None
    Upload.objects.update(busy_until=timezone.now())
    assert alice.confirm(str(upload.pk)).status_code == 200
    assert s3.read(upload) == FILM


@pytest.mark.parametrize(
    "fail",
    [
        pytest.param(
            lambda it: it.refuse("CompleteMultipartUpload", 403, "AccessDenied"), id="403"
        ),
        pytest.param(
            lambda it: it.refuse("CompleteMultipartUpload", 409, "ConditionalRequestConflict"),
            id="409",
        ),
        pytest.param(lambda it: it.refuse("CompleteMultipartUpload", 503, "SlowDown"), id="503"),
        pytest.param(
            lambda it: it.refuse("CompleteMultipartUpload", 200, "InternalError"),
            id="200, an error",
        ),
        pytest.param(lambda it: it.cut("CompleteMultipartUpload"), id="no connection"),
        pytest.param(lambda it: it.refuse("ListParts", 403, "AccessDenied"), id="ListParts: 403"),
        pytest.param(
            lambda it: [it.lose("ListParts"), it.lose("ListParts")], id="ListParts: lost, twice"
        ),
    ],
)
def test_a_failure_that_is_certain_gives_the_lease_back(
    alice: App, s3: Bucket, line: Line, fail: Callable[[Line], object]
) -> None:
    upload = sent(alice)
    before = Upload.objects.values().get()
    fail(line)
    assert code(alice.confirm(str(upload.pk))) == (503, "bucket_unavailable")
    assert Upload.objects.values().get() == before
    assert s3.read(upload) is None
    assert alice.confirm(str(upload.pk)).status_code == 200, "at once"
    assert s3.read(upload) == FILM


def test_a_head_that_fails_after_complete_is_repeated_by_the_next_confirm(
    alice: App, s3: Bucket, line: Line
) -> None:
    upload = sent(alice)
    line.refuse("HeadObject", 403, "Forbidden")
    assert code(alice.confirm(str(upload.pk))) == (503, "bucket_unavailable")
    assert alice.confirm(str(upload.pk)).status_code == 200
    assert s3.read(upload) == FILM
