"""`make bench`: measures, prints a table and writes RESULTS.md.

    python -m benchmarks [requests] [batch] [signing] [begin] [scaling] [curl] [browser]

With names it does these alone, and writes nothing. It wants the servers that scripts/with-servers starts.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from .browser import PACKAGES, bundle
from .report import Benchmark, as_table, machine, say, versions, write
from .served import BenchSite, Film

ALL = ("requests", "batch", "signing", "begin", "scaling", "curl", "browser")


def main(names: list[str]) -> None:
    start = time.monotonic()
    facts = machine()
    with TemporaryDirectory(prefix="bench-") as temporary:
        folder = Path(temporary)
        static = folder / "static"
        static.mkdir()
        if not names or "browser" in names:
            bundle(static)
        site = BenchSite(static)
        with site.serving(folder / "log"):
            try:
                benchmarks = measure(site, folder, names or list(ALL))
                if not names:
                    facts |= {**versions(), **servers(site), **PACKAGES}
            finally:
                site.remove()
    for benchmark in benchmarks:
        print(f"\n{benchmark.title}\n\n{as_table(benchmark.lines)}")
    if not names:
        write(benchmarks, facts, time.monotonic() - start)


def measure(site: BenchSite, folder: Path, names: list[str]) -> list[Benchmark]:
    os.environ.update(site.env)
    import django

    django.setup()
    from . import batch, begin, browser, curl, requests, scaling, signing

    benchmarks = []
    if "requests" in names:
        benchmarks.append(requests.run())
    if "signing" in names:
        benchmarks.append(signing.run())
    if "begin" in names:
        benchmarks.append(begin.run())
    if "batch" in names:
        benchmarks.append(batch.run())
    if "scaling" in names:
        benchmarks.append(scaling.run(site, folder))
    if "curl" in names or "browser" in names:
        film = Film(folder)
        if "curl" in names:
            benchmarks.append(curl.run(site, film, folder))
        if "browser" in names:
            benchmarks.append(browser.run(site, film))
    return benchmarks


def servers(site: BenchSite) -> dict[str, str]:
    answer = site.client.list_objects_v2(Bucket=site.bucket)["ResponseMetadata"]["HTTPHeaders"]
    [[postgres]] = site.database.execute("SHOW server_version").fetchall()
    return {"S3": answer.get("server", "it does not say"), "PostgreSQL": postgres}


if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - set(ALL)
    if unknown:
        say(f"There is no such benchmark: {', '.join(sorted(unknown))}")
        sys.exit(2)
    main(sys.argv[1:])
