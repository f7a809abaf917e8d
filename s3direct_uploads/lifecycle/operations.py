"""What else is done to an upload: store it by a script, list its parts, cancel it, hear of it."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO

from django.utils import timezone
from django.utils.translation import gettext_noop as _

from s3direct_uploads import signals
from s3direct_uploads.exceptions import (
    AlreadyAttached,
    BucketUnavailable,
    HookFailed,
    MultipartGone,
    NotMultipart,
    NotPending,
    UploadError,
    raises,
)
from s3direct_uploads.models import TOMBSTONES, Upload, owner_key
from s3direct_uploads.s3 import StoredPart, is_access_point

from .beginning import Preparing, insert
from .connection import database, refuse_transaction, release_connection
from .multipart import abort_multiparts, require_multipart
from .presigning import extend_url
from .rows import Status, bucket_of, bury, declared, is_bucket_away, move
from .settling import confirm, delete_object

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

# If a hook fails while an event is handled, the sweep looks at the row again after this.
HOOK_RETRY = timedelta(minutes=5)


def store(
    file: BinaryIO,
    *,
    destination: str,
    filename: str = "",
    content_type: str = "",
    owner: AbstractBaseUser | None = None,
    context: Mapping[str, Any] | None = None,
) -> Upload:
    """Upload a file from a script by the same rules: begin, PUT and confirm in one call.

    These bytes pass through Django, up to 5 GiB. ``file`` must be seekable. If the destination has
    HOLD, a scan holds the upload that is returned. Raises what begin and confirm raise. Example::

        with open("beach.jpg", "rb") as file:
            upload = lifecycle.store(file, destination="photos")
    """
    refuse_transaction("store")
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]
    named = getattr(file, "name", None)
    upload = Upload(
        owner_id=None if owner is None else owner_key(owner),
        destination=destination,
        filename=filename or (os.path.basename(named) if isinstance(named, str) else ""),
        content_type=content_type,
        size=size,
        checksum_algorithm="SHA256",
        checksum=base64.b64encode(digest).decode(),
        context=dict(context or {}),
    )
    Preparing(None).prepare(upload, multipart=None)
    extend_url(upload)
    insert(upload, "store")
    file.seek(0)
    release_connection()
    try:
        bucket_of(upload).put(upload.key, file, declared(upload))
    except BucketUnavailable:
        cancel(upload)
        raise
    return confirm(upload, cause="store")


@raises(NotMultipart, NotPending, MultipartGone, BucketUnavailable)
def list_parts(upload: Upload) -> list[StoredPart]:
    """The parts that S3 has, for resuming.

    Raises NotMultipart, NotPending, BucketUnavailable, and MultipartGone. After MultipartGone the
    upload may be completed: confirm it.
    """
    refuse_transaction("list_parts")
    require_multipart(upload)
    if upload.status != Status.PENDING:
        raise NotPending(upload.is_now, upload=upload)
    if not upload.multipart_upload_id:
        return []
    release_connection()
    try:
        return bucket_of(upload).list_parts(upload.key, upload.multipart_upload_id)
    except MultipartGone as error:
        error.upload = upload
        raise


@raises(AlreadyAttached)
def cancel(upload: Upload) -> None:
    """Give up an upload that is pending or held by a scan, or delete a completed one. Idempotent.

    Parts are aborted at once. The object is deleted once no URL can write to its key any more, here
    or by a later sweep.

    Raises AlreadyAttached.
    """
    refuse_transaction("cancel")
    if bury(upload, Status.CANCELLED, of=(Status.PENDING, Status.VERIFYING)):
        abort_multiparts(upload)
        signals.upload_cancelled.send_robust(Upload, upload=upload)
    # Not "else": another process may have completed it a moment ago.
    if (
        upload.status == Status.COMPLETED
        and upload.attached_at is None
        and move(upload, {"attached_at": None}, status=Status.DELETED, due_at=upload.key_closes_at)
    ):
        delete_object(upload)
    if upload.status == Status.COMPLETED:
        raise AlreadyAttached(_("This upload is in use."), upload=upload)


def notice(bucket: str, key: str) -> Upload | None:
    """Handle an S3 event: confirm the upload with this key, or delete a tombstone's object again.

    The event is only a reason to look into the row's own bucket; nothing in it is believed. Returns
    the row after confirm, also if confirm failed; None if no row has the key. Raises
    BucketUnavailable: then nothing has changed.
    """
    refuse_transaction("notice")
    try:
        upload = Upload.objects.using(database()).get(key=key)
        # For an access point, S3 names the bucket behind it, which we do not know.
        if upload.bucket != bucket and not is_access_point(upload.bucket):
            return None
        if upload.status in TOMBSTONES:
            due_at = max(timezone.now(), upload.key_closes_at)
            move(upload, cause="event", due_at=due_at, object_deleted_at=None)
            return upload
        try:
            return confirm(upload, cause="event")
        except BucketUnavailable:
            if is_bucket_away(upload):
                raise
            return upload  # other events must not wait for this one; a sweep looks again
        except HookFailed:
            # If S3 sent this event again, it would delay the events after it.
            move(upload, cause="event", due_at=timezone.now() + HOOK_RETRY)
            return upload
        except UploadError:
            return upload
    except Upload.DoesNotExist:  # no row has the key, or the row was deleted meanwhile
        return None
