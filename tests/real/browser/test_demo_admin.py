"""The demo's own admin: a photo goes straight to S3, appears on the wall, and goes with its row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.real.browser.forms.editor import MIB, Editor, choose, expect_ready, widget
from tests.real.site import Site, Visitor

pytestmark = pytest.mark.journey


def test_a_photo_is_added_changed_and_deleted_in_the_demos_admin(
    site: Site, visit: Callable[..., Visitor], chromium: Browser, tmp_path: Path
) -> None:
    alice = visit()
    editor = Editor(site, chromium, tmp_path)
    site.web.exchanges.clear()
    page = editor.open("/admin/photos/photo/add/")
    page.get_by_label("Owner").select_option(label=alice.username)
    page.get_by_label("Filename").fill("beach.jpg")
    choose(widget(page, "image"), editor.make_photo("beach.jpg", more=MIB))
    expect_ready(widget(page, "image"), "beach.jpg")
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.locator(".messagelist")).to_contain_text("was added successfully")
    alice.page.reload()
    expect(alice.photo("beach.jpg")).to_be_visible()

    choose(widget(page, "image"), editor.make_photo("sea.jpg"))
    expect_ready(widget(page, "image"), "sea.jpg")
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.locator(".messagelist")).to_contain_text("was changed successfully")
    first, second = editor.rows()
    assert (first.status, second.status) == ("deleted", "completed")
    site.let_pass(hours=3)
    site.sweep()
    assert (site.read(first), site.read(second) is not None) == (None, True)

    page.get_by_role("link", name="Delete", exact=True).click()
    page.get_by_role("button", name="Yes, I’m sure").click()
    expect(page.locator(".messagelist")).to_contain_text("was deleted successfully")
    site.let_pass(hours=3)
    site.sweep()
    assert site.read(second) is None
    alice.page.reload()
    expect(alice.photos).to_have_count(0)
    assert max(each.received for each in site.web.exchanges) < 5_000, "no file passed Django"
    assert editor.errors == []
    editor.context.close()
