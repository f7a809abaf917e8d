"""New Year's Eve: uploads that arrive at a fixed rate, whether Django keeps up or not.

The tools that do this (k6, wrk2, vegeta) are in no package here, and none of them can send what a
begin answers to S3. So the load is made here, by threads. A request's time counts from when it was
due: whoever answers late is not asked later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .cost import BATCHES, OURS, S3FF, THROUGH, WAYS, film_table, signed_in
from .protocols import BATCH, Visit
from .report import MIB, Benchmark, Line, say
from .served import BenchSite, Workers, gunicorn

WORKERS = 2
STEP = 8  # seconds
FIRST, FASTER = 4.0, 1.5  # uploads a second, and how much faster the next step is
PATIENCE = 0.2  # seconds: the p99 of Django's requests
CLIENTS = 120  # at once at most
GOALS = {OURS: 2, BATCHES: 8}


@dataclass
class Step:
    rate: float  # uploads a second
    p99: float  # seconds
    failed: int
    core: float  # uploads for a second of Django's CPU

    @property
    def kept_up(self) -> bool:
        return not self.failed and self.p99 <= PATIENCE

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.rate:.0f} a second: p99 {self.p99 * 1000:.0f} ms{failed}; {self.core:.0f} for a CPU second"


def run(site: BenchSite, folder: Path) -> tuple[Benchmark, dict[str, float]]:
    best: dict[str, Step] = {}
    lines = []
    with film_table(), gunicorn(site, folder, workers=WORKERS) as workers:
        visit = signed_in(workers.url)
        for way in (THROUGH, S3FF, OURS, BATCHES):
            best[way], beyond = steps(site, workers, visit, way)
            kept = "" if best[way].kept_up else "not even "
            lines.append(
                Line(f"{way}: the highest rate", f"{kept}{best[way]}; then {beyond}", row=8)
            )
    for way, goal in GOALS.items():
        ratio = best[way].core / best[THROUGH].core
        lines.append(
            Line(
                f"{way} ÷ through Django",
                f"{ratio:.1f}: {best[way].core:.0f} and {best[THROUGH].core:.0f} uploads",
                f"≥ {goal}",
                ratio >= goal,
                8,
                THROUGH,
                "" if ratio >= goal else "rows 1, 2 and 4 say what computes",
            )
        )
    benchmark = Benchmark(
        "New Year's Eve",
        f"Uploads of 1 MiB arrive at a fixed rate (an open loop) for {STEP} s, at gunicorn with {WORKERS} sync workers, "
        f"PostgreSQL and Ceph; the next step is {FASTER} times as fast, until the p99 of Django's requests exceeds "
        f"{PATIENCE * 1000:.0f} ms twice. A request's time counts from when it was due. The load is "
        "made by `benchmarks/rate.py`, which asks Django and sends to S3 as a client does. "
        "Uploads for a CPU second are those of the highest rate that was kept, for each second of CPU time of the workers: "
        "client, PostgreSQL and Ceph share the machine, and so limit the rate itself.",
        lines,
    )
    return benchmark, {way: step.core for way, step in best.items()}


def steps(site: BenchSite, workers: Workers, visit: Visit, way: str) -> tuple[Step, Step]:
    """The fastest step that was kept, and the one after it."""
    count = BATCH if way == BATCHES else 1
    load(workers, visit, way, count * 1.0)  # a process's first is nobody's
    kept: Step | None = None
    rate = FIRST * (5 if count > 1 else 1)
    again = False
    while True:
        step = load(workers, visit, way, rate)
        say(f"rate: {way}: {step}")
        site.empty_all()
        if step.kept_up:
            kept, rate, again = step, rate * FASTER, False
        elif again:
            return kept or step, step
        again = not step.kept_up


def load(workers: Workers, visit: Visit, way: str, rate: float) -> Step:
    count = BATCH if way == BATCHES else 1
    every = count / rate
    times = max(1, round(STEP / every))
    futures: list[Future[list[float]]] = []
    cpu, start = workers.cpu(), time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        for number in range(times):
            due = start + number * every
            time.sleep(max(0, due - time.perf_counter()))
            futures.append(pool.submit(late, WAYS[way], visit, due))
    cpu = workers.cpu() - cpu
    took = sorted(each for future in futures if not future.exception() for each in future.result())
    failed = sum(bool(future.exception()) for future in futures)
    p99 = took[min(len(took) - 1, int(len(took) * 0.99))] if took else float("inf")
    return Step(rate, p99, failed, (times - failed) * count / cpu)


def late(upload: Callable[[Visit, int], list[float]], visit: Visit, due: float) -> list[float]:
    """What Django's requests took. The first one was due before its thread was free."""
    waited = time.perf_counter() - due
    first, *others = upload(visit, MIB)
    return [first + waited, *others]
