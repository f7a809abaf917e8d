"""What a bucket needs, as data; and how it is merged with the rules that exist."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import requests
from django.core.exceptions import ValidationError

from s3direct_uploads import provisioning
from s3direct_uploads.provisioning import Needs, Rule
from tests.conftest import App

ORIGIN = "https://app.example.com"
NEEDS = Needs("media", "site/", ("content-type", "if-none-match"), (), 8)
OURS = provisioning.cors_rule(NEEDS, [ORIGIN])
CHECKSUMS = {
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha256",
    "x-amz-sdk-checksum-algorithm",
}


# What is needed.


def test_the_headers_are_those_that_clients_are_told_to_send(
    alice: App, settings: Any, storage_options: Callable[..., None]
) -> None:
    rules = {"MAX_SIZE": 1024, "CONTENT_TYPES": ["image/*"]}
    destinations = {"photos": rules, "public": {**rules, "ACL": "public-read"}}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": destinations}
    storage_options(object_parameters={"CacheControl": "max-age=60", "Metadata": {"By": "us"}})
    needed = set(provisioning.needs_of("default").headers)
    base = {"content-type", "if-none-match", "cache-control", "x-amz-meta-by"}
    assert needed == base | CHECKSUMS | {"x-amz-acl"}

    sent: set[str] = set()
    checksums = [("SHA256", "A" * 43 + "="), ("CRC32", "AAAAAA=="), ("CRC64NVME", "A" * 11 + "=")]
    for destination in destinations:
        for algorithm, value in checksums:
            checksum = {"algorithm": algorithm, "value": value}
            begun = alice.begin(destination=destination, checksum=checksum).json()
            sent |= {name.lower() for name in begun["request"]["headers"]}
    assert sent == needed


def test_parts_alone_need_no_headers(storage_options: Callable[..., None]) -> None:
    storage_options(overwrite_guard="multipart")
    needs = provisioning.needs_of("default")
    assert needs.headers == ()
    assert "AllowedHeaders" not in provisioning.cors_rule(needs, [ORIGIN])


def test_storages_that_share_a_bucket_are_printed_as_one() -> None:
    site = Needs("media", "a/site/", ("content-type",), (), 8)
    docs = Needs("media", "a/docs/", ("if-none-match",), ("public-read",), 9)
    other = Needs("films", "", (), (), 8)
    both = Needs("media", "a/", ("content-type", "if-none-match"), ("public-read",), 9)
    assert provisioning.by_bucket([site, other, docs]) == [both, other]
    assert provisioning.by_bucket([site, Needs("media", "", (), (), 8)])[0].folder == ""
    assert provisioning.by_bucket([site]) == [site]


@pytest.mark.parametrize(
    ("expires", "days"),
    [
        (timedelta(days=7), 8),
        (timedelta(days=7, seconds=1), 9),
        (60, 2),
        (timedelta(days=1), 2),
    ],
)
def test_unfinished_uploads_are_kept_as_long_as_they_may_be_resumed(
    settings: Any, expires: Any, days: int
) -> None:
    settings.S3DIRECT_UPLOADS = {**settings.S3DIRECT_UPLOADS, "MULTIPART_EXPIRES": expires}
    assert provisioning.needs_of("default").abort_days == days


def test_the_storages_are_those_of_the_destinations(settings: Any) -> None:
    rules = {"MAX_SIZE": 1024, "CONTENT_TYPES": ["image/*"]}
    settings.STORAGES = {**settings.STORAGES, "b": settings.STORAGES["default"]}
    settings.S3DIRECT_UPLOADS = {
        "DESTINATIONS": {"x": rules, "y": {**rules, "STORAGE": "b"}, "z": {**rules, "STORAGE": "b"}}
    }
    assert provisioning.aliases() == ["b", "default"]
    assert provisioning.aliases(destination="y") == ["b"]
    assert provisioning.aliases(storage="other") == ["other"]
    with pytest.raises(ValidationError):
        provisioning.aliases(destination="nowhere")


# Origins.


@pytest.mark.parametrize(
    "origin",
    [
        ORIGIN,
        "http://localhost:8000",
        "https://*.example.com",
        "http://localhost:*",
        "https://app.example.com:8443",
        "https://*.example.com:8443",
        "https://app.example.com:*",
        "https://app.*.example.com",
        "https://*-app.example.com",
        "https://*.example.co.uk",
        "https://*.example.github.io",
        "https://*.uploads.internal",
        "http://*.localhost:8000",
        "http://127.0.0.1:*",
        "http://192.168.1.20:*",
        "http://[::1]:*",
        "http://[::1]:8000",
        "https://xn--bcher-kva.example",
    ],
)
def test_an_origin_is_scheme_host_and_port(origin: str) -> None:
    assert provisioning.wrong_origin(origin) is None


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ("app.example.com", "write https://app.example.com"),
        ("https://app.example.com/", "write https://app.example.com"),
        ("https://App.example.com", "write https://app.example.com"),
        ("https://me@app.example.com", "write https://app.example.com"),
        ("https://app.example.com/uploads?x=1", "write https://app.example.com"),
        ("https://app.example.com:443", "leave the :443 out"),
        ("http://app.example.com:80", "leave the :80 out"),
        ("https://*.*.example.com", "one * at most"),
        ("ftp://app.example.com", "scheme"),
        ("null", "scheme"),
        ("", "scheme"),
        ("http*://app.example.com", "scheme"),
        ("*://app.example.com", "scheme"),
        ("*.example.com", "scheme"),
        ("https://[", "no origin"),
        ("https://.", "no origin"),
        ("https://*..com", "no origin"),
        ("https://[::*", "no origin"),
        ("https://app.example.com:port", "no origin"),
        ("https://app.example.com:99999", "no origin"),
        ("https://b\u00fccher.example", "write https://xn--bcher-kva.example"),
        ("https://app.example.com\n", "no origin"),
        ("https://app example.com", "no origin"),
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str, words: str) -> None:
    assert words in (provisioning.wrong_origin(origin) or "")


BROAD = [
    "*",
    "https://*",
    "http://*:8000",
    # Anybody's domain.
    "https://*.com",
    "https://*.com:8443",
    "https://*.com.",
    "https://*.co.uk",
    "https://*.kawasaki.jp",
    "https://*.internal",
    "https://*.xn--p1ai",
    # A domain that somebody may register beside it.
    "https://*example.com",
    "https://*-example.com",
    "https://app*",
    "https://app.*",
    "https://app.*.com",
    "https://app.example.com*",
    "https://app.example.*",
    "http://localhost*",
    "http://127.0.0.1*",
    # Hosts on which anybody may have a name, and what is above those.
    "https://*.github.io",
    "https://*.vercel.app",
    "https://*.herokuapp.com",
    "https://*.cloudfront.net",
    "https://*.s3.amazonaws.com",
    "https://*.amazonaws.com",
    "https://*.fastly.net",
    # Addresses have no subdomains: 192.168.1.example.com begins like one.
    "http://192.168.1.*",
    "http://192.168.1.*:8000",
    "http://*.168.1.20",
    "http://*.1",
    "http://[::ffff:*.0.0.1]",
    "http://[::*]",
]


@pytest.mark.parametrize("origin", BROAD)
def test_a_wildcard_that_lets_strangers_in_must_be_confirmed(origin: str) -> None:
    assert "--allow-any-origin" in (provisioning.wrong_origin(origin) or "")
    assert provisioning.wrong_origin(origin, any_origin=True) is None


def test_every_origin_may_be_allowed() -> None:
    assert provisioning.wrong_origin("https://*/", any_origin=True)
    assert provisioning.wrong_origin("app.example.com", any_origin=True)


# CORS.


def test_an_empty_bucket_gets_one_cors_rule() -> None:
    assert provisioning.merge_cors([], OURS) == [
        {
            "ID": "s3direct-uploads",
            "AllowedOrigins": [ORIGIN],
            "AllowedMethods": ["GET", "HEAD", "PUT"],
            "AllowedHeaders": ["content-type", "if-none-match"],
            "ExposeHeaders": ["ETag"],
            "MaxAgeSeconds": 3600,
        }
    ]


ENOUGH: Rule = {
    "AllowedOrigins": ["https://*.example.com"],
    "AllowedMethods": ["PUT", "HEAD", "GET"],
    "AllowedHeaders": ["Content-*", "if-none-match"],
    "ExposeHeaders": ["etag"],
}


@pytest.mark.parametrize(
    ("changes", "is_enough"),
    [
        ({}, True),
        ({"AllowedOrigins": ["*"]}, True),
        ({"AllowedHeaders": ["*"]}, True),
        ({"AllowedOrigins": ["https://example.com"]}, False),
        ({"AllowedMethods": ["PUT"]}, False),
        ({"AllowedHeaders": ["content-type"]}, False),
        ({"AllowedHeaders": []}, False),
        ({"ExposeHeaders": []}, False),
    ],
)
def test_anothers_cors_rule_may_be_enough_and_is_always_kept(
    changes: dict[str, Any], is_enough: bool
) -> None:
    theirs = {**ENOUGH, **changes}
    merged = provisioning.merge_cors([theirs], OURS)
    assert theirs in merged
    assert len(merged) == (1 if is_enough else 2)
    assert provisioning.merge_cors(merged, OURS) == merged


def test_our_own_cors_rule_gains_origins_and_loses_none() -> None:
    before = [{**OURS, "AllowedOrigins": ["https://old.example.com"], "AllowedHeaders": ["range"]}]
    [ours] = provisioning.merge_cors(before, OURS)
    assert ours["AllowedOrigins"] == [ORIGIN, "https://old.example.com"]
    assert ours["AllowedHeaders"] == ["content-type", "if-none-match", "range"]
    assert provisioning.merge_cors([ours], OURS) == [ours]


def test_our_cors_rule_stands_before_a_rule_that_would_answer_in_its_place() -> None:
    """Ceph asks only the first rule that names the origin."""
    others: list[Rule] = [
        {"AllowedOrigins": ["https://else.example.com"], "AllowedMethods": ["GET"]},
        {"AllowedOrigins": ["*"], "AllowedMethods": ["GET", "DELETE"], "ExposeHeaders": ["X-A"]},
        {"AllowedOrigins": [ORIGIN], "AllowedMethods": ["POST"], "AllowedHeaders": ["*"]},
    ]
    merged = provisioning.merge_cors(others, OURS)
    first, ours, *rest = merged
    assert [first, *rest] == others
    # Their rule still grants these pages what it granted before; our rule adds only our headers.
    assert ours["AllowedMethods"] == ["DELETE", "GET", "HEAD", "POST", "PUT"]
    assert ours["ExposeHeaders"] == ["ETag", "X-A"]
    assert ours["AllowedHeaders"] == OURS["AllowedHeaders"]
    assert provisioning.merge_cors(merged, OURS) == merged
    # Other pages are granted nothing new.
    two = provisioning.cors_rule(NEEDS, [ORIGIN, "https://b.example.com"])
    [_, ours, *_] = provisioning.merge_cors(others[::2], two)
    assert ours["AllowedMethods"] == ["GET", "HEAD", "PUT"]


# Lifecycle.


def rule(prefix: str | None = "", days: int = 8, **more: Any) -> Rule:
    return {
        "ID": "theirs",
        "Status": "Enabled",
        **({"Filter": {"Prefix": prefix}} if prefix is not None else {}),
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days},
        **more,
    }


EXPIRES: Rule = {
    "ID": "e",
    "Status": "Enabled",
    "Filter": {"Prefix": "x/"},
    "Expiration": {"Days": 1},
}


@pytest.mark.parametrize(
    ("theirs", "is_enough"),
    [
        (rule(), True),
        (rule("site/"), True),
        (rule("si"), True),
        (rule(days=1), True),  # whoever wrote it meant it; check_bucket says what it means
        (rule(None, Prefix=""), True),
        (rule("sites/"), False),
        (rule("site/photos/"), False),
        (rule(Status="Disabled"), False),
        (rule(None, Filter={"ObjectSizeGreaterThan": 5}), False),
        (EXPIRES, False),
    ],
)
def test_anothers_lifecycle_rule_may_be_enough(theirs: Rule, is_enough: bool) -> None:
    merged = provisioning.merge_lifecycle([theirs], NEEDS)
    assert merged[0] == theirs
    assert len(merged) == (1 if is_enough else 2)
    assert provisioning.merge_lifecycle(merged, NEEDS) == merged


def test_the_form_of_the_existing_lifecycle_rules_is_kept() -> None:
    old = {"ID": "old", "Status": "Enabled", "Prefix": "logs/", "Expiration": {"Days": 1}}
    *_, ours = provisioning.merge_lifecycle([old], NEEDS)
    assert (ours["Prefix"], "Filter" in ours) == ("site/", False)
    *_, ours = provisioning.merge_lifecycle([EXPIRES], NEEDS)
    assert (ours["Filter"], "Prefix" in ours) == ({"Prefix": "site/"}, False)


def test_our_own_lifecycle_rule_follows_the_settings() -> None:
    before = provisioning.merge_lifecycle([EXPIRES], NEEDS)
    longer = Needs("media", "site/", (), (), 31)
    theirs, ours = provisioning.merge_lifecycle(before, longer)
    assert (theirs, provisioning.abort_days(ours)) == (EXPIRES, 31)


# Permissions, and the whole as text.


def test_the_policy_grants_the_least_that_the_server_needs() -> None:
    objects, versions, bucket = provisioning.iam_policy(NEEDS)["Statement"]
    assert objects["Resource"] == versions["Resource"] == "arn:aws:s3:::media/site/*"
    assert bucket["Resource"] == "arn:aws:s3:::media"
    actions = [action for each in (objects, versions, bucket) for action in each["Action"]]
    assert sorted(actions) == [
        "s3:AbortMultipartUpload",
        "s3:DeleteObject",
        "s3:DeleteObjectVersion",
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",
        "s3:ListBucketVersions",
        "s3:ListMultipartUploadParts",
        "s3:PutObject",
    ]
    public = Needs("media", "", (), ("public-read",), 8)
    assert "s3:PutObjectAcl" in provisioning.iam_policy(public)["Statement"][0]["Action"]


ACCESS_POINT = "arn:aws:s3:eu-west-1:123456789012:accesspoint/photos"


@pytest.mark.parametrize(
    ("options", "arn", "objects"),
    [
        ({"region_name": "eu-west-1"}, "arn:aws:s3:::media", "/site/*"),
        ({"region_name": "cn-north-1"}, "arn:aws-cn:s3:::media", "/site/*"),
        ({"region_name": "us-gov-west-1"}, "arn:aws-us-gov:s3:::media", "/site/*"),
        ({"region_name": "eu-west-1", "location": ""}, "arn:aws:s3:::media", "/*"),
        ({"bucket_name": ACCESS_POINT}, ACCESS_POINT, "/object/site/*"),
        ({"bucket_name": ACCESS_POINT, "location": ""}, ACCESS_POINT, "/object/*"),
        # boto3 accepts this form too; policies do not.
        (
            {"bucket_name": ACCESS_POINT.replace("/photos", ":photos")},
            ACCESS_POINT,
            "/object/site/*",
        ),
        (
            {
                "bucket_name": ACCESS_POINT.replace("aws", "aws-cn").replace("eu-west", "cn-north"),
                "region_name": "cn-north-1",
            },
            "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/photos",
            "/object/site/*",
        ),
    ],
)
def test_policies_name_the_bucket_as_its_partition_does(
    storage_options: Callable[..., None], options: dict[str, str], arn: str, objects: str
) -> None:
    storage_options(**{"bucket_name": "media", "endpoint_url": None, **options})
    needs = provisioning.needs_of("default")
    first, second, bucket = provisioning.iam_policy(needs)["Statement"]
    assert (first["Resource"], second["Resource"]) == (f"{arn}{objects}", f"{arn}{objects}")
    assert bucket["Resource"] == arn
    [statement] = provisioning.signature_age_policy(needs, timedelta(hours=1))["Statement"]
    assert statement["Resource"] == [arn, f"{arn}{objects}"]
    [printed] = provisioning.by_bucket([needs, needs])
    assert printed == needs


def test_an_access_point_has_a_policy_and_no_bucket_of_its_own() -> None:
    needs = Needs(ACCESS_POINT, "site/", ("content-type",), (), 8)
    age = timedelta(hours=1)
    printed = provisioning.as_json(needs, [ORIGIN], age=age, block=False)
    assert set(printed) == {"bucket", "cors", "lifecycle", "iam_policy", "access_point_policy"}
    template = provisioning.as_cloudformation([needs], [ORIGIN], age=None, block=False)
    [policy] = template["Resources"].values()
    assert policy["Type"] == "AWS::IAM::ManagedPolicy"

    alias = Needs("photos-1a2b-s3alias", "site/", (), (), 8)  # which no policy can name
    assert alias.objects() == "<the ARN of photos-1a2b-s3alias>/object/site/*"


def test_the_headers_are_asked_of_a_key_below_the_destinations_prefix(
    settings: Any, storage_options: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A storage may have other object parameters for each folder."""
    rules = {"MAX_SIZE": 1, "CONTENT_TYPES": ["image/*"]}
    destinations = {"photos": rules, "root": {**rules, "PREFIX": ""}}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": destinations}
    asked: list[str] = []

    def get_object_parameters(self: Any, name: str) -> dict[str, Any]:
        asked.append(name)
        return {}

    monkeypatch.setattr(
        "storages.backends.s3.S3Storage.get_object_parameters", get_object_parameters
    )
    provisioning.needs_of("default")
    assert asked == ["site/photos/x", "site/x"]


def test_the_set_up_can_be_printed_as_json() -> None:
    printed = provisioning.as_json(NEEDS, [ORIGIN], age=timedelta(hours=1), block=True)
    assert printed["cors"] == {"CORSRules": [OURS]}
    assert printed["public_access_block"]["BlockPublicPolicy"] is True
    [statement] = printed["bucket_policy"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"NumericGreaterThan": {"s3:signatureAge": 3_600_000}}
    plain = provisioning.as_json(NEEDS, [ORIGIN], age=None, block=False)
    assert set(plain) == {"bucket", "cors", "lifecycle", "iam_policy"}


def test_the_set_up_can_be_printed_as_cloudformation() -> None:
    template = provisioning.as_cloudformation([NEEDS], [ORIGIN], age=timedelta(hours=1), block=True)
    resources = template["Resources"]
    assert {name: each["Type"] for name, each in resources.items()} == {
        "UploadsBucket": "AWS::S3::Bucket",
        "UploadsServerPolicy": "AWS::IAM::ManagedPolicy",
        "UploadsBucketPolicy": "AWS::S3::BucketPolicy",
    }
    bucket = resources["UploadsBucket"]
    assert bucket["DeletionPolicy"] == "Retain"
    [cors] = bucket["Properties"]["CorsConfiguration"]["CorsRules"]
    assert set(cors) == {
        "Id",
        "AllowedOrigins",
        "AllowedMethods",
        "AllowedHeaders",
        "ExposedHeaders",
        "MaxAge",
    }
    [lifecycle] = bucket["Properties"]["LifecycleConfiguration"]["Rules"]
    assert lifecycle["Prefix"] == "site/"
    assert bucket["Properties"]["PublicAccessBlockConfiguration"]["BlockPublicAcls"] is True


def test_a_public_destination_wants_a_bucket_that_takes_acls() -> None:
    needs = Needs("media", "", (), ("public-read",), 8)
    private = Needs("notes", "", (), (), 8)
    template = provisioning.as_cloudformation([needs, private], [ORIGIN], age=None, block=False)
    one, two = (template["Resources"][f"UploadsBucket{n}"]["Properties"] for n in (1, 2))
    assert one["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerPreferred"}]
    assert one["PublicAccessBlockConfiguration"]["BlockPublicAcls"] is False
    assert not {"OwnershipControls", "PublicAccessBlockConfiguration"} & set(two)


@pytest.mark.parametrize(
    ("age", "words"), [(60, "at random"), (119, "at random"), (120, "URL_EXPIRES"), (3600, None)]
)
def test_a_limit_on_a_signatures_age_is_at_least_the_life_of_our_urls(
    age: int, words: str | None
) -> None:
    wrong = provisioning.wrong_signature_age(timedelta(seconds=age))
    assert wrong is None if words is None else words in str(wrong)


def test_a_change_is_shown_as_a_diff() -> None:
    assert list(provisioning.diff("CORS", [OURS], [OURS])) == []
    lines = list(provisioning.diff("CORS", [], [OURS]))
    assert lines[0] == "--- CORS as it is"
    assert f'+      "{ORIGIN}"' in lines
    assert json.dumps(lines)


def test_a_server_takes_the_rules_as_they_are_written(s3_client: Any, s3: Any) -> None:
    """A server accepts the rules, and a preflight request follows them."""
    needs = Needs(s3.name, "site/", ("content-type",), (), 8)
    rules: Any = [provisioning.cors_rule(needs, [ORIGIN])]
    s3_client.put_bucket_cors(Bucket=s3.name, CORSConfiguration={"CORSRules": rules})
    asking = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type",
    }
    url = f"{s3_client.meta.endpoint_url}/{s3.name}/site/k"
    assert requests.options(url, headers=asking, timeout=10).status_code == 200
    s3_client.delete_bucket_cors(Bucket=s3.name)
