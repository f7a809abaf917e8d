"""Renew signs the same declaration again, until the deadline."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from s3direct_uploads.models import Upload
from tests.conftest import App, Bucket, row


def test_renew_signs_the_same_declaration_anew(alice: App, s3: Bucket) -> None:
    begun = alice.begin().json()
    Upload.objects.update(url_expires_at=timezone.now() - timedelta(seconds=1))

    renewed = alice.renew(begun["id"])

    assert renewed.status_code == 200
    assert renewed["Cache-Control"] == "no-store"
    assert renewed.json()["request"]["headers"] == begun["request"]["headers"]
    upload = row(renewed)
    assert upload.url_expires_at > timezone.now() + timedelta(minutes=59)
    assert upload.due_at == upload.url_expires_at + timedelta(hours=1)
    assert upload.expires_at == parse_datetime(begun["expires_at"]), "its deadline stays"
    assert alice.send(renewed.json()["request"]) == 200
    assert row(alice.confirm(begun["id"])).status == "completed"


def test_no_signature_outlives_the_deadline(alice: App) -> None:
    id = alice.begin().json()["id"]
    Upload.objects.update(expires_at=timezone.now() + timedelta(minutes=10))
    assert 590 <= alice.renew(id).json()["request"]["expires_in"] <= 600


def test_an_older_signature_that_lives_longer_is_not_forgotten(alice: App, settings: Any) -> None:
    id = alice.begin().json()["id"]
    before = Upload.objects.get().url_expires_at
    settings.S3DIRECT_UPLOADS = {**settings.S3DIRECT_UPLOADS, "URL_EXPIRES": 60}
    assert alice.renew(id).json()["request"]["expires_in"] == 60
    assert Upload.objects.get().url_expires_at == before
