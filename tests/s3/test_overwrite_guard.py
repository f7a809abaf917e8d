"""Without conditional writes, every upload goes in parts: their URLs end when it is completed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import pytest
import requests

from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import Bucket as BucketOfOurs
from s3direct_uploads.s3 import get_bucket
from tests.conftest import FILM, JPEG, REAL, App, Bucket, row


@pytest.fixture
def guarded(storage_options: Callable[..., None]) -> None:
    storage_options(overwrite_guard="multipart")


@pytest.fixture
def conditions(guarded: None, s3: Bucket) -> Iterator[dict[str, bool]]:
    """For each operation from now on: whether it has a condition."""
    seen: dict[str, bool] = {}

    def look(model: Any, params: Any, **_: Any) -> None:
        seen[model.name] = "If-None-Match" in params["headers"]

    bucket = get_bucket("default")
    clients = [bucket._client, bucket._creator, bucket._completer, bucket._sender]
    for client in clients:
        client.meta.events.register("before-call.s3", look, unique_id="conditions")
    yield seen
    for client in clients:
        client.meta.events.unregister("before-call.s3", unique_id="conditions")


@pytest.mark.parametrize("asked", [True, False, None])
@pytest.mark.parametrize("size", [0, 1, len(JPEG)])
def test_with_the_guard_even_the_smallest_file_is_one_part(
    alice: App, s3: Bucket, conditions: dict[str, bool], size: int, asked: bool | None
) -> None:
    body = JPEG[:size]
    begun = alice.begin(size=size, multipart=asked)
    assert begun.status_code == 201
    assert begun.json()["request"] is None
    multipart = begun.json()["multipart"]
    [part] = multipart["parts"]
    assert (multipart["part_count"], part["part_number"], part["size"]) == (1, 1, size)
    assert part["headers"] == {}

    assert alice.send_parts([part], body) == [200]
    confirmed = alice.confirm(begun.json()["id"])

    assert (confirmed.status_code, confirmed.json()["status"]) == (200, "completed")
    upload = row(confirmed)
    assert (upload.size, upload.is_multipart, upload.part_count) == (size, True, 1)
    assert s3.read(upload) == body
    assert conditions["CompleteMultipartUpload"] is False
    # The presigned URL is of no use any more.
    late = requests.put(part["url"], data=body, timeout=10)
    assert late.status_code == (404 if REAL else 500)  # moto fails at it
    assert s3.read(upload) == body
    assert s3.open_multiparts(upload) == []


@pytest.mark.usefixtures("guarded", "films")
def test_with_the_guard_a_large_file_goes_in_parts_as_before(alice: App, s3: Bucket) -> None:
    begun = alice.begin_film(multipart=False).json()
    assert alice.send_parts(begun["multipart"]["parts"]) == [200, 200]
    assert s3.read(row(alice.confirm(begun["id"]))) == FILM


@pytest.mark.usefixtures("guarded")
def test_with_the_guard_an_empty_file_must_be_sent_too(alice: App, s3: Bucket) -> None:
    id = alice.begin(size=0).json()["id"]
    answer = alice.confirm(id)
    assert (answer.status_code, answer.json()["code"]) == (409, "parts_incomplete")
    [error] = answer.json()["errors"]
    assert (error["code"], error["params"]) == ("missing", {"part_numbers": [1]})
    [part] = alice.sign_parts(id, [1]).json()["parts"]
    assert alice.send_parts([part], b"") == [200]
    assert alice.parts(id).json() == [{"part_number": 1, "size": 0}]
    assert alice.confirm(id).json()["status"] == "completed"


@pytest.mark.usefixtures("guarded")
def test_with_the_guard_a_repeated_begin_signs_the_same_part(alice: App) -> None:
    headers = {"Idempotency-Key": "once"}
    first, again = (alice.begin(headers=headers).json() for _ in range(2))
    assert first["id"] == again["id"]
    assert again["multipart"]["part_count"] == 1
    assert Upload.objects.count() == 1


@pytest.mark.usefixtures("guarded")
def test_a_checksum_that_s3_cannot_check_in_parts_is_refused(alice: App) -> None:
    checksum = {"algorithm": "SHA256", "value": "A" * 43 + "="}
    answer = alice.begin(checksum=checksum)
    assert answer.status_code == 400
    assert [each["code"] for each in answer.json()["errors"]] == ["not_for_multipart"]
    assert not Upload.objects.exists()


def test_a_script_stores_by_one_put(
    s3: Bucket, db: None, conditions: dict[str, bool], s3_calls: list[str]
) -> None:
    """The script gets no URL that could be used again."""
    upload = lifecycle.store(BytesIO(JPEG), destination="photos", filename="beach.jpg")
    assert (upload.status, upload.is_multipart) == ("completed", False)
    assert s3.read(upload) == JPEG
    assert conditions["PutObject"] is False


def test_one_put_that_was_begun_before_is_not_signed_again(
    alice: App, s3: Bucket, storage_options: Callable[..., None]
) -> None:
    begun = alice.begin().json()
    storage_options(overwrite_guard="multipart")
    refused = alice.renew(begun["id"])
    assert (refused.status_code, refused.json()["code"]) == (410, "not_pending")
    assert refused.json()["upload"]["status"] == "pending"
    # The URL that was signed before had its condition.
    assert alice.send(begun["request"]) == 200
    assert alice.confirm(begun["id"]).json()["status"] == "completed"
    assert alice.send(begun["request"], JPEG[::-1]) == 412
    assert s3.read(Upload.objects.get()) == JPEG


@pytest.mark.usefixtures("guarded")
def test_what_a_script_stores_its_owner_is_handed_no_url_for(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """She sees it in her list while it is sent, and could replace it after it is completed."""
    put = BucketOfOurs.put
    answers: list[Any] = []

    def renewed_meanwhile(*args: Any, **options: Any) -> None:
        answers.append(alice.renew(str(Upload.objects.get().pk)))
        put(*args, **options)

    monkeypatch.setattr(BucketOfOurs, "put", renewed_meanwhile)
    upload = lifecycle.store(
        BytesIO(JPEG), owner=alice.user, destination="photos", filename="beach.jpg"
    )
    assert [each.status_code for each in answers] == [410]
    assert (upload.status, s3.read(upload)) == ("completed", JPEG)


def test_an_unknown_guard_is_a_check(
    alice: App, storage_options: Callable[..., None], s3: Bucket
) -> None:
    storage_options(overwrite_guard="If-None-Match")
    answer = alice.begin()
    assert (answer.status_code, answer.json()["code"]) == (503, "misconfigured")
    assert not Upload.objects.exists()
