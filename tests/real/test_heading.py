"""S3 answers our HEAD as it answers boto3's, whatever it has, and whatever is set up wrongly."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import pytest
from django.conf import settings

from s3direct_uploads.s3 import Bucket, Declared, failures, heading
from s3direct_uploads.storage import S3Storage
from tests.conftest import HOUR, PART_SIZE
from tests.conftest import Bucket as Seen
from tests.real.attacks.conftest import Sent
from tests.real.test_poison import POISONS, Poison

pytestmark = pytest.mark.setup

SHA256 = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="  # of b"hello"
STORED: list[dict[str, Any]] = [
    {},
    {"ContentType": "image/jpeg"},
    {"CacheControl": "no-cache", "ContentDisposition": "attachment; filename*=utf-8''%C3%A9.jpg"},
    {"ContentEncoding": "gzip", "ContentLanguage": "de, en"},
    {"Expires": datetime(2099, 1, 2, tzinfo=UTC)},
    {"Metadata": {"by": "us", "Of-Two": "a  b"}},
    {"WebsiteRedirectLocation": "/there"},
    {"Tagging": "a=1&b=2"},
    {"StorageClass": "STANDARD"},
    {"ChecksumSHA256": SHA256},
    {"Body": b""},
]


@pytest.fixture
def options(s3: Seen) -> Iterator[dict[str, Any]]:
    """A bucket of this test."""
    name = f"heads-{uuid.uuid4().hex[:12]}"
    s3.client.create_bucket(Bucket=name)
    yield {**settings.STORAGES["default"]["OPTIONS"], "bucket_name": name}
    try:
        s3.client.delete_bucket_policy(Bucket=name)
        for each in s3.client.list_object_versions(Bucket=name).get("Versions", ()):
            s3.client.delete_object(Bucket=name, Key=each["Key"], VersionId=each["VersionId"])
        s3.client.delete_bucket(Bucket=name)
    except s3.client.exceptions.NoSuchBucket:
        pass


def outcome(bucket: Bucket, key: str) -> Any:
    """What a HEAD returns or raises, and what the log says."""
    lines: list[str] = []
    with patch.object(heading.logger, "error", lambda text, *more: lines.append(text % more)):
        try:
            return bucket.head(key), lines
        except Exception as error:
            return type(error), str(error), lines


def heads(bucket: Bucket, key: str, known: Bucket | None = None) -> tuple[Any, Any]:
    """Of this key, by boto3 and by us. ``known`` is a bucket whose HEADs are ours."""
    bucket._known = None
    by_boto3 = outcome(bucket, key)
    failures._logged.clear()
    source = (known or bucket)._known
    assert source, "we send it"
    bucket._known = replace(source, listeners=heading._handlers(bucket._client))
    with patch.object(bucket, "_try", side_effect=bucket._try) as tried:
        ours = outcome(bucket, key)
    assert tried.called
    return by_boto3, ours


@pytest.mark.parametrize("parameters", STORED, ids=lambda each: "+".join(each) or "plain")
@pytest.mark.parametrize("versions", [False, True])
def test_an_object_is_the_same(
    s3: Seen, options: dict[str, Any], parameters: dict[str, Any], versions: bool
) -> None:
    bucket, key = Bucket(S3Storage(**options)), "site/a b+c/é.jpg"
    if versions:
        s3.client.put_bucket_versioning(
            Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"}
        )
    s3.client.put_object(**{"Bucket": bucket.name, "Key": key, "Body": b"hello", **parameters})
    by_boto3, ours = heads(bucket, key)
    assert ours == by_boto3
    [stored, _] = ours
    assert bool(stored.version_id) == versions
    with patch.object(bucket, "_by_boto3", side_effect=AssertionError):
        assert bucket.head(key) == stored, "the answer is plain"


def test_an_object_of_parts_is_the_same(s3: Seen, options: dict[str, Any]) -> None:
    bucket = Bucket(S3Storage(**options))
    at = {"Bucket": bucket.name, "Key": "film"}
    made = s3.client.create_multipart_upload(**at)
    part = s3.client.upload_part(
        **at, UploadId=made["UploadId"], PartNumber=1, Body=bytes(PART_SIZE)
    )
    s3.client.complete_multipart_upload(
        **at,
        UploadId=made["UploadId"],
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    by_boto3, ours = heads(bucket, "film")
    assert ours == by_boto3
    assert ours[0].size == PART_SIZE


@pytest.mark.parametrize("poison", POISONS, ids=lambda poison: poison.__name__)
def test_an_unreadable_object_is_as_unreadable(
    s3: Seen, options: dict[str, Any], poison: Poison
) -> None:
    bucket = Bucket(S3Storage(**options))
    request = bucket.presign_put("bad", Declared(5, "a/b"), expires=HOUR)
    put = {"method": "PUT", "url": request.url, "headers": request.headers}
    sent = Sent.of(put, b"hello")
    poison(sent)
    assert sent.send() == 200
    s3.client.put_object(Bucket=bucket.name, Key="good", Body=b"x")
    bucket.head("good")
    by_boto3, ours = heads(bucket, "bad", known=_copy(bucket, options))
    assert ours == by_boto3


def _copy(bucket: Bucket, options: dict[str, Any]) -> Bucket:
    copy = Bucket(S3Storage(**options))
    copy._known = bucket._known
    return copy


# What is set up wrongly.


def deny(s3: Seen, name: str, *actions: str) -> None:
    both = [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"]
    statement = {"Effect": "Deny", "Principal": {"AWS": ["*"]}, "Resource": both}
    policy = {"Version": "2012-10-17", "Statement": [{**statement, "Action": list(actions)}]}
    s3.client.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))


BREAK: dict[str, Callable[[Seen, dict[str, Any]], Any]] = {
    "no such access key": lambda _, options: options.update(access_key="AKIANOBODY"),
    "another secret key": lambda _, options: options.update(secret_key="wrong"),
    "a token that nobody issued": lambda _, options: options.update(security_token="x"),
    "another region": lambda _, options: options.update(region_name="eu-west-1"),
    "no such bucket": lambda _, options: options.update(bucket_name="no-such-bucket-anywhere"),
    "no read": lambda s3, options: deny(s3, options["bucket_name"], "s3:GetObject"),
    "no list": lambda s3, options: deny(s3, options["bucket_name"], "s3:ListBucket"),
    "no server": lambda _, options: options.update(endpoint_url="http://127.0.0.1:9"),
}


@pytest.mark.parametrize("key", ["there", "not there"])
@pytest.mark.parametrize("broken", BREAK)
def test_what_is_wrong_is_named_as_by_boto3(
    s3: Seen, options: dict[str, Any], broken: str, key: str
) -> None:
    good = Bucket(S3Storage(**options))
    s3.client.put_object(Bucket=good.name, Key="there", Body=b"x")
    good.head("there")
    assert good._known
    BREAK[broken](s3, options)
    bucket = Bucket(S3Storage(**options))
    known = good._known
    root = known.root.replace(good.name, bucket.name)
    if broken == "no server":
        root = "http://127.0.0.1:9/media/"
    good._known = replace(known, root=root, folder=known.folder.replace(good.name, bucket.name))
    by_boto3, ours = heads(bucket, key, known=good)
    assert ours == by_boto3
