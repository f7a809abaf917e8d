"""How SNIFF and IMAGE ask S3, and what happens where S3, a library or a setting fails."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from botocore.response import StreamingBody
from django.db import connections
from django.utils import timezone

from s3direct_uploads import content, destinations, events, lifecycle
from s3direct_uploads.content.reading import FIRST_BYTES, MAX_BYTES
from s3direct_uploads.destinations import registry
from s3direct_uploads.exceptions import BucketUnavailable, ObjectMismatch
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import StoredObject, get_bucket
from tests.conftest import PART_SIZE, App, Bucket, age, assert_error, row, sweep
from tests.content.files import ANY, HTML, TEXT, big_exif, box, chunk, image, sent, stored_of
from tests.content.files import get_answers as get_answers
from tests.content.files import looked_into as looked_into
from tests.events.conftest import s3_record

pytestmark = pytest.mark.usefixtures("looked_into")

HOUR = timedelta(hours=1)

# What S3 is asked.


@pytest.fixture
def ranges(s3: Bucket) -> Iterator[list[dict[str, Any]]]:
    """The parameters of each GET from now on."""
    gets: list[dict[str, Any]] = []
    meta = get_bucket("default")._client.meta.events

    def record(params: dict[str, Any], **_: Any) -> None:
        gets.append(dict(params))

    meta.register("provide-client-params.s3.GetObject", record, unique_id="ranges")
    yield gets
    meta.unregister("provide-client-params.s3.GetObject", unique_id="ranges")


def test_a_small_file_is_read_once_for_both(
    alice: App, s3_calls: list[str], ranges: list[dict[str, Any]]
) -> None:
    body = image("JPEG")
    upload = row(alice.upload(body, destination="both"))
    assert (upload.status, s3_calls) == ("completed", ["HeadObject", "GetObject"])
    [get] = ranges
    assert get["Range"] == f"bytes=0-{len(body) - 1}"
    assert get["Key"] == upload.key


def test_of_a_large_file_only_the_beginning_is_read(
    alice: App, ranges: list[dict[str, Any]]
) -> None:
    body = image("JPEG") + b"\0" * 1024**2
    assert alice.upload(body, destination="both").status_code == 200
    assert [get["Range"] for get in ranges] == [f"bytes=0-{FIRST_BYTES - 1}"]


def test_a_jpeg_with_a_megabyte_of_notes_takes_a_few_requests(
    alice: App, ranges: list[dict[str, Any]]
) -> None:
    body = big_exif(1024**2)
    assert alice.upload(body, destination="both").status_code == 200
    assert len(ranges) == 5


def test_a_tiff_whose_directory_is_at_its_end(alice: App, ranges: list[dict[str, Any]]) -> None:
    body = image("TIFF", (999, 999))
    answer = alice.upload(body, destination="both", content_type="image/tiff")
    assert answer.status_code == 200
    assert len(ranges) <= 3


def test_a_header_that_does_not_end_is_given_up(alice: App, ranges: list[dict[str, Any]]) -> None:
    answer = alice.upload(big_exif(2 * MAX_BYTES), destination="measured")
    assert_error(answer, 422, "object_mismatch")
    assert row(answer).reason == "The file's header is too long."
    assert len(ranges) <= 16


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xd8\xff" + b"\xff" * 2 * MAX_BYTES,
        b"\xff\xd8" + b"\xff\xe5\0\2" * MAX_BYTES,
        b"GIF89a\1\0\1\0\0\0\0" + b"\x21\xfe\1c\0" * MAX_BYTES,
    ],
    ids=["padding", "segments", "extensions"],
)
def test_a_header_of_countless_pieces_is_given_up_early(body: bytes) -> None:
    """4 MiB of them would take seconds of a processor. Tens of thousands take a tenth."""
    fetched: list[int] = []

    def read(start: int, length: int) -> bytes:
        fetched.append(length)
        return body[start : start + length]

    with pytest.raises(ObjectMismatch, match="too long"):
        content.images.measure_file(
            content.StoredFile(read, len(body)), tuple(destinations.IMAGE_FORMATS)
        )
    assert sum(fetched) < MAX_BYTES / 4


@pytest.mark.usefixtures("versioned")
def test_the_version_that_was_found_is_read(alice: App, ranges: list[dict[str, Any]]) -> None:
    upload = row(alice.upload(image("JPEG"), destination="sniffed"))
    assert upload.version_id
    assert [get["VersionId"] for get in ranges] == [upload.version_id]


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_meanwhile(alice: App, in_transaction: list[bool]) -> None:
    alice.upload(image("JPEG"), destination="both")
    assert in_transaction == [False, False]


@pytest.mark.django_db(transaction=True)
def test_a_pooled_connection_is_given_back_before_each_request(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = sent(alice, image("JPEG"))
    happened: list[str] = []
    connection = connections["default"]
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"pool": True})
    monkeypatch.setattr(connection, "close", lambda: happened.append("closed"))
    meta = get_bucket("default")._client.meta.events
    meta.register_first("before-call.s3", lambda **_: happened.append("asked"), unique_id="asked")
    lifecycle.confirm(upload)
    meta.unregister("before-call.s3", unique_id="asked")
    assert happened == ["closed", "asked", "closed", "asked", "closed"], "the last for verify"


def test_a_file_in_parts_is_looked_into_as_well(alice: App, settings: Any) -> None:
    settings.S3DIRECT_UPLOADS["DESTINATIONS"]["sniffed"] |= {"PART_SIZE": PART_SIZE}
    film = box(b"isom") + b"\0" * PART_SIZE
    for body, status in ((film, 200), (HTML + b" " * PART_SIZE, 422)):
        begun = alice.begin(
            destination="sniffed", size=len(body), content_type="video/mp4", multipart=True
        ).json()
        assert set(alice.send_parts(begun["multipart"]["parts"], body)) == {200}
        assert alice.confirm(begun["id"]).status_code == status


# Who else confirms.


def test_an_event_looks_into_the_file(alice: App) -> None:
    bad, good = sent(alice, TEXT), sent(alice, image("JPEG"))
    records = [s3_record(each.bucket, each.key) for each in (bad, good)]
    assert events.settle(events.parse({"Records": records})).settled == 2
    assert [row(alice.get(f"{each.pk}/")).status for each in (bad, good)] == [
        "rejected",
        "completed",
    ]


@pytest.mark.django_db(transaction=True)
def test_the_sweep_looks_into_the_file(alice: App, in_transaction: list[bool]) -> None:
    bad, good = sent(alice, TEXT), sent(alice, image("JPEG"))
    age(3 * HOUR)
    assert sweep() == {"completed": 1, "rejected": 1, "cleaned": 1}
    bad.refresh_from_db()
    good.refresh_from_db()
    assert (bad.status, good.status) == ("rejected", "completed")
    assert bad.reason == "The content is not of the type image/jpeg."
    assert not any(in_transaction)


# S3 away, and an object that it does not give.


@pytest.mark.parametrize(
    "refusal",
    [
        (503, "SlowDown"),
        (500, "InternalError"),
        (403, "AccessDenied"),
        (412, "PreconditionFailed"),
        (416, "InvalidRange"),
        (200, ""),  # and no file
    ],
)
@pytest.mark.parametrize("destination", ["sniffed", "measured"])
def test_while_s3_does_not_give_the_bytes_nothing_changes(
    alice: App,
    s3: Bucket,
    get_answers: list[tuple[int, str]],
    destination: str,
    refusal: tuple[int, str],
) -> None:
    body = image("JPEG")
    upload = sent(alice, body, destination)
    before = Upload.objects.values().get()
    get_answers.append(refusal)
    answer = assert_error(alice.confirm(str(upload.pk)), 503, "bucket_unavailable")
    assert answer["retry_after"] == 5
    assert (Upload.objects.values().get(), s3.read(upload)) == (before, body)

    get_answers.clear()
    assert alice.confirm(str(upload.pk)).status_code == 200


def test_the_sweep_puts_such_a_row_off_and_the_others_not(
    alice: App, get_answers: list[tuple[int, str]]
) -> None:
    bad, good = sent(alice, image("JPEG")), sent(alice, image("JPEG"), "photos")
    age(3 * HOUR)
    get_answers.append((503, "SlowDown"))
    assert sweep() == {"completed": 1, "failed": 1}
    assert row(alice.get(f"{good.pk}/")).status == "completed"
    bad.refresh_from_db()
    assert bad.status == "pending"
    assert bad.due_at is not None
    assert bad.due_at > timezone.now()

    get_answers.clear()
    age(timedelta(days=1))
    assert sweep()["completed"] == 1


def test_an_object_that_vanished_after_the_head_is_missing(
    alice: App, get_answers: list[tuple[int, str]]
) -> None:
    upload = sent(alice, image("JPEG"))
    get_answers.append((404, "NoSuchKey"))
    assert_error(alice.confirm(str(upload.pk)), 409, "object_missing")
    assert Upload.objects.get().status == "pending"
    get_answers[0] = (404, "NoSuchBucket")
    assert_error(alice.confirm(str(upload.pk)), 503, "bucket_unavailable")


def test_s3_fails_in_the_midst_of_a_header(alice: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow may take whatever is raised for a fault of the file."""
    upload = sent(alice, big_exif(100_000), "measured")
    bucket = type(get_bucket("default"))
    read = bucket.read

    def fail_later(self: Any, key: str, start: int, *args: Any, **options: Any) -> bytes:
        if start:
            raise BucketUnavailable("S3 cannot be reached; try again later.")
        return read(self, key, start, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(bucket, "read", fail_later)
        assert_error(alice.confirm(str(upload.pk)), 503, "bucket_unavailable")
    assert Upload.objects.get().status == "pending"
    assert alice.confirm(str(upload.pk)).status_code == 200


def test_a_connection_that_breaks_in_a_header_is_opened_where_it_broke(
    alice: App, monkeypatch: pytest.MonkeyPatch, ranges: list[dict[str, Any]]
) -> None:
    upload = sent(alice, big_exif(100_000), "measured")
    read, broken = StreamingBody.read, iter([True, False, True])

    def break_often(self: Any, amt: int | None = None) -> bytes:
        if next(broken, False):
            raise ReadTimeoutError(endpoint_url="https://s3")
        return read(self, amt)

    monkeypatch.setattr(StreamingBody, "read", break_often)
    assert alice.confirm(str(upload.pk)).status_code == 200
    first, again, second, once_more = (get["Range"] for get in ranges)
    assert (first, second) == (again, once_more)


def test_another_object_than_the_one_of_the_head_is_not_judged(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody replaces it between the HEAD and the GET. The next confirm looks at the new one."""
    upload = sent(alice, TEXT)
    events: Any = get_bucket("default")._client.meta.events

    def replace(**_: Any) -> None:
        events.unregister("before-call.s3.GetObject", unique_id="replace")
        s3.write(upload, image("JPEG"))

    events.register("before-call.s3.GetObject", replace, unique_id="replace")
    assert_error(alice.confirm(str(upload.pk)), 503, "bucket_unavailable")
    assert Upload.objects.get().status == "pending"
    assert_error(alice.confirm(str(upload.pk)), 422, "object_mismatch")  # by its length


@pytest.mark.parametrize(
    ("of_head", "of_get", "status"),
    [
        (lambda etag: etag, lambda etag: f"W/{etag}", 200),  # a proxy compressed one of them
        (lambda etag: f"W/{etag}", lambda etag: etag, 200),
        (lambda etag: "", lambda etag: etag, 200),
        (lambda etag: etag, lambda etag: "", 503),
        (lambda etag: etag, lambda etag: '"another"', 503),
    ],
)
def test_etags_as_a_proxy_may_write_them(
    alice: App,
    of_head: Callable[[str], str],
    of_get: Callable[[str], str],
    status: int,
) -> None:
    upload = sent(alice, image("JPEG"))
    events: Any = get_bucket("default")._client.meta.events

    def rewrite(parsed: dict[str, Any], model: Any, **_: Any) -> None:
        parsed["ETag"] = (of_head if model.name == "HeadObject" else of_get)(parsed["ETag"])

    events.register("after-call.s3", rewrite, unique_id="rewrite")
    try:
        assert alice.confirm(str(upload.pk)).status_code == status
    finally:
        events.unregister("after-call.s3", unique_id="rewrite")
    assert Upload.objects.get().status == ("completed" if status == 200 else "pending")


def test_a_server_that_ignores_ranges_is_not_believed(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = sent(alice, big_exif(100_000), "measured")
    client = get_bucket("default")._client
    get_object = client.get_object

    def whole(**parameters: Any) -> Any:
        return get_object(**{key: parameters[key] for key in ("Bucket", "Key")})

    monkeypatch.setattr(client, "get_object", whole)
    assert_error(alice.confirm(str(upload.pk)), 503, "bucket_unavailable")
    assert Upload.objects.get().status == "pending"


# A library that fails.


class Unforeseen(Exception):
    pass


@pytest.mark.parametrize("crash", [Unforeseen, MemoryError, RecursionError, ValueError, KeyError])
@pytest.mark.parametrize("by_sweep", [False, True])
def test_a_library_that_fails_on_a_file_rejects_it(
    alice: App,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    crash: type[Exception],
    by_sweep: bool,
) -> None:
    caplog.set_level(logging.INFO)

    def fail(*_: Any, **__: Any) -> Any:
        raise crash("hostile")

    monkeypatch.setattr("PIL.GifImagePlugin.GifImageFile._open", fail)
    monkeypatch.setattr("puremagic.magic_string", fail)
    for destination, format, reason in (
        ("sniffed", "JPEG", "The content is not of the type image/jpeg."),
        ("measured", "GIF", "The header of this GIF image cannot be read."),
    ):
        upload = sent(alice, image(format), destination)
        if by_sweep:
            age(3 * HOUR)
            assert sweep()["rejected"] == 1
        else:
            assert_error(alice.confirm(str(upload.pk)), 422, "object_mismatch")
        upload.refresh_from_db()
        assert (upload.status, upload.reason) == ("rejected", reason)
    assert "puremagic failed on a file" in caplog.text
    assert "The header of a GIF cannot be read" in caplog.text


# From a host's hook.


def test_a_verify_hook_can_call_both(
    alice: App, monkeypatch: pytest.MonkeyPatch, any_context: None
) -> None:
    from tests.host_app import Albums

    seen: list[content.Measured] = []

    def verify(self: Albums, upload: Upload, stored: StoredObject) -> None:
        content.sniff(upload, stored)
        seen.append(content.measure_image(upload, stored, ["JPEG", "PNG"]))
        if seen[-1].width < 50:
            raise ObjectMismatch("Choose a larger image.")

    monkeypatch.setattr(Albums, "verify", verify)
    answers = [alice.upload(body, destination="albums") for body in (image("JPEG"), HTML)]
    small = alice.upload(image("JPEG", (10, 10)), destination="albums")
    assert [each.status_code for each in (*answers, small)] == [200, 422, 422]
    assert seen == [content.Measured("JPEG", 64, 48), content.Measured("JPEG", 10, 10)]
    assert row(small).reason == "Choose a larger image."


def test_a_hook_that_cannot_ask_s3_has_failed(
    alice: App,
    monkeypatch: pytest.MonkeyPatch,
    any_context: None,
    get_answers: list[tuple[int, str]],
) -> None:
    from tests.host_app import Albums

    monkeypatch.setattr(Albums, "verify", lambda self, *found: content.sniff(*found))
    upload = sent(alice, image("JPEG"), "albums")
    get_answers.append((503, "SlowDown"))
    answer = assert_error(alice.confirm(str(upload.pk)), 503, "hook_failed")
    assert (answer["retry_after"], Upload.objects.get().status) == (5, "pending")
    get_answers.clear()
    assert alice.confirm(str(upload.pk)).status_code == 200


def test_a_hook_reads_with_a_library_of_its_own(alice: App) -> None:
    upload = row(alice.upload(image("PNG"), content_type="image/png"))
    with io.BufferedReader(content.open_stored(upload, stored_of(upload))) as file:
        file.seek(-12, io.SEEK_END)
        assert file.read() == chunk(b"IEND", b"")
        file.seek(1)
        assert file.read(3) == b"PNG"
        with pytest.raises(ValueError, match="before the beginning"):
            content.open_stored(upload, stored_of(upload)).seek(-1)


# The settings.


def found(id: str) -> list[str]:
    from django.core import checks

    return [each.msg for each in checks.run_checks() if each.id == f"s3direct_uploads.{id}"]


WRONG = [
    ("E080", {"SNIFF": "yes"}),
    ("E082", {"IMAGE": True}),
    ("E082", {"IMAGE": {"PIXELS": 5}}),
    ("E082", {"IMAGE": {"FORMATS": []}}),
    ("E082", {"IMAGE": {"FORMATS": "PNG"}}),
    ("E082", {"IMAGE": {"FORMATS": ["png"]}}),
    ("E082", {"IMAGE": {"FORMATS": ["AVIF"]}}),
    ("E082", {"IMAGE": {"MAX_PIXELS": 0}}),
    ("E082", {"IMAGE": {"MAX_PIXELS": "1"}}),
    ("E082", {"IMAGE": {"MAX_PIXELS": True}}),
    ("E082", {"IMAGE": {"MIN_WIDTH": 10, "MAX_WIDTH": 9}}),
    ("E082", {"IMAGE": {"MIN_WIDTH": 1000, "MIN_HEIGHT": 1000, "MAX_PIXELS": 999_999}}),
]


@pytest.mark.parametrize(("id", "wrong"), WRONG)
def test_a_wrong_setting(alice: App, settings: Any, id: str, wrong: dict[str, Any]) -> None:
    settings.S3DIRECT_UPLOADS["DESTINATIONS"]["sniffed"] = {**ANY, **wrong}
    assert len(found(id)) == 1
    assert_error(alice.begin(destination="sniffed"), 503, "misconfigured")


@pytest.mark.parametrize(
    ("id", "library", "key"),
    [("E081", "puremagic", {"SNIFF": True}), ("E083", "PIL", {"IMAGE": {}})],
)
def test_a_library_that_is_missing(
    alice: App,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    id: str,
    library: str,
    key: dict[str, Any],
) -> None:
    settings.S3DIRECT_UPLOADS["DESTINATIONS"] = {"photos": {**ANY, **key}, "plain": ANY}
    upload = sent(alice, image("JPEG"), "photos")
    assert found(id) == []
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setattr(registry, "_sound", {})  # as a process that never had the library
    assert len(found(id)) == 1
    # A server that runs no checks: nothing is lost, and others work.
    assert_error(alice.begin(), 503, "misconfigured")
    assert_error(alice.confirm(str(upload.pk)), 503, "misconfigured")
    age(3 * HOUR)
    assert sweep() == {"failed": 1}
    assert Upload.objects.get().status == "pending"
    assert alice.upload(TEXT, destination="plain").status_code == 200

    monkeypatch.undo()
    assert alice.confirm(str(upload.pk)).status_code == 200


@pytest.mark.parametrize(
    ("types", "named"),
    [
        (["image/*"], []),
        (["image/jpeg", "image/jpg", "image/apng", "application/octet-stream"], []),
        (["image/png", "image/heic", "application/pdf"], ["image/heic, application/pdf"]),
    ],
)
def test_types_that_would_be_sent_in_vain(
    settings: Any, types: list[str], named: list[str]
) -> None:
    settings.S3DIRECT_UPLOADS["DESTINATIONS"] = {
        "photos": {**ANY, "CONTENT_TYPES": types, "IMAGE": {}}
    }
    messages = found("W084")
    assert len(messages) == len(named)
    assert all(name in message for name, message in zip(named, messages, strict=True))
