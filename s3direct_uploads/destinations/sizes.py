"""S3's limits on the size of an object and of its parts, and how a size is written for people."""

from __future__ import annotations

from decimal import Decimal

from django.utils.formats import number_format
from django.utils.functional import lazy
from django.utils.translation import gettext, gettext_noop, ngettext

MIB = 1024**2
MAX_PUT_SIZE = 5 * 1024**3  # bytes: the most that S3 accepts in one PUT
MIN_PART_SIZE, MAX_PART_SIZE = 5 * 1024**2, MAX_PUT_SIZE  # bytes, of all parts but the last
MAX_PARTS = 10_000  # of one object
MAX_OBJECT_SIZE = MAX_PARTS * MAX_PART_SIZE  # bytes: "48.8 TiB" in S3's documentation


# As in Django's filesizeformat, 1 kB is 1,024 bytes.
UNITS = (
    gettext_noop("%(number)s kB"),
    gettext_noop("%(number)s MB"),
    gettext_noop("%(number)s GB"),
    gettext_noop("%(number)s TB"),
)


def format_size(size: int, *, beside: int | None = None) -> str:
    """A number of bytes for people: "20 MB", "1.5 kB", "1 byte", in the active language.

    ``beside`` is another size that the reader sees. If the two would look the same, this one is
    written in bytes: a file of 1.9 MB is not too large for "at most 1.9 MB".

    ``inBytes`` of texts.js writes the same.
    """
    told = _rounded(size)
    return _in_bytes(size) if beside is not None and told == _rounded(beside) else told


def _rounded(size: int) -> str:
    if size < 1024:
        return _in_bytes(size)
    power = min(len(UNITS), (size.bit_length() - 1) // 10)
    unit = 1024**power
    # In whole numbers, because a client may declare a size with hundreds of digits.
    number: int | Decimal = (2 * size + unit) // (2 * unit)
    if size < 100 * unit:
        whole, tenth = divmod((20 * size + unit) // (2 * unit), 10)
        number = Decimal(f"{whole}.{tenth}") if tenth else whole
    return gettext(UNITS[power - 1]) % {"number": number_format(number, force_grouping=True)}


def _in_bytes(size: int) -> str:
    told = ngettext("%(number)s byte", "%(number)s bytes", size)
    return told % {"number": number_format(size, force_grouping=True)}


lazy_size = lazy(format_size, str)  # for an error's params
