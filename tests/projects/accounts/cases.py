"""Run by tests/lifecycle/test_owners.py, with tests.projects.accounts.settings."""

from __future__ import annotations

import uuid
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client

from s3direct_uploads.models import Upload, Usage
from tests.conftest import JPEG, App, Bucket, row

Account: Any = get_user_model()


@pytest.fixture(autouse=True)
def limits(settings: Any) -> None:
    photos = {"MAX_SIZE": 1024, "CONTENT_TYPES": ["image/*"], "MAX_PENDING": 5}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": photos}}


@pytest.fixture
def account(db: None) -> Any:
    return Account.objects.create()


@pytest.fixture
def app(account: Any, s3: Bucket) -> App:
    return App(account)


def test_the_whole_life(app: App, account: Any, s3: Bucket) -> None:
    upload = row(app.upload(headers={"Idempotency-Key": "k"}))
    assert (upload.status, upload.owner, s3.read(upload)) == ("completed", account, JPEG)
    [listed] = app.get().json()["results"]
    assert listed["id"] == str(upload.pk)
    assert Usage.objects.get().owner == account
    out = StringIO()
    call_command("recount_usage", stdout=out)
    assert "corrected: 0" in out.getvalue()
    assert app.delete(str(upload.pk)).status_code == 204


def test_the_admins_search(app: App, account: Any, client: Client) -> None:
    upload = row(app.begin())
    staff = Account.objects.create(is_staff=True)
    client.force_login(staff)
    for term, found in {
        "beach": [upload],
        str(account.badge): [upload],
        str(staff.badge): [],
        str(uuid.uuid4()): [],
        "0" * 40: [],
        "nonsense": [],
    }.items():
        page = client.get("/admin/s3direct_uploads/upload/", {"q": term})
        assert page.status_code == 200
        assert list(page.context["cl"].result_list) == found, term
        assert client.get("/admin/s3direct_uploads/usage/", {"q": term}).status_code == 200


def test_an_id_of_another_type_is_nobodys(app: App) -> None:
    for pk in (5, "x", None):
        assert not Upload.objects.owned_by(Account(pk=pk)).exists()
