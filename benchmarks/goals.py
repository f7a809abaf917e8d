"""The rows of the one table, and which section measures which of them."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable

from .report import Benchmark, Line, say, table

ROWS = {
    1: "begin, one file",
    2: "confirm, one file",
    3: "retrieve; list of 50",
    4: "a batch of 100",
    5: "CPU of Django for an upload: through Django ÷ ours",
    6: "CPU of Django for an upload: django-s3-file-field ÷ ours",
    7: "the whole protocol of 10 KiB, elapsed: django-s3-file-field ÷ ours",
    8: "New Year's Eve: uploads of 1 MiB for a second of Django's CPU: ours ÷ through Django",
    9: "many rows ÷ none: elapsed",
    10: "signing; 1 GiB from Node.js and Chromium",
    11: "a process that starts",
}
SECTIONS: dict[str, tuple[int, ...]] = {
    "requests": (1, 2, 3),
    "batch": (4,),
    "cost": (5, 6, 7),
    "rate": (8,),
    "rows": (9,),
    "signing": (10,),
    "curl": (10,),
    "browser": (10,),
    "start": (11,),
    "begin": (),
    "scaling": (),
}
QUICK = ("requests", "batch", "cost")  # rows 1 to 5, in two minutes


def attempt(name: str, measure: Callable[[], Benchmark]) -> Benchmark:
    """What this section measured. If it fails, its rows say why, and the others still run."""
    start = time.monotonic()
    try:
        benchmark = measure()
    except Exception as error:
        lines = [_failed(row, name, error) for row in SECTIONS[name] or (0,)]
        benchmark = Benchmark(f"{name}: failed", "The measurement ended with an error.", lines)
    benchmark.seconds = time.monotonic() - start
    say(f"{name}: {benchmark.seconds:.0f} s")
    return benchmark


def guarded(row: int, what: str, lines: Callable[[], Iterable[Line]]) -> list[Line]:
    """These lines of a row, or one that says why they failed."""
    found: list[Line] = []
    try:
        for line in lines():
            say(f"{line.what}: {line.measured}")
            found.append(line)
    except Exception as error:
        found.append(_failed(row, what, error))
    return found


def _failed(row: int, what: str, error: Exception) -> Line:
    traceback.print_exception(error)
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200].replace("|", "/")
    return Line(what, f"failed: {reason}", row=row, failed=True)


def one_table(benchmarks: Iterable[Benchmark]) -> str:
    """All lines that belong to a row, in the rows' order."""
    lines = [line for each in benchmarks for line in each.lines if line.row]
    heads = [("row", "what", "goal", "beside", "measured", ""), ("---",) * 6]
    rows = []
    for row, title in ROWS.items():
        for line in lines:
            if line.row == row:
                verdict = f"{line.verdict}; {line.bound}" if line.bound else line.verdict
                cells = (line.what, line.goal, line.yardstick, line.measured, verdict)
                rows.append((f"{row} {title}", *cells))
                title = ""
    return table([*heads, *rows])
