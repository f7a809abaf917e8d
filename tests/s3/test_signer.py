"""The signer gives the same URLs as botocore's, byte for byte."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from botocore import auth
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials
from hypothesis import assume, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from s3direct_uploads.s3 import Bucket, signer, signing
from s3direct_uploads.storage import S3Storage

DAY = timedelta(days=1)
WEEK = 7 * 24 * 60 * 60  # seconds: the longest that a signature may live
MIDNIGHT = datetime(2027, 1, 1, tzinfo=UTC)
A_SECOND_BEFORE = MIDNIGHT - timedelta(seconds=1)


def cases(number: int) -> hypothesis_settings:
    """The same ones each time."""
    return hypothesis_settings(
        max_examples=number, derandomize=True, database=None, deadline=None, print_blob=False
    )


# Characters that a browser, a proxy or botocore might encode in another way.
AWKWARD = " +~/%&=?#:;,@!$'()*[]<>\"\\^`{|}.-_éß雪\U0001f996\x00\x7f\n"
text = st.text(st.sampled_from(AWKWARD) | st.characters(codec="utf-8"), max_size=30)
keys = text.filter(len)
upload_ids = st.text("AZaz09~.-_+/=", min_size=1, max_size=60)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC))
lives = st.integers(1, WEEK)
secrets = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)
# A client for each, because making one is slow: region, endpoint, addressing style, token.
WHERE = (
    ("us-east-1", None, None, None),  # AWS
    ("eu-west-1", None, "path", "FwoGZXIvYXdzE/+=="),
    ("cn-north-1", None, None, None),
    (None, None, None, "a token"),
    ("us-east-1", "http://minio:9000", None, None),
    ("us-east-1", "http://MinIO.Example:9000", "virtual", None),
    ("eu-central-1", "https://S3.example.com:443", "virtual", "FwoGZXIvYXdzE/+=="),
    ("eu-central-1", "http://s3.example.com:80", None, None),
    ("eu-central-1", "https://s3.example.com:80", None, None),
    ("us-east-1", "https://example.com/s3", None, None),
    ("us-east-1", "http://[::1]:9000", None, None),
    ("us-east-1", "https://[2001:DB8::1]", None, None),
)
ENDPOINTS = [endpoint for _, endpoint, _, _ in WHERE if endpoint]


@cache
def bucket_of(
    region: str | None, endpoint: str | None, style: str | None, token: str | None
) -> Bucket:
    storage = S3Storage(
        bucket_name="media",
        access_key="AKIA/EXAMPLE",
        secret_key="s/e+cret=",
        security_token=token,
        region_name=region,
        endpoint_url=endpoint,
        addressing_style=style,
    )
    return Bucket(storage)


buckets = st.sampled_from(WHERE).map(lambda where: bucket_of(*where))


@contextmanager
def clock_at(now: datetime) -> Iterator[None]:
    """Both clocks: botocore's and ours."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return now.astimezone(tz)

        @classmethod
        def utcnow(cls) -> Any:
            return now.replace(tzinfo=None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auth, "get_current_datetime", Clock.utcnow, raising=False)
        # The oldest botocore that we accept uses the module's datetime.
        patch.setattr(auth, "datetime", SimpleNamespace(datetime=Clock))
        patch.setattr(signing, "datetime", Clock)
        yield


def by_botocore(
    credentials: Credentials | ReadOnlyCredentials,
    method: str,
    url: str,
    *,
    query: dict[str, str],
    headers: dict[str, str],
    region: str,
    expires: int,
    now: datetime,
) -> str:
    request = AWSRequest(method=method, url=url, params=dict(query), headers=headers)
    with clock_at(now):
        S3SigV4QueryAuth(credentials, "s3", region, expires=expires).add_auth(request)
    assert request.url
    return request.url


@cases(400)
@given(
    buckets, keys, upload_ids, st.integers(1, 10_000), st.integers(0, 5 * 1024**3), lives, moments
)
@example(bucket_of("us-east-1", None, None, None), "k", "2~x", 1, 0, 1, A_SECOND_BEFORE)
@example(bucket_of("us-east-1", None, None, None), "k", "2~x", 1, 0, 1, MIDNIGHT)
def test_a_parts_url_is_botocores(
    bucket: Bucket, key: str, upload_id: str, number: int, size: int, life: int, now: datetime
) -> None:
    part = {"UploadId": upload_id, "PartNumber": number, "ContentLength": size}
    with clock_at(now):
        [ours] = bucket.presign_parts(
            key, upload_id, {number: size}, expires=timedelta(seconds=life)
        )
        theirs = bucket._signer.generate_presigned_url(
            "upload_part", Params={"Bucket": bucket.name, "Key": key, **part}, ExpiresIn=life
        )
    assert ours.url == theirs
    assert parse_qs(urlsplit(theirs).query)["X-Amz-SignedHeaders"] == ["content-length;host"]


@cases(200)
@given(
    buckets,
    keys,
    st.fixed_dictionaries(
        {"ContentLength": st.integers(0, 5 * 1024**3)},
        optional={
            "ContentType": st.sampled_from(["video/webm;codecs=vp8,opus", "a/b  ; c"]),
            "IfNoneMatch": st.just("*"),
            "CacheControl": st.just("max-age=60,  private"),
            "ACL": st.just("public-read"),
            "ChecksumCRC32": st.just("AAAA+/=="),
        },
    ),
    lives,
    moments,
)
def test_a_puts_url_is_botocores(
    bucket: Bucket, key: str, parameters: dict[str, Any], life: int, now: datetime
) -> None:
    with clock_at(now):
        theirs = bucket._signer.generate_presigned_url(
            "put_object", Params={"Bucket": bucket.name, "Key": key, **parameters}, ExpiresIn=life
        )
    url, _, query = theirs.partition("?")
    credential = parse_qs(query)["X-Amz-Credential"][0]
    token = parse_qs(query).get("X-Amz-Security-Token", [""])[0]
    signature = signer.signature_of(
        signer.Credentials("AKIA/EXAMPLE", "s/e+cret=", token),
        region=credential.split("/")[-3],
        expires=life,
        now=now,
    )
    headers = {**bucket.headers_of(parameters), "Content-Length": str(parameters["ContentLength"])}
    assert signer.presign(signature, "PUT", url, query={}, headers=headers) == theirs


header_names = st.text("ABYZabyz09-_", min_size=1, max_size=12) | st.sampled_from(
    ["Content-Type", "If-None-Match", "x-amz-acl", "X-Amz-Meta-By", "Range", "content-length"]
)
header_values = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20)
query_names = text.filter(lambda name: not name.lower().startswith("x-amz-"))


@cases(400)
@given(
    st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"]),
    st.sampled_from(ENDPOINTS),
    text,
    st.dictionaries(query_names, text | st.sampled_from(["12", "١٢", "²"]), max_size=4),
    st.dictionaries(header_names, header_values, max_size=4),
    st.tuples(secrets, secrets, st.none() | secrets),
    st.sampled_from(["us-east-1", "eu-central-1"]),
    lives,
    moments,
)
def test_whatever_is_signed_is_signed_as_botocore_does(
    method: str,
    endpoint: str,
    path: str,
    query: dict[str, str],
    headers: dict[str, str],
    secret: tuple[str, str, str | None],
    region: str,
    life: int,
    now: datetime,
) -> None:
    assume(len({name.lower() for name in headers}) == len(headers))
    access_key, secret_key, token = secret
    url = f"{endpoint}/{quote(path, safe='/~')}"
    signature = signer.signature_of(
        signer.Credentials(access_key, secret_key, token or ""),
        region=region,
        expires=life,
        now=now,
    )
    ours = signer.presign(signature, method, url, query=query, headers=headers)
    assert ours == by_botocore(
        Credentials(access_key, secret_key, token),
        method,
        url,
        query=query,
        headers=headers,
        region=region,
        expires=life,
        now=now,
    )


@cases(300)
@given(
    st.sampled_from(["GET", "PUT", "DELETE", "HEAD"]),
    st.sampled_from(ENDPOINTS),
    text,
    st.dictionaries(
        st.text("abyz09-_", min_size=1, max_size=12).filter(lambda name: name != "date"),
        header_values,
        max_size=4,
    ),
    st.tuples(secrets, secrets, st.none() | secrets),
    st.sampled_from(["us-east-1", "eu-central-1"]),
    moments,
)
@example("HEAD", ENDPOINTS[0], "k", {"user-agent": "a  b"}, ("A", "s", "t"), "us-east-1", MIDNIGHT)
def test_a_header_signs_as_botocores_does(
    method: str,
    endpoint: str,
    path: str,
    headers: dict[str, str],
    secret: tuple[str, str, str | None],
    region: str,
    now: datetime,
) -> None:
    access_key, secret_key, token = secret
    request = AWSRequest(method, f"{endpoint}/{quote(path, safe='/~')}", headers)
    with clock_at(now):
        S3SigV4Auth(Credentials(access_key, secret_key, token), "s3", region).add_auth(request)
    theirs = {name.lower(): value for name, value in request.headers.items()}
    host, path = signer.host_and_path(request.url)
    ours = signer.authorization(
        signer.Credentials(access_key, secret_key),
        region=region,
        service="s3",
        method=method,
        host=host,
        path=path,
        headers={name: value for name, value in theirs.items() if name != "authorization"},
    )
    assert ours == theirs["authorization"]


def signed_at(now: datetime) -> str:
    signature = signer.signature_of(
        signer.Credentials("AKIA", "s"), region="eu-central-1", expires=60, now=now
    )
    return signer.presign(signature, "PUT", "https://x/k", query={}, headers={})


def test_the_day_of_a_signature_is_utcs() -> None:
    tokyo, honolulu = timezone(timedelta(hours=9)), timezone(timedelta(hours=-10))
    for now, day in ((A_SECOND_BEFORE, "20261231"), (MIDNIGHT, "20270101")):
        urls = {signed_at(now.astimezone(zone)) for zone in (UTC, tokyo, honolulu)}
        assert len(urls) == 1
        [url] = urls
        assert f"%2F{day}%2Feu-central-1%2Fs3%2Faws4_request&X-Amz-Date={day}T" in url


def test_a_signing_key_is_made_once_a_day() -> None:
    signer._signing_key.cache_clear()
    for _ in range(100):
        signed_at(A_SECOND_BEFORE)
    assert signer._signing_key.cache_info().misses == 1
    for hour in range(24):
        signed_at(MIDNIGHT + timedelta(hours=hour))
    assert signer._signing_key.cache_info().misses == 2
    signed_at(MIDNIGHT + DAY)
    assert signer._signing_key.cache_info().misses == 3


def test_ten_thousand_parts_take_no_key_of_their_own() -> None:
    signer._signing_key.cache_clear()
    sizes = dict.fromkeys(range(1, 10_001), 5 * 1024**2)
    bucket = bucket_of("eu-central-1", None, None, None)
    with clock_at(MIDNIGHT):
        parts = bucket.presign_parts("k", "2~x", sizes, expires=DAY)
    assert [part.part_number for part in parts] == list(sizes)
    assert len({part.url for part in parts}) == 10_000
    assert signer._signing_key.cache_info().misses == 1


def test_credentials_that_rotate_sign_each_call_with_one_set() -> None:
    made: dict[str, ReadOnlyCredentials] = {}
    numbers = itertools.count()

    def refresh() -> dict[str, str]:
        number = next(numbers)
        made[f"AKIA{number}"] = ReadOnlyCredentials(f"AKIA{number}", f"s{number}", f"t{number}")
        return {
            "access_key": f"AKIA{number}",
            "secret_key": f"s{number}",
            "token": f"t{number}",
            "expiry_time": (datetime.now(UTC) + timedelta(seconds=1)).isoformat(),  # at once
        }

    bucket = Bucket(S3Storage(bucket_name="media", access_key="a", secret_key="s"))
    bucket._credentials = RefreshableCredentials.create_from_metadata(refresh(), refresh, "test")

    calls = []
    for number in range(3):
        with clock_at(MIDNIGHT):
            calls.append(
                bucket.presign_parts("k", "2~x", {1: number, 2: number, 3: number}, expires=DAY)
            )

    used = []
    for number, parts in enumerate(calls):
        names = {re.findall(r"X-Amz-Credential=(\w+)%2F", part.url)[0] for part in parts}
        assert len(names) == 1, "one set for all the parts of a call"
        [name] = names
        used.append(name)
        for part in parts:
            assert part.url == by_botocore(
                made[name],
                "PUT",
                part.url.partition("?")[0],
                query={"uploadId": "2~x", "partNumber": str(part.part_number)},
                headers={"content-length": str(number)},
                region="us-east-1",
                expires=24 * 60 * 60,
                now=MIDNIGHT,
            ), "key, secret and token are of the same one"
    assert len(set(used)) == 3, "each call has a set of its own"


def test_no_secret_is_in_a_repr() -> None:
    credentials = signer.Credentials("AKIA", "the secret", "the token")
    signature = signer.signature_of(credentials, region="us-east-1", expires=60, now=MIDNIGHT)
    said = f"{credentials} {signature}"
    assert "AKIA" in said
    for secret in ("the secret", "the token", "the%20token", repr(signature.key)):
        assert secret not in said
