"""What a command prints is visible at once, in a pipe and in a container's log too."""

from __future__ import annotations

import io
from importlib.resources import files

import pytest
from django.core.management import call_command, load_command_class

from s3direct_uploads.management.printing import PrintingCommand
from tests.conftest import App, Bucket

COMMANDS = sorted(
    file.name.removesuffix(".py")
    for file in files("s3direct_uploads.management.commands").iterdir()
    if file.name.endswith(".py") and not file.name.startswith("_")
)


@pytest.mark.parametrize(
    "command",
    [
        ["sweep_uploads"],
        ["sweep_uploads", "--dry-run"],
        ["sweep_uploads", "--reconcile"],
        ["recount_usage"],
        ["setup_bucket", "--origin", "http://localhost:8000", "--dry-run"],
        ["setup_bucket", "--origin", "http://localhost:8000", "--format", "json"],
        ["check_bucket"],
    ],
    ids=" ".join,
)
def test_a_command_flushes_what_it_prints(
    alice: App, own_bucket: Bucket, no_pause: None, command: list[str]
) -> None:
    # Python buffers 8 KiB of a pipe.
    pipe = io.BytesIO()
    output = io.TextIOWrapper(io.BufferedWriter(pipe))
    try:
        call_command(*command, stdout=output, stderr=io.StringIO(), no_color=True)
    except SystemExit:
        pass  # check_bucket finds faults in moto
    seen = pipe.getvalue()
    output.flush()
    assert seen
    assert seen == pipe.getvalue()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_flushes_what_it_prints(name: str) -> None:
    assert isinstance(load_command_class("s3direct_uploads", name), PrintingCommand)
