"""How Sphinx makes the documentation's site: `make docs`."""

from __future__ import annotations

import os
import sys
import tomllib
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
from django.core.management import load_command_class

if TYPE_CHECKING:
    from sphinx.application import Sphinx  # a test reads the commands without it

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()  # autodoc imports the models

project = "s3direct_uploads"
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
copyright = ""
html_show_copyright = False

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
nitpicky = False

# MyST: an anchor for each heading, so that #a-heading works as on a code forge.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
autodoc_preserve_defaults = True

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

html_theme = "furo"
html_title = f"s3direct_uploads {version}"
html_extra_path = ["openapi.yaml"]
html_search_scorer = str(ROOT / "docs" / "search.js")
html_static_path = ["keyboard.js", "korean.css"]
html_js_files = ["keyboard.js"]
html_css_files = ["korean.css"]
html_theme_options = {"top_of_page_buttons": []}


# These stand beside README.md, where a visitor of the repository looks for them.
PAGES = {"SECURITY": "security", "CONTRIBUTING": "contributing", "CHANGELOG": "changelog"}


def commands() -> Iterator[str]:
    """What each of our commands does, and its options, as its own parser says it."""
    folder = files("s3direct_uploads.management.commands")
    for name in sorted(each.name.removesuffix(".py") for each in folder.iterdir()):
        if name.startswith("_"):
            continue
        command = load_command_class("s3direct_uploads", name)
        parser = ArgumentParser(prog=f"manage.py {name}", add_help=False)
        command.add_arguments(parser)
        usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
        yield f"## {name}\n\n{command.help}\n\n```text\n{usage}\n```\n\n"
        yield from options(parser)


def options(parser: ArgumentParser) -> Iterator[str]:
    shown = [each for each in parser._actions if each.help != SUPPRESS]
    if shown:
        yield "| option | meaning |\n| --- | --- |\n"
    for each in shown:
        value = (
            "|".join(map(str, each.choices)) if each.choices else each.metavar or each.dest.upper()
        )
        names = each.option_strings or [""]
        said = " ".join(filter(None, [names[0], "" if each.nargs == 0 else str(value)]))
        meaning = (each.help or "").replace("|", "\\|").replace("*", "\\*")
        yield f"| `{said}` | {meaning} |\n".replace("`" + said, "`" + said.replace("|", " or "))
    yield "\n"


def read(app: Sphinx, page: str, source: list[str]) -> None:
    """Lead the links of a page to the pages of this site."""
    for name, there in PAGES.items():
        source[0] = source[0].replace(f"](../{name}.md", f"]({there}.md")
    source[0] = source[0].replace("](../benchmarks/RESULTS.md", "](results.md")
    source[0] = source[0].replace("<!-- commands -->", "".join(commands()))


def say_language(app: Sphinx, page: str, template: str, context: dict[str, Any], *_: Any) -> None:
    """For a screen reader: a Korean page is no English one."""
    if page.endswith(".ko"):
        context["language"] = "ko"


def leave_corners_empty(
    app: Sphinx, page: str, template: str, context: dict[str, Any], *_: Any
) -> None:
    """A table's empty corner is no heading of its first column."""
    corner = '<th class="head"><p></p></th>'
    context["body"] = context.get("body", "").replace(corner, "<td></td>")


def setup(app: Sphinx) -> None:
    app.connect("source-read", read)
    app.connect("html-page-context", say_language)
    app.connect("html-page-context", leave_corners_empty)
