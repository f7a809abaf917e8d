"""The bucket: what is signed, for whom, and with which client."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import storages
from storages.backends import s3 as django_storages

from s3direct_uploads.exceptions import (
    BucketMisconfigured,
    BucketUnavailable,
    ObjectMissing,
    StorageNotS3,
)
from s3direct_uploads.s3 import Bucket, Declared, find_bucket, get_bucket
from s3direct_uploads.storage import S3Storage
from tests.conftest import App, row
from tests.conftest import Bucket as Seen

HOUR = timedelta(hours=1)
AWS = {"bucket_name": "media", "access_key": "AKIA", "secret_key": "s", "endpoint_url": None}


def put_url(storage: Any = S3Storage, **options: Any) -> Any:
    bucket = Bucket(storage(**AWS | options))
    request = bucket.presign_put("a/b.jpg", Declared(1, "a/b"), expires=HOUR)
    return urlsplit(request.url)


# Our storage always asks for version 4; django-storages' leaves it to botocore or its settings.
@pytest.mark.parametrize("storage", [S3Storage, django_storages.S3Storage])
@pytest.mark.parametrize("options", [{}, {"signature_version": "s3"}])
@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", "eu-central-1", None])
def test_version_4_signs_in_every_region(
    region: str | None, options: dict[str, str], storage: type[Any]
) -> None:
    query = parse_qs(put_url(storage, region_name=region, **options).query)
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Expires"] == ["3600"]
    assert query["X-Amz-SignedHeaders"] == ["content-length;content-type;host;if-none-match"]


@pytest.mark.parametrize(
    ("options", "host", "path"),
    [
        ({"region_name": "eu-central-1"}, "media.s3.eu-central-1.amazonaws.com", "/a/b.jpg"),
        (
            {"region_name": "eu-central-1", "addressing_style": "path"},
            "s3.eu-central-1.amazonaws.com",
            "/media/a/b.jpg",
        ),
        ({"endpoint_url": "http://minio:9000"}, "minio:9000", "/media/a/b.jpg"),
        (
            {"endpoint_url": "https://s3.example.com", "addressing_style": "virtual"},
            "media.s3.example.com",
            "/a/b.jpg",
        ),
    ],
)
def test_the_storages_addressing_wins_else_what_the_host_wants(
    options: dict[str, Any], host: str, path: str
) -> None:
    url = put_url(**options)
    assert (url.netloc, url.path) == (host, path)


def test_a_session_token_is_signed_too() -> None:
    assert parse_qs(put_url(security_token="tok/en").query)["X-Amz-Security-Token"] == ["tok/en"]


def test_clients_see_the_public_endpoint_and_the_server_its_own() -> None:
    storage = S3Storage(
        **AWS
        | {"endpoint_url": "http://minio:9000", "public_endpoint_url": "https://files.example.com"}
    )
    bucket = Bucket(storage)
    put = bucket.presign_put("k", Declared(1, "a/b"), expires=HOUR)
    get = bucket.presign_get("k", filename="k", inline=False, version_id="", expires=HOUR)
    for url in (put.url, get.url, storage.url("k")):
        assert url.startswith("https://files.example.com/media/k?")
        assert "X-Amz-Signature" in url
    assert bucket._client.meta.endpoint_url == "http://minio:9000"


def test_a_custom_domain_stays_in_charge_of_a_files_url() -> None:
    storage = S3Storage(
        **AWS | {"custom_domain": "cdn.example.com", "public_endpoint_url": "https://f.example.com"}
    )
    assert storage.url("k") == "https://cdn.example.com/k"


def test_object_parameters_become_json_and_headers() -> None:
    parameters = {
        "Expires": datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
        "ServerSideEncryption": "aws:kms",
        "BucketKeyEnabled": True,
        "Metadata": {"by": "us"},
        "ContentType": "not/ours",
    }
    bucket = Bucket(S3Storage(**AWS | {"object_parameters": parameters}))
    found = bucket.object_parameters("k", "public-read")
    assert found == {
        "Expires": "Wed, 02 Jan 2030 03:04:05 GMT",
        "ServerSideEncryption": "aws:kms",
        "BucketKeyEnabled": True,
        "Metadata": {"by": "us"},
        "ACL": "public-read",
    }
    request = bucket.presign_put("k", Declared(0, parameters=found), expires=HOUR)
    assert request.headers == {
        "If-None-Match": "*",
        "Expires": "Wed, 02 Jan 2030 03:04:05 GMT",
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-bucket-key-enabled": "true",
        "x-amz-meta-by": "us",
        "x-amz-acl": "public-read",
    }
    signed = parse_qs(urlsplit(request.url).query)["X-Amz-SignedHeaders"][0].split(";")
    assert set(signed) == {"host", "content-length", *(name.lower() for name in request.headers)}


def test_a_presigned_request_does_not_show_its_url() -> None:
    bucket = Bucket(S3Storage(**AWS))
    request = bucket.presign_put("k", Declared(1, "a/b"), expires=HOUR)
    assert "X-Amz-Signature" not in repr(request)


def test_each_process_has_one_client_for_each_storage(s3: Seen, storage_options: Any) -> None:
    client = get_bucket("default")._client
    assert get_bucket("default")._client is client
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        os.write(write, b"new" if get_bucket("default")._client is not client else b"old")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 3) == b"new"
    os.close(read)
    os.close(write)
    storage_options(location="elsewhere")
    assert get_bucket("default").location == "elsewhere"


def test_a_storage_that_is_not_on_s3_has_no_bucket(settings: Any) -> None:
    with pytest.raises(StorageNotS3):
        get_bucket("staticfiles")
    with pytest.raises(ImproperlyConfigured):
        get_bucket("nowhere")


@pytest.mark.parametrize(
    "options", [{"bucket_name": None}, {"endpoint_url": "no url"}, {"endpoint_url": ""}]
)
def test_a_storage_of_which_no_client_can_be_made_is_misconfigured(
    storage_options: Callable[..., None], options: dict[str, Any]
) -> None:
    storage_options(**options)
    if options == {"endpoint_url": ""}:
        assert get_bucket("default").endpoint_url is None
        return
    with pytest.raises(ImproperlyConfigured):
        get_bucket("default")


def test_a_bucket_is_found_by_its_own_name_if_its_alias_changed(s3: Seen) -> None:
    found = find_bucket("renamed", s3.name)
    assert (found.name, found._client) == (s3.name, get_bucket("default")._client)
    with pytest.raises(BucketUnavailable):
        find_bucket("default", "another-bucket")


def test_head_finds_what_put_stored(s3: Seen) -> None:
    bucket = get_bucket("default")
    with pytest.raises(ObjectMissing):
        bucket.head("nothing")
    declared = Declared(5, "text/plain", "CRC32", "NhCmhg==")
    for _ in range(2):  # as when the first answer was lost
        bucket.put("hello", BytesIO(b"hello"), declared)
    stored = bucket.head("hello")
    assert (stored.size, stored.content_type, stored.version_id) == (5, "text/plain", "")
    assert stored.checksums["CRC32"] == "NhCmhg=="
    assert stored.parameters == {}


def test_a_put_that_s3_refuses_is_bucket_unavailable(s3: Seen) -> None:
    bucket = get_bucket("default")
    declared = Declared(1, "text/plain", parameters={"StorageClass": "NONE_SUCH"})
    with pytest.raises(BucketUnavailable):
        bucket.put("refused", BytesIO(b"x"), declared)


def test_delete_is_idempotent(s3: Seen) -> None:
    bucket = get_bucket("default")
    s3.client.put_object(Bucket=s3.name, Key="gone", Body=b"")
    bucket.delete("gone")
    bucket.delete("gone")
    with pytest.raises(ObjectMissing):
        bucket.head("gone")


@pytest.fixture
def versioned(s3: Seen, storage_options: Callable[..., None]) -> str:
    name = f"{s3.name}-versioned"
    s3.client.create_bucket(Bucket=name)
    s3.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    storage_options(bucket_name=name)
    return name


def test_in_a_bucket_with_versions_every_one_at_the_very_key_goes(s3: Seen, versioned: str) -> None:
    for key in ("k", "k", "k2"):
        s3.client.put_object(Bucket=versioned, Key=key, Body=b"x")
    s3.client.delete_object(Bucket=versioned, Key="k")

    get_bucket("default").delete("k")

    left = s3.client.list_object_versions(Bucket=versioned, Prefix="k")
    assert [each["Key"] for each in left["Versions"]] == ["k2"]
    assert "DeleteMarkers" not in left


def test_a_download_is_of_the_version_that_was_confirmed(
    alice: App, s3: Seen, versioned: str
) -> None:
    upload = row(alice.upload(b"as confirmed"))
    assert upload.version_id
    s3.client.put_object(Bucket=versioned, Key=upload.key, Body=b"swapped later")
    url = alice.get(f"{upload.pk}/url/").json()["url"]
    assert requests.get(url, timeout=10).content == b"as confirmed"


def test_a_bucket_is_made_and_given_its_cors_rules(
    s3: Seen, storage_options: Callable[..., None]
) -> None:
    storage_options(bucket_name=f"{s3.name}-made")
    rule = {"AllowedOrigins": ["https://app.example.com"], "AllowedMethods": ["PUT"]}
    assert get_bucket("default").is_missing()
    for _ in range(2):
        get_bucket("default").create()
    assert not get_bucket("default").is_missing()
    assert get_bucket("default").cors_rules() == []
    get_bucket("default").set_cors_rules([rule])
    (found,) = s3.client.get_bucket_cors(Bucket=f"{s3.name}-made")["CORSRules"]
    assert found["AllowedOrigins"] == ["https://app.example.com"]


def test_an_unreachable_s3_is_named_without_its_url(
    s3_away: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    s3_away()
    assert storages["default"].endpoint_url == "http://127.0.0.1:9"  # type: ignore[attr-defined]
    with pytest.raises(BucketUnavailable):
        get_bucket("default").head("k")
    assert "EndpointConnectionError" in caplog.text
    assert "X-Amz" not in caplog.text


# Failures that somebody must repair, and failures that pass by themselves.


@pytest.fixture
def answering(s3: Seen) -> Iterator[Callable[..., None]]:
    """From now on S3 gives this answer to every request."""
    events = get_bucket("default")._client.meta.events

    def answering(status: int, code: str = "", date: datetime | None = None) -> None:
        def answer(event_name: str, **_: Any) -> Any:
            if status == 301 and "HeadBucket" in event_name:
                return None  # by which botocore finds out where the bucket is
            body = BytesIO(f"<Error><Code>{code}</Code></Error>".encode() if code else b"")
            body.stream = lambda: iter([body.getvalue()])  # type: ignore[attr-defined]
            headers = HTTPHeaders()
            if date:
                headers["Date"] = format_datetime(date, usegmt=True)
            return AWSResponse("http://s3", status, headers, body)

        events.register("before-send.s3", answer, unique_id="answering")

    yield answering
    events.unregister("before-send.s3", unique_id="answering")


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (403, "", "s3:ListBucket"),
        (403, "InvalidAccessKeyId", "access_key"),
        (403, "SignatureDoesNotMatch", "secret_key"),
        (403, "RequestTimeTooSkewed", "clock"),
        (400, "AuthorizationHeaderMalformed", "region_name"),
        (301, "PermanentRedirect", "region_name"),
        (404, "NoSuchBucket", "bucket_name"),
    ],
)
def test_a_failure_that_somebody_must_repair_is_one_line_that_says_how(
    answering: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    status: int,
    code: str,
    hint: str,
) -> None:
    answering(status, code)
    with pytest.raises(BucketMisconfigured) as raised:
        get_bucket("default").abort_multiparts("site/a")
    assert raised.value.code == "bucket_unavailable"
    [record] = [each for each in caplog.records if each.name == "s3direct_uploads"]
    assert hint in record.getMessage()


def test_a_redirect_to_nowhere_is_a_failure_that_somebody_must_repair(
    s3: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    """botocore asks for the bucket's region, is redirected, and asks again, without end."""
    events = get_bucket("default")._client.meta.events

    def redirect(**_: Any) -> Any:
        body = BytesIO(b"<Error><Code>PermanentRedirect</Code></Error>")
        body.stream = lambda: iter([body.getvalue()])  # type: ignore[attr-defined]
        return AWSResponse("http://s3", 301, HTTPHeaders(), body)

    events.register("before-send.s3", redirect, unique_id="redirect")
    try:
        with pytest.raises(BucketMisconfigured):
            get_bucket("default").probe()
    finally:
        events.unregister("before-send.s3", unique_id="redirect")
    assert "region_name" in caplog.text


@pytest.mark.parametrize(("status", "code"), [(500, "InternalError"), (503, "SlowDown")])
def test_a_failure_that_passes_by_itself_is_tried_twice(
    answering: Callable[..., None], s3_calls: list[str], status: int, code: str
) -> None:
    answering(status, code)
    tries: list[str] = []
    events = get_bucket("default")._client.meta.events
    events.register("request-created.s3", lambda **_: tries.append("try"), unique_id="tries")
    try:
        with pytest.raises(BucketUnavailable) as raised:
            get_bucket("default").head("site/a")
    finally:
        events.unregister("request-created.s3", unique_id="tries")
    assert type(raised.value) is BucketUnavailable
    assert tries == ["try", "try"]


@pytest.mark.parametrize(
    ("off", "said"),
    [
        (timedelta(0), ""),
        (timedelta(seconds=-50), ""),
        (timedelta(minutes=-10), "600 s ahead of S3's"),
        (timedelta(minutes=10), "behind S3's"),
    ],
)
def test_a_wrong_clock_is_logged_once_an_hour(
    answering: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    off: timedelta,
    said: str,
) -> None:
    monkeypatch.setattr("s3direct_uploads.s3.client._skew_was_logged", float("-inf"))
    answering(404, date=datetime.now(UTC) + off)
    for _ in range(3):
        with pytest.raises(ObjectMissing):
            get_bucket("default").head("site/a")
    lines = [each for each in caplog.messages if "clock" in each]
    assert len(lines) == bool(said)
    assert said in "".join(lines)


def test_a_404_is_believed_only_where_the_bucket_is(
    s3: Seen, storage_options: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    get_bucket("default").probe()
    storage_options(bucket_name="no-such-bucket")
    with pytest.raises(ObjectMissing):
        get_bucket("default").head("site/a")
    with pytest.raises(BucketMisconfigured):
        get_bucket("default").probe()
    assert "bucket_name" in caplog.text


def test_one_by_one_the_first_failure_is_enough_where_s3_is_away(
    answering: Callable[..., None], s3_calls: list[str]
) -> None:
    answering(501, "NotImplemented")
    bucket = get_bucket("default")
    try:
        keys = [f"site/{number}" for number in range(1000)]
        assert bucket.delete_all(keys) == dict.fromkeys(keys, "bucket_unavailable")
        assert s3_calls == ["DeleteObjects", "DeleteObject", "HeadObject"]
    finally:
        bucket._deletes_many = True
