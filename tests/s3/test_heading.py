"""A HEAD that boto3 does not send is answered as if boto3 had sent it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from s3direct_uploads.exceptions import BucketMisconfigured, ObjectMissing
from s3direct_uploads.s3.client import READ_TIMEOUT
from tests.s3.conftest import (
    KEY,
    MODIFIED,
    PLAIN,
    Headers,
    Server,
    bucket_at,
    by_botocore,
    is_by_boto3,
    learned,
    serving,
)
from tests.s3.test_signer import cases


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

        def known() -> tuple[Any, Any]:
            bucket = bucket_at(server.url)
            vars(server).update({"status": 200, "headers": PLAIN, "raw": None})
            bucket.head(KEY)
            assert bucket._known
            return bucket, bucket._known

        shared = known()

        def same(**answer: Any) -> tuple[Any, int]:
            # botocore tries again only so often for a client: failures need a client of their own.
            bucket, as_learned = known() if answer.keys() - {"headers"} else shared
            vars(server).update({"status": 200, "headers": PLAIN, "raw": None, **answer})
            results: list[tuple[Any, int]] = []
            for as_known in (None, as_learned):
                bucket._known = as_known
                server.asked.clear()
                with patch("time.sleep"):
                    result = outcome(lambda: bucket._head(KEY))
                results.append((result, len(server.asked)))
            by_boto3, ours = results
            assert ours == by_boto3
            return ours

        yield same


@cases(200)
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
