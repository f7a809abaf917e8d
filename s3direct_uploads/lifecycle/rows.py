"""The row: one conditional UPDATE moves it on, if it is still as it was read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from django.db import connections, router, transaction
from django.db.transaction import TransactionManagementError
from django.utils import timezone

from s3direct_uploads.bucket import Bucket, find_bucket
from s3direct_uploads.models import Upload

_View = TypeVar("_View", bound=Callable[..., Any])
Status = Upload.Status


def move(upload: Upload, unchanged: Mapping[str, Any] | None = None, /, **changes: Any) -> bool:
    """One UPDATE, if the row is still as ``upload`` has it; if not, ``upload`` becomes as it is."""
    as_read = Upload.objects.using(database()).filter(
        pk=upload.pk, status=upload.status, **(unchanged or {})
    )
    if not as_read.update(**changes):
        upload.refresh_from_db(using=database())
        return False
    for field, value in changes.items():
        setattr(upload, field, value)
    return True


def bury(upload: Upload, status: Status, **changes: Any) -> bool:
    """Make a tombstone of a pending upload, due when its key has closed, as last renewed."""
    while upload.status == Status.PENDING:
        as_read = {"url_expires_at": upload.url_expires_at}
        changes |= {"status": status, "due_at": upload.key_closes_at, "busy_until": None}
        if move(upload, as_read, **changes):
            return True
    return False


def forget(upload: Upload) -> None:
    """Delete a row of which no signature has left, unless another begin has it in hand."""
    idle = {"status": Status.PENDING, "busy_until": None, "multipart_upload_id": ""}
    Upload.objects.using(database()).filter(pk=upload.pk, **idle).delete()


def lease(upload: Upload, length: timedelta) -> bool:
    """Have the multipart upload to oneself, unless another has it or it has moved on."""
    now = timezone.now()
    if upload.busy_until is not None and now < upload.busy_until:
        return False
    as_read = {
        "busy_until": upload.busy_until,
        "multipart_upload_id": upload.multipart_upload_id,
    }
    return move(upload, as_read, busy_until=now + length)


def give_back(upload: Upload) -> None:
    move(upload, {"busy_until": upload.busy_until}, busy_until=None)


def bucket_of(upload: Upload) -> Bucket:
    return find_bucket(upload.storage, upload.bucket)


def database() -> str:
    # Of the replicas none may have seen the last UPDATE yet.
    return router.db_for_write(Upload)


def never_atomic(view: _View) -> _View:
    """For a view that calls what waits for S3: no transaction around it, ATOMIC_REQUESTS or not."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


def refuse_transaction(operation: str) -> None:
    blocks = connections[database()].atomic_blocks
    # As atomic(durable=True) does, which allows for the transaction around a TestCase.
    if blocks and not getattr(blocks[-1], "_from_testcase", False):
        raise TransactionManagementError(
            f"{operation}() waits for S3 and must not hold a transaction meanwhile: call it "
            "outside of atomic(), in a view that is lifecycle.never_atomic."
        )


def release_connection() -> None:
    """Give a pooled connection back before S3 is waited for: others have use for it."""
    connection = connections[database()]
    if connection.settings_dict["OPTIONS"].get("pool") and not connection.in_atomic_block:
        connection.close()
