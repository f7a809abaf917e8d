"""A completion is announced once, and no handler of the host's can break it."""

from __future__ import annotations

from typing import Any

import pytest

from s3direct_uploads import lifecycle, signals
from s3direct_uploads.models import Upload
from tests.conftest import App, Connect, row


def test_a_completion_is_announced_once_and_its_handlers_cannot_break_it(
    alice: App, caplog: pytest.LogCaptureFixture, connect: Connect
) -> None:
    heard: list[tuple[Any, ...]] = []

    def listen(sender: Any, upload: Upload, cause: str, **_: Any) -> None:
        heard.append((sender, upload.pk, upload.status, cause, Upload.objects.get().status))
        raise RuntimeError("a handler's bug")

    connect(signals.upload_completed, listen)
    confirmed = alice.upload()
    alice.confirm(confirmed.json()["id"])

    upload = row(confirmed)
    assert heard == [(Upload, upload.pk, "completed", "client", "completed")]
    assert upload.announced_at is not None
    assert "a handler's bug" in caplog.text


def test_a_handler_may_attach(alice: App, connect: Connect) -> None:
    names = []

    def attach(upload: Upload, **_: Any) -> None:
        names.append(Upload.objects.get(pk=upload.pk).attach())

    connect(signals.upload_completed, attach)
    upload = row(alice.upload())
    assert names == [upload.name]
    assert upload.attached_at is not None
    assert upload.announced_at is not None
    assert upload.due_at is None


def test_a_handler_may_delete(alice: App, connect: Connect) -> None:
    def scan(upload: Upload, **_: Any) -> None:
        lifecycle.cancel(upload)

    connect(signals.upload_completed, scan)
    upload = row(alice.upload())
    assert upload.status == "deleted"
    assert upload.due_at == upload.key_closes_at, "its object is not forgotten"
