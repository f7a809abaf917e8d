"""Many at once, on PostgreSQL and Ceph: in the end row, bucket and every answer say the same.

A race of two is run in rounds: in the first and the last one of them is through before the other
begins, and those between are as close as can be, so that either may win.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import cache, partial
from math import inf
from random import choice, random, randrange
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connections, transaction
from django.utils import timezone

from s3direct_uploads import lifecycle, signals
from s3direct_uploads.exceptions import (
    AlreadyAttached,
    BucketUnavailable,
    NotCompleted,
    NotPending,
    ObjectMissing,
)
from s3direct_uploads.lifecycle import settling
from s3direct_uploads.models import Upload, Usage
from s3direct_uploads.s3 import Bucket as OurBucket
from tests.conftest import FILMS, JPEG, LAST, App, Bucket, Connect, begin_last_part, row
from tests.http.test_idempotency import OTHER, SAME, begin_with
from tests.models import Photo

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]

PHOTOS = "/api/photos/"
GRACE = timedelta(hours=1)  # SWEEP_GRACE: a key closes that much after its last URL ends
Call = Callable[[], Any]
# How much sooner the first of two begins than the second, in seconds; inf: it is through by then.
LEADS = (-inf, *(n / 1000 for n in (-12, -8, -4, -2, -1, 0, 0, 1, 2, 4, 8, 12)), inf)


@cache
def threads(number: int) -> ThreadPoolExecutor:
    """They stay: django-storages makes each a client of its own, which takes longer than a race."""
    return ThreadPoolExecutor(number)


def at_once(calls: Sequence[Call], delays: Sequence[float] = ()) -> list[Any]:
    """What each returns, in a thread and on a database connection of its own."""
    barrier = threading.Barrier(len(calls), timeout=30)

    def run(number: int) -> Any:
        try:
            barrier.wait()
            if delays:
                time.sleep(delays[number])
            return calls[number]()
        finally:
            connections.close_all()

    return list(threads(len(calls)).map(run, range(len(calls))))


def two_at_once(one: Call, two: Call, lead: float) -> tuple[Any, Any]:
    if lead == inf:
        return one(), two()
    if lead == -inf:
        second = two()
        return one(), second
    first, second = at_once([one, two], [max(0.0, -lead), max(0.0, lead)])
    return first, second


@pytest.fixture
def crowd(alice: App) -> Callable[[int], list[App]]:
    """Alice at many windows: a client is for one thread only."""

    def crowd(size: int) -> list[App]:
        apps = [App(None) for _ in range(size)]
        for app in apps:
            app.client.cookies.load(alice.client.cookies.output(header=""))
        return apps

    return crowd


@pytest.fixture
def heard(connect: Connect) -> Counter[tuple[str, Any]]:
    """How often which signal was sent, by its name and the upload's id."""
    counter: Counter[tuple[str, Any]] = Counter()
    lock = threading.Lock()
    for name in ("completed", "rejected", "expired", "cancelled"):

        def listen(upload: Upload, name: str = name, **_: Any) -> None:
            with lock:
                counter[name, upload.pk] += 1

        connect(getattr(signals, f"upload_{name}"), listen)
    return counter


def sent(app: App) -> str:
    """Begun and sent, but not confirmed: its id."""
    begun = app.begin().json()
    assert app.send(begun["request"]) == 200
    id: str = begun["id"]
    return id


def change(id: str, **columns: Any) -> None:
    Upload.objects.filter(pk=id).update(**columns)


def codes(answers: Sequence[Any]) -> list[int]:
    return [answer.status_code for answer in answers]


def url_end(answer: Any) -> datetime:
    return url_end_of(answer.json()["request"]["url"])


def url_end_of(url: str) -> datetime:
    query = parse_qs(urlsplit(url).query)
    signed_at = datetime.strptime(query["X-Amz-Date"][0] + "+0000", "%Y%m%dT%H%M%SZ%z")
    return signed_at + timedelta(seconds=int(query["X-Amz-Expires"][0]))


# One upload, settled by many.


def test_a_hundred_confirms(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    heard: Counter[tuple[str, Any]],
) -> None:
    id = sent(alice)

    answers = at_once([partial(app.confirm, id) for app in crowd(100)])

    assert codes(answers) == [200] * 100
    assert len({answer.text for answer in answers}) == 1, "a hundred equal answers"
    upload = row(answers[0])
    assert heard == {("completed", upload.pk): 1}
    assert answers[0].json()["completed_at"] == alice.confirm(id).json()["completed_at"]
    assert (upload.status, upload.due_at) == ("completed", None)
    assert upload.announced_at is not None
    assert s3.read(upload) == JPEG


def test_fifty_confirms_of_what_is_rejected(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    heard: Counter[tuple[str, Any]],
) -> None:
    begun = alice.begin()
    s3.write(row(begun), b"short")

    answers = at_once([partial(app.confirm, begun.json()["id"]) for app in crowd(50)])

    assert codes(answers) == [422] * 50
    assert len({answer.text for answer in answers}) == 1
    upload = row(begun)
    assert heard == {("rejected", upload.pk): 1}
    assert (upload.status, upload.due_at) == ("rejected", upload.key_closes_at)
    assert s3.read(upload) == b"short"


def test_client_event_and_sweep_confirm_at_once(
    alice: App, s3: Bucket, heard: Counter[tuple[str, Any]]
) -> None:
    for _ in range(8):
        id = sent(alice)
        stale = [Upload.objects.get(pk=id) for _ in range(9)]
        causes = ["client", "event", "sweep"] * 3
        found = at_once(
            [
                partial(lifecycle.confirm, upload, cause=cause)
                for upload, cause in zip(stale, causes, strict=True)
            ]
        )
        upload = Upload.objects.get(pk=id)
        assert heard.pop(("completed", upload.pk)) == 1
        assert {(each.status, each.completed_at, each.etag) for each in found} == {
            ("completed", upload.completed_at, upload.etag)
        }
        assert (upload.due_at, s3.read(upload)) == (None, JPEG)
    assert not heard


def test_confirms_while_the_put_is_under_way(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    heard: Counter[tuple[str, Any]],
) -> None:
    body = bytes(1024**2)
    for _ in range(4):
        begun = alice.begin(size=len(body)).json()

        def confirm_often(app: App, id: str) -> list[Any]:
            answers: list[Any] = []
            while not answers or (answers[-1].status_code == 409 and len(answers) < 200):
                answers.append(app.confirm(id))
            return answers

        arrived, *confirmed = at_once(
            [
                partial(alice.send, begun["request"], body),
                *(partial(confirm_often, app, begun["id"]) for app in crowd(3)),
            ]
        )
        assert arrived == 200
        for answers in confirmed:
            assert set(codes(answers[:-1])) <= {409}, "half a file is none"
            assert answers[-1].status_code == 200
        upload = Upload.objects.get(pk=begun["id"])
        assert heard == {("completed", upload.pk): 1}
        heard.clear()
        assert s3.read(upload) == body


# Two that want different things.


def test_confirm_against_cancel(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    heard: Counter[tuple[str, Any]],
) -> None:
    ends = Counter[str]()
    one, two = crowd(2)
    for lead in LEADS * 2:
        id = sent(alice)

        confirmed, cancelled = two_at_once(partial(one.confirm, id), partial(two.delete, id), lead)

        upload = Upload.objects.get(pk=id)
        ends[upload.status] += 1
        assert cancelled.status_code == 204
        assert upload.status in ("cancelled", "deleted"), "what was given up stays so"
        # A confirm that came first was right when it answered.
        assert confirmed.status_code in ((410,) if upload.status == "cancelled" else (200, 410))
        assert heard == {("completed" if upload.status == "deleted" else "cancelled", upload.pk): 1}
        heard.clear()
        assert upload.due_at == upload.key_closes_at, "its object is due"
        assert (upload.object_deleted_at, s3.read(upload)) == (None, JPEG)
        assert alice.confirm(id).status_code == 410
    assert ends["cancelled"] >= 2
    assert ends["deleted"] >= 2


def test_confirm_against_delete_of_an_old_upload(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    heard: Counter[tuple[str, Any]],
) -> None:
    ends = Counter[str]()
    one, two = crowd(2)
    for lead in LEADS:
        id = sent(alice)
        change(id, url_expires_at=timezone.now() - timedelta(days=3))

        confirmed, deleted = two_at_once(partial(one.confirm, id), partial(two.delete, id), lead)

        upload = Upload.objects.get(pk=id)
        ends[upload.status] += 1
        assert deleted.status_code == 204
        assert heard == {("completed" if upload.status == "deleted" else "cancelled", upload.pk): 1}
        heard.clear()
        if upload.status == "deleted":
            assert confirmed.status_code in (200, 410)
            assert s3.read(upload) is None
            assert upload.object_deleted_at is not None
            assert upload.due_at == upload.object_deleted_at + timedelta(days=7)  # to be pruned
        else:
            assert (upload.status, confirmed.status_code) == ("cancelled", 410)
            assert (s3.read(upload), upload.due_at) == (JPEG, upload.key_closes_at)
        assert alice.get(f"{id}/url/").status_code == 409
    assert ends["cancelled"]
    assert ends["deleted"]


def test_a_second_confirm_against_delete(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    heard: Counter[tuple[str, Any]],
) -> None:
    seen = Counter[int]()
    one, two = crowd(2)
    for lead in LEADS:
        id = sent(alice)
        assert alice.confirm(id).status_code == 200

        confirmed, deleted = two_at_once(partial(one.confirm, id), partial(two.delete, id), lead)

        seen[confirmed.status_code] += 1
        assert deleted.status_code == 204
        upload = Upload.objects.get(pk=id)
        assert (upload.status, upload.due_at) == ("deleted", upload.key_closes_at)
        assert heard == {("completed", upload.pk): 1}
        heard.clear()
        assert s3.read(upload) == JPEG, "its key is open yet"
    assert set(seen) == {200, 410}


def test_confirms_against_the_deadline_and_a_late_put(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    heard: Counter[tuple[str, Any]],
) -> None:
    def sweep(id: str) -> Any:
        try:
            lifecycle.confirm(Upload.objects.get(pk=id), cause="sweep")
        except ObjectMissing:
            return SimpleNamespace(status_code=409)
        except NotPending:
            return SimpleNamespace(status_code=410)
        return SimpleNamespace(status_code=200)

    ends = Counter[str]()
    apps = crowd(3)
    for lead in LEADS * 2:
        begun = alice.begin().json()
        id, put = begun["id"], partial(alice.send, begun["request"])
        confirms = [partial(sweep, id), *(partial(app.confirm, id) for app in apps)]
        arrived = put() if lead == inf else None
        # It passes in the thick of them; the lead is the PUT's.
        deadline = timezone.now() + timedelta(milliseconds=15)
        change(id, expires_at=deadline, url_expires_at=deadline - GRACE)
        if abs(lead) == inf:
            time.sleep(0.02)
            confirmed = codes(at_once(confirms))
            arrived = arrived or put()
        else:
            delays = [max(0, -lead), max(0, lead), 0.005, 0.01, max(0.015, lead)]
            arrived, *answers = at_once([put, *confirms], delays)
            confirmed = codes(answers)

        upload = Upload.objects.get(pk=id)
        assert arrived == 200
        seen = set(confirmed)
        if upload.status == "pending":  # all came before the deadline and before the bytes
            assert (seen, heard) == ({409}, {})
            assert alice.confirm(id).status_code == 200, "which count if they are there now"
            upload.refresh_from_db()
        ends[upload.status] += 1
        assert heard == {(upload.status, upload.pk): 1}, "one of them settled it"
        heard.clear()
        if upload.status == "completed":
            assert seen <= {200, 409}
            assert upload.due_at is None
        else:
            assert upload.status == "expired"
            assert seen <= {410, 409}
            assert upload.due_at == upload.key_closes_at, "its object is due"
            assert alice.confirm(id).status_code == 410
        assert s3.read(upload) == JPEG
    assert ends["completed"] >= 2
    assert ends["expired"] >= 2


def test_renew_against_expire(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    heard: Counter[tuple[str, Any]],
) -> None:
    seen = Counter[tuple[int, str]]()
    one, two = crowd(2)
    # How far ahead the deadline is when both begin, in milliseconds.
    for ahead in (inf, 0, *range(4, 60, 4), 0, inf):
        id = alice.begin().json()["id"]
        now = timezone.now()
        far = timedelta(hours=1) if ahead == inf else timedelta(milliseconds=ahead)
        change(id, url_expires_at=now - GRACE, expires_at=now + far)

        def confirm(id: str = id, wait: float = ahead / 1000 - 0.003) -> Any:
            time.sleep(max(0, wait))
            return two.confirm(id)

        if ahead == inf:
            renewed = one.renew(id)
            change(id, expires_at=timezone.now())
            confirmed = two.confirm(id)
        else:
            renewed, confirmed = at_once([partial(one.renew, id), confirm])

        assert confirmed.status_code in (409, 410)
        upload = Upload.objects.get(pk=id)
        seen[renewed.status_code, upload.status] += 1
        if renewed.status_code == 200:
            assert upload.status == "pending"
            assert url_end(renewed) <= upload.url_expires_at + timedelta(seconds=1)
            assert alice.confirm(id).status_code == 409, "what it allowed may be under way"
            change(id, url_expires_at=now - GRACE, expires_at=now)
            assert alice.confirm(id).status_code == 410
            upload.refresh_from_db()
        else:
            assert (renewed.status_code, upload.status) == (410, "expired")
            assert upload.url_expires_at == now - GRACE, "nothing was signed"
        assert upload.status == "expired"
        assert heard == {("expired", upload.pk): 1}
        heard.clear()
        assert upload.due_at == upload.key_closes_at, "after the newest signature's end"
        assert s3.read(upload) is None
    assert (410, "expired") in seen
    assert (200, "pending") in seen


def test_an_expiry_that_read_before_a_renewal(
    alice: App, s3: Bucket, heard: Counter[tuple[str, Any]]
) -> None:
    ends = Counter[str]()
    for lead in LEADS:
        id = alice.begin().json()["id"]
        past, ahead = timezone.now() - 2 * GRACE, timezone.now() + timedelta(hours=1)
        change(id, url_expires_at=past, expires_at=ahead)
        renewing, expiring = Upload.objects.get(pk=id), Upload.objects.get(pk=id)
        expiring.expires_at = past  # as of a clock that is ahead of the other's

        def renew(upload: Upload = renewing) -> bool:
            try:
                return bool(lifecycle.renew(upload))
            except NotPending:
                return False

        def expire(upload: Upload = expiring) -> None:
            with pytest.raises((ObjectMissing, NotPending)):
                lifecycle.confirm(upload, cause="sweep")

        renewed, _ = two_at_once(renew, expire, lead)

        upload = Upload.objects.get(pk=id)
        ends[upload.status] += 1
        assert upload.status == ("pending" if renewed else "expired"), "never both"
        assert heard == ({} if renewed else {("expired", upload.pk): 1})
        heard.clear()
        assert (upload.url_expires_at == past) == (not renewed)
        assert s3.read(upload) is None
    assert set(ends) == {"pending", "expired"}


def test_renew_against_confirm(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    heard: Counter[tuple[str, Any]],
) -> None:
    seen = Counter[int]()
    one, two = crowd(2)
    for lead in LEADS:
        id = sent(alice)
        past = timezone.now() - timedelta(minutes=1)
        change(id, url_expires_at=past)

        confirmed, renewed = two_at_once(partial(one.confirm, id), partial(two.renew, id), lead)

        seen[renewed.status_code] += 1
        upload = Upload.objects.get(pk=id)
        assert (confirmed.status_code, upload.status, upload.due_at) == (200, "completed", None)
        assert upload.announced_at is not None
        assert heard == {("completed", upload.pk): 1}
        heard.clear()
        if renewed.status_code == 200:
            assert url_end(renewed) <= upload.url_expires_at + timedelta(seconds=1)
            assert alice.send(renewed.json()["request"], JPEG[::-1]) == 412
        else:
            assert (renewed.status_code, upload.url_expires_at) == (410, past)
        assert s3.read(upload) == JPEG
    assert set(seen) == {200, 410}


# Attached once, or deleted.


def attach(app: App, id: str) -> Any:
    return app.client.post(PHOTOS, {"image": id}, format="json")


def test_delete_against_attach(alice: App, s3: Bucket, crowd: Callable[[int], list[App]]) -> None:
    winners = Counter[str]()
    one, two = crowd(2)
    for lead in LEADS * 2:
        id = sent(alice)
        assert alice.confirm(id).status_code == 200
        change(id, url_expires_at=timezone.now() - timedelta(days=3))

        deleted, attached = two_at_once(partial(one.delete, id), partial(attach, two, id), lead)

        upload = Upload.objects.get(pk=id)
        photos = list(Photo.objects.all())
        if upload.status == "deleted":
            winners["delete"] += 1
            assert codes([deleted, attached]) == [204, 400]
            # Before it was found, or after; "" is what the database knew better.
            assert attached.data["image"][0].code == "not_completed"
            assert (photos, upload.attached_at, s3.read(upload)) == ([], None, None)
        else:
            winners["attach"] += 1
            assert codes([deleted, attached]) == [409, 201]
            assert deleted.json()["code"] == "already_attached"
            assert [photo.image.name for photo in photos] == [upload.name]
            assert upload.attached_at is not None
            assert s3.read(upload) == JPEG
        Photo.objects.all().delete()
    assert winners["delete"] >= 2
    assert winners["attach"] >= 2


@pytest.mark.parametrize("kept", [True, False])
def test_delete_waits_for_a_transaction_that_attaches(
    alice: App, s3: Bucket, crowd: Callable[[int], list[App]], kept: bool
) -> None:
    (one,) = crowd(1)
    for _ in range(3):
        id = sent(alice)
        assert alice.confirm(id).status_code == 200
        attached = threading.Event()

        def attach_slowly(id: str = id, attached: threading.Event = attached) -> None:
            with transaction.atomic():
                Photo.objects.create(image=Upload.objects.get(pk=id).attach())
                attached.set()
                time.sleep(0.1)
                transaction.set_rollback(not kept)

        def delete(id: str = id, attached: threading.Event = attached) -> int:
            attached.wait(10)
            status: int = one.delete(id).status_code
            return status

        _, deleted = at_once([attach_slowly, delete])

        upload = Upload.objects.get(pk=id)
        assert (deleted, upload.status) == ((409, "completed") if kept else (204, "deleted"))
        assert (upload.attached_at is not None) == kept
        assert Photo.objects.filter(image=upload.name).exists() == kept
        assert s3.read(upload) == JPEG


@pytest.mark.parametrize(("many", "rounds"), [(2, 12), (8, 6), (20, 4)])
def test_attached_by_many(
    alice: App, s3: Bucket, crowd: Callable[[int], list[App]], many: int, rounds: int
) -> None:
    apps = crowd(many)
    for _ in range(rounds):
        id = sent(alice)
        assert alice.confirm(id).status_code == 200

        answers = at_once([partial(attach, app, id) for app in apps])

        assert sorted(codes(answers)) == [201] + [400] * (many - 1)
        refused = [answer for answer in answers if answer.status_code == 400]
        assert {answer.data["image"][0].code for answer in refused} == {"already_attached"}
        upload = Upload.objects.get(pk=id)
        assert Photo.objects.get(image=upload.name).pk == max(Photo.objects.values_list("pk"))[0]
        assert upload.attached_at is not None
        assert s3.read(upload) == JPEG
    assert Photo.objects.count() == rounds


def test_attached_by_many_transactions(alice: App, s3: Bucket) -> None:
    id = sent(alice)
    assert alice.confirm(id).status_code == 200
    uploads = [Upload.objects.get(pk=id) for _ in range(20)]

    def claim(number: int) -> bool:
        try:
            with transaction.atomic():
                Photo.objects.create(title=str(number), image=uploads[number].attach())
                if number % 2 == 0:  # takes it, and gives it back
                    raise ZeroDivisionError
        except Exception:
            return False
        return True

    won = at_once([partial(claim, number) for number in range(20)])

    # All of those that would have kept it may have come while another had it.
    assert sum(won) == Photo.objects.count() <= 1
    upload = Upload.objects.get(pk=id)
    assert (upload.attached_at is not None) == any(won)
    assert (upload.status, s3.read(upload)) == ("completed", JPEG)


def test_attach_against_confirm(
    alice: App, s3: Bucket, crowd: Callable[[int], list[App]], heard: Counter[tuple[str, Any]]
) -> None:
    seen = Counter[int]()
    one, two = crowd(2)
    for lead in LEADS:
        id = sent(alice)
        confirmed, attached = two_at_once(partial(one.confirm, id), partial(attach, two, id), lead)
        seen[attached.status_code] += 1
        upload = Upload.objects.get(pk=id)
        assert (confirmed.status_code, upload.status, upload.due_at) == (200, "completed", None)
        assert (upload.attached_at is not None) == (attached.status_code == 201)
        assert Photo.objects.filter(image=upload.name).count() == (attached.status_code == 201)
        if attached.status_code == 400:
            assert attached.data["image"][0].code == "not_completed"
        assert heard == {("completed", upload.pk): 1}
        heard.clear()
        assert s3.read(upload) == JPEG
    assert set(seen) == {201, 400}


# One key, many begins; one URL, many PUTs.


def test_fifty_begins_with_one_idempotency_key(
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


def test_begins_with_one_idempotency_key_and_other_bodies(
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
def test_begins_with_one_idempotency_key_and_one_context(
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
def test_begins_with_one_idempotency_key_and_two_contexts(
    alice: App, s3: Bucket, crowd: Callable[[int], list[App]], kind: str
) -> None:
    pairs = zip(OTHER[kind], crowd(2), strict=True)
    answers = at_once([partial(begin_with, app, context) for context, app in pairs])
    assert sorted(codes(answers)) == [201, 409]
    assert {row(answer) for answer in answers} == {Upload.objects.get()}


@pytest.mark.parametrize(("many", "rounds"), [(2, 8), (8, 6)])
def test_puts_at_once_to_one_url(
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
        assert s3.read(upload) == bodies[arrived.index(200)], "one of them, and whole"
        assert (upload.status, heard) == ("completed", {("completed", upload.pk): 1})
        heard.clear()


def test_owners_at_once_do_not_meet(
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


def test_a_stale_row_is_never_attached(alice: App, s3: Bucket) -> None:
    """What a process read long ago: the row has moved on since."""
    id = sent(alice)
    assert alice.confirm(id).status_code == 200
    stale = [Upload.objects.get(pk=id) for _ in range(8)]
    assert alice.delete(id).status_code == 204

    def claim(upload: Upload) -> bool:
        with pytest.raises(NotCompleted):
            upload.attach()
        return upload.status == "deleted"

    assert all(at_once([partial(claim, upload) for upload in stale]))
    assert Upload.objects.get(pk=id).attached_at is None
    assert s3.read(stale[0]) == JPEG


# Quotas: of many at once as many pass as there is room for, and usage says what the rows say.


@pytest.fixture
def limit(settings: Any) -> Callable[..., None]:
    """Set limits in photos and films, where there are none."""

    def limit(**limits: int) -> None:
        photos = {"MAX_SIZE": 1024, "CONTENT_TYPES": ["image/*"], **limits}
        both = {"photos": photos, "films": {**FILMS, **limits}}
        settings.S3DIRECT_UPLOADS = {"DESTINATIONS": both}

    return limit


def counted(destination: str = "photos") -> tuple[int, int]:
    """Uploads pending and bytes in all, as the rows say."""
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
def test_fifty_begins_for_the_last_ten_places(
    alice: App,
    crowd: Callable[[int], list[App]],
    limit: Callable[..., None],
    before: int,
    key: str,
    each: int,
    refused: int,
) -> None:
    for _ in range(before):
        alice.begin()  # without a limit yet: the first of the fifty counts them
    limit(**{key: (before + 10) * each})

    answers = at_once([app.begin for app in crowd(50)])

    assert sorted(codes(answers)) == [201] * 10 + [refused] * 40
    left = {
        each.json()["errors"][0]["params"]["left"] for each in answers if each.status_code != 201
    }
    assert left == {0}
    assert Upload.objects.count() == before + 10
    assert used(alice) == counted() == (before + 10, (before + 10) * len(JPEG))
    # And for the one place that is free again, with what is taken by repeating.
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


def test_everything_at_once_and_usage_says_what_the_rows_say(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    limit: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A deadlock would be a 500, which the test's client raises."""
    limit(MAX_PENDING=6, MAX_TOTAL_SIZE=40 * 1024**2)
    create = OurBucket.create_multipart

    def fail_often(*args: Any, **kwargs: Any) -> str:
        if random() < 0.6:
            raise BucketUnavailable("S3 is away.")
        return create(*args, **kwargs)

    monkeypatch.setattr(OurBucket, "create_multipart", fail_often)
    seen = Counter[tuple[str, int]]()

    def one_of_mine() -> str:
        pks = Upload.objects.order_by("-id").values_list("pk", flat=True)[:8]
        return str(choice([*pks, uuid4()]))

    def age() -> None:
        past = timezone.now() - 2 * GRACE
        change(one_of_mine(), url_expires_at=past, due_at=past)

    def delete_row() -> None:
        Upload.objects.filter(pk=one_of_mine()).exclude(status="pending").delete()

    def act(app: App) -> None:
        key = {"Idempotency-Key": str(randrange(4)) + str(len(seen))}
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

    at_once([partial(act, app) for app in crowd(10)])

    for destination in ("photos", "films"):
        assert used(alice, destination) == counted(destination)
        assert not any(corrected for _, corrected in lifecycle.recount(destination))
    assert not [status for _, status in seen if status >= 500 and status != 503]
    for each in (("begin", 201), ("begin", 429), ("cancel", 204), ("film", 503), ("confirm", 409)):
        assert seen[each], (each, seen)


def test_a_begin_that_fails_while_it_is_repeated(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    limit: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One deletes the row whose key another is about to insert; both change the same usage."""
    limit(MAX_PENDING=50)

    def fail(*_: Any, **__: Any) -> str:
        raise BucketUnavailable("S3 is away.")

    monkeypatch.setattr(OurBucket, "create_multipart", fail)

    def begin_often(app: App) -> set[int]:
        return {app.begin_film({"Idempotency-Key": "one"}).status_code for _ in range(15)}

    seen = at_once([partial(begin_often, app) for app in crowd(8)])

    assert seen == [{503}] * 8
    # A row may be left, which another begin had in hand as the first gave up: it is counted.
    assert used(alice, "films") == counted("films")
    assert used(alice, "films")[0] == Upload.objects.count() <= 1


def test_an_owner_is_deleted_while_its_uploads_are_cancelled(
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


# In parts: one process at a time creates and completes.


def sent_in_parts(app: App) -> Upload:
    """As ``sent``, of one small part."""
    upload, part = begin_last_part(app)
    assert app.send(part, LAST) == 200
    return upload


@pytest.mark.usefixtures("films")
def test_twenty_confirms_complete_it_once(
    alice: App,
    s3: Bucket,
    s3_calls: list[str],
    crowd: Callable[[int], list[App]],
    heard: Counter[tuple[str, Any]],
) -> None:
    seen = Counter[int]()
    apps = crowd(20)
    for _ in range(6):
        upload = sent_in_parts(alice)
        s3_calls.clear()

        answers = at_once([partial(app.confirm, str(upload.pk)) for app in apps])

        seen.update(codes(answers))
        assert s3_calls.count("CompleteMultipartUpload") == 1
        again = [app.confirm(str(upload.pk)) for app in apps]
        assert codes(again) == [200] * 20
        assert s3_calls.count("CompleteMultipartUpload") == 1
        assert heard == {("completed", upload.pk): 1}
        heard.clear()
        upload.refresh_from_db()
        assert (upload.status, upload.busy_until, upload.due_at) == ("completed", None, None)
        assert s3.read(upload) == LAST
        assert s3.open_multiparts(upload) == []
    assert set(seen) == {200, 202}, "done, or another is at it"


@pytest.mark.usefixtures("films")
def test_client_event_and_sweep_complete_it_once(
    alice: App, s3: Bucket, s3_calls: list[str], heard: Counter[tuple[str, Any]]
) -> None:
    for _ in range(6):
        upload = sent_in_parts(alice)
        stale = [Upload.objects.get(pk=upload.pk) for _ in range(9)]
        s3_calls.clear()
        found = at_once(
            [
                partial(lifecycle.confirm, each, cause=cause)
                for each, cause in zip(stale, ["client", "event", "sweep"] * 3, strict=True)
            ]
        )
        assert s3_calls.count("CompleteMultipartUpload") == 1
        assert heard.pop(("completed", upload.pk)) == 1
        assert {each.status for each in found} <= {"completed", "pending"}
        assert {lifecycle.confirm(each).status for each in found} == {"completed"}
        assert s3.read(upload) == LAST
    assert not heard


@pytest.mark.usefixtures("films")
def test_confirm_against_cancel_in_parts(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    heard: Counter[tuple[str, Any]],
) -> None:
    ends = Counter[tuple[str, int]]()
    one, two = crowd(2)
    for lead in (*LEADS, *(n / 1000 for n in range(2, 44, 3))):
        upload = sent_in_parts(alice)
        id = str(upload.pk)

        confirmed, cancelled = two_at_once(partial(one.confirm, id), partial(two.delete, id), lead)

        upload.refresh_from_db()
        ends[upload.status, confirmed.status_code] += 1
        assert cancelled.status_code == 204
        assert upload.status in ("cancelled", "deleted"), "what was given up stays so"
        if upload.status == "deleted":
            assert confirmed.status_code in (200, 410)
            assert s3.read(upload) == LAST
        else:
            # 503 as S3 said that it was at it already, which it says of what is aborted as well.
            assert confirmed.status_code in (410, 503)
            assert s3.read(upload) in (None, LAST)
        assert heard == {("completed" if upload.status == "deleted" else "cancelled", upload.pk): 1}
        heard.clear()
        assert (upload.busy_until, upload.due_at) == (None, upload.key_closes_at)
        assert s3.open_multiparts(upload) == []
        assert alice.confirm(id).status_code == 410
    assert ("deleted", 200) in ends
    assert ("cancelled", 410) in ends


@pytest.mark.usefixtures("films")
@pytest.mark.parametrize(("many", "rounds"), [(2, 10), (8, 5)])
def test_begins_in_parts_with_one_idempotency_key(
    alice: App,
    s3: Bucket,
    s3_calls: list[str],
    crowd: Callable[[int], list[App]],
    many: int,
    rounds: int,
) -> None:
    seen = Counter[int]()
    apps = crowd(many)
    for number in range(rounds):
        key = {"Idempotency-Key": str(number)}
        s3_calls.clear()

        answers = at_once([partial(app.begin_film, headers=key) for app in apps])

        seen.update(codes(answers))
        assert set(codes(answers)) <= {201, 503}, "503: another is about to create it"
        assert s3_calls == ["CreateMultipartUpload"]
        upload = Upload.objects.get(idempotency_key=str(number))
        again = [app.begin_film(headers=key) for app in apps]
        assert codes(again) == [201] * many
        told = [each for each in (*answers, *again) if each.status_code == 201]
        assert {each.json()["id"] for each in told} == {str(upload.pk)}
        ids = {upload_id(part) for each in told for part in each.json()["multipart"]["parts"]}
        assert ids == {upload.multipart_upload_id}
        assert (upload.status, upload.busy_until) == ("pending", None)
        assert s3.open_multiparts(upload) == [upload.multipart_upload_id]
    assert seen[201] >= rounds


def upload_id(part: dict[str, Any]) -> str:
    id: str = parse_qs(urlsplit(part["url"]).query)["uploadId"][0]
    return id


@pytest.mark.usefixtures("films")
def test_a_lost_create_is_repeated_once(
    alice: App, s3: Bucket, s3_calls: list[str], crowd: Callable[[int], list[App]]
) -> None:
    apps = crowd(8)
    for number in range(5):
        key = {"Idempotency-Key": str(number)}
        id = alice.begin_film(headers=key).json()["id"]
        change(id, multipart_upload_id="")  # as if its answer had been lost
        calls: list[Call] = []
        for app in apps[::4]:
            calls += [partial(app.begin_film, headers=key), partial(app.renew, id)]
            calls += [partial(app.sign_parts, id, [1, 2]), partial(app.parts, id)]
        s3_calls.clear()

        answers = at_once(calls)

        assert set(codes(answers)) <= {200, 201, 503}
        assert s3_calls.count("CreateMultipartUpload") == 1
        upload = Upload.objects.get(pk=id)
        assert (upload.status, upload.busy_until) == ("pending", None)
        assert s3.open_multiparts(upload) == [upload.multipart_upload_id], "the stray is aborted"
        assert codes([call() for call in calls]) == [201, 200, 200, 200] * 2


@pytest.mark.usefixtures("films")
def test_sign_parts_against_cancel(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    heard: Counter[tuple[str, Any]],
) -> None:
    seen = Counter[int]()
    one, two = crowd(2)
    for lead in LEADS:
        upload, _ = begin_last_part(alice)
        id = str(upload.pk)
        past = timezone.now() - timedelta(minutes=1)
        change(id, url_expires_at=past)

        signed, cancelled = two_at_once(
            partial(one.sign_parts, id, [1]), partial(two.delete, id), lead
        )

        seen[signed.status_code] += 1
        upload.refresh_from_db()
        assert (cancelled.status_code, upload.status) == (204, "cancelled")
        assert heard == {("cancelled", upload.pk): 1}
        heard.clear()
        assert upload.due_at == upload.key_closes_at, "after the newest signature's end"
        if signed.status_code == 200:
            [part] = signed.json()["parts"]
            assert url_end_of(part["url"]) <= upload.url_expires_at + timedelta(seconds=1)
            assert alice.send({"method": "PUT", **part}, LAST) == 404
        else:
            assert (signed.status_code, upload.url_expires_at) == (410, past)
        assert s3.open_multiparts(upload) == []
        assert s3.read(upload) is None
    assert set(seen) == {200, 410}


@pytest.mark.usefixtures("films")
def test_confirm_against_a_part_that_is_sent_again(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    heard: Counter[tuple[str, Any]],
) -> None:
    ends = Counter[tuple[int, int]]()
    (one,) = crowd(1)
    other = LAST[::-1]
    for lead in LEADS * 2:
        upload, part = begin_last_part(alice)
        id = str(upload.pk)
        assert alice.send(part, LAST) == 200

        confirmed, arrived = two_at_once(
            partial(one.confirm, id), partial(alice.send, part, other), lead
        )

        ends[confirmed.status_code, arrived] += 1
        assert confirmed.status_code in (200, 409)
        assert alice.confirm(id).status_code == 200
        upload.refresh_from_db()
        assert (upload.status, upload.busy_until) == ("completed", None)
        assert heard == {("completed", upload.pk): 1}
        heard.clear()
        assert s3.read(upload) in (LAST, other), "one of them, and whole"
        assert s3.open_multiparts(upload) == []
    assert ends[200, 404], "after it was completed"
    assert ends[200, 200], "and before"


@pytest.mark.usefixtures("films")
def test_confirms_past_the_deadline_in_parts(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    heard: Counter[tuple[str, Any]],
) -> None:
    """The last part comes as it expires: it is put together, or all of it is given up."""
    ends = Counter[str]()
    apps = crowd(3)
    for lead in LEADS:
        upload, part = begin_last_part(alice)
        id, put = str(upload.pk), partial(alice.send, part, LAST)
        past = timezone.now() - 2 * GRACE
        change(id, expires_at=past, url_expires_at=past)
        confirms = [partial(app.confirm, id) for app in apps]
        if lead == inf:
            put()
        if abs(lead) == inf:
            answers = at_once(confirms)
        else:
            _, *answers = at_once([put, *confirms], [max(0, -lead), *[max(0, lead)] * 3])

        upload.refresh_from_db()
        ends[upload.status] += 1
        assert heard == {(upload.status, upload.pk): 1}, "one of them settled it"
        heard.clear()
        # 409 who came before the part, 202 while another looked.
        if upload.status == "completed":
            assert set(codes(answers)) <= {200, 202, 409}
            assert s3.read(upload) == LAST
        else:
            assert upload.status == "expired"
            assert set(codes(answers)) <= {410, 202, 409}
            assert (upload.due_at, s3.read(upload)) == (upload.key_closes_at, None)
        assert (upload.busy_until, s3.open_multiparts(upload)) == (None, [])
        assert alice.confirm(id).status_code == (200 if upload.status == "completed" else 410)
    assert set(ends) == {"completed", "expired"}


# A model's file is given up.


def test_releases_beside_sweeps_and_an_attach(alice: App, s3: Bucket) -> None:
    """Two requests that delete one photo, a third that would use its file, and the sweep."""
    for _ in range(30):
        upload = row(alice.confirm(sent(alice)))
        upload.attach()
        copies = [Upload.objects.get(pk=upload.pk) for _ in range(3)]

        def attach(copy: Upload = copies[2]) -> str:
            try:
                return copy.attach()
            except (AlreadyAttached, NotCompleted) as error:
                return error.code

        calls: list[Call] = [copies[0].release, copies[1].release, lifecycle.sweep, attach]
        *_, swept, refused = at_once(calls)
        assert refused in ("already_attached", "not_completed")
        assert not +swept
        upload.refresh_from_db()
        assert (upload.status, upload.attached_at) == ("deleted", None)
        assert upload.due_at == upload.key_closes_at
        assert s3.read(upload) == JPEG, "its key is open yet"
