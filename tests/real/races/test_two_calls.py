"""Two calls that want different things: one of them wins, and nothing is half done."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import timezone

from s3direct_uploads import lifecycle
from s3direct_uploads.exceptions import NotPending, ObjectMissing
from s3direct_uploads.models import Upload
from tests.conftest import JPEG, App, Bucket

from .conftest import GRACE, LEADS, at_once, change, codes, sent, two_at_once, url_end

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]


def test_cancel_wins_over_confirm(
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
        assert upload.status in ("cancelled", "deleted"), "a cancelled upload stays cancelled"
        # A confirm that came first said 200, which was true then.
        assert confirmed.status_code in ((410,) if upload.status == "cancelled" else (200, 410))
        assert heard == {("completed" if upload.status == "deleted" else "cancelled", upload.pk): 1}
        heard.clear()
        assert upload.due_at == upload.key_closes_at, "its object is due"
        assert (upload.object_deleted_at, s3.read(upload)) == (None, JPEG)
        assert alice.confirm(id).status_code == 410
    assert ends["cancelled"] >= 2
    assert ends["deleted"] >= 2


def test_delete_of_an_old_upload_wins_over_confirm(
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


def test_delete_wins_over_a_second_confirm(
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
        assert s3.read(upload) == JPEG, "the key is still open"
    assert set(seen) == {200, 410}


def test_confirms_at_the_deadline_complete_or_expire_an_upload_once(
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
        # The deadline passes during the calls. The lead is that of the PUT.
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
        if upload.status == "pending":  # all confirms came before the deadline and before the bytes
            assert (seen, heard) == ({409}, {})
            assert alice.confirm(id).status_code == 200, "the bytes arrived in time"
            upload.refresh_from_db()
        ends[upload.status] += 1
        assert heard == {(upload.status, upload.pk): 1}, "one call settled it"
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


def test_an_upload_is_renewed_or_expired_and_never_both(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    heard: Counter[tuple[str, Any]],
) -> None:
    seen = Counter[tuple[int, str]]()
    one, two = crowd(2)
    # The milliseconds to the deadline when both begin.
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
            assert alice.confirm(id).status_code == 409, "a PUT with the renewed URL may be running"
            change(id, url_expires_at=now - GRACE, expires_at=now)
            assert alice.confirm(id).status_code == 410
            upload.refresh_from_db()
        else:
            assert (renewed.status_code, upload.status) == (410, "expired")
            assert upload.url_expires_at == now - GRACE, "nothing was signed"
        assert upload.status == "expired"
        assert heard == {("expired", upload.pk): 1}
        heard.clear()
        assert upload.due_at == upload.key_closes_at, "after the last URL has expired"
        assert s3.read(upload) is None
    assert (410, "expired") in seen
    assert (200, "pending") in seen


def test_an_expiry_that_read_an_old_row_does_not_undo_a_renewal(
    alice: App, s3: Bucket, heard: Counter[tuple[str, Any]]
) -> None:
    ends = Counter[str]()
    for lead in LEADS:
        id = alice.begin().json()["id"]
        past, ahead = timezone.now() - 2 * GRACE, timezone.now() + timedelta(hours=1)
        change(id, url_expires_at=past, expires_at=ahead)
        renewing, expiring = Upload.objects.get(pk=id), Upload.objects.get(pk=id)
        expiring.expires_at = past  # as if this process had a clock that is ahead

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


def test_renew_beside_confirm_does_not_undo_the_completion(
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
