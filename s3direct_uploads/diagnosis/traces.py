"""What the diagnosis puts into the bucket, and how all of it is deleted again."""

from __future__ import annotations

from collections.abc import Callable

from django.core.exceptions import ImproperlyConfigured

from s3direct_uploads.exceptions import UploadError
from s3direct_uploads.s3 import Bucket, Refusal


class Traces:
    """The keys and multipart uploads that have to be deleted in the end."""

    def __init__(self, bucket: Bucket) -> None:
        self.keys: list[str] = []  # an object may be at each of these
        self.unfinished: list[tuple[str, str]] = []  # keys and ids of multipart uploads
        self.keeps_versions = False  # then a 404 does not prove that nothing is left
        self._bucket = bucket

    def has(self, key: str) -> bool | None:
        """Whether an object is at this key; None if S3 does not say."""
        try:
            self._bucket.ask("head_object", Key=key)
        except Refusal as refusal:
            return False if refusal.status == 404 else None
        return True

    def some_key(self) -> str | None:
        """The key of an object that is there; None if there is none."""
        return next((each for each in self.keys if self.has(each)), None)

    def clean(self, *, again: bool = True) -> list[str]:
        """Delete everything, and return the keys at which something could not be deleted.

        With ``again``, a KeyboardInterrupt or SystemExit is raised only after the rest is deleted.
        A second one is raised at once.
        """
        left = []
        try:
            while self.unfinished:
                key, upload_id = self.unfinished[-1]
                if not _done(self._bucket.abort_multipart, key, upload_id):
                    left.append(key)
                self.unfinished.pop()
            while self.keys:
                key = self.keys[-1]
                if not _done(self._bucket.delete, key) and (
                    self.keeps_versions or self.has(key) is not False
                ):
                    left.append(key)
                self.keys.pop()
        except (KeyboardInterrupt, SystemExit):
            if again:
                self.clean(again=False)
            raise
        return left


def _done(operation: Callable[..., None], *arguments: str) -> bool:
    try:
        operation(*arguments)
    except (UploadError, ImproperlyConfigured):
        return False
    return True
