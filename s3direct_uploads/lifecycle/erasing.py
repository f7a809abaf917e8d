"""Erase a person: end the uploads of one owner, and blank what the owner said about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from s3direct_uploads import signals
from s3direct_uploads.models import TOMBSTONES, Upload, UploadQuerySet, owner_key

from .connection import database, refuse_transaction
from .holders import rows_naming
from .multipart import abort_multiparts
from .rows import Status, bury, move
from .settling import SECOND_CLEANING
from .sweeping import sweep

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

BATCH = 1000
BLANK: dict[str, Any] = {"filename": "", "context": {}, "idempotency_key": None}


@dataclass(frozen=True)
class InUse:
    """A file that stays, because a model has attached it."""

    id: UUID
    destination: str
    rows: list[str]
    """The rows that name it in a FileField: "photos.Photo.image of 12". If there are none, the
    project's own code uses it."""


@dataclass
class Erasure:
    """What ``erase`` did, or would do."""

    cancelled: int = 0
    deleted: int = 0
    blanked: int = 0
    """Rows."""
    waiting: int = 0
    """Ended uploads whose objects a sweep has to delete, for the first or second time."""
    in_use: list[InUse] = field(default_factory=list)


def erase(owner: AbstractBaseUser, *, dry_run: bool = False) -> Erasure:
    """End all uploads of this owner, and blank their filenames and contexts. Idempotent.

    Pending and held uploads are cancelled. Completed ones that no model has attached are deleted.
    Their objects are deleted at once if no URL can write to their keys any more, and otherwise by a
    sweep. If S3 fails, a sweep does the rest. Attached uploads stay, and are listed: the project
    decides. With ``dry_run`` nothing is changed.

    It does not stop the owner: an upload that is begun meanwhile, or later, is not erased.

    **Warning:** the files are lost.

    Raises OwnerUnknown (a ValueError) if ``owner`` is no saved user.
    """
    refuse_transaction("erase")
    mine = Upload.objects.using(database()).filter(owner=owner_key(owner)).order_by("pk")
    done = Erasure()
    sent_in_parts: list[Upload] = []
    for upload in _alive(mine):
        if dry_run:
            done.deleted += upload.status == Status.COMPLETED
            done.cancelled += upload.status != Status.COMPLETED
        elif bury(upload, Status.CANCELLED, of=(Status.PENDING, Status.VERIFYING), cause="script"):
            done.cancelled += 1
            sent_in_parts += [upload] if upload.is_multipart else []
            signals.upload_cancelled.send_robust(Upload, upload=upload)
        elif upload.status == Status.COMPLETED:  # it may have been completed a moment ago
            done.deleted += _delete(upload)
    named = mine.exclude(filename="", context={}, idempotency_key=None)
    if dry_run:
        done.blanked = named.count()
    else:
        # Not what was begun since.
        ended = Q(status__in=TOMBSTONES) | Q(attached_at__isnull=False)
        done.blanked = named.filter(ended).update(**BLANK)
        for upload in sent_in_parts:
            abort_multiparts(upload)
        sweep(owner=owner.pk)
    done.waiting = sum(1 for _ in _waiting(mine, dry_run=dry_run))
    done.in_use = list(_in_use(mine))
    return done


def _delete(upload: Upload) -> bool:
    free = {"attached_at": None}
    changes = {"status": Status.DELETED, "due_at": upload.key_closes_at}
    return upload.attached_at is None and move(upload, free, cause="script", **changes)


def _batches(uploads: UploadQuerySet) -> Iterator[list[Upload]]:
    """The rows by their primary keys, so that it does no harm if rows change meanwhile."""
    batch = list(uploads[:BATCH])
    while batch:
        yield batch
        batch = list(uploads.filter(pk__gt=batch[-1].pk)[:BATCH])


def _alive(mine: UploadQuerySet) -> Iterator[Upload]:
    for batch in _batches(mine.exclude(status__in=TOMBSTONES).unattached()):
        yield from batch


def _waiting(mine: UploadQuerySet, *, dry_run: bool) -> Iterator[Upload]:
    now = timezone.now()
    rows = mine.filter(object_deleted_at=None).unattached()
    for batch in _batches(rows if dry_run else rows.filter(status__in=TOMBSTONES)):
        for upload in batch:
            if not dry_run or now < upload.key_closes_at + SECOND_CLEANING:
                yield upload


def _in_use(mine: UploadQuerySet) -> Iterator[InUse]:
    for batch in _batches(mine.filter(attached_at__isnull=False)):
        rows = rows_naming(batch)
        for upload in batch:
            yield InUse(upload.pk, upload.destination, rows.get(upload.pk, []))
