"""Files of every kind, and destinations that look into them: for the tests of content."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import StoredObject, get_bucket
from tests.conftest import App, Bucket, made_up_answer, row

ANY = {"MAX_SIZE": 20 * 1024**2, "CONTENT_TYPES": ["*/*", "image/svg+xml", "text/html"]}
IMAGE = {
    "FORMATS": ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"],
    "MAX_PIXELS": 1_000_000,
    "MIN_WIDTH": 8,
    "MIN_HEIGHT": 8,
}


@pytest.fixture
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


def sent(alice: App, body: bytes, destination: str = "both") -> Upload:
    begun = alice.begin(destination=destination, size=len(body))
    assert alice.send(begun.json()["request"], body) == 200
    return row(begun)


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


def stored_of(upload: Upload) -> StoredObject:
    return get_bucket("default").head(upload.key)
