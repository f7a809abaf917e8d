"""Begin an upload: validate what is declared, insert the row, sign the request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connections, transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_noop as _

from s3direct_uploads import conf, destinations, keys, times
from s3direct_uploads.exceptions import (
    AnswerLost,
    BucketUnavailable,
    HookFailed,
    IdempotencyKeyReused,
    NotPending,
    OwnerUnknown,
    QuotaExceeded,
    StorageNotS3,
    TooManyPending,
    raises,
)
from s3direct_uploads.models import Upload, log_transition, owner_key, write_first
from s3direct_uploads.s3 import Bucket, get_bucket

from . import quotas
from .connection import database, in_transaction, refuse_transaction, site
from .multipart import CREATE_LEASE, create_multipart
from .presigning import Presigned, extend_url, presign, renew
from .rows import Status, bury, forget

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

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
    Preparing(request).prepare(upload, multipart=multipart)
    expires = extend_url(upload)  # now, because the host's hooks may have been slow
    try:
        insert(upload, "client" if request else "script")
    except (IntegrityError, QuotaExceeded) as error:
        return _begin_after(error, upload)
    try:
        if upload.is_multipart:
            create_multipart(upload)
        return upload, presign(upload, expires)
    except (BucketUnavailable, ImproperlyConfigured) as error:
        give_up(upload, error)
        raise


# Step by step.


class Preparing:
    """Prepares the uploads of one call. Looks up each of their destinations and buckets once."""

    def __init__(self, request: HttpRequest | None) -> None:
        self.request = request
        self.site = site()
        self.max_name_length = conf.max_name_length()
        self._rules: dict[str, destinations.Destination] = {}
        self._buckets: dict[str, Bucket] = {}

    def prepare(self, upload: Upload, *, multipart: bool | None) -> None:
        """Validate the declaration, and set key, bucket and deadline. ``extend_url`` is next.

        ``multipart`` is None if a script stores the file itself.
        """
        if upload.visitor and upload.owner_id is not None:
            raise ValueError("An upload has an owner, or is a visitor's.")
        if upload.idempotency_key is not None and not upload.is_somebodys:
            raise ValueError("An idempotency key needs an owner, or a visitor.")
        rules = self._rules_of(upload.destination)
        upload.part_size = rules.part_size_of(upload.size) if multipart else None
        # Without conditional writes, a client could use the URL of one PUT twice. A script gets no
        # URL.
        if multipart is not None and self._takes_parts_only(rules.storage):
            upload.part_size = rules.part_size_of(upload.size) or rules.part_size
        rules.clean(upload, self.request)
        bucket = self.bucket_of(rules.storage)
        hook = f"get_prefix of {rules.name!r}"
        prefix = destinations.ask(hook, rules.get_prefix, upload, self.request)
        name = keys.new_name(
            self.site,
            bucket.name,
            bucket.location,
            prefix,
            upload.filename,
            self.max_name_length,
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

    def _rules_of(self, destination: str) -> destinations.Destination:
        if destination not in self._rules:
            self._rules[destination] = destinations.get(destination)
        return self._rules[destination]

    def bucket_of(self, alias: str) -> Bucket:
        if alias not in self._buckets:
            self._buckets[alias] = get_bucket(alias)
        return self._buckets[alias]

    def _takes_parts_only(self, alias: str) -> bool:
        try:
            return self.bucket_of(alias).takes_parts_only
        except (StorageNotS3, ImproperlyConfigured):
            return False  # raised again after the declaration is validated


def insert(upload: Upload, cause: str) -> None:
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
