"""Quotas: how much one owner has in one destination. All visitors together count as one owner.

A change of an upload's row and its effect on usage are one short transaction. Every operation locks
usage before rows, and always in the same order, so that two operations cannot block each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import IntegrityError, connections, transaction
from django.db.models import Count, F, Q, Sum
from django.db.models.functions import Greatest
from django.db.models.signals import pre_delete
from django.dispatch import receiver
from django.utils.translation import gettext_noop as _

from s3direct_uploads import conf, destinations
from s3direct_uploads.destinations import Destination
from s3direct_uploads.exceptions import QuotaExceeded, TooManyPending
from s3direct_uploads.models import Upload, Usage, write_first

from .connection import database

Status = Upload.Status
MOST = 2**63 - 1  # bytes: the largest number in the column


DELETION = {"status": Status.DELETED, "counted": False}  # what happens when a row is deleted


def charge(upload: Upload, rules: Destination) -> None:
    """Count an upload that will be inserted in the same transaction.

    It is one conditional UPDATE. So if many uploads begin at once, no more of them pass than there
    is room for. Raises QuotaExceeded, TooManyPending.
    """
    mine = _usages(rules.name).filter(owner=upload.owner_id)
    room = Q(total_size__lte=_max_total_size(rules) - upload.size)
    if rules.max_pending is not None:
        room &= Q(pending__lt=rules.max_pending)
    one_more = {"pending": F("pending") + 1, "total_size": F("total_size") + upload.size}
    if not mine.filter(room).update(**one_more):
        # Try again under a lock: there may be room since a moment ago, or no row for this owner.
        usage = mine.select_for_update().first() or _count(upload.owner_id, rules.name)[0]
        if not mine.filter(room).update(**one_more):
            raise _exceeded(usage, rules, upload.size)
    upload.counted = True


def charge_in_order(uploads: Sequence[Upload], rules: Destination) -> dict[Upload, QuotaExceeded]:
    """As ``charge``, for many uploads of one owner. Returns the error of each that has no room.

    If there is room for all, this is one conditional UPDATE. If not, each upload that still fits is
    counted, in this order.
    """
    owner_id, count, size = uploads[0].owner_id, len(uploads), sum(each.size for each in uploads)
    mine = _usages(rules.name).filter(owner=owner_id)
    most_pending = MOST if rules.max_pending is None else rules.max_pending
    most_size = _max_total_size(rules)
    refused: dict[Upload, QuotaExceeded] = {}
    room = Q(total_size__lte=most_size - size, pending__lte=most_pending - count)
    if not mine.filter(room).update(
        pending=F("pending") + count, total_size=F("total_size") + size
    ):
        usage = mine.select_for_update().first() or _count(owner_id, rules.name)[0]
        for upload in uploads:
            if usage.pending < most_pending and usage.total_size + upload.size <= most_size:
                usage.pending += 1
                usage.total_size += upload.size
            else:
                refused[upload] = _exceeded(usage, rules, upload.size)
        if len(refused) < count:
            mine.update(pending=usage.pending, total_size=usage.total_size)
    for upload in uploads:
        upload.counted = upload not in refused
    return refused


def charge_adopted(uploads: Iterable[Upload], rules: Destination) -> None:
    """As ``charge``, for files that are there already, whatever the limit says."""
    if not rules.limits:
        return
    sizes: dict[Any, int] = {}
    for upload in uploads:
        if upload.owner_id is not None:
            upload.counted = True
            sizes[upload.owner_id] = sizes.get(upload.owner_id, 0) + upload.size
    for owner_id, size in sorted(sizes.items()):
        mine = _usages(rules.name).filter(owner=owner_id)
        more = {"total_size": F("total_size") + size}
        if not mine.update(**more):
            _count(owner_id, rules.name)
            mine.update(**more)


def _usages(destination: str) -> Any:
    return Usage.objects.using(database()).filter(destination=destination)


def _max_total_size(rules: Destination) -> int:
    return MOST if rules.max_total_size is None else rules.max_total_size


def _exceeded(usage: Usage, rules: Destination, size: int) -> QuotaExceeded:
    limit = _max_total_size(rules)
    left = max(0, limit - usage.total_size)
    if size > left:  # reported first, because waiting does not help
        return QuotaExceeded(
            _("%(left)s of %(limit)s are left."),
            {"max_total_size": limit, "total_size": usage.total_size, "left": left},
            {
                "left": destinations.lazy_size(left, beside=size),
                "limit": destinations.lazy_size(limit),
            },
        )
    return TooManyPending(
        _("At most %(most)d uploads at once: finish or cancel one."),
        {"max_pending": rules.max_pending or 0, "pending": usage.pending, "left": 0},
        {"most": rules.max_pending or 0},
    )


def _taken(
    uploads: Iterable[Upload], changes: Mapping[str, Any]
) -> dict[tuple[Any, str], tuple[int, int]]:
    """By owner and destination, sorted: how many uploads are settled, and how many bytes freed."""
    settles = changes.get("status", Status.PENDING) != Status.PENDING
    frees = not changes.get("counted", True)
    taken: dict[tuple[Any, str], tuple[int, int]] = {}
    for upload in uploads:
        settled = settles and upload.status == Status.PENDING
        freed = upload.size if frees else 0
        if upload.counted and upload.is_somebodys and (settled or freed):
            whose = upload.owner_id, upload.destination
            before = taken.get(whose, (0, 0))
            taken[whose] = before[0] + settled, before[1] + freed
    return dict(sorted(taken.items(), key=_in_order))


def _in_order(taken: tuple[tuple[Any, str], Any]) -> tuple[bool, Any, str]:
    """Visitors last, because None cannot be compared with the key of a user."""
    (owner_id, destination), _ = taken
    return owner_id is None, owner_id, destination


@contextmanager
def in_step(uploads: Iterable[Upload], changes: Mapping[str, Any]) -> Iterator[None]:
    """Open a transaction, and lock the usage of these rows' owners, if the changes affect it.

    Inside, write before you read: SQLite allows only one writer at a time (``write_first``). Then
    ``follow`` with the rows that were changed.
    """
    taken = _taken(uploads, changes)
    if not taken:
        yield
        return
    with transaction.atomic(using=database()):
        if connections[database()].features.has_select_for_update:
            owners, names = zip(*taken, strict=True)
            whose = Q(owner__in=set(owners) - {None})
            if None in owners:
                whose |= Q(owner=None)
            usages = Usage.objects.using(database()).select_for_update()
            usages = usages.filter(whose, destination__in=set(names))
            list(usages.order_by("owner_id", "destination").values_list("pk"))
        yield


def follow(uploads: Iterable[Upload], changes: Mapping[str, Any]) -> None:
    """Reduce the usage of these rows' owners. The rows must be as they were before the change."""
    for (owner_id, destination), (settled, freed) in _taken(uploads, changes).items():
        _usages(destination).filter(owner=owner_id).update(
            pending=Greatest(F("pending") - settled, 0),
            total_size=Greatest(F("total_size") - freed, 0),
        )


@receiver(pre_delete, sender=Upload)
def make_room(instance: Upload, **kwargs: Any) -> None:
    """Free the owner's quota when a row is deleted, by us or by the host."""
    if instance.counted:
        with in_step([instance], DELETION):
            write_first(database())
            # Read the row again: under the lock nobody else changes how it counts.
            follow(Upload.objects.using(database()).filter(pk=instance.pk), DELETION)


def limited() -> set[str]:
    """The destinations that have usage rows or limits, also those whose limit was removed."""
    used = Usage.objects.using(database()).values_list("destination", flat=True).distinct()
    return {name for name in conf.destinations() if destinations.get(name).limits} | set(used)


def recount(destination: str) -> Iterator[tuple[Usage, bool]]:
    """Count again what each owner has in a destination. Uploads may continue meanwhile.

    Yields the usage of each owner, and whether it was corrected.
    """
    uploads = Upload.objects.using(database()).filter(destination=destination)
    owned = uploads.exclude(owner=None, visitor=False)
    owners = {
        *owned.order_by().values_list("owner", flat=True).distinct(),
        *_usages(destination).values_list("owner", flat=True),
    }
    for owner_id in [*sorted(owners - {None}), *owners & {None}]:
        try:
            with transaction.atomic(using=database()):
                found = _count(owner_id, destination)
        except IntegrityError:  # the owner was deleted meanwhile
            continue
        yield found


def _count(owner_id: Any, destination: str) -> tuple[Usage, bool]:
    """Count the uploads of one owner, or of all visitors if it is None.

    The usage stays locked until the caller's transaction ends.
    """
    _usages(destination).bulk_create(
        [Usage(owner_id=owner_id, destination=destination)], ignore_conflicts=True
    )
    usage = _usages(destination).select_for_update().get(owner=owner_id)
    before = usage.pending, usage.total_size
    mine = Upload.objects.using(database()).filter(
        owner=owner_id, visitor=owner_id is None, destination=destination
    )
    # Uploads that are older than the limit are not counted yet. Tombstones stay uncounted, because
    # their objects may be deleted already.
    alive = (Status.PENDING, Status.VERIFYING, Status.COMPLETED)
    mine.filter(counted=False, status__in=alive).update(counted=True)
    now = mine.filter(counted=True).aggregate(
        pending=Count("pk", filter=Q(status=Status.PENDING)), total_size=Sum("size")
    )
    usage.pending, usage.total_size = now["pending"], now["total_size"] or 0
    usage.save(using=database(), update_fields=["pending", "total_size"])
    return usage, before != (usage.pending, usage.total_size)
