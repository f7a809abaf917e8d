"""botocore signs where ours would sign in another way, or where a host's handler takes part."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSResponse, HeadersDict
from django.core.exceptions import ImproperlyConfigured

from s3direct_uploads.exceptions import BucketMisconfigured, ObjectMissing
from s3direct_uploads.s3 import Bucket
from s3direct_uploads.s3.values import Declared
from s3direct_uploads.storage import S3Storage

from .test_signer import DAY, MIDNIGHT, a_storage, clock_at, signed_by_us


def a_session() -> boto3.Session:
    return boto3.Session("AKIA/EXAMPLE", "s/e+cret=", region_name="us-east-1")


def put_by_both(bucket: Bucket) -> tuple[str, str]:
    """The URL of a PUT, and the same by botocore."""
    said = {"ContentLength": 5, "IfNoneMatch": "*", "ContentType": "image/png"}
    with clock_at(MIDNIGHT):
        put = bucket.presign_put("a/b", Declared(5, content_type="image/png"), expires=DAY)
        return put.url, bucket._by_botocore("PutObject", "a/b", said, 24 * 60 * 60)


def test_a_hosts_handlers_take_part() -> None:
    """A session of the host's may have any handlers: they may look at the key."""

    def only_for_some(request: Any, **_: Any) -> None:
        if request.url.endswith("/a/b"):
            request.headers["x-amz-meta-host"] = "said"

    class Handling(S3Storage):
        def _create_session(self) -> Any:
            session = a_session()
            session.events.register("before-sign.s3.PutObject", only_for_some)
            return session

    bucket = Bucket(a_storage(Handling))
    ours, theirs = put_by_both(bucket)
    assert ours == theirs
    assert "x-amz-meta-host" in ours
    assert not signed_by_us(bucket, "PutObject")


@pytest.mark.parametrize(
    ("name", "host"),
    [
        (
            "arn:aws:s3:eu-west-1:123456789012:accesspoint/media",
            "media-123456789012.s3-accesspoint.eu-west-1.amazonaws.com",
        ),
        (
            "media--use1-az4--x-s3",
            "media--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com",
        ),
    ],
)
def test_a_bucket_of_another_kind_is_signed_as_by_botocore(name: str, host: str) -> None:
    """An access point, and a directory bucket of S3 Express."""
    bucket = Bucket(a_storage(bucket_name=name, region_name="us-east-1"))
    ours, theirs = put_by_both(bucket)
    assert ours == theirs
    assert urlsplit(ours).netloc == host


def test_another_version_of_the_signature_is_left_to_botocore() -> None:
    bucket = Bucket(a_storage())
    events: Any = bucket._client.meta.events
    events.register("choose-signer.s3", lambda **_: "s3-query")
    ours, theirs = put_by_both(bucket)
    assert "AWSAccessKeyId=" in ours
    assert ours.partition("&Expires")[0] == theirs.partition("&Expires")[0]
    assert not signed_by_us(bucket, "PutObject")


def answering(status: int, headers: dict[str, str], body: bytes = b"") -> Any:
    """A handler that answers in the place of S3."""

    def answer(request: Any, **_: Any) -> AWSResponse:
        fields: Any = HeadersDict(headers)
        return AWSResponse(request.url, status, fields, FakeRaw(body))

    return answer


class FakeRaw(io.BytesIO):
    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


def test_the_region_that_a_redirect_names_is_signed_from_then_on() -> None:
    bucket = Bucket(a_storage(region_name="eu-west-1"))
    before, theirs = put_by_both(bucket)
    assert before == theirs
    assert before.startswith("https://media.s3.eu-west-1.amazonaws.com/")

    answers = iter([400, 404])
    elsewhere = {"x-amz-bucket-region": "eu-north-1"}
    bucket._client.meta.events.register(
        "before-send.s3", lambda request, **_: answering(next(answers), elsewhere)(request)
    )
    with pytest.raises(ObjectMissing):
        bucket.head("k")

    after, theirs = put_by_both(bucket)
    assert after == theirs
    assert after.startswith("https://media.s3.eu-north-1.amazonaws.com/")
    assert signed_by_us(bucket, "PutObject")


def test_without_credentials_nothing_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    class Anonymous(S3Storage):
        def _create_session(self) -> Any:
            session: Any = boto3.Session(region_name="us-east-1")
            session._session._credentials = None
            return session

    bucket = Bucket(a_storage(Anonymous))
    bucket._credentials = None
    with pytest.raises(ImproperlyConfigured, match="no credentials"):
        bucket.presign_parts("k", "2~x", {1: 1}, expires=DAY)
    with pytest.raises(BucketMisconfigured, match="no credentials"):
        bucket.presign_put("k", Declared(1), expires=DAY)
