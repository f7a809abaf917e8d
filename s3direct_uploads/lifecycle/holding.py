"""A scan holds a confirmed upload until the host accepts or rejects it."""

from __future__ import annotations

import io
from collections.abc import Collection
from datetime import datetime, timedelta

from django.core.files.storage import storages
from django.utils import timezone
from django.utils.translation import gettext_noop as _

from s3direct_uploads import conf, reasons, signals, times
from s3direct_uploads.exceptions import (
    BucketUnavailable,
    NotHeld,
    ObjectMismatch,
    ObjectMissing,
    raises,
)
from s3direct_uploads.models import Upload
from s3direct_uploads.reasons import Reason

from .connection import database, refuse_transaction, release_connection
from .rows import Status, bucket_of, move_claimed
from .settling import complete, reject_for

# A scanner that is back is asked soon, also if it was away for most of HOLD_EXPIRES.
LONGEST_PAUSE = timedelta(hours=1)


@raises(NotHeld, ObjectMismatch, BucketUnavailable)
def accept(upload: Upload, *, cause: str = "scan") -> Upload:
    """Complete an upload that a scan holds. Idempotent. ``upload_completed`` gets ``cause``.

    S3 is asked once more. The object must be the one that was held: it must have the same ETag, and
    the same version if the bucket has versions.

    Returns the upload, completed. Raises ObjectMismatch (the object was replaced or deleted
    meanwhile: the upload is rejected now), NotHeld (it is pending, or ended in another way), and
    BucketUnavailable (nothing changed).
    """
    refuse_transaction("accept")
    if _is_held(upload):
        if not _is_unchanged(upload):
            reject_for(upload, Reason.CHANGED, cause, of=(Status.VERIFYING,))
            if upload.status == Status.REJECTED:
                raise ObjectMismatch(*reasons.read(upload.reason), upload=upload)
        else:
            complete(upload, cause)
    if upload.status != Status.COMPLETED:
        raise NotHeld(upload.is_now, upload=upload)
    return upload


@raises(NotHeld)
def reject(upload: Upload, reason: str, *, cause: str = "scan") -> Upload:
    """Reject an upload that a scan holds. Idempotent: the first reason stays.

    The client gets ``reason`` (its first 255 characters). The upload becomes a tombstone: a sweep
    deletes its object once no URL can write to its key.

    Returns the upload, rejected. Raises NotHeld if it is pending, or ended in another way.
    """
    refuse_transaction("reject")
    if _is_held(upload):
        reject_for(upload, reason, cause, of=(Status.VERIFYING,))
    if upload.status != Status.REJECTED:
        raise NotHeld(upload.is_now, upload=upload)
    return upload


@raises(NotHeld)
def open_held(upload: Upload) -> io.BufferedReader:
    """The object of an upload that a scan holds, as a file that you can read and seek in::

        with lifecycle.open_held(upload) as file:
            while chunk := file.read(1024**2): …

    It is always the object that was held, never one that replaced it. S3 sends the bytes while you
    read. If the connection breaks, the file continues at the same byte. Read it outside of
    transactions.

    Raises NotHeld. Reading raises ObjectMissing, ObjectMismatch (the object was replaced;
    ``accept`` would reject it), and BucketUnavailable.
    """
    refuse_transaction("open_held")
    if not _is_held(upload):
        raise NotHeld(upload.is_now, upload=upload)
    if _is_in_memory(upload):
        try:
            with storages[upload.storage].open(upload.name) as file:
                return io.BufferedReader(io.BytesIO(file.read()))
        except FileNotFoundError as error:
            raise ObjectMissing(_("The object is not there any more."), upload=upload) from error

    release_connection()
    return bucket_of(upload).open(
        upload.key, end=upload.size, etag=upload.etag, version_id=upload.version_id
    )


def _is_held(upload: Upload) -> bool:
    """Whether a scan holds it. The row is read again, because a worker's copy may be old."""
    upload.refresh_from_db(using=database())
    return upload.status == Status.VERIFYING


def _is_in_memory(upload: Upload) -> bool:
    """A host's tests have no S3: see testing.py."""
    return not upload.bucket


def _is_unchanged(upload: Upload) -> bool:
    if _is_in_memory(upload):
        return storages[upload.storage].exists(upload.name)

    release_connection()
    bucket = bucket_of(upload)
    try:
        found = bucket.head(upload.key)
    except ObjectMissing:
        bucket.probe()  # If the bucket is missing, S3 answers 404 for every key, too.
        return False
    except ObjectMismatch:
        return False
    return (found.etag, found.version_id) == (upload.etag, upload.version_id)


# The sweep calls these functions for uploads that no scan has answered.


def ask_again(upload: Upload) -> bool:
    """Send ``upload_held`` again. False if another sweep or the scan's answer was faster."""
    if not move_claimed([upload], due_at=_next_time(upload, timezone.now())):
        return False
    signals.upload_held.send_robust(Upload, upload=upload, cause="sweep")
    return True


def _next_time(upload: Upload, now: datetime) -> datetime:
    """After HOLD_RETRY, then after pauses that double; at the hold's end at the latest."""
    assert upload.held_at is not None
    pause = max(conf.hold_retry(), min(now - upload.held_at, LONGEST_PAUSE))
    return min(times.later(now, pause), upload.hold_ends_at)


def give_up(uploads: Collection[Upload]) -> list[Upload]:
    """Reject the uploads that were not scanned in time. Returns them."""
    rejected = move_claimed(
        uploads,
        {"status": Status.VERIFYING},
        status=Status.REJECTED,
        reason=Reason.NOT_SCANNED.value,
        due_at=timezone.now(),
    )
    for upload in rejected:
        signals.upload_rejected.send_robust(Upload, upload=upload)
    return rejected
