"""S3's events: every dialect completes an upload, and whatever else comes in does no harm."""

from __future__ import annotations

import base64
import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote_plus

import boto3
import botocore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.transaction import TransactionManagementError
from django.test import Client, override_settings
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from s3direct_uploads import events, lifecycle, signals
from s3direct_uploads.events import Event, Tally, parse, sns
from s3direct_uploads.exceptions import MalformedEvent, QueueUnavailable, SNSUnavailable
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import Queue
from tests.conftest import FILM, JPEG, App, Bucket, Connect, child_environment, killed_after, row
from tests.settings import free_port

SECRET = "s3cret-s3cret-s3cret"
BEARER = {"Authorization": f"Bearer {SECRET}"}
TOPIC = "arn:aws:sns:eu-central-1:123456789012:uploads"


# What each of them sends, in the shape that it documents.


def s3_record(bucket: str, key: str, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    """docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html"""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "eu-central-1",
        "eventTime": "2026-11-25T08:29:08.141Z",
        "eventName": name,
        "userIdentity": {"principalId": "AWS:AIDAJDPLRKLG7UEXAMPLE"},
        "requestParameters": {"sourceIPAddress": "192.0.2.7"},
        "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyUVURIY8="},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "uploads",
            "bucket": {
                "name": bucket,
                "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                "arn": f"arn:aws:s3:::{bucket}",
            },
            "object": {
                "key": key,
                "size": 1024,
                "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
                "sequencer": "0055AED6DCD90281E5",
            },
        },
    }


def aws(bucket: str, key: str, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    return {"Records": [s3_record(bucket, quote_plus(key, safe="/"), name)]}


def ceph(bucket: str, key: str, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    """As Tentacle sent it: nothing is encoded, and a version is empty."""
    record = s3_record(bucket, key, name)
    record |= {"eventVersion": "2.2", "eventSource": "ceph:s3", "eventId": "1.2.9dd4"}
    record["s3"]["object"] |= {"versionId": "", "metadata": [], "tags": []}
    return {"Records": [{**record, "opaqueData": ""}]}


def minio(bucket: str, key: str, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    """docs.min.io, "Publish Events to Webhook": even the slashes are encoded."""
    record = s3_record(bucket, quote_plus(key, safe=""), f"s3:{name}")
    record |= {"eventVersion": "2.0", "eventSource": "minio:s3", "awsRegion": ""}
    return {"EventName": f"s3:{name}", "Key": f"{bucket}/{key}", "Records": [record]}


def eventbridge(bucket: str, key: str, name: str = "Object Created") -> dict[str, Any]:
    """docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html"""
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": name,
        "source": "aws.s3",
        "account": "111122223333",
        "time": "2026-11-25T08:29:08Z",
        "region": "eu-central-1",
        "resources": [f"arn:aws:s3:::{bucket}"],
        "detail": {
            "version": "0",
            "bucket": {"name": bucket},
            "object": {"key": key, "size": 5, "etag": "b1946ac92492d2347c6235b4d2611184"},
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": "123456789012",
            "source-ip-address": "1.2.3.4",
            "reason": "PutObject",
        },
    }


def sns_message(message: object, kind: str = "Notification", **changes: Any) -> dict[str, Any]:
    """docs.aws.amazon.com/sns/latest/dg/http-notification-json.html; unsigned."""
    region = "eu-central-1"
    said = {
        "Type": kind,
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Subject": "Amazon S3 Notification",
        "Message": message if isinstance(message, str) else json.dumps(message),
        "Timestamp": "2026-11-25T08:29:08.323Z",
        "SignatureVersion": "1",
        "Signature": "RVhBTVBMRQ==",
        "SigningCertURL": f"https://sns.{region}.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "UnsubscribeURL": f"https://sns.{region}.amazonaws.com/?Action=Unsubscribe",
    }
    return {**said, **changes}


def in_sns(bucket: str, key: str, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    return sns_message(aws(bucket, key, name))


# s3:TestEvent is what S3 sends when a notification is set up.
TEST_EVENT = {
    "Service": "Amazon S3",
    "Event": "s3:TestEvent",
    "Time": "2026-11-25T08:29:08.323Z",
    "Bucket": "media",
    "RequestId": "5582815E1AEA5ADF",
    "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR",
}
Dialect = Callable[..., dict[str, Any]]
DIALECTS: list[Dialect] = [aws, ceph, minio, eventbridge, in_sns]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_each_dialect_says(dialect: Dialect) -> None:
    key = "site/photos/a b+c%2Fd/é.jpg"
    body = dialect("media", key)

    [event] = parse(body)
    assert (event.bucket, event.kind) == ("media", "created")
    assert key in event.possible_keys
    assert parse(json.dumps(body)) == parse(json.dumps(body).encode()) == [event]

    deleted = "Object Deleted" if dialect is eventbridge else "ObjectRemoved:Delete"
    assert [each.kind for each in parse(dialect("media", key, deleted))] == ["removed"]
    tagged = "Object Tags Added" if dialect is eventbridge else "ObjectTagging:Put"
    assert [each.kind for each in parse(dialect("media", key, tagged))] == ["other"]


def test_a_plain_key_is_looked_up_once() -> None:
    [event] = parse(aws("media", "site/photos/A-b_c/beach.jpg"))
    assert list(event.possible_keys) == ["site/photos/A-b_c/beach.jpg"]


@pytest.mark.parametrize("body", [TEST_EVENT, sns_message(TEST_EVENT), {"Records": []}])
def test_what_has_no_event_is_none(body: dict[str, Any]) -> None:
    assert parse(body) == []


RECORD = s3_record("media", "k")
MALFORMED: list[Any] = [
    b"",
    b"\x00",
    b"\xff\xfe",
    b"nonsense",
    b"null",
    b"5",
    b'"text"',
    b"[]",
    b"{}",
    b"[" * 200_000,
    b'{"Records":' * 50_000,
    b"1" * 100_000,
    json.dumps([aws("media", "k")]).encode(),
    {"Records": None},
    {"Records": {"0": RECORD}},
    {"Records": [None]},
    {"Records": [{}]},
    {"Records": [RECORD, {**RECORD, "s3": []}]},
    {"Records": [{**RECORD, "s3": {"bucket": {"name": "media"}}}]},
    {"Records": [{**RECORD, "s3": {"bucket": "media", "object": {"key": "k"}}}]},
    {"Records": [{**RECORD, "s3": {"bucket": {"name": 5}, "object": {"key": ["k"]}}}]},
    {"Records": [{**RECORD, "eventName": {}}]},
    {"Records": [RECORD] * 101},
    {"Records": [RECORD] * 10_000},
    {"detail-type": "Object Created"},
    {**eventbridge("media", "k"), "detail-type": 5},
    {**eventbridge("media", "k"), "detail": {"bucket": {}, "object": {}}},
    sns_message(""),
    sns_message("nonsense"),
    sns_message(sns_message(aws("media", "k"))),
    {**sns_message(""), "Message": aws("media", "k")},
    sns_message("You have chosen to subscribe", "SubscriptionConfirmation"),
]


@pytest.mark.parametrize("body", MALFORMED)
def test_what_is_no_event_has_a_code(body: Any) -> None:
    with pytest.raises(MalformedEvent) as caught:
        parse(body)
    assert caught.value.code == "malformed"


def test_a_hundred_records_are_read() -> None:
    assert len(parse({"Records": [RECORD] * 100})) == 100


TEXT = st.text(st.characters(codec=None), max_size=9) | st.sampled_from(["\0", "%00", "\ud800"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def nearly(draw: st.DrawFn) -> Any:
    """A right body, with something else in one place."""
    body = json.loads(json.dumps(draw(st.sampled_from(DIALECTS))("media", "site/photos/k.jpg")))
    node = body
    while True:
        name = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if not node[name] or not isinstance(node[name], dict | list) or draw(st.booleans()):
            node[name] = draw(JSON)
            return body
        node = node[name]


thorough = hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


@pytest.mark.django_db
def test_whatever_is_said_nothing_breaks(caplog: pytest.LogCaptureFixture) -> None:
    heard: set[str] = set()

    @thorough
    @given(JSON | nearly())
    def say(body: Any) -> None:
        try:
            tally = events.settle(parse(json.dumps(body)))
        except MalformedEvent:
            heard.add("malformed")
        else:
            heard.add("read")
            assert (tally.settled, tally.again) == (0, 0), caplog.text

    say()
    assert heard == {"malformed", "read"}


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["a\0b", "a%00b", "\ud800", "%", "%FF", "k" * 5000, "", "'; --"])
def test_a_key_that_no_row_can_have(key: str) -> None:
    assert events.settle([Event("media", key, "created")]) == Tally(0, 1, 0)
    assert events.settle([Event(key, "k", "created")]) == Tally(0, 1, 0)


# The webhook.

Post = Callable[..., Any]


@pytest.fixture
def configure(settings: Any) -> Callable[..., None]:
    def configure(**changes: Any) -> None:
        settings.S3DIRECT_UPLOADS = {**settings.S3DIRECT_UPLOADS, **changes}

    return configure


@pytest.fixture
def post(configure: Callable[..., None], s3: Bucket, db: None) -> Post:
    """POST to the webhook, with its secret unless it is said otherwise."""
    configure(EVENT_SECRET=SECRET)

    def post(body: Any, headers: dict[str, str] = BEARER, path: str = "/s3-events/") -> Any:
        said = body if isinstance(body, bytes) else json.dumps(body)
        client = Client(enforce_csrf_checks=True)
        return client.post(path, said, content_type="application/json", headers=headers)

    return post


@pytest.fixture
def causes(connect: Connect) -> list[str]:
    """Who noticed each completion from now on."""
    heard: list[str] = []

    def hear(cause: str, **_: Any) -> None:
        heard.append(cause)

    connect(signals.upload_completed, hear)
    return heard


def sent(app: App, **declaration: Any) -> Upload:
    """Begun and sent, and the tab is closed."""
    begun = app.begin(**declaration)
    assert app.send(begun.json()["request"]) == 200
    return row(begun)


def said(answer: Any) -> tuple[int, int, int]:
    body = answer.json()
    return answer.status_code, body["settled"], body["ignored"]


def refused(answer: Any) -> tuple[int, str]:
    body = answer.json()
    assert body["detail"]
    assert body["errors"] == []
    return answer.status_code, body["code"]


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

    # Again, by another, and late: S3 is not even asked.
    assert said(post(body)) == (200, 1, 0)
    assert alice.confirm(str(upload.pk)).status_code == 200
    assert said(post(body)) == (200, 1, 0)
    assert (s3_calls, causes) == (["HeadObject"], ["event"])


@pytest.mark.parametrize("dialect", [aws, ceph, minio, eventbridge])
@pytest.mark.parametrize("location", ["a+b", "a b", "a%2Bb", "50%", "é/+%20"])
def test_the_folder_of_the_storage_may_hold_what_is_encoded(
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


def test_before_the_put_and_after_a_delete_nothing_happens(
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
    alias = f"{s3.name}-s3alias"  # as no bucket of AWS's is called; here one stands for it
    s3.client.create_bucket(Bucket=alias)
    storage_options(bucket_name=alias)
    upload = sent(alice)
    assert upload.bucket == alias

    assert said(post(aws("the-bucket-behind-it", upload.key + "x"))) == (200, 0, 1)
    assert said(post(aws("the-bucket-behind-it", upload.key))) == (200, 1, 0)
    upload.refresh_from_db()
    assert (upload.status, upload.bucket) == ("completed", alias)


def test_an_event_is_a_hint_alone_to_look_through_the_access_point(
    alice: App, post: Post, s3: Bucket, storage_options: Callable[..., None]
) -> None:
    """Whatever it claims, S3 is asked by the row's own bucket."""
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
def test_parts_that_are_not_complete_stay_so(alice: App, post: Post, s3_calls: list[str]) -> None:
    begun = alice.begin_film().json()
    alice.send_parts(begun["multipart"]["parts"][:1])
    s3_calls.clear()

    # Older Ceph sends one for the Create of a multipart upload.
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
def test_what_is_written_on_a_tombstone_is_to_be_deleted_again(
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


def test_while_s3_is_away_it_is_to_be_sent_again(
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
    # Of the first, and of a key that nobody made; not of the second.
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


def test_one_bad_row_stops_no_other(
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


def test_it_waits_for_s3_in_no_transaction(alice: App) -> None:
    assert events.webhook._non_atomic_requests == {"default"}  # type: ignore[attr-defined]
    upload = sent(alice)
    with transaction.atomic(), pytest.raises(TransactionManagementError):
        lifecycle.notice(upload.bucket, upload.key)


@pytest.mark.parametrize("body", [each for each in MALFORMED if isinstance(each, bytes)])
def test_nonsense_is_a_400(post: Post, body: bytes) -> None:
    assert refused(post(body)) == (400, "malformed")


def test_a_million_bytes_are_enough(post: Post, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10  # is not ours to obey, nor to fall over
    filled = {**aws("media", "k"), "filler": ""}
    filled["filler"] = "x" * (1024**2 - len(json.dumps(filled)))
    assert said(post(filled)) == (200, 0, 1)
    filled["filler"] += "x"
    assert refused(post(filled)) == (413, "request_too_large")
    assert refused(post(b"[" * 3 * 1024**2)) == (413, "request_too_large")


# Who may.


def basic(password: str, user: str = "ceph") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    "headers",
    [BEARER, {"Authorization": f"bearer {SECRET}"}, basic(SECRET), basic(SECRET, user="")],
)
def test_the_secret_is_a_token_or_a_password(post: Post, headers: dict[str, str]) -> None:
    assert said(post({"Records": []}, headers)) == (200, 0, 0)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": SECRET},
        {"Authorization": f"Token {SECRET}"},
        {"Authorization": f"Bearer {SECRET}x"},
        {"Authorization": f"Bearer {SECRET[:-1]}"},
        {"Authorization": f"Bearer {SECRET.upper()}"},
        {"Authorization": f"Bearer {SECRET}\u00e9"},
        {"Authorization": f"Basic {SECRET}"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic \u00e9"},
        basic(""),
        basic("ceph", user=SECRET),
        basic(f":{SECRET}"),
        {"Cookie": f"Authorization=Bearer {SECRET}"},
        {"X-Authorization": f"Bearer {SECRET}"},
        {"X-Secret": SECRET},
    ],
)
def test_without_the_secret_nothing_moves(
    alice: App,
    post: Post,
    s3_calls: list[str],
    headers: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    upload = sent(alice)
    body = {**aws(upload.bucket, upload.key), "secret": SECRET, "Authorization": SECRET}

    for path in ("/s3-events/", f"/s3-events/?secret={SECRET}&token={SECRET}"):
        answer = post(body, headers, path)
        assert refused(answer) == (401, "not_authenticated")
        assert answer.headers["WWW-Authenticate"].startswith("Basic "), "SNS waits to be asked"
    upload.refresh_from_db()
    assert (upload.status, s3_calls) == ("pending", [])
    assert SECRET not in "".join(
        record.getMessage() for record in caplog.records if record.name == "s3direct_uploads"
    )


@pytest.mark.parametrize("secret", ["", None, "short", "x" * 15, 5, "with spaces in between it"])
def test_without_a_secret_there_is_no_webhook(
    post: Post, configure: Callable[..., None], secret: Any
) -> None:
    configure(EVENT_SECRET=secret)
    for headers in (BEARER, {"Authorization": f"Bearer {secret}"}, {"Authorization": "Bearer "}):
        assert refused(post({"Records": []}, headers)) == (404, "not_found")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_only_posts(post: Post, method: str) -> None:
    answer = Client().generic(method, "/s3-events/", headers=BEARER)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


@override_settings(
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
)
def test_a_site_that_requires_a_login_lets_it_in(post: Post) -> None:
    assert said(post({"Records": []})) == (200, 0, 0)


# SNS: signed, by a key and a certificate of our own making.

KEY = rsa.generate_private_key(65537, 2048)
CERT_URL = sns_message("")["SigningCertURL"]


def certificate(key: rsa.RSAPrivateKey, *, days: int = 1) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=9))
    made = builder.not_valid_after(now + timedelta(days=days)).sign(key, SHA256())
    return made.public_bytes(Encoding.PEM)


def signed(body: dict[str, Any], key: rsa.RSAPrivateKey = KEY, version: str = "1") -> Any:
    fields = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    if body["Type"] != "Notification":
        fields = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{body[name]}\n" for name in fields if name in body)
    algorithm = {"1": SHA1, "2": SHA256}[version]()
    signature = base64.b64encode(key.sign(text.encode(), padding.PKCS1v15(), algorithm)).decode()
    return {**body, "SignatureVersion": version, "Signature": signature}


def subscription(kind: str = "SubscriptionConfirmation", **changes: Any) -> dict[str, Any]:
    """docs.aws.amazon.com/sns/latest/dg/http-subscription-confirmation-json.html"""
    topic = changes.get("TopicArn", TOPIC)
    body = sns_message("You have chosen to subscribe to the topic.", kind)
    del body["Subject"], body["UnsubscribeURL"]
    host = "https://sns.eu-central-1.amazonaws.com"
    body["Token"] = "2336412f37"
    body["SubscribeURL"] = f"{host}/?Action=ConfirmSubscription&TopicArn={topic}&Token=2336412f37"
    return {**body, **changes}


@pytest.fixture
def sns_says(
    configure: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """What the world answers to a GET, by URL; ``asked`` has the URLs, in order."""
    answers: dict[str, Any] = {CERT_URL: certificate(KEY), "asked": []}

    def fetch(url: str) -> bytes:
        answers["asked"].append(url)
        if url not in answers:
            raise SNSUnavailable("SNS cannot be reached; send it again.")
        answer: bytes = answers[url]
        return answer

    monkeypatch.setattr(sns, "fetch", fetch)
    sns._certificate_at.cache_clear()
    configure(SNS_TOPICS=[TOPIC])
    yield answers
    sns._certificate_at.cache_clear()


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("inner", [aws, eventbridge])
@pytest.mark.parametrize("subject", ["Amazon S3 Notification", None])
def test_what_sns_signed_is_read(
    alice: App,
    post: Post,
    sns_says: dict[str, Any],
    version: str,
    inner: Dialect,
    subject: str | None,
) -> None:
    upload = sent(alice)
    body = sns_message(inner(upload.bucket, upload.key))
    if subject is None:
        del body["Subject"]

    for _ in range(2):
        assert said(post(signed(body, version=version))) == (200, 1, 0)
    upload.refresh_from_db()
    assert upload.status == "completed"
    assert sns_says["asked"] == [CERT_URL], "once"


def test_raw_delivery_has_no_envelope(alice: App, post: Post, sns_says: dict[str, Any]) -> None:
    upload = sent(alice)
    headers = {**BEARER, "x-amz-sns-message-type": "Notification", "x-amz-sns-rawdelivery": "true"}
    assert said(post(aws(upload.bucket, upload.key), headers)) == (200, 1, 0)
    assert sns_says["asked"] == []


OTHER_KEY = rsa.generate_private_key(65537, 2048)
FORGED = {
    "unsigned": lambda body: body,
    "no signature": lambda body: {**signed(body), "Signature": None},
    "no base64": lambda body: {**signed(body), "Signature": "!"},
    "another's key": lambda body: signed(body, OTHER_KEY),
    "changed": lambda body: {**signed(body), "Message": body["Message"] + " "},
    "a subject added": lambda body: {
        **signed({k: v for k, v in body.items() if k != "Subject"}),
        "Subject": "x",
    },
    "another version": lambda body: {**signed(body), "SignatureVersion": "2"},
    "an unknown version": lambda body: {**signed(body), "SignatureVersion": "3"},
    "a version that is a list": lambda body: {**signed(body), "SignatureVersion": ["1"]},
    "a field that is no text": lambda body: {**signed(body), "MessageId": 5},
    "a lone surrogate": lambda body: {**signed(body), "MessageId": "\ud800"},
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED.keys())
def test_what_sns_did_not_sign_is_refused(
    alice: App, post: Post, sns_says: dict[str, Any], forge: Callable[[Any], Any]
) -> None:
    upload = sent(alice)
    answer = post(forge(sns_message(aws(upload.bucket, upload.key))))
    assert refused(answer) == (403, "sns_signature_wrong")
    upload.refresh_from_db()
    assert upload.status == "pending"


@pytest.mark.parametrize(
    "url",
    [
        None,
        5,
        "",
        CERT_URL.replace("https", "http"),
        CERT_URL.replace("https", "file"),
        "https://sns.evil.amazonaws.com.evil.com/SimpleNotificationService-f3ec.pem",
        "https://sns.eu-central-1.amazonaws.com.evil.com/SimpleNotificationService-f3ec.pem",
        "https://evil.com/sns.eu-central-1.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.eu-central-1.amazonaws.com@evil.com/SimpleNotificationService-f3ec.pem",
        "https://a:b@sns.eu-central-1.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.eu-central-1.amazonaws.com:444/SimpleNotificationService-f3ec.pem",
        "https://sns.eu-central-1.amazonaws.com\\@evil.com/SimpleNotificationService-f3ec.pem",
        "https://sns.eu-central-1xamazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.evil.com/x.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.a.b.amazonaws.com/SimpleNotificationService-f3ec.pem",
        # Hosts of S3, in its older form: of a bucket that is named "sns".
        "https://sns.s3.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.s3-us-west-2.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.s3-eu-central-1.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.s3-accelerate.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.s3-website-us-west-2.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.s3.amazonaws.com.cn/SimpleNotificationService-f3ec.pem",
        # Hosts of other services, or of another region than the topic's.
        "https://sns.elb.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-f3ec.pem",
        CERT_URL.replace("amazonaws.com", "amazonaws.com.cn"),
        CERT_URL.replace("amazonaws.com", "amazonaws.com."),
        CERT_URL.replace("amazonaws.com", "amazonaws.com:443"),
        CERT_URL.replace("amazonaws", "AMAZONAWS"),
        CERT_URL.replace("amazonaws", "\u0430mazonaws"),
        CERT_URL.replace("sns.", "sns\u3002"),
        CERT_URL.replace("https:", "HTTPS:"),
        "https://s3.eu-central-1.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://evil.s3.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://xsns.eu-central-1.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.eu-central-1.amazonaws.com/evil/SimpleNotificationService-f3ec.pem",
        "https://sns.eu-central-1.amazonaws.com/../SimpleNotificationService-f3ec.pem",
        "https://sns.eu-central-1.amazonaws.com/?x=/SimpleNotificationService-f3ec.pem",
        CERT_URL + "?x",
        CERT_URL + "#x",
        CERT_URL + "\n",
        CERT_URL + "/../x.pem",
        " " + CERT_URL,
        CERT_URL.replace("sns.", "SNS."),
        CERT_URL.replace("f3ec", "\u0661"),
    ],
)
def test_a_certificate_from_elsewhere_is_not_even_asked_for(
    post: Post, sns_says: dict[str, Any], url: Any
) -> None:
    sns_says[str(url)] = certificate(OTHER_KEY)
    body = {**signed(sns_message(aws("media", "k")), OTHER_KEY), "SigningCertURL": url}
    assert refused(post(body)) == (403, "sns_signature_wrong")
    assert sns_says["asked"] == []


@pytest.mark.parametrize(
    "topics",
    [[], None, "uploads", TOPIC, [TOPIC + "s"], [TOPIC.replace("123456789012", "210987654321")]],
)
def test_another_topic_is_refused_though_sns_signed_it(
    post: Post, sns_says: dict[str, Any], configure: Callable[..., None], topics: Any
) -> None:
    configure(SNS_TOPICS=topics)
    for body in (sns_message(aws("media", "k")), subscription()):
        assert refused(post(signed(body))) == (403, "sns_topic_not_allowed")
    assert sns_says["asked"] == []


PARTITIONS = json.loads((Path(botocore.__path__[0]) / "data" / "partitions.json").read_text())


@pytest.mark.parametrize(
    ("region", "partition", "suffix"),
    [
        (region, partition["id"], partition["outputs"]["dnsSuffix"])
        for partition in PARTITIONS["partitions"]
        for region in partition["regions"]
        if not region.endswith("-global")
    ],
)
def test_each_region_of_aws_signs_at_its_own_host(
    post: Post,
    sns_says: dict[str, Any],
    configure: Callable[..., None],
    region: str,
    partition: str,
    suffix: str,
) -> None:
    """As botocore lists the regions."""
    topic = f"arn:{partition}:sns:{region}:123456789012:uploads"
    configure(SNS_TOPICS=[topic])
    url = f"https://sns.{region}.{suffix}/SimpleNotificationService-f3ec.pem"
    sns_says[url] = certificate(KEY)
    body = sns_message({"Records": []}, TopicArn=topic, SigningCertURL=url)
    assert said(post(signed(body))) == (200, 0, 0)
    assert sns_says["asked"] == [url]


@pytest.mark.parametrize("topic", [5, None, [], {}, [TOPIC]])
def test_a_topic_that_is_no_text(post: Post, sns_says: dict[str, Any], topic: Any) -> None:
    body = {**signed(sns_message(aws("media", "k"))), "TopicArn": topic}
    assert refused(post(body)) == (400, "malformed")
    assert sns_says["asked"] == []


def test_a_certificate_that_has_ended(post: Post, sns_says: dict[str, Any]) -> None:
    sns_says[CERT_URL] = certificate(KEY, days=-1)
    assert refused(post(signed(sns_message({})))) == (403, "sns_signature_wrong")


def test_while_sns_is_away_it_is_to_be_sent_again(
    alice: App, post: Post, sns_says: dict[str, Any]
) -> None:
    upload = sent(alice)
    body = signed(sns_message(aws(upload.bucket, upload.key)))
    right = sns_says.pop(CERT_URL)
    answer = post(body)
    assert refused(answer) == (503, "sns_unavailable")
    assert answer.headers["Retry-After"] == "5"

    sns_says[CERT_URL] = b"no certificate"
    assert refused(post(body)) == (503, "sns_unavailable")

    sns_says[CERT_URL] = right
    assert said(post(body)) == (200, 1, 0), "a failure was not kept"


def test_without_cryptography_it_says_what_to_install(
    post: Post,
    sns_says: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    missing: dict[str, Any] = {"cryptography.exceptions": None}
    for name, module in missing.items():
        monkeypatch.setitem(sys.modules, name, module)
    assert refused(post(signed(sns_message({})))) == (503, "sns_unavailable")
    assert "pip install 's3direct-uploads[sns]'" in caplog.text
    assert said(post({"Records": []})) == (200, 0, 0), "nothing else needs it"


def test_a_subscription_is_confirmed_where_sns_is(
    post: Post, sns_says: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "s3direct_uploads")
    body = subscription()
    sns_says[body["SubscribeURL"]] = b"<ConfirmSubscriptionResponse/>"

    assert said(post(signed(body))) == (200, 0, 1)
    assert sns_says["asked"] == [CERT_URL, body["SubscribeURL"]]
    assert f"Subscribed to {TOPIC}" in caplog.text
    assert body["Token"] not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        None,
        "http://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        "https://evil.com/?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        "https://sns.eu-central-1.amazonaws.com.evil.com/?Action=ConfirmSubscription&TopicArn="
        + TOPIC,
        "https://sns.eu-central-1.amazonaws.com@evil.com/?Action=ConfirmSubscription&TopicArn="
        + TOPIC,
        "https://sns.s3.amazonaws.com/?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        "https://sns.s3-us-west-2.amazonaws.com/?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        "https://sns.eu-central-1.amazonaws.com.cn/?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        "https://sns.eu-central-1.amazonaws.com./?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        "https://SNS.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        "https://sns.eu-central-1.amazonaws.com/?Action=DeleteTopic&TopicArn=" + TOPIC,
        "https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=" + TOPIC[:-1],
        "https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription",
        "https://sns.eu-central-1.amazonaws.com/x?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        f"https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}\n",
    ],
)
def test_a_subscription_is_confirmed_nowhere_else(
    post: Post, sns_says: dict[str, Any], url: Any
) -> None:
    sns_says[str(url)] = b""
    body = subscription(SubscribeURL=url)
    body = signed(body) if url else {**signed(subscription()), "SubscribeURL": None}
    assert refused(post(body)) == (403, "sns_signature_wrong")
    assert sns_says["asked"] == [CERT_URL]


def test_the_end_of_a_subscription_is_told(
    post: Post, sns_says: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    body = signed(subscription("UnsubscribeConfirmation"))
    assert said(post(body)) == (200, 0, 1)
    assert sns_says["asked"] == [CERT_URL], "which would subscribe us again"
    assert TOPIC in caplog.text


def test_a_fetch_follows_nothing_and_reads_no_more_than_it_should(
    caplog: pytest.LogCaptureFixture,
) -> None:
    visited = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            visited.append(self.path)
            if self.path == "/hang":
                time.sleep(1)
                return
            self.send_response({"/moved": 302, "/error": 500}.get(self.path, 200))
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(b"x" * {"/large": 2**16 + 1, "/full": 2**16}.get(self.path, 1))

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        assert (sns.fetch(f"{url}/"), len(sns.fetch(f"{url}/full"))) == (b"x", 2**16)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sns, "TIMEOUT", 0.2)
            for path in ("/moved", "/error", "/large", "/hang"):
                with pytest.raises(SNSUnavailable) as raised:
                    sns.fetch(url + path)
                answer = raised.value.__context__
                # An HTTPError is the answer itself, with its connection.
                assert not isinstance(answer, HTTPError) or answer.closed
        with pytest.raises(SNSUnavailable):
            sns.fetch(f"http://127.0.0.1:{free_port()}/?Token=abc")
    finally:
        server.shutdown()
        server.server_close()
    assert visited == ["/", "/full", "/moved", "/error", "/large", "/hang"]
    assert "Token" not in caplog.text


# SQS, as moto has it.


@pytest.fixture(scope="module")
def sqs_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    yield f"http://127.0.0.1:{server._server.server_port}"  # type: ignore[union-attr]
    server.stop()


class Sqs:
    """A queue, as who fills it sees it."""

    def __init__(self, endpoint_url: str) -> None:
        self.client = boto3.client(
            "sqs",
            endpoint_url=endpoint_url,
            region_name="eu-central-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        name = f"events-{time.monotonic_ns()}"
        self.url: str = self.client.create_queue(QueueName=name)["QueueUrl"]
        self.options = {
            "queue_url": self.url,
            "region": "eu-central-1",
            "endpoint_url": endpoint_url,
        }

    def send(self, body: Any) -> str:
        said = body if isinstance(body, str) else json.dumps(body)
        id: str = self.client.send_message(QueueUrl=self.url, MessageBody=said)["MessageId"]
        return id

    def left(self) -> int:
        """Messages, whether or not somebody has them in hand."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        request: Any = {"QueueUrl": self.url, "AttributeNames": names}
        return sum(
            int(n) for n in self.client.get_queue_attributes(**request)["Attributes"].values()
        )

    def show_again(self) -> None:
        """As if the visibility timeout were over."""
        self.client.purge_queue(QueueUrl=self.url)

    def consume_until(self, left: int) -> None:
        """SQS gives out as many at once as it likes."""
        for _ in range(3):
            if self.left() > left:
                self.consume()
        assert self.left() == left

    def consume(self) -> None:
        call_command("consume_s3_events", once=True, **self.options)


@pytest.fixture
def sqs(sqs_url: str, db: None, monkeypatch: pytest.MonkeyPatch) -> Sqs:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setattr("s3direct_uploads.management.commands.consume_s3_events.PAUSE", 0)
    return Sqs(sqs_url)


@pytest.mark.parametrize("dialect", [aws, in_sns, eventbridge])
def test_a_message_is_deleted_once_its_rows_are_settled(
    alice: App, sqs: Sqs, causes: list[str], capsys: pytest.CaptureFixture[str], dialect: Dialect
) -> None:
    uploads = [sent(alice) for _ in range(3)]
    for upload in uploads:
        sqs.send(dialect(upload.bucket, upload.key))
    sqs.send(TEST_EVENT)
    sqs.send(aws("another", "k"))
    sqs.send(aws(uploads[0].bucket, uploads[0].key, "ObjectRemoved:Delete"))

    sqs.consume_until(left=0)

    assert set(Upload.objects.values_list("status", flat=True)) == {"completed"}
    assert causes == ["event"] * 3
    assert "done, " in capsys.readouterr().out


def test_poison_is_left_for_the_dead_letter_queue_and_named(
    alice: App, sqs: Sqs, caplog: pytest.LogCaptureFixture
) -> None:
    upload = sent(alice)
    poison = [sqs.send("nonsense"), sqs.send({"Records": [RECORD] * 101}), sqs.send("[" * 100_000)]
    sqs.send(aws(upload.bucket, upload.key))

    sqs.consume_until(left=3)

    upload.refresh_from_db()
    assert upload.status == "completed"
    logged = [each.getMessage() for each in caplog.records if each.name == "s3direct_uploads"]
    for id in poison:
        assert any(f"message {id} stays in the queue" in line for line in logged)
    assert "nonsense" not in "".join(logged)


def test_while_s3_is_away_the_message_stays(
    alice: App, sqs: Sqs, settings: Any, s3_away: Callable[[], None], monkeypatch: Any
) -> None:
    monkeypatch.setattr("s3direct_uploads.s3.queue.VISIBILITY", 1)
    upload = sent(alice)
    sqs.send(aws(upload.bucket, upload.key))
    storages = settings.STORAGES
    s3_away()

    sqs.consume()
    upload.refresh_from_db()
    assert (upload.status, sqs.left()) == ("pending", 1)

    settings.STORAGES = storages
    time.sleep(1.1)  # until it is visible again
    sqs.consume()
    upload.refresh_from_db()
    assert (upload.status, sqs.left()) == ("completed", 0)


def test_what_sqs_gives_out_twice_is_deleted_twice(
    sqs: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one batch: at least once is what it promises."""
    sqs.send(TEST_EVENT)
    receive = Queue.receive
    monkeypatch.setattr(Queue, "receive", lambda self: receive(self) * 2)
    sqs.consume()
    assert sqs.left() == 0


def test_nobody_else_is_given_a_message_in_hand(sqs: Sqs) -> None:
    sqs.send(TEST_EVENT)
    queue = Queue(**{name.removeprefix("queue_"): value for name, value in sqs.options.items()})
    [message] = queue.receive()
    found = sqs.client.receive_message(QueueUrl=sqs.url, WaitTimeSeconds=1)
    assert found.get("Messages", []) == []
    assert queue.delete([message]) == []
    assert sqs.left() == 0


def test_what_sqs_does_not_delete_is_named(
    sqs: Sqs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    id = sqs.send(TEST_EVENT)
    receive = Queue.receive

    def another_deletes_it(self: Queue) -> Any:
        return [
            type(each)(each.id, each.body, "no receipt of this queue's") for each in receive(self)
        ]

    monkeypatch.setattr(Queue, "receive", another_deletes_it)
    sqs.consume()
    assert f"SQS did not delete the message {id}" in caplog.text
    assert sqs.left() == 1


@pytest.mark.parametrize(
    "changes",
    [{"queue_url": "http://127.0.0.1:9/123456789012/none"}, {"endpoint_url": "http://127.0.0.1:9"}],
)
def test_a_queue_that_is_not_there(sqs: Sqs, changes: dict[str, str]) -> None:
    for options in ({}, {"once": True}):
        with pytest.raises(CommandError, match="SQS"):
            call_command("consume_s3_events", **{**sqs.options, **changes, **options})


@pytest.mark.django_db
def test_the_region_is_in_the_url_of_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    for url, region in [
        ("https://sqs.eu-west-3.amazonaws.com/123456789012/uploads", "eu-west-3"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/uploads", "cn-north-1"),
        ("https://sqs.us-gov-west-1.amazonaws.com/123456789012/uploads", "us-gov-west-1"),
        ("https://sqs.us-iso-east-1.c2s.ic.gov/123456789012/uploads", "us-iso-east-1"),
        ("https://eu-west-3.queue.amazonaws.com/123456789012/uploads", "eu-west-3"),
    ]:
        assert Queue(url)._client.meta.region_name == region


@pytest.mark.django_db
@pytest.mark.parametrize(
    "url",
    [
        "https://queues.example.com/uploads",
        "https://sqs.s3.amazonaws.com/uploads",
        "https://sqs.s3-eu-west-3.amazonaws.com/uploads",
        "https://sqs.eu-west-3.amazonaws.com.example.com/uploads",
        "https://sqs.eu-west-3.amazonaws.com.cn/123456789012/uploads",
        "https://eu-west-3.example.com/?x=https://sqs.eu-west-3.amazonaws.com/1/uploads",
    ],
)
def test_a_url_of_another_host_names_no_region(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(CommandError, match="NoRegion"):
        call_command("consume_s3_events", queue_url=url)


def test_it_goes_on_when_sqs_was_away(
    alice: App, sqs: Sqs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    upload = sent(alice)
    receive, tries = Queue.receive, iter(["empty", "away", "there", "end"])

    def sometimes(self: Queue) -> Any:
        match next(tries):
            case "away":
                raise QueueUnavailable("SQS answered 500 to receive.")
            case "there":
                sqs.send(aws(upload.bucket, upload.key))
                return receive(self)
            case "end":
                signal.raise_signal(signal.SIGTERM)
        return []

    monkeypatch.setattr(Queue, "receive", sometimes)
    call_command("consume_s3_events", **sqs.options)
    upload.refresh_from_db()
    assert (upload.status, sqs.left()) == ("completed", 0)
    assert "SQS answered 500" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_its_wait(sqs: Sqs, number: int, tmp_path: Path) -> None:
    """A process of its own, that waits for a message for 20 seconds."""
    command = [sys.executable, "manage.py", "consume_s3_events", "--region", "eu-central-1"]
    command += ["--queue-url", sqs.url, "--endpoint-url", sqs.options["endpoint_url"]]
    environment = child_environment(
        DJANGO_SETTINGS_MODULE="example_project.settings",
        SQLITE_PATH=str(tmp_path / "db.sqlite3"),
    )
    environment.pop("DATABASE_URL", None)
    poison = sqs.send("nonsense")
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        assert process.stdout
        assert process.stderr
        with killed_after(30, process):
            assert poison in process.stderr.readline()
            line = process.stdout.readline()
        assert line == "1 messages, 0 done, 0 uploads\n", "it is at work, and about to wait"
        time.sleep(0.3)
        started = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == 0
        assert time.monotonic() - started < 5


def test_a_signal_ends_it_after_the_batch_in_hand(
    alice: App, sqs: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = [sent(alice) for _ in range(3)]
    records = [s3_record(each.bucket, each.key) for each in uploads]
    sqs.send({"Records": records})
    notice = lifecycle.notice

    def noticed_as_it_is_stopped(*args: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return notice(*args)

    monkeypatch.setattr(lifecycle, "notice", noticed_as_it_is_stopped)
    before = signal.getsignal(signal.SIGTERM)
    call_command("consume_s3_events", **sqs.options)
    assert signal.getsignal(signal.SIGTERM) is before
    assert set(Upload.objects.values_list("status", flat=True)) == {"completed"}
    assert sqs.left() == 0
