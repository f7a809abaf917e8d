"""Uppy, FilePond and Dropzone send by upload.js. Their pages are those of docs/clients.md."""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.documents import block
from tests.real import npm
from tests.real.site import ROOT, Exchange, Site, Visitor

pytestmark = pytest.mark.journey

MIB = 1024**2
PACKAGE = ROOT / "s3direct_uploads" / "static" / "s3direct_uploads"
UPPY_5 = "uppy@5.2.4"
BUNDLED = (
    "@uppy/core@6.3.1",
    "@uppy/dashboard@6.0.3",
    "@uppy/golden-retriever@6.0.0",
    "filepond@4.32.12",
    "dropzone@6.3.5",
    "esbuild@0.28.2",
)
# The element that each bundled page has beside its script.
ELEMENTS = {
    "uppy": '<div id="files"></div>',
    "filepond": '<input type="file" name="file">',
    "dropzone": '<div id="files" class="dropzone"></div>',
}
BUNDLED_PAGE = """<!doctype html>{% load static %}<meta charset="utf-8">
<link rel="stylesheet" href="{% static 'bundled/NAME.css' %}">
<form method="post">{% csrf_token %}ELEMENT</form>
<script type="module" src="{% static 'bundled/NAME.js' %}"></script>"""
BEGIN = "/api/uploads/"
DENIED = b"<Error><Code>AccessDenied</Code></Error>"


MODULES = {
    "uppy": block("docs/clients.md", "// uppy.js", "js"),
    "filepond": block("docs/clients.md", "// filepond.js", "js"),
    "dropzone": block("docs/clients.md", "// dropzone.js", "js"),
}


def build(folder: Path) -> None:
    """The documented modules in bundles, and the documented page without a bundler."""
    templates, static = folder / "templates", folder / "static"
    page = block("docs/clients.md", "{% load static %}", "html")
    (templates / "uppy-5.html").write_text(page)
    npm.install(folder, *BUNDLED, "--install-links", str(PACKAGE))
    for name, module in MODULES.items():
        (folder / f"{name}.js").write_text(module)
        page = BUNDLED_PAGE.replace("ELEMENT", ELEMENTS[name]).replace("NAME", name)
        (templates / f"{name}.html").write_text(page)
    options = ("--bundle", "--splitting", "--format=esm", "--external:node:*")
    modules = [f"{name}.js" for name in ELEMENTS]
    made = npm.run(folder, "esbuild", *modules, *options, f"--outdir={static / 'bundled'}")
    assert made.returncode == 0, made.stderr
    packed = npm.run(folder, "npm", "pack", "--silent", UPPY_5)
    assert packed.returncode == 0, packed.stderr
    with tarfile.open(folder / packed.stdout.strip()) as archive:
        archive.extractall(folder, filter="data")
    shutil.move(folder / "package" / "dist", static / "uppy")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("libraries")
    (folder / "templates").mkdir()
    (folder / "static").mkdir()
    site, log = Site(), folder / "log"
    settings = "tests.real.libraries.settings"
    site.env |= {"DJANGO_SETTINGS_MODULE": settings, "LIBRARIES": str(folder)}
    with ThreadPoolExecutor() as pool:
        building = pool.submit(build, folder)
        with site.serving(log):
            building.result()
            yield site
    said = log.read_text()
    assert "Traceback" not in said
    assert "X-Amz" not in said


Open = Callable[[str], Visitor]


@pytest.fixture
def visit(
    running: Site, chromium: Browser, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Open]:
    """A new user, at the page of this name."""
    visitors: list[Visitor] = []

    def visit(name: str) -> Visitor:
        context = chromium.new_context()
        context.set_default_timeout(30_000)
        visitor = Visitor(running, context, request.node.name, tmp_path)
        visitors.append(visitor)
        running.make_user(visitor.username)
        visitor.page.goto(running.url)
        visitor.sign_in()
        visitor.page.goto(f"{running.url}/libraries/{name}/")
        running.web.mend()
        running.s3.mend()
        return visitor

    yield visit
    for visitor in visitors:
        visitor.context.close()
        assert visitor.errors == []


def button(visitor: Visitor, name: str) -> Locator:
    return visitor.page.get_by_role("button", name=name, exact=True)


def values(visitor: Visitor) -> Locator:
    """What the form would post."""
    return visitor.page.locator("input[type=hidden][name=file]")


def puts(site: Site, status: int = 200) -> list[Exchange]:
    return [each for each in site.s3.seen("PUT") if each.status == status]


def assert_kept(visitor: Visitor, *files: Path) -> None:
    rows = {row.filename: row for row in visitor.rows()}
    assert sorted(rows) == sorted(file.name for file in files)
    for file in files:
        row = rows[file.name]
        assert (row.status, row.size) == ("completed", file.stat().st_size)
        assert visitor.site.read(row) == file.read_bytes()


# Uppy


@pytest.fixture(params=["uppy-5", "uppy"], ids=["uppy 5", "uppy 6"])
def alice(visit: Open, request: pytest.FixtureRequest) -> Visitor:
    """At Uppy's Dashboard: 5 from a page without a bundler, 6 in a bundle."""
    return visit(request.param)


def add(visitor: Visitor, *files: Path) -> None:
    visitor.page.locator(".uppy-Dashboard-input").first.set_input_files(files)
    count = f"{len(files)} file{'s' * (len(files) > 1)}"
    button(visitor, f"Upload {count}").click()


def expect_complete(visitor: Visitor) -> None:
    expect(visitor.page.locator(".uppy-StatusBar.is-complete")).to_be_visible()


def test_uppy_sends_one_put_each_to_the_destination_of_its_meta(alice: Visitor) -> None:
    photo, paper = alice.make_photo("beach.jpg"), alice.files / "map.pdf"
    paper.write_bytes(b"%PDF-1.7\n")
    add(alice, photo, paper)
    expect_complete(alice)

    assert_kept(alice, photo, paper)
    rows = {row.filename: row for row in alice.rows()}
    told = {name: (row.destination, row.context) for name, row in rows.items()}
    assert told == {"beach.jpg": ("photos", {"album": 12}), "map.pdf": ("papers", {})}
    assert len(alice.site.s3.seen("PUT")) == 2
    posted = {each.input_value().split(":")[0] for each in values(alice).all()}
    assert posted == {str(row.id) for row in rows.values()}


def test_uppy_sends_parts_side_by_side_and_pauses(alice: Visitor) -> None:
    site, film = alice.site, alice.make_photo("film.jpg", more=11 * MIB)
    held = [site.s3.hold("PUT", after=MIB) for _ in range(2)]
    add(alice, film)
    for part in held:
        assert part.held.wait(60)
    button(alice, "Pause").click()
    expect(button(alice, "Resume").first).to_be_visible()
    alice.page.wait_for_timeout(500)
    assert (len(site.s3.seen("PUT")), puts(site)) == (2, [])
    assert alice.row().status == "pending"

    button(alice, "Resume").first.click()
    expect_complete(alice)

    assert_kept(alice, film)
    assert sorted(each.part for each in puts(site)) == [1, 2, 3]
    for part in held:
        part.released.set()


def test_uppy_outlasts_a_cut_and_a_retry_sends_only_what_is_missing(alice: Visitor) -> None:
    site, film = alice.site, alice.make_photo("film.jpg", more=11 * MIB)
    held = site.s3.hold("PUT", after=MIB)
    site.s3.lose_answer("PUT", part=3)
    add(alice, film)
    assert held.held.wait(60)
    [before] = alice.rows()
    alice.until(lambda: len(site.parts(before)) == 2)
    site.s3.outage = "reset"
    held.released.set()
    waits = "There is no connection. film.jpg continues by itself when it is back."
    expect(alice.page.get_by_text(waits).first).to_be_visible()
    for _ in range(4):
        site.s3.refuse("PUT", DENIED)
    site.s3.outage = ""
    said = "This file could not be added. Try again."
    expect(button(alice, said)).to_be_visible()
    assert (alice.row().id, alice.row().status) == (before.id, "pending")
    # One of them is part 3: its answer was lost, but S3 has it.
    there = site.parts(before)
    assert len(there) == 2
    assert 3 in there
    site.s3.mend()
    site.web.mend()

    button(alice, "Retry upload").first.click()
    expect_complete(alice)

    assert_kept(alice, film)
    assert alice.row().id == before.id
    assert {each.part for each in site.s3.seen("PUT")} == {1, 2, 3} - there


def test_cancelled_in_uppy_it_is_cancelled_in_django(alice: Visitor) -> None:
    site = alice.site
    held = site.s3.hold("PUT", after=MIB)
    add(alice, alice.make_photo("film.jpg", more=11 * MIB))
    assert held.held.wait(60)

    with alice.page.expect_response(lambda answer: answer.request.method == "DELETE") as cancelled:
        alice.page.locator(".uppy-StatusBar").get_by_role("button", name="Cancel").click()

    assert cancelled.value.status == 204
    held.released.set()
    row = alice.row()
    assert row.status == "cancelled"
    site.let_pass(hours=24 * 9)
    site.sweep()
    assert site.open_multiparts(row) == []
    assert site.read(row) is None


def test_what_failed_in_uppy_and_is_removed_is_cancelled_in_django(alice: Visitor) -> None:
    for _ in range(2):
        alice.site.s3.refuse("PUT", DENIED)
    add(alice, alice.make_photo("beach.jpg"))
    expect(button(alice, "Retry upload").first).to_be_visible()
    assert alice.row().status == "pending"

    with alice.page.expect_response(lambda answer: answer.request.method == "DELETE") as cancelled:
        button(alice, "Remove file").click()

    assert cancelled.value.status == 204
    assert alice.row().status == "cancelled"


def test_after_a_reload_golden_retriever_brings_it_back(alice: Visitor) -> None:
    site, film = alice.site, alice.make_photo("film.jpg", more=8 * MIB)
    held = [site.s3.hold("PUT", after=MIB) for _ in range(2)]
    add(alice, film)
    assert held[0].held.wait(60)
    held[0].released.set()
    alice.until(lambda: len(puts(site)) == 1)
    alice.page.wait_for_timeout(1_000)  # Golden Retriever stores twice a second
    [before] = alice.rows()
    [there] = puts(site)
    alice.page.reload()
    site.s3.mend()
    site.web.mend()

    alice.page.locator(".uppy-StatusBar-actionBtn--upload").click()
    expect_complete(alice)

    assert_kept(alice, film)
    assert alice.row().id == before.id
    assert [each.part for each in puts(site)] == [3 - there.part]
    assert [each.status for each in site.web.seen("POST", BEGIN)] == [201]
    held[1].released.set()


def test_uppy_says_why_django_refuses_a_file(alice: Visitor) -> None:
    song, film = alice.make_photo("song.mp3"), alice.make_photo("film.jpg", more=12 * MIB)
    add(alice, song, film)

    expect(alice.page.locator(".uppy-Dashboard-Item.is-error")).to_have_count(2)
    expect(alice.page.get_by_text("Failed to upload").first).to_be_visible()
    expect(button(alice, "MP3 files cannot be added. Choose a photo.")).to_be_visible()
    said = f"This file is too large: {film.stat().st_size:,} bytes. The most is 12,582,912 bytes."
    expect(button(alice, said)).to_be_visible()
    assert alice.rows() == []
    assert alice.site.s3.seen("PUT") == []


# FilePond and Dropzone


def test_filepond_sends_and_reverts(visit: Open) -> None:
    alice = visit("filepond")
    film = alice.make_photo("film.jpg", more=6 * MIB)
    alice.page.locator("input[type=file]").set_input_files(film)
    expect(alice.page.get_by_text("Upload complete", exact=True)).to_be_visible()
    assert_kept(alice, film)
    assert sorted(each.part for each in puts(alice.site)) == [1, 2]
    expect(values(alice)).to_have_value(re.compile(f"^{alice.row().id}:"))

    alice.page.locator(".filepond--action-revert-item-processing").click()
    expect(values(alice)).to_have_count(0)
    assert alice.row().status == "deleted"


def test_dropzone_sends_and_removes(visit: Open) -> None:
    alice = visit("dropzone")
    film = alice.make_photo("film.jpg", more=6 * MIB)
    alice.page.locator("input[type=file]").set_input_files(film)
    expect(values(alice)).to_have_value(re.compile(":"))
    assert_kept(alice, film)
    assert sorted(each.part for each in puts(alice.site)) == [1, 2]
    expect(values(alice)).to_have_value(re.compile(f"^{alice.row().id}:"))

    with alice.page.expect_response(lambda answer: answer.request.method == "DELETE"):
        alice.page.get_by_text("Remove file").click()
    expect(values(alice)).to_have_count(0)
    assert alice.row().status == "deleted"


@pytest.mark.parametrize(
    ("library", "cancel"),
    [("filepond", ".filepond--action-abort-item-processing"), ("dropzone", ".dz-remove")],
)
def test_they_say_why_a_file_is_refused_and_cancel_in_django_as_well(
    visit: Open, library: str, cancel: str
) -> None:
    alice = visit(library)
    alice.page.on("dialog", lambda dialog: dialog.accept())  # "cancel this upload?"
    choose = alice.page.locator("input[type=file]")
    choose.set_input_files(alice.make_photo("song.mp3"))
    said = alice.page.get_by_text("MP3 files cannot be added. Choose a photo.", exact=True)
    expect(said.first).to_be_attached()
    assert alice.rows() == []

    held = alice.site.s3.hold("PUT", after=MIB)
    choose.set_input_files(alice.make_photo("film.jpg", more=8 * MIB))
    assert held.held.wait(60)
    with alice.page.expect_response(lambda answer: answer.request.method == "DELETE") as cancelled:
        alice.page.locator(cancel).last.click()

    assert cancelled.value.status == 204
    held.released.set()
    assert alice.row().status == "cancelled"
