"""An object in S3 as a file. Only the bytes that are read are fetched."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from django.core.files.storage import storages
from django.utils.translation import gettext_noop as _

from s3direct_uploads.exceptions import ContentUnavailable, ObjectMismatch, UploadError
from s3direct_uploads.reasons import Reason
from s3direct_uploads.s3 import Bucket, StoredObject, find_bucket

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from s3direct_uploads.models import Upload

Read = Callable[[int, int], bytes]  # (position of the first byte, number of bytes)

# The last signature that puremagic knows ends at byte 36,870. Most headers of images are shorter.
FIRST_BYTES = 40 * 1024
MAX_FETCH = 1024**2  # bytes, of one request
# A JPEG may have megabytes of notes (EXIF, XMP, thumbnails) before it says how large it is.
MAX_BYTES = 4 * 1024**2
MAX_REQUESTS = 16


class StoredFile(io.RawIOBase):
    """A file to read from and to seek in. Each request fetches more than the one before it.

    Raises ObjectMismatch after ``max_bytes`` or MAX_REQUESTS, and what ``read`` raises.
    """

    def __init__(self, read: Read, size: int, *, max_bytes: int = MAX_BYTES) -> None:
        self.size = size  # bytes, of the whole object
        self.max_bytes = max_bytes
        self.failure: UploadError | None = None  # kept, because a library may catch the error
        self._read = read
        self._chunks: dict[int, bytes] = {}  # the key is the position of the first byte
        self._fetched = 0
        self._next = FIRST_BYTES
        self._position = 0

    @property
    def start(self) -> bytes:
        """The first bytes: the whole file, if it is small."""
        return bytes(self._chunk(0)[:FIRST_BYTES]) if self.size else b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError("That is before the beginning of the file.")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self._position >= self.size:
            return 0
        view = memoryview(buffer).cast("B")
        piece = self._chunk(self._position)[: len(view)]
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def _chunk(self, position: int) -> memoryview:
        """The bytes from this position on: at least one. A view, so that they are not copied."""
        for start, chunk in self._chunks.items():
            if start <= position < start + len(chunk):
                return memoryview(chunk)[position - start :]
        length = min(self._next, self.size - position)
        try:
            if self._fetched + length > self.max_bytes or len(self._chunks) >= MAX_REQUESTS:
                raise ObjectMismatch(Reason.LONG_HEADER)
            chunk = self._read(position, length)
        except UploadError as error:
            self.failure = error
            raise
        self._chunks[position] = chunk
        self._fetched += length
        self._next = min(2 * self._next, MAX_FETCH)
        return memoryview(chunk)


def open_stored(
    upload: Upload,
    stored: StoredObject,
    *,
    bucket: Bucket | None = None,
    max_bytes: int = MAX_BYTES,
) -> StoredFile:
    """What a HEAD found, as a file. Nothing is fetched before it is read, and no more than a bit.

    For a ``verify`` hook that looks into the file by a library of its own:
    ``io.BufferedReader(open_stored(upload, stored))``. Reading raises ObjectMismatch after
    ``max_bytes``, ObjectMissing, and BucketUnavailable. A scan reads all of a file, by
    ``lifecycle.open_held``.
    """
    return StoredFile(_reader(upload, stored, bucket), stored.size, max_bytes=max_bytes)


def _reader(upload: Upload, stored: StoredObject, bucket: Bucket | None) -> Read:
    if not upload.bucket:  # a host's tests keep it in memory: see testing.py

        def read_file(start: int, length: int) -> bytes:
            with storages[upload.storage].open(upload.name) as file:
                file.seek(start)
                found: bytes = file.read(length)
                return found

        return read_file
    of_row = bucket or find_bucket(upload.storage, upload.bucket)
    pinned = {"etag": stored.etag, "version_id": stored.version_id}

    def read(start: int, length: int) -> bytes:
        try:
            return of_row.read(upload.key, start, length, **pinned)
        except ObjectMismatch as error:  # replaced since the HEAD, so the next one finds another
            raise ContentUnavailable(
                _("The object changed while it was read; try again.")
            ) from error

    return read
