"""Multipart uploads: what S3 keeps of them. One process at a time creates or completes one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.core.exceptions import ImproperlyConfigured

from s3direct_uploads.exceptions import (
    AnswerLost,
    BucketUnavailable,
    MultipartGone,
    NotMultipart,
    NotPending,
    ObjectMissing,
    PartsIncomplete,
    UploadError,
)
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import COMPLETE_READ_TIMEOUT, Bucket, StoredObject, StoredPart

from .connection import refuse_transaction, release_connection
from .rows import Status, bucket_of, declared, give_back, lease, move

# One process at a time creates or completes a multipart upload, under a lease: two Creates leave
# one that no row knows, and S3 may refuse a second Complete. A lease is longer than either takes.
CREATE_LEASE = timedelta(seconds=15)
COMPLETE_LEASE = timedelta(seconds=COMPLETE_READ_TIMEOUT + 30)


def require_multipart(upload: Upload) -> None:
    if not upload.is_multipart:
        raise NotMultipart("This upload has no parts.", upload=upload)


def create_multipart(upload: Upload) -> None:
    """Ask S3 for the multipart upload, under the lease that the row already has; give it back."""
    mine = {"busy_until": upload.busy_until}
    release_connection()
    bucket = bucket_of(upload)
    try:
        upload_id = bucket.create_multipart(upload.key, declared(upload))
    except AnswerLost:
        raise  # The lease is kept: S3 may still create it.
    except (BucketUnavailable, ImproperlyConfigured):
        give_back(upload)
        raise
    if move(upload, mine, multipart_upload_id=upload_id, busy_until=None):
        return
    # The upload was cancelled meanwhile, or another process has the lease by now.
    bucket.abort_multipart(upload.key, upload_id)
    _require_created(upload)


def _require_created(upload: Upload) -> None:
    if upload.status != Status.PENDING:
        raise NotPending(f"This upload is {upload.status}.", upload=upload)
    if not upload.multipart_upload_id:
        raise BucketUnavailable("Another request is about to create it.", upload=upload)


def create_again(upload: Upload) -> None:
    """Create it after a Create was lost, or its answer: S3 may have one that no row knows."""
    refuse_transaction("renew")
    if not lease(upload, CREATE_LEASE):
        _require_created(upload)
        return
    release_connection()
    try:
        bucket_of(upload).abort_multiparts(upload.key)
    except BucketUnavailable:
        give_back(upload)
        raise
    create_multipart(upload)


def find_or_complete(upload: Upload) -> StoredObject | None:
    """What S3 has at the key. S3 makes the object of its parts first, if there are parts.

    Returns None while another process completes the same upload. Raises ObjectMissing,
    PartsIncomplete, MultipartGone, ObjectMismatch, BucketUnavailable.
    """
    bucket = bucket_of(upload)
    if not upload.is_multipart:
        return bucket.head(upload.key)
    if upload.busy_until is not None:
        # The process that had the lease may have died after S3 had made the object.
        try:
            return bucket.head(upload.key)
        except ObjectMissing:
            pass
    if not lease(upload, COMPLETE_LEASE):
        return None
    if not upload.multipart_upload_id:
        give_back(upload)
        raise PartsIncomplete({"missing": range(1, upload.part_count + 1)})
    release_connection()
    try:
        _complete(upload, bucket)
    except MultipartGone:
        pass  # Somebody completed or aborted it already.
    except AnswerLost:
        raise  # The lease is kept: S3 may still work on it, and may refuse a second Complete.
    except UploadError:
        give_back(upload)
        raise
    try:
        return bucket.head(upload.key)
    except ObjectMissing:
        give_back(upload)
        raise MultipartGone("S3 has neither the object nor the parts any more.") from None


def _complete(upload: Upload, bucket: Bucket) -> None:
    parts = bucket.list_parts(upload.key, upload.multipart_upload_id)
    wrong = wrong_parts(upload, parts)
    if wrong:
        raise PartsIncomplete(wrong)
    try:
        bucket.complete_multipart(upload.key, upload.multipart_upload_id, parts, declared(upload))
    except PartsIncomplete:
        now = set(bucket.list_parts(upload.key, upload.multipart_upload_id))
        replaced = [part.part_number for part in parts if part not in now]
        raise PartsIncomplete({"replaced": replaced}) from None


def wrong_parts(upload: Upload, parts: Sequence[StoredPart]) -> dict[str, list[int]]:
    sizes = {part.part_number: part.size for part in parts}
    expected = {number: upload.size_of_part(number) for number in range(1, upload.part_count + 1)}
    wrong = {
        "missing": [number for number in expected if number not in sizes],
        "wrong_size": [n for n, size in sizes.items() if size != expected.get(n, -1)],
    }
    return {what: numbers for what, numbers in wrong.items() if numbers}


def abort_multiparts(upload: Upload) -> None:
    """Abort every multipart upload at a tombstone's key, those of a lost Create included."""
    if not upload.is_multipart:
        return
    release_connection()
    try:
        bucket_of(upload).abort_multiparts(upload.key)
    except BucketUnavailable:
        pass  # The row is due, so the sweep tries again.
