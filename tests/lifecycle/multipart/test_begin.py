"""Begin in parts: how large a part is, how many there are, and what is signed."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from django.utils.dateparse import parse_datetime

from s3direct_uploads import lifecycle, signals
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import PresignedMultipart
from tests.conftest import FILM, HOUR, PART_SIZE, App, Bucket, Connect, row
from tests.lifecycle.multipart.conftest import GIB, KEY, LARGEST, MIB, TIB, code


def test_a_film_goes_to_s3_in_parts_and_is_put_together(
    alice: App, s3: Bucket, connect: Connect
) -> None:
    heard = []

    def listen(upload: Upload, cause: str, **_: Any) -> None:
        heard.append((upload.pk, upload.status, cause))

    connect(signals.upload_completed, listen)
    begun = alice.begin_film(filename="Mein Film.mp4")

    assert begun.status_code == 201
    assert begun["Cache-Control"] == "no-store"
    body = dict(begun.json())
    multipart = body.pop("multipart")
    assert body.pop("created_at") < body.pop("expires_at")
    assert UUID(body.pop("id")).version == 7
    assert body.pop("form_value") == row(begun).form_value
    assert body == {
        "status": "pending",
        "destination": "films",
        "filename": "Mein Film.mp4",
        "content_type": "video/mp4",
        "size": len(FILM),
        "context": {},
        "completed_at": None,
        "reason": None,
        "visitor": False,
        "request": None,
    }
    parts = multipart.pop("parts")
    assert multipart == {"part_size": PART_SIZE, "part_count": 2, "expires_in": 3600}
    assert [{**part, "url": ""} for part in parts] == [
        {"part_number": 1, "size": PART_SIZE, "url": "", "headers": {}},
        {"part_number": 2, "size": 7, "url": "", "headers": {}},
    ]
    upload = row(begun)
    assert (upload.owner, upload.status, upload.part_size) == (alice.user, "pending", PART_SIZE)
    assert (upload.busy_until, upload.etag) == (None, "")
    assert upload.due_at == upload.url_expires_at + HOUR
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id]
    assert s3.read(upload) is None

    assert alice.send_parts(parts) == [200, 200]

    there = alice.parts(begun.json()["id"])
    assert (there.status_code, there["Cache-Control"]) == (200, "no-store")
    assert there.json() == [
        {"part_number": 1, "size": PART_SIZE},
        {"part_number": 2, "size": 7},
    ]
    assert s3.read(upload) is None, "parts are no object yet"

    confirmed = alice.confirm(begun.json()["id"])
    assert confirmed.status_code == 200
    assert (confirmed.json()["status"], confirmed.json()["multipart"]) == ("completed", None)
    assert parse_datetime(confirmed.json()["completed_at"]) is not None
    upload = row(confirmed)
    digests = [hashlib.md5(FILM[at : at + PART_SIZE]).digest() for at in (0, PART_SIZE)]
    assert upload.etag == f'"{hashlib.md5(b"".join(digests)).hexdigest()}-2"'
    assert (upload.busy_until, upload.due_at) == (None, None)
    assert upload.announced_at is not None
    assert heard == [(upload.pk, "completed", "client")]
    assert s3.read(upload) == FILM
    assert s3.open_multiparts(upload) == []

    assert alice.confirm(begun.json()["id"]).json() == confirmed.json()
    assert len(heard) == 1


def test_begin_is_one_create_an_insert_and_an_update(
    alice: App, s3_calls: list[str], django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(4) as queries:
        assert alice.begin_film().status_code == 201
    verbs = [query["sql"].split()[0] for query in queries.captured_queries]
    assert verbs == ["SELECT", "SELECT", "INSERT", "UPDATE"]  # two authenticate
    assert s3_calls == ["CreateMultipartUpload"]


def test_a_parts_signature_pins_its_length_and_nothing_but_the_host(alice: App) -> None:
    begun = alice.begin_film()
    upload = row(begun)
    for part in begun.json()["multipart"]["parts"]:
        there = urlsplit(part["url"])
        query = {name: values[0] for name, values in parse_qs(there.query).items()}
        assert there.path.endswith(f"/{upload.key}")
        assert (query["uploadId"], query["partNumber"]) == (
            upload.multipart_upload_id,
            str(part["part_number"]),
        )
        assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
        assert query["X-Amz-SignedHeaders"] == "content-length;host"
        assert query["X-Amz-Expires"] == "3600"


@pytest.mark.parametrize("multipart", [True, False, None])
@pytest.mark.parametrize("size", [0, 1, PART_SIZE])
def test_what_fits_into_one_part_is_one_put(
    alice: App, s3: Bucket, s3_calls: list[str], size: int, multipart: bool | None
) -> None:
    begun = alice.begin_film(size=size, multipart=multipart).json()
    assert begun["multipart"] is None
    assert s3_calls == []
    assert alice.send(begun["request"], FILM[:size]) == 200
    upload = row(alice.confirm(begun["id"]))
    assert (upload.status, upload.part_size, upload.multipart_upload_id) == ("completed", None, "")
    assert s3.read(upload) == FILM[:size]


@pytest.mark.parametrize(
    ("size", "part_size", "count", "last"),
    [
        (PART_SIZE + 1, PART_SIZE, 2, 1),
        (2 * PART_SIZE, PART_SIZE, 2, PART_SIZE),
        (2 * PART_SIZE + 1, PART_SIZE, 3, 1),
        (10_000 * PART_SIZE, PART_SIZE, 10_000, PART_SIZE),
        # Parts grow by whole MiB, because S3 accepts at most 10,000.
        (10_000 * PART_SIZE + 1, 6 * MIB, 8334, 2 * MIB + 1),
        (5 * GIB + 1, PART_SIZE, 1025, 1),
        (5 * TIB, 525 * MIB, 9987, 230 * MIB),
        (LARGEST - 1, 5 * GIB, 10_000, 5 * GIB - 1),
        (LARGEST, 5 * GIB, 10_000, 5 * GIB),
    ],
)
def test_parts_are_as_large_as_ten_thousand_of_them_must_be(
    alice: App,
    s3: Bucket,
    s3_calls: list[str],
    django_assert_num_queries: Any,
    size: int,
    part_size: int,
    count: int,
    last: int,
) -> None:
    with django_assert_num_queries(4):
        begun = alice.begin_film(size=size)

    multipart = begun.json()["multipart"]
    assert s3_calls == ["CreateMultipartUpload"]
    assert (multipart["part_size"], multipart["part_count"]) == (part_size, count)
    first = multipart["parts"]
    assert [part["part_number"] for part in first] == list(range(1, min(count, 100) + 1))
    assert len({part["url"] for part in first}) == len(first)
    upload = row(begun)
    sizes = [upload.size_of_part(number) for number in range(1, count + 1)]
    assert (sum(sizes), sizes[-1]) == (size, last)
    assert set(sizes[:-1]) == {part_size}
    assert [part["size"] for part in first] == sizes[:100]
    assert alice.delete(begun.json()["id"]).status_code == 204
    assert s3.open_multiparts(upload) == []


@pytest.mark.parametrize(
    ("declaration", "field", "error"),
    [
        ({"size": LARGEST + 1}, "size", "too_large"),
        ({"size": 5 * GIB + 1, "multipart": False}, "size", "multipart_required"),
        (
            {"checksum": {"algorithm": "SHA256", "value": "A" * 43 + "="}},
            "checksum",
            "not_for_multipart",
        ),
    ],
)
def test_what_s3_does_not_take_in_parts_is_refused_before_it_is_asked(
    alice: App, s3_calls: list[str], declaration: dict[str, Any], field: str, error: str
) -> None:
    answer = alice.begin_film(**declaration)
    assert answer.status_code == 400
    [found] = answer.json()["errors"]
    assert (found["field"], found["code"]) == (field, error)
    assert not Upload.objects.exists()
    assert s3_calls == []


def test_an_upload_in_parts_has_a_later_deadline(alice: App, settings: Any) -> None:
    upload, one_put = row(alice.begin_film()), row(alice.begin())
    assert upload.expires_at == upload.created_at + timedelta(days=7)
    assert one_put.expires_at == one_put.created_at + timedelta(days=1)
    settings.S3DIRECT_UPLOADS = {**settings.S3DIRECT_UPLOADS, "MULTIPART_EXPIRES": 600}
    upload, one_put = row(alice.begin_film()), row(alice.begin())
    assert upload.expires_at == upload.created_at + timedelta(minutes=10)
    assert one_put.expires_at == one_put.created_at + timedelta(days=1)


def test_the_key_closes_when_the_slowest_part_would_have_arrived(alice: App) -> None:
    upload = row(alice.begin_film(size=5 * GIB + 1))
    assert upload.key_closes_at == upload.url_expires_at + HOUR, "5 MiB take a minute and a half"
    upload = row(alice.begin_film(size=5 * TIB))
    assert upload.key_closes_at == upload.url_expires_at + timedelta(seconds=525 * 16)


def test_a_script_may_begin_in_parts(alice: App, s3: Bucket) -> None:
    assert alice.user is not None
    upload, presigned = lifecycle.begin(
        owner=alice.user,
        destination="films",
        filename="film.mp4",
        size=len(FILM),
        multipart=True,
    )
    assert isinstance(presigned, PresignedMultipart)
    assert (presigned.part_count, len(presigned.parts)) == (2, 2)
    assert "X-Amz" not in repr(presigned)
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id]


def test_a_repeated_begin_signs_the_same_parts(alice: App, s3: Bucket, s3_calls: list[str]) -> None:
    begun = alice.begin_film(headers=KEY)
    again = alice.begin_film(headers=KEY)
    assert (begun.status_code, again.status_code) == (201, 201)
    assert again.json()["id"] == begun.json()["id"]
    first, second = (each.json()["multipart"]["parts"][0]["url"] for each in (begun, again))
    assert first.partition("&X-Amz")[0] == second.partition("&X-Amz")[0], "one upload id"
    assert s3_calls == ["CreateMultipartUpload"]
    upload = Upload.objects.get()
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id]

    other = alice.begin_film(headers=KEY, multipart=False)
    assert code(other) == (409, "idempotency_key_reused")
    assert s3_calls == ["CreateMultipartUpload"]

    assert alice.send_parts(again.json()["multipart"]["parts"]) == [200, 200]
    assert alice.confirm(begun.json()["id"]).status_code == 200
    settled = alice.begin_film(headers=KEY)
    assert settled.status_code == 201
    assert (settled.json()["status"], settled.json()["multipart"]) == ("completed", None)
    assert s3.read(upload) == FILM
