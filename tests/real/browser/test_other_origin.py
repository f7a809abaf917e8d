"""A page on another origin than Django: built by Vite, by the words of docs/other-origin.md."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, expect

from tests.real.browser.conftest import IMPATIENCE
from tests.real.elsewhere import documented
from tests.real.site import PASSWORD, ROOT, Exchange, Site, Visitor
from tests.settings import free_port

pytestmark = pytest.mark.journey

MIB = 1024**2
VITE = "vite@8.3.8"
PACKAGE = ROOT / "s3direct_uploads" / "static" / "s3direct_uploads"
UPLOADS = "/api/uploads/"
# Browsers find every host below localhost on this machine. The first two are of one site.
API, APP, STRANGE = "api.example.localhost", "app.example.localhost", "app.localhost"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclass
class Elsewhere:
    """Django at api.example.localhost, and its page at two other hosts."""

    site: Site
    port: int  # the page's
    log: Path

    def page(self, host: str, **query: str) -> str:
        return f"http://{host}:{self.port}/?{urlencode(query)}"


def npm(folder: Path, *package: str) -> None:
    install = ["npm", "install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund"]
    command = ["scripts/node", *install, "--prefix", str(folder), *package]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300, capture_output=True)


def build(site: Site, folder: Path) -> None:
    """The page, for this Django."""
    shutil.copytree(ROOT / "tests" / "real" / "elsewhere" / "page", folder, dirs_exist_ok=True)
    for name, module in documented.MODULES.items():
        (folder / name).write_text(module.replace("https://api.example.com", site.url))
    npm(folder, "--install-links", str(PACKAGE))
    vite = ROOT / ".venv" / "vite"
    npm(vite, VITE)
    command = ["scripts/node", str(vite / "node_modules" / ".bin" / "vite"), "build", str(folder)]
    env = {**os.environ, "VITE_TOKEN": f"{site.url}/api/token/"}
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    folder = tmp_path_factory.mktemp("page")
    built = folder / "dist"
    built.mkdir()
    pages = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(built)))
    Thread(target=pages.serve_forever, daemon=True).start()
    port = pages.server_port
    origins = [f"http://{host}:{port}" for host in (APP, STRANGE)]
    site = Site()
    site.url = f"http://{API}:{site.web.server.server_port}"
    settings = "tests.real.elsewhere.settings"
    site.env |= {"DJANGO_SETTINGS_MODULE": settings, "PAGE_ORIGINS": ",".join(origins)}
    log = folder / "log"
    with ThreadPoolExecutor() as pool:
        building = pool.submit(build, site, folder)
        with site.serving(log):
            site.manage("setup_bucket", *(f"--origin={origin}" for origin in origins))
            building.result()
            yield Elsewhere(site, port, log)
    pages.shutdown()
    pages.server_close()
    assert "Traceback" not in log.read_text()


Open = Callable[..., Visitor]


@pytest.fixture
def visit(
    running: Elsewhere, chromium: Browser, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Open]:
    """A new user, at the page on this host. By a session, they log in at Django's own page."""
    visitors: list[Visitor] = []

    def visit(host: str, by: str, **query: str) -> Visitor:
        running.site.web.mend()
        running.site.s3.mend()
        context = chromium.new_context()
        context.set_default_timeout(30_000)
        context.add_init_script(IMPATIENCE)
        visitor = Visitor(running.site, context, request.node.name, tmp_path)
        visitors.append(visitor)
        running.site.make_user(visitor.username)
        login: dict[str, str] = {}
        if by == "session":
            visitor.page.goto(running.site.url)
            visitor.sign_in()
            visitor.page.goto("about:blank")
            running.site.web.mend()
        else:
            login = {"username": visitor.username, "password": PASSWORD}
        visitor.page.goto(running.page(host, by=by, **login, **query))
        return visitor

    yield visit
    for visitor in visitors:
        visitor.context.close()
        assert visitor.errors == []


def choose(visitor: Visitor, *files: Path) -> None:
    visitor.page.locator("#photos").set_input_files(files)


def expect_said(visitor: Visitor, *said: str | re.Pattern[str]) -> None:
    expect(visitor.page.locator("li")).to_have_text(list(said))


def uploads(site: Site, method: str) -> list[Exchange]:
    return [each for each in site.web.seen(method) if each.path.startswith(UPLOADS)]


def assert_kept(visitor: Visitor, file: Path) -> None:
    [row] = [row for row in visitor.rows() if row.filename == file.name]
    assert row.status == "completed"
    assert visitor.site.read(row) == file.read_bytes()


def test_with_a_session_one_put_and_parts(visit: Open, running: Elsewhere) -> None:
    site = running.site
    alice = visit(APP, "session")
    small, large = alice.make_photo("small.jpg"), alice.make_photo("large.jpg", more=12 * MIB)
    choose(alice, small)
    expect_said(alice, "small.jpg: completed")
    choose(alice, large)
    expect_said(alice, "small.jpg: completed", "large.jpg: completed")
    expect(alice.page.locator("progress")).to_have_js_property("value", 1)

    assert_kept(alice, small)
    assert_kept(alice, large)
    assert sorted(each.part for each in site.s3.seen("PUT")) == [0, 1, 2, 3]
    begins = [each for each in uploads(site, "POST") if each.path == UPLOADS]
    for begin in begins:
        assert begin.status == 201
        assert begin.headers["Origin"] == f"http://{APP}:{running.port}"
        assert "sessionid=" in begin.headers["Cookie"]
        assert begin.headers["X-CSRFToken"]
    # S3 gets neither, and Django is asked for leave once for each URL.
    for put in site.s3.seen("PUT"):
        assert not {"Cookie", "X-CSRFToken", "Authorization"} & set(put.headers)
    asked = [each.path for each in uploads(site, "OPTIONS") if each.path == UPLOADS]
    assert (len(begins), len(asked)) == (2, 2)  # one to begin, one to look for what was interrupted
    assert len(site.web.seen("GET", "/api/csrf/")) == 1


def test_with_a_token_that_expires_meanwhile_and_a_checksum(
    visit: Open, running: Elsewhere
) -> None:
    """On another site than Django, which has no cookie there."""
    site = running.site
    alice = visit(STRANGE, "token", checksum="CRC32")
    workers: list[str] = []
    alice.page.on("worker", lambda worker: workers.append(worker.url))
    small, large = alice.make_photo("small.jpg"), alice.make_photo("large.jpg", more=6 * MIB)
    choose(alice, small)
    expect_said(alice, "small.jpg: completed")
    part = site.s3.hold("PUT", after=MIB)
    choose(alice, large)
    assert part.held.wait(60)
    time.sleep(4)  # the first token's life is three seconds
    part.released.set()
    expect_said(alice, "small.jpg: completed", "large.jpg: completed")

    assert_kept(alice, small)
    assert_kept(alice, large)
    assert {row.checksum_algorithm for row in alice.rows()} == {"CRC32"}
    assert [f"http://{STRANGE}:{running.port}/assets/checksum-" in each for each in workers] == [
        True,
        True,
    ]
    told = [*uploads(site, "GET"), *uploads(site, "POST")]
    assert {each.status for each in told} <= {200, 201}
    assert all("Cookie" not in each.headers for each in told)
    tokens = {each.headers["Authorization"] for each in told}
    assert len(tokens) >= 2
    assert all(each.startswith("Bearer ") for each in tokens)
    for put in site.s3.seen("PUT"):
        assert "Authorization" not in put.headers


@pytest.mark.parametrize(("by", "host"), [("session", APP), ("token", STRANGE)])
def test_cancelled_it_is_cancelled_in_django(
    visit: Open, running: Elsewhere, by: str, host: str
) -> None:
    site = running.site
    alice = visit(host, by)
    put = site.s3.hold("PUT", after=MIB)
    choose(alice, alice.make_photo("beach.jpg", more=12 * MIB))
    assert put.held.wait(60)

    with alice.page.expect_response(lambda answer: answer.request.method == "DELETE") as cancelled:
        alice.page.get_by_role("button", name="Cancel").click()

    assert cancelled.value.status == 204
    put.released.set()
    expect_said(alice, re.compile("^beach.jpg: .*abort"))
    assert alice.row().status == "cancelled"


def test_a_file_is_shown_by_its_url_and_not_by_its_redirect(
    visit: Open, running: Elsewhere
) -> None:
    alice = visit(STRANGE, "token")
    choose(alice, alice.make_photo("beach.jpg"))
    expect_said(alice, "beach.jpg: completed")
    [begin] = [each for each in uploads(running.site, "POST") if each.path == UPLOADS]
    url = f"{running.site.url}{UPLOADS}{alice.row().id}"
    get = {"headers": {"Authorization": begin.headers["Authorization"]}}

    shown = alice.page.evaluate(
        """async ([url, get]) => {
          const image = new Image();
          image.src = (await (await fetch(`${url}/url/?disposition=inline`, get)).json()).url;
          await image.decode();
          return image.naturalWidth;
        }""",
        [url, get],
    )
    redirected = alice.page.evaluate(
        "([url, get]) => fetch(`${url}/download/`, get).then(() => true, ({name}) => name)",
        [url, get],
    )

    assert (shown, redirected) == (320, "TypeError")
    assert running.site.web.statuses("GET", "/download/") == [302]


@contextmanager
def forgetful(site: Site, log: Path) -> Iterator[None]:
    """Another Django in the place of the first one: its host forgot CORS_ALLOW_HEADERS."""
    right, site.port = site.port, free_port()
    command = [sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{site.port}"]
    env = {**site.env, "FORGETFUL": "1"}
    with (
        log.open("w") as output,
        subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT
        ) as server,
    ):
        try:
            site.wait_for(server, log)
            site.web.target = f"127.0.0.1:{site.port}"
            yield
        finally:
            server.terminate()
            site.port = right
            site.web.target = f"127.0.0.1:{right}"


def test_without_the_header_idempotency_key_the_message_names_the_apis_cors(
    visit: Open, running: Elsewhere, tmp_path: Path
) -> None:
    site, log = running.site, tmp_path / "log"
    alice = visit(APP, "session")
    console: list[str] = []
    alice.page.on("console", lambda message: console.append(message.text))
    with forgetful(site, log):
        site.web.mend()
        choose(alice, alice.make_photo("beach.jpg"))

        expect_said(alice, re.compile("the API's CORS settings do not allow this page"))
        assert alice.rows() == []
        assert uploads(site, "POST") == []
        assert any("idempotency-key is not allowed" in each for each in console)
        # Whoever starts this Django reads it.
        assert "s3direct_uploads.W110" in log.read_text()
    assert "s3direct_uploads.W" not in running.log.read_text()

    choose(alice, alice.make_photo("beach.jpg"))
    expect(alice.page.locator("li").last).to_have_text("beach.jpg: completed")
