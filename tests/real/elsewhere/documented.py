"""What docs/other-origin.md tells a host to write, with the addresses of this test."""

from __future__ import annotations

import os
import re
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "other-origin.md"


def block(title: str) -> str:
    """The block of code whose first line is this comment."""
    found = re.search(
        rf"```\w+\n(?:#|//) {re.escape(title)}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL
    )
    assert found, title
    return found[1]


def settings(title: str) -> str:
    """For pages at all of PAGE_ORIGINS."""
    pages = os.environ["PAGE_ORIGINS"].split(",")
    return block(title).replace('["https://app.example.com"]', repr(pages))


def module(title: str, api: str) -> str:
    """For Django at this address."""
    return block(title).replace("https://api.example.com", api)
