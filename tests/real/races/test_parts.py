"""A file in parts: one process at a time creates or completes its multipart upload."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from math import inf
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.utils import timezone

from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload
from tests.conftest import LAST, App, Bucket, begin_last_part

from .conftest import GRACE, LEADS, Call, at_once, change, codes, two_at_once, url_end_of

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]


def sent_in_parts(app: App) -> Upload:
    """An upload of one small part, which is sent but not confirmed."""
    upload, part = begin_last_part(app)
    assert app.send(part, LAST) == 200
    return upload


@pytest.mark.usefixtures("films")
def test_twenty_confirms_complete_the_parts_once(
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
    assert set(seen) == {200, 202}, "200: completed. 202: another process is completing it."


@pytest.mark.usefixtures("films")
def test_client_event_and_sweep_complete_the_parts_once(
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
def test_cancel_wins_over_confirm_of_parts(
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
        assert upload.status in ("cancelled", "deleted"), "a cancelled upload stays cancelled"
        if upload.status == "deleted":
            assert confirmed.status_code in (200, 410)
            assert s3.read(upload) == LAST
        else:
            # 503: S3 said that another Complete is running. It says so of an aborted upload too.
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
def test_begins_with_one_idempotency_key_create_one_multipart_upload(
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
        change(id, multipart_upload_id="")  # as if the answer of S3 was lost
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
        assert s3.open_multiparts(upload) == [upload.multipart_upload_id], "the other was aborted"
        assert codes([call() for call in calls]) == [201, 200, 200, 200] * 2


@pytest.mark.usefixtures("films")
def test_no_part_is_stored_after_cancel(
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
        assert upload.due_at == upload.key_closes_at, "after the last URL has expired"
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
def test_a_part_that_is_sent_again_beside_confirm_is_stored_whole_or_refused(
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
        assert s3.read(upload) in (LAST, other), "one body, and all of it"
        assert s3.open_multiparts(upload) == []
    assert ends[200, 404], "the part came after Complete"
    assert ends[200, 200], "the part came before"


@pytest.mark.usefixtures("films")
def test_confirms_past_the_deadline_complete_or_expire_the_parts_once(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    heard: Counter[tuple[str, Any]],
) -> None:
    """The last part arrives at the deadline: the upload is completed or it expires."""
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
        assert heard == {(upload.status, upload.pk): 1}, "one call settled it"
        heard.clear()
        # 409: the call came before the part. 202: another call was completing it.
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
