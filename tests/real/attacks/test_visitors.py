"""A visitor's URL and token, on Ceph: they reach this one upload, and only as long as it lasts.

Attacks on Django alone are in ``tests/http/test_visitor_attacks.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from s3direct_uploads.models import Upload
from tests.conftest import CV, FILM, URL, App, Bucket, Visitor, assert_error, row, sweep

from .conftest import Sent

pytestmark = pytest.mark.attack
OTHER = CV[::-1]  # other bytes, as many


@pytest.mark.parametrize("when", ["before confirm", "after confirm", "after attach"])
def test_s3_refuses_a_second_put_of_a_visitor(visitor: Visitor, s3: Bucket, when: str) -> None:
    begun = visitor.begin().json()
    assert visitor.send(begun["request"], CV) == 200
    upload = Upload.objects.get()
    if when != "before confirm":
        assert row(visitor.confirm(begun["id"])).status == "completed"
    if when == "after attach":
        Upload.objects.get().attach()
    assert Sent.of(begun["request"], OTHER).send() == 412
    assert s3.read(upload) == CV


def test_a_visitors_url_writes_to_no_other_key(
    visitor: Visitor, stranger: Visitor, alice: App, s3: Bucket
) -> None:
    begun = visitor.begin().json()
    mine = row(visitor.get(f"{begun['id']}/"))
    for other in (row(stranger.begin()), row(alice.begin(size=len(CV)))):
        it = Sent.of(begun["request"], OTHER)
        it.rewrite(mine.key, other.key)
        assert it.send() == 403
        assert s3.read(other) is None
    for body in (CV + b"x", CV[:-1]):
        assert Sent.of(begun["request"], body).send() == 403
    assert s3.read(mine) is None


def test_parts_of_a_stranger_are_not_signed(
    visitor: Visitor, stranger: Visitor, s3: Bucket
) -> None:
    begun = visitor.begin(size=len(FILM), multipart=True).json()
    upload = Upload.objects.get()
    stranger.begin()  # so that it shows a token
    for asked in (stranger.sign_parts(begun["id"], [1]), stranger.parts(begun["id"])):
        assert_error(asked, 404, "not_found")
    assert stranger.delete(begun["id"]).status_code == 404
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id]
    assert visitor.send_parts(begun["multipart"]["parts"], FILM) == [200, 200]
    assert row(visitor.confirm(begun["id"])).status == "completed"


def test_after_delete_a_late_put_is_deleted_too(visitor: Visitor, s3: Bucket) -> None:
    begun = visitor.begin().json()
    assert visitor.delete(begun["id"]).status_code == 204
    assert visitor.send(begun["request"], CV) == 200, "the URL is still valid"
    assert_error(visitor.confirm(begun["id"]), 410, "not_pending")
    past = timezone.now() - timedelta(hours=3)
    Upload.objects.update(url_expires_at=past, due_at=past)
    sweep()
    assert s3.read(Upload.objects.get()) is None


def test_no_token_is_logged_stored_or_shown_to_staff(
    visitor: Visitor,
    stranger: Visitor,
    make_user: Callable[..., User],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "s3direct_uploads")
    begun = visitor.begin({"Idempotency-Key": "0" * 32}).json()
    id, token = begun["id"], begun["form_value"]
    assert visitor.send(begun["request"], CV) == 200
    answers = [visitor.confirm(id), visitor.renew(id), stranger.get(f"{id}/")]
    answers += [visitor.begin({"Idempotency-Key": "0" * 32}, size=1)]
    staff = App(make_user(is_staff=True, is_superuser=True))
    admin = "/admin/s3direct_uploads/upload/"
    pages = [staff.client.get(path) for path in (admin, f"{admin}{id}/change/")]
    theirs = staff.client.get(f"{URL}{id}/")
    assert [each.status_code for each in (*answers, *pages, theirs)] == [
        *(200, 410, 403, 409),
        *(200, 200, 404),
    ]
    mac = token.split(":")[1]
    rows: list[Any] = list(Upload.objects.values())
    for text in (caplog.text, str(rows), *(page.content.decode() for page in pages), theirs.text):
        assert mac not in text
