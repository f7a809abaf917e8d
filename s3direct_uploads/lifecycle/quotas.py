"""How much one owner has in one destination, in step with the rows, by short transactions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.db import transaction
from django.db.models import Count, F, Q, Sum
from django.db.models.functions import Greatest

from s3direct_uploads import destinations
from s3direct_uploads.destinations import Destination
from s3direct_uploads.exceptions import QuotaExceeded, TooManyPending
from s3direct_uploads.models import Upload, Usage

from .connection import database

Status = Upload.Status


def charge(upload: Upload, rules: Destination) -> None:
    """Count an upload that is about to be inserted, in the INSERT's own transaction.

    One conditional UPDATE, so of many at once exactly as many pass as there is room for.
    Raises QuotaExceeded, TooManyPending.
    """
    assert upload.owner_id is not None  # scripts have no limits
    mine = Usage.objects.using(database()).filter(owner=upload.owner_id, destination=rules.name)
    room = Q()
    if rules.max_pending is not None:
        room &= Q(pending__lt=rules.max_pending)
    if rules.max_total_size is not None:
        room &= Q(total_size__lte=rules.max_total_size - upload.size)
    one_more = {"pending": F("pending") + 1, "total_size": F("total_size") + upload.size}
    if not mine.filter(room).update(**one_more):
        first = Usage(owner_id=upload.owner_id, destination=rules.name)
        Usage.objects.using(database()).bulk_create([first], ignore_conflicts=True)
        if not mine.filter(room).update(**one_more):
            raise _exceeded(mine.get(), rules)
    upload.counted = True


def _exceeded(usage: Usage, rules: Destination) -> QuotaExceeded:
    full = rules.max_pending is not None and usage.pending >= rules.max_pending
    # Where neither is, somebody made room a moment ago.
    if full or rules.max_total_size is None:
        return TooManyPending(
            f"At most {rules.max_pending} uploads at once: finish or cancel one.",
            {"max_pending": rules.max_pending or 0, "pending": usage.pending, "left": 0},
        )
    limit = rules.max_total_size
    left = max(0, limit - usage.total_size)
    return QuotaExceeded(
        f"{destinations.format_size(left)} of {destinations.format_size(limit)} are left.",
        {"max_total_size": limit, "total_size": usage.total_size, "left": left},
    )


def follow(uploads: Iterable[Upload], changes: Mapping[str, Any]) -> None:
    """What ``changes`` of these rows, as they were read before, take from their owners' usage."""
    settled: Counter[tuple[Any, str]] = Counter()
    gone: Counter[tuple[Any, str]] = Counter()
    for upload in uploads:
        if upload.counted and upload.owner_id is not None:
            whose = upload.owner_id, upload.destination
            settled[whose] += upload.status == Status.PENDING != changes.get("status", "pending")
            gone[whose] += upload.size * (not changes.get("counted", True))
    # In one order always, or two of these would wait for each other.
    for owner_id, destination in sorted(settled.keys()):
        whose = owner_id, destination
        if settled[whose] or gone[whose]:
            Usage.objects.using(database()).filter(owner=owner_id, destination=destination).update(
                pending=Greatest(F("pending") - settled[whose], 0),
                total_size=Greatest(F("total_size") - gone[whose], 0),
            )


def recount(destination: str) -> Iterator[tuple[Usage, bool]]:
    """Count what each owner has in a destination anew: a limit has not seen what was there before.

    Yields each one's usage, and whether it was another before.
    """
    uploads = Upload.objects.using(database()).filter(destination=destination)
    usages = Usage.objects.using(database()).filter(destination=destination)
    owners = uploads.exclude(owner=None).order_by("owner").values_list("owner", flat=True)
    for owner_id in sorted({*owners.distinct(), *usages.values_list("owner", flat=True)}):
        with transaction.atomic(using=database()):
            mine = uploads.filter(owner=owner_id)
            Usage.objects.using(database()).bulk_create(
                [Usage(owner_id=owner_id, destination=destination)], ignore_conflicts=True
            )
            # Whoever begins an upload, or settles one that is counted, waits until we are through.
            usage = usages.select_for_update().get(owner=owner_id)
            before = usage.pending, usage.total_size
            alive = (Status.PENDING, Status.VERIFYING, Status.COMPLETED)
            mine.filter(counted=False, status__in=alive).update(counted=True)
            now = mine.filter(counted=True).aggregate(
                pending=Count("pk", filter=Q(status=Status.PENDING)), total_size=Sum("size")
            )
            usage.pending, usage.total_size = now["pending"], now["total_size"] or 0
            usage.save(using=database())
        yield usage, before != (usage.pending, usage.total_size)
