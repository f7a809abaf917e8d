"""The progress bar of sweep_uploads. It is optional: a cron job has no terminal, and no tqdm."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from s3direct_uploads.models import Upload
from tests.conftest import App, row


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def abandoned(alice: App) -> Upload:
    """An upload past its deadline, for which nothing was sent."""
    upload = row(alice.begin())
    long_ago = timezone.now() - timedelta(days=3)
    Upload.objects.filter(pk=upload.pk).update(
        created_at=long_ago, url_expires_at=long_ago, expires_at=long_ago, due_at=long_ago
    )
    return upload


def sweep(stderr: io.StringIO) -> str:
    """What the command prints on stdout. The bar is on ``stderr``."""
    out = io.StringIO()
    with redirect_stderr(stderr):
        call_command("sweep_uploads", stdout=out)
    return out.getvalue()


def test_a_terminal_shows_how_many_uploads_are_due(abandoned: Upload) -> None:
    terminal = Terminal()
    assert sweep(terminal) == "Swept: 1 cleaned, 1 expired.\n"
    assert "Sweeping:   0%" in terminal.getvalue()
    assert "0/1 [00:00<?, ? uploads/s]" in terminal.getvalue()


def test_without_a_terminal_there_is_no_bar(abandoned: Upload) -> None:
    log = io.StringIO()
    assert sweep(log) == "Swept: 1 cleaned, 1 expired.\n"
    assert log.getvalue() == ""


def test_without_tqdm_the_sweep_does_the_same(
    abandoned: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)  # importing it fails
    terminal = Terminal()

    assert sweep(terminal) == "Swept: 1 cleaned, 1 expired.\n"

    assert terminal.getvalue() == ""
    abandoned.refresh_from_db()
    assert abandoned.status == Upload.Status.EXPIRED
