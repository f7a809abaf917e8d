"""Outages of every kind while a large file is sent: it arrives, and nothing is sent in vain.

CI runs short ones. With ``S3DIRECT_OUTAGES=full`` there are twelve, of 2 seconds to 5 minutes. They
take ten minutes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.real.site import PASSWORD, Exchange, Site, Visitor

pytestmark = pytest.mark.journey

MIB = 1024**2
UPLOAD_JS = "/static/s3direct_uploads/upload.js"

# Takes the file that is chosen at #mine; ``seen`` has each phase, and ``going`` what becomes of it.
UPLOAD = """async ([module, options, token]) => {
  const {upload} = await import(module);
  const [file] = document.querySelector("#mine").files;
  window.seen = [];
  window.going = null;
  upload(file, {
    endpoint: "/api/uploads/",
    destination: "photos",
    headers: {Authorization: `Basic ${token}`},
    credentials: "omit",
    onProgress: (progress) => {
      window.progress = progress;
      if (window.seen[window.seen.length - 1] !== progress.phase) window.seen.push(progress.phase);
    },
    ...options,
  }).then(
    ({status}) => (window.going = {status}),
    ({name, code, step, message}) => (window.going = {name, code, step, message}),
  );
}"""
# The wall's tests wait for a hundredth of each delay; here the delays are as they are.
PATIENCE = "Math.random = () => crypto.getRandomValues(new Uint32Array(1))[0] / 2 ** 32"

# Playwright keeps each tab visible. So this does what Chromium does to a hidden tab: its timers
# fire on a whole second, and after five minutes on a whole minute.
HIDE = """() => {
  const hidden = performance.now();
  const later = window.setTimeout;
  window.setTimeout = (callback, wait = 0, ...rest) => {
    const step = performance.now() - hidden < 300_000 ? 1_000 : 60_000;
    const end = Math.ceil((performance.now() + wait) / step) * step;
    return later(callback, end - performance.now(), ...rest);
  };
  Object.defineProperty(document, "visibilityState", {value: "hidden"});
  Object.defineProperty(document, "hidden", {value: true});
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@dataclass
class Outage:
    kind: str
    seconds: float


@dataclass
class Plan:
    size: int
    rate: int  # bytes a second
    stall_timeout: int  # milliseconds
    parallel: int  # parts
    outages: list[Outage]


SHORT = Plan(
    size=80 * MIB,
    rate=16 * MIB,
    stall_timeout=3_000,
    parallel=2,
    outages=[
        Outage("offline", 2),
        Outage("S3 stopped", 3),
        Outage("answers swallowed", 2),
        Outage("connections reset", 2),
        Outage("both stopped, Django for longer", 3),
    ],
)
FULL = Plan(
    size=200 * MIB,
    rate=16 * MIB,
    stall_timeout=15_000,
    parallel=2,
    outages=[
        Outage("offline", 2),
        Outage("S3 stopped", 3),
        Outage("connections reset", 5),
        Outage("answers swallowed", 8),
        Outage("both stopped", 5),
        Outage("offline", 10),
        Outage("S3 stopped", 5),
        Outage("connections reset", 5),
        Outage("answers swallowed", 8),
        Outage("both stopped", 300),
        Outage("offline", 2),
        Outage("both stopped, Django for longer", 8),
    ],
)
PLAN = FULL if os.environ.get("S3DIRECT_OUTAGES") == "full" else SHORT


@contextmanager
def outage(each: Outage, alice: Visitor, site: Site, size: int) -> Iterator[None]:
    both = (site.s3, site.web)
    if each.kind == "offline":
        alice.context.set_offline(True)
        yield
        alice.context.set_offline(False)
    elif "stopped" in each.kind:
        stopped = (site.s3,) if each.kind == "S3 stopped" else both
        for wire in stopped:
            wire.stop()
        yield
        site.s3.start()
        if each.kind.endswith("Django for longer"):  # until it has not confirmed for some time
            wait_until(alice, partial(has_all, site, size), seconds=180)
            alice.page.wait_for_timeout(each.seconds * 1_000)
        for wire in stopped[1:]:
            wire.start()
    else:
        for wire in both:
            wire.outage = {"answers swallowed": "swallow", "connections reset": "reset"}[each.kind]
        yield
        for wire in both:
            wire.outage = ""


def puts_underway(site: Site) -> set[Exchange]:
    return {each for each in list(site.s3.underway) if each.method == "PUT"}


def taken(site: Site) -> int:
    """Bytes that S3 has for good."""
    return sum(each.received for each in site.s3.seen("PUT") if each.status == 200)


def has_all(site: Site, size: int) -> bool:
    return taken(site) == size


def is_sending(site: Site) -> bool:
    """Some part is half on its way, so that a cut costs something, and no part ends before."""
    return any(each.received >= 8 * MIB for each in puts_underway(site))


def choose(visitor: Visitor, path: Path) -> None:
    visitor.page.evaluate(
        """() => document.body.append(
          Object.assign(document.createElement("input"), {type: "file", id: "mine"}))"""
    )
    visitor.page.locator("#mine").set_input_files(path)


def start(visitor: Visitor, **options: object) -> None:
    token = base64.b64encode(f"{visitor.username}:{PASSWORD}".encode()).decode()
    visitor.page.evaluate(UPLOAD, [UPLOAD_JS, options, token])


def outcome(visitor: Visitor) -> dict[str, Any] | None:
    found: dict[str, Any] | None = visitor.page.evaluate("going")
    return found


def hide(visitor: Visitor) -> None:
    visitor.page.evaluate(HIDE)
    assert visitor.page.evaluate("document.visibilityState") == "hidden"


def wait_until(visitor: Visitor, condition: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert outcome(visitor) is None or condition(), outcome(visitor)
        assert time.monotonic() < deadline, visitor.page.evaluate("[progress, seen]")
        visitor.page.wait_for_timeout(20)


def test_an_upload_outlasts_outages_of_every_kind(
    visit: Callable[..., Visitor], site: Site, record_property: Callable[[str, object], None]
) -> None:
    alice = visit()
    alice.context.add_init_script(PATIENCE)
    alice.page.reload()
    film = alice.make_photo("film.jpg", more=PLAN.size)
    size = film.stat().st_size
    choose(alice, film)
    site.s3.mend()
    site.s3.rate = PLAN.rate
    began = time.monotonic()
    start(alice, stallTimeout=PLAN.stall_timeout, parallel=PLAN.parallel)
    hide(alice)

    report: list[dict[str, Any]] = []
    under_way: set[Exchange] = set()  # at any of the cuts
    for each in PLAN.outages:
        wait_until(alice, partial(is_sending, site), seconds=180)
        begun = len(site.s3.seen("PUT"))
        parts = puts_underway(site)
        cut: dict[str, Any] = {"kind": each.kind, "seconds": each.seconds}
        with outage(each, alice, site, size):
            parts |= set(site.s3.seen("PUT")[begun:])  # in the last moment
            before = len(site.s3.seen("PUT"))
            alice.page.wait_for_timeout(each.seconds * 1_000)
            cut["begun meanwhile"] = len(site.s3.seen("PUT")) - before
            cut["phase"] = alice.page.evaluate("progress.phase")
        under_way |= parts
        cut["parts"] = len(parts)
        ended = time.monotonic()
        wait_until(alice, lambda: bool(puts_underway(site) or outcome(alice)), seconds=180)
        cut["sends again after"] = round(time.monotonic() - ended, 1)
        report.append(cut)
    wait_until(alice, lambda: outcome(alice) is not None, seconds=180)

    assert outcome(alice) == {"status": "completed"}
    row = alice.row()
    assert row.status == "completed"
    body = site.read(row)
    assert body is not None
    assert hashlib.sha256(body).digest() == hashlib.sha256(film.read_bytes()).digest()
    assert site.open_multiparts(row) == []
    site.client.delete_object(Bucket=site.bucket, Key=row.key)  # it is large
    puts = site.s3.seen("PUT")
    sent = sum(each.received for each in puts)
    in_flight = sum(each.received for each in under_way)
    numbers = {
        "size": size,
        "sent": sent,
        "sent again": sent - size,
        "under way at the cuts": in_flight,
        "seconds": round(time.monotonic() - began, 1),
        "phases": alice.page.evaluate("seen"),
        "outages": report,
    }
    record_property("outages", json.dumps(numbers))
    assert sent - size <= in_flight
    assert {each for each in puts if each.status != 200} <= under_way, "nothing was sent in vain"
    assert {each.part for each in puts} == {each.part for each in puts if each.status == 200}
    assert "waiting" in numbers["phases"]
