"""1 GiB from Chromium: upload.js, and the npm packages of others."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, sync_playwright

from tests.real.browser.conftest import ARGUMENTS
from tests.real.site import ROOT

from .report import MIB, PART_SIZE, Benchmark, Line, middle, say
from .served import AUTHORIZATION, PARALLEL, BenchSite, Film

ROUNDS = 3
PACKAGES = {
    "@uppy/core": "6.3.1",
    "@uppy/aws-s3": "6.3.1",
    "django-s3-file-field": "1.1.0",
    "esbuild": "0.28.2",
}


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "s3direct-uploads" / "bench"


def bundle(folder: Path) -> None:
    """The page's script, in ``folder``, of packages that npm fetches once."""
    there = cache()
    wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
    installed = there / "installed"
    if not installed.exists() or installed.read_text() != " ".join(wanted):
        say(f"npm install {' '.join(wanted)}")
        there.mkdir(parents=True, exist_ok=True)
        # esbuild's script only replaces its launcher by the program itself.
        quietly = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
        command = ["scripts/node", "npm", "install", "--silent", *quietly, "--prefix", str(there)]
        subprocess.run([*command, *wanted], cwd=ROOT, check=True)
        installed.write_text(" ".join(wanted))
    modules = there / "node_modules"
    subprocess.run(
        ["scripts/node", str(modules / ".bin/esbuild"), "benchmarks/page.mjs"]
        + ["--bundle", "--format=esm", "--minify", "--external:/static/*", "--log-level=warning"]
        + [f"--outfile={folder / 'page.js'}"],
        cwd=ROOT,
        env={**os.environ, "NODE_PATH": str(modules)},
        check=True,
    )


@dataclass
class Contestant:
    title: str
    client: str  # as page.mjs has it
    parallel: int = PARALLEL
    took: list[dict[str, float]] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        return [each["seconds"] for each in self.took]


def run(site: BenchSite, film: Film) -> Benchmark:
    ours = Contestant(f"`upload.js`, {PARALLEL} parts at once", "ours")
    single = Contestant("`upload.js`, one part at a time", "ours", parallel=1)
    inside = Contestant(f"`upload.js` in Uppy, {PARALLEL} parts at once", "oursInUppy")
    uppy = Contestant("Uppy with `@uppy/aws-s3`", "uppy")
    s3ff = Contestant("django-s3-file-field", "s3ff")
    contestants = [ours, single, inside, uppy, s3ff]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ["CHROMIUM"], args=ARGUMENTS)
        for number in range(ROUNDS):
            for each in contestants if number % 2 == 0 else reversed(contestants):
                each.took.append(upload(browser, site, film, each))
                say(f"browser {number + 1}/{ROUNDS}, {each.title}: {each.took[-1]}")
        browser.close()
    lines = [
        Line(
            each.title,
            f"{middle([film.size / MIB / seconds for seconds in each.seconds], '.0f', ' MiB/s')}; "
            f"{each.took[0]['toDjango']:.0f} requests to Django, {each.took[0]['toS3']:.0f} to S3; "
            f"memory +{max(took['memory'] for took in each.took) / MIB:.0f} MiB",
        )
        for each in contestants
    ]
    for mine, peers in ((ours, (uppy, s3ff)), (single, (uppy, s3ff)), (inside, (uppy,))):
        for peer in peers:
            pairs = zip(peer.seconds, mine.seconds, strict=True)
            ratios = [theirs / my for theirs, my in pairs]
            title = f"{mine.title} ÷ {peer.title}, throughput"
            line = Line(title, f"{middle(ratios)}, {ROUNDS} rounds")
            if mine is not single:
                least = 1.4 if mine is ours and peer is uppy else 1
                line.goal, line.met = f"≥ {least}", median(ratios) >= least
                line.row, line.yardstick = 10, peer.title
            lines.append(line)
    return Benchmark(
        "1 GiB from a browser",
        f"Headless Chromium, parts of {PART_SIZE // MIB} MiB, straight to Ceph. Timed is the whole, "
        f"in the page: from before the first request until the client says that it is done. Uppy's "
        f"own uploader (`@uppy/aws-s3`, with `signRequest`, `getChunkSize` and `limit: {PARALLEL}`) and "
        "django-s3-file-field send the parts of a file one after the other, and neither can be told "
        "otherwise (Uppy's `limit` counts files): so `upload.js` ran that way as well. "
        "`upload.js` in Uppy is `uppy.js`, in the same Core without a Dashboard. Their server "
        "is a shim that speaks their protocols, signs by botocore for the same bucket, and has no "
        "accounts and no database: Django's own part is lighter for them than for `upload.js`. It signs "
        "the Content-Type that each of them sends, because Ceph refuses one that is not signed. "
        "Requests are without CORS preflights. Memory is the proportional set size of all of "
        "Chromium's processes, the most that was seen in four looks a second, less what they had "
        "before.",
        lines,
    )


def upload(browser: Browser, site: BenchSite, film: Film, by: Contestant) -> dict[str, float]:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{site.url}/bench/")
    page.wait_for_function("Boolean(window.run)")
    page.locator("input").set_input_files(film.path)
    options = {
        "headers": {"Authorization": AUTHORIZATION},
        "parallel": by.parallel,
        "partSize": PART_SIZE,
    }
    with watched_memory() as memory:
        took: dict[str, float] = page.evaluate(
            "([name, options]) => run(name, options)", [by.client, options]
        )
    context.close()
    site.check(film)
    site.empty()
    return {**took, "memory": max(memory) - memory[0]}


@contextmanager
def watched_memory() -> Iterator[list[int]]:
    """Of our descendants that are Chromium's, in bytes; the first is the one before."""
    seen = [chromium_memory()]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.25):
            seen.append(chromium_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def chromium_memory() -> int:
    return sum(_proportional_set(pid) for pid in _descendants(os.getpid()))


def _descendants(pid: int) -> Iterator[int]:
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _read(children).split():
            yield int(child)
            yield from _descendants(int(child))


def _proportional_set(pid: int) -> int:
    if not _read(Path(f"/proc/{pid}/comm")).startswith("chrom"):
        return 0
    lines = _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # it has ended
