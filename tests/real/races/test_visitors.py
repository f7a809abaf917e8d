"""Visitors at once, on PostgreSQL: their rows have no owner, and no NULL equals another there."""

from __future__ import annotations

import uuid
from collections import Counter
from functools import partial
from random import choice, random
from typing import Any

import pytest
from django.utils import timezone

from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload, Usage
from tests.conftest import APPLICATIONS, CV, JPEG, App, Bucket, Visitor, row

from .conftest import GRACE, LEADS, PHOTOS, at_once, change, codes, two_at_once

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]

CV_OF_A_USER: Any = {
    "destination": "applications",
    "filename": "cv.pdf",
    "content_type": "application/pdf",
    "size": len(CV),
}


def limit(settings: Any, **limits: int) -> None:
    ours = settings.S3DIRECT_UPLOADS
    applications = {**APPLICATIONS, "MAX_PENDING": None, "MAX_TOTAL_SIZE": None, **limits}
    destinations = {**ours["DESTINATIONS"], "applications": applications}
    settings.S3DIRECT_UPLOADS = {**ours, "DESTINATIONS": destinations}


def assert_in_step() -> None:
    """The usage of visitors and of each user says what the rows say."""
    for usage in Usage.objects.all():
        mine = Upload.objects.filter(
            owner=usage.owner_id, visitor=usage.owner_id is None, counted=True
        )
        pending = mine.filter(status="pending").count()
        assert (usage.pending, usage.total_size) == (
            pending,
            sum(mine.values_list("size", flat=True)),
        )


def test_fifty_begins_of_visitors_with_one_key_make_one_upload(visitor: Visitor) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    answers = at_once([partial(Visitor().begin, key) for _ in range(50)])
    assert codes(answers) == [201] * 50
    upload = Upload.objects.get()
    assert {each.json()["form_value"] for each in answers} == {upload.form_value}
    assert_in_step()
    assert Usage.objects.get().pending == 1


def test_of_many_bodies_with_one_key_one_is_accepted(visitor: Visitor) -> None:
    for _ in range(5):
        key = {"Idempotency-Key": uuid.uuid4().hex}
        answers = at_once([partial(Visitor().begin, key, size=size) for size in range(1, 9)])
        assert sorted(codes(answers)) == [201] + [409] * 7
        assert Upload.objects.filter(idempotency_key=key["Idempotency-Key"]).count() == 1


@pytest.mark.parametrize(
    ("key", "most", "refused"), [("MAX_PENDING", 10, 429), ("MAX_TOTAL_SIZE", 10 * len(CV), 403)]
)
@pytest.mark.parametrize("before", [0, 3])
def test_of_fifty_visitors_ten_get_the_places(
    visitor: Visitor, alice: App, settings: Any, key: str, most: int, refused: int, before: int
) -> None:
    """Also if none of them has a row of usage yet: each of the fifty wants to make it."""
    limit(settings)  # none
    for _ in range(before):
        visitor.begin()
    limit(settings, **{key: most})
    answers = at_once([Visitor().begin for _ in range(50)])
    assert Counter(codes(answers)) == {201: 10 - before, refused: 40 + before}
    assert Usage.objects.count() == 1
    assert_in_step()
    assert alice.begin(**CV_OF_A_USER).status_code == 201, "an owner has a place of their own"


def test_visitors_and_users_at_once_stay_in_step(
    visitor: Visitor, alice: App, bob: App, settings: Any
) -> None:
    """The sweep locks the usage of all of them. After a deadlock Django would answer 500."""
    limit(settings, MAX_PENDING=8, MAX_TOTAL_SIZE=1024**2)
    users = [alice, bob]

    def begin() -> int:
        if random() < 0.5:
            return int(Visitor().begin().status_code)
        app = App(None)
        app.client.cookies.load(choice(users).client.cookies.output(header=""))
        return int(app.begin(**CV_OF_A_USER).status_code)

    def cancel() -> None:
        for upload in Upload.objects.filter(status="pending").order_by("?")[:2]:
            lifecycle.cancel(upload)

    def sweep() -> None:
        past = timezone.now() - 3 * GRACE
        for pk in Upload.objects.filter(status="pending").values_list("pk", flat=True)[:4]:
            change(str(pk), url_expires_at=past, expires_at=past, due_at=past)
        lifecycle.sweep()

    for _ in range(6):
        at_once([begin, sweep, begin, cancel, begin, sweep, begin, cancel])
    assert_in_step()
    assert Usage.objects.filter(owner=None).exists()


def test_of_two_posts_of_one_token_at_once_one_has_the_file(
    visitor: Visitor, settings: Any, s3: Bucket
) -> None:
    ours = settings.S3DIRECT_UPLOADS
    photos = {**ours["DESTINATIONS"]["photos"], "ANONYMOUS": True}
    destinations = {**ours["DESTINATIONS"], "photos": photos}
    settings.S3DIRECT_UPLOADS = {**ours, "DESTINATIONS": destinations}
    photo: Any = {"destination": "photos", "filename": "a.jpg", "content_type": "image/jpeg"}
    for lead in LEADS:
        answer = visitor.upload(JPEG, **photo)
        token = answer.json()["form_value"]
        one, two = (
            partial(Visitor().client.post, PHOTOS, {"image": token}, format="json") for _ in "ab"
        )
        answers = sorted(two_at_once(one, two, lead), key=lambda each: each.status_code)
        assert codes(answers) == [201, 400]
        assert answers[1].json()["image"] == ["This upload is in use already."]
        assert row(answer).attached_at
