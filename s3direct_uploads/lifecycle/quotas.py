"""How much one owner has in one destination, in step with the rows, by short transactions.

Usage is locked before any row, by everybody, and in one order: else two would wait for each other.
A begin cannot do it otherwise, and the deletion of an owner does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.db import IntegrityError, connections, transaction
from django.db.models import Count, F, Q, Sum
from django.db.models.functions import Greatest
from django.db.models.signals import pre_delete
from django.dispatch import receiver

from s3direct_uploads import conf, destinations
from s3direct_uploads.destinations import Destination
from s3direct_uploads.exceptions import QuotaExceeded, TooManyPending
from s3direct_uploads.models import Upload, Usage, write_first

from .connection import database

Status = Upload.Status
MOST = 2**63 - 1  # bytes: what the column holds
GONE = {"status": None, "counted": False}


def charge(upload: Upload, rules: Destination) -> None:
    """Count an upload that is about to be inserted, in the INSERT's own transaction.

    One conditional UPDATE, so of many at once exactly as many pass as there is room for.
    Raises QuotaExceeded, TooManyPending.
    """
    mine = _usages(rules.name).filter(owner=upload.owner_id)
    room = Q(total_size__lte=_max_total_size(rules) - upload.size)
    if rules.max_pending is not None:
        room &= Q(pending__lt=rules.max_pending)
    one_more = {"pending": F("pending") + 1, "total_size": F("total_size") + upload.size}
    if not mine.filter(room).update(**one_more):
        # Locked, for somebody may have made room a moment ago; or the first of its owner's.
        usage = mine.select_for_update().first() or _count(upload.owner_id, rules.name)[0]
        if not mine.filter(room).update(**one_more):
            raise _exceeded(usage, rules, upload.size)
    upload.counted = True


def _usages(destination: str) -> Any:
    return Usage.objects.using(database()).filter(destination=destination)


def _max_total_size(rules: Destination) -> int:
    return MOST if rules.max_total_size is None else rules.max_total_size


def _exceeded(usage: Usage, rules: Destination, size: int) -> QuotaExceeded:
    limit = _max_total_size(rules)
    left = max(0, limit - usage.total_size)
    if size > left:  # said first, as waiting does not help
        return QuotaExceeded(
            f"{destinations.format_size(left)} of {destinations.format_size(limit)} are left.",
            {"max_total_size": limit, "total_size": usage.total_size, "left": left},
        )
    return TooManyPending(
        f"At most {rules.max_pending} uploads at once: finish or cancel one.",
        {"max_pending": rules.max_pending or 0, "pending": usage.pending, "left": 0},
    )


def _taken(
    uploads: Iterable[Upload], changes: Mapping[str, Any]
) -> dict[tuple[Any, str], tuple[int, int]]:
    """By owner and destination, in order: how many are pending no more, and how many bytes gone."""
    taken: dict[tuple[Any, str], tuple[int, int]] = {}
    for upload in uploads:
        settled = upload.status == Status.PENDING != changes.get("status", Status.PENDING)
        gone = upload.size if not changes.get("counted", True) else 0
        if upload.counted and upload.owner_id is not None and (settled or gone):
            whose = upload.owner_id, upload.destination
            before = taken.get(whose, (0, 0))
            taken[whose] = before[0] + settled, before[1] + gone
    return dict(sorted(taken.items()))


@contextmanager
def in_step(uploads: Iterable[Upload], changes: Mapping[str, Any]) -> Iterator[None]:
    """Where these changes of rows take from their owners' usage: a transaction, and it is locked.

    SQLite has one writer at a time. Whoever enters must write before reading anything.
    """
    taken = _taken(uploads, changes)
    if not taken:
        yield
        return
    with transaction.atomic(using=database()):
        if connections[database()].features.has_select_for_update:
            owners, names = zip(*taken, strict=True)
            usages = Usage.objects.using(database()).select_for_update()
            usages = usages.filter(owner__in=set(owners), destination__in=set(names))
            list(usages.order_by("owner_id", "destination").values_list("pk"))
        yield


def follow(uploads: Iterable[Upload], changes: Mapping[str, Any]) -> None:
    """What ``changes`` of these rows, as they were before, take from their owners' usage."""
    for (owner_id, destination), (settled, gone) in _taken(uploads, changes).items():
        _usages(destination).filter(owner=owner_id).update(
            pending=Greatest(F("pending") - settled, 0),
            total_size=Greatest(F("total_size") - gone, 0),
        )


@receiver(pre_delete, sender=Upload)
def make_room(instance: Upload, **_: Any) -> None:
    """Whoever deletes a row: its owner has the room again, and the object is nobody's here."""
    if instance.counted:
        with in_step([instance], GONE):
            write_first(database())
            # As it is now, that nobody else can change what counts.
            follow(Upload.objects.using(database()).filter(pk=instance.pk), GONE)


def limited() -> set[str]:
    """The destinations in which something is counted, those included that have no limit now."""
    used = Usage.objects.using(database()).values_list("destination", flat=True).distinct()
    return {name for name in conf.destinations() if destinations.get(name).limits} | set(used)


def recount(destination: str) -> Iterator[tuple[Usage, bool]]:
    """Count what each owner has in a destination anew, while uploads go on.

    Yields each one's usage, and whether it was another before.
    """
    uploads = Upload.objects.using(database()).filter(destination=destination)
    owners = {
        *uploads.exclude(owner=None).order_by().values_list("owner", flat=True).distinct(),
        *_usages(destination).values_list("owner", flat=True),
    }
    for owner_id in sorted(owners):
        try:
            with transaction.atomic(using=database()):
                found = _count(owner_id, destination)
        except IntegrityError:  # the owner was deleted meanwhile
            continue
        yield found


def _count(owner_id: Any, destination: str) -> tuple[Usage, bool]:
    """In the caller's transaction, until whose end the usage is locked."""
    _usages(destination).bulk_create(
        [Usage(owner_id=owner_id, destination=destination)], ignore_conflicts=True
    )
    usage = _usages(destination).select_for_update().get(owner=owner_id)
    before = usage.pending, usage.total_size
    mine = Upload.objects.using(database()).filter(owner=owner_id, destination=destination)
    # What was there before there was a limit. Of a tombstone it cannot be known.
    alive = (Status.PENDING, Status.VERIFYING, Status.COMPLETED)
    mine.filter(counted=False, status__in=alive).update(counted=True)
    now = mine.filter(counted=True).aggregate(
        pending=Count("pk", filter=Q(status=Status.PENDING)), total_size=Sum("size")
    )
    usage.pending, usage.total_size = now["pending"], now["total_size"] or 0
    usage.save(using=database(), update_fields=["pending", "total_size"])
    return usage, before != (usage.pending, usage.total_size)
