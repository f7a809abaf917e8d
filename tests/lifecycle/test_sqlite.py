"""SQLite in a file: a transaction that reads before it writes may fail."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.conftest import ROOT

CASES = "tests/projects/sqlite/cases.py"


def test_a_project_with_sqlite_in_a_file_and_none_of_its_options() -> None:
    """With settings of its own, so in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--ds=tests.projects.sqlite.settings", CASES],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
