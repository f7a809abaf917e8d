"""Clients that save a row with a file at once, through a serializer, on PostgreSQL and Ceph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from s3direct_uploads.models import Upload
from tests.conftest import JPEG, App, Bucket, row
from tests.field_models import Snap

from .conftest import LEADS, codes, two_at_once

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]

SNAPS = "/api/snaps/"


def put(app: App, snap: Snap, image: Any) -> Any:
    data = {"title": snap.title, "image": image}
    return app.client.put(f"{SNAPS}{snap.pk}/", data, format="json")


def post(app: App, title: str, image: str) -> Any:
    return app.client.post(SNAPS, {"title": title, "image": image}, format="json")


def started(app: App, number: int) -> tuple[Snap, Upload, Upload]:
    """A row with its file, and another upload of the same owner."""
    old, new = row(app.upload()), row(app.upload())
    return Snap.objects.create(title=str(number), image=old), old, new


def assert_is(upload: Upload, status: str, to: str) -> None:
    upload.refresh_from_db()
    assert (upload.status, upload.attached_to) == (status, to)


def test_the_same_save_sent_twice_is_no_error(
    alice: App, s3: Bucket, crowd: Callable[[int], list[App]]
) -> None:
    """As when a client's connection is lost, and it repeats what the server is still doing."""
    one, two = crowd(2)
    for number, lead in enumerate(LEADS * 2):
        snap, old, new = started(alice, number)
        answers = two_at_once(
            partial(put, one, snap, str(new.pk)), partial(put, two, snap, str(new.pk)), lead
        )
        assert codes(answers) == [200, 200], [each.json() for each in answers]
        assert {each.json()["image"]["name"] for each in answers} == {new.name}
        assert_is(new, "completed", "tests.Snap.image")
        assert_is(old, "deleted", "")
        assert s3.read(new) == JPEG


def test_one_upload_for_two_rows_is_of_one(alice: App, crowd: Callable[[int], list[App]]) -> None:
    winners = Counter[int]()
    one, two = crowd(2)
    for number, lead in enumerate(LEADS):
        upload = row(alice.upload())
        answers = two_at_once(
            partial(post, one, f"one {number}", str(upload.pk)),
            partial(post, two, f"two {number}", str(upload.pk)),
            lead,
        )
        assert sorted(codes(answers)) == [201, 400]
        [refused] = [each for each in answers if each.status_code == 400]
        assert refused.data["image"][0].code == "already_attached"
        winners[answers.index(refused)] += 1
        assert_is(upload, "completed", "tests.Snap.image")
        assert Snap.objects.filter(image=upload).count() == 1
    assert len(winners) == 2, "either came first"
    assert Snap.objects.count() == len(LEADS)


def test_what_was_read_and_sent_back_brings_no_old_file_back(
    alice: App, crowd: Callable[[int], list[App]]
) -> None:
    one, two = crowd(2)
    seen = Counter[int]()
    for number, lead in enumerate(LEADS):
        snap, old, new = started(alice, number)
        read = alice.client.get(f"{SNAPS}{snap.pk}/").json()["image"]
        replaced, sent_back = two_at_once(
            partial(put, one, snap, str(new.pk)), partial(put, two, snap, read), lead
        )
        assert replaced.status_code == 200
        seen[sent_back.status_code] += 1
        if sent_back.status_code == 400:
            assert sent_back.data["image"][0].code == "not_current"
        assert Snap.objects.get(pk=snap.pk).image.name == new.name
        assert_is(new, "completed", "tests.Snap.image")
        assert_is(old, "deleted", "")
    assert set(seen) == {200, 400}
