"""A file in parts: who creates it, who sends it, who puts it together, and what is left if not."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError
from botocore.httpsession import URLLib3Session
from django.db import connections, transaction
from django.db.transaction import TransactionManagementError
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from s3direct_uploads import lifecycle, signals
from s3direct_uploads.exceptions import ObjectMismatch
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import Bucket as OurBucket
from s3direct_uploads.s3 import PresignedMultipart, get_bucket

from .conftest import FILM, JPEG, PART_SIZE, REAL, App, Bucket, Connect, made_up_answer, row
from .host import Albums
from .test_sweep import age

pytestmark = pytest.mark.usefixtures("films")

MIB, GIB, TIB = 1024**2, 1024**3, 1024**4
LARGEST = 10_000 * 5 * GIB  # "48.8 TiB"
HOUR = timedelta(hours=1)
KEY = {"Idempotency-Key": "one"}
CRC32 = {"algorithm": "CRC32", "value": base64.b64encode(zlib.crc32(FILM).to_bytes(4)).decode()}


class Line:
    """Django's line to S3, which fails when told to: once, at the next request of that kind."""

    def __init__(self) -> None:
        self.faults: list[tuple[str, Callable[[AWSPreparedRequest], AWSResponse | None]]] = []

    def lose_answer(self, operation: str, status: int | None = None) -> None:
        """S3 does it, and nobody hears of it, or only what a gateway says in its place."""

        def lose(request: AWSPreparedRequest) -> AWSResponse:
            URLLib3Session().send(request)
            if status is None:
                raise ReadTimeoutError(endpoint_url=request.url)
            return made_up_answer(request, status, "<html>Some gateway</html>")

        self.faults.append((operation, lose))

    def lose(self, operation: str) -> None:
        """S3 hears nothing of it, which nobody can tell from the other."""

        def lose(request: AWSPreparedRequest) -> None:
            raise ReadTimeoutError(endpoint_url=request.url)

        self.faults.append((operation, lose))

    def cut(self, operation: str) -> None:
        """No connection is made."""

        def cut(request: AWSPreparedRequest) -> None:
            raise EndpointConnectionError(endpoint_url=request.url)

        self.faults.append((operation, cut))

    def answer(self, operation: str, status: int, body: str) -> None:
        """In S3's place."""

        self.faults.append((operation, lambda request: made_up_answer(request, status, body)))

    def refuse(self, operation: str, status: int, code: str) -> None:
        self.answer(operation, status, f"<Error><Code>{code}</Code></Error>")

    def meanwhile(self, operation: str, act: Callable[[], object]) -> None:
        """Somebody else does that, just before S3 is asked."""

        def meanwhile(request: AWSPreparedRequest) -> None:
            act()

        self.faults.append((operation, meanwhile))

    def send(self, request: AWSPreparedRequest, event_name: str, **_: Any) -> AWSResponse | None:
        for fault in self.faults:
            if fault[0] == event_name.rpartition(".")[2]:
                self.faults.remove(fault)
                return fault[1](request)
        return None


def clients_of(bucket: OurBucket) -> list[Any]:
    return [bucket._client, bucket._creator, bucket._completer]


@pytest.fixture
def line(s3: Bucket) -> Iterator[Line]:
    line = Line()
    clients = clients_of(get_bucket("default"))
    for client in clients:
        client.meta.events.register("before-send.s3", line.send, unique_id="line")
    yield line
    for client in clients:
        client.meta.events.unregister("before-send.s3", unique_id="line")
    assert line.faults == [], "what was to fail was asked for"


@pytest.fixture
def told(s3: Bucket) -> Iterator[dict[str, dict[str, Any]]]:
    """What S3 was told last, by operation, in boto3's words."""
    told: dict[str, dict[str, Any]] = {}

    def record(params: dict[str, Any], event_name: str, **_: Any) -> None:
        told[event_name.rpartition(".")[2]] = dict(params)

    clients = clients_of(get_bucket("default"))
    for client in clients:
        client.meta.events.register("provide-client-params.s3", record, unique_id="told")
    yield told
    for client in clients:
        client.meta.events.unregister("provide-client-params.s3", unique_id="told")


def sent(app: App, **declaration: Any) -> Upload:
    """Begun and sent, but not confirmed."""
    begun = app.begin_film(**declaration)
    assert app.send_parts(begun.json()["multipart"]["parts"]) == [200, 200]
    return row(begun)


def complete_behind_our_back(s3: Bucket, upload: Upload) -> None:
    at = {"Bucket": s3.name, "Key": upload.key, "UploadId": upload.multipart_upload_id}
    parts = [
        {"PartNumber": each["PartNumber"], "ETag": each["ETag"]}
        for each in s3.client.list_parts(**at)["Parts"]
    ]
    s3.client.complete_multipart_upload(**at, MultipartUpload={"Parts": parts})


def abort_behind_our_back(s3: Bucket, upload: Upload) -> None:
    for upload_id in s3.open_multiparts(upload):
        s3.client.abort_multipart_upload(Bucket=s3.name, Key=upload.key, UploadId=upload_id)


def past_the_deadline(upload: Upload) -> None:
    past = timezone.now() - 2 * HOUR
    Upload.objects.filter(pk=upload.pk).update(expires_at=past, url_expires_at=past)


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# Begin.


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
        # Larger by the MiB, for 10,000 parts are all that S3 takes.
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


def test_it_has_longer_until_its_deadline(alice: App, settings: Any) -> None:
    upload, one_put = row(alice.begin_film()), row(alice.begin())
    assert upload.expires_at == upload.created_at + timedelta(days=7)
    assert one_put.expires_at == one_put.created_at + timedelta(days=1)
    settings.S3DIRECT_UPLOADS = {**settings.S3DIRECT_UPLOADS, "MULTIPART_EXPIRES": 600}
    upload, one_put = row(alice.begin_film()), row(alice.begin())
    assert upload.expires_at == upload.created_at + timedelta(minutes=10)
    assert one_put.expires_at == one_put.created_at + timedelta(days=1)


def test_its_key_closes_when_one_part_not_all_of_it_would_have_arrived(alice: App) -> None:
    upload = row(alice.begin_film(size=5 * GIB + 1))
    assert upload.key_closes_at == upload.url_expires_at + HOUR, "5 MiB take a minute and a half"
    upload = row(alice.begin_film(size=5 * TIB))
    assert upload.key_closes_at == upload.url_expires_at + timedelta(seconds=525 * 16)


def test_it_is_begun_by_a_script_too(alice: App, s3: Bucket) -> None:
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


def test_a_begin_may_be_repeated(alice: App, s3: Bucket, s3_calls: list[str]) -> None:
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


# What S3 is told, and told only once.


def test_what_the_storage_and_the_destination_add_is_told_at_the_beginning(
    alice: App, s3: Bucket, storage_options: Callable[..., None], settings: Any
) -> None:
    storage_options(
        object_parameters={
            "CacheControl": "max-age=60",
            "ContentLanguage": "de",
            "Metadata": {"by": "us"},
            "ContentType": "not/ours",
        }
    )
    destinations = settings.S3DIRECT_UPLOADS["DESTINATIONS"]
    public = {**destinations["films"], "ACL": "public-read"}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"films": public}}

    upload = sent(alice)
    # A deploy that changes the storage does not reject what is on its way.
    storage_options(object_parameters={"CacheControl": "no-store"})
    confirmed = alice.confirm(str(upload.pk))

    assert confirmed.status_code == 200
    found = s3.client.head_object(Bucket=s3.name, Key=upload.key)
    assert found["ContentType"] == "video/mp4"
    assert (found["CacheControl"], found["ContentLanguage"]) == ("max-age=60", "de")
    assert found["Metadata"] == {"by": "us"}
    grants = s3.client.get_object_acl(Bucket=s3.name, Key=upload.key)["Grants"]
    assert "READ" in {
        each["Permission"]
        for each in grants
        if each["Grantee"].get("URI", "").endswith("/AllUsers")
    }
    assert s3.read(upload) == FILM


def test_complete_says_what_must_come_of_it(
    alice: App, s3: Bucket, told: dict[str, dict[str, Any]]
) -> None:
    upload = sent(alice, checksum=CRC32)
    at = {"Bucket": s3.name, "Key": upload.key}
    assert told["CreateMultipartUpload"] == {
        **at,
        "ContentType": "video/mp4",
        "ChecksumAlgorithm": "CRC32",
        "ChecksumType": "FULL_OBJECT",
    }

    confirmed = alice.confirm(str(upload.pk))

    complete = told["CompleteMultipartUpload"]
    parts = complete.pop("MultipartUpload")["Parts"]
    assert complete == {
        **at,
        "UploadId": upload.multipart_upload_id,
        "IfNoneMatch": "*",
        "MpuObjectSize": len(FILM),
        "ChecksumCRC32": CRC32["value"],
        "ChecksumType": "FULL_OBJECT",
    }
    assert [part["PartNumber"] for part in parts] == [1, 2]
    assert parts[1]["ETag"] == f'"{hashlib.md5(b"the end").hexdigest()}"'
    assert row(confirmed).status == "completed"
    assert s3.read(upload) == FILM


def test_a_crc64nvme_is_told_at_both_ends(
    alice: App, s3: Bucket, line: Line, told: dict[str, dict[str, Any]]
) -> None:
    upload = sent(alice, checksum={"algorithm": "CRC64NVME", "value": "AAAAAAAAAAA="})
    assert told["CreateMultipartUpload"]["ChecksumAlgorithm"] == "CRC64NVME"
    assert told["CreateMultipartUpload"]["ChecksumType"] == "FULL_OBJECT"
    line.refuse("CompleteMultipartUpload", 400, "BadDigest")  # as AWS does
    assert code(alice.confirm(str(upload.pk))) == (422, "object_mismatch")
    assert told["CompleteMultipartUpload"]["ChecksumCRC64NVME"] == "AAAAAAAAAAA="
    assert told["CompleteMultipartUpload"]["ChecksumType"] == "FULL_OBJECT"
    upload.refresh_from_db()
    assert (upload.status, upload.busy_until) == ("rejected", None)
    assert s3.open_multiparts(upload) == [], "the parts are given up"
    assert s3.read(upload) is None


def test_another_checksum_is_rejected_for_good(alice: App, s3: Bucket) -> None:
    upload = sent(alice, checksum={"algorithm": "CRC32", "value": "AAAAAA=="})

    answers = [alice.confirm(str(upload.pk)) for _ in range(2)]

    assert [code(answer) for answer in answers] == [(422, "object_mismatch")] * 2
    assert answers[0].json() == answers[1].json()
    upload = row(answers[0])
    assert upload.status == "rejected"
    assert upload.reason.endswith("is not the one declared.")
    assert (upload.busy_until, upload.due_at) == (None, upload.key_closes_at)
    assert s3.open_multiparts(upload) == []
    # Ceph compares at Complete, and makes no object; moto does not.
    assert s3.read(upload) == (None if REAL else FILM)


# Confirm.


def test_confirm_lists_completes_and_looks(
    alice: App, s3_calls: list[str], django_assert_num_queries: Any
) -> None:
    id = str(sent(alice).pk)
    s3_calls.clear()
    with django_assert_num_queries(6) as queries:
        assert alice.confirm(id).status_code == 200
    verbs = [query["sql"].split()[0] for query in queries.captured_queries]
    # Two authenticate; the first UPDATE is the lease, the others settle and announce.
    assert verbs == ["SELECT", "SELECT", "SELECT", "UPDATE", "UPDATE", "UPDATE"]
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


def test_a_part_that_is_replaced_while_s3_is_asked(alice: App, s3: Bucket, line: Line) -> None:
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
def test_an_object_that_is_at_the_key_already_is_what_is_compared(
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


# Renew, sign, and resume.


def test_renew_signs_the_first_parts_anew(
    alice: App, s3: Bucket, s3_calls: list[str], django_assert_num_queries: Any
) -> None:
    begun = alice.begin_film().json()
    Upload.objects.update(url_expires_at=timezone.now() - timedelta(seconds=1))
    s3_calls.clear()

    with django_assert_num_queries(4):  # two authenticate
        renewed = alice.renew(begun["id"])

    assert (renewed.status_code, renewed["Cache-Control"]) == (200, "no-store")
    assert s3_calls == []
    assert renewed.json()["request"] is None
    first, again = begun["multipart"], renewed.json()["multipart"]
    for each in (*first["parts"], *again["parts"]):
        each["url"] = each["url"].partition("&X-Amz")[0]
    assert again == first
    upload = row(renewed)
    assert upload.url_expires_at > timezone.now() + timedelta(minutes=59)
    assert upload.due_at == upload.url_expires_at + HOUR
    assert upload.expires_at == parse_datetime(begun["expires_at"]), "its deadline stays"
    assert alice.send_parts(alice.renew(begun["id"]).json()["multipart"]["parts"]) == [200, 200]
    assert alice.confirm(begun["id"]).status_code == 200
    assert s3.read(upload) == FILM


def test_a_deploy_that_changes_the_part_size_changes_none_that_is_begun(
    alice: App, s3: Bucket, settings: Any
) -> None:
    body = 2 * FILM
    begun = alice.begin_film(headers=KEY, size=len(body)).json()
    ours = settings.S3DIRECT_UPLOADS["DESTINATIONS"]
    larger = {**ours["films"], "PART_SIZE": 10 * MIB}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {**ours, "films": larger}}
    for again in (alice.renew(begun["id"]), alice.begin_film(headers=KEY, size=len(body))):
        assert (again.json()["multipart"]["part_size"], row(again).part_size) == (PART_SIZE,) * 2
    assert alice.send_parts(again.json()["multipart"]["parts"], body) == [200, 200, 200]
    assert alice.confirm(begun["id"]).status_code == 200
    assert s3.read(Upload.objects.get()) == body


def test_any_parts_are_signed_when_asked_for(
    alice: App, s3_calls: list[str], django_assert_num_queries: Any
) -> None:
    begun = alice.begin_film(size=2000 * PART_SIZE + 1).json()
    past = timezone.now() - timedelta(seconds=1)
    Upload.objects.update(url_expires_at=past)
    s3_calls.clear()

    with django_assert_num_queries(4) as queries:  # two authenticate
        answer = alice.sign_parts(begun["id"], range(1002, 2002))

    assert (answer.status_code, answer["Cache-Control"]) == (200, "no-store")
    assert [query["sql"].split()[0] for query in queries.captured_queries][2:] == [
        "SELECT",
        "UPDATE",
    ]
    assert s3_calls == []
    assert answer.json()["expires_in"] == 3600
    parts = answer.json()["parts"]
    assert [part["part_number"] for part in parts] == list(range(1002, 2002))
    assert [part["size"] for part in parts] == [PART_SIZE] * 999 + [1]
    assert len({part["url"] for part in parts}) == 1000
    assert {tuple(part) for part in parts} == {("part_number", "size", "url", "headers")}
    upload = Upload.objects.get()
    assert upload.url_expires_at > timezone.now() + timedelta(minutes=59), "before it signs"
    assert upload.due_at == upload.url_expires_at + HOUR


def test_parts_that_are_named_twice_are_signed_once_in_the_order_of_the_names(alice: App) -> None:
    id = alice.begin_film().json()["id"]
    parts = alice.sign_parts(id, [2, 1, 2]).json()["parts"]
    assert [part["part_number"] for part in parts] == [2, 1]


@pytest.mark.parametrize("number", [0, -1, 3, 10_001, 2**63])
def test_there_are_no_other_parts(alice: App, number: int) -> None:
    begun = alice.begin_film()
    before = Upload.objects.values().get()
    answer = alice.sign_parts(begun.json()["id"], [1, number])
    assert code(answer) == (400, "invalid")
    [error] = answer.json()["errors"]
    assert (error["field"], error["code"]) == ("part_numbers", "out_of_range")
    assert error["params"] == {"max_part_number": 2}
    assert "X-Amz" not in answer.text
    assert Upload.objects.values().get() == before


def test_at_most_a_thousand_are_signed_at_once(alice: App) -> None:
    id = alice.begin_film(size=2000 * PART_SIZE).json()["id"]
    assert alice.sign_parts(id, range(1, 1001)).status_code == 200
    for count in (0, 1001):
        assert (
            alice.sign_parts(id, range(1, count + 1)).json()["errors"][0]["field"] == "part_numbers"
        )


def test_what_was_interrupted_is_resumed(alice: App, s3: Bucket, s3_calls: list[str]) -> None:
    begun = alice.begin_film().json()
    _, last = begun["multipart"]["parts"]
    s3_calls.clear()
    assert alice.parts(begun["id"]).json() == []
    assert alice.send_parts([last]) == [200]

    there = [part["part_number"] for part in alice.parts(begun["id"]).json()]
    assert there == [2]
    assert s3_calls == ["ListParts", "ListParts"]
    missing = alice.sign_parts(begun["id"], {1, 2} - {*there}).json()["parts"]
    assert alice.send_parts(missing) == [200]
    assert alice.confirm(begun["id"]).status_code == 200
    assert s3.read(Upload.objects.get()) == FILM


def test_more_parts_than_s3_lists_at_once(
    alice: App, s3: Bucket, line: Line, told: dict[str, dict[str, Any]]
) -> None:
    def one_at_a_time(params: dict[str, Any], **_: Any) -> None:
        params["MaxParts"] = 1

    upload = sent(alice)
    events = get_bucket("default")._client.meta.events
    events.register("provide-client-params.s3.ListParts", one_at_a_time, unique_id="one")
    there = alice.parts(str(upload.pk)).json()
    assert [part["part_number"] for part in there] == [1, 2]
    assert told["ListParts"]["PartNumberMarker"] == 1
    assert alice.confirm(str(upload.pk)).status_code == 200
    events.unregister("provide-client-params.s3.ListParts", unique_id="one")
    assert s3.read(upload) == FILM


def test_of_one_put_there_are_no_parts(alice: App, s3_calls: list[str]) -> None:
    begun = alice.begin().json()
    for answer in (alice.parts(begun["id"]), alice.sign_parts(begun["id"], [1])):
        assert code(answer) == (409, "not_multipart")
        assert answer.json()["upload"]["status"] == "pending"
    assert s3_calls == []
    assert alice.send(begun["request"]) == 200
    assert alice.confirm(begun["id"]).status_code == 200


@pytest.mark.parametrize("end", ["completed", "cancelled", "rejected"])
def test_once_it_is_settled_there_are_no_parts_any_more(
    alice: App, s3: Bucket, s3_calls: list[str], end: str
) -> None:
    upload = sent(alice, checksum=None if end != "rejected" else {**CRC32, "value": "AAAAAA=="})
    id = str(upload.pk)
    settled = alice.delete(id) if end == "cancelled" else alice.confirm(id)
    assert settled.status_code == {"completed": 200, "cancelled": 204, "rejected": 422}[end]
    s3_calls.clear()
    for answer in (alice.parts(id), alice.sign_parts(id, [1]), alice.renew(id)):
        assert code(answer) == (410, "not_pending")
        assert answer.json()["upload"]["status"] == end
        assert "X-Amz" not in answer.text
    assert s3_calls == []
    assert s3.open_multiparts(upload) == []


# Cancel.


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
    # One of a Create whose answer was lost, and those of others.
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


def test_what_somebody_else_aborts_meanwhile_is_no_failure(
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


def test_delete_of_a_completed_film(alice: App, s3: Bucket) -> None:
    upload = sent(alice)
    assert alice.confirm(str(upload.pk)).status_code == 200
    Upload.objects.update(url_expires_at=timezone.now() - timedelta(days=3))
    assert alice.delete(str(upload.pk)).status_code == 204
    upload.refresh_from_db()
    assert upload.status == "deleted"
    assert upload.object_deleted_at is not None
    assert s3.read(upload) is None


# Behind our back.


def test_a_completion_of_which_the_row_does_not_know(
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


def test_an_abort_of_which_the_row_does_not_know(alice: App, s3: Bucket, connect: Connect) -> None:
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

    past_the_deadline(upload)
    for answer in (alice.confirm(str(upload.pk)), alice.renew(str(upload.pk))):
        assert code(answer) == (410, "not_pending")
    upload = row(answer)
    assert (upload.status, upload.due_at) == ("expired", upload.key_closes_at)
    assert expired == ["expired"]
    assert s3.read(upload) is None


# The deadline.


def test_past_its_deadline_what_is_incomplete_expires_and_is_given_up(
    alice: App, s3: Bucket
) -> None:
    begun = alice.begin_film()
    upload = row(begun)
    assert alice.send_parts(begun.json()["multipart"]["parts"][:1]) == [200]
    past_the_deadline(upload)
    for answer in (alice.renew(str(upload.pk)), alice.sign_parts(str(upload.pk), [1])):
        assert code(answer) == (410, "not_pending"), "nothing is signed, and nothing is settled"
        assert answer.json()["upload"]["status"] == "pending"
    answer = alice.confirm(str(upload.pk))
    assert code(answer) == (410, "not_pending")
    assert answer.json()["upload"]["status"] == "expired"
    assert s3.open_multiparts(upload) == []
    assert s3.read(upload) is None


def test_past_its_deadline_what_is_complete_is_put_together(alice: App, s3: Bucket) -> None:
    upload = sent(alice)
    past_the_deadline(upload)
    assert code(alice.renew(str(upload.pk))) == (410, "not_pending")
    assert alice.confirm(str(upload.pk)).json()["status"] == "completed"
    assert s3.read(upload) == FILM


def test_past_its_deadline_it_ends_although_s3_never_says_that_it_is_put_together(
    alice: App, s3: Bucket, line: Line
) -> None:
    """Of the last question nobody knows what came of it, so a lease is left each time."""
    upload = sent(alice)
    past_the_deadline(upload)
    Upload.objects.update(due_at=timezone.now())
    for _ in range(2):  # for a day it is tried again
        line.lose("CompleteMultipartUpload")
        assert lifecycle.sweep() == {"failed": 1}
        upload.refresh_from_db()
        assert (upload.status, upload.busy_until is None) == ("pending", False)
        age(25 * HOUR)
    assert lifecycle.sweep() == {"expired": 1, "cleaned": 1}
    upload.refresh_from_db()
    assert (upload.status, s3.open_multiparts(upload), s3.read(upload)) == ("expired", [], None)


def test_past_its_deadline_nothing_is_signed_while_another_completes_it(alice: App) -> None:
    upload = sent(alice)
    past_the_deadline(upload)
    busy = timezone.now() + timedelta(minutes=1)
    Upload.objects.update(busy_until=busy)
    before = Upload.objects.values().get()
    for answer in (alice.renew(str(upload.pk)), alice.sign_parts(str(upload.pk), [1])):
        assert code(answer) == (410, "not_pending")
        assert "X-Amz" not in answer.text
    assert Upload.objects.values().get() == before


def test_what_is_cancelled_while_s3_is_asked_past_its_deadline_stays_cancelled(
    alice: App, s3: Bucket, line: Line, connect: Connect
) -> None:
    expired = []

    def on_expire(upload: Upload, **_: Any) -> None:
        expired.append(upload.status)

    connect(signals.upload_expired, on_expire)
    upload = sent(alice)
    past_the_deadline(upload)
    line.meanwhile("ListParts", lambda: lifecycle.cancel(Upload.objects.get()))
    answer = alice.confirm(str(upload.pk))
    assert code(answer) == (410, "not_pending")
    assert (row(answer).status, expired) == ("cancelled", [])
    assert s3.open_multiparts(upload) == []


def test_it_does_not_expire_while_another_completes_it(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = row(alice.begin_film())
    past_the_deadline(upload)
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


# The lease: one process at a time completes it.


def test_while_another_completes_it_a_confirm_says_so(
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

    Upload.objects.update(busy_until=timezone.now())  # it died before
    s3_calls.clear()
    assert alice.confirm(str(upload.pk)).status_code == 200
    assert s3_calls == ["HeadObject", "ListParts", "CompleteMultipartUpload", "HeadObject"]
    assert s3.read(upload) == FILM


def test_the_object_counts_although_another_was_at_it(
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


def test_a_head_that_fails_after_complete_is_made_good(alice: App, s3: Bucket, line: Line) -> None:
    upload = sent(alice)
    line.refuse("HeadObject", 403, "Forbidden")
    assert code(alice.confirm(str(upload.pk))) == (503, "bucket_unavailable")
    assert alice.confirm(str(upload.pk)).status_code == 200
    assert s3.read(upload) == FILM


# A Create that fails.


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
    """At the same one it could arrive beside the other, when nobody looks there any more."""
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
def test_what_is_created_and_cannot_be_signed_is_not_forgotten(
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
    """S3 had created it, and the row does not know; others waited for as long as they must."""
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
        else:  # it is at it
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


# Transactions and connections.


@pytest.mark.django_db(transaction=True)
def test_atomic_requests_hold_no_transaction(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    begun = alice.begin_film()
    assert begun.status_code == 201
    id, parts = begun.json()["id"], begun.json()["multipart"]["parts"]
    assert alice.confirm(id).status_code == 409
    assert alice.sign_parts(id, [1]).status_code == 200
    assert alice.send_parts(parts) == [200, 200]
    assert len(alice.parts(id).json()) == 2
    assert alice.confirm(id).status_code == 200
    assert s3.read(row(begun)) == FILM
    another = alice.begin_film()
    assert alice.delete(another.json()["id"]).status_code == 204
    assert s3.open_multiparts(row(another)) == []


@pytest.mark.django_db(transaction=True)
def test_none_is_begun_within_a_transaction(alice: App, s3_calls: list[str]) -> None:
    film: dict[str, Any] = {
        "owner": alice.user,
        "destination": "films",
        "filename": "film.mp4",
        "multipart": True,
    }
    with transaction.atomic(), pytest.raises(TransactionManagementError, match=r"begin\(\) waits"):
        lifecycle.begin(size=len(FILM), **film)
    assert not Upload.objects.exists()
    with transaction.atomic():  # one PUT: S3 is not asked
        upload, _ = lifecycle.begin(size=len(JPEG), **film)
    assert (Upload.objects.get(), upload.is_multipart) == (upload, False)
    assert s3_calls == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("operation", [lifecycle.confirm, lifecycle.cancel, lifecycle.list_parts])
def test_no_transaction_is_held_while_s3_is_asked(
    alice: App, s3_calls: list[str], operation: Any
) -> None:
    upload = row(alice.begin_film())
    s3_calls.clear()
    with transaction.atomic(), pytest.raises(TransactionManagementError, match="waits for S3"):
        operation(upload)
    upload.refresh_from_db()
    assert (upload.status, upload.busy_until, s3_calls) == ("pending", None, [])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("call", ["begin", "begin again", "list", "confirm", "cancel"])
def test_a_pooled_connection_is_given_back_before_s3_is_asked(
    alice: App, line: Line, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    assert alice.user is not None
    film: dict[str, Any] = {
        "owner": alice.user,
        "destination": "films",
        "filename": "film.mp4",
        "size": len(FILM),
        "multipart": True,
        "idempotency_key": "one",
    }
    if call == "begin again":
        line.lose("CreateMultipartUpload")
        assert alice.begin_film(headers=KEY, content_type="").status_code == 503
    upload = sent(alice) if call in ("list", "confirm", "cancel") else Upload()
    seen: list[str] = []
    connection = connections["default"]
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"pool": True})
    monkeypatch.setattr(connection, "close", lambda: seen.append("closed"))

    def execute(execute: Any, sql: str, *rest: Any) -> Any:
        seen.append("in use")
        return execute(sql, *rest)

    operations: dict[str, Callable[[], object]] = {
        "begin": lambda: lifecycle.begin(**film),
        "begin again": lambda: lifecycle.begin(**film),
        "list": lambda: lifecycle.list_parts(upload),
        "confirm": lambda: lifecycle.confirm(upload),
        "cancel": lambda: lifecycle.cancel(upload),
    }
    clients = clients_of(get_bucket("default"))
    for client in clients:
        client.meta.events.register_first(
            "before-call.s3", lambda **_: seen.append("asked"), unique_id="asked"
        )
    with connection.execute_wrapper(execute):
        operations[call]()
    for client in clients:
        client.meta.events.unregister("before-call.s3", unique_id="asked")

    assert "asked" in seen
    for before, what in pairwise(["in use", *seen]):
        assert what != "asked" or before in ("closed", "asked"), seen
