"""What an upload costs a gunicorn worker: through Django, by django-s3-file-field, and by ours."""

from __future__ import annotations

import cProfile
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client, override_settings

from s3direct_uploads.lifecycle import batches

from .goals import guarded
from .profiled import Inline, share_in, shares
from .protocols import BATCH, Upload, Visit, ours, ours_in_a_batch, s3_file_field, through
from .report import GIB, MIB, Benchmark, Line, middle
from .rivals import Film
from .served import BenchSite, Workers, gunicorn

KIB = 1024
THROUGH, S3FF, OURS, BATCHES = (
    "through Django",
    "django-s3-file-field",
    "ours",
    f"ours, in batches of {BATCH}",
)
WAYS: dict[str, Upload] = {
    THROUGH: through,
    S3FF: s3_file_field,
    OURS: ours,
    BATCHES: ours_in_a_batch,
}
# Size: rounds, and how many uploads of each way follow each other in a round.
SIZES = {100 * KIB: (7, 15), MIB: (7, 10), 10 * MIB: (5, 4), GIB: (2, 1)}
# Size: how many times ours the other way costs at least, for one upload alone and in a batch.
GOALS: dict[str, dict[int, tuple[float, float | None]]] = {
    THROUGH: {100 * KIB: (1.5, 6), MIB: (2, 8), 10 * MIB: (10, None), GIB: (500, None)},
    S3FF: {100 * KIB: (2.5, 8), MIB: (2.5, 8)},
}
PROTOCOLS = 30  # of 10 KiB

Costs = dict[int, dict[str, list[float]]]  # CPU seconds of an upload, by size and way


def run(site: BenchSite, folder: Path, *, quick: bool = False) -> tuple[Benchmark, Costs]:
    sizes = [size for size in SIZES if size < GIB or not quick]
    ways = [way for way in WAYS if way != S3FF or not quick]
    with film_table(), gunicorn(site, folder) as worker:
        visit = signed_in(worker.url)
        costs: Costs = {}
        lines = []
        for size in sizes:

            def both(size: int = size) -> Iterator[Line]:
                costs[size] = measure(site, worker, visit, size, ways)
                yield from compared(size, costs[size])

            lines += guarded(5, shown(size), both)
        if not quick:
            lines += guarded(7, "10 KiB", partial(elapsed, visit))
            lines += guarded(5, "memory", partial(memory, site, worker, visit))
        site.empty_all()
    benchmark = Benchmark(
        "What an upload costs Django",
        "One gunicorn worker (sync, DEBUG off, its connection to PostgreSQL kept), PostgreSQL and Ceph. CPU time is "
        "the worker's whole, user and system, with sessions and middleware; its client and S3 are not in it. "
        "Through Django: a view of REST Framework with a FileField that django-storages saves. "
        "django-s3-file-field: its own app, of which no row is saved. Ours: begin and confirm; "
        f"a file of more than 16 MiB is sent in parts. In a batch are {BATCH} uploads. The ways take "
        "turns, in each round in the other order.",
        lines,
    )
    return benchmark, costs


def signed_in(url: str) -> Visit:
    client = Client()
    client.force_login(get_user_model().objects.get())
    return Visit(url, client.cookies["sessionid"].value)


@contextmanager
def film_table() -> Iterator[None]:
    """That of the files which pass through Django."""
    with connection.schema_editor() as schema:
        schema.create_model(Film)
    try:
        yield
    finally:
        with connection.schema_editor() as schema:
            schema.delete_model(Film)


def measure(
    site: BenchSite, worker: Workers, visit: Visit, size: int, ways: list[str]
) -> dict[str, list[float]]:
    rounds, count = SIZES[size]
    here = [way for way in ways if way != BATCHES or size < GIB]  # which is sent in parts, alone
    if size < GIB:
        for way in here:
            WAYS[way](visit, size)  # a process's first is nobody's
    costs: dict[str, list[float]] = {way: [] for way in here}
    for number in range(rounds):
        for way in here if number % 2 else reversed(here):
            times, uploads = (1, BATCH) if way == BATCHES else (count, count)
            before = worker.cpu()
            for _ in range(times):
                WAYS[way](visit, size)
            costs[way].append((worker.cpu() - before) / uploads)
            site.empty_all()  # Ceph has them in its memory
    return costs


def shown(size: int) -> str:
    for unit, name in ((GIB, "GiB"), (MIB, "MiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size // KIB} KiB"


def compared(size: int, costs: dict[str, list[float]]) -> Iterator[Line]:
    for other, goals in GOALS.items():
        for way, goal in zip((OURS, BATCHES), goals.get(size, (None, None)), strict=True):
            if other not in costs or way not in costs:
                continue
            ratios = [theirs / mine for theirs, mine in zip(costs[other], costs[way], strict=True)]
            theirs, mine = (median(costs[each]) * 1000 for each in (other, way))
            yield Line(
                f"{shown(size)}: {other} ÷ {way}",
                f"{middle(ratios, '.1f')}, {len(ratios)} rounds; {theirs:.2f} and {mine:.2f} ms",
                f"≥ {goal}" if goal else "",
                median(ratios) >= goal if goal else None,
                5 if other == THROUGH else 6,
                other,
                "" if goal is None or median(ratios) >= goal else bound(way, size == GIB),
            )


class Inside(Visit):
    """Asks Django in this process, and profiles it: a profile sees no other process."""

    def __init__(self) -> None:
        super().__init__("http://localhost", "")
        self.profile = cProfile.Profile(time.process_time)
        self.client = Client(headers={"host": "localhost"})
        self.client.force_login(get_user_model().objects.get())

    def post(
        self, path: str, body: Any, content_type: str, took: list[float], size: int | None = None
    ) -> Any:
        self.profile.enable()
        answer = self.client.post(path, body, content_type=content_type)
        self.profile.disable()
        assert answer.status_code in (200, 201), answer.content[:500]
        return json.loads(answer.content)


@cache
def bound(way: str, in_parts: bool) -> str:
    """What computes in the requests of this way, and how much of it is the app's."""
    size, times = (33 * MIB, 5) if in_parts else (KIB, 20 if way == OURS else 3)
    with (
        override_settings(DEBUG=False, ALLOWED_HOSTS=["localhost"]),
        patch.object(batches, "ThreadPoolExecutor", Inline),
    ):
        WAYS[way](Inside(), size)  # the first one makes caches
        visit = Inside()
        for _ in range(times):
            WAYS[way](visit, size)
    actions = {"create", "confirm", "begin_batch", "confirm_batch"}
    inside = share_in(visit.profile, "s3direct_uploads/views/viewset.py", actions)
    return (
        f"by a profile, {inside:.0%} of the requests' time is in the views' actions, and the rest is "
        f"session, user, middleware and dispatch; by package: {shares(visit.profile)}"
    )


def elapsed(visit: Visit) -> Iterator[Line]:
    size = 10 * KIB
    times: dict[str, list[float]] = {S3FF: [], OURS: []}
    for number in range(PROTOCOLS):
        for way in times if number % 2 else reversed(times):
            start = time.perf_counter()
            WAYS[way](visit, size)
            times[way].append(time.perf_counter() - start)
    ratios = [theirs / mine for theirs, mine in zip(times[S3FF], times[OURS], strict=True)]
    theirs, mine = (median(times[way]) * 1000 for way in (S3FF, OURS))
    yield Line(
        "10 KiB, elapsed: django-s3-file-field ÷ ours",
        f"{middle(ratios, '.1f')}, {PROTOCOLS} pairs; {theirs:.1f} and {mine:.1f} ms",
        "≥ 6",
        median(ratios) >= 6,
        7,
        S3FF,
        "" if median(ratios) >= 6 else split(visit, size),
    )


def split(visit: Visit, size: int) -> str:
    """How much of each protocol is Django's, and how much S3's and the client's."""
    said = []
    for way in (S3FF, OURS):
        start = time.perf_counter()
        took = [WAYS[way](visit, size) for _ in range(10)]
        whole = (time.perf_counter() - start) / 10 * 1000
        django = sum(map(sum, took)) / 10 * 1000
        said.append(f"{way}: {django:.1f} of {whole:.1f} ms are Django's {len(took[0])} requests")
    return "; ".join(said)


def memory(site: BenchSite, worker: Workers, visit: Visit) -> Iterator[Line]:
    for way in (OURS, THROUGH):
        worker.forget_memory()
        before = worker.most_memory()
        WAYS[way](visit, GIB)
        grown = worker.most_memory() - before
        site.empty_all()
        yield Line(f"1 GiB, {way}: memory of the worker", f"+{grown / MIB:.0f} MiB at most", row=5)
