"""1 GiB in parts, from Node.js by upload.js and by curl."""

from __future__ import annotations

import json
import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import requests

from .report import MIB, PART_SIZE, Benchmark, Line, middle, say
from .served import AUTHORIZATION, PARALLEL, BenchSite, Film, as_json

PAIRS = 5
MEMORY_GOAL = (PARALLEL + 1) * PART_SIZE


def run(site: BenchSite, film: Film, folder: Path) -> Benchmark:
    by_node(site, film)  # Django's and Ceph's first is nobody's
    before = site.memory()
    pairs: list[tuple[Took, Took]] = []
    for number in range(PAIRS):
        if number % 2:
            theirs = by_curl(site, film, folder)
            mine = by_node(site, film)
        else:
            mine = by_node(site, film)
            theirs = by_curl(site, film, folder)
        pairs.append((mine, theirs))
        say(f"curl {number + 1}/{PAIRS}: {mine.seconds:.2f} s, curl {theirs.seconds:.2f} s")
    grown = site.memory() - before
    ratios = [theirs.seconds / mine.seconds for mine, theirs in pairs]
    memory = [mine.memory / MIB for mine, _ in pairs]
    size = film.size / MIB
    return Benchmark(
        "1 GiB from Node.js",
        f"In {len(film.parts)} parts of {PART_SIZE // MIB} MiB, {PARALLEL} at once, straight to Ceph. "
        "Timed is sending and completing. `upload.js`, of a file that its `openFile` opened: from the begin's answer until `upload()` "
        "resolves, the confirm's answer included. curl: begun, signed and the file cut into parts "
        "beforehand; from the start of `curl --parallel`, one process for all parts, until the "
        "same confirm's answer. Each object's ETag is compared with the file's parts. Ceph and the "
        "client keep both cores busy, so that the ratio is one of what they compute. Memory is "
        "the process's highest (`VmHWM`) less what it had when begin was answered.",
        [
            *[
                Line(
                    name,
                    f"{middle([size / each.seconds for each in took], '.0f', ' MiB/s')}, "
                    f"{middle([each.cpu for each in took], '.1f', ' s')} of CPU time",
                )
                for name, took in zip(
                    ("`upload.js`", "curl"), zip(*pairs, strict=True), strict=True
                )
            ],
            Line(
                "`upload.js` ÷ curl, throughput",
                f"{middle(ratios)}, {PAIRS} pairs",
                "≥ 0.9",
                median(ratios) >= 0.9,
                10,
                "curl",
            ),
            Line(
                "memory of Node.js, at most",
                middle(memory, ".0f", " MiB"),
                f"≤ {MEMORY_GOAL // MIB} MiB: (parallel + 1) × part size",
                max(memory) * MIB <= MEMORY_GOAL,
            ),
            Line(
                "memory of Django",
                f"{before / MIB:.1f} MiB, and {grown / MIB:+.1f} MiB after {2 * PAIRS} GiB",
                "flat: ≤ 2 MiB more",
                grown <= 2 * MIB,
            ),
        ],
    )


@dataclass
class Took:
    seconds: float
    cpu: float  # seconds, of the client's whole process
    memory: float = 0  # bytes


def by_node(site: BenchSite, film: Film) -> Took:
    options = json.dumps({"parallel": PARALLEL, "resume": False})
    ran = subprocess.run(
        ["scripts/node", "node", "benchmarks/upload.mjs"]
        + [f"{site.url}/api/uploads/", AUTHORIZATION, str(film.path), options],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    site.check(film)
    site.empty()
    return Took(**json.loads(ran.stdout))


def by_curl(site: BenchSite, film: Film, folder: Path) -> Took:
    begun = ask(site, "", destination="films", filename="film.mp4", size=film.size, multipart=True)
    parts = begun["multipart"]["parts"]
    assert [part["size"] for part in parts] == [PART_SIZE] * len(film.parts)
    config = folder / "curl"
    config.write_text(
        # Without its Expect it would wait for leave to send each part.
        f'parallel\nparallel-max = {PARALLEL}\nno-progress-meter\nfail\nheader = "Expect:"\n'
        + "".join(
            f'upload-file = "{path}"\nurl = "{part["url"]}"\noutput = "/dev/null"\n'
            for path, part in zip(film.parts, parts, strict=True)
        )
    )
    cpu, start = cpu_of_children(), time.perf_counter()
    subprocess.run(["curl", "--config", str(config)], check=True)
    ask(site, f"{begun['id']}/confirm/")
    took = Took(time.perf_counter() - start, cpu_of_children() - cpu)
    site.check(film)
    site.empty()
    return took


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ask(site: BenchSite, path: str, **body: Any) -> Any:
    headers = {"Authorization": AUTHORIZATION}
    url = f"{site.url}/api/uploads/{path}"
    return as_json(requests.post(url, json=body, headers=headers, timeout=60))
