"""Confirm: compare what S3 has with what was declared, and settle the row by the result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from s3direct_uploads import conf, content, destinations, reasons, signals, times
from s3direct_uploads.exceptions import (
    BucketUnavailable,
    HookFailed,
    MultipartGone,
    NotPending,
    ObjectMismatch,
    ObjectMissing,
    PartsIncomplete,
    UploadError,
    raises,
)
from s3direct_uploads.models import Upload
from s3direct_uploads.reasons import Reason
from s3direct_uploads.s3 import Bucket, StoredObject

from .connection import database, refuse_transaction, release_connection
from .multipart import abort_multiparts, find_or_complete
from .rows import Status, bucket_of, bury, move

logger = logging.getLogger("s3direct_uploads")

# If the handlers of a completion take longer than this, a sweep announces it again.
ANNOUNCE_LEASE = timedelta(minutes=5)
# The objects of tombstones are deleted a second time after this: S3 may store a last PUT slowly.
SECOND_CLEANING = timedelta(days=1)
# Rows are pruned after this. Until then, the owner and the admin can see how the upload ended.
PRUNE_AFTER = timedelta(days=7)
MAX_REASON_LENGTH = Upload._meta.get_field("reason").max_length
# What confirm found in S3: the object, or the error instead of it.
Found = StoredObject | ObjectMissing | MultipartGone | ObjectMismatch


@raises(
    ObjectMissing,
    PartsIncomplete,
    MultipartGone,
    NotPending,
    ObjectMismatch,
    BucketUnavailable,
    HookFailed,
)
def confirm(
    upload: Upload,
    *,
    cause: str = "client",
    find: Callable[[Upload], StoredObject | None] = find_or_complete,
) -> Upload:
    """Ask S3 for the object, compare it with the declaration, and settle the row. Idempotent.

    If the file was sent in parts, S3 first makes the object from them. ``cause`` says who calls:
    "client", "event", "sweep" or "store". ``find`` answers for S3 where a host's tests have none.

    Returns the upload: completed, verifying, or pending while another process completes it. Raises:

    - ObjectMissing, PartsIncomplete: the upload is still pending.
    - ObjectMismatch: the upload is rejected, now or before.
    - NotPending: the upload is expired, cancelled or deleted.
    - MultipartGone: S3 has neither the object nor the parts.
    - BucketUnavailable, HookFailed: nothing has changed.
    """
    refuse_transaction("confirm")
    if upload.status != Status.PENDING:
        return outcome(upload)
    asked_at = timezone.now()
    try:
        release_connection()
        stored = find(upload)
        if stored is None:  # another process completes it
            return outcome(upload)
        release_connection()
        examine(upload, stored)
        found: Found = stored
    except (ObjectMissing, MultipartGone, ObjectMismatch) as error:
        found = error
    return conclude(upload, found, asked_at=asked_at, cause=cause)


def conclude(upload: Upload, found: Found, *, asked_at: datetime, cause: str) -> Upload:
    """Settle the row by what S3 had. Returns or raises what ``confirm`` does."""
    settle(upload, found, asked_at=asked_at, cause=cause)
    if upload.status == Status.PENDING and isinstance(found, UploadError):
        found.upload = upload
        raise found
    return outcome(upload)


def examine(upload: Upload, stored: StoredObject, bucket: Bucket | None = None) -> None:
    """Compare what S3 has with what was declared, its content too if the destination wants it.

    It does not use the database. A thread that is not the request's gives it the ``bucket``.
    Raises ObjectMismatch, ObjectMissing if the object is gone by now, BucketUnavailable, and
    ImproperlyConfigured.
    """
    # The destination may have been renamed or removed since; the row knows all but its content.
    rules = destinations.find(upload.destination)
    _compare(upload, stored, rules)
    if rules is not None:
        content.check(rules, upload, stored, bucket)


def _compare(upload: Upload, stored: StoredObject, rules: destinations.Destination | None) -> None:
    if stored.size != upload.size:
        raise ObjectMismatch(Reason.OTHER_SIZE, {"declared": upload.size, "sent": stored.size})
    if stored.content_type != upload.content_type:
        raise ObjectMismatch(
            Reason.OTHER_TYPE if stored.content_type else Reason.NO_TYPE,
            {"declared": upload.content_type, "sent": stored.content_type},
        )
    found_checksum = stored.checksums.get(upload.checksum_algorithm)
    # Some servers keep no checksum.
    if upload.checksum and found_checksum is None and rules and rules.require_checksum:
        raise ObjectMismatch(Reason.NO_CHECKSUM, {"algorithm": upload.checksum_algorithm})
    if found_checksum not in (None, upload.checksum):
        raise ObjectMismatch(Reason.OTHER_CHECKSUM, {"algorithm": upload.checksum_algorithm})
    for name in stored.unsigned(upload.object_parameters):
        raise ObjectMismatch(Reason.UNSIGNED, {"name": name})


def settle(upload: Upload, found: Found, *, asked_at: datetime, cause: str) -> None:
    """Set the next status of a pending row, by what S3 had at ``asked_at``.

    The declared object completes the row, or holds it for a scan if its destination has HOLD. The
    host's ``verify`` may reject it, as any other object is rejected. Without an object, the row
    stays pending as long as an object can still arrive. After that it expires.
    """
    if isinstance(found, StoredObject):
        try:
            is_held = verify(upload, found)
        except ObjectMismatch as error:
            found = error
        else:
            said = {"etag": found.etag, "version_id": found.version_id}
            (hold if is_held else complete)(upload, cause, **said)
            return
    if isinstance(found, ObjectMismatch):
        reject_for(upload, str(found), cause)
    elif upload.gives_up_at <= asked_at and upload.status == Status.PENDING:
        _expire(upload, cause)


def verify(upload: Upload, stored: StoredObject) -> bool:
    """Let the host's ``verify`` look at the object. Returns whether a scan must hold the upload.

    Raises ObjectMismatch, HookFailed.
    """
    rules = destinations.find(upload.destination)
    if rules is None:  # it was renamed or removed since; then only its hook is missing
        return upload.hold
    release_connection()  # the hook may ask S3, too
    destinations.verify(rules, upload, stored)
    return rules.hold


def hold(upload: Upload, cause: str, **said: str) -> None:
    """Keep a confirmed upload from everybody, and ask for its scan."""
    now = timezone.now()
    due_at = times.later(now, min(conf.hold_retry(), conf.hold_expires()))
    changes = {"status": Status.VERIFYING, "held_at": now, "due_at": due_at, "busy_until": None}
    if move(upload, cause=cause, **changes, **said):
        signals.upload_held.send_robust(Upload, upload=upload, cause=cause)


def complete(upload: Upload, cause: str, **said: str) -> None:
    """Complete an upload that is as it was read, and announce it. ``said`` are S3's columns."""
    now = timezone.now()
    changes = {"status": Status.COMPLETED, "completed_at": now, "busy_until": None, **said}
    if not is_heard(upload):
        move(upload, cause=cause, due_at=None, announced_at=now, **changes)
        return
    # If this process dies before the handlers have run, a sweep runs them at this time.
    if move(upload, cause=cause, due_at=times.later(now, ANNOUNCE_LEASE), **changes):
        announce(upload, cause)


def is_heard(upload: Upload) -> bool:
    """Whether anything in this process acts on the completion. If not, ``announce`` calls nobody.

    A handler that only another process has is not called for this upload, by either way.
    """
    if signals.upload_completed.has_listeners(Upload):
        return True
    try:
        rules = destinations.find(upload.destination)
    except ImproperlyConfigured:
        return True  # so that ``announce`` reports it
    return rules is not None and rules.hears_completed


def announce(upload: Upload, cause: str) -> None:
    """Tell the host of a completion, and write down that it was told."""
    if tell(upload, cause):
        move(upload, announced_at=timezone.now(), due_at=None)


def tell(upload: Upload, cause: str) -> bool:
    """Call the destination's ``completed``, then send ``upload_completed``.

    Returns False if the host is told later, or if a handler deleted the upload.
    """
    try:
        rules = destinations.find(upload.destination)
    except ImproperlyConfigured:
        logger.exception("The upload %s is announced later: its destination is wrong", upload.pk)
        return False  # the row is due, so a sweep tries again
    if rules is not None:  # the destination may have been removed since
        destinations.completed(rules, upload)
    signals.upload_completed.send_robust(Upload, upload=upload, cause=cause)
    if upload.status != Status.COMPLETED:  # A handler's transaction may have rolled back since.
        upload.refresh_from_db(using=database())
    # A handler may have deleted it, which set a due_at.
    return bool(upload.status == Status.COMPLETED)


def reject_for(
    upload: Upload, reason: str, cause: str, of: Collection[Status] = (Status.PENDING,)
) -> None:
    """Make a tombstone of it, with a reason that its client is told."""
    reason = (destinations.as_storable(reason) or Reason.REFUSED)[:MAX_REASON_LENGTH]
    if bury(upload, Status.REJECTED, of=of, cause=cause, reason=reason):
        abort_multiparts(upload)
        signals.upload_rejected.send_robust(Upload, upload=upload)


def _expire(upload: Upload, cause: str) -> None:
    """Set a pending upload to expired, unless it was renewed or leased after it was read."""
    unchanged = {"url_expires_at": upload.url_expires_at, "busy_until": upload.busy_until}
    changes = {"status": Status.EXPIRED, "due_at": upload.key_closes_at}
    if move(upload, unchanged, cause=cause, **changes):
        abort_multiparts(upload)
        signals.upload_expired.send_robust(Upload, upload=upload)


def outcome(upload: Upload) -> Upload:
    """The answer for a row in this status. It is the same each time: confirm is idempotent.

    Raises ObjectMismatch if the upload is rejected, and NotPending if it is a tombstone otherwise.
    """
    match upload.status:
        # If it is pending, another process completes it.
        case Status.COMPLETED | Status.VERIFYING | Status.PENDING:
            return upload
        case Status.REJECTED:
            raise ObjectMismatch(*reasons.read(upload.reason), upload=upload)
    raise NotPending(upload.is_now, upload=upload)


# Tombstones.


def delete_object(upload: Upload) -> None:
    """Delete a tombstone's object, unless a valid URL could write it again."""
    now = timezone.now()
    if now < upload.key_closes_at:
        return
    release_connection()
    try:
        bucket_of(upload).delete(upload.key)
    except BucketUnavailable:
        return  # The row is due, so the sweep tries again.
    # If a sweep claimed it meanwhile, that sweep changes the row.
    move(upload, {"due_at": upload.due_at}, **cleaned(upload, now))


def cleaned(upload: Upload, now: datetime) -> dict[str, Any]:
    """The changes of a tombstone's row after its object was deleted, the first or second time."""
    if now < upload.key_closes_at + SECOND_CLEANING:
        return {"counted": False, "due_at": now + SECOND_CLEANING}
    return {"counted": False, "object_deleted_at": now, "due_at": now + PRUNE_AFTER}
