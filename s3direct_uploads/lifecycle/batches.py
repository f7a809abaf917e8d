"""Begin or confirm many uploads by one call. What becomes of one of them does not affect another.

An error is returned in its place, and not raised.
"""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_noop as _

from s3direct_uploads import destinations, times
from s3direct_uploads.exceptions import (
    BucketUnavailable,
    IdempotencyKeyReused,
    NotInBatch,
    ObjectMismatch,
    ObjectMissing,
    OwnerUnknown,
    QuotaExceeded,
    UploadError,
    raises,
)
from s3direct_uploads.inserting import insert_many, rows_of
from s3direct_uploads.models import Upload, log_transition, owner_key, write_first
from s3direct_uploads.s3 import Bucket, StoredObject

from . import quotas
from .beginning import Begun, Preparing, begin_again, give_up, require_owner, require_same
from .connection import database, in_transaction, refuse_transaction, release_connection
from .presigning import extend_url, presign
from .rows import Status, bucket_of, move, move_together
from .settling import (
    ANNOUNCE_LEASE,
    complete,
    conclude,
    examine,
    hold,
    is_heard,
    outcome,
    tell,
    verify,
)

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

logger = logging.getLogger("s3direct_uploads")

THREADS = 16  # that ask S3
# After this time S3 is not asked about the rest of the batch. A question that has begun still ends.
LONGEST = 10  # seconds
# What is told to the client of one upload, and leaves the others alone.
REFUSALS = (UploadError, ImproperlyConfigured, Upload.DoesNotExist)
Answer = StoredObject | Exception  # what S3 said of one upload


# Begin.


@raises(OwnerUnknown, IdempotencyKeyReused, BucketUnavailable)
def begin_many(
    declarations: Sequence[Mapping[str, Any] | Exception],
    *,
    owner: AbstractBaseUser | None,
    idempotency_key: str | None = None,
    request: HttpRequest | None = None,
) -> list[Begun | Exception]:
    """Begin many uploads, each of which is sent by one PUT. One INSERT; S3 is not called.

    Each of ``declarations`` has the arguments of ``begin``, or is an error that stays in its place.
    Returns for each what ``begin`` returns, or the error that it would raise. An upload that must
    be sent in parts gets NotInBatch. If the owner's quota has not enough room, the uploads that
    still fit begin, in this order.

    The ``idempotency_key`` is the batch's. If it is used again, the uploads that began are
    returned, with new signatures, and the others are tried again.

    Raises IdempotencyKeyReused (then nothing has begun), BucketUnavailable (an earlier request
    with this key failed meanwhile) and OwnerUnknown.
    """
    owner_id = None if owner is None else owner_key(owner)
    results: dict[int, Begun | Exception] = {}
    new: dict[int, Upload] = {}
    preparing = Preparing(request)
    new_upload = rows_of(Upload, owner_id=owner_id, created_at=timezone.now())
    for place, declaration in enumerate(declarations):
        if isinstance(declaration, Exception):
            results[place] = declaration
            continue
        said = {**declaration}
        multipart = said.pop("multipart", False)
        said["context"] = dict(said.get("context") or {})
        key = None if idempotency_key is None else _key_of(idempotency_key, place)
        upload = new_upload(idempotency_key=key, **said)
        try:
            preparing.prepare(upload, multipart=multipart)
            if upload.is_multipart:
                raise NotInBatch(_("This file is sent in parts: begin it alone."))
        except Exception as error:
            if not destinations.is_refusal(error):
                raise
            results[place] = error
        else:
            new[place] = upload
    cause = "client" if request else "script"
    now = timezone.now()  # not before, because the host's hooks may have been slow
    lives = {place: extend_url(upload, now) for place, upload in new.items()}
    results |= _insert(new)
    for place, upload in new.items():
        if place not in results:
            log_transition(upload, None, cause)
            bucket = preparing.bucket_of(upload.storage)
            results[place] = _presigned(upload, lives[place], bucket)
    return [results[place] for place in range(len(declarations))]


def _key_of(batch_key: str, place: int) -> str:
    """The Idempotency-Key of the row at this place. It fits into the column, however long."""
    return hashlib.sha256(f"{batch_key}\n{place}".encode()).hexdigest()


def _insert(new: Mapping[int, Upload]) -> dict[int, Begun | Exception]:
    """Insert the rows, and count them. Returns what becomes of those that are not inserted."""
    if not new:
        return {}
    earlier: dict[int, Upload] = {}
    inside = in_transaction()
    if inside:
        write_first(database())
        # The database would report it only at the end of the transaction.
        require_owner(next(iter(new.values())))
    while True:
        left = {place: upload for place, upload in new.items() if place not in earlier}
        try:
            with transaction.atomic(using=database()):
                refused = _charge(list(left.values()))
                # A repeated begin needs no room.
                full = {p: upload for p, upload in left.items() if refused and upload in refused}
                repeated = _begun_before(full) if full else {}
                fitting = [upload for place, upload in left.items() if place not in full]
                if fitting:
                    insert_many(fitting, database())
            break
        except IntegrityError:
            found = _begun_before(left)
            if not found:
                if not inside:
                    require_owner(next(iter(left.values())))
                if all(upload.idempotency_key is None for upload in left.values()):
                    raise
                # The row with the same key was deleted meanwhile, or has lost its key.
                raise BucketUnavailable(
                    _("The request before this one failed; try again.")
                ) from None
            earlier |= found
    earlier |= repeated
    results: dict[int, Begun | Exception] = {p: refused[upload] for p, upload in full.items()}
    return results | {place: _again(each, new[place]) for place, each in earlier.items()}


def _charge(uploads: Iterable[Upload]) -> dict[Upload, QuotaExceeded]:
    """Count them in their owner's usage. Returns those for which there is no room."""
    by_name: dict[str, list[Upload]] = {}
    for upload in uploads:
        if upload.owner_id is not None:
            by_name.setdefault(upload.destination, []).append(upload)
    refused: dict[Upload, QuotaExceeded] = {}
    for name, theirs in sorted(by_name.items()):
        rules = destinations.get(name)
        if rules.limits:
            refused |= quotas.charge_in_order(theirs, rules)
    return refused


def _begun_before(new: Mapping[int, Upload]) -> dict[int, Upload]:
    """The uploads of the same owner with the same keys. Raises IdempotencyKeyReused."""
    keys = {u.idempotency_key: place for place, u in new.items() if u.idempotency_key}
    if not keys:
        return {}
    owner_id = next(iter(new.values())).owner_id
    rows = Upload.objects.using(database()).filter(owner=owner_id, idempotency_key__in=keys)
    found = {keys[upload.idempotency_key or ""]: upload for upload in rows}
    for place, earlier in found.items():
        require_same(earlier, new[place])
    return found


def _again(earlier: Upload, upload: Upload) -> Begun | Exception:
    try:
        return begin_again(earlier, upload)
    except (UploadError, ImproperlyConfigured) as error:
        return error
    except Upload.DoesNotExist:
        return BucketUnavailable(_("The request before this one failed; try again."))


def _presigned(upload: Upload, life: timedelta, bucket: Bucket) -> Begun | Exception:
    try:
        return upload, presign(upload, life, bucket)
    except (BucketUnavailable, ImproperlyConfigured) as error:
        give_up(upload, error)
        return error


# Confirm.


@raises()
def confirm_many(
    uploads: Collection[Upload], *, cause: str = "client"
) -> dict[UUID, Upload | Exception]:
    """Confirm many uploads. Returns for each, by its id, what ``confirm`` returns or raises.

    S3 is asked by a few threads at once. The rows that are completed are changed by one UPDATE.
    S3 does not join parts here: such an upload gets NotInBatch, unless its object is there. After
    10 seconds the rest gets BucketUnavailable.
    """
    refuse_transaction("confirm_many")
    outcomes: dict[UUID, Upload | Exception] = {}
    ends_at = time.monotonic() + LONGEST
    asked_at = timezone.now()
    good: dict[Upload, StoredObject] = {}
    for upload, found in _ask([u for u in uploads if u.status == Status.PENDING], ends_at):
        try:
            judged = _judge(upload, found, ends_at, cause)
            if isinstance(judged, StoredObject):
                good[upload] = judged
            elif judged is not None:
                conclude(upload, judged, asked_at=asked_at, cause=cause)
        except REFUSALS as error:
            outcomes[upload.pk] = error
    outcomes |= _complete(good, cause)
    for upload in uploads:
        if upload.pk not in outcomes:
            try:
                outcomes[upload.pk] = outcome(upload)
            except UploadError as error:
                outcomes[upload.pk] = error
    return outcomes


def _ask(uploads: Sequence[Upload], ends_at: float) -> list[tuple[Upload, Answer]]:
    """Ask S3 about each upload, until it is too late. No thread uses the database."""
    buckets: dict[tuple[str, str], Bucket | BucketUnavailable] = {}
    for upload in uploads:
        where = upload.storage, upload.bucket
        if where not in buckets:
            try:
                buckets[where] = bucket_of(upload)
            except BucketUnavailable as error:
                buckets[where] = error

    def ask(upload: Upload) -> Answer:
        bucket = buckets[upload.storage, upload.bucket]
        if not isinstance(bucket, Bucket):
            return bucket
        if time.monotonic() > ends_at:
            return _too_late()
        try:
            return _find(upload, bucket)
        except (UploadError, ImproperlyConfigured) as error:
            return error
        except Exception:
            logger.exception("S3 could not be asked about the upload %s", upload.pk)
            return BucketUnavailable(_("S3 could not be asked; try again later."))

    if not uploads:
        return []
    release_connection()
    with ThreadPoolExecutor(min(THREADS, len(uploads)), "s3direct-batch") as pool:
        return list(zip(uploads, pool.map(ask, uploads), strict=True))


def _find(upload: Upload, bucket: Bucket) -> StoredObject:
    try:
        stored = bucket.head(upload.key)
    except ObjectMissing:
        if upload.is_multipart:  # S3 may need minutes to join its parts
            raise NotInBatch(
                _("This file is sent in parts: confirm it alone."), upload=upload
            ) from None
        raise
    examine(upload, stored, bucket)
    return stored


def _too_late() -> BucketUnavailable:
    return BucketUnavailable(_("S3 is slow, and was not asked about this upload; try again later."))


def _judge(
    upload: Upload, found: Answer, ends_at: float, cause: str
) -> StoredObject | ObjectMissing | ObjectMismatch | None:
    """The object if the host's ``verify`` accepts it, or what is wrong with it.

    None if a scan holds the upload now. Raises ``found`` if S3 said nothing about the object.
    """
    if isinstance(found, ObjectMissing | ObjectMismatch):
        return found
    if not isinstance(found, StoredObject):
        raise found
    if time.monotonic() > ends_at:  # the hooks before this one were slow
        raise _too_late()
    try:
        if not verify(upload, found):
            return found
    except ObjectMismatch as error:
        return error
    hold(upload, cause, etag=found.etag, version_id=found.version_id)
    return None


def _complete(good: Mapping[Upload, StoredObject], cause: str) -> dict[UUID, Exception]:
    """Complete the uploads and announce them. Returns the errors of those whose row is gone."""
    now = timezone.now()
    # Random microseconds make a time ours alone, so that it identifies our rows.
    ours = timedelta(microseconds=random.randrange(10**6))  # noqa: S311
    gone: dict[UUID, Exception] = {}
    by_heard: dict[bool, dict[Upload, StoredObject]] = {True: {}, False: {}}
    for upload, stored in good.items():
        by_heard[is_heard(upload)][upload] = stored
    for heard, alike in by_heard.items():
        told_at = {"due_at": times.later(now, ANNOUNCE_LEASE) + ours}
        completed = move_together(
            list(alike),
            {
                "etag": {upload.pk: stored.etag for upload, stored in alike.items()},
                "version_id": {upload.pk: stored.version_id for upload, stored in alike.items()},
            },
            cause=cause,
            status=Status.COMPLETED,
            completed_at=now,
            busy_until=None,
            **(told_at if heard else {"due_at": None, "announced_at": now - ours}),
        )
        if heard:
            gone |= _announce(completed, cause)
    for upload, stored in good.items():
        if upload.status == Status.PENDING:  # somebody else was just changing it
            try:
                complete(upload, cause, etag=stored.etag, version_id=stored.version_id)
            except Upload.DoesNotExist as error:
                gone[upload.pk] = error
    return gone


def _announce(uploads: Sequence[Upload], cause: str) -> dict[UUID, Exception]:
    """As ``announce``, for all of them. After the end of the lease a sweep announces the rest."""
    told: list[Upload] = []
    gone: dict[UUID, Exception] = {}
    try:
        for upload in uploads:
            if upload.due_at is None or upload.due_at <= timezone.now():
                break
            try:
                if tell(upload, cause):
                    told.append(upload)
            except Upload.DoesNotExist as error:  # a handler deleted its row
                gone[upload.pk] = error
    finally:  # also if the server ends this process meanwhile
        announced = {"announced_at": timezone.now(), "due_at": None}
        marked = set(move_together(told, cause=cause, **announced))
    for upload in told:
        if upload not in marked:
            try:
                move(upload, cause=cause, **announced)
            except Upload.DoesNotExist as error:
                gone[upload.pk] = error
    return gone
