"""What S3, EventBridge and SNS send, in the shape that each documents; and who posts it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_plus

import pytest
from django.test import Client

from s3direct_uploads import signals
from s3direct_uploads.models import Upload
from tests.conftest import App, Bucket, Connect, row

SECRET = "s3cret-s3cret-s3cret"
BEARER = {"Authorization": f"Bearer {SECRET}"}
TOPIC = "arn:aws:sns:eu-central-1:123456789012:uploads"


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
    """As Ceph Tentacle sends it: nothing is encoded, and the version is empty."""
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


Post = Callable[..., Any]


@pytest.fixture
def configure(settings: Any) -> Callable[..., None]:
    def configure(**changes: Any) -> None:
        settings.S3DIRECT_UPLOADS = {**settings.S3DIRECT_UPLOADS, **changes}

    return configure


@pytest.fixture
def post(configure: Callable[..., None], s3: Bucket, db: None) -> Post:
    """POST to the webhook, with its secret by default."""
    configure(EVENT_SECRET=SECRET)

    def post(body: Any, headers: dict[str, str] = BEARER, path: str = "/s3-events/") -> Any:
        said = body if isinstance(body, bytes) else json.dumps(body)
        client = Client(enforce_csrf_checks=True)
        return client.post(path, said, content_type="application/json", headers=headers)

    return post


@pytest.fixture
def causes(connect: Connect) -> list[str]:
    """The cause of each completion from now on."""
    heard: list[str] = []

    def hear(cause: str, **_: Any) -> None:
        heard.append(cause)

    connect(signals.upload_completed, hear)
    return heard


def sent(app: App, **declaration: Any) -> Upload:
    """An upload that was begun and sent, and not confirmed."""
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
