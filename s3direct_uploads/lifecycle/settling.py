"""What S3 holds against what was declared, and how that settles the row."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from s3direct_uploads import destinations, signals
from s3direct_uploads.bucket import STORED_UNSIGNED, StoredObject
from s3direct_uploads.exceptions import (
    BucketUnavailable,
    MultipartGone,
    NotPending,
    ObjectMismatch,
    ObjectMissing,
)
from s3direct_uploads.models import Upload

from .connection import refuse_transaction, release_connection
from .multipart import abort_multiparts, find_object
from .rows import Status, bucket_of, bury, move

# How long the handlers of a completion may take before it is announced again.
ANNOUNCE_LEASE = timedelta(minutes=5)
# Tombstones are cleaned once more after this: S3 may have been slow to store a last PUT.
SECOND_CLEANING = timedelta(days=1)
# How long it can still be seen, by its owner and in the admin, what became of an upload.
PRUNE_AFTER = timedelta(days=7)
# If-None-Match turns a browser's cache off for the request, of which it then tells the server, by
# the Fetch standard: Chromium with the one, Firefox with the other. Neither does any harm.
BROWSERS_OWN = {"CacheControl": ("max-age=0", "no-cache")}


def confirm(
    upload: Upload,
    *,
    cause: str = "client",
    look: Callable[[Upload], StoredObject | None] = find_object,
) -> Upload:
    """HEAD the object, hold it against the declaration, settle the row. Idempotent.

    Of a multipart upload S3 makes the object first, of the parts that it lists. ``cause`` is who
    noticed: "client", "event", "sweep" or "store"; ``look`` is how S3 is asked.

    Returns the upload: completed, still verifying, or pending while another process completes it.
    Raises ObjectMissing or its PartsIncomplete (it is still pending), MultipartGone,
    ObjectMismatch (it is rejected, now or before), NotPending, and BucketUnavailable or HookFailed
    (nothing changed).
    """
    refuse_transaction("confirm")
    if upload.status == Status.PENDING:
        release_connection()
        asked_at = timezone.now()
        try:
            stored = look(upload)
            if stored is not None:
                _compare(upload, stored)
        except (ObjectMissing, MultipartGone) as error:
            # S3 was asked for a while, so it may have been settled meanwhile, or sent.
            if upload.gives_up_at <= asked_at and upload.status == Status.PENDING:
                settle_as_expired(upload, cause)
            if upload.status == Status.PENDING:
                error.upload = upload
                raise
        except ObjectMismatch as error:
            _settle_as_rejected(upload, error, cause)
        else:
            if stored is not None:
                _settle_as_completed(upload, stored, cause)
    return _outcome(upload)


def _compare(upload: Upload, stored: StoredObject) -> None:
    if stored.size != upload.size:
        raise ObjectMismatch(f"{upload.size} bytes were declared, {stored.size} were sent.")
    if stored.content_type != upload.content_type:
        raise ObjectMismatch(
            f"{upload.content_type} was declared, {stored.content_type or 'nothing'} was sent."
        )
    rules = destinations.find(upload.destination)
    found_checksum = stored.checksums.get(upload.checksum_algorithm)
    # Not every server keeps a checksum.
    if upload.checksum and found_checksum is None and rules and rules.require_checksum:
        raise ObjectMismatch(f"The storage knows no {upload.checksum_algorithm} to compare.")
    if found_checksum not in (None, upload.checksum):
        raise ObjectMismatch(f"The {upload.checksum_algorithm} is not the one declared.")
    for name in STORED_UNSIGNED:
        found, signed = stored.parameters.get(name), upload.object_parameters.get(name) or None
        if found != signed and (signed or found not in BROWSERS_OWN.get(name, ())):
            raise ObjectMismatch(f"A header was sent that nobody signed: {name}.")
    # A destination that was renamed or removed since has no say; the row knows the rest.
    if rules is not None:
        destinations.verify(rules, upload, stored)


def _settle_as_completed(upload: Upload, stored: StoredObject, cause: str) -> None:
    now = timezone.now()
    if move(
        upload,
        cause=cause,
        status=Status.COMPLETED,
        etag=stored.etag,
        version_id=stored.version_id,
        completed_at=now,
        busy_until=None,
        # Where this process dies before its handlers ran, the sweep announces it then.
        due_at=now + ANNOUNCE_LEASE,
    ):
        announce(upload, cause)


def announce(upload: Upload, cause: str) -> None:
    signals.upload_completed.send_robust(Upload, upload=upload, cause=cause)
    if upload.status == Status.COMPLETED:  # a handler that deleted it has set a due_at
        move(upload, announced_at=timezone.now(), due_at=None)


def _settle_as_rejected(upload: Upload, error: ObjectMismatch, cause: str) -> None:
    reason = (error.detail or "Refused.")[: Upload._meta.get_field("reason").max_length]
    if bury(upload, Status.REJECTED, cause=cause, reason=reason):
        abort_multiparts(upload)
        signals.upload_rejected.send_robust(Upload, upload=upload)


def settle_as_expired(upload: Upload, cause: str) -> None:
    # Only if no signature was made since the row was read, and nobody else completes it.
    unchanged = {"url_expires_at": upload.url_expires_at, "busy_until": upload.busy_until}
    changes = {"status": Status.EXPIRED, "due_at": upload.key_closes_at}
    if move(upload, unchanged, cause=cause, **changes):
        abort_multiparts(upload)
        signals.upload_expired.send_robust(Upload, upload=upload)


def _outcome(upload: Upload) -> Upload:
    """The answer that a settled row gives, the first time and every time after."""
    match upload.status:
        case Status.COMPLETED | Status.VERIFYING | Status.PENDING:  # the last: another completes it
            return upload
        case Status.REJECTED:
            raise ObjectMismatch(upload.reason, upload=upload)
    raise NotPending(f"This upload is {upload.status}.", upload=upload)


def delete_object(upload: Upload) -> None:
    """Delete a tombstone's object, unless a live URL could put another in its place."""
    now = timezone.now()
    if now < upload.key_closes_at:
        return
    release_connection()
    try:
        bucket_of(upload).delete(upload.key)
    except BucketUnavailable:
        return  # the row is due, so the sweep tries again
    # Unless a sweep has taken it up meanwhile, which then counts it out.
    move(upload, {"due_at": upload.due_at}, **cleaned(upload, now))


def cleaned(upload: Upload, now: datetime) -> dict[str, Any]:
    """What a tombstone's row says once its object was deleted: the first time, or for good."""
    if now < upload.key_closes_at + SECOND_CLEANING:
        return {"counted": False, "due_at": now + SECOND_CLEANING}
    return {"counted": False, "object_deleted_at": now, "due_at": now + PRUNE_AFTER}
