"""The size of an image, by its header: read by hand.

Pillow reads more of these formats than the header. It unpacks the texts of a PNG, lists all strips
of a TIFF, and reads the notes of a JPEG: from a small file it makes hundreds of MiB.
"""

from __future__ import annotations

import io
from typing import Literal

MOST_ENTRIES = 65_535  # of a TIFF's directory, which has a number of two bytes
# ITU T.81, table B.1. The first begin a frame; the others have no length after them.
JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
JPEG_ALONE = {0x01, *range(0xD0, 0xD8)}
JPEG_PIXELS = 0xDA
JPEG_ENDS = {0xD8, 0xD9, JPEG_PIXELS}  # after these no frame can begin
TIFF_SIZES = {256: "width", 257: "height"}
TIFF_NUMBERS = {3: 2, 4: 4, 16: 8}  # types of whole numbers, and their bytes


def png_size(start: bytes) -> tuple[int, int]:
    """RFC 2083, 4.1.1: IHDR is the first chunk."""
    if start[8:16] != b"\0\0\0\rIHDR" or len(start) < 33:
        raise ValueError("It does not begin with IHDR.")
    return _positive(int.from_bytes(start[16:20]), int.from_bytes(start[20:24]))


def webp_size(start: bytes) -> tuple[int, int]:
    """RFC 9649, and RFC 6386 for "VP8 "."""
    kind, data = start[12:16], start[20:30]
    if len(data) < 10:
        raise ValueError("It ends within its header.")
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little")
    if kind == b"VP8L" and data[0] == 0x2F:
        bits = int.from_bytes(data[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and data[3:6] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (6, 8))
        return _positive(width, height)
    raise ValueError("Its first chunk is unknown.")


def jpeg_size(file: io.BufferedReader) -> tuple[int, int]:
    """From segment to segment, until the pixels begin. Only what begins the frame is read."""
    file.seek(2)
    found: tuple[int, int] | None = None
    while True:
        while _read(file, 1) != b"\xff":
            pass  # as other readers do, it skips what does not belong there
        marker = 0xFF
        while marker == 0xFF:  # padding
            marker = _read(file, 1)[0]
        if marker == 0 or marker in JPEG_ALONE:
            continue
        length = int.from_bytes(_read(file, 2))
        if marker == JPEG_PIXELS and found is not None:
            return found
        if marker in JPEG_ENDS or (marker in JPEG_FRAMES and found is not None):
            raise ValueError("It has no frame, or several.")
        if marker in JPEG_FRAMES:
            frame = _read(file, 5)
            found = _positive(int.from_bytes(frame[3:5]), int.from_bytes(frame[1:3]))
            length -= 5
        file.seek(max(length - 2, 0), io.SEEK_CUR)


def tiff_size(file: io.BufferedReader) -> tuple[int, int]:
    """TIFF 6.0, section 2, and BigTIFF: of the first directory."""
    file.seek(0)
    start = _read(file, 16)
    order: Literal["little", "big"] = "little" if start[:2] == b"II" else "big"
    is_big = start[2:4] in (b"+\0", b"\0+")
    long = 8 if is_big else 4  # bytes of an offset, and of a count

    def number(data: bytes) -> int:
        return int.from_bytes(data, order)

    file.seek(number(start[8:16] if is_big else start[4:8]))
    count = number(_read(file, 8 if is_big else 2))
    if count > MOST_ENTRIES:
        raise ValueError("Its directory is too long.")
    length = 4 + 2 * long
    directory = _read(file, count * length)
    found: dict[str, int] = {}
    for at in range(0, len(directory), length):
        name = TIFF_SIZES.get(number(directory[at : at + 2]))
        if name:
            size = TIFF_NUMBERS[number(directory[at + 2 : at + 4])]
            value = at + 4 + long
            # If it is said twice, readers differ in which one they take.
            found[name] = max(found.get(name, 0), number(directory[value : value + size]))
    return _positive(found["width"], found["height"])


def _read(file: io.BufferedReader, length: int) -> bytes:
    found = file.read(length)
    if len(found) < length:
        raise EOFError("It ends within its header.")
    return found


def _positive(width: int, height: int) -> tuple[int, int]:
    if not width or not height:
        raise ValueError("It has no pixels.")
    return width, height
