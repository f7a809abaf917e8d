"""IMAGE: the format and the size of an image, by its header."""

from __future__ import annotations

import contextlib
import io
import struct
import time
import tracemalloc
import zlib
from typing import Any

import pytest
from PIL import Image

from s3direct_uploads import content, destinations
from s3direct_uploads.exceptions import ObjectMismatch
from tests.conftest import App, assert_error, row
from tests.content.files import chunk, image, png, stored_of
from tests.content.files import looked_into as looked_into

pytestmark = pytest.mark.usefixtures("looked_into")

# What is measured.


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_the_size_is_read_from_the_header(alice: App, format: str) -> None:
    body = image(format, (300, 200))
    answer = alice.upload(body, filename=f"x.{format.lower()}", content_type="")
    measured = content.measure_image(row(answer), stored_of(row(answer)))
    assert measured == content.Measured(format, 300, 200)


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
        ({"FORMATS": ["JPEG", "GIF"]}, "This is not an image in one of the formats JPEG, GIF."),
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


# What would cost much.

MANY = 900_000


def directory(*entries: tuple[int, int, int, int]) -> bytes:
    """A TIFF whose directory has these entries: tag, type, count, value."""
    packed = b"".join(struct.pack("<HHII", *each) for each in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + packed + b"\0" * 4


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def bombs() -> dict[str, bytes]:
    ihdr = chunk(b"IHDR", struct.pack(">IIBBBBB", 10, 10, 8, 2, 0, 0, 0))
    unpacked = zlib.compress(b"a" * (1024**2 - 1), 9)
    texts = b"".join(chunk(b"zTXt", b"k%d\0\0" % each + unpacked) for each in range(63))
    size = [(256, 4, 1, 10), (257, 4, 1, MANY), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    more = [(277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 1)]
    strips = directory(*size, (273, 4, MANY, 8 + 2 + 9 * 12 + 4), *more)
    far = directory(*size, *((1000 + each, 2, 8, 3 * 1024**2 + each) for each in range(24_000)))
    notes = directory(*((1 + each, 2, 60_000, 8) for each in range(5_000)))
    frame = segment(0xC0, struct.pack(">BHHB", 8, 10, 10, 1) + b"\1\x11\0") + segment(0xDA, b"")
    comment = b"\x21\xfe" + (b"\xff" + b"a" * 255) * 16_000
    return {
        "PNG, texts that are unpacked": b"\x89PNG\r\n\x1a\n" + ihdr + texts + chunk(b"IDAT", b""),
        "TIFF, a strip for each row": strips + b"\x08\0\0\0" * MANY,
        "TIFF, tags whose values are far away": far + b"\0" * 4 * 1024**2,
        "JPEG, broken notes": b"\xff\xd8" + segment(0xE1, b"Exif\0\0" + notes) * 60 + frame,
        "GIF, one endless comment": b"GIF89a\x0a\0\x0a\0\0\0\0" + comment,
        "BMP, a huge palette": b"BM" + b"\xff" * 4 * 1024**2,
    }


@pytest.mark.parametrize("name", bombs())
def test_no_header_costs_much_memory_time_or_log(
    name: str, recwarn: pytest.WarningsRecorder
) -> None:
    body = bombs()[name]
    file = content.StoredFile(lambda start, length: body[start : start + length], len(body))
    tracemalloc.start()
    began = time.process_time()
    with contextlib.suppress(ObjectMismatch):
        content.images.measure_file(file, tuple(destinations.IMAGE_FORMATS))
    spent, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * 1024**2
    assert spent < 2, "half a second, if memory is not traced"
    assert len(recwarn) == 0, "each would be a line in the log"


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("two sizes", directory((256, 3, 1, 10), (257, 3, 1, 10), (257, 3, 1, 60_000))),
        ("a size in bytes", directory((256, 1, 1, 10), (257, 3, 1, 10))),
        ("no height", directory((256, 3, 1, 10))),
        ("a directory beyond the end", b"II*\0\xff\xff\xff\x7f" + b"\0" * 20),
        ("a big directory", b"II+\0\x08\0\0\0\x10" + b"\0" * 7 + b"\xff" * 7 + b"\0"),
        ("two frames", b"\xff\xd8" + segment(0xC0, b"\x08\0\x0a\0\x0a\0") * 2),
        ("pixels, and no frame", b"\xff\xd8" + segment(0xDA, b"")),
        ("no lines", b"\xff\xd8" + segment(0xC0, b"\x08\0\0\0\x0a\0") + segment(0xDA, b"")),
    ],
)
def test_a_header_that_readers_would_take_differently_passes_no_limit(
    name: str, body: bytes
) -> None:
    file = content.StoredFile(lambda start, length: body[start : start + length], len(body))
    if name == "two sizes":
        assert content.images.measure_file(file, ["TIFF"]).height == 60_000
        return
    with pytest.raises(ObjectMismatch, match="cannot be read"):
        content.images.measure_file(file, tuple(destinations.IMAGE_FORMATS))


def test_a_big_tiff_is_measured() -> None:
    body = image("TIFF", (300, 200), big_tiff=True)
    assert body[2:4] == b"+\0"
    file = content.StoredFile(lambda start, length: body[start : start + length], len(body))
    assert content.images.measure_file(file, ["TIFF"]) == content.Measured("TIFF", 300, 200)


@pytest.mark.parametrize("seed", range(200))
def test_no_mutilated_image_is_more_than_rejected(seed: int) -> None:
    import random

    chance = random.Random(seed)
    format = chance.choice(list(destinations.IMAGE_FORMATS))
    body = bytearray(image(format))
    for _ in range(chance.randrange(1, 30)):
        body[chance.randrange(4, min(len(body), 400))] = chance.randrange(256)
    whole = bytes(body[: chance.randrange(20, len(body))])
    file = content.StoredFile(lambda start, length: whole[start : start + length], len(whole))
    try:
        measured = content.images.measure_file(file, tuple(destinations.IMAGE_FORMATS))
    except ObjectMismatch:
        return
    assert measured.width > 0
