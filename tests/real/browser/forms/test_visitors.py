"""A visitor without a login applies for a job, by the recipe of docs/recipes.md as it stands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.host.test_visitors import write_job_application
from tests.real.site import Site

from .editor import choose, expect_ready, item, widget

pytestmark = pytest.mark.journey

CV = b"%PDF-1.7\n" + b"a life\n" * 1000
SETTINGS = """
from tests.real.site_settings import *
from jobs.settings import REST_FRAMEWORK, S3DIRECT_UPLOADS

INSTALLED_APPS = [*(each for each in INSTALLED_APPS if "example_project" not in each), "jobs"]
ROOT_URLCONF = "jobs.urls"
"""


@pytest.fixture(scope="module")
def running_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("jobs")
    write_job_application(folder)
    (folder / "jobs_settings.py").write_text(SETTINGS)
    site = Site()
    site.env["DJANGO_SETTINGS_MODULE"] = "jobs_settings"
    site.env["PYTHONPATH"] = os.pathsep.join([str(folder), site.env.get("PYTHONPATH", "")])
    log = folder / "log"
    with site.serving(log):
        site.manage("makemigrations", "jobs")
        site.manage("migrate")
        yield site
    said = log.read_text()
    assert "Traceback" not in said
    assert "X-Amz" not in said


@pytest.fixture
def pages(site: Site, chromium: Browser) -> Iterator[list[Page]]:
    """Two visitors, each with a browser of their own, at the form."""
    contexts = [chromium.new_context(), chromium.new_context()]
    pages = [each.new_page() for each in contexts]
    for page in pages:
        page.goto(f"{site.url}/apply/")
    yield pages
    for each in contexts:
        each.close()


def cvs(site: Site) -> list[tuple[Any, ...]]:
    """The visitors' uploads: status, owner, the field that has it."""
    columns = "SELECT status, owner_id, attached_to FROM s3direct_uploads_upload"
    return site.database.execute(f"{columns} WHERE visitor ORDER BY id").fetchall()


def ask(page: Page, path: str, token: str = "") -> int:
    """The status that this visitor's browser gets."""
    script = """([url, token]) => fetch(url, {headers: token ? {"Upload-Token": token} : {}})
        .then(({status}) => status)"""
    status: int = page.evaluate(script, [f"/api/uploads/{path}", token])
    return status


def test_a_visitor_applies_and_nobody_else_reaches_the_cv(
    site: Site, pages: list[Page], tmp_path: Path
) -> None:
    ada, eve = pages
    path, other = tmp_path / "cv.pdf", tmp_path / "other.pdf"
    path.write_bytes(CV)
    other.write_bytes(CV[::-1])
    field = widget(ada, "cv")
    choose(field, other)
    expect_ready(field, "other.pdf")
    ada.get_by_role("button", name="Remove: other.pdf").click()
    expect(item(field, "other.pdf")).to_have_count(0)
    choose(field, path)
    expect_ready(field, "cv.pdf")

    # The name is missing, by a page that does not ask for it: the form comes back with the file.
    # This page, too, knows the token of what it removes.
    for removed in (True, False):
        ada.locator("form").evaluate("form => form.noValidate = true")
        ada.get_by_role("button", name="Apply").click()
        expect(ada.locator(".errorlist")).to_have_text("This field is required.")
        expect_ready(field, "cv.pdf")
        if removed:
            ada.get_by_role("button", name="Remove: cv.pdf").click()
            expect(item(field, "cv.pdf")).to_have_count(0)
            choose(field, path)
            expect_ready(field, "cv.pdf")
    token = ada.locator("input[type=hidden][name=cv]").last.input_value()
    id = token.split(":")[0]

    stolen = [ask(eve, f"{id}/"), ask(eve, f"{id}/", token[:-9]), ask(eve, f"{id}/url/", id)]
    assert (stolen, ask(eve, "")) == ([403, 404, 404], 403)
    assert ask(ada, f"{id}/url/", token) == 200
    assert [each[:2] for each in cvs(site)] == [("deleted", None)] * 2 + [("completed", None)]

    ada.get_by_label("Name").fill("Ada")
    ada.get_by_role("button", name="Apply").click()
    expect(ada.locator("p")).to_have_text("Thank you.")
    assert cvs(site)[2] == ("completed", None, "jobs.Application.cv")
    [(name, key)] = site.database.execute("SELECT name, cv FROM jobs_application").fetchall()
    assert name == "Ada"
    assert site.client.get_object(Bucket=site.bucket, Key=key)["Body"].read() == CV
