"""IMAGE: the format and the size of an image, by its header."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from s3direct_uploads import content, destinations
from s3direct_uploads.exceptions import ObjectMismatch
from tests.conftest import App, assert_error, row
from tests.content.files import image, png, stored_of
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
