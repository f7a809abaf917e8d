"""Batches beside batches, single calls and sweeps. None of them fails, blocks or counts twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from random import sample, shuffle
from typing import Any

import pytest
from django.db import transaction

from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload, Usage
from tests.conftest import JPEG, App, Bucket
from tests.http.test_batch import codes as results_of
from tests.http.test_batch import ids as ids_of
from tests.http.test_batch_confirm import sent

from .conftest import LEADS, Call, at_once, change, two_at_once
from .test_quotas import counted, limit, used

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]
__all__ = ["limit"]  # the fixture
SIZE = len(JPEG)


def begun(answers: list[Any]) -> int:
    return sum(status == 201 for answer in answers for status, _ in results_of(answer))


@pytest.mark.parametrize("before", [0, 5])
@pytest.mark.parametrize(("key", "each"), [("MAX_PENDING", 1), ("MAX_TOTAL_SIZE", SIZE)])
def test_batches_at_once_take_the_places_that_are_left(
    alice: App,
    crowd: Callable[[int], list[App]],
    limit: Callable[..., None],
    before: int,
    key: str,
    each: int,
) -> None:
    for _ in range(before):
        alice.begin()
    limit(**{key: (before + 25) * each})
    batches = [partial(app.begin_batch, *[{}] * 10) for app in crowd(8)]
    singles = [lambda app=app: app.begin().status_code for app in crowd(4)]

    answers = at_once([*batches, *singles])

    assert begun(answers[:8]) + answers[8:].count(201) == 25
    assert Upload.objects.count() == before + 25
    assert used(alice) == counted() == (before + 25, (before + 25) * SIZE)


def test_equal_batches_at_once_begin_the_same_uploads(
    alice: App, crowd: Callable[[int], list[App]], limit: Callable[..., None]
) -> None:
    limit(MAX_PENDING=20)  # there is room for one of them alone
    for number in range(6):
        key = {"Idempotency-Key": f"batch {number}"}
        batch = [{"filename": f"{each}.jpg"} for each in range(20)]
        answers = at_once([partial(app.begin_batch, *batch, headers=key) for app in crowd(6)])
        assert [results_of(answer) for answer in answers] == [[(201, None)] * 20] * 6
        assert len({tuple(map(str, ids_of(answer))) for answer in answers}) == 1
        assert Upload.objects.count() == 20
        assert used(alice) == counted() == (20, 20 * SIZE)
        Upload.objects.all().delete()


def test_other_bodies_with_one_key_never_mix(alice: App, crowd: Callable[[int], list[App]]) -> None:
    for number in range(6):
        key = {"Idempotency-Key": f"batch {number}"}
        bodies = [[{"filename": f"{name}{each}.jpg"} for each in range(10)] for name in "abcd"]
        answers = at_once(
            [
                partial(app.begin_batch, *body, headers=key)
                for app, body in zip(crowd(4), bodies, strict=True)
            ]
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
        names = Upload.objects.values_list("filename", flat=True)
        assert len({name[0] for name in names}) == 1
        assert len(names) == 10
        Upload.objects.all().delete()


def test_batches_singles_and_sweeps_complete_each_upload_once(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    heard: Counter[tuple[str, Any]],
    limit: Callable[..., None],
) -> None:
    for limited in (False, True):
        if limited:
            limit(MAX_PENDING=1000)
        for _ in range(3):
            ids = sent(alice, s3, 40)
            past = "2026-01-01T00:00:00Z"
            Upload.objects.filter(pk__in=ids).update(due_at=past)

            def shuffled(app: App, ids: list[str] = ids) -> Any:
                mine = [*ids]
                shuffle(mine)
                return results_of(app.confirm_batch(mine))

            def alone(app: App, ids: list[str] = ids) -> Any:
                return [(app.confirm(id).status_code, None) for id in sample(ids, 15)]

            apps = crowd(8)
            answers = at_once(
                [
                    *(partial(shuffled, app) for app in apps[:5]),
                    *(partial(alone, app) for app in apps[5:]),
                    lambda: [(200, None)] if lifecycle.sweep() is not None else [],
                ]
            )
            assert {each for answer in answers for each in answer} == {(200, None)}
            assert heard == {("completed", upload.pk): 1 for upload in Upload.objects.all()}
            assert not Upload.objects.exclude(status="completed", due_at=None).exists()
            assert not Upload.objects.filter(announced_at=None).exists()
            if limited:
                assert used(alice) == counted() == (0, 40 * SIZE)
            Upload.objects.all().delete()
            heard.clear()


def test_a_delete_beside_a_batch_confirm(
    alice: App, s3: Bucket, crowd: Callable[[int], list[App]], heard: Counter[tuple[str, Any]]
) -> None:
    one, two = crowd(2)
    for lead in LEADS:
        ids = sent(alice, s3, 5)

        def delete(ids: list[str] = ids) -> list[int]:
            return [two.delete(id).status_code for id in ids]

        answer, deleted = two_at_once(partial(one.confirm_batch, ids), delete, lead)

        assert deleted == [204] * 5
        ended = {str(each.pk): each.status for each in Upload.objects.all()}
        for id, (status, code) in zip(ids, results_of(answer), strict=True):
            done = heard[("completed", Upload.objects.get(pk=id).pk)]
            assert (ended[id], done) in (("deleted", 1), ("cancelled", 0))
            # As a single confirm, it may see that what it completed is deleted already.
            assert (status, code) in [(410, "not_pending"), *[(200, None)] * done]
        Upload.objects.all().delete()
        heard.clear()


def test_rows_that_others_lock_in_any_order_end_in_no_deadlock(
    alice: App, s3: Bucket, crowd: Callable[[int], list[App]], heard: Counter[tuple[str, Any]]
) -> None:
    """A host changes many uploads in one transaction, in its own order."""
    for _ in range(5):
        ids = sent(alice, s3, 30)

        def touch(backwards: bool, ids: list[str] = ids) -> list[tuple[int, None]]:
            with transaction.atomic():
                for id in sorted(ids, reverse=backwards):
                    change(id, filename="touched.jpg")
            return [(200, None)]

        def confirm(app: App, ids: list[str] = ids) -> Any:
            return results_of(app.confirm_batch(ids))

        calls: list[Call] = [partial(confirm, app) for app in crowd(4)]
        answers = at_once([*calls, partial(touch, True)])
        assert {each for answer in answers for each in answer} == {(200, None)}
        assert heard == {("completed", upload.pk): 1 for upload in Upload.objects.all()}
        assert not Upload.objects.filter(announced_at=None).exists()
        Upload.objects.all().delete()
        heard.clear()


def test_after_batches_and_single_calls_at_once_usage_says_what_the_rows_say(
    alice: App, s3: Bucket, crowd: Callable[[int], list[App]], limit: Callable[..., None]
) -> None:
    limit(MAX_PENDING=30, MAX_TOTAL_SIZE=300 * SIZE)
    seen: Counter[int] = Counter()

    def act(app: App, turn: int) -> None:
        for number in range(12):
            answer = app.begin_batch(*[{}] * 8, headers={"Idempotency-Key": f"{turn % 3} {number}"})
            seen.update(status for status, _ in results_of(answer))
            pks = [str(pk) for pk in Upload.objects.order_by("-id").values_list("pk", flat=True)]
            for pk in pks[:4]:
                s3.write(Upload.objects.get(pk=pk), JPEG)
            seen.update(status for status, _ in results_of(app.confirm_batch(pks[:8])))
            app.delete(pks[turn % len(pks)])
            list(lifecycle.recount("photos"))

    at_once([partial(act, app, turn) for turn, app in enumerate(crowd(6))])
    assert used(alice) == counted()
    assert not any(corrected for _, corrected in lifecycle.recount("photos"))
    assert seen[201]
    assert seen[200]
    assert seen[429]
    assert Usage.objects.count() == 1
