"""S3's limits on the size of an object and of its parts, and how a size is written for people."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from django.utils.formats import number_format
from django.utils.functional import lazy
from django.utils.translation import gettext, gettext_noop, ngettext

MIB = 1024**2
MAX_PUT_SIZE = 5 * 1024**3  # bytes: the most that S3 accepts in one PUT
MIN_PART_SIZE, MAX_PART_SIZE = 5 * 1024**2, MAX_PUT_SIZE  # bytes, of all parts but the last
MAX_PARTS = 10_000  # of one object
MAX_OBJECT_SIZE = MAX_PARTS * MAX_PART_SIZE  # bytes: "48.8 TiB" in S3's documentation


# As Django's filesizeformat, browsers and most systems write them: 1 kB is 1,024 bytes.
UNITS = (
    gettext_noop("%(number)s kB"),
    gettext_noop("%(number)s MB"),
    gettext_noop("%(number)s GB"),
    gettext_noop("%(number)s TB"),
)


def format_size(size: int) -> str:
    """A number of bytes for people: "20 MB", "1.5 kB", "1 byte", in the active language.

    ``inBytes`` of texts.js writes the same: a page shows one size by either.
    """
    if size < 1024:
        told = ngettext("%(number)s byte", "%(number)s bytes", size)
        return told % {"number": number_format(size, force_grouping=True)}
    power = min(len(UNITS), (size.bit_length() - 1) // 10)
    value = Decimal(size) / 1024**power
    digit = Decimal("0.1") if value < 100 else Decimal(1)
    value = value.quantize(digit, ROUND_HALF_UP)
    short = value.to_integral_value() if value == value.to_integral_value() else value
    return gettext(UNITS[power - 1]) % {"number": number_format(short, force_grouping=True)}


lazy_size = lazy(format_size, str)  # for an error's params
