"""Read the format and the size of an image from its header. No pixel is decoded."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from s3direct_uploads import content_types
from s3direct_uploads.destinations import IMAGE_FORMATS, ImageRules
from s3direct_uploads.exceptions import ObjectMismatch
from s3direct_uploads.reasons import Reason

from . import headers
from .reading import StoredFile, open_stored

if TYPE_CHECKING:
    from s3direct_uploads.models import Upload
    from s3direct_uploads.s3 import StoredObject

logger = logging.getLogger("s3direct_uploads")

SIGNATURES = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "GIF": re.compile(rb"GIF8[79]a"),
    "WEBP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "BMP": re.compile(rb"BM"),
    "TIFF": re.compile(rb"II[*+]\0|MM\0[*+]"),
}
# We do not use Image.open, because it warns of each image with many pixels.
PLUGINS = {
    "GIF": "PIL.GifImagePlugin.GifImageFile",
    "BMP": "PIL.BmpImagePlugin.BmpImageFile",
}


# How many reads one header may take. An image from a camera takes some hundreds. A header of 4 MiB
# in the smallest pieces would take seconds.
MAX_READS = 50_000


class _Reader(io.BufferedReader):
    """A file that refuses to be read in too many pieces."""

    def __init__(self, file: StoredFile) -> None:
        super().__init__(file)
        self._file = file
        self._reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self._reads += 1
        if self._reads > MAX_READS:
            self._file.failure = ObjectMismatch(Reason.LONG_HEADER)
            raise self._file.failure
        return super().read(size)


@dataclass(frozen=True)
class Measured:
    """What the header of an image says."""

    format: str  # as Pillow names it: "JPEG"
    width: int  # pixels
    height: int


def measure_image(
    upload: Upload, stored: StoredObject, formats: Sequence[str] = tuple(IMAGE_FORMATS)
) -> Measured:
    """Read the format and the size of the object. Call it in a ``verify`` hook::

        def verify(self, upload, stored):
            image = content.measure_image(upload, stored, ["JPEG", "PNG"])
            if image.width != image.height:
                raise ObjectMismatch("Choose a square image.")

    It sends a few ranged GETs. Raises ObjectMismatch if the object is not an image in one of these
    formats or its header cannot be read, BucketUnavailable, and ImproperlyConfigured if Pillow is
    not installed.
    """
    return measure_file(open_stored(upload, stored), formats)


def measure_file(file: StoredFile, formats: Sequence[str]) -> Measured:
    """Do the same as ``measure_image``, with a file that is open."""
    found = next((name for name in formats if SIGNATURES[name].match(file.start)), None)
    if found is None:
        raise ObjectMismatch(Reason.NO_IMAGE, {"formats": ", ".join(formats)})
    try:
        width, height = _size(file, found)
    except (ImproperlyConfigured, ObjectMismatch):
        raise
    except Exception as error:  # of Pillow, or of our own code on a damaged header
        if file.failure is not None:  # S3 failed while the header was read.
            raise file.failure from error
        # Pillow raises SyntaxError for another format. Other errors are faults that a file causes.
        logger.info("The header of a %s cannot be read: %r", found, error)
        raise ObjectMismatch(Reason.BAD_HEADER, {"format": found}) from error
    if file.failure is not None:
        raise file.failure
    return Measured(found, width, height)


def check_image(file: StoredFile, content_type: str, rules: ImageRules) -> None:
    """Raises ObjectMismatch if the image does not obey the destination's ``IMAGE``."""
    image = measure_file(file, rules.formats)
    declared = content_types.usual_name(content_type.partition(";")[0].strip())
    same = {IMAGE_FORMATS[image.format], content_types.UNKNOWN}
    if image.format == "PNG":
        same.add("image/apng")
    if declared not in same:
        raise ObjectMismatch(Reason.OTHER_FORMAT, {"declared": declared, "found": image.format})
    size = {"width": image.width, "height": image.height}
    if image.width * image.height > rules.max_pixels:
        raise ObjectMismatch(Reason.TOO_MANY_PIXELS, {**size, "most": rules.max_pixels})
    if image.width < rules.min_width or image.height < rules.min_height:
        least = {"min_width": rules.min_width, "min_height": rules.min_height}
        raise ObjectMismatch(Reason.TOO_SMALL, {**size, **least})
    if image.width > (rules.max_width or image.width):
        raise ObjectMismatch(Reason.TOO_WIDE, {**size, "most": rules.max_width})
    if image.height > (rules.max_height or image.height):
        raise ObjectMismatch(Reason.TOO_HIGH, {**size, "most": rules.max_height})


def _size(file: StoredFile, format: str) -> tuple[int, int]:
    match format:
        case "PNG":
            return headers.png_size(file.start)
        case "WEBP":
            return headers.webp_size(file.start)
        case "JPEG":
            return headers.jpeg_size(_Reader(file))
        case "TIFF":
            return headers.tiff_size(_Reader(file))
    return _size_by_pillow(file, format)


def _size_by_pillow(file: StoredFile, format: str) -> tuple[int, int]:
    try:
        plugin: Any = import_string(PLUGINS[format])
    except ImportError as error:
        raise ImproperlyConfigured("To measure images, install Pillow.") from error
    file.seek(0)
    with plugin(_Reader(file)) as image:
        width, height = image.size
    return width, height
