"""On a page of the host's own, with a form of Django's and without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.real.site import Site

from .editor import BIG, MIB, Editor, choose, expect_ready, item, widget

pytestmark = pytest.mark.journey


def test_a_page_does_not_submit_half_of_an_upload(edit: Callable[..., Editor], site: Site) -> None:
    editor = edit()
    page = editor.open("/entry/")
    page.get_by_label("Name").fill("Ada")
    page.get_by_label("Email").fill("ada@example.com")
    stills = widget(page, "stills")
    # Here the browser itself asks for what is required.
    page.get_by_role("button", name="Enter").click()
    assert stills.locator("input[type=file]").evaluate("input => input.validity.valueMissing")
    put = site.s3.hold("PUT", after=MIB)
    choose(stills, editor.make_photo("beach.jpg", more=BIG))
    assert put.held.wait(60)

    page.get_by_role("button", name="Enter").click()

    expect(stills.get_by_role("alert")).to_contain_text("beach.jpg has not been sent yet.")
    expect(stills.locator("input[type=file]")).to_be_focused()
    assert site.web.seen("POST", "/entry/") == []
    put.released.set()
    expect_ready(stills, "beach.jpg")
    page.get_by_role("button", name="Enter").click()
    expect(page.locator("body")).to_have_text("1 stills were entered.")
    assert editor.row().attached_at


def test_a_file_that_is_chosen_before_the_script_comes_is_sent(
    edit: Callable[..., Editor], site: Site
) -> None:
    editor = edit()
    script = site.web.delay("GET", "element.js")
    editor.page.goto(f"{site.url}/entry/", wait_until="commit")
    assert script.held.wait(60)
    stills = widget(editor.page, "stills")
    choose(stills, editor.make_photo("beach.jpg"))
    assert site.web.seen("POST", "/api/uploads/") == []

    script.released.set()

    expect_ready(stills, "beach.jpg")
    assert stills.locator("input[type=file]").evaluate("input => input.files.length") == 0


def test_what_is_refused_says_why_and_what_to_choose(
    edit: Callable[..., Editor], site: Site
) -> None:
    editor = edit()
    page = editor.open("/entry/")
    stills = widget(page, "stills")
    choose(stills, editor.make_film("offer.pdf", 10), editor.make_film("huge.jpg", 21 * MIB))

    refused = "PDF files cannot be added. Choose a JPG or PNG photo."
    expect(item(stills, "offer.pdf")).to_contain_text(refused)
    expect(item(stills, "huge.jpg")).to_contain_text(
        "This file is too large: 21 MB. The most is 20 MB."
    )
    expect(stills.get_by_role("button", name="Try again")).to_have_count(0)
    stills.get_by_role("button", name="Remove: offer.pdf").click()
    stills.get_by_role("button", name="Remove: huge.jpg").click()
    expect(stills.get_by_label("Stills")).to_be_focused()
    assert editor.rows() == []

    many = [editor.make_photo(f"{number}.jpg") for number in range(7)]
    choose(stills, *many)
    expect(stills.get_by_role("alert")).to_have_text(
        "At most 5 files can be added. Some were left out."
    )
    expect_ready(stills, *(f"{number}.jpg" for number in range(5)))
    expect(stills.locator(".s3-upload-item")).to_have_count(5)

    site.end_sessions()
    stills.get_by_role("button", name="Remove: 0.jpg").click()
    choose(stills, editor.make_photo("late.jpg"))
    expect(item(stills, "late.jpg")).to_contain_text("You are signed out.")


def test_a_file_that_is_chosen_offline_is_sent_later(
    edit: Callable[..., Editor], site: Site
) -> None:
    editor = edit()
    page = editor.open("/bare/")
    still = widget(page, "still")
    editor.context.set_offline(True)
    choose(still, editor.make_photo("beach.jpg", more=MIB))
    said = item(still, "beach.jpg")
    expect(said).to_contain_text("No connection: 0 bytes of")
    expect(said).to_contain_text("It continues by itself")
    expect(still.get_by_role("status")).to_have_text(
        "There is no connection. beach.jpg continues by itself when it is back."
    )
    editor.context.set_offline(False)
    expect_ready(still, "beach.jpg")
    assert editor.row().status == "completed"
    editor.assert_no_violation()


def test_a_file_that_failed_is_tried_again(edit: Callable[..., Editor], site: Site) -> None:
    editor = edit()
    page = editor.open("/bare/")
    for _ in range(2):
        site.s3.refuse("PUT", b"<Error><Code>AccessDenied</Code></Error>")
    still = widget(page, "still")
    choose(still, editor.make_photo("beach.jpg", more=MIB))
    expect(item(still, "beach.jpg")).to_contain_text("This file could not be added. Try again.")
    assert [row.status for row in editor.rows()] == ["pending"]
    still.get_by_role("button", name="Try again: beach.jpg").click()
    expect_ready(still, "beach.jpg")
    row = editor.row()
    value = still.locator(".s3-upload-item input").input_value()
    assert value.startswith(f"{row.id}:")
    assert page.evaluate("document.querySelector('s3-upload').values") == [value]

    # Another file takes its place, and nobody needs the first one any more.
    choose(still, editor.make_photo("sea.jpg"))
    expect_ready(still, "sea.jpg")
    expect(still.locator(".s3-upload-item")).to_have_count(1)
    assert {row.filename: row.status for row in editor.rows()} == {
        "beach.jpg": "deleted",
        "sea.jpg": "completed",
    }
    editor.assert_no_violation()


def test_a_button_that_wants_no_validation_submits_all_the_same(
    edit: Callable[..., Editor], site: Site
) -> None:
    editor = edit()
    page = editor.open("/bare/")
    still = widget(page, "still")
    choose(still, editor.make_film("empty", 0))
    expect(still.get_by_role("button", name="Remove: empty")).to_be_visible()
    page.get_by_role("button", name="Send").click()
    assert site.web.seen("POST", "/bare/") == []
    with page.expect_response("**/bare/"):
        page.get_by_role("button", name="Back").click()


def test_an_element_may_be_moved_and_copied(edit: Callable[..., Editor], site: Site) -> None:
    editor = edit()
    page = editor.open("/bare/")
    put = site.s3.hold("PUT", after=MIB)
    choose(widget(page, "still"), editor.make_photo("beach.jpg", more=BIG))
    assert put.held.wait(60)
    page.evaluate("document.querySelector('form').prepend(document.querySelector('s3-upload'))")
    put.released.set()
    expect_ready(widget(page, "still"), "beach.jpg")

    page.evaluate(
        """() => {
          const copy = document.querySelector("s3-upload").cloneNode(true);
          for (const input of copy.querySelectorAll("input[type=hidden]")) input.name = "copy";
          document.querySelector("form").append(copy);
        }"""
    )
    copy = widget(page, "copy")
    expect_ready(copy, "beach.jpg")
    assert page.evaluate("document.querySelectorAll('s3-upload')[1].values") == page.evaluate(
        "document.querySelectorAll('s3-upload')[0].values"
    )
    for part in (".s3-upload-zone", ".s3-upload-item", "input[type=file]", "[role=alert]"):
        expect(copy.locator(part)).to_have_count(1)
    choose(copy, editor.make_photo("sea.jpg"))
    expect_ready(copy, "sea.jpg")
    expect_ready(widget(page, "still"), "beach.jpg")
    editor.assert_no_violation()


def test_what_a_scan_holds_is_being_checked(edit: Callable[..., Editor], site: Site) -> None:
    editor = edit()
    page = editor.open("/entry/")
    stills = widget(page, "stills")

    def held(exchange: Any, body: bytes) -> bytes:
        of_uploads = exchange.path.startswith("/api/uploads/")
        return body.replace(b'"completed"', b'"verifying"', 1) if of_uploads else body

    site.web.rewrite = held
    choose(stills, editor.make_photo("beach.jpg"))
    expect(item(stills, "beach.jpg")).to_contain_text("Being checked")
    expect(stills.get_by_role("status")).to_have_text("beach.jpg is being checked.")
    page.get_by_role("button", name="Enter").click()
    site.web.rewrite = None
    expect_ready(stills, "beach.jpg")

    # The same where the form was sent all the same: what is held is shown again, and asked about.
    hold = """UPDATE s3direct_uploads_upload
              SET status = 'verifying', held_at = now(), completed_at = NULL, announced_at = NULL"""
    site.database.execute(hold)
    page.get_by_label("Name").fill("Ada")
    page.get_by_label("Email").fill("ada@example.com")
    page.get_by_role("button", name="Enter").click()
    expect(page.locator(".errorlist")).to_have_text(
        "“beach.jpg” is still being checked. Try again in a moment."
    )
    stills = widget(page, "stills")
    expect(item(stills, "beach.jpg")).to_contain_text("Being checked")
    accept = "UPDATE s3direct_uploads_upload SET status = 'completed', completed_at = now()"
    site.database.execute(accept)
    expect_ready(stills, "beach.jpg")
    page.get_by_role("button", name="Enter").click()
    expect(page.locator("body")).to_have_text("1 stills were entered.")


def test_files_that_are_dropped(edit: Callable[..., Editor], site: Site) -> None:
    editor = edit()
    page = editor.open("/entry/")
    stills = widget(page, "stills")
    stills.locator(".s3-upload-zone").evaluate(
        """zone => {
          const dataTransfer = new DataTransfer();
          for (const name of ["a.jpg", "b.jpg"]) {
            dataTransfer.items.add(new File(["bytes"], name, {type: "image/jpeg"}));
          }
          const options = {dataTransfer, bubbles: true, cancelable: true};
          for (const type of ["dragover", "drop"]) zone.dispatchEvent(new DragEvent(type, options));
        }"""
    )
    expect_ready(stills, "a.jpg", "b.jpg")
