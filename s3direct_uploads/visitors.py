"""System checks for destinations that take uploads from visitors (ANONYMOUS)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.core.checks import CheckMessage, Warning
from django.urls import URLPattern, get_resolver

from . import destinations
from .destinations import Destination

VIEWSET = ("s3direct_uploads.views.viewset", "UploadViewSet")


def check_visitors(**kwargs: Any) -> list[CheckMessage]:
    open_to_all = [each for each in destinations.usable().values() if each.anonymous]
    return list(_problems(open_to_all)) if open_to_all else []


def _problems(open_to_all: list[Destination]) -> Iterator[CheckMessage]:
    for each in open_to_all:
        limits = {"MAX_PENDING": each.max_pending, "MAX_TOTAL_SIZE": each.max_total_size}
        missing = [key for key, limit in limits.items() if limit is None]
        if missing:
            yield Warning(
                f"The destination {each.name!r} has ANONYMOUS, and not {' and '.join(missing)}: "
                "anybody can fill the bucket.",
                hint="Write both limits. They count all visitors of this destination together.",
                id="s3direct_uploads.W091",
            )
        if each.permission:
            yield Warning(
                f"The destination {each.name!r} has ANONYMOUS, and its PERMISSION "
                f"{each.permission!r} refuses every visitor.",
                hint="Leave out one of the two.",
                id="s3direct_uploads.W092",
            )
    if not all(_throttles()):
        names = ", ".join(sorted(each.name for each in open_to_all))
        yield Warning(
            f"Nothing limits how often a visitor begins an upload to {names}: one visitor could "
            "take the place of all others.",
            hint="Write DEFAULT_THROTTLE_CLASSES and DEFAULT_THROTTLE_RATES in REST_FRAMEWORK, or "
            "throttle_classes in your subclass of UploadViewSet. Silence this warning if your "
            "proxy limits requests by address.",
            id="s3direct_uploads.W093",
        )


def _throttles() -> Iterator[bool]:
    """For each place where the viewset is mounted, whether it has a throttle."""
    try:
        patterns = get_resolver().url_patterns
    except Exception:  # the URLs cannot be imported: a check of Django says so
        return
    for pattern in _flat(patterns):
        view: Any = getattr(pattern.callback, "cls", None)
        bases = getattr(view, "__mro__", ())
        if any((each.__module__, each.__qualname__) == VIEWSET for each in bases):
            yield bool(view.throttle_classes)


def _flat(patterns: Iterable[Any]) -> Iterator[URLPattern]:
    for each in patterns:
        if isinstance(each, URLPattern):
            yield each
        else:
            yield from _flat(each.url_patterns)
