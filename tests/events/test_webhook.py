"""The webhook: an event completes an upload, and skips no check."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.db.transaction import TransactionManagementError
from django.utils import timezone

from s3direct_uploads import events, lifecycle
from s3direct_uploads.models import Upload
from tests.conftest import FILM, JPEG, App, Bucket, row
from tests.events.conftest import (
    MALFORMED,
    Dialect,
    Post,
    aws,
    ceph,
    eventbridge,
    minio,
    refused,
    s3_record,
    said,
    sent,
)


@pytest.mark.parametrize("dialect", [aws, ceph, minio, eventbridge])
def test_an_event_completes_what_nobody_confirmed(
    alice: App, post: Post, s3_calls: list[str], causes: list[str], dialect: Dialect
) -> None:
    upload = sent(alice)
    body = dialect(upload.bucket, upload.key)

    assert said(post(body)) == (200, 1, 0)
    upload.refresh_from_db()
    assert (upload.status, upload.due_at, causes) == ("completed", None, ["event"])
    assert upload.announced_at is not None
    assert s3_calls == ["HeadObject"]

    # The same event again, before and after a confirm: S3 is not asked.
    assert said(post(body)) == (200, 1, 0)
    assert alice.confirm(str(upload.pk)).status_code == 200
    assert said(post(body)) == (200, 1, 0)
    assert (s3_calls, causes) == (["HeadObject"], ["event"])


@pytest.mark.parametrize("dialect", [aws, ceph, minio, eventbridge])
@pytest.mark.parametrize("location", ["a+b", "a b", "a%2Bb", "50%", "é/+%20"])
def test_the_storages_location_may_have_characters_that_are_encoded(
    alice: App,
    post: Post,
    storage_options: Callable[..., None],
    dialect: Dialect,
    location: str,
) -> None:
    storage_options(location=location)
    upload = row(alice.begin())
    assert upload.key.startswith(f"{location}/photos/")

    assert said(post(dialect(upload.bucket, upload.key))) == (200, 1, 0)


def test_an_event_before_the_put_or_after_a_delete_changes_nothing(
    alice: App, post: Post, s3_calls: list[str]
) -> None:
    upload = row(alice.begin())
    before = Upload.objects.values().get()

    assert said(post(ceph(upload.bucket, upload.key))) == (200, 1, 0)
    assert s3_calls == ["HeadObject"]
    assert said(post(ceph(upload.bucket, upload.key, "ObjectRemoved:Delete"))) == (200, 0, 1)
    assert s3_calls == ["HeadObject"]
    assert Upload.objects.values().get() == before


def test_an_event_skips_no_check(alice: App, post: Post, s3: Bucket, causes: list[str]) -> None:
    upload = row(alice.begin())
    s3.write(upload, b"short")

    assert said(post(aws(upload.bucket, upload.key))) == (200, 1, 0)
    upload.refresh_from_db()
    assert (upload.status, upload.due_at) == ("rejected", upload.key_closes_at)
    assert "5 were sent" in upload.reason
    assert causes == []


def test_other_buckets_and_other_keys_are_not_ours(
    alice: App, post: Post, s3_calls: list[str]
) -> None:
    upload = sent(alice)
    for bucket, key in [
        ("another", upload.key),
        (upload.bucket, upload.key + "x"),
        (upload.bucket, upload.key.upper()),
        (upload.bucket, upload.key.removeprefix("site/")),
        (upload.bucket, "/" + upload.key),
    ]:
        assert said(post(aws(bucket, key))) == (200, 0, 1)
    upload.refresh_from_db()
    assert (upload.status, s3_calls) == ("pending", [])


def test_the_event_of_an_upload_through_an_access_point_names_the_bucket_behind_it(
    alice: App, post: Post, s3: Bucket, storage_options: Callable[..., None]
) -> None:
    alias = f"{s3.name}-s3alias"  # in AWS the name of an access point
    s3.client.create_bucket(Bucket=alias)
    storage_options(bucket_name=alias)
    upload = sent(alice)
    assert upload.bucket == alias

    assert said(post(aws("the-bucket-behind-it", upload.key + "x"))) == (200, 0, 1)
    assert said(post(aws("the-bucket-behind-it", upload.key))) == (200, 1, 0)
    upload.refresh_from_db()
    assert (upload.status, upload.bucket) == ("completed", alias)


def test_an_event_is_only_a_hint_to_look_through_the_access_point(
    alice: App, post: Post, s3: Bucket, storage_options: Callable[..., None]
) -> None:
    """Whatever the event says, S3 is asked about the row's own bucket."""
    alias = f"{s3.name}-b-s3alias"
    s3.client.create_bucket(Bucket=alias)
    storage_options(bucket_name=alias)
    upload = row(alice.begin())
    s3.write(upload, JPEG)  # to another bucket, at the same key

    assert said(post(aws(s3.name, upload.key))) == (200, 1, 0)
    upload.refresh_from_db()
    assert upload.status == "pending"


@pytest.mark.parametrize(
    "name",
    [
        "arn:aws:s3:eu-west-1:123456789012:accesspoint/photos",
        "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap",
        "photos-1a2b3c4d5e6f7g8h9i0jklmnopqrstuse1a-s3alias",
        "photos-1a2b3c4d5e6f7g8h9i0jklmnopqrstuse1a--ol-s3",
    ],
)
def test_a_tombstone_of_an_access_point_is_found_by_its_key(
    alice: App, post: Post, name: str
) -> None:
    upload = row(alice.begin())
    now = timezone.now()
    Upload.objects.filter(pk=upload.pk).update(
        bucket=name, status="cancelled", due_at=None, object_deleted_at=now
    )
    assert said(post(aws("the-bucket-behind-it", upload.key))) == (200, 1, 0)
    upload.refresh_from_db()
    assert (upload.object_deleted_at, upload.due_at) == (None, upload.key_closes_at)


@pytest.mark.usefixtures("films")
def test_an_event_completes_no_upload_whose_parts_are_missing(
    alice: App, post: Post, s3_calls: list[str]
) -> None:
    begun = alice.begin_film().json()
    alice.send_parts(begun["multipart"]["parts"][:1])
    s3_calls.clear()

    # Older versions of Ceph send this event when a multipart upload is created.
    upload = Upload.objects.get()
    assert said(post(ceph(upload.bucket, upload.key, "ObjectCreated:Post"))) == (200, 1, 0)
    assert s3_calls == ["ListParts"]
    upload.refresh_from_db()
    assert (upload.status, upload.busy_until) == ("pending", None)

    alice.send_parts(begun["multipart"]["parts"][1:])
    assert alice.confirm(begun["id"]).status_code == 200
    s3_calls.clear()
    assert said(post(ceph(upload.bucket, upload.key))) == (200, 1, 0)
    assert s3_calls == []
    assert row(alice.confirm(begun["id"])).size == len(FILM)


@pytest.mark.parametrize("status", ["rejected", "expired", "cancelled", "deleted"])
@pytest.mark.parametrize("closed", [True, False])
def test_an_object_written_on_a_tombstone_is_deleted_again(
    alice: App, post: Post, s3_calls: list[str], status: str, closed: bool
) -> None:
    upload = row(alice.begin())
    now = timezone.now()
    Upload.objects.filter(pk=upload.pk).update(
        status=status,
        reason="Refused." if status == "rejected" else "",
        completed_at=now if status == "deleted" else None,
        url_expires_at=now - timedelta(days=9) if closed else upload.url_expires_at,
        due_at=None,
        object_deleted_at=now,
    )

    assert said(post(aws(upload.bucket, upload.key))) == (200, 1, 0)

    upload.refresh_from_db()
    assert (upload.status, upload.object_deleted_at) == (status, None)
    assert upload.due_at is not None
    if closed:
        assert now <= upload.due_at <= timezone.now()
    else:
        assert upload.due_at == upload.key_closes_at
    assert s3_calls == []


def test_while_s3_is_away_the_answer_is_503(
    alice: App,
    post: Post,
    settings: Any,
    s3_away: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = sent(alice), sent(alice)
    stranger = s3_record("another", "k")
    records = [s3_record(each.bucket, each.key) for each in (first, second)]
    storages = settings.STORAGES
    s3_away()

    answer = post({"Records": [*records, stranger]})
    assert refused(answer) == (503, "bucket_unavailable")
    assert (answer.headers["Retry-After"], answer.json()["retry_after"]) == ("5", 5)
    assert (answer.json()["settled"], answer.json()["ignored"]) == (0, 1)
    said_by_us = [each.getMessage() for each in caplog.records if each.name == "s3direct_uploads"]
    # One HEAD for the first record, and one for a made-up key; none for the second record.
    assert sum("HeadObject" in line for line in said_by_us) == 2
    assert set(Upload.objects.values_list("status", flat=True)) == {"pending"}

    settings.STORAGES = storages
    assert said(post({"Records": [*records, stranger]})) == (200, 2, 1)
    assert set(Upload.objects.values_list("status", flat=True)) == {"completed"}


def test_an_event_of_a_key_for_which_s3_fails_holds_up_no_other(
    alice: App, post: Post, head_answers: dict[str, int]
) -> None:
    bad, good = sent(alice), sent(alice)
    head_answers[bad.key] = 403
    answer = post({"Records": [s3_record(each.bucket, each.key) for each in (bad, good)]})
    assert answer.status_code == 200, "to send it again would be of no use: the sweep looks again"
    statuses = dict(Upload.objects.values_list("pk", "status"))
    assert statuses == {bad.pk: "pending", good.pk: "completed"}


def test_one_row_that_fails_stops_no_other(
    alice: App, post: Post, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = sent(alice), sent(alice)
    confirm = lifecycle.confirm

    def fail(upload: Upload, **options: Any) -> Upload:
        if upload.pk == bad.pk:
            raise ZeroDivisionError("a host's verify()")
        return confirm(upload, **options)

    monkeypatch.setattr("s3direct_uploads.lifecycle.operations.confirm", fail)
    answer = post({"Records": [s3_record(each.bucket, each.key) for each in (bad, good)]})

    assert refused(answer) == (503, "bucket_unavailable")
    good.refresh_from_db()
    bad.refresh_from_db()
    assert (bad.status, good.status) == ("pending", "completed")
    assert "ZeroDivisionError" in caplog.text


def test_many_records_in_one_body_each_count_once(alice: App, post: Post) -> None:
    uploads = [sent(alice) for _ in range(3)]
    records = [s3_record(each.bucket, each.key) for each in uploads]
    gone = s3_record(uploads[0].bucket, uploads[0].key, "ObjectRemoved:Delete")
    assert said(post({"Records": [gone, *reversed(records), *records]})) == (200, 3, 1)
    assert set(Upload.objects.values_list("status", flat=True)) == {"completed"}


def test_an_event_waits_for_s3_in_no_transaction(alice: App) -> None:
    assert events.webhook._non_atomic_requests == {"default"}  # type: ignore[attr-defined]
    upload = sent(alice)
    with transaction.atomic(), pytest.raises(TransactionManagementError):
        lifecycle.notice(upload.bucket, upload.key)


@pytest.mark.parametrize("body", [each for each in MALFORMED if isinstance(each, bytes)])
def test_a_malformed_body_is_a_400(post: Post, body: bytes) -> None:
    assert refused(post(body)) == (400, "malformed")


def test_a_body_may_have_1_mib(post: Post, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10  # this limit of Django must have no effect here
    filled = {**aws("media", "k"), "filler": ""}
    filled["filler"] = "x" * (1024**2 - len(json.dumps(filled)))
    assert said(post(filled)) == (200, 0, 1)
    filled["filler"] += "x"
    assert refused(post(filled)) == (413, "request_too_large")
    assert refused(post(b"[" * 3 * 1024**2)) == (413, "request_too_large")
