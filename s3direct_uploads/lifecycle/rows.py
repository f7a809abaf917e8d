"""Change a row by one conditional UPDATE: only if the row is still as it was read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Case, Q, Value, When
from django.utils import timezone

from s3direct_uploads import times
from s3direct_uploads.exceptions import BucketUnavailable
from s3direct_uploads.models import Upload, log_transition, write_first
from s3direct_uploads.s3 import Bucket, Declared, find_bucket

from . import quotas
from .connection import database

Status = Upload.Status


def move(
    upload: Upload,
    unchanged: Mapping[str, Any] | None = None,
    /,
    *,
    cause: str = "client",
    **changes: Any,
) -> bool:
    """Change the row by one UPDATE, if it is still as ``upload`` says. Returns whether it was.

    ``unchanged`` has more columns, with the values that they must still have. If the row was
    changed by somebody else, ``upload`` is read again.
    """
    status = upload.status
    while True:
        as_read = Upload.objects.using(database()).filter(
            pk=upload.pk, status=status, counted=upload.counted, **(unchanged or {})
        )
        with quotas.in_step([upload], changes):
            moved = as_read.update(**changes)
            if moved:
                quotas.follow([upload], changes)
        if moved:
            _take_over(upload, changes, cause)
            return True
        counted = upload.counted
        upload.refresh_from_db(using=database())
        if upload.counted == counted:
            return False
        # Only ``counted`` changed: try again.


def move_claimed(
    uploads: Collection[Upload],
    unchanged: Mapping[str, Any] | None = None,
    /,
    *,
    cause: str = "sweep",
    **changes: Any,
) -> list[Upload]:
    """As ``move``, for many rows that a sweep claimed. They must still have the claim's ``due_at``.

    Every other change of a row sets another ``due_at``. ``changes`` must contain a new one too.
    Returns the uploads that were changed.
    """
    if not uploads:
        return []
    rows = Upload.objects.using(database())
    claims = {upload.due_at for upload in uploads}
    named = {upload.pk: upload for upload in uploads}
    with quotas.in_step(uploads, changes):
        as_claimed = rows.filter(_as_read(uploads), due_at__in=claims, **(unchanged or {}))
        if as_claimed.update(**changes) < len(named):
            ours = rows.filter(pk__in=named, due_at=changes["due_at"]).values_list("pk", flat=True)
            named = {pk: named[pk] for pk in ours}
        quotas.follow(named.values(), changes)
    for upload in named.values():
        _take_over(upload, changes, cause)
    return list(named.values())


def move_together(
    uploads: Collection[Upload],
    each: Mapping[str, Mapping[UUID, Any]] | None = None,
    /,
    *,
    cause: str = "client",
    **changes: Any,
) -> list[Upload]:
    """As ``move``, for many rows of one status, by one UPDATE. Returns those that were changed.

    ``each`` has the columns in which the rows differ: their values by primary key. ``changes`` must
    contain a time that nobody else writes. A row that somebody else has locked is left out, and so
    is one that was changed: ``move`` these one by one. To wait here, with locks of other rows,
    could end in a deadlock.
    """
    if not uploads:
        return []
    rows = Upload.objects.using(database())
    named = {upload.pk: upload for upload in uploads}
    [status] = {upload.status for upload in uploads}
    differing = {column: _by_row(column, values) for column, values in (each or {}).items()}
    with quotas.in_step(uploads, changes), transaction.atomic(using=database(), savepoint=False):
        free = rows.filter(_as_read(uploads), status=status)
        free = free.select_for_update(skip_locked=True, no_key=True)
        if rows.filter(pk__in=free.values("pk")).update(**changes, **differing) < len(named):
            ours = rows.filter(pk__in=named, **changes).values_list("pk", flat=True)
            named = {pk: named[pk] for pk in ours}
        quotas.follow(named.values(), changes)
    for pk, upload in named.items():
        own = {column: values[pk] for column, values in (each or {}).items()}
        _take_over(upload, {**changes, **own}, cause)
    return list(named.values())


def _as_read(uploads: Collection[Upload]) -> Q:
    """These rows, if they still count in their owner's usage as they did."""
    counted = {upload.pk for upload in uploads if upload.counted}
    others = {upload.pk for upload in uploads} - counted
    return Q(pk__in=counted, counted=True) | Q(pk__in=others, counted=False)


def _by_row(column: str, values: Mapping[UUID, Any]) -> Any:
    """The value of this column for each row; one value if all rows have the same."""
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    return Case(*(When(pk=pk, then=Value(value)) for pk, value in values.items()))


def _take_over(upload: Upload, changes: Mapping[str, Any], cause: str) -> None:
    before = upload.status
    for field, value in changes.items():
        setattr(upload, field, value)
    if upload.status != before:
        log_transition(upload, before, cause)


def bury(
    upload: Upload,
    status: Status,
    *,
    of: Collection[Status] = (Status.PENDING,),
    cause: str = "client",
    **changes: Any,
) -> bool:
    """Make a tombstone of an upload in one of these states. Returns False if it is in another.

    It is due when its last URL has expired, and no process completes it any more. Such a process
    could still make an object after the URLs have expired.
    """
    while upload.status in of:
        as_read = {"url_expires_at": upload.url_expires_at, "busy_until": upload.busy_until}
        due_at = max(upload.key_closes_at, upload.busy_until or upload.key_closes_at)
        changes |= {"status": status, "due_at": due_at, "busy_until": None}
        if move(upload, as_read, cause=cause, **changes):
            return True
    return False


def forget(upload: Upload) -> None:
    """Delete a row if no client got a signature for it, and no other begin uses it."""
    idle = {"status": Status.PENDING, "busy_until": None, "multipart_upload_id": ""}
    with transaction.atomic(using=database()), quotas.in_step([upload], quotas.DELETION):
        write_first(database())
        rows = Upload.objects.using(database()).select_for_update()
        for idle_row in rows.filter(pk=upload.pk, **idle):
            idle_row.delete(using=database())


def lease(upload: Upload, length: timedelta) -> bool:
    """Reserve the multipart upload for this process. False if another one has it, or it changed."""
    now = timezone.now()
    if upload.busy_until is not None and now < upload.busy_until:
        return False
    as_read = {
        "busy_until": upload.busy_until,
        "multipart_upload_id": upload.multipart_upload_id,
    }
    return move(upload, as_read, busy_until=times.later(now, length))


def give_back(upload: Upload) -> None:
    """End this process's lease."""
    move(upload, {"busy_until": upload.busy_until}, busy_until=None)


def bucket_of(upload: Upload) -> Bucket:
    """The bucket of this row. Raises BucketUnavailable if it is not configured any more."""
    return find_bucket(upload.storage, upload.bucket)


def declared(upload: Upload) -> Declared:
    """What the client declared, as it is signed."""
    return Declared(
        size=upload.size,
        content_type=upload.content_type,
        checksum_algorithm=upload.checksum_algorithm,
        checksum=upload.checksum,
        parameters=upload.object_parameters,
    )


def is_bucket_away(upload: Upload) -> bool:
    """After a BucketUnavailable: whether S3 also fails for other keys than this upload's."""
    try:
        return bucket_of(upload).is_away()
    except BucketUnavailable:  # it is not configured here any more
        return False
