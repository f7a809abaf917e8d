"""Forms with uploads in Chromium: in Django's admin, on a host's page, and without Django's forms.

Every page is served with the strictest policy that an upload allows; nothing may violate it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.real.site import ADMIN, PASSWORD, ROOT, Site, Visitor

pytestmark = pytest.mark.journey

MIB = 1024**2
BIG = 12 * MIB  # more than the sockets between the browser and a wire hold
AXE = "axe-core@4.14.1"
VIOLATIONS = """
    window.violations = [];
    addEventListener("securitypolicyviolation", ({violatedDirective, blockedURI, sourceFile}) =>
      window.violations.push(`${violatedDirective} ${blockedURI} ${sourceFile}`));
"""


@pytest.fixture(scope="module")
def running_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    log = tmp_path_factory.mktemp("cinema") / "log"
    site = Site()
    site.env["DJANGO_SETTINGS_MODULE"] = "tests.real.cinema.settings"
    with site.serving(log):
        yield site
    said = log.read_text()
    assert "Traceback" not in said
    assert "X-Amz" not in said


class Editor(Visitor):
    """The admin, signed in, in a browser that reports each violation of the page's policy."""

    def __init__(self, site: Site, browser: Browser, files: Path, **options: Any) -> None:
        context = browser.new_context(**options)
        context.set_default_timeout(15_000)
        context.add_init_script("Math.random = () => 0.01")
        context.add_init_script(VIOLATIONS)
        super().__init__(site, context, ADMIN, files)
        self.page.goto(f"{site.url}/admin/login/")
        self.page.get_by_label("Username").fill(ADMIN)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_url(f"{site.url}/admin/")

    def open(self, path: str) -> Page:
        self.page.goto(f"{self.site.url}{path}")
        return self.page

    def make_film(self, filename: str, size: int) -> Path:
        path = self.files / filename
        with path.open("wb") as file:
            file.truncate(size)
        return path

    def files_of(self, model: str, column: str = "image") -> set[str]:
        """The keys that the rows of a model name."""
        rows = self.site.database.execute(f"SELECT {column} FROM cinema_{model}").fetchall()
        return {name for [name] in rows if name}

    def assert_no_violation(self) -> None:
        assert self.page.evaluate("violations") == []


@pytest.fixture
def edit(site: Site, chromium: Browser, tmp_path: Path) -> Iterator[Callable[..., Editor]]:
    editors: list[Editor] = []

    def edit(**options: Any) -> Editor:
        editors.append(Editor(site, chromium, tmp_path, **options))
        return editors[-1]

    yield edit
    for editor in editors:
        editor.context.close()
        assert editor.errors == []
    for table in ("cinema_still", "cinema_poster", "cinema_film", "cinema_director"):
        site.database.execute(f"DELETE FROM {table}")
    site.database.execute("DELETE FROM s3direct_uploads_upload")
    found = site.client.list_objects_v2(Bucket=site.bucket).get("Contents", [])
    for each in found:
        site.client.delete_object(Bucket=site.bucket, Key=each["Key"])


def widget(page: Page, name: str) -> Locator:
    """The element whose form posts this name."""
    return page.locator("s3-upload").filter(has=page.locator(f'input[type=hidden][name="{name}"]'))


def item(element: Locator, filename: str) -> Locator:
    return element.locator(".s3-upload-item").filter(has_text=filename)


def choose(element: Locator, *files: Path) -> None:
    element.locator("input[type=file]").set_input_files(files)


def expect_ready(element: Locator, *filenames: str) -> None:
    for filename in filenames:
        expect(item(element, filename)).to_contain_text("Ready")


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


def add_film(editor: Editor, title: str) -> None:
    """Saved, with a reel and a poster; the admin then shows it again."""
    page = editor.open("/admin/cinema/film/add/")
    page.get_by_label("Title").fill(title)
    choose(widget(page, "reel"), editor.make_film("film.mp4", 6 * MIB))
    choose(widget(page, "posters-0-image"), editor.make_photo("poster.jpg"))
    expect_ready(widget(page, "reel"), "film.mp4")
    expect_ready(widget(page, "posters-0-image"), "poster.jpg")
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.locator(".messagelist")).to_contain_text("was added successfully")


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
    assert put.held.wait(15)
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
    assert put.held.wait(15)

    page.get_by_role("button", name="Enter").click()

    expect(stills.get_by_role("alert")).to_contain_text("beach.jpg has not been sent yet.")
    expect(stills.locator("input[type=file]")).to_be_focused()
    assert site.web.seen("POST", "/entry/") == []
    put.released.set()
    expect_ready(stills, "beach.jpg")
    page.get_by_role("button", name="Enter").click()
    expect(page.locator("body")).to_have_text("1 stills were entered.")
    assert editor.row().attached_at


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
    assert put.held.wait(15)
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


def test_a_network_that_fails_is_tried_again(edit: Callable[..., Editor], site: Site) -> None:
    editor = edit()
    page = editor.open("/bare/")
    for _ in range(5):
        site.s3.cut("PUT")
    still = widget(page, "still")
    choose(still, editor.make_photo("beach.jpg", more=MIB))
    expect(item(still, "beach.jpg")).to_contain_text("The connection was lost.")
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
    assert put.held.wait(15)
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


def test_an_inline_that_is_removed_cancels_its_upload(
    edit: Callable[..., Editor], site: Site
) -> None:
    editor = edit()
    page = editor.open("/admin/cinema/film/add/")
    for _ in range(2):
        page.get_by_role("button", name="Add another Still").click()
    put = site.s3.hold("PUT", after=MIB)
    choose(widget(page, "stills-0-image"), editor.make_photo("beach.jpg", more=BIG))
    assert put.held.wait(15)
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


def test_what_a_scan_holds_is_being_checked(edit: Callable[..., Editor], site: Site) -> None:
    editor = edit()
    page = editor.open("/entry/")
    stills = widget(page, "stills")

    def held(exchange: Any, body: bytes) -> bytes:
        confirms = exchange.path.endswith("/confirm/")
        return body.replace(b'"completed"', b'"verifying"', 1) if confirms else body

    site.web.rewrite = held
    choose(stills, editor.make_photo("beach.jpg"))
    expect(item(stills, "beach.jpg")).to_contain_text("Being checked")
    expect(stills.get_by_role("status")).to_have_text("beach.jpg is being checked.")
    page.get_by_role("button", name="Enter").click()
    site.web.rewrite = None
    expect_ready(stills, "beach.jpg")

    # The same where the form was sent all the same: what is held is shown again, and asked about.
    hold = """UPDATE s3direct_uploads_upload
              SET status = 'verifying', completed_at = NULL, announced_at = NULL"""
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


def test_without_javascript_it_says_so(edit: Callable[..., Editor], site: Site) -> None:
    editor = edit(java_script_enabled=False)
    page = editor.open("/entry/")
    said = page.locator("s3-upload noscript p")
    expect(said).to_be_visible()
    assert said.inner_text() == "Turn on JavaScript to add a file here."
    expect(page.locator("input[type=file]")).not_to_be_visible()


@cache
def axe() -> str:
    """The source of axe-core, which scripts/node installs."""
    folder = ROOT / ".venv" / "axe"
    source = folder / "node_modules" / "axe-core" / "axe.min.js"
    npm = ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--prefix", str(folder), AXE]
    subprocess.run(["scripts/node", *npm], cwd=ROOT, check=True, timeout=300, capture_output=True)
    return source.read_text()


def faults(page: Page, within: str = "html") -> list[str]:
    """What axe-core finds: the rule, and where."""
    page.evaluate(axe())
    found = page.evaluate("within => axe.run(within).then(({violations}) => violations)", within)
    return [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]


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
        assert put.held.wait(15)
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
    # Of the rest of the admin's page, only what Django itself has in it.
    assert {each.split(":")[0] for each in faults(page)} <= {"empty-table-header"}
