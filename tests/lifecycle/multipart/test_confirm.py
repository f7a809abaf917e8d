"""Confirm lists the parts, completes the upload, and looks at the object."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from s3direct_uploads import signals
from s3direct_uploads.exceptions import ObjectMismatch
from s3direct_uploads.models import Upload
from tests.conftest import FILM, PART_SIZE, App, Bucket, Connect, past_the_deadline, row
from tests.host_app import Albums
from tests.lifecycle.multipart.conftest import (
    GIB,
    Line,
    abort_behind_our_back,
    code,
    complete_behind_our_back,
    sent,
)


def test_confirm_lists_completes_and_looks(
    alice: App, s3_calls: list[str], django_assert_num_queries: Any
) -> None:
    id = str(sent(alice).pk)
    s3_calls.clear()
    with django_assert_num_queries(5) as queries:
        assert alice.confirm(id).status_code == 200
    verbs = [query["sql"].split()[0] for query in queries.captured_queries]
    # Two authenticate; the first UPDATE is the lease, the other settles. Nobody is to be told.
    assert verbs == ["SELECT", "SELECT", "SELECT", "UPDATE", "UPDATE"]
    assert s3_calls == ["ListParts", "CompleteMultipartUpload", "HeadObject"]

    with django_assert_num_queries(3):
        assert alice.confirm(id).status_code == 200
    assert len(s3_calls) == 3, "a second confirm is answered from the row"


def test_a_confirm_that_comes_too_early_says_what_is_missing(
    alice: App, s3: Bucket, s3_calls: list[str]
) -> None:
    begun = alice.begin_film().json()
    first, last = begun["multipart"]["parts"]
    s3_calls.clear()

    early = alice.confirm(begun["id"])
    assert code(early) == (409, "parts_incomplete")
    assert early.json()["errors"] == [
        {
            "field": "parts",
            "code": "missing",
            "detail": "2 parts.",
            "params": {"part_numbers": [1, 2]},
        }
    ]
    assert early.json()["upload"]["status"] == "pending"
    assert s3_calls == ["ListParts"]

    assert alice.send_parts([last]) == [200]
    early = alice.confirm(begun["id"])
    assert early.json()["errors"][0]["params"] == {"part_numbers": [1]}
    assert s3_calls == ["ListParts"] * 2
    assert (row(early).status, row(early).busy_until) == ("pending", None)
    assert s3.read(row(early)) is None

    assert alice.send_parts([first]) == [200]
    assert alice.confirm(begun["id"]).status_code == 200
    assert s3.read(row(early)) == FILM


def test_parts_of_another_size_than_was_signed_are_named_too(
    alice: App, s3: Bucket, s3_calls: list[str]
) -> None:
    begun = alice.begin_film(size=2 * PART_SIZE + 1).json()
    upload = Upload.objects.get()
    s3.write_part(upload, 1, b"short")
    s3.write_part(upload, 3, b"long")
    s3.write_part(upload, 4, b"one more than there are")
    early = alice.confirm(begun["id"])
    assert code(early) == (409, "parts_incomplete")
    assert {each["code"]: each["params"]["part_numbers"] for each in early.json()["errors"]} == {
        "missing": [2],
        "wrong_size": [1, 3, 4],
    }
    assert "CompleteMultipartUpload" not in s3_calls
    assert s3.read(upload) is None


def test_a_part_of_another_size_is_put_right_and_confirmed(alice: App, s3: Bucket) -> None:
    begun = alice.begin_film().json()
    first, last = begun["multipart"]["parts"]
    assert alice.send_parts([first]) == [200]
    s3.write_part(Upload.objects.get(), 2, b"the beginning")
    assert alice.confirm(begun["id"]).status_code == 409
    assert alice.send_parts([last]) == [200]
    upload = row(alice.confirm(begun["id"]))
    assert (upload.status, s3.read(upload)) == ("completed", FILM)


def test_a_part_may_be_sent_again_until_it_is_confirmed(alice: App, s3: Bucket) -> None:
    upload = sent(alice)
    *_, last = alice.renew(str(upload.pk)).json()["multipart"]["parts"]
    assert alice.send_parts([last], FILM[:-7] + b"THE END") == [200]
    assert alice.confirm(str(upload.pk)).status_code == 200
    assert s3.read(upload) == FILM[:-7] + b"THE END"
    assert alice.send_parts([last]) != [200], "S3 knows the upload no more"
    assert s3.read(upload) == FILM[:-7] + b"THE END"


def test_a_part_that_is_replaced_during_confirm_is_named(
    alice: App, s3: Bucket, line: Line
) -> None:
    upload = sent(alice)
    line.meanwhile("CompleteMultipartUpload", lambda: s3.write_part(upload, 2, b"THE END"))

    early = alice.confirm(str(upload.pk))

    assert code(early) == (409, "parts_incomplete")
    [error] = early.json()["errors"]
    assert (error["code"], error["params"]) == ("replaced", {"part_numbers": [2]})
    assert (row(early).status, row(early).busy_until) == ("pending", None)
    assert alice.confirm(str(upload.pk)).status_code == 200
    assert s3.read(upload) == FILM[:-7] + b"THE END"


def test_what_verify_refuses_is_rejected(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise ObjectMismatch("Not this one.")

    for name, value in (("part_size", PART_SIZE), ("max_size", GIB), ("verify", refuse)):
        monkeypatch.setattr(Albums, name, value)
    begun = alice.begin_film(
        destination="albums", content_type="image/jpeg", context={"album": 1}
    ).json()
    assert alice.send_parts(begun["multipart"]["parts"]) == [200, 200]
    answer = alice.confirm(begun["id"])
    assert code(answer) == (422, "object_mismatch")
    upload = row(answer)
    assert (upload.status, upload.reason) == ("rejected", "Not this one.")
    assert (upload.busy_until, upload.due_at) == (None, upload.key_closes_at)
    assert s3.read(upload) == FILM, "until its key is closed"


@pytest.mark.parametrize("body", [b"smuggled", FILM[::-1]])
def test_an_object_that_is_already_at_the_key_is_what_confirm_compares(
    alice: App, s3: Bucket, s3_calls: list[str], body: bytes
) -> None:
    upload = sent(alice)
    s3.write(upload, body)
    s3_calls.clear()
    answer = alice.confirm(str(upload.pk))
    if body == b"smuggled":
        assert code(answer) == (422, "object_mismatch")
        assert row(answer).reason == f"{len(FILM)} bytes were declared, 8 were sent."
    else:  # of this size and type only a checksum would tell
        assert (answer.status_code, row(answer).status) == (200, "completed")
    assert s3_calls[:2] == ["ListParts", "CompleteMultipartUpload"]
    assert s3.read(upload) == body, "which Complete did not overwrite"
    assert s3.open_multiparts(upload) == []


def test_an_upload_that_another_completed_in_s3_is_confirmed(
    alice: App, s3: Bucket, s3_calls: list[str]
) -> None:
    upload = sent(alice)
    complete_behind_our_back(s3, upload)
    s3_calls.clear()
    assert code(alice.parts(str(upload.pk))) == (410, "multipart_gone")
    confirmed = alice.confirm(str(upload.pk))
    assert confirmed.status_code == 200
    assert s3_calls == ["ListParts", "ListParts", "HeadObject"]
    assert (row(confirmed).status, row(confirmed).busy_until) == ("completed", None)
    assert s3.read(upload) == FILM


def test_an_upload_whose_parts_another_aborted_expires_at_its_deadline(
    alice: App, s3: Bucket, connect: Connect
) -> None:
    expired = []

    def on_expire(upload: Upload, **_: Any) -> None:
        expired.append(upload.status)

    connect(signals.upload_expired, on_expire)
    upload = sent(alice)
    abort_behind_our_back(s3, upload)

    for answer in (alice.confirm(str(upload.pk)), alice.parts(str(upload.pk))):
        assert code(answer) == (410, "multipart_gone")
        assert answer.json()["upload"]["status"] == "pending"
    assert row(answer).busy_until is None
    assert expired == []

    Upload.objects.update(expires_at=timezone.now())
    renewed = alice.renew(str(upload.pk))
    assert code(renewed) == (410, "not_pending")
    assert renewed.json()["upload"]["status"] == "pending", "its URLs live on for an hour"

    past_the_deadline(upload.pk)
    for answer in (alice.confirm(str(upload.pk)), alice.renew(str(upload.pk))):
        assert code(answer) == (410, "not_pending")
    upload = row(answer)
    assert (upload.status, upload.due_at) == ("expired", upload.key_closes_at)
    assert expired == ["expired"]
    assert s3.read(upload) is None
