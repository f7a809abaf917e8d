"""What a client can ask for: begin, renew, parts, cancel, download. And ``store`` for scripts."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import IntegrityError, connections, transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from s3direct_uploads import conf, content_types, destinations, keys, signals, times
from s3direct_uploads.exceptions import (
    AlreadyAttached,
    AnswerLost,
    BucketUnavailable,
    HookFailed,
    IdempotencyKeyReused,
    MultipartGone,
    NotCompleted,
    NotMultipart,
    NotPending,
    OwnerUnknown,
    QuotaExceeded,
    StorageNotS3,
    TooManyPending,
    UploadError,
    raises,
)
from s3direct_uploads.models import TOMBSTONES, Upload, log_transition, owner_key, write_first
from s3direct_uploads.s3 import (
    Bucket,
    PresignedMultipart,
    PresignedPart,
    PresignedRequest,
    StoredPart,
    get_bucket,
    is_access_point,
    takes_parts_only,
)

from . import quotas
from .connection import database, in_transaction, refuse_transaction, release_connection, site
from .multipart import (
    CREATE_LEASE,
    abort_multiparts,
    create_again,
    create_multipart,
    require_multipart,
)
from .rows import Status, bucket_of, bury, declared, forget, is_bucket_away, move
from .settling import confirm, delete_object

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

Presigned = PresignedRequest | PresignedMultipart
Begun = tuple[Upload, Presigned | None]

DECLARATION = (  # and the context
    "destination",
    "filename",
    "content_type",
    "size",
    "checksum_algorithm",
    "checksum",
    "is_multipart",
)
FIRST_PARTS = 100  # begin signs so many; the client asks for more while it sends them
# If a hook fails while an event is handled, the sweep looks at the row again after this.
HOOK_RETRY = timedelta(minutes=5)


@raises(
    OwnerUnknown,
    IdempotencyKeyReused,
    NotPending,
    QuotaExceeded,
    TooManyPending,
    BucketUnavailable,
    StorageNotS3,
    HookFailed,
)
def begin(
    *,
    owner: AbstractBaseUser | None,
    visitor: bool = False,
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
) -> Begun:
    """Record a pending upload, and presign its PUT. One INSERT; S3 is not called.

    ``size`` is in bytes, and ``checksum`` in base64. With ``multipart``, a file of more than
    one part is sent in parts: S3 creates a multipart upload, and its first parts are presigned.
    If the storage's ``overwrite_guard`` is "multipart", every file is sent in parts. If the
    owner has already used this ``idempotency_key``, that earlier upload is returned with a new
    signature. There is no signature (None) if nothing is left to send.

    With ``visitor`` and no owner, the upload is a visitor's: the destination must have ANONYMOUS,
    and the upload's ``form_value`` is the only way to it.

    Raises ValidationError (by field), PermissionDenied, IdempotencyKeyReused, QuotaExceeded,
    TooManyPending, BucketUnavailable, StorageNotS3 and HookFailed. Raises ImproperlyConfigured if
    the settings are wrong, OwnerUnknown (a ValueError) if ``owner`` is neither None nor a saved
    user, and NotPending if the upload was cancelled while S3 created its multipart upload.
    """
    upload = Upload(
        owner_id=None if owner is None else owner_key(owner),
        visitor=visitor,
        destination=destination,
        filename=filename,
        content_type=content_type,
        size=size,
        checksum_algorithm=checksum_algorithm,
        checksum=checksum,
        context=dict(context or {}),
        idempotency_key=idempotency_key,
    )
    expires = prepare(upload, request, multipart=multipart)
    try:
        _insert(upload, "client" if request else "script")
    except (IntegrityError, QuotaExceeded) as error:
        return _begin_after(error, upload)
    try:
        if upload.is_multipart:
            create_multipart(upload)
        return upload, presign(upload, expires)
    except (BucketUnavailable, ImproperlyConfigured) as error:
        give_up(upload, error)
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
    prepare(upload, None, multipart=None)
    _insert(upload, "store")
    file.seek(0)
    release_connection()
    try:
        bucket_of(upload).put(upload.key, file, declared(upload))
    except BucketUnavailable:
        cancel(upload)
        raise
    return confirm(upload, cause="store")


@raises(NotPending, BucketUnavailable)
def renew(upload: Upload) -> Presigned:
    """Sign the same declaration again. No signature is valid after the upload's deadline.

    Raises BucketUnavailable, and NotPending, also after the deadline: then confirm the upload.
    """
    if not upload.is_multipart and bucket_of(upload).takes_parts_only:
        # It began before overwrite_guard was set, or a script stores it. A client could use a URL
        # of this PUT twice.
        raise NotPending(_("This upload cannot be renewed: begin another."), upload=upload)
    expires = _lengthen(upload)
    if upload.is_multipart and not upload.multipart_upload_id:
        create_again(upload)
    return presign(upload, expires)


@raises(NotMultipart, NotPending, BucketUnavailable)
def sign_parts(
    upload: Upload, part_numbers: Collection[int]
) -> tuple[list[PresignedPart], timedelta]:
    """Sign a PUT for each of these parts. Returns them, and how long they are valid.

    Part numbers begin at 1. Raises NotMultipart, ValidationError, and what renew raises.
    """
    require_multipart(upload)
    beyond = [number for number in part_numbers if not 1 <= number <= upload.part_count]
    if beyond:
        error = ValidationError(
            gettext("This upload has the parts 1 to %(max_part_number)d."),
            code="out_of_range",
            params={"max_part_number": upload.part_count},
        )
        raise ValidationError({"part_numbers": error})
    expires = _lengthen(upload)
    if not upload.multipart_upload_id:
        create_again(upload)
    return _presign_parts(upload, part_numbers, expires), expires


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


@raises(NotCompleted, BucketUnavailable)
def presign_download(upload: Upload, *, inline: bool = False) -> PresignedRequest:
    """Sign a GET of a completed upload. A browser saves the file; with ``inline`` it shows it.

    The URL has the storage's ``custom_domain`` if a browser then shows or saves the file as
    requested. Raises NotCompleted, BucketUnavailable, and ValidationError if ``inline`` is not safe
    for this content type.
    """
    if upload.status != Status.COMPLETED:
        raise NotCompleted(upload.is_now, upload=upload)
    if inline and not content_types.is_safe_inline(upload.content_type):
        error = ValidationError(
            gettext("Files of this type are only downloaded."), code="not_inline"
        )
        raise ValidationError({"disposition": error})
    return bucket_of(upload).presign_get(
        upload.key,
        filename=upload.filename,
        inline=inline,
        version_id=upload.version_id,
        expires=conf.url_expires(),
        stored=upload.object_parameters,
    )


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


# Begin, step by step.


def prepare(upload: Upload, request: HttpRequest | None, *, multipart: bool | None) -> timedelta:
    """Validate the declaration, and set key, bucket and times. Returns the life of a signature.

    ``multipart`` is None if a script stores the file itself.
    """
    if upload.visitor and upload.owner_id is not None:
        raise ValueError("An upload has an owner, or is a visitor's.")
    if upload.idempotency_key is not None and not upload.is_somebodys:
        raise ValueError("An idempotency key needs an owner, or a visitor.")
    rules = destinations.get(upload.destination)
    upload.part_size = rules.part_size_of(upload.size) if multipart else None
    # Without conditional writes, a client could use the URL of one PUT twice. A script gets no URL.
    if multipart is not None and takes_parts_only(rules.storage):
        upload.part_size = rules.part_size_of(upload.size) or rules.part_size
    rules.clean(upload, request)
    bucket = get_bucket(rules.storage)
    prefix = destinations.ask(f"get_prefix of {rules.name!r}", rules.get_prefix, upload, request)
    name = keys.new_name(
        site(), bucket.name, bucket.location, prefix, upload.filename, conf.max_name_length()
    )
    upload.hold = rules.hold
    upload.storage = rules.storage
    upload.bucket = bucket.name
    upload.key = keys.join(bucket.location, name)
    upload.object_parameters = bucket.object_parameters(upload.key, rules.acl)
    life = conf.multipart_expires() if upload.is_multipart else conf.pending_expires()
    upload.expires_at = times.later(upload.created_at, life)
    if upload.is_multipart:
        refuse_transaction("begin")
        upload.busy_until = times.later(timezone.now(), CREATE_LEASE)
    return _extend_url(upload)


def _insert(upload: Upload, cause: str) -> None:
    """Insert the row, and count it in its owner's usage. Raises QuotaExceeded, OwnerUnknown."""
    rules = destinations.get(upload.destination)
    limited = upload.is_somebodys and rules.limits
    whole = limited or upload.idempotency_key is not None
    if in_transaction():
        write_first(database())
        require_owner(upload)  # the database would report it only at the end of the transaction
    try:
        with transaction.atomic(using=database()) if whole else nullcontext():
            if limited:
                quotas.charge(upload, rules)
            upload.save(force_insert=True)
    except IntegrityError:
        if not connections[database()].in_atomic_block:
            require_owner(upload)
        raise
    log_transition(upload, None, cause)


def require_owner(upload: Upload) -> None:
    """Raises OwnerUnknown if the owner was deleted after the caller had read it."""
    users = get_user_model()._base_manager.using(database())
    if upload.owner_id is not None and not users.filter(pk=upload.owner_id).exists():
        raise OwnerUnknown(_("The owner of this upload was deleted meanwhile."))


def _begin_after(error: IntegrityError | QuotaExceeded, upload: Upload) -> Begun:
    """The answer if the row could not be inserted: the upload with the same Idempotency-Key."""
    earlier = _begun_before(upload)
    try:
        if earlier is not None:
            return begin_again(earlier, upload)
        if upload.idempotency_key is None or isinstance(error, QuotaExceeded):
            raise error
    except Upload.DoesNotExist:
        pass
    # The row with the same key was deleted meanwhile, or has lost its key.
    raise BucketUnavailable(_("The request before this one failed; try again.")) from None


def give_up(upload: Upload, error: BucketUnavailable | ImproperlyConfigured) -> None:
    """The client gets no signature: delete the row, unless it is needed to clean up in S3."""
    if isinstance(error, AnswerLost):
        # S3 may have a multipart upload at this key. The next begin gets a row with another key.
        bury(upload, Status.CANCELLED, idempotency_key=None)
    elif not upload.multipart_upload_id:
        forget(upload)
    elif upload.idempotency_key is None:
        bury(upload, Status.CANCELLED)
    # Otherwise a begin with the same Idempotency-Key continues it.


def _begun_before(upload: Upload) -> Upload | None:
    if upload.idempotency_key is None:
        return None
    whose = {"owner": upload.owner_id, "visitor": upload.visitor}
    same = {**whose, "idempotency_key": upload.idempotency_key}
    return Upload.objects.using(database()).filter(**same).first()


def begin_again(earlier: Upload, upload: Upload) -> Begun:
    require_same(earlier, upload)
    try:
        return earlier, renew(earlier)
    except NotPending:
        return earlier, None  # its status says how it ended; if it is pending, confirm it


def require_same(earlier: Upload, upload: Upload) -> None:
    """Raises IdempotencyKeyReused if they declare different files."""
    if _declaration(earlier) != _declaration(upload):
        raise IdempotencyKeyReused(
            _("This Idempotency-Key was used for another upload."), upload=earlier
        )


def _declaration(upload: Upload) -> list[Any]:
    # The context as text, because True equals 1 in Python.
    context = json.dumps(upload.context, sort_keys=True)
    return [context, *(getattr(upload, field) for field in DECLARATION)]


def _extend_url(upload: Upload) -> timedelta:
    """Set the row's times for a signature made now. Returns its life; the deadline limits it."""
    now = timezone.now()
    expires = min(conf.url_expires(), upload.expires_at - now)
    expires = max(timedelta(seconds=int(expires.total_seconds())), timedelta(seconds=1))
    # If URL_EXPIRES was lowered since, an older signature may be valid for longer.
    upload.url_expires_at = max(times.later(now, expires), upload.url_expires_at or now)
    upload.due_at = upload.url_expires_at + conf.sweep_grace()
    return expires


def _lengthen(upload: Upload) -> timedelta:
    """Write the new ``url_expires_at`` before anything is signed. Returns the signature's life.

    Raises NotPending, also after the deadline.
    """
    if upload.status == Status.PENDING and upload.expires_at <= timezone.now():
        raise NotPending(_("The deadline of this upload has passed: confirm it."), upload=upload)
    while upload.status == Status.PENDING:
        as_read = {"url_expires_at": upload.url_expires_at}
        expires = _extend_url(upload)
        if move(upload, as_read, url_expires_at=upload.url_expires_at, due_at=upload.due_at):
            return expires
    raise NotPending(upload.is_now, upload=upload)


def presign(upload: Upload, expires: timedelta, bucket: Bucket | None = None) -> Presigned:
    """Sign the PUT, or those of the first parts. A batch looks up its ``bucket`` once."""
    if upload.part_size is None:
        bucket = bucket or bucket_of(upload)
        return bucket.presign_put(upload.key, declared(upload), expires=expires)
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
    return bucket_of(upload).presign_parts(
        upload.key,
        upload.multipart_upload_id,
        {number: upload.size_of_part(number) for number in part_numbers},
        expires=expires,
    )
