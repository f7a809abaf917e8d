"""The journeys that Chromium makes in the other modules, in Firefox and WebKit.

WebKit is Debian's WebKitGTK. Safari has the same engine, but the network and the files of macOS.
"""

from __future__ import annotations

import base64
import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.site import PASSWORD, Row, Site
from tests.real.waiting import wait_until

from .conftest import IMPATIENCE
from .webdriver import Tab

pytestmark = pytest.mark.journey

MIB = 1024**2
BIG = 12 * MIB  # one PUT, and more than the sockets between the browser and a wire hold
LARGE = 40 * MIB  # three parts
BEGIN = "/api/uploads/"

# Takes the file that is chosen at #mine; ``going`` is what becomes of it. Workers are listed.
UPLOAD = """async (options, token) => {
  const {upload, UploadController} = await import("/static/s3direct_uploads/upload.js");
  window.seen = [];
  window.workers = [];
  window.going = null;
  window.control = new UploadController();
  window.Worker = class extends (window.Real ??= window.Worker) {
    constructor(...how) {
      super(...how);
      this.addEventListener("message", ({data}) => window.workers.push(data));
    }
  };
  upload(document.querySelector("#mine").files[0], {
    endpoint: "/api/uploads/",
    destination: "photos",
    headers: {Authorization: `Basic ${token}`},
    credentials: "omit",
    signal: window.control.signal,
    onProgress: (progress) => window.seen.push(progress),
    ...options,
  }).then(
    ({status}) => (window.going = {status}),
    ({name, code, step, message}) => (window.going = {name, code, step, message}),
  );
}"""
ADD_INPUT = """() => {
  document.querySelector("#mine")?.remove();
  document.body.append(Object.assign(document.createElement("input"), {type: "file", id: "mine"}));
}"""


class Person:
    """At a page of the site."""

    def __init__(self, tab: Tab, site: Site, username: str, files: Path) -> None:
        self.tab = tab
        self.site = site
        self.username = username
        self.files = files
        site.make_user(username)
        tab.forget()
        tab.goto(f"{site.url}/accounts/login/")  # any page of the site: upload() gets a password
        tab.evaluate(f"() => {{ {IMPATIENCE} }}")

    def until(self, condition: Callable[[], object], *, seconds: float = 60) -> None:
        wait_until(condition, seconds=seconds, state=lambda: self.tab.text("body"))

    @property
    def engine(self) -> str:
        agent: str = self.tab.evaluate("() => navigator.userAgent")
        return next(name for name in ("Firefox", "WebKit") if name in agent)

    def make_film(self, size: int) -> Path:
        """Of an hour ago: WebKit compares the whole seconds of a file's times."""
        path = self.files / "film.jpg"
        path.write_bytes(os.urandom(size))
        os.utime(path, (time.time() - 3_600,) * 2)
        return path

    def choose(self, path: Path) -> None:
        """In an input of its own, which the wall does not listen to."""
        self.tab.evaluate(ADD_INPUT)
        self.tab.choose("#mine", path)
        assert self.tab.evaluate("() => document.querySelector('#mine').files[0].size")

    def start(self, **options: object) -> None:
        token = base64.b64encode(f"{self.username}:{PASSWORD}".encode()).decode()
        self.tab.evaluate(UPLOAD, options, token)

    def outcome(self, *, seconds: float = 30) -> dict[str, Any]:
        self.until(lambda: self.tab.evaluate("() => window.going"), seconds=seconds)
        found: dict[str, Any] = self.tab.evaluate("() => window.going")
        return found

    def seen(self, name: str) -> list[Any]:
        """That fact of each progress."""
        found: list[Any] = self.tab.evaluate(
            "(name) => window.seen.map((each) => each[name])", name
        )
        return found

    def row(self) -> Row:
        [row] = self.site.rows(self.username)
        return row


@pytest.fixture
def alice(tab: Tab, site: Site, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Person]:
    yield Person(tab, site, request.node.name.removeprefix("test_")[:150], tmp_path)
    tab.goto("about:blank")  # and nothing of this test goes on


def assert_completed(alice: Person, film: Path, *, seconds: float = 60) -> None:
    assert alice.outcome(seconds=seconds) == {"status": "completed"}
    row = alice.row()
    assert row.status == "completed"
    assert alice.site.read(row) == film.read_bytes()
    assert alice.site.open_multiparts(row) == []


def assert_unreadable(alice: Person, step: str) -> None:
    found = alice.outcome()
    assert (found["name"], found["code"]) == ("UploadError", "file_unreadable"), found
    assert found["step"] == step


def test_one_put_with_progress(alice: Person, site: Site) -> None:
    film = alice.make_film(BIG)
    alice.choose(film)
    site.s3.rate = 8 * MIB
    alice.start()

    assert_completed(alice, film)
    loaded = alice.seen("loaded")
    assert loaded == sorted(loaded)
    assert (loaded[0], loaded[-1]) == (0, BIG)
    assert len({each for each in loaded if 0 < each < BIG}) > 3
    assert list(dict.fromkeys(alice.seen("phase"))) == ["begin", "send", "confirm"]
    assert max(alice.seen("bytesPerSecond")) > MIB
    assert site.s3.statuses("PUT") == [200]


def test_parts_side_by_side(alice: Person, site: Site) -> None:
    film = alice.make_film(LARGE)
    alice.choose(film)
    held = [site.s3.hold("PUT", after=MIB) for _ in range(3)]
    alice.start()
    for fault in held:
        assert fault.held.wait(60), "all three are under way at once"
        assert site.s3.statuses("PUT").count(200) == 0
    for fault in held:
        fault.released.set()

    assert_completed(alice, film)
    assert Counter(each.part for each in site.s3.seen("PUT")) == {1: 1, 2: 1, 3: 1}


def test_a_checksum_is_computed_in_a_worker(alice: Person, site: Site) -> None:
    film = alice.make_film(LARGE)
    crc = base64.b64encode(zlib.crc32(film.read_bytes()).to_bytes(4)).decode()
    alice.choose(film)
    alice.start(checksum="CRC32")

    assert_completed(alice, film)
    answer = {"algorithm": "CRC32", "value": crc}
    assert alice.tab.evaluate("() => window.workers") == ["ready", answer]
    row = alice.row()
    assert (row.checksum_algorithm, row.checksum) == ("CRC32", crc)
    assert site.head(row)["ChecksumCRC32"] == crc


@pytest.mark.parametrize("size", [BIG, LARGE])
def test_s3_is_cut_off_and_away(alice: Person, site: Site, size: int) -> None:
    """In the middle of a PUT, and of two parts."""
    film = alice.make_film(size)
    alice.choose(film)
    held = [site.s3.hold("PUT", after=5 * MIB) for _ in range(2 if size == LARGE else 1)]
    alice.start(parallel=2)
    for fault in held:
        assert fault.held.wait(60)
    alice.until(lambda: max(alice.seen("loaded")))  # Firefox reports every 50 ms

    site.s3.stop()
    for fault in held:
        fault.released.set()
    alice.until(lambda: "waiting" in alice.seen("phase"))
    before = len(site.s3.seen("PUT"))
    time.sleep(2)
    assert len(site.s3.seen("PUT")) == before, "nothing is sent in vain"
    site.s3.start()

    assert_completed(alice, film)
    puts = site.s3.seen("PUT")
    arrived = Counter(each.part for each in puts if each.status == 200)
    assert set(arrived) == {each.part for each in puts}
    assert set(arrived.values()) == {1}
    assert len(puts) <= before + 3


def test_answers_that_never_come(alice: Person, site: Site) -> None:
    film = alice.make_film(LARGE)
    alice.choose(film)
    first = site.s3.hold("PUT", after=5 * MIB)
    alice.start(stallTimeout=1_500)
    assert first.held.wait(60)
    for wire in (site.s3, site.web):
        wire.outage = "swallow"
    first.released.set()
    alice.until(lambda: "waiting" in alice.seen("phase"))
    for wire in (site.s3, site.web):
        wire.outage = ""

    assert_completed(alice, film)
    assert 0 in site.s3.statuses("PUT")


def test_one_connection_is_cut(alice: Person, site: Site) -> None:
    film = alice.make_film(BIG)
    alice.choose(film)
    site.s3.cut("PUT", after=MIB)
    alice.start()

    assert_completed(alice, film)
    assert site.s3.statuses("PUT") == [0, 200]
    assert len(site.web.seen("POST", "/renew/")) <= 1


def test_paused_and_resumed(alice: Person, site: Site) -> None:
    film = alice.make_film(LARGE)
    alice.choose(film)
    held = [site.s3.hold("PUT", after=MIB) for _ in range(3)]
    alice.start()
    for fault in held:
        assert fault.held.wait(60)

    alice.tab.evaluate("() => window.control.pause()")
    for fault in held:
        fault.released.set()
    alice.until(lambda: not site.s3.underway)
    assert site.s3.statuses("PUT") == [0, 0, 0], "all of them were aborted"
    time.sleep(0.5)
    assert len(site.s3.seen("PUT")) == 3, "nothing is sent meanwhile"
    alice.tab.evaluate("() => window.control.resume()")

    assert_completed(alice, film)
    assert len(site.s3.seen("PUT")) == 6


def test_aborted(alice: Person, site: Site) -> None:
    film = alice.make_film(LARGE)
    alice.choose(film)
    held = [site.s3.hold("PUT", after=MIB) for _ in range(3)]
    alice.start()
    for fault in held:
        assert fault.held.wait(60)

    alice.tab.evaluate("() => window.control.abort()")
    for fault in held:
        fault.released.set()

    assert alice.outcome()["name"] == "AbortError"
    alice.until(lambda: site.web.statuses("DELETE") == [204])
    assert alice.row().status == "cancelled"
    assert site.open_multiparts(alice.row()) == []


def test_gone_on_after_a_reload(alice: Person, site: Site) -> None:
    film = alice.make_film(LARGE)
    alice.choose(film)
    held = site.s3.hold("PUT", after=MIB)
    alice.start(parallel=1)
    assert held.held.wait(60)
    site.s3.hold("PUT", after=MIB)
    held.released.set()
    alice.until(lambda: site.s3.statuses("PUT") == [200, 0])
    alice.tab.goto(f"{site.url}/accounts/login/")
    site.s3.faults.clear()

    alice.choose(film)
    alice.start()

    assert_completed(alice, film)
    assert [each.part for each in site.s3.seen("PUT") if each.status == 200].count(1) == 1


# Files that change. Firefox reads what is there now. It tells only that bytes are missing.


def rewrite(path: Path) -> None:
    """As long as before: what was read first is the old file, and what is read last the new one."""
    with path.open("r+b") as file:
        file.write(b"other")
        file.seek(-5, os.SEEK_END)
        file.write(b"other")


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


CHANGES = pytest.mark.parametrize("change", [rewrite, shorten, Path.unlink])


def allow_checksums(site: Site) -> None:
    site.allow(site.url, "x-amz-checksum-crc32", "x-amz-sdk-checksum-algorithm")


def notices(alice: Person, change: Callable[[Path], None]) -> bool:
    return change is not rewrite or alice.engine != "Firefox"


@CHANGES
def test_a_file_that_changed_before_it_is_uploaded(
    alice: Person, site: Site, change: Callable[[Path], None]
) -> None:
    allow_checksums(site)
    film = alice.make_film(MIB)
    alice.choose(film)
    change(film)
    alice.start(checksum="CRC32")

    if notices(alice, change):
        assert_unreadable(alice, "begin")
        assert site.rows(alice.username) == []
    else:
        assert_completed(alice, film)  # it is sent as it is now


@CHANGES
def test_a_file_that_changed_before_it_is_sent(
    alice: Person, site: Site, change: Callable[[Path], None]
) -> None:
    film = alice.make_film(BIG)
    alice.choose(film)
    begin = site.web.delay("POST", BEGIN)
    alice.start()
    assert begin.held.wait(60)
    change(film)
    begin.released.set()

    if notices(alice, change):
        assert_unreadable(alice, "send")
        assert alice.row().status == "pending"
    else:
        assert_completed(alice, film)


@pytest.mark.parametrize(("size", "change"), [(BIG, rewrite), (LARGE, rewrite), (LARGE, shorten)])
def test_a_file_that_changes_while_it_is_sent(
    alice: Person, site: Site, size: int, change: Callable[[Path], None]
) -> None:
    """In Firefox only the checksum finds that the beginning is of the old file, and the end not."""
    allow_checksums(site)
    film = alice.make_film(size)
    alice.choose(film)
    held = [site.s3.hold("PUT", after=MIB) for _ in range(3 if size == LARGE else 1)]
    alice.start(stallTimeout=1_500, **({} if notices(alice, change) else {"checksum": "CRC32"}))
    for fault in held:
        assert fault.held.wait(60)
    change(film)
    for fault in held:
        fault.released.set()

    found = alice.outcome()
    if notices(alice, change):
        assert found["code"] == "file_unreadable", found
    else:
        assert found["code"] == ("BadDigest" if size == BIG else "object_mismatch"), found
    assert alice.row().status != "completed"


def test_a_file_that_is_deleted_when_it_has_been_read(alice: Person, site: Site) -> None:
    """WebKit does not tell a deleted file from a changed one. So it is not believed."""
    film = alice.make_film(MIB)
    body = film.read_bytes()
    alice.choose(film)
    held = site.s3.hold("PUT", after=MIB)
    alice.start()
    assert held.held.wait(60)
    film.unlink()
    held.released.set()

    if alice.engine == "WebKit":
        assert_unreadable(alice, "confirm")
        assert alice.row().status == "cancelled"
    else:
        assert alice.outcome() == {"status": "completed"}
        assert site.read(alice.row()) == body


# The wall.


def test_the_wall(alice: Person, site: Site) -> None:
    film = alice.make_film(BIG)
    alice.tab.sign_in(alice.username, PASSWORD)
    empty = "() => document.querySelector('#wall .empty')?.hidden === false"
    alice.until(lambda: alice.tab.evaluate(empty))  # its script has run
    alice.tab.choose("#files", film)

    alice.until(lambda: "film.jpg" in alice.tab.text("#uploads") and site.rows(alice.username))
    alice.until(lambda: alice.row().attached_at)
    assert site.read(alice.row()) == film.read_bytes()
    alice.until(lambda: "completed" in alice.tab.text("#uploads"))
