"""A bucket as ``setup_bucket`` makes it, and pages in Chromium that upload to it, or may not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, expect

from tests.real.browser.conftest import IMPATIENCE
from tests.real.site import ROOT, Site, Visitor, Wire

pytestmark = pytest.mark.setup

# As the article's page does it: a data URL, made a blob, PUT by fetch. Beside the URL it is given
# the headers, for which the article has no use.
ARTICLE = """
async ({url, headers, image}) => {
  const binary = atob(image.split(",")[1]);
  const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
  const blob = new Blob([bytes], {type: "image/jpeg"});
  const result = await fetch(url, {method: "PUT", body: blob, headers});
  return result.status;
}
"""
BEGIN = """
async (declared) => {
  const token = document.cookie.match(/csrftoken=([^;]+)/)[1];
  const headers = {"Content-Type": "application/json", "X-CSRFToken": token};
  const body = JSON.stringify(declared);
  return await (await fetch("/api/uploads/", {method: "POST", headers, body})).json();
}
"""


def run(site: Site, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=ROOT,
        env=site.env,
        capture_output=True,
        text=True,
        timeout=120,
    )


def set_up_from_nothing(site: Site) -> None:
    site.client.delete_bucket(Bucket=site.bucket)
    ran = run(site, "setup_bucket", "--create", "--origin", site.url)
    assert ran.returncode == 0, ran.stderr


def problems(site: Site) -> list[str]:
    ran = run(site, "check_bucket", "--json", "--origin", site.url)
    return [each["code"] for each in json.loads(ran.stdout) if each["level"] != "pass"]


def test_a_page_uploads_from_its_origin_and_from_no_other(alice: Visitor, site: Site) -> None:
    set_up_from_nothing(site)
    assert problems(site) == []
    site.s3.mend()

    alice.add(alice.make_photo("beach.jpg"))
    expect(alice.photo("beach.jpg")).to_be_visible()
    assert (alice.row().status, alice.row().filename) == ("completed", "beach.jpg")

    # The same site by another port, which makes it another origin.
    elsewhere = Wire(f"http://127.0.0.1:{site.port}")
    alice.page.goto(elsewhere.url)
    alice.add(alice.make_photo("dunes.jpg"))
    item = alice.underway("dunes.jpg")
    expect(item).to_contain_text("There is no connection.")
    [refused] = [row for row in alice.rows() if row.filename == "dunes.jpg"]
    assert (refused.status, site.read(refused)) == ("pending", None)
    assert {each.status for each in site.s3.seen("OPTIONS") if refused.key in each.path} == {403}
    assert [each for each in site.s3.seen("PUT") if refused.key in each.path] == []

    ran = run(site, "setup_bucket", "--origin", elsewhere.url)
    assert ran.returncode == 0, ran.stderr
    item.get_by_role("button", name="Retry").click()
    expect(alice.photo("dunes.jpg")).to_be_visible()
    elsewhere.server.shutdown()
    elsewhere.server.server_close()


@pytest.fixture
def article_site(tmp_path: Path) -> Iterator[Site]:
    site = Site()
    site.bucket = site.env["S3_BUCKET"] = f"{site.bucket}-article"
    site.env["DJANGO_SETTINGS_MODULE"] = "tests.real.article_settings"
    with site.serving(tmp_path / "log") as site:
        set_up_from_nothing(site)
        yield site


def test_the_articles_own_page(article_site: Site, chromium: Browser, tmp_path: Path) -> None:
    """AWS's "Uploading to Amazon S3 directly from a web or mobile application": CORS for GET, PUT
    and HEAD, URLs of 300 seconds, image/jpeg, a random key, public-read.
    """
    site = article_site
    assert problems(site) == []
    [rule] = site.client.get_bucket_cors(Bucket=site.bucket)["CORSRules"]
    assert sorted(rule["AllowedMethods"]) == ["GET", "HEAD", "PUT"]
    assert "x-amz-acl" in rule["AllowedHeaders"]
    context = chromium.new_context()
    context.add_init_script(IMPATIENCE)
    visitor = Visitor(site, context, "reader", tmp_path)
    site.make_user("reader")
    visitor.page.goto(site.url)
    visitor.sign_in()
    photo = visitor.make_photo("cat.jpg")
    declared = {"destination": "article", "filename": "cat.jpg", "content_type": "image/jpeg"}
    declared["size"] = photo.stat().st_size  # type: ignore[assignment]
    begun: dict[str, Any] = visitor.page.evaluate(BEGIN, declared)
    request = begun["request"]
    assert request["expires_in"] == 300
    assert request["headers"]["x-amz-acl"] == "public-read"

    image = visitor.page.evaluate(
        "(bytes) => 'data:image/jpeg;base64,' + btoa(String.fromCharCode(...bytes))",
        list(photo.read_bytes()),
    )
    given = {"url": request["url"], "headers": request["headers"], "image": image}
    assert visitor.page.evaluate(ARTICLE, given) == 200

    row = visitor.row()
    assert site.read(row) == photo.read_bytes()
    # The article shows it by the URL without its signature: anybody may.
    public = requests.get(request["url"].partition("?")[0], timeout=10)
    assert (public.status_code, public.content) == (200, photo.read_bytes())
    confirmed = visitor.page.evaluate(
        BEGIN.replace("/api/uploads/", f"/api/uploads/{row.id}/confirm/"), {}
    )
    assert confirmed["status"] == visitor.row().status == "completed"
    context.close()
