"""What the tests of the sweep share."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from s3direct_uploads import signals
from s3direct_uploads.models import Upload
from tests.conftest import HOUR, Connect


@pytest.fixture
def heard(connect: Connect) -> list[tuple[str, str | None]]:
    """The signals from now on, each with its cause: [("completed", "sweep")]."""
    told: list[tuple[str, str | None]] = []
    sent = {
        "completed": signals.upload_completed,
        "rejected": signals.upload_rejected,
        "expired": signals.upload_expired,
    }

    def note(signal: Any, cause: str | None = None, **_: Any) -> None:
        told.append((next(name for name in sent if sent[name] is signal), cause))

    for each in sent.values():
        connect(each, note)
    return told


def rows(uploads: list[Upload]) -> list[Upload]:
    return list(Upload.objects.filter(pk__in=[upload.pk for upload in uploads]))


@pytest.fixture
def corner(settings: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A destination with a folder of its own. Nothing in it is too young for reconcile."""
    name = f"corner-{uuid.uuid4().hex[:8]}"
    ours = settings.S3DIRECT_UPLOADS
    corner = {"MAX_SIZE": 1000, "CONTENT_TYPES": ["image/*"]}
    destinations = {**ours["DESTINATIONS"], name: corner}
    settings.S3DIRECT_UPLOADS = {**ours, "DESTINATIONS": destinations}
    monkeypatch.setattr("s3direct_uploads.lifecycle.reconciling.OLD_ENOUGH", -HOUR)
    return name
