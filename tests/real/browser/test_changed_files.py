"""Files that change or vanish after they were chosen; modules and workers that do not load."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests.real.site import PASSWORD, ROOT, Exchange, Site, Visitor

pytestmark = pytest.mark.journey

MIB = 1024**2
BEGIN = "/api/uploads/"
UPLOAD_JS = "/static/s3direct_uploads/upload.js"
NETWORK_JS = "/static/s3direct_uploads/network.js"
CHECKSUM_JS = "/static/s3direct_uploads/checksum.js"

# Takes the file that is chosen at #mine; ``going`` is what becomes of it.
UPLOAD = """async ([module, options, token]) => {
  const {upload} = await import(module);
  const [file] = document.querySelector("#mine").files;
  window.abort = new AbortController();
  window.uploading = upload(file, {
    endpoint: "/api/uploads/",
    destination: "photos",
    headers: {Authorization: `Basic ${token}`},
    credentials: "omit",
    signal: window.abort.signal,
    ...options,
  });
  window.going = window.uploading.then(
    ({id, status}) => ({id, status}),
    ({name, code, step, status, message}) => ({name, code, step, status, message}),
  );
}"""


def choose(visitor: Visitor, path: Path) -> None:
    """In an input of its own, which the wall does not listen to."""
    visitor.page.evaluate(
        """() => {
          document.querySelector("#mine")?.remove();
          const input = Object.assign(document.createElement("input"), {type: "file", id: "mine"});
          document.body.append(input);
        }"""
    )
    visitor.page.locator("#mine").set_input_files(path)
    # Chromium looks at a file when a script first asks, as pages do at once.
    visitor.page.evaluate("document.querySelector('#mine').files[0].size")


def start(visitor: Visitor, module: str = UPLOAD_JS, **options: object) -> None:
    token = base64.b64encode(f"{visitor.username}:{PASSWORD}".encode()).decode()
    visitor.page.evaluate(UPLOAD, [module, options, token])


def outcome(visitor: Visitor) -> dict[str, Any]:
    found: dict[str, Any] = visitor.page.evaluate("going")
    return found


def rewrite(path: Path) -> None:
    """As long as before, but for its first bytes the same."""
    with path.open("r+b") as file:
        file.write(b"other")


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


CHANGES = pytest.mark.parametrize("change", [rewrite, shorten, grow, Path.unlink])


def assert_unreadable(found: dict[str, Any], step: str) -> None:
    assert (found["name"], found["code"]) == ("UploadError", "file_unreadable"), found
    assert (found["step"], found["status"]) == (step, 0)
    assert "Choose it again" in found["message"]


def assert_completed(visitor: Visitor) -> None:
    found = outcome(visitor)
    assert found["status"] == "completed", found


@CHANGES
@pytest.mark.parametrize("checksum", [None, "CRC32", "SHA256"])
def test_a_file_that_changed_before_it_is_uploaded(
    alice: Visitor, site: Site, checksum: str | None, change: Callable[[Path], None]
) -> None:
    film = alice.make_photo("film.jpg", more=MIB)
    choose(alice, film)
    change(film)

    start(alice, **({"checksum": checksum} if checksum else {}))

    assert_unreadable(outcome(alice), "begin")
    assert site.web.seen("POST", BEGIN) == []
    assert alice.rows() == []


@CHANGES
def test_a_file_that_changed_before_it_is_sent(
    alice: Visitor, site: Site, change: Callable[[Path], None]
) -> None:
    film = alice.make_photo("film.jpg", more=12 * MIB)
    choose(alice, film)
    begin = site.web.delay("POST", BEGIN)
    start(alice)
    assert begin.held.wait(60)

    change(film)
    begin.released.set()

    assert_unreadable(outcome(alice), "send")
    assert site.s3.statuses("PUT") in ([], [0]), "and not again"
    row = alice.row()
    assert (row.status, site.read(row)) == ("pending", None)


@pytest.mark.parametrize("change", [rewrite, grow])
@pytest.mark.parametrize(("size", "puts"), [(12 * MIB, 1), (40 * MIB, 3)])
def test_a_file_that_changes_while_it_is_sent_is_never_completed(
    alice: Visitor, site: Site, size: int, puts: int, change: Callable[[Path], None]
) -> None:
    """In one PUT, and in parts that are all under way: S3 may have half the one, half the other."""
    film = alice.make_photo("film.jpg", more=size)
    choose(alice, film)
    held = [site.s3.hold("PUT", after=MIB) for _ in range(puts)]
    start(alice)
    for fault in held:
        assert fault.held.wait(60)

    change(film)
    for fault in held:
        fault.released.set()

    assert_unreadable(outcome(alice), "confirm")
    assert site.s3.statuses("PUT") == [200] * puts
    assert site.web.seen("POST", "/confirm/") == []
    row = alice.row()
    assert (row.status, site.open_multiparts(row)) == ("cancelled", [])


@pytest.mark.parametrize(("size", "puts"), [(12 * MIB, [0]), (40 * MIB, [0, 0, 0])])
def test_a_file_that_is_made_shorter_while_it_is_sent(
    alice: Visitor, site: Site, size: int, puts: list[int]
) -> None:
    film = alice.make_photo("film.jpg", more=size)
    choose(alice, film)
    held = [site.s3.hold("PUT", after=MIB) for _ in puts]
    start(alice)
    for fault in held:
        assert fault.held.wait(60)

    os.truncate(film, MIB)
    for fault in held:
        fault.released.set()

    assert_unreadable(outcome(alice), "send")
    assert site.s3.statuses("PUT") == puts, "and not again"
    row = alice.row()
    assert (row.status, site.read(row)) == ("pending", None)


@CHANGES
def test_a_file_that_changes_between_two_parts(
    alice: Visitor, site: Site, change: Callable[[Path], None]
) -> None:
    film = alice.make_photo("film.jpg", more=40 * MIB)
    choose(alice, film)
    first = site.s3.hold("PUT", after=MIB)
    start(alice, parallel=1)
    assert first.held.wait(60)

    change(film)
    first.released.set()

    assert_unreadable(outcome(alice), "send")
    parts = [put.part for put in site.s3.seen("PUT") if put.status == 200]
    assert parts in ([], [1])
    assert len(site.s3.seen("PUT")) <= 2, "and not again"
    row = alice.row()
    assert (row.status, site.read(row)) == ("pending", None)


def test_a_file_that_is_deleted_when_it_has_been_read_is_completed(
    alice: Visitor, site: Site
) -> None:
    film = alice.make_photo("film.jpg", more=12 * MIB)
    body = film.read_bytes()
    choose(alice, film)
    held = site.s3.hold("PUT", after=MIB)
    start(alice)
    assert held.held.wait(60)

    film.unlink()
    held.released.set()

    assert_completed(alice)
    assert site.read(alice.row()) == body


@CHANGES
def test_a_file_that_changes_while_its_checksum_is_computed(
    alice: Visitor, site: Site, change: Callable[[Path], None]
) -> None:
    film = alice.make_photo("film.jpg", more=300 * MIB)
    choose(alice, film)
    with alice.page.expect_worker():
        start(alice, checksum="SHA256")
    change(film)

    assert_unreadable(outcome(alice), "begin")
    assert alice.rows() == []


def test_the_wall_asks_for_the_file_again(alice: Visitor, site: Site) -> None:
    beach = alice.make_photo("beach.jpg", more=12 * MIB)
    fault = site.s3.hold("PUT", after=MIB)
    alice.add(beach)
    assert fault.held.wait(60)
    rewrite(beach)
    fault.released.set()

    item = alice.underway("beach.jpg")
    expect(item).to_contain_text("This file was changed, moved or deleted. Choose it again.")
    expect(item.get_by_role("button", name="Retry")).not_to_be_visible()

    alice.add(beach)
    expect(alice.photo("beach.jpg")).to_be_visible()
    cancelled, completed = alice.rows()
    assert (cancelled.status, completed.status) == ("cancelled", "completed")
    assert site.read(completed) == beach.read_bytes()


def test_a_broken_network_is_not_taken_for_a_changed_file(alice: Visitor, site: Site) -> None:
    film = alice.make_photo("film.jpg", more=12 * MIB)
    choose(alice, film)
    for _ in range(7):
        site.s3.cut("PUT", after=MIB)

    start(alice)

    assert_completed(alice)
    assert site.s3.statuses("PUT") == [0] * 7 + [200]


# Modules and workers that do not load.


def checksum_of(path: Path, algorithm: str) -> str:
    body = path.read_bytes()
    crc = zlib.crc32(body).to_bytes(4)
    digest = crc if algorithm == "CRC32" else hashlib.sha256(body).digest()
    return base64.b64encode(digest).decode()


def allow_checksums(site: Site) -> None:
    headers = [f"x-amz-checksum-{name}" for name in ("crc32", "sha256")]
    site.allow(site.url, *headers, "x-amz-sdk-checksum-algorithm")


def forbid_workers(alice: Visitor, refused: list[str]) -> None:
    """By the page's Content-Security-Policy."""
    policy = b"<head><meta http-equiv=Content-Security-Policy content=\"worker-src 'none'\">"
    alice.site.web.rewrite = lambda _, body: body.replace(b"<head>", policy)
    alice.page.on("console", lambda said: refused.append(said.text))
    alice.page.reload()


def lose_workers(alice: Visitor, refused: list[str]) -> None:
    """The page finds the module, and the worker not: its name has a hash, say."""

    def serve_once(route: Route) -> None:
        if alice.site.web.seen("GET", CHECKSUM_JS):
            refused.append(f"not found: {route.request.url}")
            route.fulfill(status=404)
        else:
            route.fallback()

    alice.page.route(f"**{CHECKSUM_JS}", serve_once)


@pytest.mark.parametrize(
    ("break_them", "said"), [(forbid_workers, "worker-src 'none'"), (lose_workers, "not found")]
)
@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256"])
def test_a_checksum_is_computed_on_the_page_where_no_worker_loads(
    alice: Visitor,
    site: Site,
    break_them: Callable[[Visitor, list[str]], None],
    said: str,
    algorithm: str,
) -> None:
    allow_checksums(site)
    refused: list[str] = []
    break_them(alice, refused)
    film = alice.make_photo("film.jpg", more=9 * MIB)
    choose(alice, film)

    start(alice, checksum=algorithm)

    assert_completed(alice)
    assert [said in each for each in refused] == [True]
    row = alice.row()
    assert (row.status, row.checksum) == ("completed", checksum_of(film, algorithm))


@pytest.mark.parametrize(
    "answer",
    [{"status": 404}, {"status": 200, "content_type": "text/html", "body": "<html>"}],
    ids=["not found", "another type"],
)
@pytest.mark.parametrize("module", [NETWORK_JS, CHECKSUM_JS])
def test_a_module_that_does_not_load_is_told(
    alice: Visitor, site: Site, module: str, answer: dict[str, Any]
) -> None:
    alice.page.route(f"**{module}", lambda route: route.fulfill(**answer))
    alice.page.reload()
    choose(alice, alice.make_photo("film.jpg", more=MIB))

    start(alice, checksum="CRC32")

    found = outcome(alice)
    assert (found["name"], found["code"]) == ("UploadError", "module_not_loaded"), found
    assert (found["step"], found["status"]) == ("begin", 0)
    assert found["message"].startswith(module.rpartition("/")[2])
    assert alice.rows() == []


COLLECT = """
import sys
from django.conf import settings
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage

class Hashed(ManifestStaticFilesStorage):
    support_js_module_import_aggregation = sys.argv[2] == "True"

settings.configure(
    STATIC_URL="static/",
    STATIC_ROOT=sys.argv[1],
    INSTALLED_APPS=["django.contrib.staticfiles", "s3direct_uploads"],
    STORAGES={"staticfiles": {"BACKEND": "__main__.Hashed"}},
)
import django
from django.core.management import call_command
django.setup()
call_command("collectstatic", verbosity=0)
"""


def collect(folder: Path, *, rewrites_imports: bool) -> dict[str, str]:
    """The files of hashed names alone, as WHITENOISE_KEEP_ONLY_HASHED_FILES leaves them."""
    command = [sys.executable, "-c", COLLECT, str(folder), str(rewrites_imports)]
    env = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    subprocess.run(command, cwd=ROOT, env=env, check=True)
    hashed = {}
    for path in (folder / "s3direct_uploads").glob("*.js"):
        stem, *digest, _ = path.name.split(".")
        if digest:
            hashed[f"{stem}.js"] = f"/static/s3direct_uploads/{path.name}"
        else:
            path.unlink()
    return hashed


@pytest.mark.parametrize("with_import_map", [False, True])
def test_hashed_static_files_find_each_other_and_their_worker(
    alice: Visitor, site: Site, tmp_path: Path, with_import_map: bool
) -> None:
    """By Django's rewriting of imports, or by the page's import map."""
    allow_checksums(site)
    folder = tmp_path / "static"
    hashed = collect(folder, rewrites_imports=not with_import_map)
    workers: list[str] = []
    missing: list[str] = []

    def serve(route: Route) -> None:
        path = folder / route.request.url.removeprefix(f"{site.url}/static/")
        if path.exists():
            route.fulfill(path=path, content_type="text/javascript")
        else:
            missing.append(path.name)
            route.fulfill(status=404)

    alice.page.on("worker", lambda worker: workers.append(worker.url))
    alice.page.route("**/static/s3direct_uploads/*", serve)
    if with_import_map:
        site.web.rewrite = partial(add_to_map, hashed)
        alice.page.reload()
    film = alice.make_photo("film.jpg", more=9 * MIB)
    choose(alice, film)

    start(alice, hashed["upload.js"], checksum="CRC32")

    assert_completed(alice)
    assert alice.row().checksum == checksum_of(film, "CRC32")
    assert workers == [site.url + hashed["checksum.js"]]
    assert missing == []


def add_to_map(hashed: dict[str, str], _: Exchange, body: bytes) -> bytes:
    static = "/static/s3direct_uploads/"
    page = body
    for name in ("upload.js", "all.js", "texts.js"):  # as {% static %} writes them
        page = page.replace(f"{static}{name}".encode(), hashed[name].encode())
    # What these import.
    mapped = ("upload.js", "network.js", "checksum.js", "korean.js", "batches.js")
    imports = {f"{static}{name}": hashed[name] for name in mapped}
    return page.replace(b'{"imports": {', f'{{"imports": {json.dumps(imports)[:-1]}, '.encode())


# Browsers of 2021.

OLD = """
for (const name of ["throwIfAborted", "reason"]) delete AbortSignal.prototype[name];
for (const name of ["any", "timeout", "abort"]) delete AbortSignal[name];
for (const name of ["at", "findLast", "toSorted", "with"]) delete Array.prototype[name];
for (const name of ["hasOwn", "groupBy"]) delete Object[name];
for (const name of ["withResolvers", "try"]) delete Promise[name];
delete crypto.randomUUID;
delete window.structuredClone;
"""


@pytest.fixture
def old(visit: Callable[..., Visitor]) -> Visitor:
    """At a browser that lacks what came with Safari 15.4 and later."""
    visitor = visit()
    visitor.context.add_init_script(OLD)
    visitor.page.reload()
    return visitor


def test_an_older_browser_uploads(old: Visitor, site: Site) -> None:
    film = old.make_photo("film.jpg", more=40 * MIB)
    choose(old, film)
    site.s3.cut("PUT", after=MIB)

    start(old, checksum="CRC32")

    assert_completed(old)
    row = old.row()
    assert (row.status, row.checksum) == ("completed", checksum_of(film, "CRC32"))
    assert site.read(row) == film.read_bytes()


def test_an_older_browser_aborts(old: Visitor, site: Site) -> None:
    choose(old, old.make_photo("film.jpg", more=40 * MIB))
    held = [site.s3.hold("PUT", after=MIB) for _ in range(3)]
    start(old)
    for fault in held:
        assert fault.held.wait(60)

    old.page.evaluate("abort.abort()")
    for fault in held:
        fault.released.set()

    assert outcome(old)["name"] == "AbortError"
    old.until(lambda: site.web.statuses("DELETE") == [204])
    assert old.row().status == "cancelled"
    assert site.open_multiparts(old.row()) == []
