"""Many begins with one Idempotency-Key make one upload; many PUTs to one URL store one object."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User

from s3direct_uploads.models import Upload
from tests.conftest import JPEG, App, Bucket, row
from tests.http.test_idempotency import OTHER, SAME, begin_with

from .conftest import at_once, codes, url_end

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]


def test_fifty_begins_with_one_idempotency_key_make_one_upload(
    alice: App, s3: Bucket, crowd: Callable[[int], list[App]]
) -> None:
    apps = crowd(50)

    answers = at_once([partial(app.begin, headers={"Idempotency-Key": "one"}) for app in apps])

    assert codes(answers) == [201] * 50
    upload = Upload.objects.get()
    assert {answer.json()["id"] for answer in answers} == {str(upload.pk)}
    there = {urlsplit(answer.json()["request"]["url"]).path for answer in answers}
    assert there == {f"/{s3.name}/{upload.key}"}, "fifty signatures for one key"
    assert max(map(url_end, answers)) <= upload.url_expires_at + timedelta(seconds=1)
    assert upload.due_at == upload.url_expires_at + timedelta(hours=1)
    arrived = at_once([partial(alice.send, each.json()["request"]) for each in answers[:4]])
    assert sorted(arrived) == [200, 412, 412, 412]
    assert row(alice.confirm(str(upload.pk))).status == "completed"
    assert s3.read(upload) == JPEG


def test_of_many_bodies_with_one_idempotency_key_one_is_accepted(
    alice: App, s3: Bucket, crowd: Callable[[int], list[App]]
) -> None:
    apps = crowd(8)
    for number in range(5):
        headers = {"Idempotency-Key": str(number)}
        answers = at_once([partial(app.begin, headers, size=size) for size, app in enumerate(apps)])
        assert sorted(codes(answers)) == [201] + [409] * 7
        upload = Upload.objects.get(idempotency_key=str(number))
        for size, answer in enumerate(answers):
            assert (answer.status_code == 201) == (upload.size == size)
            assert row(answer) == upload
        assert s3.read(upload) is None


@pytest.mark.usefixtures("any_context")
@pytest.mark.parametrize("kind", SAME)
def test_begins_that_mean_the_same_context_make_one_upload(
    alice: App, s3: Bucket, crowd: Callable[[int], list[App]], kind: str
) -> None:
    first, in_other_words = SAME[kind]
    begins = [partial(begin_with, app, first) for app in crowd(2)]
    begins += [partial(begin_with, app, in_other_words) for app in crowd(2)]
    answers = at_once(begins)
    assert codes(answers) == [201] * 4
    upload = Upload.objects.get()
    assert {answer.json()["id"] for answer in answers} == {str(upload.pk)}
    said = [answer.json()["context"] for answer in (*answers, alice.get(f"{upload.pk}/"))]
    assert len({json.dumps(each, sort_keys=True) for each in said}) == 1
    assert s3.read(upload) is None


@pytest.mark.usefixtures("any_context")
@pytest.mark.parametrize("kind", OTHER)
def test_of_two_contexts_with_one_idempotency_key_one_is_accepted(
    alice: App, s3: Bucket, crowd: Callable[[int], list[App]], kind: str
) -> None:
    pairs = zip(OTHER[kind], crowd(2), strict=True)
    answers = at_once([partial(begin_with, app, context) for context, app in pairs])
    assert sorted(codes(answers)) == [201, 409]
    assert {row(answer) for answer in answers} == {Upload.objects.get()}


@pytest.mark.parametrize(("many", "rounds"), [(2, 8), (8, 6)])
def test_of_many_puts_to_one_url_s3_stores_one(
    alice: App, s3: Bucket, heard: Counter[tuple[str, Any]], many: int, rounds: int
) -> None:
    size = 256 * 1024
    bodies = [bytes([number]) * size for number in range(many)]
    for _ in range(rounds):
        begun = alice.begin(size=size).json()

        arrived = at_once([partial(alice.send, begun["request"], body) for body in bodies])

        assert arrived.count(200) == 1
        assert set(arrived) <= {200, 412, 409}
        upload = row(alice.confirm(begun["id"]))
        assert s3.read(upload) == bodies[arrived.index(200)], "one body, and all of it"
        assert (upload.status, heard) == ("completed", {("completed", upload.pk): 1})
        heard.clear()


def test_uploads_of_many_owners_at_once_stay_apart(
    alice: App, bob: App, s3: Bucket, make_user: Callable[..., User]
) -> None:
    apps = [alice, bob, *(App(make_user()) for _ in range(8))]
    bodies = [bytes([number]) * len(JPEG) for number in range(len(apps))]

    answers = at_once(
        [
            partial(app.upload, body, filename="same.jpg")
            for app, body in zip(apps, bodies, strict=True)
        ]
    )

    assert codes(answers) == [200] * 10
    uploads = [row(answer) for answer in answers]
    assert [upload.owner for upload in uploads] == [app.user for app in apps]
    assert [s3.read(upload) for upload in uploads] == bodies
    assert len({upload.key for upload in uploads}) == 10
