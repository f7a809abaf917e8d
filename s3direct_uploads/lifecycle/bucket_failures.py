"""Whether S3 fails for one key, or for its whole bucket, which a sweep then leaves out."""

from __future__ import annotations

import logging
from collections import Counter

from django.core.exceptions import ImproperlyConfigured

from s3direct_uploads.exceptions import BucketMisconfigured, BucketUnavailable, ContentUnavailable
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import Bucket

from .rows import bucket_of

logger = logging.getLogger("s3direct_uploads")

GIVE_UP_AFTER = 5  # consecutive failures of a bucket in one sweep


class OfOneKey(BucketUnavailable):
    """S3 fails for this one key. For the bucket it answers.

    Such a failure may pass, and the file may be there. So the upload ends only if S3 fails again, a
    day after its first failure past the deadline.
    """


# These leave an upload pending past its deadline, because its object may be there, and nothing that
# a client can do causes them: a permission is missing, or S3 does not give the bytes of an object.
OURS = (BucketMisconfigured, ContentUnavailable)


class Buckets:
    """The buckets of one sweep. A bucket that fails several times is not asked any more."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Bucket | None] = {}
        self._failures: Counter[Bucket] = Counter()  # not by name: two servers may have the same

    def of(self, upload: Upload) -> Bucket | None:
        """The bucket of a row; None if it is not configured, or fails."""
        where = upload.storage, upload.bucket
        if where not in self._found:
            try:
                bucket = bucket_of(upload)
                bucket.probe()
            except (BucketUnavailable, ImproperlyConfigured):
                logger.error("This sweep leaves out the bucket %r, because it fails", upload.bucket)
                self._found[where] = None
            else:
                self._found[where] = bucket
        found = self._found[where]
        return None if found is None or self._failures[found] >= GIVE_UP_AFTER else found

    def judge(self, bucket: Bucket, error: BucketUnavailable) -> BucketUnavailable:
        """Find out whether the bucket failed, or only this key. Only the former is counted."""
        if bucket.is_away():
            self._failures[bucket] += 1
            return error
        self.answered(bucket)
        return error if isinstance(error, OURS) else OfOneKey(error.message, error.params)

    def answered(self, bucket: Bucket) -> None:
        self._failures[bucket] = 0

    def is_away(self, bucket: Bucket) -> bool:
        return self._failures[bucket] >= GIVE_UP_AFTER
