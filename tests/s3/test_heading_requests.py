"""Which HEADs are ours, and that they are the requests which boto3 would send."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from unittest.mock import patch
from urllib.parse import quote, urlsplit

import pytest
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.client import BaseClient, Config
from botocore.credentials import RefreshableCredentials
from botocore.httpsession import URLLib3Session
from botocore.stub import Stubber
from moto.core.models import botocore_stubber

from s3direct_uploads.exceptions import ObjectMissing
from s3direct_uploads.s3 import Bucket, Declared
from s3direct_uploads.s3.heading import SENDING
from s3direct_uploads.storage import S3Storage
from tests.s3.conftest import (
    KEY,
    PLAIN,
    Headers,
    Server,
    bucket_at,
    by_botocore,
    is_by_boto3,
    learned,
    storage_at,
)


class Body:
    def stream(self, **_: Any) -> Iterator[bytes]:
        return iter(())


def answered(request: Any, status: int, headers: Headers | None = None) -> AWSResponse:
    said: Any = headers or {}  # its type stub asks for another class
    return AWSResponse(request.url, status, said, Body())


def listen(bucket: Bucket, event: str, handler: Callable[..., Any]) -> None:
    events: Any = bucket._client.meta.events  # its type stub allows no answer
    events.register(event, handler, unique_id="host")


# Whoever watches boto3 sees every HEAD.


EVENTS = ["before-call", "request-created", "before-sign", "response-received", "after-call"]


@pytest.mark.parametrize("name", ["s3.HeadObject", "s3", "*.HeadObject", "s3.*"])
@pytest.mark.parametrize("event", EVENTS)
def test_boto3_sends_what_somebody_listens_to(server: Server, event: str, name: str) -> None:
    bucket, seen = learned(bucket_at(server.url)), []
    events = bucket._client.meta.events
    events.register(f"{event}.{name}", lambda **_: seen.append(event), unique_id="host")
    assert [is_by_boto3(bucket) for _ in range(2)] == [True, True]
    assert seen == [event, event]
    events.unregister(f"{event}.{name}", unique_id="host")
    bucket.head(KEY)
    assert seen == [event, event]
    assert not is_by_boto3(bucket), "nobody listens any more"


def test_a_listener_to_other_calls_is_none_to_a_head(server: Server) -> None:
    bucket = learned(bucket_at(server.url))
    bucket._client.meta.events.register("before-call.s3.PutObject", lambda **_: None)
    bucket._client.meta.events.register("before-call.sqs", lambda **_: None)
    assert not is_by_boto3(bucket)


def test_who_listens_before_a_request_is_sent_may_change_it_or_answer(server: Server) -> None:
    """moto answers in this way."""
    bucket, statuses = learned(bucket_at(server.url)), [None, 404, 503]

    def answer(request: Any, **_: Any) -> AWSResponse | None:
        request.headers["X-Told"] = "yes"
        status = statuses.pop(0)
        return None if status is None else answered(request, status)

    listen(bucket, SENDING, answer)
    server.asked.clear()
    assert not is_by_boto3(bucket)
    assert [headers.get("x-told") for _, headers in server.asked] == ["yes"]
    with pytest.raises(ObjectMissing):
        bucket.head(KEY)
    statuses += [None, None]  # boto3 tells of its first try, which has an answer, and of its second
    assert bucket.head(KEY).size == 5
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "replaced",
    [
        lambda bucket: patch.object(
            bucket._client, "head_object", return_value={"ContentLength": 7}
        ),
        lambda _: patch.object(BaseClient, "_make_api_call", lambda *_: {"ContentLength": 7}),
    ],
)
def test_a_replaced_call_of_boto3_is_called(server: Server, replaced: Any) -> None:
    bucket = learned(bucket_at(server.url))
    with replaced(bucket):
        assert bucket.head(KEY).size == 7
    assert [is_by_boto3(bucket) for _ in range(3)] == [True, False, False]


def test_a_monitor_that_wraps_boto3s_call_sees_each(server: Server) -> None:
    bucket, seen, call = learned(bucket_at(server.url)), [], vars(BaseClient)["_make_api_call"]

    def monitored(self: Any, name: str, parameters: Any) -> Any:
        seen.append(name)
        return call(self, name, parameters)

    with patch.object(BaseClient, "_make_api_call", monitored):
        for _ in range(3):
            bucket.head(KEY)
    assert seen == ["HeadObject"] * 3


def test_a_stubber_of_botocore_answers(server: Server) -> None:
    bucket = learned(bucket_at(server.url))
    with Stubber(bucket._client) as stubber:
        stubber.add_response("head_object", {"ContentLength": 7})
        assert bucket.head(KEY).size == 7


# Requests that are not ours to make.


@pytest.fixture
def aws() -> Callable[..., tuple[Bucket, list[str]]]:
    """A bucket at AWS, and its HEADs. Nothing leaves this machine."""

    def aws(**options: Any) -> tuple[Bucket, list[str]]:
        bucket, asked = bucket_at(None, **options), []

        def answer(request: Any, **_: Any) -> AWSResponse:
            headers = {
                name.lower(): value if isinstance(value, str) else value.decode()
                for name, value in request.headers.items()
            }
            assert headers["authorization"] == by_botocore(request.url, headers)
            asked.append(request.url.removesuffix(quote(KEY)))
            return answered(request, 200, PLAIN)

        listen(bucket, "before-send.s3", answer)
        return bucket, asked

    return aws


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({}, "https://media.s3.eu-central-1.amazonaws.com/"),
        ({"region_name": "cn-north-1"}, "https://media.s3.cn-north-1.amazonaws.com.cn/"),
        ({"region_name": None}, "https://media.s3.amazonaws.com/"),
        ({"addressing_style": "path"}, "https://s3.eu-central-1.amazonaws.com/media/"),
        ({"bucket_name": "my.media"}, "https://s3.eu-central-1.amazonaws.com/my.media/"),
        ({"use_ssl": False}, "http://media.s3.eu-central-1.amazonaws.com/"),
        (
            {"client_config": Config(s3={"use_accelerate_endpoint": True})},
            "https://media.s3-accelerate.amazonaws.com/",
        ),
        (
            {"client_config": Config(use_dualstack_endpoint=True)},
            "https://media.s3.dualstack.eu-central-1.amazonaws.com/",
        ),
        (
            {"bucket_name": "arn:aws:s3:eu-central-1:123456789012:accesspoint/mine"},
            "https://mine-123456789012.s3-accesspoint.eu-central-1.amazonaws.com/",
        ),
        (
            {"bucket_name": "media--use1-az4--x-s3", "region_name": "us-east-1"},
            "https://media--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com/",
        ),
        ({"security_token": "tok/en"}, "https://media.s3.eu-central-1.amazonaws.com/"),
    ],
)
def test_wherever_boto3_finds_a_bucket_we_find_it(
    aws: Any, options: dict[str, Any], where: str
) -> None:
    bucket, asked = aws(**options)
    assert [is_by_boto3(bucket) for _ in range(3)] == [True, False, False]
    assert asked == [where] * 3


def no_signature(request: Any) -> None:
    del request.headers["Authorization"]


def another_signature(request: Any) -> None:
    request.headers["Authorization"] = request.headers["Authorization"][:-1] + b"_"


def another_date(request: Any) -> None:
    request.headers["X-Amz-Date"] = b"20300102T030405Z"


def a_session_of_s3_express(request: Any) -> None:
    request.headers["x-amz-s3session-token"] = b"t"


def a_query(request: Any) -> None:
    request.url += "?versionId=1"


def another_key(request: Any) -> None:
    request.url += "2"


@pytest.mark.parametrize(
    "change",
    [
        *(no_signature, another_signature, another_date),
        *(a_session_of_s3_express, a_query, another_key),
    ],
)
def test_boto3_sends_what_we_would_not_sign_as_it_did(server: Server, change: Any) -> None:
    bucket = bucket_at(server.url)
    with patch.object(bucket, "_learned", wraps=bucket._learned) as learn:
        bucket.head(KEY)
    key, request = learn.call_args.args
    assert bucket._learned(key, request)
    change(request)
    assert bucket._learned(key, request) is None


@pytest.mark.parametrize("event", ["before-call.s3", "before-sign.s3", "request-created.s3"])
def test_boto3_sends_the_headers_of_a_host(server: Server, event: str) -> None:
    """A host may register its handlers on the storage's session."""

    def add(**told: Any) -> None:
        (told.get("request") or Parameters(told["params"])).headers["X-Host"] = "its own"

    class OfHost(S3Storage):
        def _create_session(self) -> Any:
            session = super()._create_session()
            session.events.register(event, add)
            return session

    bucket = Bucket(OfHost(**{name: getattr(storage_at(server.url), name) for name in NAMES}))
    assert [is_by_boto3(bucket) for _ in range(3)] == [True, True, True]
    assert [headers["x-host"] for _, headers in server.asked] == ["its own"] * 3


NAMES = ("bucket_name", "access_key", "secret_key", "region_name", "endpoint_url")


class Parameters:
    def __init__(self, parameters: dict[str, Any]) -> None:
        self.headers = parameters["headers"]


@pytest.mark.parametrize("missing", ["_endpoint", "_lookup_cache", "_handlers"])
def test_without_an_attribute_of_botocore_boto3_sends_all(server: Server, missing: str) -> None:
    bucket = bucket_at(server.url)
    bucket.head(KEY)
    bucket._known = None
    client: Any = bucket._client
    request = AWSRequest("HEAD", server.url)
    holder = client if missing == "_endpoint" else client.meta.events._emitter
    value = getattr(holder, missing)
    delattr(holder, missing)
    assert bucket._learned(KEY, request.prepare()) is None
    setattr(holder, missing, value)


@pytest.mark.parametrize(
    ("url", "options", "path"),
    [
        ("/", {}, "/media/k"),
        ("/s3/", {}, "/s3/media/k"),
        ("/", {"addressing_style": "virtual"}, "/k"),
    ],
)
def test_the_path_is_that_of_boto3(
    server: Server, url: str, options: dict[str, Any], path: str
) -> None:
    base = server.url.replace("127.0.0.1", "localhost") if options else server.url
    bucket = bucket_at(base + url, **options)
    with patch("socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("127.0.0.1", server.port))]):
        bucket.head("k")
        with patch.object(bucket, "_by_boto3", side_effect=AssertionError):
            bucket.head("k")
    assert [said for said, _ in server.asked] == [path, path]
    assert len({headers["host"] for _, headers in server.asked}) == 1


def test_who_pays_and_whose_the_bucket_is_are_said_and_signed(server: Server) -> None:
    shared = {"RequestPayer": "requester", "ExpectedBucketOwner": "123456789012"}
    bucket = learned(bucket_at(server.url, object_parameters=shared))
    assert not is_by_boto3(bucket)
    for path, headers in server.asked:
        assert headers["x-amz-request-payer"] == "requester"
        assert headers["x-amz-expected-bucket-owner"] == "123456789012"
        assert "x-amz-expected-bucket-owner;x-amz-request-payer" in headers["authorization"]
        assert headers["authorization"] == by_botocore(server.url + path, headers)


def test_a_bucket_that_moved_is_asked_where_it_is() -> None:
    """S3 redirects, boto3 follows, and the next HEAD goes there at once."""
    bucket = bucket_at(None)
    asked: list[str] = []
    home = "eu-central-1"

    def answer(request: Any, **_: Any) -> AWSResponse:
        host = str(urlsplit(request.url).hostname)
        asked.append(f"{request.method} {host}")
        if home in host:
            return answered(request, 200, PLAIN)
        moved = {"x-amz-bucket-region": home, "Content-Length": "0"}
        return answered(request, 301, moved)

    listen(bucket, "before-send.s3", answer)
    for home in ("eu-central-1", "eu-west-1"):
        bucket.head(KEY)
        asked.clear()
        assert not is_by_boto3(bucket)
        assert asked == [f"HEAD media.s3.{home}.amazonaws.com"]


# Credentials.


def test_credentials_that_rotate_sign_each_head_with_those_of_its_time(server: Server) -> None:
    made: list[str] = []

    def refresh() -> dict[str, str]:
        made.append(f"{len(made)}")
        return {
            "access_key": f"AKIA{made[-1]}",
            "secret_key": f"secret{made[-1]}",
            "token": f"tok/en+{made[-1]}",
            "expiry_time": (datetime.now(UTC) + timedelta(seconds=1)).isoformat(),  # at once
        }

    class OfRole(S3Storage):
        def _create_session(self) -> Any:
            session = super()._create_session()
            role = RefreshableCredentials.create_from_metadata(refresh(), refresh, "role")
            session._session._credentials = role
            return session

    bucket = Bucket(OfRole(bucket_name="media", region_name="us-east-1", endpoint_url=server.url))
    with patch.object(bucket, "_learned", wraps=bucket._learned) as learn:
        for _ in range(5):
            bucket.head(KEY)
            if bucket._known is None:  # they changed between boto3's signature and ours
                assert learn.called
    assert len(made) > 3
    for path, headers in server.asked:
        number = headers["x-amz-security-token"].removeprefix("tok/en+")
        assert f"Credential=AKIA{number}/" in headers["authorization"]
        assert "x-amz-security-token" in headers["authorization"]
        assert headers["authorization"] == by_botocore(
            server.url + path, headers, f"secret{number}"
        )


# Tests of a host.


def test_moto_in_the_process_answers_both() -> None:
    # mock_aws turns this on, and it also empties the buckets that other tests use.
    with patch.object(botocore_stubber, "enabled", True):
        name = f"mocked-{uuid.uuid4().hex}"
        bucket = bucket_at(None, region_name="us-east-1", bucket_name=name)
        bucket.create()
        bucket.put(KEY, BytesIO(b"hello"), Declared(5, "a/b", "CRC32", "NhCmhg=="))
        with patch.object(URLLib3Session, "send", side_effect=AssertionError("It was sent.")):
            first = bucket.head(KEY)
            with patch.object(bucket, "_by_boto3", side_effect=AssertionError):
                assert bucket.head(KEY) == first
                with pytest.raises(ObjectMissing):
                    bucket.head("nothing")
    assert (first.size, first.checksums) == (5, {"CRC32": "NhCmhg=="})
