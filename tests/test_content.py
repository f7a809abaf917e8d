"""SNIFF and IMAGE of a destination: what the first bytes of a file tell, and what they do not."""

from __future__ import annotations

import io
import logging
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone
from PIL import Image

from s3direct_uploads import content, destinations, events, lifecycle
from s3direct_uploads.content.reading import FIRST_BYTES, MAX_BYTES
from s3direct_uploads.exceptions import BucketUnavailable, ObjectMismatch
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import StoredObject, get_bucket

from .conftest import PART_SIZE, App, Bucket, made_up_answer, row
from .test_bad_input import assert_error
from .test_events import s3_record
from .test_sweep import age, sweep

HOUR = timedelta(hours=1)
ANY = {"MAX_SIZE": 20 * 1024**2, "CONTENT_TYPES": ["*/*", "image/svg+xml", "text/html"]}
IMAGE = {
    "FORMATS": ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"],
    "MAX_PIXELS": 1_000_000,
    "MIN_WIDTH": 8,
    "MIN_HEIGHT": 8,
}


@pytest.fixture(autouse=True)
def looked_into(settings: Any) -> None:
    """A destination of each kind."""
    ours = settings.S3DIRECT_UPLOADS
    settings.S3DIRECT_UPLOADS = {
        **ours,
        "DESTINATIONS": {
            **ours["DESTINATIONS"],
            "sniffed": {**ANY, "SNIFF": True},
            "measured": {**ANY, "IMAGE": IMAGE},
            "both": {**ANY, "SNIFF": True, "IMAGE": IMAGE},
        },
    }


# The files.


def image(format: str, size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    file = io.BytesIO()
    Image.effect_noise(size, 64).save(file, format, **options)
    return file.getvalue()


def animated(format: str, frames: int = 50) -> bytes:
    pictures = [Image.effect_noise((16, 16), 64) for _ in range(frames)]
    file = io.BytesIO()
    pictures[0].save(file, format, save_all=True, append_images=pictures[1:])
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """By hand: an image of that size which it does not have."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", data or zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def archive(**files: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        for name, text in files.items():
            opened.writestr(name, text)
    return file.getvalue()


def box(brand: bytes, *others: bytes) -> bytes:
    """The beginning of an MP4 and its relatives."""
    brands = brand + b"\0\0\0\0" + b"".join(others)
    return struct.pack(">I", len(brands) + 8) + b"ftyp" + brands + b"\0" * 600


def big_exif(bytes: int) -> bytes:
    """A JPEG that says how large it is after so many bytes of notes."""
    note = b"\xff\xe1" + struct.pack(">H", 60_002) + b"N" * 60_000
    jpeg = image("JPEG")
    return jpeg[:2] + note * (bytes // len(note) + 1) + jpeg[2:]


HTML = b"<!DOCTYPE html><script>alert(1)</script>"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
GIF_JS = b"GIF89a/*" + b"\0" * 5 + image("GIF")[13:] + b"*/=1;alert(1)"
EBML = b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82"
TEXT = b"eighteen bytes long"[:18]
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj"
ADOBE = (
    b'<?xml version="1.0"?>\n<!-- Generator -->\n<!DOCTYPE svg PUBLIC "-" "" ['
    + b"<!ENTITY ns 'x'>" * 300
    + b"]>"
    + SVG
)


# What is sniffed.

HONEST = [
    ("image/jpeg", image("JPEG")),
    ("image/jpg", image("JPEG")),
    ("image/png", image("PNG")),
    ("image/apng", animated("PNG")),
    ("image/gif", image("GIF")),
    ("image/webp", image("WEBP")),
    ("image/avif", image("AVIF")),
    ("image/tiff", image("TIFF")),
    ("image/x-adobe-dng", image("TIFF")),
    ("image/bmp", image("BMP")),
    ("image/x-icon", image("ICO")),
    ("image/jp2", image("JPEG2000")),
    ("image/jxl", bytes.fromhex("0000000c4a584c200d0a870a") + b"\0" * 50),
    ("image/heic", box(b"heic", b"mif1", b"heic")),
    ("image/heic", box(b"mif1", b"heic")),
    ("image/heif", box(b"heix", b"mif1")),
    ("image/svg+xml", SVG),
    ("image/svg+xml", b"\xef\xbb\xbf  " + ADOBE),
    ("image/svg+xml", "\ufeff<svg/>".encode("utf-16-le")),
    ("image/vnd.adobe.photoshop", b"8BPS\0\1" + b"\0" * 50),
    ("video/mp4", box(b"isom", b"iso2", b"avc1", b"mp41")),
    ("video/mp4", box(b"iso5", b"dash")),
    ("video/mp4;codecs=avc1", box(b"mp42", b"isom")),
    ("video/quicktime", box(b"qt  ")),
    ("video/quicktime", b"\0\0\0\x08wide\0\0\0\x08mdat" + b"\0" * 50),
    ("video/3gpp", box(b"3gp4", b"isom")),
    ("audio/mp4", box(b"M4A ", b"mp42")),
    ("video/webm", EBML + b"\x84webm" + b"\0" * 50),
    ("video/webm;codecs=vp8", EBML + b"\x84webm" + b"\0" * 50),
    ("audio/webm", EBML + b"\x84webm" + b"\0" * 50),
    ("video/x-matroska", EBML + b"\x88matroska" + b"\0" * 50),
    ("video/mp2t", (b"G" + b"\0" * 187) * 5),
    ("video/mpeg", b"\0\0\1\xba" + b"\0" * 50),
    ("video/x-msvideo", b"RIFF\x24\0\0\0AVI LIST" + b"\0" * 50),
    ("audio/mpeg", b"ID3\4\0" + b"\0" * 50),
    *(("audio/mpeg", b"\xff" + bytes([second]) + b"\x90" * 50) for second in b"\xfb\xfa\xf3\xe3"),
    ("audio/wav", b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 50),
    ("audio/ogg", b"OggS\0\2" + b"\0" * 20 + b"\1\x1e\1vorbis" + b"\0" * 50),
    ("video/ogg", b"OggS\0\2" + b"\0" * 20 + b"\x80theora" + b"\0" * 50),
    ("audio/flac", b"fLaC\0\0\0\x22" + b"\0" * 50),
    ("audio/aac", b"\xff\xf1\x50\x80" + b"\0" * 50),
    ("application/pdf", PDF),
    ("application/pdf", b"\n\n" + PDF),
    ("application/zip", archive(a="b")),
    ("application/zip", b"PK\5\6" + b"\0" * 18),
    *(
        (declared, archive(**{"[Content_Types].xml": "<Types/>"}))
        for declared in (
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            "application/vnd.openxmlformats-officedocument.presentationml.presentation",
            "application/vnd.openxmlformats-officedocument.presentationml.slideshow",
        )
    ),
    ("application/vnd.oasis.opendocument.text", archive(mimetype="application/vnd.oasis")),
    ("application/epub+zip", archive(mimetype="application/epub+zip")),
    ("application/vnd.apple.pages", archive(a="b")),
    ("application/vnd.android.package-archive", archive(a="b")),
    *(
        (declared, bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 600)
        for declared in (
            "application/msword",
            "application/vnd.ms-excel",
            "application/vnd.ms-powerpoint",
            "application/vnd.ms-outlook",
        )
    ),
    ("application/gzip", b"\x1f\x8b\x08\0" + b"\0" * 50),
    ("application/x-7z-compressed", b"7z\xbc\xaf\x27\x1c" + b"\0" * 50),
    ("application/vnd.rar", b"Rar!\x1a\7\1\0" + b"\0" * 50),
    ("application/rtf", b"{\\rtf1\\ansi"),
    ("application/vnd.sqlite3", b"SQLite format 3\0" + b"\0" * 50),
    ("application/vnd.apache.parquet", b"PAR1" + b"\0" * 50),
    ("application/x-unheard-of", b"\0\1\2"),
    ("application/x-unheard-of", b"text"),
    ("application/octet-stream", HTML),
    ("application/octet-stream", b""),
    ("font/woff2", b"wOF2\0\1\0\0" + b"\0" * 50),
    ("font/otf", b"OTTO" + b"\0" * 50),
    ("text/plain", b"plain"),
    ("text/plain", b""),
    ("text/plain", "\ufeffExcel".encode("utf-16-le")),
    ("text/plain", "größe".encode("latin-1")),
    ("text/plain", b"BMW, GIF89a and %PDF-"),
    ("text/csv", b"a,b\r\n1,2\r\n"),
    ("text/html", HTML),
    ("text/markdown", HTML),
    ("application/json", b'{"a": 1}'),
    ("application/gpx+xml", b"<?xml version='1.0'?><gpx/>"),
    ("text/calendar", b"BEGIN:VCALENDAR\r\n"),
]


@pytest.mark.parametrize(("declared", "body"), HONEST)
def test_an_honest_file_is_completed(alice: App, declared: str, body: bytes) -> None:
    answer = alice.upload(body, destination="sniffed", filename="file", content_type=declared)
    assert (answer.status_code, row(answer).status) == (200, "completed"), answer.json()


NOT_WHAT_IT_SAYS = [
    ("image/jpeg", TEXT),
    ("image/jpeg", HTML),
    ("image/jpeg", b""),
    ("image/jpeg", image("PNG")),
    ("image/jpeg", PDF),
    ("image/jpeg", archive(a="b")),
    ("image/jpeg", b"\0" * 18),
    ("image/png", SVG),
    ("image/png", ADOBE),
    ("image/gif", HTML),
    ("image/webp", b"RIFF\x24\0\0\0AVI LIST" + b"\0" * 50),
    ("image/heic", box(b"isom")),
    ("image/avif", HTML),
    ("image/svg+xml", HTML),
    ("image/svg+xml", b"<svg\0"),
    ("image/svg+xml", b"alert(1)//<svg>"),
    ("image/x-nobody-knows", HTML),
    ("image/x-canon-crw", HTML),
    ("video/mp4", HTML),
    ("video/mp4", box(b"heic")),
    ("video/mp4", b"MZ\x90\0\3" + b"\0" * 50),
    ("video/mp2t", b"G" + b"\0" * 500),
    ("audio/mpeg", "\ufeff<script>".encode("utf-16-le")),
    ("audio/mpeg", HTML),
    ("application/pdf", HTML),
    ("application/pdf", b" " * 1024 + PDF),
    ("application/zip", b"MZ\x90\0\3" + b"\0" * 50),
    ("application/msword", HTML),
    ("application/x-unheard-of", HTML),
    ("application/x-unheard-of", b"  \n<svg onload=alert(1)>"),
    ("text/plain", b"MZ\x90\0\3" + b"\0" * 50),
    ("text/plain", image("PNG")),
    ("text/csv", archive(a="b")),
    ("application/json", b"\x7fELF\2\1"),
    ("application/gpx+xml", b"alert(1)"),
]


@pytest.mark.parametrize(("declared", "body"), NOT_WHAT_IT_SAYS)
def test_what_begins_otherwise_is_rejected(
    alice: App, s3: Bucket, declared: str, body: bytes
) -> None:
    answer = alice.upload(body, destination="sniffed", filename="file", content_type=declared)
    error = assert_error(answer, 422, "object_mismatch")
    assert error["detail"] == f"The content is not of the type {declared}."
    upload = row(answer)
    assert (upload.status, upload.reason) == ("rejected", error["detail"])
    again = alice.confirm(str(upload.pk))
    assert (again.status_code, again.json()["detail"]) == (422, error["detail"])

    age(3 * HOUR)
    assert sweep() == {"cleaned": 1}
    assert s3.read(upload) is None


def test_without_the_setting_a_text_passes_as_a_jpeg(alice: App, s3_calls: list[str]) -> None:
    answer = alice.upload(TEXT, destination="photos")
    assert (answer.status_code, s3_calls) == (200, ["HeadObject"])


# Polyglots and others that sniffing and the header cannot tell. See docs/content.md.
HOSTILE = [
    # declared, body, with SNIFF, with IMAGE
    ("image/gif", GIF_JS, 200, 200),
    ("image/jpeg", image("JPEG") + archive(a="b"), 200, 200),
    ("image/svg+xml", SVG, 200, 422),
    ("image/png", SVG, 422, 422),
    ("image/jpeg", HTML, 422, 422),
    ("image/jpeg", TEXT, 422, 422),
    ("image/jpeg", image("PNG"), 422, 422),
    ("image/png", png(50_000, 50_000), 200, 422),
    ("image/png", png(10, 10), 200, 200),  # its data are of another size
    ("image/png", png(0, 10), 200, 422),
    ("image/png", png(10, 10).replace(b"IHDR", b"IHDX"), 200, 422),
    ("image/png", b"\x89PNG\r\n\x1a\n", 200, 422),
    ("image/jpeg", image("JPEG")[:200], 200, 422),  # ends within its header
    ("image/jpeg", image("JPEG", (512, 512))[:2000], 200, 200),  # ends after it
    ("image/png", animated("PNG"), 200, 200),
    ("image/gif", animated("GIF"), 200, 200),
    ("image/webp", animated("WEBP"), 200, 200),
    ("image/jpeg", b"", 422, 422),
    ("application/pdf", PDF, 200, 422),
    ("image/heic", box(b"heic"), 200, 422),
    ("application/octet-stream", image("JPEG"), 200, 200),
    ("application/octet-stream", HTML, 200, 422),
]


@pytest.mark.parametrize(("declared", "body", "sniffed", "measured"), HOSTILE)
def test_hostile_files_and_their_outcome(
    alice: App, declared: str, body: bytes, sniffed: int, measured: int
) -> None:
    for destination, status in (("sniffed", sniffed), ("measured", measured)):
        answer = alice.upload(body, destination=destination, filename="file", content_type=declared)
        assert answer.status_code == status, answer.json()
        assert row(answer).status == ("completed" if status == 200 else "rejected")


# What is measured.


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_the_size_is_read_from_the_header(alice: App, format: str) -> None:
    body = image(format, (300, 200))
    answer = alice.upload(body, filename=f"x.{format.lower()}", content_type="")
    measured = content.measure_image(row(answer), stored_of(row(answer)))
    assert measured == content.Measured(format, 300, 200)


def stored_of(upload: Upload) -> StoredObject:
    return get_bucket("default").head(upload.key)


@pytest.mark.parametrize(
    "options", [{}, {"lossless": True}, {"save_all": True, "exif": b"Exif\0\0MM\0*"}]
)
def test_each_kind_of_webp(alice: App, options: dict[str, Any]) -> None:
    body = image("WEBP", (300, 200), **options)
    upload = row(alice.upload(body, content_type="image/webp"))
    measured = content.measure_image(upload, stored_of(upload))
    assert (measured.width, measured.height) == (300, 200)


@pytest.mark.parametrize("body", [b"RIFF\0\0\0\0WEBP", b"RIFF\0\0\0\0WEBPVP8 " + b"\0" * 50])
def test_a_webp_that_is_none(alice: App, body: bytes) -> None:
    answer = alice.upload(body, destination="measured", content_type="image/webp")
    assert_error(answer, 422, "object_mismatch")
    assert row(answer).reason == "The header of this WEBP image cannot be read."


def test_a_jpeg_with_a_second_picture_inside_is_a_jpeg(alice: App) -> None:
    """As some cameras have it: Pillow calls it MPO."""
    first, second = (Image.effect_noise((64, 48), 64) for _ in range(2))
    file = io.BytesIO()
    first.save(file, "MPO", save_all=True, append_images=[second])
    assert alice.upload(file.getvalue(), destination="both").status_code == 200


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((1001, 1000), "The image has 1001 x 1000 pixels; at most 1000000 are allowed."),
        ((7, 100), "The image has 7 x 100 pixels; it needs at least 8 x 8."),
        ((100, 7), "The image has 100 x 7 pixels; it needs at least 8 x 8."),
        ((1000, 1000), ""),
        ((8, 8), ""),
    ],
)
def test_the_limits_of_an_image(alice: App, size: tuple[int, int], reason: str) -> None:
    answer = alice.upload(png(*size), destination="measured", content_type="image/png")
    assert row(answer).reason == reason
    assert answer.status_code == (422 if reason else 200)


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"MAX_WIDTH": 99}, "The image has 100 x 50 pixels; at most 99 wide is allowed."),
        ({"MAX_HEIGHT": 49}, "The image has 100 x 50 pixels; at most 49 high is allowed."),
        ({"FORMATS": ["JPEG", "GIF"]}, "This is no image of the formats JPEG, GIF."),
        ({}, ""),
    ],
)
def test_each_limit_alone(alice: App, settings: Any, limit: dict[str, Any], reason: str) -> None:
    settings.S3DIRECT_UPLOADS["DESTINATIONS"]["measured"]["IMAGE"] = limit
    answer = alice.upload(png(100, 50), destination="measured", content_type="image/png")
    assert row(answer).reason == reason


def test_another_image_than_declared(alice: App) -> None:
    answer = alice.upload(png(10, 10), destination="measured")
    assert row(answer).reason == "The content is not of the type image/jpeg: it is PNG."


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
    assert (get["Key"], get["IfMatch"]) == (upload.key, upload.etag)


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
    answer = alice.upload(big_exif(MAX_BYTES), destination="measured")
    assert_error(answer, 422, "object_mismatch")
    assert row(answer).reason == "The file's header is too long."
    assert len(ranges) <= 16


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xd8\xff" + b"\xff" * 2 * MAX_BYTES,
        b"\xff\xd8" + b"\xff\xe5\0\2" * MAX_BYTES,
        b"GIF89a\1\0\1\0\0\0\0" + b"\x21\xfe\1c\0" * MAX_BYTES,
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 10, 10, 8, 2, 0, 0, 0))
        + chunk(b"tEXt", b"") * (MAX_BYTES // 8),
    ],
    ids=["padding", "segments", "extensions", "chunks"],
)
def test_a_header_of_countless_pieces_is_given_up_early(body: bytes) -> None:
    """4 MiB of them would take seconds of a processor. Tens of thousands take a tenth."""
    fetched: list[int] = []

    def read(start: int, length: int) -> bytes:
        fetched.append(length)
        return body[start : start + length]

    with pytest.raises(ObjectMismatch, match="too long"):
        content.images.measure_file(
            content.ObjectFile(read, len(body)), tuple(destinations.IMAGE_FORMATS)
        )
    assert sum(fetched) < MAX_BYTES / 4


def test_the_version_that_was_found_is_read(
    alice: App, s3_client: Any, ranges: list[dict[str, Any]]
) -> None:
    bucket = get_bucket("default").name
    s3_client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    try:
        upload = row(alice.upload(image("JPEG"), destination="sniffed"))
    finally:
        s3_client.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}
        )
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


def sent(alice: App, body: bytes, destination: str = "both") -> Upload:
    begun = alice.begin(destination=destination, size=len(body))
    assert alice.send(begun.json()["request"], body) == 200
    return row(begun)


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


@pytest.fixture
def get_answers(s3: Bucket) -> Iterator[list[tuple[int, str]]]:
    """What S3 answers to each GET while this is not empty: a status and a code."""
    answers: list[tuple[int, str]] = []
    meta: Any = get_bucket("default")._client.meta.events

    def answer(request: Any, **_: Any) -> Any:
        if not answers:
            return None
        status, code = answers[0]
        return made_up_answer(request, status, f"<Error><Code>{code}</Code></Error>")

    meta.register("before-send.s3.GetObject", answer, unique_id="get_answers")
    yield answers
    meta.unregister("before-send.s3.GetObject", unique_id="get_answers")


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


def test_past_its_deadline_an_object_that_is_never_given_ends(
    alice: App, get_answers: list[tuple[int, str]]
) -> None:
    upload = sent(alice, image("JPEG"))
    age(timedelta(days=10))
    get_answers.append((503, "SlowDown"))
    assert sweep()["expired"] == 1
    upload.refresh_from_db()
    assert upload.status == "expired"


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
    read_range = bucket.read_range

    def fail_later(self: Any, key: str, start: int, *args: Any, **options: Any) -> bytes:
        if start:
            raise BucketUnavailable("S3 cannot be reached; try again later.")
        return read_range(self, key, start, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(bucket, "read_range", fail_later)
        assert_error(alice.confirm(str(upload.pk)), 503, "bucket_unavailable")
    assert Upload.objects.get().status == "pending"
    assert alice.confirm(str(upload.pk)).status_code == 200


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

    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile._open", fail)
    monkeypatch.setattr("puremagic.magic_string", fail)
    for destination, reason in (
        ("sniffed", "The content is not of the type image/jpeg."),
        ("measured", "The header of this JPEG image cannot be read."),
    ):
        upload = sent(alice, image("JPEG"), destination)
        if by_sweep:
            age(3 * HOUR)
            assert sweep()["rejected"] == 1
        else:
            assert_error(alice.confirm(str(upload.pk)), 422, "object_mismatch")
        upload.refresh_from_db()
        assert (upload.status, upload.reason) == ("rejected", reason)
    assert "puremagic failed on a file" in caplog.text
    assert "Pillow cannot read the header of a JPEG" in caplog.text


@pytest.mark.parametrize("seed", range(200))
def test_no_mutilated_image_is_more_than_rejected(seed: int) -> None:
    import random

    chance = random.Random(seed)
    format = chance.choice(list(destinations.IMAGE_FORMATS))
    body = bytearray(image(format))
    for _ in range(chance.randrange(1, 30)):
        body[chance.randrange(4, min(len(body), 400))] = chance.randrange(256)
    whole = bytes(body[: chance.randrange(20, len(body))])
    file = content.ObjectFile(lambda start, length: whole[start : start + length], len(whole))
    try:
        measured = content.images.measure_file(file, tuple(destinations.IMAGE_FORMATS))
    except ObjectMismatch:
        return
    assert measured.width > 0


# From a host's hook.


def test_a_verify_hook_can_call_both(
    alice: App, monkeypatch: pytest.MonkeyPatch, any_context: None
) -> None:
    from .host import Albums

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
    from .host import Albums

    monkeypatch.setattr(Albums, "verify", lambda self, *found: content.sniff(*found))
    upload = sent(alice, image("JPEG"), "albums")
    get_answers.append((503, "SlowDown"))
    answer = assert_error(alice.confirm(str(upload.pk)), 503, "hook_failed")
    assert (answer["retry_after"], Upload.objects.get().status) == (5, "pending")
    get_answers.clear()
    assert alice.confirm(str(upload.pk)).status_code == 200


def test_a_hook_reads_with_a_library_of_its_own(alice: App) -> None:
    upload = row(alice.upload(image("PNG"), content_type="image/png"))
    with io.BufferedReader(content.open_object(upload, stored_of(upload))) as file:
        file.seek(-12, io.SEEK_END)
        assert file.read() == chunk(b"IEND", b"")
        file.seek(1)
        assert file.read(3) == b"PNG"
        with pytest.raises(ValueError, match="before the beginning"):
            content.open_object(upload, stored_of(upload)).seek(-1)


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
    messages = found("W100")
    assert len(messages) == len(named)
    assert all(name in message for name, message in zip(named, messages, strict=True))
