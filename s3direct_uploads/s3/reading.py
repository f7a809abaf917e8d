"""Read an object as a file. It fetches only what is needed, always from the same object."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext_noop as _

from s3direct_uploads.exceptions import BucketUnavailable, ContentUnavailable, ObjectMismatch
from s3direct_uploads.reasons import Reason

from .failures import failures

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

BUFFER = 1024**2  # bytes
TRIES = 5  # to read on where a connection broke


class Reading:
    """The part of a bucket that reads. Nothing else asks S3 for the bytes of an object."""

    name: str
    _client: S3Client

    def open(self, key: str, *, end: int, etag: str, version_id: str = "") -> io.BufferedReader:
        """The object that has this ETag and version, from S3 as it is read, up to ``end``.

        ``end`` is the object's size in bytes, or less. Reading raises ObjectMissing, ObjectMismatch
        (another object is there now), and ContentUnavailable.
        """
        asked = {"Bucket": self.name, "Key": key}
        if version_id:
            asked["VersionId"] = version_id
        return io.BufferedReader(ObjectFile(self._client, asked, end, etag), BUFFER)

    def read(self, key: str, start: int, length: int, *, etag: str, version_id: str = "") -> bytes:
        """These bytes of it, by one request. Raises what reading raises."""
        with self.open(key, end=start + length, etag=etag, version_id=version_id) as file:
            file.seek(start)
            return file.read(length)


class ObjectFile(io.RawIOBase):
    """One request reads to the end. After a seek or a broken connection a new request is sent."""

    def __init__(self, client: S3Client, asked: dict[str, Any], end: int, etag: str) -> None:
        self._client, self._asked, self._end, self._etag = client, asked, end, etag
        self._at = 0
        self._body: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        if at < 0:
            raise ValueError(f"There is no position {at}.")
        if at != self._at:
            self._hang_up()
        self._at = at
        return at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._end - self._at)
        if wanted <= 0:
            return 0
        chunk = self._read(wanted)
        buffer[: len(chunk)] = chunk
        self._at += len(chunk)
        return len(chunk)

    def close(self) -> None:
        self._hang_up()
        super().close()

    def _read(self, wanted: int) -> bytes:
        """Some of these bytes: at least one. Where the connection broke, another one reads on."""
        tries = TRIES
        while True:
            if self._body is None:
                self._body = self._ask()
            try:
                with failures("GetObject"):
                    chunk: bytes = self._body.read(wanted)
                if chunk:
                    return chunk
                raise BucketUnavailable(_("S3 sent less than the object has."))
            except BucketUnavailable as error:
                self._hang_up()
                tries -= 1
                if not tries:
                    raise ContentUnavailable(error.message, error.params) from error

    def _ask(self) -> Any:
        wanted = f"bytes={self._at}-{self._end - 1}"
        try:
            with failures("GetObject"):
                answer = self._client.get_object(**self._asked, Range=wanted)
        except BucketUnavailable as error:
            raise ContentUnavailable(error.message, error.params) from error
        problem = self._problem(answer)
        if problem is not None:
            answer["Body"].close()
            raise problem
        return answer["Body"]

    def _problem(self, answer: Any) -> ObjectMismatch | ContentUnavailable | None:
        """Why this is not what was asked for."""
        etag = answer.get("ETag", "")
        # Compared here and not by If-Match, because not every server knows that.
        if self._etag and etag and _strong(etag) != _strong(self._etag):
            return ObjectMismatch(Reason.REPLACED)
        # Some servers and proxies ignore Range, and send everything.
        if (self._etag and not etag) or (self._at and "ContentRange" not in answer):
            return ContentUnavailable(_("S3 does not answer as it should; try again later."))
        return None

    def _hang_up(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None


def _strong(etag: str) -> str:
    return etag.removeprefix("W/")  # which a proxy adds that compresses some answers
