"""Every block of code in the documents is run by a test, and every link leads somewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents import ROOT, TRANSLATED, Block, blocks, documents

TESTS = ROOT / "tests"
# Documents that one test runs from their first block to their last, and that test.
WHOLE = {"docs/tutorial.md": "tests/real/browser/test_tutorial.py"}
# A drawing, or the shape of an answer: there is nothing to run.
PICTURES = {
    "docs/design.md": "the layers: tests/test_layers.py checks them",
    "docs/life.md": "how the status of a row changes",
    "docs/clients.md": "the shape of a batch: tests/http/test_batch.py has real ones",
}


def calls(source: str) -> Iterator[tuple[str, str, str]]:
    """The arguments of each ``block("…", "…", "…")`` in this source."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        name = node.func.id if isinstance(node.func, ast.Name) else name
        said = [each.value for each in node.args if isinstance(each, ast.Constant)]
        if name == "block" and len(said) == len(node.args) > 1:
            document, first_line, language = [*said, "python"][:3]
            yield str(document), str(first_line), str(language)


def run_by_tests() -> set[tuple[str, str, str]]:
    return {each for path in TESTS.rglob("*.py") for each in calls(path.read_text())}


def is_picture(each: Block) -> bool:
    return each.language == "text" and each.document in PICTURES


def test_every_block_of_code_is_run_by_a_test() -> None:
    run = run_by_tests()
    found = [each for document in documents() for each in blocks(document)]
    assert len(found) > 100
    assert [
        f"{each.document}:{each.line} {each.language}: {each.first_line}"
        for each in found
        if each.document not in {*WHOLE, *TRANSLATED}
        and not is_picture(each)
        and (each.document, each.first_line, each.language) not in run
    ] == []


def test_every_block_that_a_test_runs_is_in_its_document() -> None:
    """A call in a function would fail only when that function runs."""
    there = {
        (each.document, each.first_line, each.language)
        for document in documents()
        for each in blocks(document)
    }
    assert run_by_tests() - there == set()


def test_the_documents_that_are_run_as_a_whole_are_named_by_their_tests() -> None:
    for document, test in WHOLE.items():
        assert document in (ROOT / test).read_text()


def test_every_block_has_a_language() -> None:
    """So that a reader sees what it is, and a test finds it."""
    assert [
        f"{each.document}:{each.line}"
        for document in documents()
        for each in blocks(document)
        if not each.language
    ] == []


def test_no_fence_is_overlooked() -> None:
    """A fence that is not closed, or is indented in its own way, would hide code."""
    for document in documents():
        text = (ROOT / document).read_text()
        fences = len(re.findall(r"^ *```", text, re.MULTILINE))
        directives = len(re.findall(r"^```\{(?!code-block)", text, re.MULTILINE))
        assert fences == 2 * (len(list(blocks(document))) + directives), document


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('block("docs/a.md", "# b")', {("docs/a.md", "# b", "python")}),
        ('documents.block("docs/a.md", "b", "sh")', {("docs/a.md", "b", "sh")}),
        ('def block(document): ...\nblock(document, "# b")', set()),
        ('# block("docs/a.md", "# b")', set()),
    ],
)
def test_the_calls_are_found(source: str, found: set[tuple[str, str, str]]) -> None:
    assert set(calls(source)) == found


# Links.

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
LINKED = ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "benchmarks/RESULTS.md"]


def prose(path: Path) -> str:
    """A document without its code, but with what it includes."""
    text = re.sub(r"^( *)```(?!\{include).*?^\1```$", "", path.read_text(), flags=re.S | re.M)
    return re.sub(r"`[^`\n]*`", lambda found: found[0].replace("[", "(").replace("]", ")"), text)


def anchors(path: Path) -> set[str]:
    """The anchors of the headings, as a code forge and MyST make them."""
    found: set[str] = set()
    text = re.sub(r"^( *)```.*?^\1```$", "", path.read_text(), flags=re.S | re.M)
    for heading in HEADING.findall(text):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(anchor if anchor not in found else f"{anchor}-1")
    return found


def broken(path: Path) -> Iterator[str]:
    for groups in LINK.findall(prose(path)):
        link = "".join(groups)
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield f"{path.relative_to(ROOT)}: {link}"


@pytest.mark.parametrize("document", [*documents(), *LINKED])
def test_every_relative_link_and_anchor_leads_somewhere(document: str) -> None:
    assert list(broken(ROOT / document)) == []


def test_a_broken_link_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_documents.ROOT", tmp_path)
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# `SNIFF`: the *first* bytes\n\n```sh\n# no heading\n```\n")
    page.write_text(
        "[a](other.md) [b](other.md#sniff-the-first-bytes) [c](https://example.com/none)\n"
        "[d](none.md) [e](other.md#no-heading) ![f](none.png) `[g](none.md)` [h](#none)\n"
    )
    assert list(broken(page)) == [
        "page.md: none.md",
        "page.md: other.md#no-heading",
        "page.md: none.png",
        "page.md: #none",
    ]


def test_every_picture_is_made_by_a_script_and_shown_by_a_document() -> None:
    pictures = {
        path.name for path in (ROOT / "docs").glob("*.*") if path.suffix in (".jpg", ".svg")
    }
    shown = {
        Path(name).name
        for document in documents()
        for name in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (ROOT / document).read_text())
    }
    scripts = [ROOT / "scripts" / "pictures", *(ROOT / "benchmarks").glob("*.py")]
    source = "".join(path.read_text() for path in scripts)
    assert pictures == shown
    assert {name for name in pictures if f'"{name}"' not in source} == set()
