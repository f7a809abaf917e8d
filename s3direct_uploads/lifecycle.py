"""What happens to an upload, from begin to its end: the only place where row and bucket meet.

S3 is never asked from within a transaction. The row says what is about to be, S3 is asked, and one
conditional UPDATE settles it; who comes second finds the row settled, and answers from it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import IntegrityError, connections, router, transaction
from django.db.transaction import TransactionManagementError
from django.http import HttpRequest
from django.utils import timezone

from . import conf, destinations, keys, signals
from .bucket import (
    COMPLETE_READ_TIMEOUT,
    STORED_UNSIGNED,
    Bucket,
    PresignedMultipart,
    PresignedPart,
    PresignedRequest,
    StoredObject,
    StoredPart,
    find_bucket,
    get_bucket,
    takes_parts_only,
)
from .exceptions import (
    AlreadyAttached,
    AnswerLost,
    BucketUnavailable,
    IdempotencyKeyReused,
    MultipartGone,
    NotCompleted,
    NotMultipart,
    NotPending,
    ObjectMismatch,
    ObjectMissing,
    PartsIncomplete,
    UploadError,
)
from .models import Upload

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

_View = TypeVar("_View", bound=Callable[..., Any])
Presigned = PresignedRequest | PresignedMultipart

Status = Upload.Status

DECLARATION = (
    "destination",
    "filename",
    "content_type",
    "size",
    "checksum_algorithm",
    "checksum",
    "context",
    "is_multipart",
)
FIRST_PARTS = 100  # that begin signs; whoever sends faster asks for more meanwhile
# One process at a time creates or completes a multipart upload: two Creates leave one that no row
# knows, and a second Complete is a conflict to S3. Longer than either takes at the most.
CREATE_LEASE = timedelta(seconds=15)
COMPLETE_LEASE = timedelta(seconds=COMPLETE_READ_TIMEOUT + 30)
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
    multipart: bool = False,
    idempotency_key: str | None = None,
    request: HttpRequest | None = None,
) -> tuple[Upload, Presigned | None]:
    """Record a pending upload and presign its PUT. One INSERT; S3 is not asked.

    With ``multipart`` a file of more than one part is sent in parts: S3 is asked for a multipart
    upload, and the first of them are presigned. So is every file, asked or not, where the storage's
    ``overwrite_guard`` is "multipart". ``size`` is in bytes, ``checksum`` in base64. With
    an ``idempotency_key`` that its owner used before it answers with that upload, freshly signed;
    None if there is nothing to be sent.

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
    expires = _prepare(upload, request, multipart=multipart)
    if upload.is_multipart:
        _refuse_transaction("begin")
        upload.busy_until = timezone.now() + CREATE_LEASE
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
            try:
                return _begin_again(earlier, upload)
            except Upload.DoesNotExist:  # it failed meanwhile, and left no row
                raise BucketUnavailable("The request before this one failed; try again.") from None
    try:
        if not upload.is_multipart:
            return upload, _presign_put(upload, expires)
        _create_multipart(upload)
        return upload, _presign_first_parts(upload, expires)
    except (BucketUnavailable, ImproperlyConfigured) as error:
        if upload.multipart_upload_id or isinstance(error, AnswerLost):
            # S3 has what only this row can find. Its key begins it again; without, nobody.
            if idempotency_key is None:
                _bury(upload, Status.CANCELLED)
        else:
            _forget(upload)
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
    _prepare(upload, None, multipart=None)
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

    Of a multipart upload S3 makes the object first, of the parts that it lists. ``cause`` is who
    noticed: "client", "event", "sweep" or "store".

    Returns the upload: completed, still verifying, or pending while another process completes it.
    Raises ObjectMissing or its PartsIncomplete (it is still pending), MultipartGone,
    ObjectMismatch (it is rejected, now or before), NotPending, BucketUnavailable (nothing changed).
    """
    _refuse_transaction("confirm")
    if upload.status == Status.PENDING:
        _release_connection()
        try:
            stored = _find_object(upload)
            if stored is not None:
                _compare(upload, stored)
        except (ObjectMissing, MultipartGone) as error:
            # A PUT that began before the deadline may still be under way after it.
            over = max(upload.expires_at, upload.key_closes_at) <= timezone.now()
            if over and upload.status == Status.PENDING:  # which S3 was asked about for a while
                _settle_as_expired(upload)
            if upload.status == Status.PENDING:
                error.upload = upload
                raise
        except ObjectMismatch as error:
            _settle_as_rejected(upload, error)
        else:
            if stored is not None:
                _settle_as_completed(upload, stored, cause)
    return _outcome(upload)


def renew(upload: Upload) -> Presigned:
    """Sign the same declaration anew, until the upload's deadline at the latest.

    Raises NotPending, BucketUnavailable, and past the deadline ObjectMismatch as confirm does.
    """
    expires = _lengthen(upload)
    if not upload.is_multipart:
        return _presign_put(upload, expires)
    if not upload.multipart_upload_id:
        _create_again(upload)
    return _presign_first_parts(upload, expires)


def sign_parts(
    upload: Upload, part_numbers: Collection[int]
) -> tuple[list[PresignedPart], timedelta]:
    """A PUT for each of these parts, and how long they live. Part numbers begin at 1.

    Raises NotMultipart, ValidationError, and what renew raises.
    """
    _require_multipart(upload)
    beyond = [number for number in part_numbers if not 1 <= number <= upload.part_count]
    if beyond:
        error = ValidationError(
            f"This upload has the parts 1 to {upload.part_count}.",
            code="out_of_range",
            params={"max_part_number": upload.part_count},
        )
        raise ValidationError({"part_numbers": error})
    expires = _lengthen(upload)
    if not upload.multipart_upload_id:
        _create_again(upload)
    return _presign_parts(upload, part_numbers, expires), expires


def list_parts(upload: Upload) -> list[StoredPart]:
    """The parts that S3 has, for resuming.

    Raises NotMultipart, NotPending, MultipartGone (it may be completed: confirm tells),
    BucketUnavailable.
    """
    _refuse_transaction("list_parts")
    _require_multipart(upload)
    if upload.status != Status.PENDING:
        raise NotPending(f"This upload is {upload.status}.", upload=upload)
    if not upload.multipart_upload_id:
        return []
    _release_connection()
    try:
        return _bucket(upload).list_parts(upload.key, upload.multipart_upload_id)
    except MultipartGone as error:
        error.upload = upload
        raise


def cancel(upload: Upload) -> None:
    """Give up a pending upload, or delete a completed one that no model holds. Idempotent.

    Parts are given up at once. The object is deleted once nothing can write to its key any more:
    here, or by a later sweep.
    Raises AlreadyAttached, NotPending (a scan holds it).
    """
    _refuse_transaction("cancel")
    if _bury(upload, Status.CANCELLED):
        _abort_multiparts(upload)
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
    return _bucket(upload).presign_get(
        upload.key,
        filename=upload.filename,
        inline=inline,
        version_id=upload.version_id,
        expires=conf.url_expires(),
    )


def is_safe_inline(content_type: str) -> bool:
    return INLINE_TYPES.match(content_type) is not None


# Before the row.


def _prepare(upload: Upload, request: HttpRequest | None, *, multipart: bool | None) -> timedelta:
    """Hold what is declared against the rules, and decide where, how and how long."""
    rules = destinations.get(upload.destination)
    upload.part_size = rules.part_size_of(upload.size) if multipart else None
    # Whoever asked: a URL for one PUT could be used again. A script is handed none.
    if multipart is not None and takes_parts_only(rules.storage):
        upload.part_size = rules.part_size_of(upload.size) or rules.part_size
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
    life = conf.multipart_expires() if upload.is_multipart else conf.pending_expires()
    upload.expires_at = upload.created_at + life
    return _extend_url(upload)


def _begun_before(upload: Upload) -> Upload | None:
    same = {"owner": upload.owner_id, "idempotency_key": upload.idempotency_key}
    return Upload.objects.using(_database()).filter(**same).first()


def _begin_again(earlier: Upload, upload: Upload) -> tuple[Upload, Presigned | None]:
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


def _lengthen(upload: Upload) -> timedelta:
    """How long a signature of a pending upload lives; the row knows it before there is one."""
    if upload.status == Status.PENDING and upload.expires_at <= timezone.now():
        try:
            confirm(upload)
        except (ObjectMissing, MultipartGone):
            pass
        if upload.status == Status.PENDING:
            raise NotPending("The deadline of this upload has passed.", upload=upload)
    while upload.status == Status.PENDING:
        as_read = {"url_expires_at": upload.url_expires_at}
        expires = _extend_url(upload)
        if _move(upload, as_read, url_expires_at=upload.url_expires_at, due_at=upload.due_at):
            return expires
    raise NotPending(f"This upload is {upload.status}.", upload=upload)


def _presign_put(upload: Upload, expires: timedelta) -> PresignedRequest:
    return _bucket(upload).presign_put(
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


def _presign_first_parts(upload: Upload, expires: timedelta) -> PresignedMultipart:
    assert upload.part_size is not None
    first = range(1, min(FIRST_PARTS, upload.part_count) + 1)
    return PresignedMultipart(
        part_size=upload.part_size,
        part_count=upload.part_count,
        parts=_presign_parts(upload, first, expires),
        expires_in=int(expires.total_seconds()),
    )


def _presign_parts(
    upload: Upload, part_numbers: Iterable[int], expires: timedelta
) -> list[PresignedPart]:
    return _bucket(upload).presign_parts(
        upload.key,
        upload.multipart_upload_id,
        {number: upload.size_of_part(number) for number in part_numbers},
        expires=expires,
    )


# In parts.


def _require_multipart(upload: Upload) -> None:
    if not upload.is_multipart:
        raise NotMultipart("This upload has no parts.", upload=upload)


def _create_multipart(upload: Upload) -> None:
    """Ask S3 for the multipart upload, under a lease on the row; it is given back."""
    mine = {"busy_until": upload.busy_until}
    _release_connection()
    bucket = _bucket(upload)
    try:
        upload_id = bucket.create_multipart(
            upload.key,
            parameters={**upload.object_parameters, "ContentType": upload.content_type},
            checksum_algorithm=upload.checksum_algorithm,
        )
    except (BucketUnavailable, ImproperlyConfigured):
        _give_back(upload)
        raise
    if _move(upload, mine, multipart_upload_id=upload_id, busy_until=None):
        return
    # Cancelled meanwhile, or the lease is another's by now: then so is what counts.
    bucket.abort_multipart(upload.key, upload_id)
    _require_created(upload)


def _require_created(upload: Upload) -> None:
    if upload.status != Status.PENDING:
        raise NotPending(f"This upload is {upload.status}.", upload=upload)
    if not upload.multipart_upload_id:
        raise BucketUnavailable("Another request is about to create it.", upload=upload)


def _create_again(upload: Upload) -> None:
    """A Create was lost, or its answer: then S3 has an upload at the key that no row knows."""
    _refuse_transaction("renew")
    if not _lease(upload, CREATE_LEASE):
        _require_created(upload)
        return
    _release_connection()
    try:
        _bucket(upload).abort_multiparts(upload.key)
    except BucketUnavailable:
        _give_back(upload)
        raise
    _create_multipart(upload)


def _lease(upload: Upload, length: timedelta) -> bool:
    """Have the multipart upload to oneself, unless another has it or it has moved on."""
    now = timezone.now()
    if upload.busy_until is not None and now < upload.busy_until:
        return False
    as_read = {
        "busy_until": upload.busy_until,
        "multipart_upload_id": upload.multipart_upload_id,
    }
    return _move(upload, as_read, busy_until=now + length)


def _find_object(upload: Upload) -> StoredObject | None:
    """What S3 has at the key. None while another process completes a multipart upload.

    Raises ObjectMissing, PartsIncomplete, MultipartGone, ObjectMismatch.
    """
    bucket = _bucket(upload)
    if not upload.is_multipart:
        return bucket.head(upload.key)
    if upload.busy_until is not None:
        # Whoever had it may have died after S3 was through with it.
        try:
            return bucket.head(upload.key)
        except ObjectMissing:
            pass
    if not _lease(upload, COMPLETE_LEASE):
        return None
    if not upload.multipart_upload_id:
        _give_back(upload)
        raise PartsIncomplete({"missing": range(1, upload.part_count + 1)})
    _release_connection()
    try:
        _complete(upload, bucket)
    except MultipartGone:
        pass  # completed, or aborted behind our back
    except AnswerLost:
        raise  # and the lease kept: S3 may still be at it, and takes a second one for a conflict
    except UploadError:
        _give_back(upload)
        raise
    try:
        return bucket.head(upload.key)
    except ObjectMissing:
        _give_back(upload)
        raise MultipartGone("S3 has neither the object nor the parts any more.") from None


def _complete(upload: Upload, bucket: Bucket) -> None:
    parts = bucket.list_parts(upload.key, upload.multipart_upload_id)
    wrong = _wrong_parts(upload, parts)
    if wrong:
        raise PartsIncomplete(wrong)
    checksum = {upload.checksum_algorithm: upload.checksum} if upload.checksum else {}
    try:
        bucket.complete_multipart(
            upload.key, upload.multipart_upload_id, parts, size=upload.size, checksum=checksum
        )
    except PartsIncomplete:
        now = set(bucket.list_parts(upload.key, upload.multipart_upload_id))
        replaced = [part.part_number for part in parts if part not in now]
        raise PartsIncomplete({"replaced": replaced}) from None


def _wrong_parts(upload: Upload, parts: Sequence[StoredPart]) -> dict[str, list[int]]:
    sizes = {part.part_number: part.size for part in parts}
    expected = {number: upload.size_of_part(number) for number in range(1, upload.part_count + 1)}
    wrong = {
        "missing": [number for number in expected if number not in sizes],
        "wrong_size": [n for n, size in sizes.items() if size != expected.get(n, -1)],
    }
    return {what: numbers for what, numbers in wrong.items() if numbers}


def _give_back(upload: Upload) -> None:
    _move(upload, {"busy_until": upload.busy_until}, busy_until=None)


def _abort_multiparts(upload: Upload) -> None:
    """Of a tombstone: what is left of its parts, be they of a Create whose answer was lost."""
    if not upload.is_multipart:
        return
    _release_connection()
    try:
        _bucket(upload).abort_multiparts(upload.key)
    except BucketUnavailable:
        pass  # the row is due, so the sweep tries again


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
        busy_until=None,
        # Where this process dies before its handlers ran, the sweep announces it then.
        due_at=now + ANNOUNCE_LEASE,
    ):
        signals.upload_completed.send_robust(Upload, upload=upload, cause=cause)
        if upload.status == Status.COMPLETED:  # a handler that deleted it has set a due_at
            _move(upload, announced_at=timezone.now(), due_at=None)


def _settle_as_rejected(upload: Upload, error: ObjectMismatch) -> None:
    reason = (error.detail or "Refused.")[: Upload._meta.get_field("reason").max_length]
    if _bury(upload, Status.REJECTED, reason=reason):
        _abort_multiparts(upload)
        signals.upload_rejected.send_robust(Upload, upload=upload)


def _settle_as_expired(upload: Upload) -> None:
    # Only if no signature was made since the row was read, and nobody else completes it.
    unchanged = {"url_expires_at": upload.url_expires_at, "busy_until": upload.busy_until}
    if _move(upload, unchanged, status=Status.EXPIRED, due_at=upload.key_closes_at):
        _abort_multiparts(upload)
        signals.upload_expired.send_robust(Upload, upload=upload)


def _outcome(upload: Upload) -> Upload:
    """The answer that a settled row gives, the first time and every time after."""
    match upload.status:
        case Status.COMPLETED | Status.VERIFYING | Status.PENDING:  # the last: another completes it
            return upload
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
        _bucket(upload).delete(upload.key)
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
        changes |= {"status": status, "due_at": upload.key_closes_at, "busy_until": None}
        if _move(upload, as_read, **changes):
            return True
    return False


def _forget(upload: Upload) -> None:
    """Delete a row of which no signature has left, unless another begin has it in hand."""
    idle = {"status": Status.PENDING, "busy_until": None, "multipart_upload_id": ""}
    Upload.objects.using(_database()).filter(pk=upload.pk, **idle).delete()


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


def _bucket(upload: Upload) -> Bucket:
    return find_bucket(upload.storage, upload.bucket)


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
