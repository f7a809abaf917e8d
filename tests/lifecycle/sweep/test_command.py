"""``manage.py sweep_uploads``: what it takes, what it prints, what it logs."""

from __future__ import annotations

import io
import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from s3direct_uploads.models import Upload
from tests.conftest import (
    DAY,
    HOUR,
    JPEG,
    App,
    Bucket,
    age,
    child_environment,
    killed_after,
    row,
    sweep,
)


def command(*arguments: str) -> str:
    out = io.StringIO()
    call_command("sweep_uploads", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_the_command_says_what_it_did(alice: App) -> None:
    begun = alice.begin().json()
    alice.send(begun["request"])
    alice.begin()
    assert command() == "Swept: nothing.\n"
    age(2 * HOUR)
    assert command("--dry-run") == "Due: 2 pending.\n"
    assert command("--limit", "1", "--destination", "photos") == "Swept: 1 completed.\n"
    assert command() == "Swept: 1 waiting.\n"
    assert command("--dry-run") == "Due: nothing.\n"


def test_the_command_reconciles(alice: App, corner: str) -> None:
    upload = row(alice.upload(destination=corner))
    there = ["--reconcile", "--destination", corner]
    Upload.objects.update(completed_at=timezone.now() - 2 * DAY)
    assert command(*there) == "Reconciled: 1 uploads completed and never attached.\n"
    upload.delete()
    said = f"object {upload.bucket} {upload.key} {len(JPEG)}\n"
    assert command(*there) == f"stray {said}Reconciled: 1 stray objects.\n"
    assert command(*there, "--delete", "--dry-run").startswith("stray object")
    assert command(*there, "--delete") == f"deleted {said}Reconciled: 1 deleted objects.\n"
    assert command(*there) == "Reconciled: nothing.\n"


def test_in_a_loop_the_command_outlasts_errors_and_stops_at_a_signal(tmp_path: Path) -> None:
    environment = child_environment(
        DJANGO_SETTINGS_MODULE="example_project.settings",
        DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3",
    )

    def manage(*command: str) -> list[str]:
        return [sys.executable, "manage.py", *command]

    with subprocess.Popen(
        manage("sweep_uploads", "--loop", "0.1"),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        with killed_after(30, process):
            assert "The sweep failed: OperationalError: no such table" in process.stdout.readline()
            subprocess.run(manage("migrate", "--verbosity", "0"), env=environment, check=True)
            while "failed" in (line := process.stdout.readline()):
                pass
            assert [line, process.stdout.readline()] == ["Swept: nothing.\n"] * 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    "arguments",
    [["--delete"], ["--limit", "0"], ["--loop", "0"], ["--reconcile", "--destination", "none"]],
)
@pytest.mark.django_db
def test_the_command_refuses_wrong_arguments(arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        command(*arguments)


def test_each_transition_is_logged_once(
    alice: App, s3: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "s3direct_uploads")
    begun = alice.begin().json()
    alice.send(begun["request"])
    alice.confirm(begun["id"])
    alice.confirm(begun["id"])
    alice.delete(begun["id"])
    alice.begin()
    age(3 * DAY)
    sweep()
    ours = [vars(each) for each in caplog.records if hasattr(each, "upload_id")]
    said = [(each["from"], each["to"], each["cause"]) for each in ours]
    assert said == [
        (None, "pending", "client"),
        ("pending", "completed", "client"),
        ("completed", "deleted", "client"),
        (None, "pending", "client"),
        ("pending", "expired", "sweep"),
    ]
    assert (ours[0]["upload_id"], ours[0]["destination"]) == (begun["id"], "photos")
    assert 0 <= ours[0]["duration"] < 60
    assert 0 <= ours[-1]["duration"] - 3 * DAY.total_seconds() < 60
    for each in ours:
        assert "http" not in each["message"]
