"""S3's limits on the size of an object and of its parts, and how a size is written for people."""

from __future__ import annotations

from django.utils.formats import number_format
from django.utils.functional import lazy
from django.utils.translation import ngettext

MIB = 1024**2
MAX_PUT_SIZE = 5 * 1024**3  # bytes: the most that S3 accepts in one PUT
MIN_PART_SIZE, MAX_PART_SIZE = 5 * 1024**2, MAX_PUT_SIZE  # bytes, of all parts but the last
MAX_PARTS = 10_000  # of one object
MAX_OBJECT_SIZE = MAX_PARTS * MAX_PART_SIZE  # bytes: "48.8 TiB" in S3's documentation


def format_size(size: int) -> str:
    """A number of bytes for people, with up to four digits: "20 MiB", "1.5 KiB", "1 byte".

    It is in the active language.
    """
    if size < 1024:
        return ngettext("%(count)d byte", "%(count)d bytes", size) % {"count": size}
    value, units = size / 1024, iter(("KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while value >= 1024 and unit != "TiB":
        value, unit = value / 1024, next(units)
    return f"{number_format(f'{value:.4g}')} {unit}"


lazy_size = lazy(format_size, str)  # for an error's params
