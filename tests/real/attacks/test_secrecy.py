"""A signature is a password for an hour: it is never logged, stored or shown."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from s3direct_uploads.models import Upload
from tests.conftest import JPEG, LAST, App, Bucket, begin_last_part

from .conftest import Sent

pytestmark = pytest.mark.attack


@pytest.fixture
def everything_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, db: None
) -> Iterator[pytest.LogCaptureFixture]:
    """Every logger writes everything, SQL as well; botocore and urllib3 all but DEBUG."""
    caplog.set_level(logging.DEBUG)
    for name in [*logging.root.manager.loggerDict, "django.db.backends", "s3direct_uploads"]:
        theirs = name.partition(".")[0] in ("boto3", "botocore", "s3transfer", "urllib3")
        caplog.set_level(logging.INFO if theirs else logging.DEBUG, name)
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    with CaptureQueriesContext(connection):
        yield caplog


def signatures(answer: Any) -> set[str]:
    """The signatures in an answer: in its body, and in the URL of its redirect."""
    urls = [answer.get("Location", "")]
    if answer.get("Content-Type") == "application/json":
        body = answer.json()
        urls += [body.get("url", ""), (body.get("request") or {}).get("url", "")]
        parts = (body.get("multipart") or body).get("parts", [])
        urls += [part["url"] for part in parts]
    found = {parse_qs(urlsplit(url).query).get("X-Amz-Signature", [""])[0] for url in urls}
    return found - {""}


def user_tables() -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT session_data FROM django_session")
        sessions = cursor.fetchall()
        cursor.execute("SELECT change_message, object_repr FROM django_admin_log")
        return [*sessions, *cursor.fetchall()]


def test_no_signature_is_logged_stored_or_shown(
    alice: App,
    s3: Bucket,
    everything_logged: pytest.LogCaptureFixture,
    make_user: Callable[..., User],
    s3_away: Callable[[], None],
) -> None:
    key = {"Idempotency-Key": "one"}
    begun = alice.begin(headers=key)
    id = begun.json()["id"]
    answers = [begun, alice.begin(headers=key), alice.renew(id), alice.confirm(id)]
    assert alice.send(begun.json()["request"]) == 200
    answers += [alice.confirm(id), alice.get(f"{id}/url/"), alice.get(f"{id}/download/")]
    staff = App(make_user(is_staff=True, is_superuser=True))
    admin = "/admin/s3direct_uploads/upload/"
    pages = [
        staff.client.get(path)
        for path in (admin, f"{admin}{id}/change/", f"{admin}{id}/history/", f"{admin}?q={id}")
    ]
    answers.append(staff.client.get(f"{admin}{id}/download/"))
    spoilt = alice.begin().json()
    headers = {**spoilt["request"]["headers"], "Content-Encoding": "gzip"}
    assert alice.send({**spoilt["request"], "headers": headers}) == 200
    refused = [alice.confirm(spoilt["id"]), alice.renew(id), alice.begin(headers=key, size=1)]
    s3_away()
    late = alice.begin()
    answers.append(late)
    refused += [alice.confirm(late.json()["id"]), alice.delete(id)]
    answers.append(alice.get())

    handed_out = set().union(*map(signatures, answers))
    assert len(handed_out) >= 3, "signatures of one second are equal"
    assert [page.status_code for page in pages] == [200] * 4
    assert [each.status_code for each in refused] == [422, 410, 409, 503, 204]

    log = everything_logged.text
    assert "s3direct_uploads_upload" in log, "SQL was logged"
    assert "S3 failed at HeadObject" in log
    said = {
        "the log": log,
        "the database": str([list(Upload.objects.values()), list(user_tables())]),
        "the admin": "".join(page.text for page in pages),
        "an error": "".join(each.text for each in refused),
        "the list": answers[-1].text,
    }
    for where, text in said.items():
        assert "X-Amz-Signature" not in text, where
        assert "X-Amz-Credential" not in text, where
        assert not [signature for signature in handed_out if signature in text], where
        assert "testsecretkey" not in text, where
    assert s3.read(Upload.objects.get(pk=id)) == JPEG


@pytest.mark.usefixtures("films")
def test_no_signature_of_a_part_is_logged_stored_or_shown(
    alice: App,
    s3: Bucket,
    everything_logged: pytest.LogCaptureFixture,
    make_user: Callable[..., User],
    s3_away: Callable[[], None],
) -> None:
    key = {"Idempotency-Key": "one"}
    upload, part = begin_last_part(alice, headers=key)
    id = str(upload.pk)
    answers = [alice.renew(id), alice.sign_parts(id, [1])]
    refused = [alice.confirm(id), alice.sign_parts(id, [2])]
    staff = App(make_user(is_staff=True, is_superuser=True))
    admin = "/admin/s3direct_uploads/upload/"
    pages = [staff.client.get(f"{admin}{id}/change/")]
    assert Sent.of(part, LAST).send() == 200
    assert alice.parts(id).json() == [{"part_number": 1, "size": 7}]
    assert alice.confirm(id).status_code == 200
    pages += [staff.client.get(path) for path in (admin, f"{admin}{id}/change/")]
    refused += [alice.renew(id), alice.sign_parts(id, [1]), alice.parts(id)]
    other = alice.begin_film()
    answers.append(other)
    s3_away()
    refused += [alice.begin_film(), alice.parts(other.json()["id"])]
    refused += [alice.confirm(other.json()["id"]), alice.delete(other.json()["id"])]

    handed_out = set().union(*map(signatures, answers))
    assert len(handed_out) >= 3, "signatures of one second are equal"
    assert [page.status_code for page in pages] == [200] * 3
    assert [each.status_code for each in refused] == [409, 400, 410, 410, 410, 503, 503, 503, 204]

    log = everything_logged.text
    assert "s3direct_uploads_upload" in log, "SQL was logged"
    assert "S3 failed at ListParts" in log
    said = {
        "the log": log,
        "the database": str([list(Upload.objects.values()), list(user_tables())]),
        "the admin": "".join(page.text for page in pages),
        "an error": "".join(each.text for each in refused),
    }
    for where, text in said.items():
        assert "X-Amz-Signature" not in text, where
        assert "X-Amz-Credential" not in text, where
        assert not [signature for signature in handed_out if signature in text], where
        assert "testsecretkey" not in text, where
    assert s3.read(upload) == LAST
