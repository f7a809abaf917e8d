"""The photo wall, served, and people with a browser at it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.real.site import Site, Visitor

from .webdriver import Open, Tab, firefox, webkit

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
IMPATIENCE = "Math.random = () => 0.01"  # upload.js pauses a random part of 1 s, 2 s, 4 s …


@pytest.fixture(scope="module")
def running_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    log = tmp_path_factory.mktemp("site") / "log"
    with Site().serving(log) as site:
        yield site
    said = log.read_text()
    assert "Traceback" not in said
    assert "X-Amz" not in said


@pytest.fixture
def site(running_site: Site) -> Site:
    running_site.web.mend()
    running_site.s3.mend()
    running_site.allow(running_site.url)
    return running_site


# Of this module alone: while Playwright runs, Django takes its thread for an asynchronous one.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ["CHROMIUM"], args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(
    site: Site, chromium: Browser, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Visitor]]:
    """A new user, signed in, in a browser with these options."""
    visitors: list[Visitor] = []

    def visit(**options: Any) -> Visitor:
        context = chromium.new_context(**options)
        context.set_default_timeout(30_000)
        context.add_init_script(IMPATIENCE)
        username = f"{request.node.name.removeprefix('test_')[:100]} {len(visitors)}"
        visitor = Visitor(site, context, username, tmp_path)
        visitors.append(visitor)
        site.make_user(visitor.username)
        visitor.page.goto(site.url)
        visitor.sign_in()
        return visitor

    yield visit
    for visitor in visitors:
        visitor.context.close()
        assert visitor.errors == []


@pytest.fixture
def alice(visit: Callable[..., Visitor]) -> Visitor:
    return visit()


@pytest.fixture(scope="module", params=[firefox, webkit])
def other_browser(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Open]:
    with request.param(tmp_path_factory.mktemp("browser")) as open_tab:
        yield open_tab


@pytest.fixture
def tab(other_browser: Open) -> Iterator[Tab]:
    """The only tab of Firefox, and then of WebKit."""
    with other_browser() as tab:
        yield tab
