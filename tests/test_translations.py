"""The Korean pages say what the English ones say: the same code, headings and links, in step."""

from __future__ import annotations

import hashlib
import re
from collections import Counter

import pytest

from tests.documents import ROOT, TRANSLATED, blocks

pytestmark = pytest.mark.parametrize(("korean", "english"), TRANSLATED.items())
LINK = re.compile(r"\]\(([^)\s]+)\)|<(http[^>]+)>")
MARK = re.compile(r"^<!-- translated: (\w+) -->$", re.MULTILINE)


def prose(document: str) -> str:
    return re.sub(r"^```.*?^```$", "", (ROOT / document).read_text(), flags=re.S | re.M)


def headings(document: str) -> list[int]:
    """Their levels."""
    return [len(each) for each in re.findall(r"^(#+) ", prose(document), re.MULTILINE)]


def links(document: str) -> Counter[str]:
    """Their targets. A page that is translated counts as the English one."""
    found = ("".join(each) for each in LINK.findall(prose(document)))
    return Counter(each.replace(".ko.md", ".md") for each in found)


def test_it_has_the_same_code(korean: str, english: str) -> None:
    """So a test that runs the English page has run the Korean one."""
    here, there = (
        [(each.language, each.code) for each in blocks(each)] for each in (korean, english)
    )
    assert here == there


def test_it_has_the_same_headings_and_links(korean: str, english: str) -> None:
    assert headings(korean) == headings(english)
    assert links(korean) == links(english)


def test_it_is_written_in_korean(korean: str, english: str) -> None:
    text = prose(korean)
    assert not [each for each in re.findall(r"^#+ .*$", text, re.M)[1:] if not is_korean(each)]
    assert "Warning" not in text
    assert text.count("**경고:**") == prose(english).count("**Warning:**")


def is_korean(text: str) -> bool:
    return re.search("[가-힣]", text) is not None


def test_nobody_has_changed_the_english_page_since(korean: str, english: str) -> None:
    """docs/languages.md says what a translator does then."""
    now = hashlib.sha256((ROOT / english).read_bytes()).hexdigest()[:16]
    assert MARK.findall((ROOT / korean).read_text()) == [now], (
        f"{english} was changed. Translate the change in {korean}, and write there: "
        f"<!-- translated: {now} -->"
    )
