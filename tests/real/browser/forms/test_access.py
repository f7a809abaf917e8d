"""For everybody: by keyboard alone, as axe-core sees it, and without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.real.axe import faults
from tests.real.site import Site

from .editor import BIG, MIB, Editor, add_film, choose, expect_ready, item, widget

pytestmark = pytest.mark.journey


def test_by_keyboard_alone(edit: Callable[..., Editor], site: Site) -> None:
    editor = edit()
    page = editor.open("/entry/")
    keyboard = page.keyboard
    beach, sea = editor.make_photo("beach.jpg", more=BIG), editor.make_photo("sea.jpg")
    choices = [beach, sea]
    page.on("filechooser", lambda chooser: chooser.set_files(choices.pop(0)))
    stills = widget(page, "stills")
    keyboard.press("Tab")
    keyboard.type("Ada")
    keyboard.press("Tab")
    keyboard.type("no address")
    keyboard.press("Tab")
    expect(page.get_by_label("Stills")).to_be_focused()
    put = site.s3.hold("PUT", after=MIB)
    keyboard.press("Enter")
    expect(stills.get_by_role("status")).to_have_text("beach.jpg was added.")
    assert put.held.wait(60)
    expect(page.get_by_label("Stills")).to_be_focused()

    keyboard.press("Tab")
    expect(page.get_by_role("button", name="Pause: beach.jpg")).to_be_focused()
    keyboard.press("Enter")
    expect(page.get_by_role("button", name="Resume: beach.jpg")).to_be_focused()
    expect(stills.get_by_role("status")).to_have_text("beach.jpg is paused.")
    expect(item(stills, "beach.jpg")).to_contain_text("Paused at")
    put.released.set()
    keyboard.press("Space")
    expect_ready(stills, "beach.jpg")
    expect(stills.get_by_role("status")).to_have_text("beach.jpg is ready.")
    # The button that had the focus is gone, so another one of the same file has it.
    expect(page.get_by_role("button", name="Remove: beach.jpg")).to_be_focused()

    keyboard.press("Shift+Tab")
    keyboard.press("Enter")
    expect_ready(stills, "sea.jpg")
    keyboard.press("Tab")
    keyboard.press("Enter")
    expect(item(stills, "beach.jpg")).to_have_count(0)
    expect(page.get_by_role("button", name="Remove: sea.jpg")).to_be_focused()
    keyboard.press("Tab")
    keyboard.press("Enter")  # the browser refuses the address, and shows where
    expect(page.get_by_label("Email")).to_be_focused()
    keyboard.press("Control+A")
    keyboard.type("ada@example.com")
    keyboard.press("Enter")
    expect(page.locator("body")).to_have_text("1 stills were entered.")
    first, second = editor.rows()
    assert (first.status, second.status) == ("deleted", "completed")
    assert second.attached_at


def test_the_admin_by_keyboard_alone(edit: Callable[..., Editor], site: Site) -> None:
    editor = edit()
    page = editor.open("/admin/cinema/film/add/")
    choices: list[Any] = []
    page.on("filechooser", lambda chooser: chooser.set_files(choices.pop(0)))

    def go_to(target: Locator, key: str = "Tab") -> None:
        for _ in range(150):
            if target.evaluate("element => element === document.activeElement"):
                return
            page.keyboard.press(key)
        raise AssertionError(f"No {key} reaches {target}")

    def press(target: Locator, key: str = "Enter") -> None:
        go_to(target)
        page.keyboard.press(key)

    def choose_by_key(name: str, path: Path, key: str = "Tab") -> None:
        choices.append(path)
        go_to(widget(page, name).locator("input[type=file]"), key)
        page.keyboard.press("Enter")
        expect_ready(widget(page, name), path.name)

    choose_by_key("reel", editor.make_film("film.mp4", 6 * MIB))
    add = page.get_by_role("button", name="Add another Still")
    go_to(add)
    for number in range(3):
        page.keyboard.press("Enter")
        expect(widget(page, f"stills-{number}-image")).to_be_visible()
    for number in (2, 1, 0):
        choose_by_key(f"stills-{number}-image", editor.make_photo(f"{number}.jpg"), "Shift+Tab")
    choose_by_key("posters-0-image", editor.make_photo("poster.jpg"))
    save = page.get_by_role("button", name="Save and continue editing")
    press(save)
    expect(page.locator(".errornote")).to_contain_text("Please correct the error")
    for name, file in (("reel", "film.mp4"), ("stills-1-image", "1.jpg")):
        expect_ready(widget(page, name), file)
    go_to(page.get_by_label("Title"))
    page.keyboard.type("Nosferatu")
    press(save)
    expect(page.locator(".messagelist")).to_contain_text("was added successfully")
    editor.assert_in_step()

    choose_by_key("reel", editor.make_film("restored.mp4", MIB))
    press(page.locator("#id_stills-1-DELETE"), "Space")
    press(widget(page, "posters-0-image").get_by_label("Clear"), "Space")
    press(save)
    expect(page.locator(".messagelist")).to_contain_text("was changed successfully")
    attached = {row.filename for row in editor.rows() if row.attached_at}
    assert attached == {"restored.mp4", "0.jpg", "2.jpg"}
    editor.assert_in_step()

    press(page.get_by_role("link", name="Delete", exact=True))
    press(page.get_by_role("button", name="Yes, I’m sure"))
    expect(page.locator(".messagelist")).to_contain_text("was deleted successfully")
    editor.assert_in_step()
    assert editor.usage() == 0


def test_without_javascript_it_says_so(edit: Callable[..., Editor], site: Site) -> None:
    editor = edit(java_script_enabled=False)
    page = editor.open("/entry/")
    said = page.locator("s3-upload noscript p")
    expect(said).to_be_visible()
    assert said.inner_text() == "Turn on JavaScript to add a file here."
    expect(page.locator("input[type=file]")).not_to_be_visible()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"color_scheme": "light"}, id="light"),
        pytest.param({"color_scheme": "dark"}, id="dark"),
        pytest.param({"viewport": {"width": 320, "height": 640}}, id="narrow"),
    ],
)
def test_axe_finds_nothing(
    edit: Callable[..., Editor], site: Site, options: dict[str, Any]
) -> None:
    editor = edit(**options)
    long = "a very long name of a file " * 3
    for path, name in (("/entry/", "stills"), ("/entry/?rtl", "stills"), ("/bare/", "still")):
        page = editor.open(path)
        element = widget(page, name)
        assert faults(page) == []
        choose(element, editor.make_photo("beach.jpg"))
        expect_ready(element, "beach.jpg")
        assert faults(page) == []
        put = site.s3.hold("PUT", after=MIB)
        choose(element, editor.make_photo(f"{long}.jpg", more=BIG))
        assert put.held.wait(60)
        expect(element.get_by_role("progressbar").last).to_be_visible()
        assert faults(page) == []
        element.get_by_role("button", name="Pause").click()
        put.released.set()
        choose(element, editor.make_film("offer.pdf", 10))
        expect(item(element, "offer.pdf")).to_contain_text("cannot be added")
        page.get_by_role("button", name=re.compile("Enter|Send")).click()
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        editor.assert_no_violation()

    add_film(editor, "Nosferatu")
    page = editor.page
    page.get_by_role("button", name="Add another Still").click()
    choose(widget(page, "stills-0-image"), editor.make_film("offer.pdf", 10))
    choose(widget(page, "posters-0-image"), editor.make_photo("beach.jpg"))
    expect_ready(widget(page, "posters-0-image"), "beach.jpg")
    expect(widget(page, "stills-0-image")).to_contain_text("cannot be added")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(widget(page, "stills-0-image").get_by_role("alert")).to_be_visible()
    editor.assert_no_violation()  # axe-core itself adds a style to pages of many style sheets
    assert faults(page, "s3-upload") == []
    assert_only_djangos(faults(page))

    # What a scan holds; and what it still holds when the form comes back.
    page = editor.open("/admin/cinema/director/add/")
    page.get_by_label("Name").fill("Murnau")
    contract = widget(page, "contract")
    choose(contract, editor.make_film("contract.pdf", 1000))
    expect(item(contract, "contract.pdf")).to_contain_text("Being checked")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    editor.assert_no_violation()
    assert faults(page, "s3-upload") == []
    editor.decide("Accept")
    expect_ready(contract, "contract.pdf")
    hold = """UPDATE s3direct_uploads_upload
              SET status = 'verifying', completed_at = NULL, announced_at = NULL
              WHERE filename = 'contract.pdf'"""
    site.database.execute(hold)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".errorlist")).to_contain_text("is still being checked")
    expect(item(widget(page, "contract"), "contract.pdf")).to_contain_text("Being checked")
    editor.assert_no_violation()
    assert faults(page, "s3-upload") == []
    assert_only_djangos(faults(page))


def assert_only_djangos(found: list[str]) -> None:
    """Of the rest of the admin's page, only what Django itself has in it."""
    assert {each.split(":")[0] for each in found} <= {"empty-table-header"}
