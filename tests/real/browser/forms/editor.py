"""Who fills in the forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect

from tests.real.site import ADMIN, PASSWORD, Site, Visitor

MIB = 1024**2
BIG = 12 * MIB  # more than the sockets between the browser and a wire hold
VIOLATIONS = """
    window.violations = [];
    addEventListener("securitypolicyviolation", ({violatedDirective, blockedURI, sourceFile}) =>
      window.violations.push(`${violatedDirective} ${blockedURI} ${sourceFile}`));
"""


class Editor(Visitor):
    """The admin, signed in, in a browser that reports each violation of the page's policy."""

    def __init__(self, site: Site, browser: Browser, files: Path, **options: Any) -> None:
        context = browser.new_context(**options)
        context.set_default_timeout(30_000)
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

    def named(self) -> set[str]:
        """The keys that all the models name."""
        return (
            self.files_of("film", "reel")
            | self.files_of("still")
            | self.files_of("poster")
            | self.files_of("director", "portrait")
            | self.files_of("director", "contract")
        )

    def usage(self) -> int:
        """In bytes, as the quotas count it."""
        [[total]] = self.site.database.execute(
            "SELECT coalesce(sum(total_size), 0) FROM s3direct_uploads_usage"
        ).fetchall()
        return int(total)

    def assert_in_step(self) -> None:
        """Hours later the bucket has what the models name, and the usage counts just that."""
        self.site.let_pass(hours=3)
        self.site.sweep()
        found = self.site.client.list_objects_v2(Bucket=self.site.bucket).get("Contents", [])
        assert {each["Key"] for each in found} == self.named()
        assert {row.key for row in self.rows() if row.attached_at} == self.named()
        assert self.usage() == sum(each["Size"] for each in found)

    def decide(self, action: str) -> None:
        """In another tab, about everything that a scan holds: "Accept" or "Reject"."""
        page = self.context.new_page()
        page.goto(f"{self.site.url}/admin/s3direct_uploads/upload/?status__exact=verifying")
        page.locator("#action-toggle").check()
        page.get_by_label("Action:").select_option(label=f"{action} what a scan holds")
        page.get_by_role("button", name="Run").or_(page.get_by_role("button", name="Go")).click()
        if action == "Reject":
            page.get_by_role("button", name="Yes, I’m sure").click()
        expect(page.locator(".messagelist")).to_be_visible()
        page.close()

    def assert_no_violation(self) -> None:
        found = self.page.evaluate("violations")
        assert found == []


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
