"""Multipart uploads: create, complete and abort them in S3, one process at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_noop as _

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

# One process at a time creates or completes a multipart upload, under a lease. Two Creates would
# leave a multipart upload that no row knows, and S3 may refuse a second Complete. A lease is longer
# than each of them takes.
CREATE_LEASE = timedelta(seconds=15)
COMPLETE_LEASE = timedelta(seconds=COMPLETE_READ_TIMEOUT + 30)


def require_multipart(upload: Upload) -> None:
    """Raises NotMultipart if the file is sent by one PUT."""
    if not upload.is_multipart:
        raise NotMultipart(_("This upload has no parts."), upload=upload)


def create_multipart(upload: Upload) -> None:
    """Create the multipart upload in S3, under the lease that the row already has.

    Then the lease is given back, unless S3's answer was lost.
    """
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
    # The upload was cancelled meanwhile, or another process has the lease now.
    bucket.abort_multipart(upload.key, upload_id)
    _require_created(upload)


def _require_created(upload: Upload) -> None:
    if upload.status != Status.PENDING:
        raise NotPending(upload.is_now, upload=upload)
    if not upload.multipart_upload_id:
        raise BucketUnavailable(
            _("Another request is creating the multipart upload."), upload=upload
        )


def create_again(upload: Upload) -> None:
    """Create the multipart upload if the first Create, or its answer, was lost.

    S3 may have a multipart upload that no row knows, so all of this key are aborted first.
    """
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
    """Find the object at the key. If the file was sent in parts, S3 makes the object from them.

    Returns None while another process completes the same upload. Raises ObjectMissing,
    PartsIncomplete, MultipartGone, ObjectMismatch, BucketUnavailable.
    """
    bucket = bucket_of(upload)
    if not upload.is_multipart:
        return bucket.head(upload.key)
    if upload.busy_until is not None:
        # Another process had a lease. It may have died after S3 had made the object.
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
        raise  # The lease is kept: S3 may still be working, and may refuse a second Complete.
    except UploadError:
        give_back(upload)
        raise
    try:
        return bucket.head(upload.key)
    except ObjectMissing:
        give_back(upload)
        raise MultipartGone(_("S3 has neither the object nor the parts any more.")) from None


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
    """The numbers of the parts that are "missing" or have the "wrong_size"; {} if all is well."""
    sizes = {part.part_number: part.size for part in parts}
    expected = {number: upload.size_of_part(number) for number in range(1, upload.part_count + 1)}
    wrong = {
        "missing": [number for number in expected if number not in sizes],
        "wrong_size": [n for n, size in sizes.items() if size != expected.get(n, -1)],
    }
    return {what: numbers for what, numbers in wrong.items() if numbers}


def abort_multiparts(upload: Upload) -> None:
    """Abort every multipart upload at a tombstone's key, also those of a lost Create."""
    if not upload.is_multipart:
        return
    release_connection()
    try:
        bucket_of(upload).abort_multiparts(upload.key)
    except BucketUnavailable:
        pass  # The row is due, so the sweep tries again.
