"""What an image must be like, by a destination's ``IMAGE``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

# Those of which the header alone is read, and what each is called as a content type. Of an AVIF,
# Pillow reads the whole file; a HEIC it does not know.
IMAGE_FORMATS = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
}


@dataclass(frozen=True)
class ImageRules:
    """The keys of ``IMAGE``, in lower case. Width and height are in pixels."""

    formats: Sequence[str] = ("JPEG", "PNG", "GIF", "WEBP")
    max_pixels: int = 50_000_000  # width times height; decoded, these take 200 MB of memory
    min_width: int = 1
    min_height: int = 1
    max_width: int | None = None
    max_height: int | None = None


IMAGE_KEYS = tuple(field.name.upper() for field in fields(ImageRules))


def image_rules(value: Mapping[str, Any]) -> ImageRules:
    """The rules that a destination's ``IMAGE`` says, in which ``image_problem`` found nothing."""
    return ImageRules(**{key.lower(): limit for key, limit in value.items()})


def image_problem(value: object) -> str:
    """What is wrong with a destination's ``IMAGE``; "" if nothing is."""
    if not isinstance(value, Mapping):
        return f"it must be a dict; it is {value!r}"
    unknown = sorted(str(key) for key in value if key not in IMAGE_KEYS)
    if unknown:
        return f"it has unknown keys: {', '.join(unknown)}"
    formats = value.get("FORMATS", ImageRules.formats)
    if (
        not isinstance(formats, Sequence)
        or isinstance(formats, str)
        or not formats
        or any(each not in IMAGE_FORMATS for each in formats)
    ):
        return f"FORMATS must be a list of some of {', '.join(IMAGE_FORMATS)}; it is {formats!r}"
    for key, limit in value.items():
        whole = isinstance(limit, int) and not isinstance(limit, bool) and limit > 0
        if key != "FORMATS" and not whole:
            return f"{key} must be a whole number above zero; it is {limit!r}"
    rules = image_rules(value)
    for least, most in (
        (rules.min_width, rules.max_width),
        (rules.min_height, rules.max_height),
        (rules.min_width * rules.min_height, rules.max_pixels),
    ):
        if most is not None and least > most:
            return f"no image has {least} pixels at least and {most} at most"
    return ""
