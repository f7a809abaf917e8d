"""Read an object as a file. It fetches only what is needed, always from the same object."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from s3direct_uploads.exceptions import BucketUnavailable, ObjectMismatch, ObjectMissing

from .failures import code_of, failures, status_of

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

BUFFER = 1024**2  # bytes
TRIES = 5  # to read on where a connection broke


class Reading:
    """The part of a bucket that reads."""

    name: str
    _client: S3Client

    def open(self, key: str, *, size: int, etag: str, version_id: str = "") -> io.BufferedReader:
        """The object that has this ETag and version, from S3 as it is read. ``size`` is in bytes.

        Reading raises ObjectMissing, ObjectMismatch (another object is there now),
        BucketUnavailable.
        """
        asked = {"Bucket": self.name, "Key": key}
        if version_id:
            asked["VersionId"] = version_id
        return io.BufferedReader(ObjectFile(self._client, asked, size, etag), BUFFER)


class ObjectFile(io.RawIOBase):
    """One request reads to the end. After a seek or a broken connection a new request is sent."""

    def __init__(self, client: S3Client, asked: dict[str, Any], size: int, etag: str) -> None:
        self._client, self._asked, self._size, self._etag = client, asked, size, etag
        self._at = 0
        self._body: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if at < 0:
            raise ValueError(f"There is no position {at}.")
        if at != self._at:
            self._hang_up()
        self._at = at
        return at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        for left in reversed(range(TRIES)):
            try:
                chunk = self._read(wanted)
                break
            except BucketUnavailable:
                self._hang_up()
                if not left:
                    raise
        buffer[: len(chunk)] = chunk
        self._at += len(chunk)
        return len(chunk)

    def close(self) -> None:
        self._hang_up()
        super().close()

    def _read(self, wanted: int) -> bytes:
        with failures("GetObject"):
            if self._body is None:
                self._body = self._ask()
            chunk: bytes = self._body.read(wanted)
        if not chunk:
            raise BucketUnavailable("S3 sent less than the object has.")
        return chunk

    def _ask(self) -> Any:
        asked = {**self._asked, "Range": f"bytes={self._at}-"} if self._at else self._asked
        try:
            answer = self._client.get_object(**asked)
        except ClientError as error:
            if status_of(error) == 404 and code_of(error) != "NoSuchBucket":
                raise ObjectMissing("The object is not there any more.") from error
            raise
        body = answer["Body"]
        # Compared here and not by If-Match: not every server knows that.
        if answer.get("ETag") != self._etag:
            body.close()
            raise ObjectMismatch("Another object is there now.")
        if self._at and answer["ResponseMetadata"]["HTTPStatusCode"] != 206:
            body.close()
            raise BucketUnavailable("S3 does not send a part of an object.")
        return body

    def _hang_up(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None
