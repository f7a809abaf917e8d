"""In Django's admin: add, change, both kinds of inlines, and a popup."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.real.site import Site

from .editor import BIG, MIB, Editor, add_film, choose, expect_ready, item, widget

pytestmark = pytest.mark.journey


def test_a_film_and_three_stills_in_the_admin(edit: Callable[..., Editor], site: Site) -> None:
    editor = edit()
    page = editor.open("/admin/cinema/film/add/")
    reel = widget(page, "reel")
    film = editor.make_film("film.mp4", 20 * MIB)
    choose(reel, film)
    for number in range(3):
        page.get_by_role("button", name="Add another Still").click()
        choose(widget(page, f"stills-{number}-image"), editor.make_photo(f"still{number}.jpg"))
    poster = widget(page, "posters-0-image")
    choose(poster, editor.make_photo("poster.jpg"))
    expect_ready(reel, "film.mp4")
    assert len([each for each in site.s3.seen("PUT") if each.part]) == 4
    for number in range(3):
        expect_ready(widget(page, f"stills-{number}-image"), f"still{number}.jpg")
    expect_ready(poster, "poster.jpg")
    editor.assert_no_violation()

    # The title is missing: everything else is kept.
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.locator(".errornote")).to_contain_text("Please correct the error")
    expect_ready(widget(page, "reel"), "film.mp4")
    for number in range(3):
        expect_ready(widget(page, f"stills-{number}-image"), f"still{number}.jpg")
    expect_ready(widget(page, "posters-0-image"), "poster.jpg")
    editor.assert_no_violation()
    page.get_by_label("Title").fill("Nosferatu")
    page.get_by_role("button", name="Save and continue editing").click()

    expect(page.locator(".messagelist")).to_contain_text("was added successfully")
    expect(widget(page, "reel").locator(".s3-upload-current")).to_contain_text("film.mp4")
    rows = editor.rows()
    assert [row.status for row in rows] == ["completed"] * 5
    assert all(row.attached_at for row in rows)
    named = editor.files_of("film", "reel") | editor.files_of("still") | editor.files_of("poster")
    assert named == {row.key for row in rows}
    assert max(each.received for each in site.web.exchanges) < 5_000, "no file passed Django"
    editor.assert_no_violation()


def test_a_change_form_keeps_replaces_and_clears(edit: Callable[..., Editor], site: Site) -> None:
    editor = edit()
    add_film(editor, "Nosferatu")
    page = editor.page
    before = editor.files_of("film", "reel")

    # Nothing chosen: nothing changes, and nothing has to be chosen again.
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.locator(".messagelist")).to_contain_text("was changed successfully")
    assert editor.files_of("film", "reel") == before

    choose(widget(page, "reel"), editor.make_film("restored.mp4", MIB))
    expect_ready(widget(page, "reel"), "restored.mp4")
    widget(page, "posters-0-image").get_by_label("Clear").check()
    page.get_by_role("button", name="Save and continue editing").click()

    expect(widget(page, "reel").locator(".s3-upload-current")).to_contain_text("restored.mp4")
    expect(widget(page, "posters-0-image").locator(".s3-upload-current")).to_have_count(0)
    [reel] = editor.files_of("film", "reel")
    assert reel.endswith("/restored.mp4")
    assert editor.files_of("poster") == set()

    # To choose a file is to change one's mind about clearing.
    choose(widget(page, "posters-0-image"), editor.make_photo("second.jpg"))
    expect_ready(widget(page, "posters-0-image"), "second.jpg")
    page.get_by_role("button", name="Save and continue editing").click()
    poster = widget(page, "posters-0-image")
    poster.get_by_label("Clear").check()
    choose(poster, editor.make_photo("third.jpg"))
    expect_ready(poster, "third.jpg")
    expect(poster.get_by_label("Clear")).not_to_be_checked()
    editor.assert_no_violation()


def test_the_admin_does_not_save_half_of_an_upload(edit: Callable[..., Editor], site: Site) -> None:
    editor = edit()
    page = editor.open("/admin/cinema/film/add/")
    page.get_by_label("Title").fill("Metropolis")
    put = site.s3.hold("PUT", after=MIB)
    reel = widget(page, "reel")
    choose(reel, editor.make_film("film.mp4", BIG))
    assert put.held.wait(60)
    told = site.web.seen("POST", "/add/")

    page.get_by_role("button", name="Save", exact=True).click()

    expect(reel.get_by_role("alert")).to_have_text(
        "film.mp4 has not been sent yet. Wait for it, or cancel it."
    )
    expect(item(reel, "film.mp4").locator(":focus")).to_have_count(1)
    assert site.web.seen("POST", "/add/") == told
    put.released.set()
    expect_ready(reel, "film.mp4")
    expect(reel.get_by_role("alert")).to_be_empty()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist")).to_contain_text("was added successfully")


def test_of_several_fields_the_first_on_the_page_says_why(
    edit: Callable[..., Editor], site: Site
) -> None:
    editor = edit()
    page = editor.open("/admin/cinema/film/add/")
    poster = widget(page, "posters-0-image")  # on the page before the still, and below it
    page.get_by_role("button", name="Add another Still").click()
    still = widget(page, "stills-0-image")
    offer = editor.make_film("offer.pdf", 10)
    for each in (poster, still):
        choose(each, offer)
        expect(each).to_contain_text("cannot be added")

    page.get_by_role("button", name="Save", exact=True).click()

    expect(still.get_by_role("alert")).to_have_text("offer.pdf cannot be added. Remove it.")
    expect(still.get_by_role("button", name="Remove: offer.pdf")).to_be_focused()
    expect(poster.get_by_role("alert")).to_be_empty()


def test_an_inline_that_is_removed_cancels_its_upload(
    edit: Callable[..., Editor], site: Site
) -> None:
    editor = edit()
    page = editor.open("/admin/cinema/film/add/")
    for _ in range(2):
        page.get_by_role("button", name="Add another Still").click()
    put = site.s3.hold("PUT", after=MIB)
    choose(widget(page, "stills-0-image"), editor.make_photo("beach.jpg", more=BIG))
    assert put.held.wait(60)
    choose(widget(page, "stills-1-image"), editor.make_photo("sea.jpg"))
    expect_ready(widget(page, "stills-1-image"), "sea.jpg")
    with page.expect_response(lambda answer: answer.request.method == "DELETE"):
        page.locator("#stills-0 .inline-deletelink").click()
    put.released.set()
    # The second form is the first one now, and so is what it posts.
    expect_ready(widget(page, "stills-0-image"), "sea.jpg")
    names = page.locator("input[name^='stills-'][name$='-image']").evaluate_all(
        "inputs => inputs.map(({name}) => name)"
    )
    assert names == ["stills-0-image", "stills-0-image", "stills-__prefix__-image"]
    assert {row.filename: row.status for row in editor.rows()} == {
        "beach.jpg": "cancelled",
        "sea.jpg": "completed",
    }


def test_a_popup_of_the_admin(edit: Callable[..., Editor], site: Site) -> None:
    editor = edit()
    page = editor.open("/admin/cinema/film/add/")
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Add another director").click()
    popup = opened.value
    popup.get_by_label("Name").fill("Murnau")
    choose(widget(popup, "portrait"), editor.make_photo("murnau.jpg"))
    expect_ready(widget(popup, "portrait"), "murnau.jpg")
    assert popup.evaluate("violations") == []
    popup.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_label("Director")).to_contain_text("Murnau")
    assert editor.files_of("director", "portrait") == {editor.row().key}
