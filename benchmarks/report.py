"""What was measured, beside its goal, as a table; and on what machine."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

MIB, GIB = 1024**2, 1024**3
PART_SIZE = 16 * MIB  # of each one that sends a file in parts
RESULTS = Path(__file__).parent / "RESULTS.md"


@dataclass
class Line:
    """A line of a table. ``met`` is None where there is no goal."""

    what: str
    measured: str
    goal: str = ""
    met: bool | None = None
    row: int = 0  # of the one table; 0: it is only in its section's
    yardstick: str = ""  # beside what
    bound: str = ""  # what bounds it, if the goal is missed
    failed: bool = False  # it could not be measured

    @property
    def verdict(self) -> str:
        if self.failed:
            return "**failed**"
        return {True: "met", False: "**missed**", None: ""}[self.met]


@dataclass
class Benchmark:
    title: str
    how: str  # what was measured exactly, for who doubts it
    lines: list[Line]
    seconds: float = 0  # that it took


def middle(numbers: Iterable[float], form: str = ".2f", unit: str = "") -> str:
    """The median, and between what it lies: "0.95 s (0.91 to 0.99)"."""
    ordered = sorted(numbers)
    low, high = ordered[0], ordered[-1]
    return f"{statistics.median(ordered):{form}}{unit} ({low:{form}} to {high:{form}})"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def first_line(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0]


def machine() -> dict[str, str]:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "Processor": f"{os.cpu_count()} × {model[1] if model else platform.machine()}",
        "Memory": f"{pages / GIB:.0f} GiB",
        "System": f"{platform.system()} {platform.release()}",
        "Load when it began": f"{os.getloadavg()[0]:.2f} (mean of a minute)",
    }


def versions() -> dict[str, str]:
    packages = ("Django", "djangorestframework", "boto3", "botocore", "psycopg", "gunicorn")
    return {
        "Python": platform.python_version(),
        **{name: version(name) for name in (*packages, "django-storages", "playwright")},
        "Node.js": first_line("scripts/node", "node", "--version"),
        "curl": first_line("curl", "--version").split()[1],
        "Chromium": first_line(os.environ["CHROMIUM"], "--version").split()[1],
    }


def table(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def as_table(lines: Iterable[Line]) -> str:
    heads = [("what", "measured", "goal", ""), ("---",) * 4]
    return table([*heads, *[(each.what, each.measured, each.goal, each.verdict) for each in lines]])


def write(
    summary: str, benchmarks: Sequence[Benchmark], facts: dict[str, str], seconds: float
) -> None:
    names = ", ".join(f"`{name}`" for name in facts.pop("sections").split())
    parts = [
        "# How fast it is",
        f"Measured on {datetime.now(UTC):%Y-%m-%d at %H:%M} UTC by `python -m benchmarks`, which `make bench` runs, "
        f"within {seconds / 60:.0f} minutes. "
        "Client, Django and S3 were one machine, so that what they compute counts and a network does "
        "not. What is compared ran in pairs, turn about; a ratio is the median of the pairs' "
        "ratios, and in brackets are the least and the greatest. Where a goal is missed, a profile of the same calls "
        "says which packages compute. `scripts/with-servers .venv/bin/python -m benchmarks curl` measures one "
        f"section alone: {names}.",
        summary,
    ]
    for benchmark in benchmarks:
        took = f"It took {benchmark.seconds:.0f} s."
        parts += [f"## {benchmark.title}", f"{benchmark.how} {took}", as_table(benchmark.lines)]
    parts += ["## Where", table([("", ""), ("---", "---"), *facts.items()])]
    RESULTS.write_text("\n\n".join(parts) + "\n")
