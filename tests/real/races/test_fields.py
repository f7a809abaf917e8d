"""Rows that take, share and give up files at once, on PostgreSQL and Ceph.

Each race is run in rounds, so that either side may come first. In the end, what the rows name is
what is attached, what is in the bucket, and what its owner's usage counts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection, connections, transaction

from s3direct_uploads import lifecycle
from s3direct_uploads.exceptions import AlreadyAttached, NotCompleted
from s3direct_uploads.models import Upload, Usage
from tests.conftest import DAY, HOUR, JPEG, App, Bucket, age, row
from tests.field_models import Snap

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]

LEADS = (-0.05, -0.004, -0.002, -0.001, 0.0, 0.0, 0.001, 0.002, 0.004, 0.05)  # seconds
Call = Callable[[], Any]


@pytest.fixture(autouse=True)
def counted(settings: Any) -> None:
    """What is uploaded counts against a quota."""
    ours = settings.S3DIRECT_UPLOADS
    photos = {**ours["DESTINATIONS"]["photos"], "MAX_TOTAL_SIZE": 1024**2}
    settings.S3DIRECT_UPLOADS = {**ours, "DESTINATIONS": {**ours["DESTINATIONS"], "photos": photos}}


def at_once(one: Call, two: Call, lead: float = 0.0) -> list[Any]:
    """What both return or raise, each on its own connection. ``one`` begins ``lead`` sooner."""
    barrier = threading.Barrier(2, timeout=30)

    def run(call: Call, delay: float) -> Any:
        try:
            barrier.wait()
            time.sleep(max(0.0, delay))
            return call()
        except (AlreadyAttached, NotCompleted, IntegrityError, Snap.DoesNotExist) as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(run, one, -lead), pool.submit(run, two, lead)]
        return [future.result(60) for future in futures]


def uploads(app: App, count: int) -> list[Upload]:
    return [row(app.upload()) for _ in range(count)]


def assert_in_step(s3: Bucket) -> None:
    """What the rows name is attached; the rest goes, with its object and its quota."""
    names = set(Snap.objects.exclude(image="").values_list("image", flat=True))
    attached = Upload.objects.filter(attached_to="tests.Snap.image")
    assert {each.name for each in attached} == names
    assert set(attached.values_list("status", flat=True)) <= {"completed"}
    for tombstone in Upload.objects.filter(status="deleted"):
        assert (tombstone.attached_at, tombstone.attached_to) == (None, "")
    age(3 * HOUR)
    lifecycle.sweep()
    for upload in Upload.objects.exclude(status="completed"):
        assert s3.read(upload) is None
    for upload in attached:
        assert s3.read(upload) == JPEG
    alive = Upload.objects.filter(status="completed").count()
    assert Usage.objects.get().total_size == alive * len(JPEG)


def replace(pk: int, upload: Upload) -> Call:
    snap = Snap.objects.get(pk=pk)

    def save() -> str:
        snap.image = upload
        snap.save()
        return "replaced"

    return save


def delete(pk: int) -> Call:
    snap = Snap.objects.get(pk=pk)
    return lambda: snap.delete()[0] and "deleted"


def slowly(call: Call) -> Call:
    """In a transaction that is still open for a while after it."""

    def run() -> Any:
        with transaction.atomic():
            answer = call()
            time.sleep(0.01)
        return answer

    return run


@pytest.mark.parametrize("locked", [False, True], ids=["autocommit", "one transaction"])
def test_two_replaces_at_once(alice: App, s3: Bucket, locked: bool) -> None:
    for number, lead in enumerate(LEADS):
        old, one, two = uploads(alice, 3)
        snap = Snap.objects.create(title=str(number), image=old)
        first, second = replace(snap.pk, one), replace(snap.pk, two)
        if locked:
            first, second = slowly(first), slowly(second)
        assert at_once(first, second, lead) == ["replaced"] * 2
        now = Snap.objects.get(pk=snap.pk).image.name
        [winner, loser] = sorted((one, two), key=lambda each: each.name != now)
        for upload in (old, winner, loser):
            upload.refresh_from_db()
        assert now == winner.name
        assert [each.status for each in (old, winner, loser)] == ["deleted", "completed", "deleted"]
    assert_in_step(s3)


def test_a_replace_against_a_delete(alice: App, s3: Bucket) -> None:
    left = 0
    for number, lead in enumerate(LEADS):
        old, new = uploads(alice, 2)
        snap = Snap.objects.create(title=str(number), image=old)
        assert at_once(replace(snap.pk, new), delete(snap.pk), lead) == ["replaced", "deleted"]
        old.refresh_from_db()
        assert old.status == "deleted"
        # As in Django: to save a row that somebody deleted inserts it again.
        left += Snap.objects.filter(pk=snap.pk).exists()
    assert 0 < left < len(LEADS), "either came first"
    assert_in_step(s3)


def test_a_copy_against_the_deletion_of_its_original(alice: App, s3: Bucket) -> None:
    kept = 0
    for number, lead in enumerate(LEADS):
        [upload] = uploads(alice, 1)
        snap = Snap.objects.create(title=str(number), image=upload)
        copied = Snap(title=f"Copy {number}", image=snap.image.name)
        answers = at_once(copied.save, delete(snap.pk), lead)
        upload.refresh_from_db()
        if isinstance(answers[0], NotCompleted):
            assert upload.status == "deleted"
        else:
            kept += 1
            assert (upload.status, answers) == ("completed", [None, "deleted"])
    assert 0 < kept < len(LEADS), "either came first"
    assert_in_step(s3)


def test_a_transaction_that_does_not_see_a_copy_cannot_release_its_file(
    alice: App, s3: Bucket
) -> None:
    """With REPEATABLE READ it sees the rows as they were when it began."""
    [upload] = uploads(alice, 1)
    snap = Snap.objects.create(title="Original", image=upload)
    copied = Snap(title="Copy", image=snap.image.name)

    def copy_and_leave() -> None:
        copied.save()
        connections.close_all()

    def delete_with_an_old_snapshot() -> None:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            assert Snap.objects.count() == 1
            with ThreadPoolExecutor(1) as pool:
                pool.submit(copy_and_leave).result(30)
            assert Snap.objects.count() == 1, "and the copy is not among them"
            Snap.objects.get().delete()

    with pytest.raises(OperationalError, match="could not serialize"):
        delete_with_an_old_snapshot()
    assert Snap.objects.count() == 2
    Snap.objects.get(title="Original").delete()
    assert_in_step(s3)


def test_two_rows_of_one_file_that_are_deleted_at_once(alice: App, s3: Bucket) -> None:
    for number, lead in enumerate(LEADS):
        [upload] = uploads(alice, 1)
        one = Snap.objects.create(title=str(number), image=upload)
        two = Snap.objects.create(title=f"Copy {number}", image=upload.name)
        both = slowly(delete(one.pk)), slowly(delete(two.pk))
        assert at_once(*both, lead=lead) == ["deleted"] * 2
        upload.refresh_from_db()
        assert upload.status == "deleted", "exactly one of the two was the last"
    assert_in_step(s3)


def test_an_attach_against_a_release(alice: App, s3: Bucket) -> None:
    for number, lead in enumerate(LEADS):
        [upload] = uploads(alice, 1)
        snap = Snap.objects.create(title=str(number), image=upload)
        other = Snap(title=f"Other {number}", image=Upload.objects.get(pk=upload.pk))
        refused, _ = at_once(other.save, delete(snap.pk), lead)
        assert isinstance(refused, AlreadyAttached | NotCompleted)
    assert not Snap.objects.exists()
    assert_in_step(s3)


def test_one_upload_for_two_rows(alice: App, s3: Bucket) -> None:
    for number, lead in enumerate(LEADS):
        [upload] = uploads(alice, 1)
        snaps = [
            Snap(title=f"{which} {number}", image=Upload.objects.get(pk=upload.pk))
            for which in ("one", "two")
        ]
        answers = at_once(snaps[0].save, snaps[1].save, lead)
        [refused] = [each for each in answers if each is not None]
        assert isinstance(refused, AlreadyAttached)
    assert Snap.objects.count() == len(LEADS)
    assert_in_step(s3)


def test_two_inserts_of_which_one_fails(alice: App, s3: Bucket) -> None:
    for number, lead in enumerate(LEADS):
        one, two = uploads(alice, 2)
        snaps = [Snap(title=str(number), image=each) for each in (one, two)]
        answers = at_once(snaps[0].save, snaps[1].save, lead)
        assert sorted(type(each).__name__ for each in answers) == ["IntegrityError", "NoneType"]
        for upload in (one, two):
            upload.refresh_from_db()
        assert (one.attached_at is None) is (two.attached_at is not None)
    assert_in_step(s3)


def test_a_sweep_against_a_replace_that_is_rolled_back(alice: App, s3: Bucket) -> None:
    """Their keys have closed, so that a sweep deletes what is released at once."""
    for number, lead in enumerate(LEADS):
        old, new = uploads(alice, 2)
        snap = Snap.objects.create(title=str(number), image=old)
        age(3 * HOUR)
        save = replace(snap.pk, new)

        def replace_and_fail(save: Call = save) -> None:
            with transaction.atomic():
                save()
                time.sleep(0.01)
                transaction.set_rollback(True)

        at_once(replace_and_fail, lifecycle.sweep, lead)
        assert (s3.read(old), Snap.objects.get(pk=snap.pk).image.name) == (JPEG, old.name)
        at_once(save, lifecycle.sweep, lead)
        lifecycle.sweep()
        assert (s3.read(old), s3.read(new)) == (None, JPEG)
    assert_in_step(s3)


def test_reconcile_against_a_row_that_names_the_file_again(alice: App, s3: Bucket) -> None:
    for number, lead in enumerate(LEADS):
        [upload] = uploads(alice, 1)
        Snap.objects.create(title=str(number), image=upload)
        Snap.objects.filter(title=str(number)).update(image="")
        age(2 * DAY, pk=upload.pk)
        again = Snap(title=f"Again {number}", image=upload.name)
        answer, found = at_once(again.save, lambda: list(lifecycle.unnamed(delete=True)), lead)
        upload.refresh_from_db()
        named = answer is None
        assert (upload.status == "completed") is named
        assert [each.released for each in found] in ([[], [False]] if named else [[True]])
    assert_in_step(s3)
