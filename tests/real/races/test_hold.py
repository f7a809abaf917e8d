"""A held upload and many who decide about it at once, on PostgreSQL and Ceph: one of them does.

A race of two is run in rounds: in the first and the last one of them is through before the other
begins, and those between are as close as can be.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections

from s3direct_uploads import lifecycle, signals
from s3direct_uploads.exceptions import NotHeld, UploadError
from s3direct_uploads.models import Upload, Usage
from tests.conftest import DAY, HOUR, JPEG, App, Bucket, Connect, age, row

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]

# How much later the second begins, in milliseconds; 0 and below: the first begins later.
LEADS = (-200, -8, -4, -2, -1, 0, 1, 2, 4, 8, 200)


@pytest.fixture(autouse=True)
def holding(settings: Any) -> None:
    """Photos are held, and counted."""
    ours = settings.S3DIRECT_UPLOADS
    limits = {"MAX_PENDING": 1000, "MAX_TOTAL_SIZE": 10_000}
    photos = {**ours["DESTINATIONS"]["photos"], **limits, "HOLD": True}
    known = {**ours["DESTINATIONS"], "photos": photos}
    settings.S3DIRECT_UPLOADS = {**ours, "DESTINATIONS": known}


@pytest.fixture
def heard(connect: Connect) -> Counter[tuple[str, Any]]:
    """How often which signal was sent, by its name and the upload's id."""
    counter: Counter[tuple[str, Any]] = Counter()
    lock = threading.Lock()
    for name in ("held", "completed", "rejected", "cancelled"):

        def listen(upload: Upload, name: str = name, **_: Any) -> None:
            with lock:
                counter[name, upload.pk] += 1

        connect(getattr(signals, f"upload_{name}"), listen)
    return counter


Call = Callable[[], Any]
AtOnce = Callable[..., list[Any]]


@pytest.fixture
def at_once() -> Iterator[AtOnce]:
    """Each call in a thread and on a database connection of its own; what each did, or raised."""
    with ThreadPoolExecutor(8) as pool:

        def at_once(*calls: Call, lead: float = 0) -> list[Any]:
            barrier = threading.Barrier(len(calls), timeout=30)

            def run(number: int, call: Call) -> Any:
                try:
                    barrier.wait()
                    time.sleep(max(0, -lead if number == 0 else lead) / 1000)
                    return call()
                except UploadError as error:
                    return error
                finally:
                    connections.close_all()

            return list(pool.map(run, range(len(calls)), calls))

        yield at_once


def held(app: App) -> Upload:
    upload = row(app.upload())
    assert upload.status == "verifying"
    return upload


def another(upload: Upload) -> Upload:
    """As another process reads the row."""
    return Upload.objects.get(pk=upload.pk)


def test_of_many_confirms_one_holds(
    alice: App, at_once: AtOnce, heard: Counter[tuple[str, Any]]
) -> None:
    for _ in range(5):
        begun = alice.begin()
        assert alice.send(begun.json()["request"]) == 200
        upload = row(begun)
        rows = [another(upload) for _ in range(6)]
        results = at_once(*(lambda each=each: lifecycle.confirm(each).status for each in rows))
        assert results == ["verifying"] * 6
        assert heard["held", upload.pk] == 1
    usage = Usage.objects.get()
    assert (usage.pending, usage.total_size) == (0, 5 * len(JPEG))


def test_of_many_accepts_one_completes(
    alice: App, at_once: AtOnce, heard: Counter[tuple[str, Any]]
) -> None:
    for _ in range(5):
        upload = held(alice)
        rows = [another(upload) for _ in range(6)]
        results = at_once(*(lambda each=each: lifecycle.accept(each).status for each in rows))
        assert results == ["completed"] * 6
        assert heard["completed", upload.pk] == 1
        upload.refresh_from_db()
        assert (upload.due_at, upload.announced_at is None) == (None, False)


def test_accept_and_reject_have_one_winner(
    alice: App, at_once: AtOnce, heard: Counter[tuple[str, Any]]
) -> None:
    won: Counter[str] = Counter()
    for lead in LEADS:
        upload = held(alice)
        one, two = another(upload), another(upload)
        results = at_once(
            lambda one=one: lifecycle.accept(one).status,
            lambda two=two: lifecycle.reject(two, "Infected.").status,
            lead=lead,
        )
        upload.refresh_from_db()
        won[upload.status] += 1
        winner = {"completed": 0, "rejected": 1}[upload.status]
        assert results[winner] == upload.status
        assert isinstance(results[1 - winner], NotHeld)
        told = {name: heard[name, upload.pk] for name in ("completed", "rejected")}
        assert told == {"completed": 1 - winner, "rejected": winner}
        assert (upload.reason == "Infected.") is (winner == 1)
        answer = alice.confirm(str(upload.pk))
        assert answer.status_code == (200, 422)[winner]
    assert set(won) == {"completed", "rejected"}, won


def test_what_its_owner_gives_up_meanwhile_is_not_completed(
    alice: App, at_once: AtOnce, heard: Counter[tuple[str, Any]]
) -> None:
    """Whoever is first: in the end it is a tombstone, and it counts until its object is gone."""
    ends: Counter[str] = Counter()
    for lead in LEADS:
        upload = held(alice)
        one = another(upload)
        accepted, deleted = at_once(
            lambda one=one: lifecycle.accept(one).status,
            lambda id=str(upload.pk): alice.delete(id).status_code,
            lead=lead,
        )
        assert deleted == 204
        upload.refresh_from_db()
        ends[upload.status] += 1
        if upload.status == "deleted":  # it was completed before
            assert accepted == "completed" or isinstance(accepted, NotHeld)
            assert heard["cancelled", upload.pk] == 0
        else:
            assert upload.status == "cancelled"
            assert isinstance(accepted, NotHeld)
            assert (heard["completed", upload.pk], heard["cancelled", upload.pk]) == (0, 1)
        assert upload.counted
        assert upload.due_at is not None
    assert set(ends) == {"cancelled", "deleted"}, ends
    usage = Usage.objects.get()
    assert (usage.pending, usage.total_size) == (0, len(LEADS) * len(JPEG))
    age(3 * HOUR)
    assert lifecycle.sweep()["cleaned"] == len(LEADS)
    usage.refresh_from_db()
    assert (usage.pending, usage.total_size) == (0, 0)


def test_its_owner_may_be_deleted_while_it_is_accepted(
    make_user: Callable[..., Any], s3: Bucket, at_once: AtOnce, heard: Counter[tuple[str, Any]]
) -> None:
    for lead in LEADS:
        app = App(make_user())
        assert app.user is not None
        upload = held(app)
        one = another(upload)
        accepted, _ = at_once(
            lambda one=one: lifecycle.accept(one).status, app.user.delete, lead=lead
        )
        upload.refresh_from_db()
        if upload.status == "cancelled":
            assert isinstance(accepted, NotHeld)
        else:  # it was completed, and deleted at once; accept may have noticed that
            assert upload.status == "deleted"
        assert heard["completed", upload.pk] == (upload.status == "deleted")
        assert upload.owner_id is None
    assert not Usage.objects.exists()


def test_a_sweep_that_gives_up_and_an_accept_have_one_winner(
    alice: App, at_once: AtOnce, heard: Counter[tuple[str, Any]]
) -> None:
    for lead in LEADS:
        upload = held(alice)
        age(2 * DAY, pk=upload.pk)
        one = another(upload)
        accepted, swept = at_once(
            lambda one=one: lifecycle.accept(one).status, lifecycle.sweep, lead=lead
        )
        upload.refresh_from_db()
        if upload.status == "completed":
            assert (accepted, swept["rejected"]) == ("completed", 0)
            assert (upload.due_at, heard["rejected", upload.pk]) == (None, 0)
        else:
            assert (upload.status, swept["rejected"]) == ("rejected", 1)
            assert isinstance(accepted, UploadError)  # or its object was gone already
            assert (heard["completed", upload.pk], heard["rejected", upload.pk]) == (0, 1)


def test_two_sweeps_ask_for_a_scan_once(
    alice: App, at_once: AtOnce, heard: Counter[tuple[str, Any]]
) -> None:
    uploads = [held(alice) for _ in range(10)]
    age(HOUR)
    swept = at_once(*[lifecycle.sweep] * 4)
    assert sum(each["reminded"] for each in swept) == 10
    assert [heard["held", upload.pk] for upload in uploads] == [2] * 10


def test_a_scan_that_is_asked_for_again_while_it_answers_changes_nothing(
    alice: App, at_once: AtOnce, heard: Counter[tuple[str, Any]]
) -> None:
    for lead in LEADS:
        upload = held(alice)
        age(HOUR, pk=upload.pk)
        one = another(upload)
        accepted, _ = at_once(
            lambda one=one: lifecycle.accept(one).status, lifecycle.sweep, lead=lead
        )
        assert accepted == "completed"
        upload.refresh_from_db()
        assert (upload.status, upload.due_at) == ("completed", None)
        assert heard["completed", upload.pk] == 1
        assert heard["held", upload.pk] in (1, 2)
