"""A CreateMultipartUpload that fails, is lost, or takes too long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from django.utils import timezone

from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import get_bucket
from tests.conftest import FILM, HOUR, App, Bucket, made_up_answer, row
from tests.lifecycle.multipart.conftest import KEY, Line, code


@pytest.mark.parametrize(
    "fail",
    [
        pytest.param(lambda it: it.refuse("CreateMultipartUpload", 403, "AccessDenied"), id="403"),
        pytest.param(lambda it: it.refuse("CreateMultipartUpload", 503, "SlowDown"), id="503"),
        pytest.param(lambda it: it.cut("CreateMultipartUpload"), id="no connection"),
    ],
)
def test_a_create_that_failed_leaves_nothing(
    alice: App, s3: Bucket, line: Line, fail: Callable[[Line], object]
) -> None:
    fail(line)
    answer = alice.begin_film(headers=KEY)
    assert code(answer) == (503, "bucket_unavailable")
    assert not Upload.objects.exists()
    assert alice.begin_film(headers=KEY).status_code == 201
    upload = Upload.objects.get()
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id]


LOST = "CreateMultipartUpload"
lost_creates = pytest.mark.parametrize(
    ("fail", "strays"),
    [
        pytest.param(lambda it: it.lose_answer(LOST), 1, id="its answer"),
        pytest.param(lambda it: it.lose_answer(LOST, 500), 1, id="its answer: 500"),
        pytest.param(lambda it: it.lose_answer(LOST, 502), 1, id="its answer: 502"),
        pytest.param(lambda it: it.lose_answer(LOST, 504), 1, id="its answer: 504"),
        pytest.param(lambda it: it.lose_answer(LOST, 200), 1, id="its answer: 200, but not S3's"),
        pytest.param(lambda it: it.lose(LOST), 0, id="the request"),
    ],
)


@pytest.mark.parametrize("key", [None, KEY], ids=["no key", "a key"])
@lost_creates
def test_a_lost_create_is_a_tombstone_by_which_it_is_found(
    alice: App,
    s3: Bucket,
    line: Line,
    fail: Callable[[Line], None],
    strays: int,
    key: dict[str, str] | None,
) -> None:
    fail(line)

    answer = alice.begin_film(headers=key)

    assert code(answer) == (503, "bucket_unavailable")
    assert "upload" not in answer.json()
    upload = Upload.objects.get()
    assert (upload.status, upload.multipart_upload_id, upload.busy_until) == ("cancelled", "", None)
    assert (upload.due_at, upload.idempotency_key) == (upload.key_closes_at, None)
    assert len(s3.open_multiparts(upload)) == strays
    get_bucket("default").abort_multiparts(upload.key)
    assert s3.open_multiparts(upload) == []


@lost_creates
def test_a_lost_create_is_repeated_at_another_key(
    alice: App,
    s3: Bucket,
    line: Line,
    s3_calls: list[str],
    fail: Callable[[Line], None],
    strays: int,
) -> None:
    """At the same key, the lost request could still arrive when nobody looks there any more."""
    fail(line)
    assert code(alice.begin_film(headers=KEY)) == (503, "bucket_unavailable")
    lost = Upload.objects.get()
    s3_calls.clear()

    begun = alice.begin_film(headers=KEY)

    assert begun.status_code == 201
    assert s3_calls == ["CreateMultipartUpload"]
    upload = row(begun)
    assert upload.key != lost.key
    assert len(s3.open_multiparts(lost)) == strays
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id]
    again = alice.begin_film(headers=KEY)
    assert (again.status_code, row(again)) == (201, upload)
    assert alice.send_parts(begun.json()["multipart"]["parts"]) == [200, 200]
    assert alice.confirm(str(upload.pk)).status_code == 200
    assert s3.read(upload) == FILM


@pytest.mark.parametrize("key", [None, KEY])
def test_a_created_upload_that_cannot_be_signed_is_not_forgotten(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch, key: dict[str, str] | None
) -> None:
    monkeypatch.setattr(get_bucket("default"), "_credentials", None)
    assert code(alice.begin_film(headers=key)) == (503, "misconfigured")
    upload = Upload.objects.get()
    assert upload.status == ("pending" if key else "cancelled")
    assert upload.due_at == upload.key_closes_at
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id]
    monkeypatch.undo()
    if key:
        begun = alice.begin_film(headers=key).json()
        assert alice.send_parts(begun["multipart"]["parts"]) == [200, 200]
        assert alice.confirm(begun["id"]).status_code == 200
        assert s3.open_multiparts(upload) == []


def begun_by_one_that_died(app: App) -> Upload:
    """S3 created the upload, but the row does not know its id. The lease is over."""
    upload = row(app.begin_film(headers=KEY))
    Upload.objects.filter(pk=upload.pk).update(multipart_upload_id="", busy_until=timezone.now())
    return upload


@pytest.mark.parametrize("call", ["renew", "sign_parts"])
def test_a_lost_create_is_repeated_by_whatever_signs(alice: App, s3: Bucket, call: str) -> None:
    id = str(begun_by_one_that_died(alice).pk)
    assert alice.parts(id).json() == []
    early = alice.confirm(id)
    assert code(early) == (409, "parts_incomplete")
    assert early.json()["errors"][0]["params"]["part_numbers"] == [1, 2]

    signed = alice.renew(id).json()["multipart"] if call == "renew" else None
    signed = signed or alice.sign_parts(id, [1, 2]).json()

    upload = Upload.objects.get()
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id]
    assert alice.send_parts(signed["parts"]) == [200, 200]
    assert alice.confirm(id).status_code == 200
    assert s3.read(upload) == FILM


@pytest.mark.parametrize("operation", ["ListMultipartUploads", "AbortMultipartUpload"])
def test_strays_that_cannot_be_aborted_are_no_reason_to_create_another(
    alice: App, s3: Bucket, line: Line, operation: str
) -> None:
    upload = begun_by_one_that_died(alice)
    line.refuse(operation, 403, "AccessDenied")
    assert code(alice.begin_film(headers=KEY)) == (503, "bucket_unavailable")
    upload.refresh_from_db()
    assert (upload.status, upload.multipart_upload_id, upload.busy_until) == ("pending", "", None)
    assert len(s3.open_multiparts(upload)) == 1
    assert alice.begin_film(headers=KEY).status_code == 201
    upload.refresh_from_db()
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id]


def test_a_create_that_is_lost_again_is_waited_for(alice: App, s3: Bucket, line: Line) -> None:
    upload = begun_by_one_that_died(alice)
    line.lose_answer("CreateMultipartUpload")
    assert code(alice.begin_film(headers=KEY)) == (503, "bucket_unavailable")
    upload.refresh_from_db()
    assert upload.multipart_upload_id == ""
    assert upload.busy_until is not None
    assert code(alice.renew(str(upload.pk))) == (503, "bucket_unavailable")
    Upload.objects.update(busy_until=timezone.now())
    assert alice.begin_film(headers=KEY).status_code == 201
    upload.refresh_from_db()
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id]


def test_while_one_begin_creates_it_another_waits(
    alice: App, s3: Bucket, line: Line, s3_calls: list[str]
) -> None:
    seen: list[Any] = []
    other = App(alice.user)
    line.meanwhile("CreateMultipartUpload", lambda: seen.append(other.begin_film(headers=KEY)))
    begun = alice.begin_film(headers=KEY)
    assert begun.status_code == 201
    assert code(seen[0]) == (503, "bucket_unavailable")
    assert "Retry-After" in seen[0]
    assert s3_calls == ["CreateMultipartUpload"]
    again = other.begin_film(headers=KEY)
    assert (again.status_code, again.json()["id"]) == (201, begun.json()["id"])
    upload = Upload.objects.get()
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id]


def test_what_is_cancelled_while_it_is_created_leaves_nothing_open(
    alice: App, s3: Bucket, line: Line
) -> None:
    line.meanwhile("CreateMultipartUpload", lambda: lifecycle.cancel(Upload.objects.get()))
    answer = alice.begin_film()
    assert code(answer) == (410, "not_pending")
    upload = row(answer)
    assert (upload.status, upload.multipart_upload_id) == ("cancelled", "")
    assert s3.open_multiparts(upload) == []


def test_a_create_that_took_too_long_gives_way_to_the_next(
    alice: App, s3: Bucket, line: Line
) -> None:
    other = App(alice.user)
    seen: list[Any] = []

    def begin_again() -> None:
        Upload.objects.update(busy_until=timezone.now())
        seen.append(other.begin_film(headers=KEY))

    line.meanwhile("CreateMultipartUpload", begin_again)
    begun = alice.begin_film(headers=KEY)
    assert (begun.status_code, seen[0].status_code) == (201, 201)
    first, second = (each.json()["multipart"]["parts"] for each in (begun, seen[0]))
    assert first[0]["url"].partition("&X-Amz")[0] == second[0]["url"].partition("&X-Amz")[0]
    upload = Upload.objects.get()
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id]
    assert alice.send_parts(first) == [200, 200]
    assert alice.confirm(str(upload.pk)).status_code == 200


@pytest.mark.parametrize("done", [True, False])
def test_a_create_that_took_too_long_and_failed_does_not_undo_the_next(
    alice: App, s3: Bucket, line: Line, done: bool
) -> None:
    other = App(alice.user)

    def begin_again(request: AWSPreparedRequest) -> AWSResponse:
        Upload.objects.update(busy_until=timezone.now())
        if done:
            assert other.begin_film(headers=KEY).status_code == 201
        else:  # it is still at work
            Upload.objects.update(busy_until=timezone.now() + HOUR)
        return made_up_answer(request, 403, "<Error><Code>AccessDenied</Code></Error>")

    line.faults.append(("CreateMultipartUpload", begin_again))
    assert code(alice.begin_film(headers=KEY)) == (503, "bucket_unavailable")

    upload = Upload.objects.get()
    assert (upload.status, upload.busy_until is None) == ("pending", done)
    Upload.objects.update(busy_until=None)
    begun = alice.begin_film(headers=KEY).json()
    assert s3.open_multiparts(upload) == [row(alice.get(f"{begun['id']}/")).multipart_upload_id]
    assert alice.send_parts(begun["multipart"]["parts"]) == [200, 200]
    assert alice.confirm(str(upload.pk)).status_code == 200
