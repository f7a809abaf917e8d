"""What docs/other-origin.md tells a host to write, with the addresses of this test."""

from __future__ import annotations

import os

from tests.documents import block

SETTINGS = block("docs/other-origin.md", "# settings.py")
SESSION_SETTINGS = block("docs/other-origin.md", "# settings.py, for users with a session")
VIEWS = block("docs/other-origin.md", "# views.py")
URLS = block("docs/other-origin.md", "# urls.py")
MODULES = {
    "by-token.js": block("docs/other-origin.md", "// by-token.js", "js"),
    "by-session.js": block("docs/other-origin.md", "// by-session.js", "js"),
}


def settings(code: str) -> str:
    """For pages at all of PAGE_ORIGINS."""
    pages = os.environ["PAGE_ORIGINS"].split(",")
    return code.replace('["https://app.example.com"]', repr(pages))
