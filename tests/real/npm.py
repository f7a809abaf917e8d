"""Packages of npm in a folder of their own, by scripts/node."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .site import ROOT

TYPESCRIPT = "typescript@5.9.3"
NODE_TYPES = "@types/node@26.6.6"


def install(folder: Path, *packages: str) -> None:
    """Packages with their versions, or paths of archives."""
    quietly = ("--no-save", "--no-audit", "--no-fund", "--silent")
    done = run(folder, "npm", "install", *quietly, "--prefix", str(folder), *packages)
    assert done.returncode == 0, done.stdout + done.stderr


def run(folder: Path, *command: str, timeout: int = 300) -> subprocess.CompletedProcess[str]:
    """A command in the folder, where the installed packages are on the PATH."""
    return subprocess.run(
        [
            *(str(ROOT / "scripts/node"), "env", "--chdir", str(folder)),
            *("bash", "-c", 'PATH=$PWD/node_modules/.bin:$PATH exec "$@"', "-", *command),
        ],
        text=True,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
