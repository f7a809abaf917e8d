"""A file lives and dies with its row: what the admin saves and deletes is what S3 has."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.real.site import Site

from .editor import MIB, Editor, add_film, choose, expect_ready, item, widget

pytestmark = pytest.mark.journey

SAVE = "Save and continue editing"
LARGE = 60_000  # milliseconds: how long the large film may take


def test_a_film_and_three_stills_are_added_replaced_cleared_and_deleted(
    edit: Callable[..., Editor], site: Site
) -> None:
    editor = edit()
    add_film(editor, "Nosferatu")
    page = editor.page
    change = page.url

    # On the change form, a large film; and in an inline three stills at once.
    reel = widget(page, "reel")
    choose(reel, editor.make_film("restored.mp4", 200 * MIB))
    for number in range(3):
        page.get_by_role("button", name="Add another Still").click()
        still = editor.make_photo(f"still{number}.jpg", more=MIB)
        choose(widget(page, f"stills-{number}-image"), still)
    for number in range(3):
        expect_ready(widget(page, f"stills-{number}-image"), f"still{number}.jpg")
    expect(item(reel, "restored.mp4")).to_contain_text("Ready", timeout=LARGE)
    editor.assert_no_violation()

    # The title is missing. All four files are kept, and none is claimed.
    page.get_by_label("Title").fill("")
    page.get_by_role("button", name=SAVE).click()
    expect(page.locator(".errornote")).to_contain_text("Please correct the error")
    expect_ready(widget(page, "reel"), "restored.mp4")
    for number in range(3):
        expect_ready(widget(page, f"stills-{number}-image"), f"still{number}.jpg")
    assert len([row for row in editor.rows() if row.attached_at]) == 2
    page.get_by_label("Title").fill("Nosferatu")
    page.get_by_role("button", name=SAVE).click()
    expect(page.locator(".messagelist")).to_contain_text("was changed successfully")
    assert {row.filename for row in editor.rows() if not row.attached_at} == {"film.mp4"}
    assert len(site.s3.seen("PUT")) > 40, "in parts"
    assert max(each.received for each in site.web.exchanges) < 20_000, "no file passed Django"
    assert editor.usage() == sum(row.size for row in editor.rows())
    editor.assert_in_step()
    assert 200 * MIB < editor.usage() < 206 * MIB

    # One still is replaced, one deleted, the poster cleared, and the film is a short one.
    page.goto(change)
    choose(widget(page, "reel"), editor.make_film("short.mp4", MIB))
    choose(widget(page, "stills-0-image"), editor.make_photo("better.jpg"))
    page.locator("#id_stills-1-DELETE").check()
    widget(page, "posters-0-image").get_by_label("Clear").check()
    expect_ready(widget(page, "reel"), "short.mp4")
    expect_ready(widget(page, "stills-0-image"), "better.jpg")
    page.get_by_role("button", name=SAVE).click()
    expect(page.locator(".messagelist")).to_contain_text("was changed successfully")
    attached = {row.filename for row in editor.rows() if row.attached_at}
    assert attached == {"short.mp4", "better.jpg", "still2.jpg"}
    editor.assert_in_step()

    # Two more films: one is deleted on its own page, the others by the action of the list.
    for title in ("Metropolis", "M"):
        add_film(editor, title)
    page.get_by_role("link", name="Delete", exact=True).click()
    page.get_by_role("button", name="Yes, I’m sure").click()
    expect(page.locator(".messagelist")).to_contain_text("was deleted successfully")
    editor.assert_in_step()
    assert len(editor.files_of("film", "reel")) == 2
    page.locator("#action-toggle").check()
    page.get_by_label("Action:").select_option(label="Delete selected films")
    page.get_by_role("button", name="Run").or_(page.get_by_role("button", name="Go")).click()
    page.get_by_role("button", name="Yes, I’m sure").click()
    expect(page.locator(".messagelist")).to_contain_text("Successfully deleted 2 films")
    assert editor.usage() > 0, "its quota is free only once the objects are gone"
    editor.assert_in_step()
    assert editor.usage() == 0
    assert {row.status for row in editor.rows()} == {"deleted"}


def test_a_file_is_replaced_while_a_scan_holds_it(edit: Callable[..., Editor], site: Site) -> None:
    editor = edit()
    page = editor.open("/admin/cinema/director/add/")
    page.get_by_label("Name").fill("Murnau")
    contract = widget(page, "contract")

    choose(contract, editor.make_film("draft.pdf", 1000))
    expect(item(contract, "draft.pdf")).to_contain_text("Being checked")
    expect(contract.get_by_role("status")).to_have_text("draft.pdf is being checked.")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(contract.get_by_role("alert")).to_have_text(
        "draft.pdf is still being checked. Wait for it, or remove it."
    )
    with page.expect_response(lambda answer: answer.request.method == "DELETE"):
        choose(contract, editor.make_film("final.pdf", 2000))
    expect(item(contract, "final.pdf")).to_contain_text("Being checked")
    expect(contract.locator(".s3-upload-item")).to_have_count(1)
    assert [row.status for row in editor.rows()] == ["cancelled", "verifying"]
    editor.decide("Accept")
    expect_ready(contract, "final.pdf")
    page.get_by_role("button", name=SAVE).click()
    expect(page.locator(".messagelist")).to_contain_text("was added successfully")

    # The row keeps its file while the next one is held, and when that one is rejected.
    contract = widget(page, "contract")
    choose(contract, editor.make_film("eicar.pdf", 68))
    expect(item(contract, "eicar.pdf")).to_contain_text("Being checked")
    editor.decide("Reject")
    expect(item(contract, "eicar.pdf")).to_contain_text("It was rejected by this site's staff.")
    page.get_by_role("button", name=SAVE).click()
    expect(contract.get_by_role("alert")).to_contain_text("eicar.pdf cannot be added. Remove it.")
    contract.get_by_role("button", name="Remove: eicar.pdf").click()
    page.get_by_role("button", name=SAVE).click()
    expect(page.locator(".messagelist")).to_contain_text("was changed successfully")
    [name] = editor.files_of("director", "contract")
    assert name.endswith("/final.pdf")
    editor.assert_no_violation()
    editor.assert_in_step()
    assert editor.usage() == 2000
