"""The page that the README shows, in a browser: nothing in it is left undefined."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.template import Context, Template
from playwright.sync_api import expect

from tests.documents import block
from tests.real.site import Site, Visitor

pytestmark = pytest.mark.journey

MIB = 1024**2


@pytest.fixture
def page(alice: Visitor, site: Site) -> Visitor:
    """Alice at the README's page, which a host would serve from its own templates."""
    shown = block("README.md", "{% load static %}", "html")
    [token] = [each["value"] for each in alice.context.cookies() if each["name"] == "csrftoken"]
    html = Template(shown).render(Context({"csrf_token": token}))
    # In the place of a page without scripts. Chromium lets no page that Playwright itself serves
    # call an S3 on this machine.
    alice.page.goto(f"{site.url}/api/uploads/")
    alice.page.set_content(html)
    return alice


def test_the_readmes_page_uploads_a_file(page: Visitor) -> None:
    page.page.locator("#file").set_input_files(page.make_photo("beach.jpg"))

    expect(page.page.locator("#message")).to_contain_text("Completed: ")
    row = page.row()
    assert row.status == "completed"
    expect(page.page.locator("#message")).to_contain_text(str(row.id))
    expect(page.page.locator("#bar")).to_have_js_property("value", 1)
    expect(page.page.locator("#cancel")).to_be_disabled()


def test_the_readmes_page_cancels_an_upload(page: Visitor, site: Site) -> None:
    put = site.s3.hold("PUT", after=MIB)
    film: Path = page.make_photo("film.jpg", more=4 * MIB)
    page.page.locator("#file").set_input_files(film)
    assert put.held.wait(60)

    with page.page.expect_response(lambda answer: answer.request.method == "DELETE") as cancelled:
        page.page.locator("#cancel").click()

    assert cancelled.value.status == 204
    put.released.set()
    expect(page.page.locator("#message")).to_have_text("Cancelled.")
    assert page.row().status == "cancelled"
    expect(page.page.locator("#file")).to_be_enabled()
