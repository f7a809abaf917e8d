"""Files in parts: cut off, paused, reloaded, resumed; what S3 has is not sent again."""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections import Counter
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.real.site import PASSWORD, Fault, Site, Visitor

pytestmark = pytest.mark.journey

MIB = 1024**2
PART_SIZE = 16 * MIB
PARALLEL = 2  # parts of a file at once, by uploadAll
BEGIN = "/api/uploads/"


def sent_parts(site: Site) -> Counter[int]:
    """How often S3 took which part."""
    return Counter(each.part for each in site.s3.seen("PUT") if each.status == 200)


def begun_parts(site: Site) -> Counter[int]:
    """How often a browser began to send which part."""
    return Counter(each.part for each in site.s3.seen("PUT"))


def cut(site: Site, *, after: int) -> list[Fault]:
    """The next parts, as many as are under way at once, break off on the way."""
    return [site.s3.cut("PUT", after=after) for _ in range(PARALLEL)]


def wait_for_all(faults: list[Fault]) -> None:
    for fault in faults:
        assert fault.held.wait(60)


def interrupted(alice: Visitor, site: Site) -> Path:
    """A film of which parts are under way as the page is reloaded."""
    film = alice.make_photo("film.jpg", more=40 * MIB)
    alice.page.on("dialog", lambda dialog: dialog.accept())  # "leave this page?"
    held = [site.s3.hold("PUT", after=MIB) for _ in range(PARALLEL)]
    alice.add(film)
    assert held[0].held.wait(60)
    alice.page.reload()
    for fault in held:
        fault.released.set()
    site.s3.mend()
    return film


def sha256(body: bytes | None) -> str:
    assert body is not None
    return hashlib.sha256(body).hexdigest()


def test_300_mib_cut_twice_and_reloaded(alice: Visitor, site: Site) -> None:
    film = alice.make_photo("film.jpg", more=300 * MIB)
    size = film.stat().st_size
    page = alice.page
    page.on("dialog", lambda dialog: dialog.accept())  # "leave this page?"
    first_cut = cut(site, after=5 * MIB)
    alice.add(film)
    item = alice.underway("film.jpg")
    wait_for_all(first_cut)
    expect(item).to_contain_text(re.compile(r"\d+ MB of 300 MB, \d.* MB per second, .* left"))

    held: list[Fault] = []
    alice.until(lambda: len(sent_parts(site)) >= 4)  # it goes on by itself
    second_cut = cut(site, after=5 * MIB)
    wait_for_all(second_cut)
    alice.until(lambda: len(sent_parts(site)) >= 9)
    held += [site.s3.hold("PUT", after=MIB) for _ in range(PARALLEL)]
    assert held[0].held.wait(60)
    page.reload()
    for fault in held:
        fault.released.set()
    site.s3.faults.clear()
    before = alice.row()
    assert (before.status, before.part_size) == ("pending", PART_SIZE)
    assert site.read(before) is None
    assert len(site.open_multiparts(before)) == 1

    offer = alice.underway("film.jpg")
    expect(offer).to_contain_text("Interrupted · 300 MB. Choose it again to go on.")
    there = sent_parts(site)
    with page.expect_file_chooser() as chooser:
        offer.get_by_role("button", name="Go on").click()
    chooser.value.set_files(film)
    expect(alice.photo("film.jpg")).to_be_visible(timeout=60_000)

    after = alice.row()
    assert (after.id, after.status, after.size) == (before.id, "completed", size)
    assert after.attached_at
    assert sha256(site.read(after)) == sha256(film.read_bytes())
    assert site.open_multiparts(after) == []
    # S3 took each part once, and what was begun more often is what was under way at a cut.
    taken = sent_parts(site)
    assert set(taken) == set(range(1, -(-size // PART_SIZE) + 1))
    assert max(taken.values()) == 1
    assert set(there) <= set(taken)
    again = sum(begun_parts(site).values()) - sum(taken.values())
    assert again <= 3 * PARALLEL
    sent = sum(each.received for each in site.s3.seen("PUT"))
    assert sent <= size + 3 * PARALLEL * PART_SIZE
    # Django carried none of it.
    assert max(each.received for each in site.web.exchanges) < 2_000


def test_paused_and_gone_on(alice: Visitor, site: Site) -> None:
    film = alice.make_photo("film.jpg", more=100 * MIB)
    alice.add(film)
    item = alice.underway("film.jpg")
    alice.until(lambda: sent_parts(site))
    held = [site.s3.hold("PUT", after=MIB) for _ in range(PARALLEL)]
    assert held[0].held.wait(60)
    there = set(sent_parts(site))
    item.get_by_role("button", name="Pause").click()
    expect(item).to_contain_text("Paused at ")
    for fault in held:
        fault.released.set()
    site.s3.faults.clear()
    alice.page.wait_for_timeout(100)
    quiet = len(site.s3.seen("PUT"))
    at = progress_of(item)
    alice.page.wait_for_timeout(700)
    assert len(site.s3.seen("PUT")) == quiet, "nothing is sent meanwhile"
    assert alice.row().status == "pending"

    item.get_by_role("button", name="Go on").click()
    expect(alice.photo("film.jpg")).to_be_visible()
    assert 0 < at < 1
    assert {begun_parts(site)[part] for part in there} == {1}, "what S3 had is not sent again"
    assert alice.row().status == "completed"
    assert sha256(site.read(alice.row())) == sha256(film.read_bytes())


def progress_of(item: Locator) -> float:
    part: float = item.locator("progress").evaluate("bar => bar.value / bar.max")
    return part


def test_a_put_is_paused_too(alice: Visitor, site: Site) -> None:
    beach = alice.make_photo("beach.jpg", more=12 * MIB)
    fault = site.s3.hold("PUT", after=MIB)
    alice.add(beach)
    item = alice.underway("beach.jpg")
    assert fault.held.wait(60)
    item.get_by_role("button", name="Pause").click()
    fault.released.set()
    expect(item).to_contain_text("Paused at ")
    item.get_by_role("button", name="Go on").click()
    expect(alice.photo("beach.jpg")).to_be_visible()
    assert site.s3.statuses("PUT") == [0, 200]
    assert (alice.row().status, site.read(alice.row())) == ("completed", beach.read_bytes())


def test_cancelled_half_way(alice: Visitor, site: Site) -> None:
    film = alice.make_photo("film.jpg", more=100 * MIB)
    alice.add(film)
    alice.until(lambda: sent_parts(site))
    held = [site.s3.hold("PUT", after=MIB) for _ in range(PARALLEL)]
    assert held[0].held.wait(60)
    alice.underway("film.jpg").get_by_role("button", name="Cancel").click()
    expect(alice.record("film.jpg")).to_contain_text("cancelled")
    for fault in held:
        fault.released.set()
    row = alice.row()
    assert (row.status, site.read(row)) == ("cancelled", None)
    assert site.open_multiparts(row) == []


def test_what_was_interrupted_is_discarded(alice: Visitor, site: Site) -> None:
    interrupted(alice, site)
    offer = alice.underway("film.jpg")
    offer.get_by_role("button", name="Discard").click()
    expect(offer).not_to_be_visible()
    expect(alice.record("film.jpg")).to_contain_text("cancelled")
    assert alice.row().status == "cancelled"
    assert site.open_multiparts(alice.row()) == []


def test_another_file_of_that_name_and_size_is_another_upload(alice: Visitor, site: Site) -> None:
    film = interrupted(alice, site)
    edited = film.read_bytes()[::-1]
    film.write_bytes(edited)  # modified at another time, as the browser remembers

    alice.add(film)
    expect(alice.photo("film.jpg")).to_be_visible()
    pending, completed = alice.rows()
    assert (pending.status, completed.status) == ("pending", "completed")
    assert site.read(completed) == edited


def test_what_django_stored_in_another_form_is_gone_on_with(alice: Visitor, site: Site) -> None:
    """Such as a filename without control characters: the browser remembers the file itself."""
    film = interrupted(alice, site)
    begun = alice.row()
    site.database.execute(
        "UPDATE s3direct_uploads_upload SET filename = 'other.jpg' WHERE id = %s", [begun.id]
    )

    alice.add(film)
    expect(alice.photo("other.jpg")).to_be_visible()

    completed = alice.row()
    assert (completed.id, completed.status) == (begun.id, "completed")
    assert sha256(site.read(completed)) == sha256(film.read_bytes())


def test_two_tabs_go_on_with_one_upload(alice: Visitor, site: Site) -> None:
    film = alice.make_photo("film.jpg", more=100 * MIB)
    held = [site.s3.hold("PUT", after=MIB) for _ in range(PARALLEL)]
    alice.add(film)
    wait_for_all(held)

    other = alice.context.new_page()
    other.goto(site.url)
    other.locator("#files").set_input_files(film)
    expect(other.locator("#wall .photo")).to_have_count(1)
    for fault in held:
        fault.released.set()
    # The first tab finds that it is done, and that the photo is on the wall already.
    expect(alice.underway("film.jpg")).to_contain_text("This upload is in use already.")
    row = alice.row()
    assert (row.status, site.open_multiparts(row)) == ("completed", [])
    assert sha256(site.read(row)) == sha256(film.read_bytes())
    told = [each.path for each in site.web.seen("POST", "/confirm/")]
    assert set(told) == {f"{BEGIN}{row.id}/confirm/"}
    expect(alice.photos).to_have_count(1)
    other.close()


def test_part_urls_that_s3_refuses_aloud(alice: Visitor, site: Site) -> None:
    film = alice.make_photo("film.jpg", more=40 * MIB)
    for _ in range(2):
        site.s3.refuse("PUT", b"<Error><Code>AccessDenied</Code><Message>expired</Message></Error>")
    alice.add(film)
    expect(alice.photo("film.jpg")).to_be_visible()
    assert Counter(site.s3.statuses("PUT")) == {403: 2, 200: 3}
    assert 1 <= len(site.web.statuses("POST", "/parts/")) <= 2
    assert (alice.row().status, site.read(alice.row())) == ("completed", film.read_bytes())


def test_lost_answers(alice: Visitor, site: Site) -> None:
    film = alice.make_photo("film.jpg", more=40 * MIB)
    site.web.lose_answer("POST", BEGIN)
    site.s3.lose_answer("PUT")
    site.web.lose_answer("POST", "/confirm/")
    alice.add(film)
    expect(alice.photo("film.jpg")).to_be_visible()
    row = alice.row()
    assert (row.status, site.read(row)) == ("completed", film.read_bytes())
    assert site.web.statuses("POST", BEGIN) == [0, 201]
    assert site.web.statuses("POST", "/confirm/") == [0, 200]
    assert Counter(begun_parts(site).values()) == {1: 2, 2: 1}
    assert site.open_multiparts(row) == []


UPLOAD = """async ([filename, size, options, token]) => {
  const {upload} = await import("/static/s3direct_uploads/upload.js");
  const bytes = new Uint8Array(size).map((_, index) => index % 251);
  window.seen = [];
  window.longest = 0;
  let last = performance.now();
  const beat = setInterval(() => {
    window.longest = Math.max(window.longest, performance.now() - last);
    last = performance.now();
  }, 5);
  try {
    const going = upload(new File([bytes], filename, {type: "image/png"}), {
      endpoint: "/api/uploads/",
      destination: "photos",
      headers: {Authorization: `Basic ${token}`},
      credentials: "omit",
      onProgress: (progress) => window.seen.push(progress),
      ...options,
    });
    return {...(await going)};
  } catch ({code, step, status, message}) {
    return {code, step, status, message};
  } finally {
    clearInterval(beat);
  }
}"""


def by_script(visitor: Visitor, filename: str, size: int, **options: object) -> dict[str, str]:
    token = base64.b64encode(f"{visitor.username}:{PASSWORD}".encode()).decode()
    answer: dict[str, str] = visitor.page.evaluate(UPLOAD, [filename, size, options, token])
    return answer


def test_progress_never_runs_backward(alice: Visitor, site: Site) -> None:
    cut(site, after=5 * MIB)
    size = 80 * MIB
    completed = by_script(alice, "film.png", size)
    assert completed["status"] == "completed"
    seen = alice.page.evaluate("seen")
    loaded = [each["loaded"] for each in seen]
    assert loaded == sorted(loaded)
    assert (loaded[0], loaded[-1], {each["total"] for each in seen}) == (0, size, {size})
    phases = [each["phase"] for each in seen]
    assert list(dict.fromkeys(phases)) == ["begin", "send", "confirm"]
    speeds = [each["bytesPerSecond"] for each in seen if each["phase"] == "send"]
    assert max(speeds) > 0
    # After a failure there is more left than what was never sent.
    assert all(
        each["secondsLeft"] * each["bytesPerSecond"] >= 0.999 * (size - each["loaded"])
        for each in seen
        if each["bytesPerSecond"]
    )


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256"])
def test_a_checksum_is_computed_beside_the_page(alice: Visitor, site: Site, algorithm: str) -> None:
    site.allow(site.url, "x-amz-checksum-sha256", "x-amz-sdk-checksum-algorithm")
    size = 40 * MIB + 3
    workers: list[str] = []
    alice.page.on("worker", lambda worker: workers.append(worker.url))
    completed = by_script(alice, "film.png", size, checksum=algorithm)
    assert completed["status"] == "completed"
    assert workers == [f"{site.url}/static/s3direct_uploads/checksum.js"]
    body = bytes(index % 251 for index in range(251)) * (size // 251 + 1)
    body = body[:size]
    digest = {
        "CRC32": zlib.crc32(body).to_bytes(4),
        "SHA256": hashlib.sha256(body).digest(),
    }[algorithm]
    row = alice.row()
    assert (row.checksum_algorithm, row.checksum) == (
        algorithm,
        base64.b64encode(digest).decode(),
    )
    # S3 knows no SHA256 of parts: then it is one PUT.
    assert (row.part_size is None) == (algorithm == "SHA256")
    assert site.head(row)[f"Checksum{algorithm}"] == row.checksum
    assert site.read(row) == body


def test_parts_that_vanished_are_sent_again(alice: Visitor, site: Site) -> None:
    """A bucket's rule took the parts of an upload that is being resumed: it begins anew."""
    film = interrupted(alice, site)
    vanished = alice.row()
    [upload_id] = site.open_multiparts(vanished)
    site.client.abort_multipart_upload(Bucket=site.bucket, Key=vanished.key, UploadId=upload_id)
    alice.add(film)
    item = alice.underway("film.jpg")
    expect(item.get_by_role("button", name="Retry")).to_be_visible()
    item.get_by_role("button", name="Retry").click()
    expect(alice.photo("film.jpg")).to_be_visible()
    assert alice.rows()[-1].status == "completed"
    assert site.read(alice.rows()[-1]) == film.read_bytes()
