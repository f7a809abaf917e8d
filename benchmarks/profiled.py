"""What bounds a figure: which packages computed, by a profile of the same calls."""

from __future__ import annotations

import cProfile
import pstats
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

SHOWN = 5  # packages


def bound_by(calls: Callable[[], Any]) -> str:
    """As "profile: psycopg 31 %, django 25 %": the packages' own time, without what they call."""
    profile = cProfile.Profile(time.process_time)  # who waits does not compute
    profile.enable()
    try:
        calls()
    finally:
        profile.disable()
    return f"by a profile: {shares(profile)}"


def shares(profile: cProfile.Profile) -> str:
    own: Counter[str] = Counter()
    for (file, _, _), (_, _, seconds, _, callers) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if file == "~":  # of C: whoever called it
            for (caller, _, _), counted in callers.items():
                own[_package(caller)] += counted[2]
        else:
            own[_package(file)] += seconds
    whole = own.total()
    return ", ".join(f"{name} {part / whole:.0%}" for name, part in own.most_common(SHOWN))


def share_in(profile: cProfile.Profile, file: str, names: set[str]) -> float:
    """The part of the time that passes in these functions, with all that they call."""
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    whole = sum(seconds for _, _, seconds, _, _ in stats.values())
    inside = sum(
        seconds
        for (where, _, name), (_, _, _, seconds, _) in stats.items()
        if where.endswith(file) and name in names
    )
    return float(inside / whole)


def _package(file: str) -> str:
    found = re.search(r"site-packages/(\w+)|/(s3direct_uploads|benchmarks)/", file)
    if found:
        return found[1] or found[2]
    return "Python's library"


class Inline:
    """In a ThreadPoolExecutor's place: a profile sees no other thread."""

    def __init__(self, *_: Any) -> None:
        pass

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, function: Callable[[Any], Any], items: Any) -> Iterator[Any]:
        return map(function, items)
