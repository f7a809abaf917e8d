"""What happens to an upload, from begin to its end: the only place where row and bucket meet.

S3 is never asked from within a transaction. The row says what is about to be, S3 is asked, and one
conditional UPDATE settles it; who comes second finds the row settled, and answers from it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import IntegrityError, connections, router, transaction
from django.db.transaction import TransactionManagementError
from django.http import HttpRequest
from django.utils import timezone

from . import conf, destinations, keys, signals
from .bucket import STORED_UNSIGNED, PresignedRequest, StoredObject, find_bucket, get_bucket
from .exceptions import (
    AlreadyAttached,
    BucketUnavailable,
    IdempotencyKeyReused,
    NotCompleted,
    NotPending,
    ObjectMismatch,
    ObjectMissing,
)
from .models import Upload

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

_View = TypeVar("_View", bound=Callable[..., Any])

Status = Upload.Status

DECLARATION = (
    "destination",
    "filename",
    "content_type",
    "size",
    "checksum_algorithm",
    "checksum",
    "context",
)
# How long the handlers of a completion may take before it is announced again.
ANNOUNCE_LEASE = timedelta(minutes=5)
# Tombstones are cleaned once more after this: S3 may have been slow to store a last PUT.
SECOND_CLEANING = timedelta(days=1)
# If-None-Match turns a browser's cache off for the request, of which it then tells the server, by
# the Fetch standard: Chromium with the one, Firefox with the other. Neither does any harm.
BROWSERS_OWN = {"CacheControl": ("max-age=0", "no-cache")}
# What a browser shows without running scripts of the uploader's. An SVG is a page.
INLINE_TYPES = re.compile(r"image/(?!svg\b)|video/|audio/|application/pdf$")


def begin(
    *,
    owner: AbstractBaseUser | AnonymousUser | None,
    destination: str,
    filename: str,
    size: int,
    content_type: str = "",
    checksum_algorithm: str = "",
    checksum: str = "",
    context: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
    request: HttpRequest | None = None,
) -> tuple[Upload, PresignedRequest | None]:
    """Record a pending upload and presign its PUT. One INSERT; S3 is not asked.

    ``size`` is in bytes, ``checksum`` in base64. With an ``idempotency_key`` that its owner used
    before it answers with that upload, freshly signed; None if there is nothing to be sent.

    Raises ValidationError (by field), PermissionDenied, IdempotencyKeyReused, BucketUnavailable,
    StorageNotS3, and ImproperlyConfigured where the settings are wrong.
    """
    owner_id = getattr(owner, "pk", None)
    if idempotency_key is not None and owner_id is None:
        raise ValueError("An idempotency key is its owner's: name one.")
    upload = Upload(
        owner_id=owner_id,
        destination=destination,
        filename=filename,
        content_type=content_type,
        size=size,
        checksum_algorithm=checksum_algorithm,
        checksum=checksum,
        context=dict(context or {}),
        idempotency_key=idempotency_key,
    )
    expires = _prepare(upload, request)
    if idempotency_key is None:
        upload.save(force_insert=True)
    else:
        try:
            with transaction.atomic(using=_database()):
                upload.save(force_insert=True)
        except IntegrityError:
            earlier = _begun_before(upload)
            if earlier is None:
                raise
            return _begin_again(earlier, upload)
    try:
        return upload, _presign_put(upload, expires)
    except (BucketUnavailable, ImproperlyConfigured):
        upload.delete()  # no signature has left, so no row need remember it
        raise


def store(
    file: BinaryIO,
    *,
    destination: str,
    filename: str = "",
    content_type: str = "",
    owner: AbstractBaseUser | None = None,
    context: Mapping[str, Any] | None = None,
) -> Upload:
    """Upload from a script: begin, PUT, confirm, by the same rules. ``file`` must be seekable.

    Django carries these bytes, up to 5 GiB. Raises what begin and confirm raise.
    """
    _refuse_transaction("store")
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]
    named = getattr(file, "name", None)
    upload = Upload(
        owner_id=getattr(owner, "pk", None),
        destination=destination,
        filename=filename or (os.path.basename(named) if isinstance(named, str) else ""),
        content_type=content_type,
        size=size,
        checksum_algorithm="SHA256",
        checksum=base64.b64encode(digest).decode(),
        context=dict(context or {}),
    )
    _prepare(upload, None)
    upload.save(force_insert=True)
    file.seek(0)
    _release_connection()
    try:
        get_bucket(upload.storage).put(
            upload.key, file, size=upload.size, parameters=_put_parameters(upload)
        )
    except BucketUnavailable:
        cancel(upload)
        raise
    return confirm(upload, cause="store")


def confirm(upload: Upload, *, cause: str = "client") -> Upload:
    """HEAD the object, hold it against the declaration, settle the row. Idempotent.

    ``cause`` is who noticed: "client", "event", "sweep" or "store".
    Returns the upload, completed or still verifying. Raises ObjectMissing (it is still pending),
    ObjectMismatch (it is rejected, now or before), NotPending, BucketUnavailable (nothing changed).
    """
    _refuse_transaction("confirm")
    if upload.status == Status.PENDING:
        _release_connection()
        try:
            stored = find_bucket(upload.storage, upload.bucket).head(upload.key)
            _compare(upload, stored)
        except ObjectMissing:
            # A PUT that began before the deadline may still be under way after it.
            if max(upload.expires_at, upload.key_closes_at) <= timezone.now():
                _settle_as_expired(upload)
        except ObjectMismatch as error:
            _settle_as_rejected(upload, error)
        else:
            _settle_as_completed(upload, stored, cause)
    return _outcome(upload)


def renew(upload: Upload) -> PresignedRequest:
    """Sign the same declaration anew, until the upload's deadline at the latest.

    Raises NotPending, BucketUnavailable, and past the deadline ObjectMismatch as confirm does.
    """
    if upload.status == Status.PENDING and upload.expires_at <= timezone.now():
        try:
            confirm(upload)
        except ObjectMissing:
            raise NotPending("The deadline of this upload has passed.", upload=upload) from None
    while upload.status == Status.PENDING:
        as_read = {"url_expires_at": upload.url_expires_at}
        expires = _extend_url(upload)
        # The row knows how long the signature lives before there is one.
        if _move(upload, as_read, url_expires_at=upload.url_expires_at, due_at=upload.due_at):
            return _presign_put(upload, expires)
    raise NotPending(f"This upload is {upload.status}.", upload=upload)


def cancel(upload: Upload) -> None:
    """Give up a pending upload, or delete a completed one that no model holds. Idempotent.

    The object is deleted once nothing can write to its key any more: here, or by a later sweep.
    Raises AlreadyAttached, NotPending (a scan holds it).
    """
    _refuse_transaction("cancel")
    if _bury(upload, Status.CANCELLED):
        signals.upload_cancelled.send_robust(Upload, upload=upload)
    # Also where a confirm came first, meanwhile.
    if (
        upload.status == Status.COMPLETED
        and upload.attached_at is None
        and _move(upload, {"attached_at": None}, status=Status.DELETED, due_at=upload.key_closes_at)
    ):
        _delete_object(upload)
    if upload.status == Status.COMPLETED:
        raise AlreadyAttached("This upload is in use.", upload=upload)
    if upload.status == Status.VERIFYING:
        raise NotPending("This upload is being verified.", upload=upload)


def presign_download(upload: Upload, *, inline: bool = False) -> PresignedRequest:
    """A GET of a completed upload, as an attachment unless ``inline``.

    Raises NotCompleted, BucketUnavailable, ValidationError for a type that is not safe inline.
    """
    if upload.status != Status.COMPLETED:
        raise NotCompleted(f"This upload is {upload.status}.", upload=upload)
    if inline and not is_safe_inline(upload.content_type):
        error = ValidationError("Files of this type are only downloaded.", code="not_inline")
        raise ValidationError({"disposition": error})
    return find_bucket(upload.storage, upload.bucket).presign_get(
        upload.key,
        filename=upload.filename,
        inline=inline,
        version_id=upload.version_id,
        expires=conf.url_expires(),
    )


def is_safe_inline(content_type: str) -> bool:
    return INLINE_TYPES.match(content_type) is not None


# Before the row.


def _prepare(upload: Upload, request: HttpRequest | None) -> timedelta:
    """Hold what is declared against the rules, and decide where and how long."""
    rules = destinations.get(upload.destination)
    rules.clean(upload, request)
    bucket = get_bucket(rules.storage)
    prefix = rules.get_prefix(upload, request)
    name = keys.new_name(
        bucket.name, bucket.location, prefix, upload.filename, conf.max_name_length()
    )
    upload.storage = rules.storage
    upload.bucket = bucket.name
    upload.key = keys.join(bucket.location, name)
    upload.object_parameters = bucket.object_parameters(upload.key, rules.acl)
    upload.expires_at = upload.created_at + conf.pending_expires()
    return _extend_url(upload)


def _begun_before(upload: Upload) -> Upload | None:
    same = {"owner": upload.owner_id, "idempotency_key": upload.idempotency_key}
    return Upload.objects.using(_database()).filter(**same).first()


def _begin_again(earlier: Upload, upload: Upload) -> tuple[Upload, PresignedRequest | None]:
    if any(getattr(earlier, field) != getattr(upload, field) for field in DECLARATION):
        raise IdempotencyKeyReused(
            "This Idempotency-Key was used for another upload.", upload=earlier
        )
    try:
        return earlier, renew(earlier)
    except (NotPending, ObjectMismatch):
        return earlier, None  # the row says how it ended


def _extend_url(upload: Upload) -> timedelta:
    """How long a signature made now lives; never past the deadline."""
    now = timezone.now()
    expires = min(conf.url_expires(), upload.expires_at - now)
    expires = max(timedelta(seconds=int(expires.total_seconds())), timedelta(seconds=1))
    # An older signature may live longer, if URL_EXPIRES was lowered since.
    upload.url_expires_at = max(now + expires, upload.url_expires_at or now)
    upload.due_at = upload.url_expires_at + conf.sweep_grace()
    return expires


def _presign_put(upload: Upload, expires: timedelta) -> PresignedRequest:
    return find_bucket(upload.storage, upload.bucket).presign_put(
        upload.key, size=upload.size, parameters=_put_parameters(upload), expires=expires
    )


def _put_parameters(upload: Upload) -> dict[str, Any]:
    """What a PUT signs beside its length, in boto3's words."""
    parameters = {**upload.object_parameters, "ContentType": upload.content_type}
    if upload.checksum:
        # Ceph compares the checksum only where the algorithm is named as well.
        parameters["ChecksumAlgorithm"] = upload.checksum_algorithm
        parameters[f"Checksum{upload.checksum_algorithm}"] = upload.checksum
    return parameters


# What S3 holds against what was declared.


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
        rules.verify(upload, stored)


def _settle_as_completed(upload: Upload, stored: StoredObject, cause: str) -> None:
    now = timezone.now()
    if _move(
        upload,
        status=Status.COMPLETED,
        etag=stored.etag,
        version_id=stored.version_id,
        completed_at=now,
        # Where this process dies before its handlers ran, the sweep announces it then.
        due_at=now + ANNOUNCE_LEASE,
    ):
        signals.upload_completed.send_robust(Upload, upload=upload, cause=cause)
        if upload.status == Status.COMPLETED:  # a handler that deleted it has set a due_at
            _move(upload, announced_at=timezone.now(), due_at=None)


def _settle_as_rejected(upload: Upload, error: ObjectMismatch) -> None:
    reason = (error.detail or "Refused.")[: Upload._meta.get_field("reason").max_length]
    if _bury(upload, Status.REJECTED, reason=reason):
        signals.upload_rejected.send_robust(Upload, upload=upload)


def _settle_as_expired(upload: Upload) -> None:
    # Only if no signature was made since the row was read.
    unchanged = {"url_expires_at": upload.url_expires_at}
    if _move(upload, unchanged, status=Status.EXPIRED, due_at=upload.key_closes_at):
        signals.upload_expired.send_robust(Upload, upload=upload)


def _outcome(upload: Upload) -> Upload:
    """The answer that a settled row gives, the first time and every time after."""
    match upload.status:
        case Status.COMPLETED | Status.VERIFYING:
            return upload
        case Status.PENDING:
            raise ObjectMissing("Nothing has been uploaded yet.", upload=upload)
        case Status.REJECTED:
            raise ObjectMismatch(upload.reason, upload=upload)
    raise NotPending(f"This upload is {upload.status}.", upload=upload)


def _delete_object(upload: Upload) -> None:
    """Delete a tombstone's object, unless a live URL could put another in its place."""
    now = timezone.now()
    if now < upload.key_closes_at:
        return
    _release_connection()
    try:
        find_bucket(upload.storage, upload.bucket).delete(upload.key)
    except BucketUnavailable:
        return  # the row is due, so the sweep tries again
    if now < upload.key_closes_at + SECOND_CLEANING:
        _move(upload, due_at=upload.key_closes_at + SECOND_CLEANING)
    else:
        _move(upload, object_deleted_at=now, due_at=None)


# The row.


def _bury(upload: Upload, status: Status, **changes: Any) -> bool:
    """Make a tombstone of a pending upload, due when its key has closed, as last renewed."""
    while upload.status == Status.PENDING:
        as_read = {"url_expires_at": upload.url_expires_at}
        if _move(upload, as_read, status=status, due_at=upload.key_closes_at, **changes):
            return True
    return False


def _move(upload: Upload, unchanged: Mapping[str, Any] | None = None, /, **changes: Any) -> bool:
    """One UPDATE, if the row is still as ``upload`` has it; if not, ``upload`` becomes as it is."""
    as_read = Upload.objects.using(_database()).filter(
        pk=upload.pk, status=upload.status, **(unchanged or {})
    )
    if not as_read.update(**changes):
        upload.refresh_from_db(using=_database())
        return False
    for field, value in changes.items():
        setattr(upload, field, value)
    return True


def _database() -> str:
    # Of the replicas none may have seen the last UPDATE yet.
    return router.db_for_write(Upload)


def never_atomic(view: _View) -> _View:
    """For a view that calls what waits for S3: no transaction around it, ATOMIC_REQUESTS or not."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


def _refuse_transaction(operation: str) -> None:
    blocks = connections[_database()].atomic_blocks
    # As atomic(durable=True) does, which allows for the transaction around a TestCase.
    if blocks and not getattr(blocks[-1], "_from_testcase", False):
        raise TransactionManagementError(
            f"{operation}() waits for S3 and must not hold a transaction meanwhile: call it "
            "outside of atomic(), in a view that is lifecycle.never_atomic."
        )


def _release_connection() -> None:
    """Give a pooled connection back before S3 is waited for: others have use for it."""
    connection = connections[_database()]
    if connection.settings_dict["OPTIONS"].get("pool") and not connection.in_atomic_block:
        connection.close()
