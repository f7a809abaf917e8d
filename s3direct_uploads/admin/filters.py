"""Filters of the list of uploads, each with an index or a bound."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.views.main import SEARCH_VAR
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from s3direct_uploads import times
from s3direct_uploads.destinations import strip_invisible
from s3direct_uploads.models import Upload

MOST_LOOKED_AT = 50_000  # rows, by a filter that has no index


def first_id(moment: datetime) -> UUID:
    """The smallest id that an upload has if it begins at this moment: a UUIDv7 begins with it."""
    milliseconds = int(times.utc(moment).timestamp() * 1000)
    return UUID(int=milliseconds << 80)


def beginnings() -> dict[str, datetime]:
    """When each of these spans of time began, at a midnight of the current time zone."""
    now = timezone.now()
    now = timezone.localtime(now) if timezone.is_aware(now) else now
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return {"today": today, "week": today - timedelta(days=7), "month": today.replace(day=1)}


def is_search(request: HttpRequest) -> bool:
    """Whether the list is searched: Django ignores a term with a NUL, and we an invisible one."""
    term = request.GET.get(SEARCH_VAR, "")
    return "\0" not in term and bool(strip_invisible(term).strip())


def most_looked_at(request: HttpRequest) -> int | None:
    """How many rows the chosen filters look at; None if they look at all."""
    is_bounded = any(request.GET.get(name) for name in BOUNDED)
    return MOST_LOOKED_AT if is_bounded and not is_search(request) else None


def among_newest(request: HttpRequest, uploads: QuerySet[Any]) -> QuerySet[Any]:
    """Without those that are older than the newest MOST_LOOKED_AT of the table.

    A search finds few rows by its index, so then no row is too old.
    """
    if is_search(request):
        return uploads
    newest = uploads.model._default_manager.using(uploads.db).order_by("-pk")
    oldest = newest.values_list("pk", flat=True)[MOST_LOOKED_AT - 1 : MOST_LOOKED_AT]
    return uploads.filter(pk__gte=each) if (each := next(iter(oldest), None)) else uploads


class BegunFilter(admin.SimpleListFilter):
    """By the id, which grows with time: so the primary key is the index."""

    title = _("date")
    parameter_name = "begun"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("today", _("Today")), ("week", _("Past 7 days")), ("month", _("This month"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        beginning = beginnings().get(self.value() or "")
        return queryset.filter(pk__gte=first_id(beginning)) if beginning else queryset


class NewestFilter(admin.SimpleListFilter):
    """A filter by a column without an index. It looks at the newest uploads."""

    kinds: ClassVar[dict[str, tuple[Any, Q]]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(value, name) for value, (name, _q) in self.kinds.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        _name, wanted = self.kinds.get(self.value() or "", (None, None))
        return queryset if wanted is None else among_newest(request, queryset).filter(wanted)


class AttachedFilter(NewestFilter):
    title = _("use")
    parameter_name = "attached"
    kinds = {
        "yes": (_("A model uses it"), Q(attached_at__isnull=False)),
        "no": (
            _("Completed, and nothing uses it"),
            Q(status=Upload.Status.COMPLETED, attached_at__isnull=True),
        ),
    }


class OwnerFilter(NewestFilter):
    title = _("owner")
    parameter_name = "by"
    kinds = {
        "user": (_("A user"), Q(owner__isnull=False)),
        "visitor": (_("A visitor without a login"), Q(visitor=True)),
        # Also the uploads of a user whose row was deleted.
        "script": (_("A script, or a deleted user"), Q(owner__isnull=True, visitor=False)),
    }


BOUNDED = ("attached", "by", "destination")  # the parameters of filters that look at the newest
