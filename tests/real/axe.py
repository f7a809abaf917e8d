"""axe-core, which finds what keeps people with disabilities from using a page."""

from __future__ import annotations

import subprocess
from functools import cache

from playwright.sync_api import Page

from .site import ROOT

AXE = "axe-core@4.14.1"


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
