"""S3's limits on the size of an object and of its parts, and how a size is written for people."""

from __future__ import annotations

MIB = 1024**2
MAX_PUT_SIZE = 5 * 1024**3  # bytes: the most that S3 accepts in one PUT
MIN_PART_SIZE, MAX_PART_SIZE = 5 * 1024**2, MAX_PUT_SIZE  # bytes, of all parts but the last
MAX_PARTS = 10_000  # of one object
MAX_OBJECT_SIZE = MAX_PARTS * MAX_PART_SIZE  # bytes: "48.8 TiB" in S3's documentation


def format_size(size: int) -> str:
    """A number of bytes for people, with up to four digits: "20 MiB", "1.5 KiB", "1 byte"."""
    value, units = float(size), iter(("bytes", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while value >= 1024 and unit != "TiB":
        value, unit = value / 1024, next(units)
    return "1 byte" if size == 1 else f"{value:.4g} {unit}"
