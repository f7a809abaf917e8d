"""What one owner may have in one destination: MAX_PENDING and MAX_TOTAL_SIZE."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from s3direct_uploads import lifecycle
from s3direct_uploads.exceptions import AnswerLost, QuotaExceeded, TooManyPending
from s3direct_uploads.lifecycle import settling
from s3direct_uploads.models import Upload, Usage
from s3direct_uploads.s3 import Bucket as OurBucket
from tests.conftest import JPEG, App, Bucket, begin_last_part, row
from tests.lifecycle.conftest import SIZE, Limit, later, recount, used

DAY = timedelta(days=1)


def test_a_begin_over_max_pending_is_refused(alice: App, limit: Limit) -> None:
    limit(MAX_PENDING=2)
    first, second = alice.begin(), alice.begin()
    assert (first.status_code, second.status_code) == (201, 201)

    third = alice.begin()

    told = "At most 2 uploads at once: finish or cancel one."
    assert third.status_code == 429
    assert third.json() == {
        "code": "too_many_pending",
        "detail": told,
        "errors": [
            {
                "field": "destination",
                "code": "too_many_pending",
                "detail": told,
                "params": {"max_pending": 2, "pending": 2, "left": 0},
            }
        ],
        "retry_after": 5,
    }
    assert third["Retry-After"] == "5"
    assert Upload.objects.count() == 2
    # One is finished, and another given up.
    assert alice.send(first.json()["request"]) == 200
    assert alice.confirm(first.json()["id"]).status_code == 200
    assert used(alice) == (1, 2 * SIZE)
    assert alice.begin().status_code == 201
    assert alice.begin().status_code == 429
    assert alice.delete(second.json()["id"]).status_code == 204
    assert alice.begin().status_code == 201
    assert used(alice) == (2, 4 * SIZE)


def test_a_begin_over_max_total_size_is_refused(alice: App, limit: Limit) -> None:
    limit(MAX_TOTAL_SIZE=2 * SIZE + 1)
    assert [alice.begin().status_code, alice.upload().status_code] == [201, 200]

    third = alice.begin()

    told = f"1 byte of {2 * SIZE + 1} bytes are left."
    assert third.status_code == 403
    assert third.json() == {
        "code": "quota_exceeded",
        "detail": told,
        "errors": [
            {
                "field": "destination",
                "code": "quota_exceeded",
                "detail": told,
                "params": {"max_total_size": 2 * SIZE + 1, "total_size": 2 * SIZE, "left": 1},
            }
        ],
    }
    assert "Retry-After" not in third
    assert Upload.objects.count() == 2
    assert alice.begin(size=1).status_code == 201, "what is left can be used"
    assert alice.begin(size=1).json()["errors"][0]["params"]["left"] == 0
    assert alice.begin(size=0).status_code == 201
    assert used(alice) == (3, 2 * SIZE + 1)


def test_where_both_limits_are_reached_quota_exceeded_comes_first(alice: App, limit: Limit) -> None:
    limit(MAX_PENDING=1, MAX_TOTAL_SIZE=SIZE)
    alice.begin()
    assert alice.begin().json()["code"] == "quota_exceeded"
    assert alice.begin(size=0).json()["code"] == "too_many_pending"


def test_others_and_other_destinations_have_room_of_their_own(
    alice: App, bob: App, limit: Limit
) -> None:
    limit(MAX_PENDING=1)
    assert [alice.begin().status_code, alice.begin().status_code] == [201, 429]
    assert bob.begin().status_code == 201
    assert alice.begin_film().status_code == 201
    assert alice.begin(destination="documents").status_code == 201
    assert not Usage.objects.filter(destination="documents").exists()
    assert (used(alice), used(bob), used(alice, "films")[0]) == ((1, SIZE), (1, SIZE), 1)


def test_room_comes_back_when_the_object_is_gone_and_not_before(
    alice: App, s3: Bucket, limit: Limit
) -> None:
    limit(MAX_TOTAL_SIZE=SIZE)
    upload = row(alice.upload())
    assert alice.begin().status_code == 403
    assert alice.delete(str(upload.pk)).status_code == 204
    upload.refresh_from_db()
    settling.delete_object(upload)
    assert s3.read(upload) == JPEG, "its URL lives, so it would come back"
    assert (used(alice), alice.begin().status_code) == ((0, SIZE), 403)

    later(timedelta(hours=2))
    upload.refresh_from_db()
    settling.delete_object(upload)

    assert s3.read(upload) is None
    assert (upload.counted, upload.object_deleted_at) == (False, None), "to be cleaned once more"
    assert used(alice) == (0, 0)
    assert alice.begin().status_code == 201
    later(DAY)
    settling.delete_object(upload)
    assert used(alice) == (1, SIZE), "given back once"


def test_begin_put_cancel_repeat_stores_nothing_for_free(
    alice: App, s3: Bucket, limit: Limit
) -> None:
    limit(MAX_PENDING=1, MAX_TOTAL_SIZE=3 * SIZE)
    statuses = []
    for _ in range(6):
        begun = alice.begin()
        statuses.append(begun.status_code)
        if begun.status_code == 201:
            assert alice.send(begun.json()["request"]) == 200
            assert alice.delete(begun.json()["id"]).status_code == 204
    assert statuses == [201, 201, 201, 403, 403, 403]
    stored = [s3.read(upload) for upload in Upload.objects.all()]
    assert stored == [JPEG] * 3, "as much as is allowed, and no more"
    assert used(alice) == (0, 3 * SIZE)

    later(timedelta(hours=2))
    assert lifecycle.sweep() == {"cleaned": 3}

    assert [s3.read(upload) for upload in Upload.objects.all()] == [None] * 3
    assert used(alice) == (0, 0)
    assert alice.begin().status_code == 201


def test_begin_cancel_repeat_in_parts_stores_nothing_for_free(
    alice: App, s3: Bucket, limit: Limit
) -> None:
    limit(MAX_TOTAL_SIZE=6 * 1024**2)
    begun = alice.begin_film()
    size = used(alice, "films")[1]
    assert used(alice, "films") == (1, size)
    assert alice.begin_film().status_code == 403
    assert alice.delete(begun.json()["id"]).status_code == 204
    assert alice.begin_film().status_code == 403, "a part may still be under way"
    later(timedelta(hours=3))
    assert lifecycle.sweep() == {"cleaned": 1}
    assert alice.begin_film().status_code == 201
    assert used(alice, "films") == (1, size)


def end_completed(app: App, s3: Bucket) -> None:
    assert app.upload().status_code == 200


def end_attached(app: App, s3: Bucket) -> None:
    row(app.upload()).attach()


def end_rejected(app: App, s3: Bucket) -> None:
    upload = row(app.begin())
    s3.write(upload, b"short")
    assert app.confirm(str(upload.pk)).status_code == 422


def end_expired(app: App, s3: Bucket) -> None:
    upload = row(app.begin())
    later(timedelta(hours=26))
    assert app.confirm(str(upload.pk)).status_code == 410


def end_cancelled(app: App, s3: Bucket) -> None:
    assert app.delete(app.begin().json()["id"]).status_code == 204


def end_deleted(app: App, s3: Bucket) -> None:
    assert app.delete(app.upload().json()["id"]).status_code == 204


@pytest.mark.parametrize(
    ("end", "status", "kept"),
    [
        (end_completed, "completed", SIZE),
        (end_attached, "completed", SIZE),
        (end_rejected, "rejected", 0),
        (end_expired, "expired", 0),
        (end_cancelled, "cancelled", 0),
        (end_deleted, "deleted", 0),
    ],
)
def test_each_final_status_frees_what_is_gone(
    alice: App,
    s3: Bucket,
    limit: Limit,
    end: Callable[[App, Bucket], None],
    status: str,
    kept: int,
) -> None:
    limit(MAX_PENDING=5, MAX_TOTAL_SIZE=1024)
    end(alice, s3)
    upload = Upload.objects.get()
    assert (upload.status, used(alice)) == (status, (0, SIZE))
    for _ in range(3):
        later(timedelta(hours=30))
        lifecycle.sweep()
        upload.refresh_from_db()
        assert (upload.counted, used(alice)) == (bool(kept), (0, kept))
    assert recount(destination="photos") == ["photos: owners counted: 1, corrected: 0."]
    later(timedelta(days=20))
    lifecycle.sweep()
    assert Upload.objects.filter(pk=upload.pk).exists() is bool(kept), "pruned"
    assert used(alice) == (0, kept)


def test_the_sweep_settles_for_many_owners_at_once(
    alice: App, bob: App, s3: Bucket, limit: Limit
) -> None:
    limit(MAX_PENDING=5)
    for app in (alice, bob, alice):
        app.begin()
    later(timedelta(hours=26))
    assert lifecycle.sweep() == {"expired": 3, "cleaned": 3}
    assert (used(alice), used(bob)) == ((0, 0), (0, 0))


def test_a_repeated_begin_is_answered_though_nothing_is_left(alice: App, limit: Limit) -> None:
    limit(MAX_PENDING=1, MAX_TOTAL_SIZE=SIZE)
    key = {"Idempotency-Key": "one"}
    first = alice.begin(headers=key)

    again = alice.begin(headers=key)

    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    assert alice.send(again.json()["request"]) == 200
    assert alice.begin(headers=key, size=1).status_code == 409
    assert alice.begin(headers={"Idempotency-Key": "two"}).status_code == 403
    assert used(alice) == (1, SIZE)


def test_a_repeated_begin_is_counted_once(alice: App, limit: Limit) -> None:
    limit(MAX_PENDING=5)
    key = {"Idempotency-Key": "one"}
    assert len({alice.begin(headers=key).json()["id"] for _ in range(3)}) == 1
    assert used(alice) == (1, SIZE)


def test_a_begin_that_failed_is_not_counted(
    alice: App, limit: Limit, s3_away: Callable[[], None]
) -> None:
    limit(MAX_PENDING=1)
    alice.begin()
    s3_away()
    for headers in ({}, {"Idempotency-Key": "one"}):
        answer = alice.begin_film(headers=headers)
        assert (answer.status_code, used(alice, "films")) == (503, (0, 0))
    assert Upload.objects.count() == 1


def test_a_begin_whose_answer_from_s3_is_lost_is_counted(
    alice: App, limit: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(MAX_TOTAL_SIZE=10 * 1024**2)

    def lose(*_: Any, **__: Any) -> str:
        raise AnswerLost("Its answer never came.")

    monkeypatch.setattr(OurBucket, "create_multipart", lose)
    assert alice.begin_film().status_code == 503
    upload = Upload.objects.get()
    assert (upload.status, used(alice, "films")) == ("cancelled", (0, upload.size))
    later(timedelta(hours=3))
    lifecycle.sweep()
    assert used(alice, "films") == (0, 0)


def test_scripts_obey_an_owners_limits(alice: App, limit: Limit, s3: Bucket) -> None:
    limit(MAX_PENDING=1, MAX_TOTAL_SIZE=2 * SIZE)
    store: Any = {"destination": "photos", "filename": "a.jpg"}
    for _ in range(2):
        lifecycle.store(io.BytesIO(JPEG), owner=alice.user, **store)
    with pytest.raises(QuotaExceeded) as full:
        lifecycle.store(io.BytesIO(JPEG), owner=alice.user, **store)
    assert (full.value.code, full.value.limits["left"]) == ("quota_exceeded", 0)
    assert used(alice) == (0, 2 * SIZE)
    lifecycle.begin(owner=alice.user, size=0, **store)
    with pytest.raises(TooManyPending):
        lifecycle.store(io.BytesIO(b""), owner=alice.user, **store)
    # Without an owner there is nobody to limit.
    for _ in range(3):
        assert not lifecycle.store(io.BytesIO(JPEG), **store).counted
    assert Usage.objects.count() == 1


def test_a_size_that_no_column_holds_is_no_500(alice: App, limit: Limit) -> None:
    limit(MAX_PENDING=5)
    alice.begin()
    Usage.objects.update(total_size=2**63 - 10)
    assert alice.begin().json()["code"] == "quota_exceeded"
    assert alice.begin(size=9).status_code == 201


def test_what_was_there_before_the_limit_counts(alice: App, limit: Limit) -> None:
    pending, completed = row(alice.begin()), row(alice.upload())
    alice.delete(alice.begin().json()["id"])
    limit(MAX_TOTAL_SIZE=3 * SIZE)
    assert not Usage.objects.exists()

    assert [alice.begin().status_code, alice.begin().status_code] == [201, 403]

    assert used(alice) == (2, 3 * SIZE), "the cancelled one is as good as gone"
    for upload in (pending, completed):  # as a process has them that read them before
        assert not upload.counted
        lifecycle.cancel(upload)
        assert upload.counted
    assert used(alice) == (1, 3 * SIZE)


def test_without_a_limit_nothing_is_counted_and_what_was_is_still_given_back(
    alice: App, limit: Limit
) -> None:
    limit(MAX_PENDING=5)
    begun = alice.begin()
    limit()
    alice.begin()
    assert used(alice) == (1, SIZE)
    assert alice.delete(begun.json()["id"]).status_code == 204
    assert used(alice) == (0, SIZE)
    assert recount(destination="photos") == ["photos: owners counted: 1, corrected: 1."]
    assert used(alice) == (1, 2 * SIZE)


@pytest.mark.parametrize(
    ("limits", "statements"),
    [({}, ["INSERT"]), ({"MAX_PENDING": 9, "MAX_TOTAL_SIZE": 1024}, ["UPDATE", "INSERT"])],
)
def test_a_limit_costs_a_begin_a_few_queries(
    alice: App, limit: Limit, limits: dict[str, int], statements: list[str]
) -> None:
    limit(**limits)
    alice.begin()
    alice.client.force_authenticate(alice.user)

    with CaptureQueriesContext(connection) as captured:
        assert alice.begin().status_code == 201

    said = [each["sql"].split()[0] for each in captured.captured_queries]
    assert [each for each in said if each in ("SELECT", "INSERT", "UPDATE", "DELETE")] == statements


@pytest.mark.django_db(transaction=True)
def test_s3_is_not_asked_within_a_transaction(
    alice: App, limit: Limit, in_transaction: list[bool]
) -> None:
    limit(MAX_PENDING=2, MAX_TOTAL_SIZE=20 * 1024**2)
    id = alice.upload().json()["id"]
    upload, part = begin_last_part(alice)
    alice.send(part, b"the end")
    alice.confirm(str(upload.pk))
    Upload.objects.update(url_expires_at=timezone.now() - 2 * DAY)
    alice.delete(id)
    assert used(alice) == (0, 0)
    assert len(in_transaction) > 3
    assert not any(in_transaction)
