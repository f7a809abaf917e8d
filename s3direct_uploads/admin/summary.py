"""The figures above the list of uploads. No query reads more rows than its bound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from django.db.models import Count, Q, QuerySet, Sum
from django.utils.translation import gettext_lazy as _

from s3direct_uploads.destinations import format_size
from s3direct_uploads.models import Upload

from .filters import beginnings, first_id

MOST_COUNTED = 1000  # rows
MOST_SUMMED = 5000  # rows: a sum must read each of them

Status = Upload.Status


class Figure(NamedTuple):
    name: Any
    value: str
    query: str = ""  # the list that it counts


def figures(uploads: QuerySet[Upload]) -> Iterator[Figure]:
    """What support asks first. The index of statuses answers the first three."""
    since = {span: first_id(moment) for span, moment in beginnings().items()}
    yield Figure(
        _("Under way"),
        _count(uploads.filter(status=Status.PENDING)),
        "?status__exact=pending",
    )
    yield Figure(
        _("Begun today and rejected"),
        _count(uploads.filter(status=Status.REJECTED, pk__gte=since["today"])),
        "?status__exact=rejected&begun=today",
    )
    yield Figure(
        _("Begun in the past 7 days and expired"),
        _count(uploads.filter(status=Status.EXPIRED, pk__gte=since["week"])),
        "?status__exact=expired&begun=week",
    )
    yield Figure(
        _("Begun in the past 7 days and completed"),
        _size(uploads.filter(pk__gte=since["week"])),
        "?status__exact=completed&begun=week",
    )


def _count(uploads: QuerySet[Upload]) -> str:
    count = uploads.order_by("-pk")[: MOST_COUNTED + 1].count()
    return f"{MOST_COUNTED:,}+" if count > MOST_COUNTED else f"{count:,}"


def _size(uploads: QuerySet[Upload]) -> str:
    """How many bytes the newest of them have; with a plus if there are more."""
    newest = uploads.order_by("-pk").values("status", "size")[:MOST_SUMMED]
    completed = Q(status=Status.COMPLETED)
    found = newest.aggregate(rows=Count("size"), total=Sum("size", filter=completed))
    size = format_size(found["total"] or 0).replace(" ", "\N{NO-BREAK SPACE}")
    return f"{size}+" if found["rows"] == MOST_SUMMED else size
