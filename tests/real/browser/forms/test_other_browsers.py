"""`<s3-upload>` in Firefox and WebKit, with the strictest policy that an upload allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.browser.webdriver import ENTER, Tab
from tests.real.site import ADMIN, PASSWORD, Site
from tests.real.waiting import wait_until

pytestmark = pytest.mark.journey

MIB = 1024**2


def wait_for(tab: Tab, text: str) -> None:
    wait_until(lambda: text in (tab.text("body") or ""), state=lambda: tab.text("body"))


def test_a_form_is_filled_in_by_keyboard(tab: Tab, site: Site, tmp_path: Path) -> None:
    beach = tmp_path / "beach.jpg"
    beach.write_bytes(bytes(3 * MIB))
    tab.forget()
    tab.goto(f"{site.url}/admin/login/")
    tab.sign_in(ADMIN, PASSWORD)
    wait_for(tab, "Site administration")
    tab.goto(f"{site.url}/entry/")
    tab.type("#id_name", "Ada")
    tab.type("#id_email", "ada@example.com")

    tab.choose("s3-upload input[type=file]", beach)
    wait_for(tab, "Ready")
    tab.type("#id_email", ENTER)
    wait_for(tab, "1 stills were entered.")

    row = site.rows(ADMIN)[-1]
    assert (row.status, site.read(row)) == ("completed", beach.read_bytes())
    assert row.attached_at


def test_a_file_is_paused_and_resumed_by_keyboard(tab: Tab, site: Site, tmp_path: Path) -> None:
    film = tmp_path / "beach.jpg"
    film.write_bytes(bytes(12 * MIB))
    tab.forget()
    tab.goto(f"{site.url}/admin/login/")
    tab.sign_in(ADMIN, PASSWORD)
    wait_for(tab, "Site administration")
    tab.goto(f"{site.url}/entry/")
    put = site.s3.hold("PUT", after=MIB)
    tab.choose("s3-upload input[type=file]", film)
    assert put.held.wait(60), tab.text("body")

    tab.type("s3-upload button[aria-label^=Pause]", ENTER)
    wait_for(tab, "Paused")
    put.released.set()
    tab.type("s3-upload button[aria-label^=Resume]", ENTER)

    wait_for(tab, "Ready")
    assert site.s3.statuses("PUT") == [0, 200]
    assert site.read(site.rows(ADMIN)[-1]) == film.read_bytes()
