"""What S3 stores although nobody signed it: confirm rejects the upload."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests
from django.core.files.storage import storages

from tests.conftest import JPEG, App, Bucket, row
from tests.models import Photo

from .conftest import EVERYBODY, Sent, head, keys, post, prepend, say

pytestmark = pytest.mark.attack


@pytest.mark.parametrize(
    ("header", "value", "reason"),
    [
        ("Content-Encoding", "gzip", "ContentEncoding"),
        ("Content-Encoding", "br", "ContentEncoding"),
        ("Content-Disposition", "inline", "ContentDisposition"),
        ("Content-Disposition", "attachment; filename=evil.exe", "ContentDisposition"),
        ("Cache-Control", "public, max-age=31536000", "CacheControl"),
        ("Cache-Control", "max-age=0, public", "CacheControl"),
        ("Expires", "Wed, 21 Oct 2099 07:28:00 GMT", "Expires"),
        ("Expires", "never", "Expires"),
        ("Content-Language", "en", "ContentLanguage"),
        # To Ceph these mean the same as x-amz-*. It refuses only x-amz-* if it is not signed.
        ("x-goog-meta-a", "b", "Metadata"),
        ("x-rgw-meta-a", "b", "Metadata"),
        ("x-dho-meta-a", "b", "Metadata"),
        ("x-object-meta-a", "b", "Metadata"),
        ("x-container-meta-a", "b", "Metadata"),
        ("x-account-meta-a", "b", "Metadata"),
        ("x-goog-website-redirect-location", "http://evil.example/", "WebsiteRedirectLocation"),
        ("x-rgw-website-redirect-location", "http://evil.example/", "WebsiteRedirectLocation"),
    ],
)
def test_confirm_rejects_an_object_with_a_header_that_nobody_signed(
    alice: App, s3: Bucket, header: str, value: str, reason: str
) -> None:
    begun = alice.begin().json()
    it = Sent.of(begun["request"])
    it.add(header, value)
    assert it.send() == 200, "S3 accepts it"

    answers = [alice.confirm(begun["id"]) for _ in range(2)]

    assert [each.status_code for each in answers] == [422, 422]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["code"] == "object_mismatch"
    upload = row(answers[0])
    assert (upload.status, upload.completed_at) == ("rejected", None)
    assert reason in upload.reason
    assert upload.due_at == upload.key_closes_at, "its object will be deleted"
    assert alice.get(f"{begun['id']}/url/").json()["code"] == "not_completed"
    assert post(alice, begun["id"]).status_code == 400
    assert not Photo.objects.exists()
    assert Sent.of(begun["request"]).send() == 412, "the object stays until its key closes"


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("x-goog-meta-by", "them", 422),
        ("x-goog-meta-and-by", "them", 422),
        ("x-goog-website-redirect-location", "http://evil.example/", 422),
        ("x-goog-tagging", "delete=soon", 200),  # Ceph keeps the signed tags
    ],
)
def test_nothing_can_be_added_to_the_object_parameters_of_the_host(
    alice: App,
    s3: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    header: str,
    value: str,
    status: int,
) -> None:
    parameters = {"Metadata": {"by": "us"}, "WebsiteRedirectLocation": "/ours", "Tagging": "a=b"}
    monkeypatch.setattr(storages["default"], "object_parameters", parameters)
    begun = alice.begin().json()
    it = Sent.of(begun["request"])
    it.add(header, value)
    assert it.send() == 200

    answer = alice.confirm(begun["id"])

    assert answer.status_code == status
    upload = row(answer)
    assert upload.status == ("completed" if status == 200 else "rejected")
    tags = s3.client.get_object_tagging(Bucket=s3.name, Key=upload.key)["TagSet"]
    assert tags == [{"Key": "a", "Value": "b"}]
    if status == 200:
        found = head(s3, upload)
        assert (found["Metadata"], found["WebsiteRedirectLocation"]) == ({"by": "us"}, "/ours")


def test_confirm_accepts_a_tag_because_a_scanner_may_have_set_it(alice: App, s3: Bucket) -> None:
    """Ceph accepts x-goog-tagging; AWS refuses it. Django cannot tell whose tag it is."""
    begun = alice.begin().json()
    it = Sent.of(begun["request"])
    it.add("x-goog-tagging", "delete=soon")
    assert it.send() == 200
    upload = row(alice.confirm(begun["id"]))
    assert upload.status == "completed"
    assert s3.read(upload) == JPEG


def test_confirm_accepts_the_cache_control_that_browsers_add(alice: App, s3: Bucket) -> None:
    begun = alice.begin().json()
    it = Sent.of(begun["request"])
    it.add("Cache-Control", "max-age=0")
    assert it.send() == 200
    upload = row(alice.confirm(begun["id"]))
    assert upload.status == "completed"
    assert head(s3, upload)["CacheControl"] == "max-age=0"


@pytest.mark.usefixtures("empty")
@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(say("X-HTTP-Method-Override", "DELETE"), id="X-HTTP-Method-Override"),
        pytest.param(say("Content-Encoding", "aws-chunked"), id="Content-Encoding: aws-chunked"),
        pytest.param(say("Content-Range", "bytes 0-3/99"), id="Content-Range"),
        pytest.param(prepend("Content-Type", "text/html"), id="content type: twice, ours last"),
        pytest.param(say("Content_Type", "text/html"), id="Content_Type"),
        pytest.param(say("x_amz_acl", "public-read"), id="x_amz_acl"),
        pytest.param(say("x-goog-acl", "public-read"), id="x-goog-acl"),
        pytest.param(say("x-rgw-acl", "public-read"), id="x-rgw-acl"),
        pytest.param(say("x-goog-grant-read", EVERYBODY), id="x-goog-grant-read"),
        pytest.param(say("x-goog-copy-source", "/x/y"), id="x-goog-copy-source"),
        pytest.param(say("x-goog-storage-class", "GLACIER"), id="x-goog-storage-class"),
        pytest.param(say("x-goog-object-lock-mode", "GOVERNANCE"), id="x-goog-object-lock-mode"),
        pytest.param(
            lambda it: it.rewrite("/site/photos/", "/%73ite%2Fphotos/"), id="key: %73ite%2F"
        ),
    ],
)
def test_a_change_that_s3_ignores_has_no_effect(
    alice: App, s3: Bucket, attack: Callable[[Sent], None]
) -> None:
    begun = alice.begin().json()
    it = Sent.of(begun["request"])
    attack(it)

    assert it.send() == 200

    upload = row(alice.confirm(begun["id"]))
    assert upload.status == "completed"
    assert s3.read(upload) == JPEG
    assert keys(s3) == [upload.key]
    found = head(s3, upload)
    assert (found["ContentType"], found["Metadata"]) == ("image/jpeg", {})
    for other in ("ContentEncoding", "StorageClass", "ObjectLockMode", "ServerSideEncryption"):
        assert other not in found
    grants = s3.client.get_object_acl(Bucket=s3.name, Key=upload.key)["Grants"]
    assert [each["Grantee"]["Type"] for each in grants] == ["CanonicalUser"]
    assert requests.get(begun["request"]["url"].partition("?")[0], timeout=10).status_code == 403
