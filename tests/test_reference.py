"""The reference says what the code says: error codes, commands, Python's names, JavaScript."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.core.management import load_command_class

from s3direct_uploads import exceptions
from s3direct_uploads.exceptions import EventError, UploadError
from s3direct_uploads.openapi.errors import MEANINGS
from tests.conftest import App
from tests.documents import ROOT
from tests.host.test_printing import COMMANDS

DOCS = ROOT / "docs"
STATIC = ROOT / "s3direct_uploads" / "static" / "s3direct_uploads"


def section(document: str, heading: str) -> str:
    text = (DOCS / document).read_text()
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.S | re.M)
    assert found, heading
    return found[1]


def table(text: str) -> list[list[str]]:
    """The cells of each row, without the heading."""
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


# Error codes.


def meaning(error: type[Exception]) -> str:
    """The first paragraph of its docstring, as the page writes it."""
    paragraph = (inspect.getdoc(error) or "").split("\n\n")[0]
    return " ".join(paragraph.split()).replace("``", "`")


def codes(base: type[Exception]) -> dict[str, list[str]]:
    """Of each code: its status and its meaning, by the class that defines it."""
    classes = [each for each in vars(exceptions).values() if isinstance(each, type)]
    return {
        f"`{each.code}`": [str(each.status), meaning(each)]  # type: ignore[attr-defined]
        for each in classes
        if issubclass(each, base) and each is not base and "code" in vars(each)
    }


@pytest.mark.parametrize(
    ("heading", "base"), [("Of an upload", UploadError), ("Of an event", EventError)]
)
def test_every_error_code_is_in_the_table(heading: str, base: type[Exception]) -> None:
    rows = table(section("errors.md", heading))
    assert {row[0]: row[1:3] for row in rows} == codes(base)
    assert all(row[3] for row in rows), "what to do"


def test_every_error_code_of_a_request_is_in_the_table() -> None:
    rows = table(section("errors.md", "Of a request"))
    assert {row[0]: row[2] for row in rows} == {
        f"`{code}`": meant for code, meant in MEANINGS.items()
    }
    assert all(row[3] for row in rows)


@pytest.mark.parametrize(
    ("declared", "field", "code"),
    [
        ({"size": 21 * 1024**2}, "size", "too_large"),
        ({"destination": "documents", "size": 6 * 1024**3}, "size", "multipart_required"),
        ({"destination": "albums", "size": 0, "context": {"album": 1}}, "size", "too_small"),
        ({"content_type": "text/html"}, "content_type", "not_allowed"),
        ({"content_type": "no type"}, "content_type", "malformed"),
        ({"filename": "a/b.jpg"}, "filename", "path"),
        ({"filename": "a\n.jpg"}, "filename", "characters"),
        ({"filename": "a" * 256}, "filename", "max_length"),
        ({"destination": "nowhere"}, "destination", "unknown"),
        (
            {"checksum": {"algorithm": "MD5", "value": "aa=="}},
            "checksum.algorithm",
            "unknown_algorithm",
        ),
        ({"context": {"a": 1}}, "context", "not_allowed"),
    ],
)
def test_the_items_of_errors_are_as_the_page_says(
    alice: App, declared: dict[str, Any], field: str, code: str
) -> None:
    answer = alice.begin(**declared)
    assert answer.status_code == 400
    [item] = [each for each in answer.json()["errors"] if each["field"].startswith(field[:8])]
    rows = table(section("errors.md", "What `errors` says"))
    about = f"`{item['field'].split('.')[0]}`"
    [params] = [row[2] for row in rows if row[0] == about and f"`{code}`" in row[1]]
    assert item["code"] == code
    said = set(re.findall(r"`(\w+)`", params))
    assert set(item["params"]) <= said


# Commands.


def test_the_page_of_commands_has_every_command_and_every_option() -> None:
    """docs/conf.py makes it when Sphinx reads the page."""
    code = (
        "import sys; sys.path.insert(0, 'docs'); import conf; "
        "assert '<!-- commands -->' in open('docs/commands.md').read(); "
        "print(''.join(conf.commands()))"
    )
    page = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert re.findall(r"^## (\w+)$", page, re.M) == COMMANDS
    for name in COMMANDS:
        said = page.split(f"## {name}\n")[1].split("\n## ")[0]
        command = load_command_class("s3direct_uploads", name)
        assert command.help in said
        ours = command.create_parser("manage.py", name)
        mine = {each.dest for each in ours._actions if each.dest not in DJANGOS}
        for action in [each for each in ours._actions if each.dest in mine]:
            assert [*action.option_strings, str(action.metavar or action.dest)][0] in said
            assert action.help
            assert action.help.replace("*", "\\*").replace("|", "\\|") in said


DJANGOS = {
    *("help", "version", "verbosity", "settings", "pythonpath", "traceback"),
    *("no_color", "force_color", "skip_checks"),
}


# Python.


def named_in_python() -> dict[str, list[str]]:
    """The names on the page, by module."""
    found: dict[str, list[str]] = {}
    module = ""
    for line in (DOCS / "python.md").read_text().splitlines():
        if line.startswith(".. currentmodule:: "):
            module = line.removeprefix(".. currentmodule:: ")
        elif match := re.match(r"\.\. auto(?:function|class):: (\w+)", line):
            found.setdefault(module, []).append(match[1])
    return found


def test_every_name_on_the_page_of_python_is_there_and_has_a_docstring() -> None:
    named = named_in_python()
    assert len(named) > 8
    for module, names in named.items():
        there: ModuleType = importlib.import_module(module)
        public = getattr(there, "__all__", None)
        for name in names:
            assert inspect.getdoc(getattr(there, name)), f"{module}.{name}"
            assert public is None or name in public, f"{module}.{name}"


def test_what_the_other_pages_import_is_on_the_page_of_python() -> None:
    named = named_in_python()
    signals = set(vars(importlib.import_module("s3direct_uploads.signals")))
    for document in [ROOT / "README.md", *DOCS.glob("*.md")]:
        text = document.read_text()
        for module, names in re.findall(
            r"^\s*from (s3direct_uploads[\w.]*) import ([\w, ]+)", text, re.M
        ):
            for name in names.split(", "):
                known = {
                    "s3direct_uploads": {"lifecycle", "content"},
                    "s3direct_uploads.signals": signals,
                    "s3direct_uploads.exceptions": set(vars(exceptions)),
                    "s3direct_uploads.events": {"webhook"},
                    "s3direct_uploads.tasks": {"sweep"},
                }.get(module, set(named.get(module, ())))
                assert name in known, f"{document.name}: {module}.{name}"


# JavaScript.


def properties(interface: str) -> list[str]:
    source = (STATIC / "types.d.ts").read_text()
    body = source.split(f"export interface {interface} {{")[1].split("\n}")[0]
    return re.findall(r"^  (?:readonly )?(\w+)\??:", body, re.M)


def told(heading: str) -> list[str]:
    return [
        name
        for row in table(section("javascript.md", heading))
        for name in re.findall(r"`(\w+)`", row[0])
    ]


def test_every_option_of_upload_js_is_on_the_page() -> None:
    assert sorted(told("upload(file, options)")) == sorted(properties("Options"))
    assert sorted(told("Progress")) == sorted(properties("Progress"))


def test_every_option_of_all_js_is_on_the_page() -> None:
    source = (STATIC / "all.js").read_text()
    more = source.split("@typedef {object} More")[1].split("@typedef")[0]
    assert sorted(told("uploadAll(files, options)")) == sorted(re.findall(r"\[(\w+)\]", more))


def test_every_code_of_upload_js_is_on_the_page() -> None:
    source = (STATIC / "types.d.ts").read_text()
    [line] = re.findall(r"^export type ErrorCode = (.*);$", source, re.M)
    assert sorted(told("Errors")) == sorted(re.findall(r'"(\w+)"', line))


def test_every_property_of_an_upload_is_on_the_page() -> None:
    text = section("javascript.md", "upload(file, options)").split("| option")[0]
    for name in properties("Upload"):
        assert f"`{name}`" in text


def test_every_module_on_the_page_exports_what_it_says() -> None:
    for module, exported, _ in table(section("javascript.md", "The other modules")):
        [name] = re.findall(r"^`(\w+)", exported)
        source = Path(STATIC / module.strip("`")).read_text()
        assert re.search(rf"^export (?:async )?(?:function|const|class) {name}\b", source, re.M)
