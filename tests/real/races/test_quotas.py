"""Quotas: as many uploads pass as there is room for, and the usage says what the rows say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from random import choice, random, randrange
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from s3direct_uploads import lifecycle
from s3direct_uploads.exceptions import BucketUnavailable
from s3direct_uploads.lifecycle import settling
from s3direct_uploads.models import Upload, Usage
from s3direct_uploads.s3 import Bucket as OurBucket
from tests.conftest import FILMS, JPEG, App, Bucket, row

from .conftest import GRACE, LEADS, Call, at_once, change, codes, two_at_once

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def limit(settings: Any) -> Callable[..., None]:
    """Set limits for photos and films, which have none."""

    def limit(**limits: int) -> None:
        photos = {"MAX_SIZE": 1024, "CONTENT_TYPES": ["image/*"], **limits}
        both = {"photos": photos, "films": {**FILMS, **limits}}
        settings.S3DIRECT_UPLOADS = {"DESTINATIONS": both}

    return limit


def counted(destination: str = "photos") -> tuple[int, int]:
    """How many uploads are pending, and their bytes in all, as the rows say."""
    rows = Upload.objects.filter(destination=destination, counted=True)
    sizes = rows.values_list("size", flat=True)
    return rows.filter(status="pending").count(), sum(sizes)


def used(app: App, destination: str = "photos") -> tuple[int, int]:
    usage = Usage.objects.get(owner=app.user, destination=destination)
    return usage.pending, usage.total_size


@pytest.mark.parametrize("before", [0, 5])
@pytest.mark.parametrize(
    ("key", "each", "refused"), [("MAX_PENDING", 1, 429), ("MAX_TOTAL_SIZE", len(JPEG), 403)]
)
def test_of_fifty_begins_ten_get_the_last_ten_places(
    alice: App,
    crowd: Callable[[int], list[App]],
    limit: Callable[..., None],
    before: int,
    key: str,
    each: int,
    refused: int,
) -> None:
    for _ in range(before):
        alice.begin()  # there is no limit yet: the first of the fifty counts these
    limit(**{key: (before + 10) * each})

    answers = at_once([app.begin for app in crowd(50)])

    assert sorted(codes(answers)) == [201] * 10 + [refused] * 40
    left = {
        each.json()["errors"][0]["params"]["left"] for each in answers if each.status_code != 201
    }
    assert left == {0}
    assert Upload.objects.count() == before + 10
    assert used(alice) == counted() == (before + 10, (before + 10) * len(JPEG))
    # Twenty repeated begins take the one place that is free again.
    cancelled = next(each for each in answers if each.status_code == 201).json()["id"]
    assert alice.delete(cancelled).status_code == 204
    if key == "MAX_TOTAL_SIZE":
        Upload.objects.filter(pk=cancelled).update(url_expires_at=timezone.now() - 2 * GRACE)
        settling.delete_object(Upload.objects.get(pk=cancelled))
    keyed = [partial(app.begin, {"Idempotency-Key": "one"}) for app in crowd(20)]
    assert codes(at_once(keyed)) == [201] * 20
    assert alice.begin().status_code == refused
    assert Upload.objects.count() == before + 11
    assert used(alice) == counted()


def test_after_all_calls_at_once_usage_says_what_the_rows_say(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    limit: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a deadlock Django would answer 500, and the client of the test would raise.

    Each app chooses its calls by chance. So the test makes rounds until each wanted answer came.
    """
    limit(MAX_PENDING=6, MAX_TOTAL_SIZE=40 * 1024**2)
    create = OurBucket.create_multipart
    seen = Counter[tuple[str, int]]()

    def fail_often(*args: Any, **kwargs: Any) -> str:
        if random() < 0.6:
            seen["S3", 503] += 1
            raise BucketUnavailable("S3 is away.")
        return create(*args, **kwargs)

    monkeypatch.setattr(OurBucket, "create_multipart", fail_often)

    def one_of_mine() -> str:
        pks = Upload.objects.order_by("-id").values_list("pk", flat=True)[:8]
        return str(choice([*pks, uuid4()]))

    def age() -> None:
        past = timezone.now() - 2 * GRACE
        change(one_of_mine(), url_expires_at=past, due_at=past)

    def delete_row() -> None:
        Upload.objects.filter(pk=one_of_mine()).exclude(status="pending").delete()

    def act(app: App) -> None:
        key = {"Idempotency-Key": f"{turn}-{randrange(4)}"}
        calls: dict[str, Call] = {
            "begin": app.begin,
            "repeat": partial(app.begin, key),
            "film": partial(app.begin_film, key),
            "confirm": lambda: app.confirm(one_of_mine()),
            "cancel": lambda: app.delete(one_of_mine()),
            "upload": lambda: (
                app.send(begun.json()["request"])
                if (begun := app.begin()).status_code == 201
                else None
            ),
            "age": age,
            "sweep": lambda: lifecycle.sweep(limit=5),
            "recount": lambda: [*lifecycle.recount("photos"), *lifecycle.recount("films")],
            "delete": delete_row,
        }
        for _ in range(40):
            name = choice([*calls, "cancel", "film", "film"])
            answer = calls[name]()
            seen[name, getattr(answer, "status_code", 0)] += 1

    wanted = {("begin", 201), ("begin", 429), ("cancel", 204), ("S3", 503), ("confirm", 409)}
    turn = 0
    while not wanted <= seen.keys():
        assert turn < 20, seen
        at_once([partial(act, app) for app in crowd(10)])
        turn += 1

    for destination in ("photos", "films"):
        assert used(alice, destination) == counted(destination)
        assert not any(corrected for _, corrected in lifecycle.recount(destination))
    assert not [status for _, status in seen if status >= 500 and status != 503]


def test_begins_that_fail_at_once_leave_the_usage_correct(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    limit: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One begin deletes the row while another inserts its key. Both change the same usage."""
    limit(MAX_PENDING=50)

    def fail(*_: Any, **__: Any) -> str:
        raise BucketUnavailable("S3 is away.")

    monkeypatch.setattr(OurBucket, "create_multipart", fail)

    def begin_often(app: App) -> set[int]:
        return {app.begin_film({"Idempotency-Key": "one"}).status_code for _ in range(15)}

    seen = at_once([partial(begin_often, app) for app in crowd(8)])

    assert seen == [{503}] * 8
    # One row may be left, of a begin that used it while another failed. It is counted.
    assert used(alice, "films") == counted("films")
    assert used(alice, "films")[0] == Upload.objects.count() <= 1


def test_all_uploads_of_an_owner_who_is_deleted_meanwhile_are_cancelled(
    s3: Bucket, make_user: Callable[..., User], limit: Callable[..., None]
) -> None:
    limit(MAX_PENDING=6)
    for lead in LEADS * 2:
        app = App(make_user())
        uploads = [row(app.begin()) for _ in range(5)]

        def cancel(uploads: list[Upload] = uploads) -> None:
            for upload in uploads:
                lifecycle.cancel(upload)

        assert app.user
        two_at_once(app.user.delete, cancel, lead)

        assert not Usage.objects.exists()
        ends = Upload.objects.filter(pk__in=[upload.pk for upload in uploads])
        assert [(each.status, each.owner) for each in ends] == [("cancelled", None)] * 5
