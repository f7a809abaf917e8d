"""What the tests of limits and usage share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db.models import F

from s3direct_uploads.models import Upload, Usage
from tests.conftest import FILMS, JPEG, App

SIZE = len(JPEG)
Limit = Callable[..., None]


@pytest.fixture
def limit(settings: Any) -> Limit:
    """Set these limits for the destinations photos and films from now on."""

    def limit(**limits: int) -> None:
        photos = {"MAX_SIZE": 20 * 1024**2, "CONTENT_TYPES": ["image/*"]}
        names = settings.S3DIRECT_UPLOADS["DESTINATIONS"]
        changed = {**names, "photos": {**photos, **limits}, "films": {**FILMS, **limits}}
        settings.S3DIRECT_UPLOADS = {"DESTINATIONS": changed}

    return limit


def used(app: App, destination: str = "photos") -> tuple[int, int]:
    """Uploads pending, bytes in all."""
    usage = Usage.objects.get(owner=app.user, destination=destination)
    return usage.pending, usage.total_size


def later(by: timedelta) -> None:
    """Let this time pass for all uploads."""
    times = ("created_at", "url_expires_at", "expires_at", "due_at")
    Upload.objects.update(**{name: F(name) - by for name in times})


def recount(**options: str) -> list[str]:
    out = StringIO()
    call_command("recount_usage", stdout=out, **options)
    return out.getvalue().splitlines()
