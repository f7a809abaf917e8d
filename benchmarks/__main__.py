"""`make bench`: measures, prints one table, draws two plots and writes RESULTS.md.

    python -m benchmarks [quick] [SECTION …] [--rows NUMBER]

With sections (see goals.py) it does these alone; ``quick`` are those of the rows 1 to 5. Then it
writes nothing. It wants the servers that scripts/with-servers starts.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from .browser import PACKAGES, bundle
from .goals import QUICK, SECTIONS, attempt, one_table
from .report import Benchmark, as_table, machine, say, versions, write
from .served import BenchSite, Film

FILES = {"curl", "browser"}  # the sections that send 1 GiB from a file


def main() -> None:
    asked = arguments()
    quick = "quick" in asked.sections
    names = [name for name in SECTIONS if name in asked.sections]
    if quick or not names:
        names = list(QUICK if quick else SECTIONS)
    whole = not asked.sections
    start = time.monotonic()
    facts = machine()
    with TemporaryDirectory(prefix="bench-") as temporary:
        folder = Path(temporary)
        static = folder / "static"
        static.mkdir()
        site = BenchSite(static)
        with site.serving(folder / "log"):
            try:
                measured = Measured(site, folder, rows=asked.rows, quick=quick)
                benchmarks = [measured.section(name) for name in names]
                if whole:
                    facts |= {**versions(), **servers(site), **PACKAGES}
            finally:
                site.remove()
    for benchmark in benchmarks:
        print(f"\n{benchmark.title}\n\n{as_table(benchmark.lines)}")
    summary = one_table(benchmarks)
    print(f"\n{summary}")
    if whole:
        measured.plot()
        facts["sections"] = " ".join(SECTIONS)
        write(summary, benchmarks, facts, time.monotonic() - start)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("sections", nargs="*", choices=[[], "quick", *SECTIONS])
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the section rows")
    return parser.parse_args()


class Measured:
    """What was measured so far, for the plots."""

    def __init__(self, site: BenchSite, folder: Path, *, rows: int, quick: bool) -> None:
        os.environ.update(site.env)
        import django

        django.setup()
        self.site, self.folder, self.rows, self.quick = site, folder, rows, quick
        self.film: Film | None = None
        self.costs: dict[int, dict[str, list[float]]] = {}
        self.rates: dict[str, float] = {}

    def section(self, name: str) -> Benchmark:
        return attempt(name, partial(self._measure, name))

    def _measure(self, name: str) -> Benchmark:
        from . import batch, begin, browser, cost, curl, rate, requests, rows, scaling, signing
        from . import start as starting

        if name in FILES and self.film is None:
            self.film = Film(self.folder)
        match name:
            case "cost":
                benchmark, self.costs = cost.run(self.site, self.folder, quick=self.quick)
                return benchmark
            case "rate":
                benchmark, self.rates = rate.run(self.site, self.folder)
                return benchmark
            case "rows":
                return rows.run(self.site, self.rows)
            case "scaling":
                return scaling.run(self.site, self.folder)
            case "start":
                return starting.run(self.site)
            case "curl":
                assert self.film
                return curl.run(self.site, self.film, self.folder)
            case "browser":
                assert self.film
                bundle(self.folder / "static")
                return browser.run(self.site, self.film)
        alone: dict[str, Callable[[], Benchmark]] = {
            "requests": requests.run,
            "batch": batch.run,
            "signing": signing.run,
            "begin": begin.run,
        }
        return alone[name]()

    def plot(self) -> None:
        """If both were measured: no plot shows half of it."""
        if self.costs and self.rates:
            from . import plots

            plots.draw(self.costs, self.rates)
        else:
            say("The plots are not drawn: one of their sections failed.")


def servers(site: BenchSite) -> dict[str, str]:
    answer = site.client.list_objects_v2(Bucket=site.bucket)["ResponseMetadata"]["HTTPHeaders"]
    [[postgres]] = site.database.execute("SHOW server_version").fetchall()
    return {"S3": answer.get("server", "it does not say"), "PostgreSQL": postgres}


if __name__ == "__main__":
    main()
