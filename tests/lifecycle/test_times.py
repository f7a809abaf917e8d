"""Times: the rows' own, S3's and the JSON's, whatever USE_TZ says."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from s3direct_uploads import times
from s3direct_uploads.checks import check_database
from tests.conftest import ROOT, App

CASES = "tests/projects/naive/cases.py"


def test_a_project_may_have_local_times() -> None:
    """With settings of its own, so in a process of its own."""
    done = subprocess.run(
        [sys.executable, *["-m", "pytest", "-q", "--ds=tests.projects.naive.settings"], CASES],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_the_json_says_utc_wherever_the_project_is(alice: App, settings: Any, zone: str) -> None:
    settings.TIME_ZONE = zone
    begun = alice.begin().json()
    for name in ("created_at", "expires_at"):
        assert begun[name].endswith("Z")
    since = datetime.now(UTC) - datetime.fromisoformat(begun["created_at"])
    assert timedelta(0) <= since < timedelta(minutes=1)


def test_where_times_are_aware_later_is_a_sum() -> None:
    moment = datetime(2026, 3, 8, 6, 30, tzinfo=UTC)
    assert times.later(moment, timedelta(hours=1)) == moment + timedelta(hours=1)
    assert times.utc(moment) == moment


def test_where_times_are_aware_no_clock_matters(settings: Any) -> None:
    settings.TIME_ZONE = "America/New_York"
    assert check_database() == []
