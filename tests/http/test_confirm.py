"""Confirm believes only S3: what it finds settles the row, once; what it cannot ask does not."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from django.db import connections, transaction
from django.db.transaction import TransactionManagementError
from django.utils import timezone

from s3direct_uploads import lifecycle, signals
from s3direct_uploads.exceptions import ObjectMissing
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import get_bucket
from tests.conftest import JPEG, App, Bucket, Connect, past_the_deadline, row


def test_before_the_put_it_is_still_pending(alice: App, s3_calls: list[str]) -> None:
    begun = alice.begin().json()
    answer = alice.confirm(begun["id"])
    assert (answer.status_code, answer.json()["code"]) == (409, "object_missing")
    assert answer.json()["upload"]["status"] == "pending"
    assert s3_calls == ["HeadObject"]

    assert alice.send(begun["request"]) == 200
    assert alice.confirm(begun["id"]).status_code == 200


@pytest.mark.parametrize(
    ("body", "parameters", "reason"),
    [
        (b"short", {}, f"{len(JPEG)} bytes were declared, 5 were sent."),
        (JPEG, {"ContentType": "text/html"}, "image/jpeg was declared, text/html was sent."),
        (JPEG, {"ContentEncoding": "gzip"}, "nobody signed: ContentEncoding."),
        (JPEG, {"ContentDisposition": "inline"}, "nobody signed: ContentDisposition."),
        (JPEG, {"ContentLanguage": "en"}, "nobody signed: ContentLanguage."),
        (JPEG, {"CacheControl": "max-age=9"}, "nobody signed: CacheControl."),
        (JPEG, {"Expires": "Wed, 21 Oct 2099 07:28:00 GMT"}, "nobody signed: Expires."),
    ],
)
def test_what_was_not_declared_is_rejected_for_good(
    alice: App, s3: Bucket, body: bytes, parameters: dict[str, str], reason: str, connect: Connect
) -> None:
    rejected = []
    begun = alice.begin()

    def on_reject(upload: Upload, **_: Any) -> None:
        rejected.append(upload.status)

    connect(signals.upload_rejected, on_reject)
    s3.write(row(begun), body, **parameters)

    answers = [alice.confirm(begun.json()["id"]) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [422, 422]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["code"] == "object_mismatch"
    assert answers[0].json()["detail"].endswith(reason)
    upload = row(answers[0])
    assert (upload.status, upload.completed_at) == ("rejected", None)
    assert upload.reason.endswith(reason)
    assert upload.due_at == upload.key_closes_at
    assert s3.read(upload) == body, "it keeps the key closed until no URL is left"
    assert rejected == ["rejected"]


def test_another_checksum_is_rejected(alice: App, s3: Bucket) -> None:
    begun = alice.begin(checksum={"algorithm": "CRC32", "value": "AAAAAA=="})
    s3.write(row(begun), JPEG, ChecksumAlgorithm="CRC32")
    answer = alice.confirm(begun.json()["id"])
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        "The CRC32 is not the one declared.",
    )


def test_an_unsigned_header_that_a_client_adds_is_rejected(alice: App, s3: Bucket) -> None:
    begun = alice.begin().json()
    request = begun["request"]
    request["headers"]["Cache-Control"] = "max-age=31536000"
    assert alice.send(request) == 200
    answer = alice.confirm(begun["id"])
    assert (answer.status_code, row(answer).status) == (422, "rejected")


@pytest.mark.parametrize("value", ["max-age=0", "no-cache"])
def test_a_header_that_browsers_add_is_accepted(alice: App, s3: Bucket, value: str) -> None:
    begun = alice.begin()
    s3.write(row(begun), JPEG, CacheControl=value)
    assert alice.confirm(begun.json()["id"]).status_code == 200


def test_where_the_storage_says_how_to_cache_another_header_is_rejected(
    alice: App, s3: Bucket, storage_options: Callable[..., None]
) -> None:
    storage_options(object_parameters={"CacheControl": "max-age=60"})
    begun = alice.begin()
    s3.write(row(begun), JPEG, CacheControl="max-age=0")
    assert alice.confirm(begun.json()["id"]).status_code == 422


def test_what_the_storage_adds_is_signed_and_expected(
    alice: App, s3: Bucket, storage_options: Callable[..., None]
) -> None:
    parameters = {
        "CacheControl": "max-age=60",
        "ContentLanguage": "de",
        "Metadata": {"by": "us"},
        "ContentType": "not/ours",
        "ACL": "public-read",
    }
    storage_options(object_parameters=parameters)

    begun = alice.begin().json()
    assert begun["request"]["headers"] == {
        "If-None-Match": "*",
        "Cache-Control": "max-age=60",
        "Content-Language": "de",
        "x-amz-meta-by": "us",
        "Content-Type": "image/jpeg",
    }
    # A deploy that changes the storage rejects no upload that was begun before.
    storage_options(object_parameters={"CacheControl": "no-store"})
    assert alice.renew(begun["id"]).json()["request"]["headers"] == begun["request"]["headers"]
    assert alice.send(begun["request"]) == 200
    assert row(alice.confirm(begun["id"])).status == "completed"


def test_a_public_destination_signs_its_acl(alice: App, settings: Any) -> None:
    rules = {"MAX_SIZE": 100, "CONTENT_TYPES": ["image/*"], "ACL": "public-read"}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": rules}}
    begun = alice.begin().json()
    assert begun["request"]["headers"]["x-amz-acl"] == "public-read"
    assert alice.send(begun["request"]) == 200
    assert alice.confirm(begun["id"]).status_code == 200


def test_a_verify_hook_may_reject(alice: App) -> None:
    answer = alice.upload(b"x" * 13, destination="albums", context={"album": 1})
    assert (answer.status_code, answer.json()["code"]) == (422, "object_mismatch")
    assert answer.json()["upload"]["reason"] == "Thirteen bytes bring bad luck."
    assert row(answer).key.startswith(f"site/albums/{alice.user.pk}/")  # type: ignore[union-attr]


def test_after_cancel_it_is_gone_even_if_the_object_is_there(alice: App, s3: Bucket) -> None:
    begun = alice.begin().json()
    alice.delete(begun["id"])
    assert alice.send(begun["request"]) == 200, "its URL still lives"
    answer = alice.confirm(begun["id"])
    assert (answer.status_code, answer.json()["code"]) == (410, "not_pending")
    assert (answer.json()["upload"]["status"], row(answer).due_at) == (
        "cancelled",
        row(answer).key_closes_at,
    )


def test_past_its_deadline_what_never_came_expires(alice: App, connect: Connect) -> None:
    expired = []
    begun = alice.begin().json()

    def on_expire(upload: Upload, **_: Any) -> None:
        expired.append(upload.status)

    connect(signals.upload_expired, on_expire)
    past_the_deadline(begun["id"])

    renewed = alice.renew(begun["id"])
    assert (renewed.status_code, renewed.json()["upload"]["status"]) == (410, "pending")
    answers = [alice.confirm(begun["id"]) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [410, 410]
    assert answers[0].json()["upload"]["status"] == "expired"
    upload = row(answers[0])
    assert upload.due_at == upload.key_closes_at
    assert expired == ["expired"]


def test_a_put_that_began_before_the_deadline_may_still_arrive(alice: App) -> None:
    begun = alice.begin().json()
    past_the_deadline(begun["id"], by=timedelta(minutes=1))

    renewed = alice.renew(begun["id"])
    assert (renewed.status_code, renewed.json()["upload"]["status"]) == (410, "pending")
    assert alice.confirm(begun["id"]).json()["code"] == "object_missing"

    assert alice.send(begun["request"]) == 200
    assert alice.confirm(begun["id"]).status_code == 200


def test_past_its_deadline_what_did_come_is_completed(alice: App) -> None:
    begun = alice.begin().json()
    alice.send(begun["request"])
    past_the_deadline(begun["id"])
    renewed = alice.renew(begun["id"])
    assert (renewed.status_code, renewed.json()["upload"]["status"]) == (410, "pending")
    assert alice.confirm(begun["id"]).json()["status"] == "completed"


def test_a_renewal_meanwhile_keeps_it_from_expiring(alice: App) -> None:
    stale = row(alice.begin())
    past_the_deadline(str(stale.pk))
    stale.refresh_from_db()
    Upload.objects.update(url_expires_at=timezone.now() + timedelta(hours=1))
    with pytest.raises(ObjectMissing):
        lifecycle.confirm(stale)
    assert Upload.objects.get().status == "pending"


def test_while_s3_is_away_nothing_changes(
    alice: App, s3_away: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    id = alice.begin().json()["id"]
    before = Upload.objects.values().get()
    s3_away()
    answer = alice.confirm(id)
    assert (answer.status_code, answer.json()["code"]) == (503, "bucket_unavailable")
    assert answer["Retry-After"] == str(answer.json()["retry_after"])
    assert Upload.objects.values().get() == before
    assert "EndpointConnectionError" in caplog.text
    assert alice.begin().status_code == 201, "to begin, S3 is not asked"


def test_an_answer_that_does_not_say_how_large_the_object_is_changes_nothing(
    alice: App, head_answers: dict[str, int]
) -> None:
    """A proxy that compresses answers removes the length, for honest objects too."""
    begun = alice.begin().json()
    assert alice.send(begun["request"]) == 200
    head_answers[Upload.objects.get().key] = 200
    answer = alice.confirm(begun["id"])
    assert (answer.status_code, answer.json()["code"]) == (503, "bucket_unavailable")
    assert Upload.objects.get().status == "pending"
    head_answers.clear()
    assert alice.confirm(begun["id"]).json()["status"] == "completed"


def test_a_403_is_no_missing_object(
    alice: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(**_: Any) -> None:
        answer = {"Error": {"Code": "403"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise ClientError(answer, "HeadObject")  # type: ignore[arg-type]

    id = alice.begin().json()["id"]
    monkeypatch.setattr(get_bucket("default")._client, "head_object", refuse)
    assert alice.confirm(id).json()["code"] == "bucket_unavailable"
    assert Upload.objects.get().status == "pending"
    assert "S3 refuses HeadObject: 403 AccessDenied" in caplog.text


def test_an_upload_outlives_its_destination_and_its_storages_name(
    alice: App, s3: Bucket, settings: Any
) -> None:
    begun = alice.begin().json()
    alice.send(begun["request"])
    rules = settings.S3DIRECT_UPLOADS["DESTINATIONS"]["photos"]
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"images": {**rules, "STORAGE": "media"}}}
    settings.STORAGES = {
        "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
        "staticfiles": settings.STORAGES["staticfiles"],
        "media": settings.STORAGES["default"],
    }
    assert row(alice.confirm(begun["id"])).status == "completed"


def test_a_bucket_that_is_configured_no_more_loses_nothing(alice: App, settings: Any) -> None:
    begun = alice.begin().json()
    past_the_deadline(begun["id"])
    memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
    settings.STORAGES = {**settings.STORAGES, "default": memory}
    assert alice.confirm(begun["id"]).json()["code"] == "bucket_unavailable"
    assert Upload.objects.get().status == "pending"


def test_a_second_confirm_answers_as_the_first(alice: App) -> None:
    begun = alice.begin().json()
    alice.send(begun["request"])
    slow = Upload.objects.get()
    alice.confirm(begun["id"])
    assert lifecycle.confirm(slow).status == "completed"
    assert slow.completed_at == Upload.objects.get().completed_at


def test_a_cancel_during_a_confirm_wins_once(alice: App) -> None:
    begun = alice.begin().json()
    alice.send(begun["request"])
    stale = Upload.objects.get()
    alice.confirm(begun["id"])
    lifecycle.cancel(stale)
    assert stale.status == "deleted", "what was to be given up is not kept because it came"
    assert Upload.objects.get().status == "deleted"


def test_a_row_that_is_gone_meanwhile_is_not_found(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = alice.begin().json()
    alice.send(begun["request"])
    compare = lifecycle.settling._compare

    def prune_first(*args: Any) -> None:
        Upload.objects.all().delete()
        compare(*args)

    monkeypatch.setattr(lifecycle.settling, "_compare", prune_first)
    assert alice.confirm(begun["id"]).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_atomic_requests_keep_a_rejection_and_hold_no_transaction(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch, in_transaction: list[bool]
) -> None:
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    begun = alice.begin()
    s3.write(row(begun), b"short")
    assert alice.confirm(begun.json()["id"]).status_code == 422
    assert Upload.objects.get().status == "rejected"
    assert alice.upload().status_code == 200
    assert alice.delete(begun.json()["id"]).status_code == 204
    assert in_transaction == [False, False]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("operation", [lifecycle.confirm, lifecycle.cancel])
def test_no_transaction_is_held_while_s3_is_asked(
    alice: App, operation: Any, in_transaction: list[bool]
) -> None:
    upload = row(alice.begin())
    with transaction.atomic(), pytest.raises(TransactionManagementError, match="waits for S3"):
        operation(upload)
    upload.refresh_from_db()
    assert (upload.status, in_transaction) == ("pending", [])


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_held_while_a_script_stores(alice: App) -> None:
    with transaction.atomic(), pytest.raises(TransactionManagementError, match="waits for S3"):
        lifecycle.store(io.BytesIO(JPEG), destination="photos", filename="beach.jpg")
    assert not Upload.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_pooled_connection_is_given_back_before_s3_is_asked(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = row(alice.begin())
    closed: list[str] = []
    connection = connections["default"]
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"pool": True})
    monkeypatch.setattr(connection, "close", lambda: closed.append("closed"))
    events = get_bucket("default")._client.meta.events
    events.register_first("before-call.s3", lambda **_: closed.append("asked"), unique_id="asked")
    with pytest.raises(ObjectMissing):
        lifecycle.confirm(upload)
    events.unregister("before-call.s3", unique_id="asked")
    assert closed == ["closed", "asked"]


def test_a_second_put_is_refused_by_s3_and_leads_to_the_same_confirm(
    alice: App, s3: Bucket
) -> None:
    begun = alice.begin().json()
    assert alice.send(begun["request"]) == 200
    assert alice.send(begun["request"], JPEG[::-1]) == 412
    upload = row(alice.confirm(begun["id"]))
    assert upload.status == "completed"
    assert alice.send(begun["request"], JPEG[::-1]) == 412
    assert s3.read(upload) == JPEG


def test_confirm_is_one_head_and_two_queries(
    alice: App, s3_calls: list[str], django_assert_num_queries: Any
) -> None:
    begun = alice.begin().json()
    alice.send(begun["request"])
    with django_assert_num_queries(4) as queries:
        assert alice.confirm(begun["id"]).status_code == 200
    verbs = [query["sql"].split()[0] for query in queries.captured_queries]
    assert verbs == ["SELECT", "SELECT", "SELECT", "UPDATE"]  # two authenticate
    assert s3_calls == ["HeadObject"]

    with django_assert_num_queries(3):
        assert alice.confirm(begun["id"]).status_code == 200
    assert s3_calls == ["HeadObject"], "a second confirm is answered from the row"


def test_a_scanners_tag_is_no_mismatch(alice: App, s3: Bucket) -> None:
    begun = alice.begin()
    alice.send(begun.json()["request"])
    tags = {"TagSet": [{"Key": "GuardDutyMalwareScanStatus", "Value": "NO_THREATS_FOUND"}]}
    s3.client.put_object_tagging(Bucket=s3.name, Key=row(begun).key, Tagging=tags)
    assert alice.confirm(begun.json()["id"]).status_code == 200
