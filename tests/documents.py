"""The blocks of code in the documents. Tests run them as they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent  # the repository
# Korean pages, and the English ones: tests/test_translations.py holds that their code is equal.
TRANSLATED = {"README.ko.md": "README.md", "docs/tutorial.ko.md": "docs/tutorial.md"}

# A fence of Markdown, or of MyST with a language and options.
FENCE = re.compile(
    r"^(?P<indent> *)```(?:\{code-block\} )?(?P<language>[\w+-]*)\n"
    r"(?P<options>(?: *:\w+:[^\n]*\n)*)\n?(?P<code>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
# A pair of fences that has no code: Sphinx fills it.
DIRECTIVE = re.compile(r"^```\{(?!code-block\b)[\w-]+\}.*?^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    document: str
    line: int  # of the fence
    language: str
    code: str

    @property
    def first_line(self) -> str:
        return self.code.split("\n")[0]


def documents() -> list[str]:
    """All that a host reads, by their paths in the repository."""
    readmes = ["README.md", "README.ko.md"]
    return [*readmes, *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def blocks(document: str) -> Iterator[Block]:
    text = (ROOT / document).read_text()
    # As many lines as before, so that the numbers are right.
    text = DIRECTIVE.sub(lambda found: "\n" * found[0].count("\n"), text)
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        code = re.sub(f"^{found['indent']}", "", found["code"], flags=re.MULTILINE)
        yield Block(document, line, found["language"], code)


def block(document: str, first_line: str, language: str = "python") -> str:
    """The code of the block with this first line, which is a part of it.

    Write both as they are, not in variables: tests/test_documents.py reads the calls to find the
    blocks that no test runs.
    """
    [found] = [
        each
        for each in blocks(document)
        if (each.first_line, each.language) == (first_line, language)
    ]
    return found.code


def write(folder: Path, *codes: str) -> None:
    """Write each block to the path that its first line names, and make packages of the folders."""
    for code in codes:
        named = re.match(r"(?:#|//|\{#) ([\w/.]+)", code)
        assert named, code
        path = folder / named[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
        for package in path.relative_to(folder).parents:
            if path.suffix == ".py" and package != Path():
                (folder / package / "__init__.py").touch()
