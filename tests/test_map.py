"""The documents name tests that exist, and tests/README.md names every folder of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

TESTS = ROOT / "tests"
# Of a path in backticks: a folder ends with a slash, a file with its extension.
PATH = re.compile(r"`([\w./]+(?:/|\.py|\.mjs))`")


def paths(document: str, below: Path) -> list[Path]:
    """The paths that a document names, where each must be."""
    named = PATH.findall((ROOT / document).read_text())
    return [ROOT / name if name.startswith("tests/") else below / name for name in named]


def test_every_path_in_the_map_exists() -> None:
    named = paths("tests/README.md", TESTS)
    assert len(named) > 60
    assert [str(path) for path in named if not path.exists()] == []


@pytest.mark.parametrize("document", ["docs/design.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_every_test_that_a_document_names_exists(document: str) -> None:
    named = [path for path in paths(document, ROOT) if TESTS in path.parents]
    assert named
    assert [str(path) for path in named if not path.exists()] == []


def test_the_map_names_every_folder_of_tests() -> None:
    named = set(paths("tests/README.md", TESTS))
    folders = {file.parent for file in TESTS.rglob("test_*.py")} - {TESTS}
    assert {each for each in folders if not {each, *each.parents} & (named - {TESTS})} == set()
