"""From begin to download: what was asked, what S3 was told, what came back, what the row says."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from uuid import UUID

import pytest
from django.utils.dateparse import parse_datetime

from s3direct_uploads.models import Upload
from tests.conftest import JPEG, App, Bucket, row


def test_a_file_goes_straight_to_s3_and_is_confirmed(alice: App, s3: Bucket) -> None:
    begun = alice.begin(filename="Mein Strand.jpg")

    assert begun.status_code == 201
    assert begun["Cache-Control"] == "no-store"
    body = dict(begun.json())
    request = body.pop("request")
    assert body.pop("created_at") < body.pop("expires_at")
    assert UUID(body.pop("id")).version == 7
    assert body.pop("form_value") == row(begun).form_value
    assert body == {
        "status": "pending",
        "destination": "photos",
        "filename": "Mein Strand.jpg",
        "content_type": "image/jpeg",
        "size": len(JPEG),
        "context": {},
        "completed_at": None,
        "reason": None,
        "visitor": False,
        "multipart": None,
    }
    assert request["method"] == "PUT"
    assert request["headers"] == {"Content-Type": "image/jpeg", "If-None-Match": "*"}
    assert request["expires_in"] == 3600
    upload = row(begun)
    assert upload.owner == alice.user
    assert (upload.status, upload.etag, upload.due_at) == (
        "pending",
        "",
        upload.url_expires_at + timedelta(hours=1),
    )
    assert s3.read(upload) is None

    assert alice.send(request) == 200

    confirmed = alice.confirm(begun.json()["id"])
    assert confirmed.status_code == 200
    assert confirmed.json()["status"] == "completed"
    assert confirmed.json()["request"] is None
    assert parse_datetime(confirmed.json()["completed_at"]) is not None
    upload = row(confirmed)
    assert upload.etag == f'"{hashlib.md5(JPEG).hexdigest()}"'
    assert upload.announced_at is not None
    assert upload.due_at is None
    assert s3.read(upload) == JPEG

    assert alice.confirm(str(upload.pk)).json() == confirmed.json()


def test_an_empty_file_can_be_uploaded(alice: App, s3: Bucket) -> None:
    upload = row(alice.upload(b""))
    assert (upload.status, upload.size, s3.read(upload)) == ("completed", 0, b"")


def test_a_projects_formats_do_not_change_the_contract(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rest_framework.settings.api_settings.DATETIME_FORMAT", "%d.%m.%Y")
    begun = alice.begin().json()
    assert parse_datetime(begun["created_at"]) == Upload.objects.get().created_at
    assert begun["size"] == len(JPEG)
