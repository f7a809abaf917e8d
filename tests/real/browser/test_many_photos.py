"""Many photos at the wall: one progress, pause and cancel for all, and no fault for axe-core."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.real.axe import faults
from tests.real.site import Site, Visitor

pytestmark = pytest.mark.journey

MB = 1_000_000
BIG = 12 * MB  # more than the sockets between the browser and a wire hold
SCREENSHOTS = os.environ.get("SCREENSHOTS")  # a folder, for people who want to look


def look(page: Page, name: str) -> None:
    """No fault, nothing that is cut off, and a picture of it if somebody asks for one."""
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True)
    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def refuse(site: Site) -> None:
    """S3 refuses one photo for good: a new URL does not help."""
    for _ in range(2):
        site.s3.refuse("PUT", b"<Error><Code>AccessDenied</Code></Error>")


def test_twelve_photos_of_which_one_is_refused(alice: Visitor, site: Site) -> None:
    page = alice.page
    overall = page.locator("#overall")
    photos = [alice.make_photo(f"{number}.jpg", more=MB) for number in range(11)]
    notes = alice.files / "notes.txt"
    notes.write_text("no photo")
    faults = [site.s3.hold("PUT", after=1000) for _ in range(3)]

    alice.add(notes, *photos)

    assert all(fault.held.wait(60) for fault in faults)
    expect(overall).to_contain_text(re.compile(r"0 of 12 photos, \d+ %"))
    expect(alice.underway("notes.txt")).to_contain_text("TXT files cannot be added")
    for fault in faults:
        fault.released.set()
    expect(alice.photos).to_have_count(11)
    expect(overall).not_to_be_visible()
    expect(page.locator("#announcer")).to_have_text("11 of 12 photos were sent.")
    expect(page.locator("#underway li")).to_have_count(1)
    rows = alice.rows()
    assert [row.status for row in rows] == ["completed"] * 11
    assert {row.filename: site.read(row) for row in rows} == {
        photo.name: photo.read_bytes() for photo in photos
    }


@pytest.mark.parametrize("lost", [False, True])
def test_twenty_photos_need_few_requests(alice: Visitor, site: Site, lost: bool) -> None:
    """Two calls begin them, although an answer is lost, and the confirms are gathered."""
    photos = [alice.make_photo(f"{number:02}.jpg", more=10_000) for number in range(20)]
    if lost:
        site.web.lose_answer("POST", "/batch/")
        site.web.lose_answer("POST", "/batch/confirm/")

    alice.add(*photos)

    expect(alice.photos).to_have_count(20)
    rows = alice.rows()
    assert [row.status for row in rows] == ["completed"] * 20
    assert {row.filename: site.read(row) for row in rows} == {
        photo.name: photo.read_bytes() for photo in photos
    }
    begins = site.web.statuses("POST", "/uploads/batch/")
    confirms = site.web.statuses("POST", "/uploads/batch/confirm/")
    alone = [each.path for each in site.web.seen("POST", "/") if "/uploads/" in each.path]
    assert begins == [0, 200, 200] if lost else [200, 200]
    assert confirms.count(0) == lost
    assert len(confirms) <= 20
    assert len(alone) == len(begins) + len(confirms), "no file is begun or confirmed alone"


def test_a_retry_after_a_batch_leaves_no_upload_behind(alice: Visitor, site: Site) -> None:
    photos = [alice.make_photo(f"{name}.jpg") for name in ("a", "b")]
    holds = [site.s3.hold("PUT", f"{photo.name}") for photo in photos]
    alice.add(*photos)
    assert all(hold.held.wait(60) for hold in holds)
    assert site.web.statuses("POST", "/uploads/batch/") == [200]
    site.end_sessions()
    for hold in holds:
        hold.released.set()
    for photo in photos:
        expect(alice.underway(photo.name)).to_contain_text("You are signed out")

    with alice.context.expect_page() as opened:
        alice.page.get_by_role("link", name="Sign in in another tab").click()
    alice.sign_in(opened.value)
    opened.value.close()
    for photo in photos:
        alice.underway(photo.name).get_by_role("button", name="Retry").click()

    expect(alice.photos).to_have_count(2)
    rows = alice.rows()
    assert sorted((row.filename, row.status) for row in rows) == [
        ("a.jpg", "cancelled"),
        ("a.jpg", "completed"),
        ("b.jpg", "cancelled"),
        ("b.jpg", "completed"),
    ]


def test_cancel_all_keeps_what_is_completed(alice: Visitor, site: Site) -> None:
    page = alice.page
    photos = [alice.make_photo(f"photo {number:02}.jpg", more=BIG) for number in range(12)]
    first, *underway = [site.s3.hold("PUT", f"{number:02}.jpg", after=MB) for number in range(4)]
    alice.add(*photos)
    assert first.held.wait(60)
    first.released.set()
    expect(alice.photo("photo 00.jpg")).to_be_visible()
    assert all(fault.held.wait(60) for fault in underway)

    cancel = page.get_by_role("button", name="Cancel all")
    cancel.focus()
    page.keyboard.press("Enter")

    expect(page.locator("#overall")).not_to_be_visible()
    assert page.evaluate("document.activeElement.id") == "files", "the focus is not lost"
    for fault in underway:
        fault.released.set()
    items = page.locator("#underway li")
    expect(items).to_have_text([re.compile("Cancelled.")] * 3)  # what had not begun is gone
    page.reload()
    expect(alice.photos).to_have_count(1)
    expect(page.locator("#uploads .cancelled")).to_have_count(3)
    completed, *cancelled = alice.rows()
    assert (completed.status, completed.filename) == ("completed", "photo 00.jpg")
    assert completed.attached_at
    assert [row.status for row in cancelled] == ["cancelled"] * 3


def test_pause_all_by_keyboard(alice: Visitor, site: Site) -> None:
    page = alice.page
    overall = page.locator("#overall")
    faults = [site.s3.hold("PUT", after=MB) for _ in range(3)]
    photos = [alice.make_photo(f"{number}.jpg", more=BIG) for number in range(5)]
    alice.add(*photos)
    assert all(fault.held.wait(60) for fault in faults)

    page.get_by_role("button", name="Pause all").focus()
    page.keyboard.press("Enter")
    for fault in faults:
        fault.released.set()

    expect(overall).to_contain_text("paused")
    expect(alice.underway("0.jpg")).to_contain_text("Paused at")
    expect(alice.underway("4.jpg")).to_contain_text("Waiting")
    page.wait_for_timeout(500)
    assert 200 not in site.s3.statuses("PUT")
    expect(page.get_by_role("button", name="Go on with all")).to_be_focused()
    page.keyboard.press("Enter")
    expect(alice.photos).to_have_count(5)
    assert [row.status for row in alice.rows()] == ["completed"] * 5


def test_dismissing_a_photo_keeps_the_focus(alice: Visitor, site: Site) -> None:
    notes = [alice.files / f"{number}.txt" for number in range(2)]
    for each in notes:
        each.write_text("no photo")
    alice.add(*notes)
    for number in range(2):
        expect(alice.underway(f"{number}.txt")).to_contain_text("TXT files cannot be added")
    first = alice.underway("0.txt").get_by_role("button", name="Dismiss")
    first.focus()
    alice.page.keyboard.press("Enter")
    expect(alice.underway("1.txt").get_by_role("button", name="Dismiss")).to_be_focused()
    alice.page.keyboard.press("Enter")
    assert alice.page.evaluate("document.activeElement.id") == "files"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_in_any_state(
    visit: Callable[..., Visitor], site: Site, width: int, scheme: Any
) -> None:
    alice = visit(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = alice.page
    name = f"{width}-{scheme}"
    page.add_style_tag(content="* {animation: none !important; transition: none !important}")
    look(page, f"{name}-empty")
    refuse(site)
    alice.add(alice.make_photo("refused.jpg"))
    expect(alice.underway("refused.jpg")).to_contain_text("This file could not be added.")
    notes = alice.files / "notes.txt"
    notes.write_text("no photo")
    faults = [site.s3.hold("PUT", after=MB) for _ in range(3)]

    alice.add(*[alice.make_photo(f"a long name of photo {i}.jpg", more=BIG) for i in range(5)])
    alice.add(notes)
    assert all(fault.held.wait(60) for fault in faults)
    expect(alice.underway("notes.txt")).to_contain_text("TXT files cannot be added")
    look(page, f"{name}-sending")
    expect(alice.underway("photo 0.jpg")).to_contain_text("Nothing moves at the moment")
    look(page, f"{name}-stalled")
    page.get_by_role("button", name="Pause all").click()
    expect(alice.underway("photo 0.jpg")).to_contain_text("Paused at")
    look(page, f"{name}-paused")
    alice.context.set_offline(True)
    page.get_by_role("button", name="Go on with all").click()
    expect(alice.underway("photo 0.jpg")).to_contain_text("No connection")
    look(page, f"{name}-offline")
    for fault in faults:
        fault.released.set()
    alice.context.set_offline(False)
    expect(alice.photos).to_have_count(5)
    look(page, f"{name}-done")
