"""A HEAD that boto3 does not send is answered as if boto3 had sent it."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest
from botocore import UNSIGNED
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.client import BaseClient, Config
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.httpsession import URLLib3Session
from botocore.stub import Stubber
from hypothesis import example, given
from hypothesis import strategies as st

from s3direct_uploads.exceptions import BucketMisconfigured, ObjectMissing
from s3direct_uploads.s3 import Bucket
from s3direct_uploads.s3.client import READ_TIMEOUT
from s3direct_uploads.s3.heading import SENDING
from s3direct_uploads.storage import S3Storage
from tests.s3.test_signer import cases

Headers = dict[str, str]
MODIFIED = "Wed, 02 Jan 2030 03:04:05 GMT"
PLAIN = {"Content-Length": "5", "Content-Type": "a/b", "ETag": '"e"', "Last-Modified": MODIFIED}
KEY = "site/a b+c/é.jpg"


@dataclass
class Server:
    """It gives each request the same answer, and keeps what it was asked."""

    port: int = 0
    status: int = 200
    headers: Headers = field(default_factory=lambda: {**PLAIN})
    raw: bytes | None = None  # instead of an answer, before the connection ends
    pause: float = 0  # seconds, before the answer
    asked: list[tuple[str, Headers]] = field(default_factory=list)
    connections: int = 0
    tunnels: list[str] = field(default_factory=list)  # that were opened through this proxy

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def sees(self, bucket: Bucket, key: str = KEY) -> int:
        """How many requests this HEAD takes."""
        before = len(self.asked)
        bucket.head(key)
        return len(self.asked) - before


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 20

        def setup(self) -> None:
            super().setup()
            server.connections += 1

        def do_HEAD(self) -> None:
            server.asked.append(
                (self.path, {name.lower(): value for name, value in self.headers.items()})
            )
            threading.Event().wait(server.pause)
            if server.raw is not None:
                self.wfile.write(server.raw)
                self.close_connection = True
                return
            self.send_response_only(server.status)
            for name, value in server.headers.items():
                self.send_header(name, value)
            self.end_headers()

        def do_CONNECT(self) -> None:
            server.tunnels.append(self.path)
            self.send_error(502)

        def log_message(self, *_: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    if tls:
        httpd.socket = tls.wrap_socket(httpd.socket, server_side=True)
    server.port = httpd.server_address[1]
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def storage_at(url: str | None, **options: Any) -> S3Storage:
    return S3Storage(
        **{
            "bucket_name": "media",
            "access_key": "AKIA",
            "secret_key": "secret",
            "region_name": "eu-central-1",
            "endpoint_url": url,
            **options,
        }
    )


def bucket_at(url: str | None, **options: Any) -> Bucket:
    """A bucket of which boto3 has sent no HEAD yet."""
    return Bucket(storage_at(url, **options))


def is_by_boto3(bucket: Bucket, key: str = KEY) -> bool:
    """Whether boto3 sends this HEAD, which S3 answers."""
    with patch.object(bucket, "_by_boto3", side_effect=bucket._by_boto3) as by_boto3:
        bucket.head(key)
    return bool(by_boto3.called)


def learned(bucket: Bucket) -> Bucket:
    assert is_by_boto3(bucket)
    return bucket


def test_boto3_sends_the_first_head_and_we_the_next(server: Server) -> None:
    bucket = bucket_at(server.url)
    assert [is_by_boto3(bucket) for _ in range(4)] == [True, False, False, False]
    (path, by_boto3), *ours = server.asked
    assert path == "/media/site/a%20b%2Bc/%C3%A9.jpg"
    for said, headers in ours:
        assert said == path
        varying = {"authorization", "x-amz-date", "amz-sdk-invocation-id", "amz-sdk-request"}
        assert {name: by_boto3[name] for name in by_boto3.keys() - varying} == {
            name: headers[name] for name in headers.keys() - varying
        }
        assert headers["x-amz-checksum-mode"] == "ENABLED"
        assert headers["authorization"] == by_botocore(server.url + path, headers)


def by_botocore(url: str, headers: Headers, secret: str = "secret") -> str:
    """How botocore signs the request that came, at its own time."""
    scope = headers["authorization"].partition("Credential=")[2].partition(",")[0].split("/")
    signed = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    request = AWSRequest("HEAD", url, {name: headers[name] for name in signed if name != "host"})
    credentials = Credentials(scope[0], secret, headers.get("x-amz-security-token"))
    moment = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
    with patch("botocore.auth.get_current_datetime", return_value=moment, create=True):
        S3SigV4Auth(credentials, "s3", scope[2]).add_auth(request)
    return str(request.headers["authorization"])


# The same answer.


values = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12)
dates = st.sampled_from(
    [
        MODIFIED,
        "2030-01-02T03:04:05Z",
        "1893553445",
        "yesterday",
        "",
        "Wed, 31 Feb 2030 03:04:05 GMT",
    ]
)
numbers = st.sampled_from(["0", "5", "007", "5368709121", "-1", "+5", "five", "5, 5", ""])
HEADERS = {
    "Content-Length": numbers,
    "Content-Type": st.sampled_from(["", "image/jpeg", "video/webm;codecs=vp8,opus"]),
    "ETag": st.sampled_from(['"e"', 'W/"e"', "e", "", '"e-2"']),
    "Last-Modified": dates,
    "x-amz-version-id": st.sampled_from(["null", "3HL4kqtJlcpXroDTDmJ", ""]),
    "x-amz-checksum-sha256": st.just("ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="),
    "x-amz-checksum-crc32": st.sampled_from(["NhCmhg==", "NhCmhg==-2"]),
    "x-amz-checksum-crc64nvme": st.just("M3eFcAZSQlc="),
    "x-amz-checksum-type": st.sampled_from(["FULL_OBJECT", "COMPOSITE", "OTHER"]),
    "Cache-Control": values,
    "Content-Disposition": values,
    "Content-Encoding": st.sampled_from(["gzip", "aws-chunked", ""]),
    "Content-Language": values,
    "Expires": st.sampled_from([MODIFIED, "0", "-1", "never", ""]),
    "x-amz-website-redirect-location": values,
    "x-amz-meta-By": values,
    "X-Amz-Meta-": values,
    "x-amz-storage-class": st.sampled_from(["GLACIER", "STANDARD_IA"]),
    "x-amz-tagging-count": numbers,
    "x-amz-missing-meta": numbers,
    "x-amz-mp-parts-count": numbers,
    "x-amz-delete-marker": st.sampled_from(["true", "false", "perhaps"]),
    "x-amz-server-side-encryption": st.sampled_from(["AES256", "aws:kms"]),
    "x-amz-server-side-encryption-bucket-key-enabled": st.sampled_from(["true", "false"]),
    "x-amz-object-lock-retain-until-date": dates,
    "x-amz-object-lock-mode": st.just("GOVERNANCE"),
    "x-amz-expiration": values,
    "x-amz-restore": st.just('ongoing-request="true"'),
    "x-amz-replication-status": values,
    "Date": dates,
    "Accept-Ranges": st.just("bytes"),
}
plain = {name: st.just(value) for name, value in PLAIN.items()}
answers = st.one_of(
    st.fixed_dictionaries(plain, optional={k: v for k, v in HEADERS.items() if k not in plain}),
    st.fixed_dictionaries({}, optional=HEADERS),
)


def outcome(head: Callable[[], Any]) -> Any:
    """What it returns or raises, with everything that a caller may see of it."""
    try:
        return head()
    except ObjectMissing as error:  # only boto3 makes a ClientError of a 404
        return type(error), str(error)
    except Exception as error:
        cause = error.__cause__
        return type(error), str(error), cause and type(cause), cause and str(cause)


@pytest.fixture(scope="module")
def same() -> Iterator[Any]:
    """Compare our HEAD with boto3's: what it returns or raises, logs, and asks of S3."""
    with serving() as server:
        bucket = bucket_at(server.url)

        def same(**answer: Any) -> tuple[Any, int]:
            results = []
            for ours in (False, True):
                vars(server).update(status=200, headers={**PLAIN}, raw=None, pause=0)
                bucket._known = None
                bucket.head(KEY)
                assert bucket._known
                bucket._known = bucket._known if ours else None
                vars(server).update(answer)
                server.asked.clear()
                with patch("time.sleep"):
                    result = outcome(lambda: _head(bucket))
                results.append((result, len(server.asked)))
            by_boto3, ours = results
            assert ours == by_boto3
            return ours

        same.server = server  # type: ignore[attr-defined]
        yield same


def _head(bucket: Bucket) -> Any:
    return bucket._head(KEY)


@cases(400)
@given(headers=answers)
@example(headers=PLAIN)
@example(headers={**PLAIN, "x-amz-tagging-count": "five"})
@example(headers={**PLAIN, "Expires": "9" * 20})
@example(headers={**PLAIN, "Expires": "9" * 400})
@example(headers={**PLAIN, "Last-Modified": "9" * 20})
@example(headers={**PLAIN, "Last-Modified": "yesterday"})
@example(headers={name: value for name, value in PLAIN.items() if name != "ETag"})
@example(headers={name: value for name, value in PLAIN.items() if name != "Content-Length"})
def test_whatever_the_headers_say_it_is_read_as_boto3_reads_it(same: Any, headers: Headers) -> None:
    same(headers=headers)


@pytest.mark.parametrize("status", [*range(200, 209), *range(300, 309), *range(400, 432), 451])
def test_whatever_the_status_it_means_what_it_means_to_boto3(same: Any, status: int) -> None:
    same(status=status, headers={"Content-Length": "0"})


@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 599])
def test_a_server_that_fails_is_asked_as_often_as_by_boto3(same: Any, status: int) -> None:
    (kind, *_), requests = same(status=status, headers={"Content-Length": "0"})
    assert kind.__name__ == "BucketUnavailable"
    assert requests == (1 if status in (501, 599) else 2)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-A: 1\r\n" * 101 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\nETag: e\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nETag: a\r\nETag: b\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: e\r\nx-amz-meta-a: \xc3\xa9\xff\r\n\r\n",
    ],
    ids=range(10),
)
def test_an_answer_that_is_broken_is_broken_for_both(same: Any, raw: bytes) -> None:
    _, requests = same(raw=raw)
    assert requests <= 2


def test_an_s3_that_is_slow_is_waited_for_twice_and_not_longer(server: Server) -> None:
    bucket = learned(bucket_at(server.url))
    server.pause = READ_TIMEOUT + 1
    server.asked.clear()
    kind, *_ = outcome(lambda: bucket.head(KEY))
    assert kind.__name__ == "BucketUnavailable"
    assert len(server.asked) == 2


def test_after_a_failure_boto3_sends_the_next_head_too(server: Server) -> None:
    bucket = learned(bucket_at(server.url))
    server.status = 403
    with pytest.raises(BucketMisconfigured):
        bucket.head(KEY)
    server.status = 200
    assert [is_by_boto3(bucket) for _ in range(3)] == [True, False, False]


def test_a_404_is_a_missing_object_and_no_failure(server: Server) -> None:
    bucket = learned(bucket_at(server.url))
    server.status = 404
    for _ in range(2):
        with (
            patch.object(bucket, "_by_boto3", side_effect=AssertionError),
            pytest.raises(ObjectMissing),
        ):
            bucket.head(KEY)


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
        return None if status is None else AWSResponse(request.url, status, {}, Empty())

    bucket._client.meta.events.register(SENDING, answer)
    server.asked.clear()
    assert not is_by_boto3(bucket)
    assert [headers.get("x-told") for _, headers in server.asked] == ["yes"]
    with pytest.raises(ObjectMissing):
        bucket.head(KEY)
    statuses += [None, None]  # boto3 tells of its first try, which has an answer, and of its second
    assert bucket.head(KEY).size == 5
    assert len(server.asked) == 2


class Empty:
    def stream(self, **_: Any) -> Iterator[bytes]:
        return iter(())


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
    assert not is_by_boto3(bucket)


def test_a_monitor_that_wraps_boto3s_call_sees_each(server: Server) -> None:
    bucket, seen, call = learned(bucket_at(server.url)), [], BaseClient._make_api_call

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


def add_header(request: Any, **_: Any) -> None:
    request.headers["X-Host"] = "its own"


@pytest.mark.parametrize(
    "options",
    [
        {"client_config": Config(signature_version=UNSIGNED)},
        {"bucket_name": "media--use1-az4--x-s3"},  # a session of S3 Express signs
    ],
)
def test_boto3_sends_what_is_not_signed_by_our_credentials(
    server: Server, options: dict[str, Any]
) -> None:
    storage = storage_at(server.url, **options)
    bucket = Bucket(storage)
    if "client_config" in options:
        bucket._client.meta.events.register("choose-signer.s3", lambda **_: UNSIGNED)
    assert bucket._known is None
    if "client_config" in options:
        assert [is_by_boto3(bucket) for _ in range(2)] == [True, True]


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
            return AWSResponse(request.url, 200, PLAIN, Empty())
        moved = {"x-amz-bucket-region": home, "Content-Length": "0"}
        return AWSResponse(request.url, 301, moved, Empty())

    bucket._client.meta.events.register("before-send.s3", answer)
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
