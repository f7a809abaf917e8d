"""Support staff at the list of uploads: by keyboard, on a telephone, under a strict policy."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.real.axe import faults
from tests.real.site import Site

from .editor import Editor, add_film, choose, expect_ready, widget

pytestmark = pytest.mark.journey

PAGES: list[tuple[int, Any]] = [(390, "light"), (1280, "dark")]
UPLOADS = "/admin/s3direct_uploads/upload/"
SCREENSHOTS = os.environ.get("SCREENSHOTS")  # a folder, for people who want to look


def look(editor: Editor, name: str) -> None:
    """No fault, nothing beyond the edge, no violation; and a picture if somebody asks for one."""
    page = editor.page
    editor.assert_no_violation()  # before axe-core, which tries styles of its own
    for width, scheme in PAGES:
        page.set_viewport_size({"width": width, "height": 844})
        page.emulate_media(color_scheme=scheme)
        # Django's links change their colour within a moment.
        page.evaluate("Promise.all(document.getAnimations().map((each) => each.finished))")
        if SCREENSHOTS:
            path = Path(SCREENSHOTS) / f"admin-{name}-{width}-{scheme}.png"
            page.screenshot(path=path, full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # Django's own form has a label that is an image.
        found = [each for each in faults(page) if not each.startswith("label-title-only")]
        assert found == []


def expect_drawn(page: Page, selector: str) -> None:
    """The image has come from S3, by the redirect."""
    image = page.locator(selector).first
    image.scroll_into_view_if_needed()
    expect(image).to_be_visible()
    page.wait_for_function("image => image.naturalWidth > 0", arg=image.element_handle())


def select(page: Page, action: str) -> None:
    page.get_by_label("Action:").select_option(label=action)
    page.get_by_role("button", name="Run").or_(page.get_by_role("button", name="Go")).click()


def test_support_finds_looks_and_deletes(edit: Callable[..., Editor], site: Site) -> None:
    editor = edit()
    add_film(editor, "Nosferatu")
    page = editor.open("/admin/cinema/director/add/")  # a file that no row will use
    choose(widget(page, "portrait"), editor.make_photo("left.jpg"))
    expect_ready(widget(page, "portrait"), "left.jpg")
    left = editor.rows()[-1]
    page.on("dialog", lambda dialog: dialog.accept())

    page = editor.open(UPLOADS)
    expect(page.locator(".s3direct-summary dd").nth(0)).to_have_text("0")
    expect_drawn(page, ".s3direct-thumbnail")
    look(editor, "list")
    expect(page.get_by_text("cinema.Poster.image")).to_be_visible()  # only in its film's page
    page.get_by_role("link", name="cinema.Film.reel").click()
    expect(page.get_by_label("Title")).to_have_value("Nosferatu")

    page = editor.open(f"{UPLOADS}{left.id}/change/")
    expect_drawn(page, ".s3direct-preview")
    look(editor, "change")

    page = editor.open(UPLOADS)
    page.locator("#result_list").get_by_role("link", name="admin", exact=True).first.click()
    expect(page.get_by_role("heading", name="Uploads of admin")).to_be_visible()
    look(editor, "owner")

    page = editor.open(f"{UPLOADS}?attached=no")
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    page.locator("#action-toggle").focus()
    page.keyboard.press("Space")
    select(page, "Cancel, or delete if no model uses it")
    expect(page.locator("#content")).to_contain_text("Warning:")
    look(editor, "confirmation")
    page.get_by_role("link", name="No, take me back").click()
    expect(page).to_have_url(f"{site.url}{UPLOADS}?attached=no")
    page.locator("#action-toggle").check()
    select(page, "Cancel, or delete if no model uses it")
    page.get_by_role("button", name="Yes, I’m sure").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".messagelist")).to_contain_text("1 cancelled or deleted.")
    assert [row.status for row in editor.rows() if row.id == left.id] == ["deleted"]
