"""Many uploads are confirmed by one call. Each has the answer that its own confirm would give."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError
from django.http import Http404
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework import exceptions

from s3direct_uploads import lifecycle, signals
from s3direct_uploads.exceptions import ObjectMismatch
from s3direct_uploads.lifecycle import batches
from s3direct_uploads.lifecycle.settling import tell
from s3direct_uploads.models import Upload, Usage
from s3direct_uploads.s3 import Bucket as OurBucket
from s3direct_uploads.views import UploadViewSet
from tests.conftest import (
    JPEG,
    App,
    Bucket,
    Connect,
    assert_error,
    past_the_deadline,
    row,
    sweep,
)
from tests.host_app import Albums
from tests.http.conftest import NO_SUCH_ID, begin_in_parts
from tests.http.test_batch import Limit, codes, limit, results, statements

__all__ = ["limit"]  # the fixture
MINUTE = timedelta(minutes=1)
BATCHES = batches.__name__


def sent(app: App, s3: Bucket, count: int = 1, **declaration: Any) -> list[str]:
    """The ids of uploads whose objects are in S3."""
    begun = results(app.begin_batch(*[declaration] * count))
    for each in begun:
        s3.write(Upload.objects.get(pk=each["upload"]["id"]), JPEG)
    return [each["upload"]["id"] for each in begun]


@pytest.fixture
def heard(connect: Connect) -> list[tuple[str, str, str]]:
    """Each announcement: the upload, its status, and who noticed it."""
    said: list[tuple[str, str, str]] = []

    def listen(upload: Upload, cause: str, **_: Any) -> None:
        assert not lifecycle.in_transaction()
        said.append((str(upload.pk), Upload.objects.get(pk=upload.pk).status, cause))

    connect(signals.upload_completed, listen)
    return said


def test_each_is_answered_as_it_would_be_alone(
    alice: App, bob: App, s3: Bucket, settings: Any
) -> None:
    photos = settings.S3DIRECT_UPLOADS["DESTINATIONS"]["photos"]
    held = {"held": {**photos, "HOLD": True}}
    settings.S3DIRECT_UPLOADS = {
        "DESTINATIONS": {**settings.S3DIRECT_UPLOADS["DESTINATIONS"], **held}
    }

    def made() -> dict[str, str]:
        wrong = alice.begin()
        s3.write(row(wrong), b"short")
        cancelled = alice.begin().json()["id"]
        alice.delete(cancelled)
        return {
            "sent": sent(alice, s3)[0],
            "not sent": alice.begin().json()["id"],
            "wrong": wrong.json()["id"],
            "cancelled": cancelled,
            "held": sent(alice, s3, destination="held")[0],
            "theirs": sent(bob, s3)[0],
            "none": NO_SUCH_ID,
            "no id": "nonsense",
            "completed": alice.upload().json()["id"],
        }

    one, many = made(), made()
    alone = {what: alice.confirm(id) for what, id in one.items()}
    together = dict(zip(many, results(alice.confirm_batch(many.values())), strict=True))

    def plain(what: str, body: Any) -> Any:
        """Without what differs between two uploads."""
        body = {**body, **body.get("upload", {})}
        return {
            name: value
            for name, value in body.items()
            if name not in ("id", "form_value", "upload") and not name.endswith("_at")
        }

    for what, answer in alone.items():
        result = together[what]
        assert result["status"] == answer.status_code, what
        assert plain(what, result["upload"] or result["error"]) == plain(what, answer.json()), what
    assert [each["status"] for each in together.values()] == [
        *(200, 409, 422, 410, 202),
        *(404, 404, 404, 200),
    ]
    rows = {str(each.pk): each.status for each in Upload.objects.all()}
    assert [rows.get(id) for id in many.values()] == [
        *("completed", "pending", "rejected", "cancelled", "verifying"),
        *("pending", None, None, "completed"),
    ]


def test_a_hundred_are_completed_by_one_update(
    alice: App, s3: Bucket, s3_calls: list[str], in_transaction: list[bool]
) -> None:
    ids = sent(alice, s3, 100)
    with CaptureQueriesContext(connection) as captured:
        answer = alice.confirm_batch(ids)
    assert statements(captured) == ["SELECT upload", "UPDATE upload"]  # nobody listens
    assert s3_calls == ["HeadObject"] * 100
    assert in_transaction == [False] * 100
    assert codes(answer) == [(200, None)] * 100
    assert [each["upload"]["id"] for each in results(answer)] == ids
    for upload in Upload.objects.all():
        assert (upload.status, upload.due_at, upload.busy_until) == ("completed", None, None)
        assert upload.announced_at is not None
        assert upload.etag == s3.client.head_object(Bucket=s3.name, Key=upload.key)["ETag"]

    again = alice.confirm_batch(ids)
    assert again.json() == answer.json()
    assert len(s3_calls) == 100


def test_the_quota_follows_by_one_update(alice: App, s3: Bucket, limit: Limit) -> None:
    limit(MAX_PENDING=10)
    ids = sent(alice, s3, 5)
    with CaptureQueriesContext(connection) as captured:
        assert codes(alice.confirm_batch(ids[:4])) == [(200, None)] * 4
    updates = [each for each in statements(captured) if each.startswith("UPDATE")]
    assert updates == ["UPDATE upload", "UPDATE usage"]
    usage = Usage.objects.get()
    assert (usage.pending, usage.total_size) == (1, 5 * len(JPEG))


def test_each_is_announced_once(alice: App, s3: Bucket, heard: list[tuple[str, str, str]]) -> None:
    ids = sent(alice, s3, 3)
    with CaptureQueriesContext(connection) as captured:
        answer = alice.confirm_batch([ids[0], ids[1], ids[0], ids[2], ids[0].upper()])
    # The second one says that they are announced.
    assert statements(captured).count("UPDATE upload") == 2
    assert codes(answer) == [(200, None)] * 5
    assert results(answer)[0] == results(answer)[2] == results(answer)[4]
    assert sorted(heard) == sorted((id, "completed", "client") for id in ids)
    alice.confirm_batch(ids)
    alice.confirm(ids[0])
    assert len(heard) == 3


def test_the_same_id_is_asked_once(alice: App, s3: Bucket, s3_calls: list[str]) -> None:
    [id] = sent(alice, s3)
    assert codes(alice.confirm_batch([id] * 100)) == [(200, None)] * 100
    assert s3_calls == ["HeadObject"]


# Hooks.


def test_each_is_shown_to_its_destinations_hooks(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(Albums, "completed", lambda self, upload: told.append(str(upload.pk)))
    album: dict[str, Any] = {"destination": "albums", "context": {"album": 1}}
    ids = sent(alice, s3, 2, **album)
    unlucky = alice.begin(**album, size=13)
    s3.write(row(unlucky), b"x" * 13)

    answer = alice.confirm_batch([ids[0], unlucky.json()["id"], ids[1]])

    assert codes(answer) == [(200, None), (422, "object_mismatch"), (200, None)]
    assert results(answer)[1]["error"]["detail"] == "Thirteen bytes bring bad luck."
    assert sorted(told) == sorted(ids)


def test_a_hook_that_fails_concerns_its_own_upload(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    album = {"destination": "albums", "context": {"album": 1}}
    ids = sent(alice, s3, 3, **album)

    def crash(self: Albums, upload: Upload, stored: Any) -> None:
        assert str(upload.pk) != ids[1]

    def shout(self: Albums, upload: Upload) -> None:
        raise RuntimeError(upload.pk)

    monkeypatch.setattr(Albums, "verify", crash)
    monkeypatch.setattr(Albums, "completed", shout)
    answer = alice.confirm_batch(ids)
    assert codes(answer) == [(200, None), (503, "hook_failed"), (200, None)]
    assert Upload.objects.get(pk=ids[1]).status == "pending"
    assert Upload.objects.get(pk=ids[2]).announced_at is not None


def test_a_handler_that_deletes_one_row_leaves_the_others(
    alice: App, s3: Bucket, connect: Connect
) -> None:
    ids = sent(alice, s3, 3)

    def delete(upload: Upload, **_: Any) -> None:
        if str(upload.pk) == ids[1]:
            Upload.objects.filter(pk=upload.pk).delete()

    connect(signals.upload_completed, delete)
    answer = alice.confirm_batch(ids)
    assert codes(answer) == [(200, None), (404, "not_found"), (200, None)]
    assert {str(each.pk) for each in Upload.objects.exclude(announced_at=None)} == {
        ids[0],
        ids[2],
    }


def test_what_the_handlers_have_no_time_for_a_sweep_announces(
    alice: App, s3: Bucket, heard: list[tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease of all begins at once. Two processes must not announce the same upload."""
    ids = sent(alice, s3, 3)

    def be_slow(upload: Upload, cause: str) -> bool:
        told = tell(upload, cause)
        monkeypatch.setattr(f"{BATCHES}.timezone.now", lambda: real_now() + 6 * MINUTE)
        return told

    real_now = timezone.now
    monkeypatch.setattr(f"{BATCHES}.tell", be_slow)
    assert codes(alice.confirm_batch(ids)) == [(200, None)] * 3
    assert len(heard) == 1
    sweep()
    assert Counter(id for id, _, _ in heard) == Counter(ids)


def test_what_was_announced_is_known_although_the_process_ends(
    alice: App, s3: Bucket, heard: list[tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = sent(alice, s3, 3)

    def end(upload: Upload, cause: str) -> bool:
        if len(heard) == 2:
            raise SystemExit
        return tell(upload, cause)

    monkeypatch.setattr(f"{BATCHES}.tell", end)
    with pytest.raises(SystemExit):
        alice.confirm_batch(ids)
    assert Upload.objects.filter(status="completed").count() == 3
    [left] = Upload.objects.filter(announced_at=None)
    assert left.due_at is not None
    assert str(left.pk) not in {id for id, _, _ in heard}


# S3.


def test_one_poisoned_object_spoils_no_other(
    alice: App, s3: Bucket, head_answers: dict[str, int]
) -> None:
    ids = sent(alice, s3, 3)
    poisoned = Upload.objects.get(pk=ids[1])
    head_answers[poisoned.key] = 503
    assert codes(alice.confirm_batch(ids)) == [
        (200, None),
        (503, "bucket_unavailable"),
        (200, None),
    ]
    poisoned.refresh_from_db()
    assert poisoned.status == "pending"


def test_while_s3_is_away_nothing_changes(
    alice: App, s3: Bucket, s3_away: Callable[[], None]
) -> None:
    ids = sent(alice, s3, 3)
    before = list(Upload.objects.order_by("pk").values())
    s3_away()
    answer = alice.confirm_batch(ids)
    assert codes(answer) == [(503, "bucket_unavailable")] * 3
    assert [each["error"]["retry_after"] for each in results(answer)] == [5] * 3
    assert list(Upload.objects.order_by("pk").values()) == before


def test_a_slow_s3_holds_no_worker_for_long(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = sent(alice, s3, 40)
    head, over = OurBucket.head, threading.Event()
    asked: list[str] = []

    def be_slow(self: OurBucket, key: str) -> Any:
        asked.append(key)
        over.wait(0.2)
        return head(self, key)

    monkeypatch.setattr(OurBucket, "head", be_slow)
    monkeypatch.setattr(batches, "LONGEST", 0.1)
    answer = alice.confirm_batch(ids)
    assert len(asked) <= batches.THREADS
    assert codes(answer) == [(503, "bucket_unavailable")] * 40, "no hook is called so late"
    monkeypatch.undo()
    assert codes(alice.confirm_batch(ids)) == [(200, None)] * 40


def test_slow_hooks_hold_no_worker_for_long(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = sent(alice, s3, 3, destination="albums", context={"album": 1})
    clock = [0.0]

    def be_slow(self: Albums, upload: Upload, stored: Any) -> None:
        clock[0] += 6

    monkeypatch.setattr(Albums, "verify", be_slow)
    monkeypatch.setattr(f"{BATCHES}.time.monotonic", lambda: clock[0])
    answer = alice.confirm_batch(ids)
    assert codes(answer) == [(200, None), (200, None), (503, "bucket_unavailable")]


def test_a_fault_of_ours_concerns_one_upload(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ids = sent(alice, s3, 2)
    first = Upload.objects.get(pk=ids[0]).key
    head = OurBucket.head

    def fail(self: OurBucket, key: str) -> Any:
        return head(self, key if key != first else 1 / 0)  # type: ignore[arg-type]

    monkeypatch.setattr(OurBucket, "head", fail)
    assert codes(alice.confirm_batch(ids)) == [(503, "bucket_unavailable"), (200, None)]
    assert "ZeroDivisionError" in caplog.text


def test_the_bucket_of_a_row_that_is_configured_no_more_concerns_that_row(
    alice: App, s3: Bucket
) -> None:
    ids = sent(alice, s3, 2)
    Upload.objects.filter(pk=ids[0]).update(bucket="gone")
    assert codes(alice.confirm_batch(ids)) == [(503, "bucket_unavailable"), (200, None)]


def test_past_the_deadline_a_missing_object_expires_its_upload(alice: App, s3: Bucket) -> None:
    id, *others = [each.json()["id"] for each in (alice.begin(), alice.begin())]
    past_the_deadline(id)
    answer = alice.confirm_batch([id, *others])
    assert codes(answer) == [(410, "not_pending"), (409, "object_missing")]
    assert Upload.objects.get(pk=id).status == "expired"


def test_what_is_in_parts_is_confirmed_alone_unless_its_object_is_there(
    alice: App, films: None, s3: Bucket, s3_calls: list[str]
) -> None:
    begun = alice.begin_film().json()
    assert alice.send_parts(begun["multipart"]["parts"]) == [200, 200]
    s3_calls.clear()
    answer = alice.confirm_batch([begun["id"]])
    assert codes(answer) == [(409, "not_in_batch")]
    assert results(answer)[0]["error"]["upload"]["status"] == "pending"
    assert s3_calls == ["HeadObject"]

    # Another process joined the parts, and died.
    upload = Upload.objects.get()
    bucket = OurBucket.list_parts
    from s3direct_uploads.s3 import get_bucket

    ours = get_bucket("default")
    parts = bucket(ours, upload.key, upload.multipart_upload_id)
    from s3direct_uploads.lifecycle.rows import declared

    ours.complete_multipart(upload.key, upload.multipart_upload_id, parts, declared(upload))
    assert codes(alice.confirm_batch([begun["id"]])) == [(200, None)]
    assert begin_in_parts(alice)


# Bad input, and who may call.


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({}, "ids", "required"),
        ({"ids": None}, "ids", "null"),
        ({"ids": []}, "ids", "empty"),
        ({"ids": "abc"}, "ids", "not_a_list"),
        ({"ids": ["x"] * 101}, "ids", "max_length"),
        ({"ids": ["x", 5]}, "ids.1", "invalid"),
        ({"ids": [["x"]]}, "ids.0", "invalid"),
        ({"ids": ["x", " "]}, "ids.1", "blank"),
        ({"ids": ["a\0b"]}, "ids.0", "null_characters_not_allowed"),
        ([], None, "invalid"),
    ],
)
def test_a_body_that_is_no_batch_is_refused_as_a_whole(
    alice: App, body: Any, field: str | None, code: str
) -> None:
    answer = alice.client.post("/api/uploads/batch/confirm/", body, format="json")
    refused = assert_error(answer, 400, "invalid")
    assert [(each["field"], each["code"]) for each in refused["errors"]] == [(field, code)]


@pytest.mark.parametrize("id", [NO_SUCH_ID, "1", "x" * 5000, "%00", "ä"])
def test_what_is_no_id_is_not_found(alice: App, s3: Bucket, id: str) -> None:
    [mine] = sent(alice, s3)
    assert codes(alice.confirm_batch([id, mine])) == [(404, "not_found"), (200, None)]


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (exceptions.PermissionDenied("Not this one."), (403, "permission_denied")),
        (PermissionDenied("Not this one."), (403, "permission_denied")),
        (Http404(), (404, "not_found")),  # as REST Framework's DjangoObjectPermissions
    ],
    ids=["REST Framework's", "Django's", "not found"],
)
def test_a_hosts_view_decides_about_each(
    alice: App,
    s3: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    refusal: Exception,
    expected: tuple[int, str],
) -> None:
    ids = sent(alice, s3, 3)
    hidden, forbidden, _ = ids
    mine = UploadViewSet.get_queryset

    def check(self: UploadViewSet, request: Any, obj: Any) -> None:
        if str(obj.pk) == forbidden:
            raise refusal

    monkeypatch.setattr(UploadViewSet, "get_queryset", lambda self: mine(self).exclude(pk=hidden))
    monkeypatch.setattr(UploadViewSet, "check_object_permissions", check)
    answer = alice.confirm_batch(ids)
    assert codes(answer) == [(404, "not_found"), expected, (200, None)]
    assert Upload.objects.filter(status="pending").count() == 2


def test_it_refuses_a_transaction(alice: App, s3: Bucket) -> None:
    uploads = list(Upload.objects.filter(pk__in=sent(alice, s3)))
    with transaction.atomic(), pytest.raises(TransactionManagementError):
        lifecycle.confirm_many(uploads)


def test_a_script_gets_the_errors_themselves(alice: App, s3: Bucket) -> None:
    good, wrong = alice.begin(), alice.begin()
    s3.write(row(good), JPEG)
    s3.write(row(wrong), b"short")
    found = lifecycle.confirm_many(list(Upload.objects.all()), cause="script")
    assert found[row(good).pk].status == "completed"  # type: ignore[union-attr]
    assert isinstance(found[row(wrong).pk], ObjectMismatch)
    assert lifecycle.confirm_many([]) == {}
