"""`make bench` starts, where no variable of the environment names Django's settings."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.goals import SECTIONS
from tests.conftest import ROOT


def test_it_starts_without_settings() -> None:
    environment = {**os.environ}
    environment.pop("DJANGO_SETTINGS_MODULE", None)

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--help"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert ",".join(SECTIONS) in done.stdout
