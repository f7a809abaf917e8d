"""SNIFF: what the first bytes of a file tell, and what they do not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.conftest import App, Bucket, age, assert_error, row, sweep
from tests.content.files import (
    ADOBE,
    EBML,
    GIF_JS,
    HTML,
    PDF,
    SVG,
    TEXT,
    animated,
    archive,
    box,
    image,
    png,
)
from tests.content.files import looked_into as looked_into

pytestmark = pytest.mark.usefixtures("looked_into")

HOUR = timedelta(hours=1)

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
