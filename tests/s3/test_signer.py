"""The signer gives the same URLs as botocore's, byte for byte."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import boto3
import pytest
from botocore import auth
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials
from django.utils.http import content_disposition_header
from hypothesis import assume, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from s3direct_uploads.s3 import Bucket, signer, signing
from s3direct_uploads.s3.values import CHECKSUMS, Declared
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
    storage = a_storage(
        security_token=token, region_name=region, endpoint_url=endpoint, addressing_style=style
    )
    return Bucket(storage)


def a_storage(storage_class: type[S3Storage] = S3Storage, **options: Any) -> S3Storage:
    keys = {"access_key": "AKIA/EXAMPLE", "secret_key": "s/e+cret="}
    return storage_class(**{"bucket_name": "media", **keys, **options})


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
    assert signed_by_us(bucket, "UploadPart")
    assert parse_qs(urlsplit(theirs).query)["X-Amz-SignedHeaders"] == ["content-length;host"]


def signed_by_us(bucket: Bucket, operation: str) -> bool:
    return bool(bucket._connection.places[bucket.name, operation])


def declare(algorithm: str, **declared: Any) -> Declared:
    checksum = "AAAA+/==" if algorithm else ""
    return Declared(checksum_algorithm=algorithm, checksum=checksum, **declared)


declarations = st.builds(
    declare,
    st.sampled_from(["", *CHECKSUMS]),
    size=st.integers(0, 5 * 1024**3),
    content_type=st.sampled_from(["", "image/png", "video/webm;codecs=vp8,opus", "a/b  ; c"]),
    parameters=st.fixed_dictionaries(
        {},
        optional={
            "CacheControl": st.just("max-age=60,  private"),
            "ContentDisposition": st.just("attachment; filename*=utf-8''%C3%A9"),
            "ACL": st.just("public-read"),
            "StorageClass": st.just("STANDARD_IA"),
            "Tagging": st.just("a=b&c=d e"),
            "ServerSideEncryption": st.just("aws:kms"),
            "BucketKeyEnabled": st.booleans(),
            "Expires": st.just("Thu, 01 Jan 2026 00:00:00 GMT"),
            "ObjectLockRetainUntilDate": st.just("2026-01-01T00:00:00+00:00"),
            "Metadata": st.just({"by": "a  b", "x-y_z": "=?"}),
        },
    ),
)


@cases(300)
@given(buckets, keys, declarations, lives, moments)
def test_a_puts_url_is_botocores(
    bucket: Bucket, key: str, declared: Declared, life: int, now: datetime
) -> None:
    said = {"ContentLength": declared.size, "IfNoneMatch": "*", **signing.parameters_of(declared)}
    with clock_at(now):
        ours = bucket.presign_put(key, declared, expires=timedelta(seconds=life))
        theirs = bucket._signer.generate_presigned_url(
            "put_object", Params={"Bucket": bucket.name, "Key": key, **said}, ExpiresIn=life
        )
    assert ours.url == theirs
    assert signed_by_us(bucket, "PutObject")
    signed = parse_qs(urlsplit(theirs).query)["X-Amz-SignedHeaders"][0].split(";")
    assert sorted(signed) == sorted([*map(str.lower, ours.headers), "content-length", "host"])


@cases(300)
@given(buckets, keys, text, st.booleans(), text, lives, moments)
def test_a_downloads_url_is_botocores(
    bucket: Bucket,
    key: str,
    filename: str,
    inline: bool,
    version_id: str,
    life: int,
    now: datetime,
) -> None:
    said = {"ResponseContentDisposition": content_disposition_header(not inline, filename)}
    assume(said["ResponseContentDisposition"] is not None)
    if version_id:
        said["VersionId"] = version_id
    with clock_at(now):
        ours = bucket.presign_get(
            key,
            filename=filename,
            inline=inline,
            version_id=version_id,
            expires=timedelta(seconds=life),
        )
        theirs = bucket._signer.generate_presigned_url(
            "get_object", Params={"Bucket": bucket.name, "Key": key, **said}, ExpiresIn=life
        )
    assert ours.url == theirs
    assert signed_by_us(bucket, "GetObject")


@pytest.mark.parametrize("operation", ["PutObject", "UploadPart", "GetObject"])
def test_what_every_request_says_is_signed_as_by_botocore(operation: str) -> None:
    """The storage's RequestPayer and ExpectedBucketOwner: in headers, or in a link's query."""
    bucket = Bucket(
        a_storage(object_parameters={"RequestPayer": "requester", "ExpectedBucketOwner": "1" * 12})
    )
    key, parameters = "a b", signing.EXAMPLES[operation][1]
    with clock_at(MIDNIGHT):
        ours = bucket._presign(operation, key, parameters, DAY)
        theirs = bucket._by_botocore(operation, key, parameters, 24 * 60 * 60)
    assert ours == theirs
    assert "x-amz-expected-bucket-owner" in ours
    assert signed_by_us(bucket, operation)


def test_a_type_that_botocore_would_not_sign_is_signed() -> None:
    """botocore leaves out the type that HTTP clients send by themselves. Then any type would do."""
    form = "application/x-www-form-urlencoded; charset=utf-8"
    put = bucket_of("us-east-1", None, None, None).presign_put(
        "k", Declared(1, content_type=form), expires=DAY
    )
    assert put.headers["Content-Type"] == form
    assert "SignedHeaders=content-length%3Bcontent-type%3Bhost" in put.url


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
    host, path = signer.host_and_path(str(request.url))
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
    clock = [datetime.now(UTC)]
    numbers = itertools.count()
    made: dict[str, ReadOnlyCredentials] = {}

    def refresh() -> dict[str, str]:
        number = next(numbers)
        made[f"AKIA{number}"] = ReadOnlyCredentials(f"AKIA{number}", f"s{number}", f"t{number}")
        return {
            "access_key": f"AKIA{number}",
            "secret_key": f"s{number}",
            "token": f"t{number}",
            "expiry_time": (clock[0] + timedelta(hours=1)).isoformat(),
        }

    class OfARole(S3Storage):
        def _create_session(self) -> Any:
            session: Any = boto3.Session(region_name="us-east-1")
            session._session._credentials = RefreshableCredentials(
                *("AKIA", "s", "t", clock[0]), refresh, "test", time_fetcher=lambda: clock[0]
            )
            return session

    bucket = Bucket(a_storage(OfARole))
    calls = []
    for number in range(3):
        clock[0] += timedelta(hours=1)
        with clock_at(MIDNIGHT):
            sizes = {1: number, 2: number, 3: number}
            calls.append(bucket.presign_parts("k", "2~x", sizes, expires=DAY))
            put = bucket.presign_put("k", Declared(number), expires=DAY)
        assert f"X-Amz-Credential=AKIA{number}%2F" in put.url
    assert signed_by_us(bucket, "UploadPart")
    assert signed_by_us(bucket, "PutObject")

    for number, parts in enumerate(calls):
        for part in parts:
            assert part.url == by_botocore(
                made[f"AKIA{number}"],
                "PUT",
                part.url.partition("?")[0],
                query={"uploadId": "2~x", "partNumber": str(part.part_number)},
                headers={"content-length": str(number)},
                region="us-east-1",
                expires=24 * 60 * 60,
                now=MIDNIGHT,
            ), "key, secret and token are of the same one"


def test_a_url_of_another_form_is_not_taken_for_an_example() -> None:
    """As those of SigV4A are, and those of a session: they have more, or other, parameters."""
    url = signed_at(MIDNIGHT)
    credentials = signer.Credentials("AKIA", "s")
    asked: dict[str, Any] = {"query": {}, "headers": {}, "credentials": credentials}
    place = signer.place_in(url, "PUT", "k", **asked)
    assert place == signer.Place("https://x/", "eu-central-1", "s3")
    for wrong in (
        url.replace("X-Amz-Signature=", "X-Amz-S3session-Token=t&X-Amz-Signature="),
        url.replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
        url.replace("eu-central-1", "us-east-1"),
        url.replace("X-Amz-Credential", "AWSAccessKeyId"),
        url.replace("https://x/k", "https://x/other"),
        "https://x/k",
    ):
        assert signer.place_in(wrong, "PUT", "k", **asked) is None, wrong


def test_no_secret_is_in_a_repr() -> None:
    credentials = signer.Credentials("AKIA", "the secret", "the token")
    signature = signer.signature_of(credentials, region="us-east-1", expires=60, now=MIDNIGHT)
    said = f"{credentials} {signature}"
    assert "AKIA" in said
    for secret in ("the secret", "the token", "the%20token", repr(signature.key)):
        assert secret not in said
