"""The example project in Chromium: what people do at its page, and what row and bucket then say."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from botocore.config import Config
from playwright.sync_api import Browser, Page, TimeoutError, expect

from tests.real.site import ADMIN, PASSWORD, Exchange, Site, Visitor
from tests.real.waiting import wait_until

pytestmark = pytest.mark.journey

MB = 1_000_000
BIG = 12 * MB  # more than the sockets between the browser and a wire hold
ATTEMPTS = 5  # upload.js's
BEGIN = "/api/uploads/"


def width(page: Page, selector: str) -> int:
    """Of an image, in its own pixels, once it has arrived."""
    pixels: int = page.locator(selector).evaluate(
        "async (image) => { await image.decode(); return image.naturalWidth; }"
    )
    return pixels


def test_one_photo(alice: Visitor, site: Site) -> None:
    beach = alice.make_photo("beach.jpg", more=BIG)
    fault = site.s3.hold("PUT", after=MB)
    alice.add(beach)

    assert fault.held.wait(60)
    item = alice.underway("beach.jpg")
    expect(item).to_contain_text(re.compile(r"\d MB of 11\.4 MB"))
    assert 0 < item.locator("progress").evaluate("bar => bar.value / bar.max") < 1
    expect(item.locator(".thumbnail img")).to_be_visible()
    expect(alice.record("beach.jpg")).to_contain_text("pending")
    assert alice.row().status == "pending"
    assert site.read(alice.row()) is None

    fault.released.set()
    expect(alice.photo("beach.jpg")).to_be_visible()
    expect(alice.record("beach.jpg")).to_contain_text("completed")
    expect(item).not_to_be_visible()
    assert width(alice.page, "#wall img[alt='beach.jpg']") == 320
    row = alice.row()
    assert (row.status, row.filename, row.content_type) == ("completed", "beach.jpg", "image/jpeg")
    assert row.size == beach.stat().st_size
    assert row.attached_at
    assert site.read(row) == beach.read_bytes()

    [preflight] = site.s3.seen("OPTIONS")
    assert preflight.status == 200
    assert preflight.headers["Access-Control-Request-Method"] == "PUT"
    assert preflight.headers["Access-Control-Request-Headers"] == "content-type,if-none-match"
    [put] = site.s3.seen("PUT")
    assert (put.status, put.received) == (200, row.size)
    assert "Cookie" not in put.headers
    assert "X-CSRFToken" not in put.headers
    # Django was told of it, thrice, and of nothing else.
    told = [each for each in site.web.seen("POST") if each.path.startswith("/api/")]
    assert [each.path for each in told] == [BEGIN, f"{BEGIN}{row.id}/confirm/", "/api/photos/"]
    assert max(each.received for each in site.web.exchanges) < 1_000


def test_many_at_once(alice: Visitor, site: Site) -> None:
    files = [alice.make_photo(f"{name}.jpg", more=MB) for name in ("a", "b", "c", "d", "e")]
    faults = [site.s3.hold("PUT", after=1000) for _ in range(3)]
    alice.add(*files)
    assert all(fault.held.wait(60) for fault in faults)
    for name in ("d", "e"):
        expect(alice.underway(f"{name}.jpg")).to_contain_text("Waiting")
    assert len(site.s3.seen("PUT")) == 3
    # They are small: one request has begun all of them.
    assert site.web.statuses("POST", "/uploads/batch/") == [200]
    assert [row.status for row in alice.rows()] == ["pending"] * 5

    for fault in faults:
        fault.released.set()
    expect(alice.photos).to_have_count(5)
    expect(alice.page.locator("#uploads .completed")).to_have_count(5)
    rows = alice.rows()
    assert [row.status for row in rows] == ["completed"] * 5
    assert all(row.attached_at for row in rows)
    assert {row.filename: site.read(row) for row in rows} == {
        file.name: file.read_bytes() for file in files
    }


def test_cancelled_half_way(alice: Visitor, site: Site) -> None:
    beach = alice.make_photo("beach.jpg", more=BIG)
    fault = site.s3.hold("PUT", after=MB)
    alice.add(beach)
    assert fault.held.wait(60)
    alice.underway("beach.jpg").get_by_role("button", name="Cancel").click()

    expect(alice.underway("beach.jpg")).to_contain_text("Cancelled.")
    expect(alice.record("beach.jpg")).to_contain_text("cancelled")
    fault.released.set()
    assert alice.row().status == "cancelled"

    # Retrying is another upload, for the first one is over.
    alice.underway("beach.jpg").get_by_role("button", name="Retry").click()
    expect(alice.photo("beach.jpg")).to_be_visible()
    cancelled, completed = alice.rows()
    assert (cancelled.status, completed.status) == ("cancelled", "completed")
    assert site.s3.statuses("PUT") == [0, 200]
    assert site.read(cancelled) is None
    assert site.read(completed) == beach.read_bytes()


def test_a_connection_that_breaks_is_made_again(alice: Visitor, site: Site) -> None:
    beach = alice.make_photo("beach.jpg", more=BIG)
    site.s3.cut("PUT", after=MB)
    alice.add(beach)
    expect(alice.photo("beach.jpg")).to_be_visible()
    assert site.s3.statuses("PUT") == [0, 200]
    assert (alice.row().status, site.read(alice.row())) == ("completed", beach.read_bytes())


def test_a_network_that_stays_away(alice: Visitor, site: Site) -> None:
    beach = alice.make_photo("beach.jpg", more=BIG)
    for _ in range(2 * ATTEMPTS):
        site.s3.cut("PUT", after=MB)
    alice.add(beach)
    expect(alice.photo("beach.jpg")).to_be_visible()
    assert site.s3.statuses("PUT") == [0] * 2 * ATTEMPTS + [200]

    # Off altogether: a file that is chosen now waits, and nobody has to touch the page.
    alice.context.set_offline(True)
    dunes = alice.make_photo("dunes.jpg")
    alice.add(dunes)
    item = alice.underway("dunes.jpg")
    expect(item).to_contain_text("No connection: 0 bytes of")
    expect(item).to_contain_text("It continues by itself")
    alice.context.set_offline(False)
    expect(alice.photo("dunes.jpg")).to_be_visible()
    assert [row.status for row in alice.rows()] == ["completed", "completed"]
    assert [site.read(row) for row in alice.rows()] == [beach.read_bytes(), dunes.read_bytes()]


def test_a_lost_answer_of_s3(alice: Visitor, site: Site) -> None:
    beach = alice.make_photo("beach.jpg")
    site.s3.lose_answer("PUT")
    alice.add(beach)
    expect(alice.photo("beach.jpg")).to_be_visible()
    assert site.s3.statuses("PUT") == [0, 412]
    assert site.web.statuses("POST", "/confirm/") == [200]
    assert (alice.row().status, site.read(alice.row())) == ("completed", beach.read_bytes())


def test_lost_answers_of_django(alice: Visitor, site: Site) -> None:
    beach = alice.make_photo("beach.jpg")
    site.web.lose_answer("POST", BEGIN)
    site.web.lose_answer("POST", "/confirm/")
    alice.add(beach)
    expect(alice.photo("beach.jpg")).to_be_visible()
    assert site.web.statuses("POST", BEGIN) == [0, 201]
    assert site.s3.statuses("PUT") == [200]
    assert site.web.statuses("POST", "/confirm/") == [0, 200]
    assert (alice.row().status, site.read(alice.row())) == ("completed", beach.read_bytes())


def test_a_lost_answer_of_the_wall(alice: Visitor, site: Site) -> None:
    site.web.lose_answer("POST", "/api/photos/")
    alice.add(alice.make_photo("beach.jpg"))
    expect(alice.underway("beach.jpg")).to_contain_text("There is no connection.")
    expect(alice.photo("beach.jpg")).to_be_visible()  # where it is nevertheless
    alice.underway("beach.jpg").get_by_role("button", name="Retry").click()
    expect(alice.underway("beach.jpg")).to_contain_text("This upload is in use already.")
    alice.underway("beach.jpg").get_by_role("button", name="Dismiss").click()
    expect(alice.underway("beach.jpg")).not_to_be_visible()
    alice.page.reload()
    expect(alice.photos).to_have_count(1)
    assert alice.row().attached_at


def test_a_tab_that_is_closed_before_it_confirms(alice: Visitor, site: Site) -> None:
    beach = alice.make_photo("beach.jpg")
    confirm = site.web.hold("POST", "/confirm/")
    alice.add(beach)
    assert confirm.held.wait(60)
    alice.page.close()
    assert site.s3.statuses("PUT") == [200]
    assert "completed" not in site.sweep()
    assert alice.row().status == "pending"

    site.let_pass(hours=2)
    assert "1 completed" in site.sweep()  # beside what visitors before left behind
    row = alice.row()
    assert (row.status, row.attached_at) == ("completed", None)
    assert site.read(row) == beach.read_bytes()
    # What the tab had still said comes late, and changes nothing.
    confirm.released.set()
    wait_until(lambda: site.web.statuses("POST", "/confirm/") == [200])
    assert alice.row() == row


def test_a_bucket_that_does_not_allow_the_page(alice: Visitor, site: Site) -> None:
    beach = alice.make_photo("beach.jpg")
    site.allow("https://elsewhere.example.com")
    said: list[str] = []
    alice.page.on("console", lambda message: said.append(message.text))
    alice.add(beach)
    item = alice.underway("beach.jpg")
    # What a person can do. The developer reads the rest in the console.
    expect(item).to_contain_text("There is no connection. Check your network, then try again.")
    assert any("the bucket's CORS rules do not allow this page" in each for each in said)
    assert site.s3.statuses("OPTIONS") == [403] * ATTEMPTS
    assert site.s3.seen("PUT") == []
    row = alice.row()
    assert (row.status, site.read(row)) == ("pending", None)

    site.allow(site.url)
    item.get_by_role("button", name="Retry").click()
    expect(alice.photo("beach.jpg")).to_be_visible()
    assert (alice.row().id, alice.row().status) == (row.id, "completed")
    assert site.read(alice.row()) == beach.read_bytes()


def test_a_session_that_ended(alice: Visitor, site: Site) -> None:
    beach = alice.make_photo("beach.jpg")
    site.end_sessions()
    alice.add(beach)
    item = alice.underway("beach.jpg")
    expect(item).to_contain_text("You are signed out. Sign in again in another tab")
    assert alice.rows() == []
    assert site.s3.exchanges == []

    notice = alice.page.locator("#session-ended")
    with alice.context.expect_page() as opened:
        notice.get_by_role("link", name="Sign in in another tab").click()
    alice.sign_in(opened.value)
    opened.value.close()
    item.get_by_role("button", name="Retry").click()
    expect(alice.photo("beach.jpg")).to_be_visible()
    expect(notice).not_to_be_visible()
    assert (alice.row().status, site.read(alice.row())) == ("completed", beach.read_bytes())


def test_a_session_that_ended_on_the_way(alice: Visitor, site: Site) -> None:
    beach = alice.make_photo("beach.jpg")
    fault = site.s3.hold("PUT")
    alice.add(beach)
    assert fault.held.wait(60)
    site.end_sessions()
    fault.released.set()
    item = alice.underway("beach.jpg")
    expect(item).to_contain_text("You are signed out. Sign in again in another tab")
    assert (alice.row().status, site.read(alice.row())) == ("pending", beach.read_bytes())

    with alice.context.expect_page() as opened:
        alice.page.get_by_role("link", name="Sign in in another tab").click()
    alice.sign_in(opened.value)
    opened.value.close()
    item.get_by_role("button", name="Retry").click()
    expect(alice.photo("beach.jpg")).to_be_visible()
    assert site.s3.statuses("PUT") == [200, 412]
    assert alice.row().status == "completed"


def test_an_empty_file(alice: Visitor, site: Site) -> None:
    empty = alice.files / "empty.jpg"
    empty.touch()
    alice.add(empty)
    expect(alice.photo("empty.jpg")).to_be_visible()
    expect(
        alice.photo("empty.jpg").get_by_text("empty.jpg")
    ).to_be_visible()  # for want of a picture
    expect(alice.record("empty.jpg")).to_contain_text("0 bytes")
    [put] = site.s3.seen("PUT")
    assert (put.status, put.headers["Content-Length"]) == (200, "0")
    assert (alice.row().status, alice.row().size) == ("completed", 0)
    assert site.read(alice.row()) == b""


def test_a_name_that_is_not_ascii(alice: Visitor, site: Site) -> None:
    sunrise = alice.make_photo("한라산 일출 🌄.jpg")
    alice.add(sunrise)
    expect(alice.photo(sunrise.name)).to_be_visible()
    expect(alice.record(sunrise.name)).to_contain_text("completed")
    row = alice.row()
    assert row.filename == sunrise.name
    assert row.key.isascii()

    page = alice.page
    page.reload()
    alice.photo(sunrise.name).click()
    expect(page.locator("#viewer-title")).to_have_text(sunrise.name)

    site.s3.mend()
    with page.expect_download() as download:
        page.evaluate("(url) => { location = url; }", f"{BEGIN}{row.id}/download/")
    assert download.value.suggested_filename == sunrise.name
    assert download.value.path().read_bytes() == sunrise.read_bytes()
    answer = page.request.get(f"{site.url}{BEGIN}{row.id}/download/")
    disposition = f"attachment; filename*=utf-8''{quote(sunrise.name)}"
    assert answer.headers["content-disposition"] == disposition


def test_what_is_refused(alice: Visitor, site: Site) -> None:
    for filename, size, message in (
        ("notes.txt", 10, "TXT files cannot be added. Choose a photo."),
        ("drawing.svg", 10, "SVG files cannot be added. Choose a photo."),
        ("huge.jpg", 2 * 1024**3, "This file is too large: 2 GB. The most is 1 GB."),
    ):
        file = alice.files / filename
        with file.open("wb") as content:
            content.truncate(size)
        alice.add(file)
        item = alice.underway(filename)
        expect(item).to_contain_text(message)
        expect(item.get_by_role("button", name="Retry")).not_to_be_visible()
        item.get_by_role("button", name="Dismiss").click()
        expect(item).not_to_be_visible()
    assert alice.rows() == []
    assert site.s3.exchanges == []


def test_a_url_that_expired_before_it_was_used(alice: Visitor, site: Site) -> None:
    beach = alice.make_photo("beach.jpg")
    signer = site.client_at(site.s3.url, Config(signature_version="s3v4"))

    def expire(exchange: Exchange, body: bytes) -> bytes:
        if (exchange.method, exchange.path) != ("POST", BEGIN):
            return body
        row = alice.row()
        parameters = {
            "Bucket": site.bucket,
            "Key": row.key,
            "ContentType": row.content_type,
            "ContentLength": row.size,
            "IfNoneMatch": "*",
        }
        answer = json.loads(body)
        answer["request"]["url"] = signer.generate_presigned_url(
            "put_object", parameters, ExpiresIn=1
        )
        time.sleep(2)
        return json.dumps(answer).encode()

    site.web.rewrite = expire
    alice.add(beach)
    expect(alice.photo("beach.jpg")).to_be_visible()
    # Ceph does not even answer the preflight as it should, so the page learns nothing.
    assert site.s3.statuses("OPTIONS") == [403, 200]
    assert site.s3.statuses("PUT") == [200]
    assert site.web.statuses("POST", "/renew/") == [200]
    assert (alice.row().status, site.read(alice.row())) == ("completed", beach.read_bytes())


def test_a_url_that_s3_refuses_aloud(alice: Visitor, site: Site) -> None:
    beach = alice.make_photo("beach.jpg")
    site.s3.refuse("PUT", b"<Error><Code>AccessDenied</Code><Message>expired</Message></Error>")
    alice.add(beach)
    expect(alice.photo("beach.jpg")).to_be_visible()
    assert site.s3.statuses("PUT") == [403, 200]
    assert site.web.statuses("POST", "/renew/") == [200]
    assert (alice.row().status, site.read(alice.row())) == ("completed", beach.read_bytes())

    # Once is enough: a signature that is refused again is no matter of time.
    for _ in range(2):
        site.s3.refuse("PUT", b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
    alice.add(alice.make_photo("refused.jpg"))
    expect(alice.underway("refused.jpg")).to_contain_text(
        "This file could not be added. Try again."
    )
    assert site.s3.statuses("PUT", "refused.jpg") == [403, 403]
    assert [row.status for row in alice.rows()] == ["completed", "pending"]


def test_my_uploads_and_the_admin(alice: Visitor, site: Site, chromium: Browser) -> None:
    fault = site.s3.hold("PUT", after=MB)
    alice.add(alice.make_photo("cancelled.jpg", more=BIG))
    assert fault.held.wait(60)
    alice.underway("cancelled.jpg").get_by_role("button", name="Cancel").click()
    expect(alice.record("cancelled.jpg")).to_contain_text("cancelled")
    alice.add(alice.make_photo("done.jpg"))
    expect(alice.photo("done.jpg")).to_be_visible()
    for _ in range(2):
        site.s3.refuse("PUT", b"<Error><Code>AccessDenied</Code></Error>")
    alice.add(alice.make_photo("lost.jpg"))
    expect(alice.underway("lost.jpg").get_by_role("button", name="Retry")).to_be_visible()

    alice.page.reload()
    expect(alice.page.locator("#uploads li")).to_have_count(3)
    for filename, status in (
        ("cancelled", "cancelled"),
        ("done", "completed"),
        ("lost", "pending"),
    ):
        expect(alice.record(f"{filename}.jpg").locator(".status")).to_have_text(status)
    expect(alice.photos).to_have_count(1)
    assert [row.status for row in alice.rows()] == ["cancelled", "completed", "pending"]

    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{site.url}/admin/s3direct_uploads/upload/?q={quote(alice.username)}")
    page.get_by_label("Username").fill(ADMIN)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(3)
    assert "X-Amz" not in page.content()
    page.get_by_role("link", name="done.jpg").click()
    expect(page.locator("#content")).to_contain_text(alice.username)
    assert width(page, f"img[src*='{alice.rows()[1].id}']") == 320
    assert "X-Amz" not in page.content()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "done.jpg"
    context.close()


def test_on_a_telephone_in_the_dark(visit: Callable[..., Visitor], site: Site) -> None:
    screen = {"width": 390, "height": 844}
    alice = visit(viewport=screen, color_scheme="dark", has_touch=True, is_mobile=True)

    def fits() -> bool:
        return bool(
            alice.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        )

    # Darker than the middle, whatever the shade.
    paper = alice.page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
    assert all(int(part) < 64 for part in re.findall(r"\d+", paper))
    assert fits()

    long = "a" * 120
    alice.add(alice.make_photo(f"{long}.jpg"))
    expect(alice.photo(f"{long}.jpg")).to_be_visible()
    for _ in range(2):
        site.s3.refuse("PUT", b"<Error><Code>AccessDenied</Code></Error>")
    alice.add(alice.make_photo(f"failed {long}.jpg"))
    expect(alice.underway("failed")).to_contain_text("This file could not be added. Try again.")
    expect(alice.record("failed")).to_contain_text("pending")
    assert fits()
    alice.photo(f"{long}.jpg").tap()
    expect(alice.page.get_by_role("button", name="Delete")).to_be_in_viewport()
    expect(alice.page.get_by_role("button", name="Close")).to_be_in_viewport()
    assert fits()


def test_by_keyboard_alone(alice: Visitor, site: Site) -> None:
    beach = alice.make_photo("beach.jpg")
    keyboard = alice.page.keyboard
    alice.page.on("filechooser", lambda chooser: chooser.set_files(beach))
    for _ in ("Wall", "Albums", "Documents", "Jobs", "Sign out"):
        keyboard.press("Tab")
    keyboard.press("Tab")
    expect(alice.page.get_by_label("Choose photos")).to_be_focused()
    keyboard.press("Enter")
    expect(alice.photo("beach.jpg")).to_be_visible()
    row = alice.row()
    assert (row.status, site.read(row)) == ("completed", beach.read_bytes())

    expect(alice.page.get_by_label("Choose photos")).to_be_focused()
    keyboard.press("Tab")
    expect(alice.photo("beach.jpg")).to_be_focused()
    keyboard.press("Enter")
    delete = alice.page.locator("#viewer .delete")
    expect(alice.page.locator("#viewer")).to_be_visible()
    for _ in range(4):
        if delete.evaluate("button => button === document.activeElement"):
            break
        keyboard.press("Tab")
    expect(delete).to_be_focused()
    keyboard.press("Enter")
    expect(delete).to_have_text("Delete for good")
    assert site.read(row) is not None
    keyboard.press("Enter")
    expect(alice.photos).to_have_count(0)
    expect(alice.page.locator("#viewer")).not_to_be_visible()
    assert (alice.row().status, alice.row().attached_at) == ("deleted", None)
    assert site.read(row) is not None, "a sweep deletes it, once no URL can write to its key"


def test_files_that_are_dropped_or_pasted(alice: Visitor, site: Site) -> None:
    files = [alice.make_photo("dropped.jpg"), alice.make_photo("too.jpg")]
    mouse = alice.context.new_cdp_session(alice.page)
    held = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
    veil = alice.page.locator("#veil")

    def drag(event: str) -> None:
        mouse.send("Input.dispatchDragEvent", {"type": event, "x": 300, "y": 400, "data": held})

    def drop() -> bool:
        drag("dragEnter")
        while not veil.is_visible():
            drag("dragOver")
        drag("drop")
        try:
            veil.wait_for(state="hidden", timeout=3_000)  # by the page, as it takes the files
        except TimeoutError:
            return False
        return True

    # On a busy machine Chromium forgets, rarely, that DevTools drags something, and then tells
    # the page of no drop. A person would drag again.
    assert any(drop() for _ in range(5))
    expect(alice.photos).to_have_count(2)

    pasted = base64.b64encode(alice.make_photo("pasted.jpg").read_bytes()).decode()
    alice.page.evaluate(
        """async (base64) => {
          const answer = await fetch(`data:image/jpeg;base64,${base64}`);
          const clipboardData = new DataTransfer();
          const file = new File([await answer.blob()], "pasted.jpg", {type: "image/jpeg"});
          clipboardData.items.add(file);
          dispatchEvent(new ClipboardEvent("paste", {clipboardData}));
        }""",
        pasted,
    )
    expect(alice.photos).to_have_count(3)
    assert {row.filename: site.read(row) for row in alice.rows()} == {
        name: (alice.files / name).read_bytes() for name in ("dropped.jpg", "too.jpg", "pasted.jpg")
    }


# What Chromium adds of itself.


def test_chromium_says_max_age_0_and_confirm_does_not_mind(alice: Visitor, site: Site) -> None:
    alice.add(alice.make_photo("beach.jpg"))
    expect(alice.photo("beach.jpg")).to_be_visible()
    # Because of If-None-Match; no script asked for it, nor does the preflight mention it.
    [preflight], [put] = site.s3.seen("OPTIONS"), site.s3.seen("PUT")
    assert put.headers["Cache-Control"] == "max-age=0"
    assert "cache-control" not in preflight.headers["Access-Control-Request-Headers"]
    row = alice.row()
    assert site.head(row)["CacheControl"] == "max-age=0"
    assert row.status == "completed"


def test_any_other_cache_control_is_rejected(alice: Visitor, site: Site) -> None:
    site.allow(site.url, "cache-control")
    alice.page.evaluate(
        """() => {
          const {send} = XMLHttpRequest.prototype;
          XMLHttpRequest.prototype.send = function (body) {
            this.setRequestHeader("Cache-Control", "max-age=31536000");
            send.call(this, body);
          };
        }"""
    )
    alice.add(alice.make_photo("poison.jpg"))
    expect(alice.underway("poison.jpg")).to_contain_text(
        "This file was refused. A header was sent that nobody signed: CacheControl."
    )
    expect(alice.record("poison.jpg")).to_contain_text("rejected")
    assert site.s3.statuses("PUT") == [200]
    assert (alice.row().status, alice.row().attached_at) == ("rejected", None)
    expect(alice.photos).to_have_count(0)


# upload.js in a page of somebody else's.


def test_a_token_for_django_and_a_checksum_for_s3(
    alice: Visitor, site: Site, chromium: Browser
) -> None:
    body = b"\x89PNG and more"
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    token = base64.b64encode(f"{alice.username}:{PASSWORD}".encode()).decode()
    site.allow(site.url, "x-amz-checksum-sha256", "x-amz-sdk-checksum-algorithm")
    page = alice.page
    # Cookies that must not be sent, and no list that asks with them.
    page.goto(f"{site.url}/static/photos/icon.svg")
    site.web.mend()
    page.evaluate(
        """async ([text, token]) => {
          const {upload} = await import("/static/s3direct_uploads/upload.js");
          const body = Uint8Array.from(text, (character) => character.charCodeAt(0));
          window.phases = [];
          window.completed = await upload(new File([body], "sealed.png", {type: "image/png"}), {
            endpoint: "/api/uploads",
            destination: "photos",
            checksum: "SHA256",
            credentials: "omit",
            headers: async () => ({Authorization: `Basic ${token}`}),
            onProgress: ({phase}) => window.phases.push(phase),
          });
        }""",
        [body.decode("latin-1"), token],
    )
    row = alice.row()
    assert page.evaluate("[completed.id, completed.status]") == [str(row.id), "completed"]
    assert page.evaluate("[...new Set(phases)]") == ["begin", "send", "confirm"]
    assert (row.status, row.checksum_algorithm, row.checksum) == ("completed", "SHA256", digest)
    assert site.head(row)["ChecksumSHA256"] == digest
    assert site.read(row) == body

    [put] = site.s3.seen("PUT")
    assert put.headers["x-amz-checksum-sha256"] == digest
    assert "Authorization" not in put.headers
    asked = site.web.seen("POST")
    assert [each.headers["Authorization"] for each in asked] == [f"Basic {token}"] * 2
    assert not any("Cookie" in each.headers for each in asked)


def test_aborting_cancels_at_django_too(alice: Visitor, site: Site) -> None:
    token = base64.b64encode(f"{alice.username}:{PASSWORD}".encode()).decode()
    fault = site.s3.hold("PUT", after=MB)
    alice.page.evaluate(
        """async ([size, token]) => {
          const {upload} = await import("/static/s3direct_uploads/upload.js");
          window.abort = new AbortController();
          window.outcome = upload(new File([new Uint8Array(size)], "a.png", {type: "image/png"}), {
            endpoint: "/api/uploads/",
            destination: "photos",
            credentials: "omit",
            headers: {Authorization: `Basic ${token}`},
            signal: window.abort.signal,
          }).catch((error) => error);
        }""",
        [BIG, token],
    )
    assert fault.held.wait(60)
    with alice.page.expect_request_finished(lambda request: request.method == "DELETE"):
        alice.page.evaluate("abort.abort(new Error('changed my mind'))")
    assert alice.page.evaluate("outcome.then(({message}) => message)") == "changed my mind"
    fault.released.set()
    assert (alice.row().status, site.read(alice.row())) == ("cancelled", None)
