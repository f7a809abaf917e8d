"""The example's pages with forms: albums, documents, and a visitor's application."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.real.axe import faults
from tests.real.browser.forms.editor import Editor, choose, expect_ready, widget
from tests.real.site import Site, Visitor

pytestmark = pytest.mark.journey

PDF = b"%PDF-1.7\n" + b"a life\n" * 1000
PAGES: list[tuple[int, Any]] = [(390, "light"), (1280, "dark")]
SCREENSHOTS = os.environ.get("SCREENSHOTS")  # a folder, for people who want to look
TARGETS = "button, .button, nav a, .s3-upload-zone, .page input:not([type=hidden]), .list a"


def look(page: Page, name: str) -> None:
    """No fault, nothing that is cut off, and no target that is too small for a finger."""
    for width, scheme in PAGES:
        page.set_viewport_size({"width": width, "height": 844})
        page.emulate_media(color_scheme=scheme)
        if SCREENSHOTS:
            path = Path(SCREENSHOTS) / f"pages-{name}-{width}-{scheme}.png"
            page.screenshot(path=path, full_page=True)
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        boxes = [each.bounding_box() for each in page.locator(TARGETS).all() if each.is_visible()]
        small = [each for each in boxes if each and (each["height"] < 44 or each["width"] < 44)]
        assert small == []


def go(page: Page, link: str) -> None:
    """By keyboard, with the navigation."""
    page.get_by_role("navigation").get_by_role("link", name=link, exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("navigation").locator("[aria-current=page]")).to_have_text(link)
    page.wait_for_load_state()  # element.js has run


def test_an_album_of_three_photos(alice: Visitor, site: Site) -> None:
    page = alice.page
    go(page, "Albums")
    expect(page.get_by_text("You have no album yet.")).to_be_visible()
    photos = [alice.make_photo(f"{number}.jpg") for number in range(3)]
    choose(widget(page, "photos"), *photos)
    expect_ready(widget(page, "photos"), *(photo.name for photo in photos))

    # The title is missing. The form comes back with the photos.
    page.locator("form.panel").evaluate("form => form.noValidate = true")
    page.get_by_role("button", name="Save the album").click()
    expect(page.locator(".errorlist")).to_have_text("This field is required.")
    expect_ready(widget(page, "photos"), *(photo.name for photo in photos))
    look(page, "albums-error")
    page.get_by_label("Title").fill("The sea")
    page.get_by_role("button", name="Save the album").press("Enter")

    expect(page.get_by_role("heading", name="The sea")).to_be_visible()
    expect(page.locator(".pictures img")).to_have_count(3)
    page.wait_for_function(
        "[...document.querySelectorAll('.pictures img')].every((each) => each.naturalWidth > 0)"
    )
    look(page, "albums")
    rows = alice.rows()
    assert [(row.destination, row.status) for row in rows] == [("photos", "completed")] * 3
    assert all(row.attached_at for row in rows)
    assert [site.read(row) for row in rows] == [photo.read_bytes() for photo in photos]


def test_a_document_is_added_read_and_deleted(alice: Visitor, site: Site) -> None:
    page = alice.page
    go(page, "Documents")
    path = alice.files / "report.pdf"
    path.write_bytes(PDF)
    page.get_by_label("Title").fill("The report")
    choose(widget(page, "file"), path)
    expect_ready(widget(page, "file"), "report.pdf")
    page.get_by_role("button", name="Save the document").click()
    link = page.get_by_role("link", name="The report", exact=True)
    expect(link).to_be_visible()
    look(page, "documents")
    row = alice.row()
    assert (row.status, site.read(row)) == ("completed", PDF)

    page.get_by_role("link", name="Delete: The report").press("Enter")
    expect(page.get_by_text("its file is lost")).to_be_visible()
    look(page, "delete-document")
    page.get_by_role("button", name="Delete it").press("Enter")
    expect(page.get_by_text("You have no documents yet.")).to_be_visible()
    site.let_pass(hours=3)
    site.sweep()
    assert site.read(row) is None


def test_nobody_sees_or_deletes_what_is_anothers(visit: Callable[..., Visitor]) -> None:
    alice, bob = visit(), visit()
    path = alice.files / "secret.txt"
    path.write_text("secret")
    go(alice.page, "Documents")
    alice.page.get_by_label("Title").fill("Secret")
    choose(widget(alice.page, "file"), path)
    expect_ready(widget(alice.page, "file"), "secret.txt")
    alice.page.get_by_role("button", name="Save the document").click()
    delete = alice.page.get_by_role("link", name="Delete: Secret").get_attribute("href")
    go(bob.page, "Documents")
    expect(bob.page.get_by_text("You have no documents yet.")).to_be_visible()
    answer = bob.page.goto(f"{bob.site.url}{delete}")
    assert answer
    assert answer.status == 404


def test_a_visitor_applies_for_a_job(site: Site, chromium: Browser, tmp_path: Path) -> None:
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{site.url}/accounts/login/")
    page.get_by_role("link", name="Apply for a job").click()
    page.wait_for_url("**/jobs/")  # and element.js has run
    cv = tmp_path / "cv.pdf"
    cv.write_bytes(PDF)
    page.get_by_label("Your name").fill("Ada")
    page.get_by_label("Your e-mail address").fill("ada@example.com")
    choose(widget(page, "cv"), cv)
    expect_ready(widget(page, "cv"), "cv.pdf")
    look(page, "jobs")
    page.get_by_role("button", name="Send your application").press("Enter")
    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
    look(page, "thanks")
    [(status, visitor, holder)] = site.database.execute(
        "SELECT status, visitor, attached_to FROM s3direct_uploads_upload WHERE visitor"
    ).fetchall()
    assert (status, visitor, holder) == ("completed", True, "pages.Application.cv")
    context.close()


def test_the_admin_shows_an_album_with_its_pictures(
    site: Site, chromium: Browser, tmp_path: Path
) -> None:
    editor = Editor(site, chromium, tmp_path)
    page = editor.open("/admin/pages/album/add/")
    page.get_by_label("Owner").select_option(label=editor.username)
    page.get_by_label("Title").fill("Mountains")
    choose(widget(page, "pictures-0-image"), editor.make_photo("peak.jpg"))
    expect_ready(widget(page, "pictures-0-image"), "peak.jpg")
    page.set_viewport_size({"width": 390, "height": 844})
    box = widget(page, "pictures-0-image").bounding_box()
    assert box
    assert box["width"] >= 200, "words fit into it, although it is in a table"
    page.set_viewport_size({"width": 1280, "height": 844})
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist")).to_contain_text("was added successfully")
    page.goto(f"{site.url}/albums/")
    expect(page.locator(".pictures img")).to_have_count(1)
    assert editor.errors == []
    editor.context.close()
