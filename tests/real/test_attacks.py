"""The attack table: what somebody with a login and a presigned URL may try.

Each row ends with what the bucket and the row hold. S3 here is Ceph, which verifies signatures.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPConnection
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from uuid import UUID

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from django.contrib.auth.models import Permission, User
from django.core.files.storage import storages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from s3direct_uploads import lifecycle
from s3direct_uploads.events import sns
from s3direct_uploads.exceptions import BucketUnavailable, UploadError
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import (
    Declared,
    PresignedMultipart,
    PresignedRequest,
    StoredPart,
    get_bucket,
)
from tests.conftest import (
    FILM,
    JPEG,
    LAST,
    PART_SIZE,
    URL,
    App,
    Bucket,
    begin_last_part,
    row,
)
from tests.models import Photo

pytestmark = pytest.mark.attack

PHOTOS = "/api/photos/"
OTHER = JPEG[::-1]  # other bytes, as many
EVERYBODY = "uri=http://acs.amazonaws.com/groups/global/AllUsers"
HTML = b"<script>alert(document.domain)</script>"


@dataclass
class Sent:
    """A request to S3 as it leaves, octet for octet: ``requests`` would tidy it up first."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes

    @classmethod
    def of(cls, request: dict[str, Any], body: bytes = JPEG) -> Sent:
        own = [("Host", urlsplit(request["url"]).netloc), ("Content-Length", str(len(body)))]
        return cls(request["method"], request["url"], [*own, *request["headers"].items()], body)

    def rewrite(self, old: str, new: str) -> None:
        assert old in self.url
        self.url = self.url.replace(old, new, 1)

    def parameter(self, name: str) -> str:
        return parse_qs(urlsplit(self.url).query)[name][0]

    def add(self, name: str, value: str) -> None:
        self.headers.append((name, value))

    def drop(self, name: str) -> None:
        kept = [each for each in self.headers if each[0].lower() != name.lower()]
        assert len(kept) < len(self.headers), f"{name} was not among them"
        self.headers = kept

    def change(self, name: str, value: str) -> None:
        self.drop(name)
        self.add(name, value)

    def carry(self, body: bytes) -> None:
        self.body = body
        self.change("Content-Length", str(len(body)))

    def start(self, body: bytes) -> HTTPConnection:
        there = urlsplit(self.url)
        to_s3 = HTTPConnection(there.netloc, timeout=10)
        target = f"{there.path}?{there.query}" if there.query else there.path
        to_s3.putrequest(self.method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers:
            to_s3.putheader(name, value)
        to_s3.endheaders(body)
        return to_s3

    def send(self) -> int:
        to_s3 = self.start(self.body)
        try:
            return to_s3.getresponse().status
        finally:
            to_s3.close()


def keys(s3: Bucket) -> list[str]:
    pages = s3.client.get_paginator("list_objects_v2").paginate(Bucket=s3.name)
    return [each["Key"] for page in pages for each in page.get("Contents", ())]


@pytest.fixture
def empty(s3: Bucket) -> None:
    """The bucket is empty before this test, so that whatever it holds after was put by it."""
    for key in keys(s3):
        s3.client.delete_object(Bucket=s3.name, Key=key)


def head(s3: Bucket, upload: Upload) -> dict[str, Any]:
    found: dict[str, Any] = s3.client.head_object(Bucket=s3.name, Key=upload.key)
    return found


def post(app: App, image: object) -> Any:
    return app.client.post(PHOTOS, {"image": image}, format="json")


def set_settings(settings: Any, **changes: Any) -> None:
    settings.S3DIRECT_UPLOADS = {**settings.S3DIRECT_UPLOADS, **changes}


def assert_still_works(app: App, s3: Bucket, begun: dict[str, Any]) -> None:
    """The attack left no trace: the row is pending, and the honest request does what it should."""
    answer = app.confirm(begun["id"])
    assert (answer.status_code, answer.json()["code"]) == (409, "object_missing")
    upload = row(answer)
    assert (upload.status, upload.etag, upload.completed_at) == ("pending", "", None)
    assert Sent.of(begun["request"]).send() == 200
    assert row(app.confirm(begun["id"])).status == "completed"
    assert s3.read(upload) == JPEG


# The presigned PUT, changed.


def forge_signature(it: Sent) -> None:
    signature = it.parameter("X-Amz-Signature")
    it.rewrite(signature, signature[:-1] + ("0" if signature[-1] != "0" else "1"))


def sign_by_header(it: Sent) -> None:
    it.add(
        "Authorization",
        f"AWS4-HMAC-SHA256 Credential={it.parameter('X-Amz-Credential')}, "
        f"SignedHeaders={it.parameter('X-Amz-SignedHeaders')}, "
        f"Signature={it.parameter('X-Amz-Signature')}",
    )
    it.add("x-amz-date", it.parameter("X-Amz-Date"))
    it.add("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
    it.url = it.url.partition("?")[0]


def sign_as_version_2(it: Sent) -> None:
    access_key = it.parameter("X-Amz-Credential").partition("/")[0]
    signature = it.parameter("X-Amz-Signature")
    it.url = it.url.partition("?")[0]
    it.url += f"?AWSAccessKeyId={access_key}&Expires=4102444800&Signature={signature}"


def send_in_chunks(it: Sent) -> None:
    it.drop("Content-Length")
    it.add("Transfer-Encoding", "chunked")
    it.body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(it.body), it.body)


def say(name: str, value: str) -> Callable[[Sent], None]:
    return lambda it: it.add(name, value)


def ask_for(query: str) -> Callable[[Sent], None]:
    def ask_for(it: Sent) -> None:
        it.url += query

    return ask_for


def use(method: str, query: str = "", **headers: str) -> Callable[[Sent], None]:
    def use(it: Sent) -> None:
        it.method = method
        it.url += query
        it.headers += [(name.replace("_", "-"), value) for name, value in headers.items()]
        it.carry(b"")

    return use


@pytest.mark.usefixtures("empty")
@pytest.mark.parametrize(
    ("attack", "status"),
    [
        # The signature.
        pytest.param(forge_signature, 403, id="signature: one digit"),
        pytest.param(lambda it: it.rewrite("X-Amz-Signature", "x"), 403, id="signature: none"),
        pytest.param(
            lambda it: setattr(it, "url", it.url.partition("?")[0]), 403, id="signature: no query"
        ),
        pytest.param(sign_by_header, 403, id="signature: moved to a header"),
        pytest.param(sign_as_version_2, 403, id="signature: as one of version 2"),
        pytest.param(
            lambda it: it.rewrite("X-Amz-Expires=3600", "X-Amz-Expires=604800"),
            403,
            id="expiry: extended",
        ),
        pytest.param(ask_for("&X-Amz-Expires=604800"), 403, id="expiry: twice, the longer last"),
        pytest.param(
            lambda it: it.rewrite("?", "?X-Amz-Expires=604800&"),
            403,
            id="expiry: twice, the longer first",
        ),
        pytest.param(
            lambda it: it.rewrite(it.parameter("X-Amz-Date"), "20991231T000000Z"),
            403,
            id="date: of the future",
        ),
        pytest.param(say("x-amz-date", "20991231T000000Z"), 403, id="date: in a header"),
        pytest.param(
            lambda it: it.rewrite("testaccesskey", "otheraccesskey"), 403, id="credential: another"
        ),
        pytest.param(
            lambda it: it.rewrite("content-length%3Bcontent-type%3Bhost%3Bif-none-match", "host"),
            403,
            id="signed headers: only the host",
        ),
        # Where to.
        pytest.param(lambda it: it.rewrite("beach.jpg", "other.jpg"), 403, id="key: another tail"),
        pytest.param(
            lambda it: it.rewrite("/site/photos/", "/site/"), 403, id="key: another folder"
        ),
        pytest.param(lambda it: it.rewrite("/site/", "/x/../site/"), 403, id="key: .."),
        pytest.param(lambda it: it.rewrite("?", "/%2e%2e/x?"), 403, id="key: %2e%2e"),
        pytest.param(lambda it: it.rewrite("/site/", "//site/"), 403, id="key: //"),
        pytest.param(lambda it: it.rewrite("?", "%00?"), 400, id="key: NUL"),
        pytest.param(lambda it: it.change("Host", "evil.example"), 403, id="host: another"),
        pytest.param(say("Host", "evil.example"), 403, id="host: twice"),
        # What is in it.
        pytest.param(
            lambda it: it.change("Content-Type", "text/html"), 403, id="content type: another"
        ),
        pytest.param(lambda it: it.drop("Content-Type"), 403, id="content type: none"),
        pytest.param(say("Content-Type", "text/html"), 403, id="content type: twice"),
        pytest.param(
            lambda it: it.change("Content-Type", "image/jpeg, text/html"),
            403,
            id="content type: a list",
        ),
        pytest.param(lambda it: it.drop("If-None-Match"), 403, id="If-None-Match: none"),
        pytest.param(
            lambda it: it.change("If-None-Match", '"x"'), 403, id="If-None-Match: an ETag"
        ),
        pytest.param(lambda it: it.change("If-None-Match", ""), 403, id="If-None-Match: empty"),
        pytest.param(say("If-None-Match", '"x"'), 403, id="If-None-Match: twice"),
        pytest.param(lambda it: it.carry(JPEG + b"x"), 403, id="body: longer"),
        pytest.param(lambda it: it.carry(JPEG[:-1]), 403, id="body: shorter"),
        pytest.param(lambda it: it.carry(b""), 403, id="body: empty"),
        pytest.param(send_in_chunks, 403, id="body: in chunks, without a length"),
        pytest.param(say("Transfer-Encoding", "chunked"), 400, id="body: in chunks, with a length"),
        pytest.param(say("Content-Length", "1"), 400, id="body: two lengths"),
        pytest.param(
            say("x-amz-decoded-content-length", "1"), 403, id="body: a length when decoded"
        ),
        pytest.param(say("Content-MD5", "A" * 22 + "=="), 400, id="body: another MD5"),
        # Unsigned x-amz-*.
        pytest.param(say("x-amz-acl", "public-read"), 403, id="x-amz-acl"),
        pytest.param(say("X-AMZ-ACL", "public-read"), 403, id="X-AMZ-ACL"),
        pytest.param(say("x-amz-grant-read", EVERYBODY), 403, id="x-amz-grant-read"),
        pytest.param(
            say("x-amz-grant-full-control", EVERYBODY), 403, id="x-amz-grant-full-control"
        ),
        pytest.param(say("x-amz-tagging", "a=b"), 403, id="x-amz-tagging"),
        pytest.param(say("x-amz-meta-a", "b"), 403, id="x-amz-meta-*"),
        pytest.param(
            say("x-amz-website-redirect-location", "http://evil.example/"),
            403,
            id="x-amz-website-redirect-location",
        ),
        pytest.param(say("x-amz-copy-source", "/x/y"), 403, id="x-amz-copy-source"),
        pytest.param(say("x-amz-storage-class", "GLACIER"), 403, id="x-amz-storage-class"),
        pytest.param(
            say("x-amz-server-side-encryption", "AES256"), 403, id="x-amz-server-side-encryption"
        ),
        pytest.param(
            say("x-amz-server-side-encryption-customer-algorithm", "AES256"),
            403,
            id="x-amz-server-side-encryption-customer-algorithm",
        ),
        pytest.param(
            say("x-amz-object-lock-legal-hold", "ON"), 403, id="x-amz-object-lock-legal-hold"
        ),
        pytest.param(say("x-amz-checksum-crc32", "AAAAAA=="), 403, id="x-amz-checksum-crc32"),
        pytest.param(
            say("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            403,
            id="x-amz-content-sha256",
        ),
        pytest.param(say("x-amz-security-token", "x"), 403, id="x-amz-security-token"),
        # Another operation.
        *(
            pytest.param(ask_for(query), 403, id=query)
            for query in (
                "&uploads",
                "&partNumber=1&uploadId=x",
                "&acl",
                "&tagging",
                "&policy",
                "&cors",
                "&lifecycle",
                "&retention",
                "&versionId=x",
                "&append&position=0",
                "&x-amz-acl=public-read",
                "&X-Amz-Acl=public-read",
                "&x=y",
            )
        ),
        *(
            pytest.param(use(method), 403, id=f"method: {method}")
            for method in ("GET", "HEAD", "DELETE", "POST")
        ),
        pytest.param(use("POST", "&uploads"), 403, id="method: POST &uploads"),
        pytest.param(use("POST", "&delete"), 403, id="method: POST &delete"),
        pytest.param(
            use("GET", X_HTTP_Method_Override="PUT"), 403, id="method: GET, overridden to PUT"
        ),
        pytest.param(
            use("POST", X_HTTP_Method_Override="PUT"), 403, id="method: POST, overridden to PUT"
        ),
    ],
)
def test_s3_refuses_another_put_than_was_signed(
    alice: App, s3: Bucket, attack: Callable[[Sent], None], status: int
) -> None:
    begun = alice.begin().json()
    it = Sent.of(begun["request"])
    attack(it)

    assert it.send() == status

    assert keys(s3) == []
    assert_still_works(alice, s3, begun)


@pytest.fixture
def other_bucket(s3: Bucket) -> Bucket:
    other = Bucket(s3.client)
    other.name = f"{s3.name}-other"
    other.client.create_bucket(Bucket=other.name)
    return other


def test_another_bucket(alice: App, s3: Bucket, other_bucket: Bucket) -> None:
    begun = alice.begin().json()
    it = Sent.of(begun["request"])
    it.rewrite(f"/{s3.name}/", f"/{other_bucket.name}/")
    assert it.send() == 403
    assert keys(other_bucket) == []
    assert_still_works(alice, s3, begun)


def test_the_url_of_one_upload_with_the_headers_of_another(alice: App, s3: Bucket) -> None:
    mine = alice.begin().json()
    other = alice.begin(content_type="image/png", size=4).json()
    it = Sent.of({**other["request"], "url": mine["request"]["url"]}, b"\x89PNG")
    assert it.send() == 403
    assert_still_works(alice, s3, mine)
    assert row(alice.get(f"{other['id']}/")).status == "pending"


def test_the_signature_of_one_upload_on_the_key_of_another(alice: App, s3: Bucket) -> None:
    mine, other = alice.begin().json(), row(alice.begin())
    it = Sent.of(mine["request"])
    it.rewrite(row(alice.get(f"{mine['id']}/")).key, other.key)
    assert it.send() == 403
    assert s3.read(other) is None
    assert_still_works(alice, s3, mine)


@pytest.mark.usefixtures("empty")
def test_a_form_post_with_the_puts_signature(alice: App, s3: Bucket) -> None:
    begun = alice.begin().json()
    there = urlsplit(begun["request"]["url"])
    fields = {name: values[0] for name, values in parse_qs(there.query).items()}
    policy = {"expiration": "2099-01-01T00:00:00Z", "conditions": [["starts-with", "$key", ""]]}
    fields |= {"key": "x", "policy": base64.b64encode(json.dumps(policy).encode()).decode()}
    url = f"{there.scheme}://{there.netloc}/{s3.name}"
    assert requests.post(url, data=fields, files={"file": JPEG}, timeout=10).status_code == 403
    assert keys(s3) == []
    assert_still_works(alice, s3, begun)


def test_nobody_reads_or_lists_without_a_signature(alice: App, s3: Bucket) -> None:
    begun = alice.begin().json()
    assert alice.send(begun["request"]) == 200
    upload = row(alice.confirm(begun["id"]))
    there = urlsplit(begun["request"]["url"])
    assert there.path == f"/{s3.name}/{upload.key}", "who begins an upload learns its key"
    for path in (there.path, f"/{s3.name}/", f"/{s3.name}/?list-type=2"):
        answer = requests.get(f"{there.scheme}://{there.netloc}{path}", timeout=10)
        assert answer.status_code == 403
    assert s3.read(upload) == JPEG


def test_a_connection_that_is_cut_in_the_middle(alice: App, s3: Bucket) -> None:
    begun = alice.begin().json()
    Sent.of(begun["request"]).start(JPEG[:5]).close()
    time.sleep(0.1)
    assert_still_works(alice, s3, begun)


def test_bytes_beyond_the_length_are_not_a_part_of_it(alice: App, s3: Bucket) -> None:
    begun = alice.begin().json()
    it = Sent.of(begun["request"])
    it.body += b"PUT /beyond HTTP/1.1\r\n\r\n"
    assert it.send() == 200
    upload = row(alice.confirm(begun["id"]))
    assert (upload.status, s3.read(upload)) == ("completed", JPEG)


def test_bytes_where_none_were_declared(alice: App, s3: Bucket) -> None:
    begun = alice.begin(size=0).json()
    assert Sent.of(begun["request"], JPEG).send() == 403
    answer = alice.confirm(begun["id"])
    assert (answer.status_code, row(answer).status) == (409, "pending")
    assert s3.read(row(answer)) is None


# A checksum that was declared.

SHA256 = {
    "algorithm": "SHA256",
    "value": base64.b64encode(hashlib.sha256(JPEG).digest()).decode(),
}
CRC32 = {"algorithm": "CRC32", "value": base64.b64encode(zlib.crc32(JPEG).to_bytes(4)).decode()}


@pytest.mark.parametrize(
    ("checksum", "attack", "status"),
    [
        pytest.param(SHA256, lambda it: it.carry(OTHER), 400, id="SHA256: other bytes"),
        pytest.param(CRC32, lambda it: it.carry(OTHER), 400, id="CRC32: other bytes"),
        *(
            pytest.param(
                SHA256, lambda it, header=header: it.drop(header), 403, id=f"without {header}"
            )
            for header in (
                "Content-Type",
                "If-None-Match",
                "x-amz-sdk-checksum-algorithm",
                "x-amz-checksum-sha256",
            )
        ),
        pytest.param(
            SHA256,
            lambda it: it.change(
                "x-amz-checksum-sha256", base64.b64encode(hashlib.sha256(OTHER).digest()).decode()
            ),
            403,
            id="SHA256: the other bytes' own",
        ),
        pytest.param(
            SHA256,
            lambda it: it.change("x-amz-sdk-checksum-algorithm", "CRC32"),
            403,
            id="SHA256: named another",
        ),
    ],
)
def test_other_bytes_under_a_declared_checksum(
    alice: App,
    s3: Bucket,
    checksum: dict[str, str],
    attack: Callable[[Sent], None],
    status: int,
) -> None:
    begun = alice.begin(checksum=checksum).json()
    it = Sent.of(begun["request"], OTHER)
    attack(it)
    assert it.send() == status
    assert_still_works(alice, s3, begun)


@pytest.mark.parametrize("header", ["Cache-Control", "x-amz-meta-by", "x-amz-tagging", "x-amz-acl"])
@pytest.mark.parametrize("value", [None, "public-read-write"])
def test_what_the_host_adds_cannot_be_left_out_or_changed(
    alice: App,
    s3: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    header: str,
    value: str | None,
) -> None:
    parameters = {"CacheControl": "private", "Metadata": {"by": "us"}, "Tagging": "a=b"}
    monkeypatch.setattr(storages["default"], "object_parameters", parameters)
    rules = {"MAX_SIZE": 100, "CONTENT_TYPES": ["image/*"], "ACL": "private"}
    set_settings(settings, DESTINATIONS={"photos": rules})
    begun = alice.begin().json()
    it = Sent.of(begun["request"])
    it.drop(header)
    if value is not None:
        it.add(header, value)
    assert it.send() == 403
    assert_still_works(alice, s3, begun)


# What S3 stores although nobody signed it.


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
        # Ceph takes these for the x-amz-* of the same name, and refuses only those unsigned.
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
def test_a_header_that_s3_keeps_is_found_at_confirm(
    alice: App, s3: Bucket, header: str, value: str, reason: str
) -> None:
    begun = alice.begin().json()
    it = Sent.of(begun["request"])
    it.add(header, value)
    assert it.send() == 200, "S3 takes it"

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
    assert Sent.of(begun["request"]).send() == 412, "until then it keeps its key closed"


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("x-goog-meta-by", "them", 422),
        ("x-goog-meta-and-by", "them", 422),
        ("x-goog-website-redirect-location", "http://evil.example/", 422),
        ("x-goog-tagging", "delete=soon", 200),  # here the signed one wins
    ],
)
def test_what_the_host_signs_cannot_be_added_to(
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


def test_a_tag_is_let_through_for_it_might_be_a_scanners(alice: App, s3: Bucket) -> None:
    """Ceph takes it by x-goog-tagging; AWS refuses it. A virus scanner's tag looks no different."""
    begun = alice.begin().json()
    it = Sent.of(begun["request"])
    it.add("x-goog-tagging", "delete=soon")
    assert it.send() == 200
    upload = row(alice.confirm(begun["id"]))
    assert upload.status == "completed"
    assert s3.read(upload) == JPEG


def test_what_browsers_add_of_themselves_is_all_that_may_be_added(alice: App, s3: Bucket) -> None:
    begun = alice.begin().json()
    it = Sent.of(begun["request"])
    it.add("Cache-Control", "max-age=0")
    assert it.send() == 200
    upload = row(alice.confirm(begun["id"]))
    assert upload.status == "completed"
    assert head(s3, upload)["CacheControl"] == "max-age=0"


def prepend(name: str, value: str) -> Callable[[Sent], None]:
    return lambda it: it.headers.insert(0, (name, value))


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
def test_what_s3_overlooks_changes_nothing(
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


# A second PUT, and a late one.


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(lambda it: None, id="the same"),
        pytest.param(prepend("If-None-Match", '"x"'), id="If-None-Match twice, ours last"),
    ],
)
@pytest.mark.parametrize(
    "when", ["before confirm", "after confirm", "after attach", "after delete"]
)
def test_a_second_put(alice: App, s3: Bucket, when: str, attack: Callable[[Sent], None]) -> None:
    begun = alice.begin().json()
    assert alice.send(begun["request"]) == 200
    if when != "before confirm":
        assert alice.confirm(begun["id"]).status_code == 200
    if when == "after attach":
        assert post(alice, begun["id"]).status_code == 201
    if when == "after delete":
        assert alice.delete(begun["id"]).status_code == 204

    it = Sent.of(begun["request"], OTHER)
    attack(it)
    assert it.send() == 412

    upload = Upload.objects.get()
    assert s3.read(upload) == JPEG
    if when == "after delete":
        assert (upload.status, upload.due_at) == ("deleted", upload.key_closes_at)
        assert alice.confirm(begun["id"]).status_code == 410
    else:
        assert row(alice.confirm(begun["id"])).status == "completed"
    if when == "after attach":
        with Photo.objects.get().image.open() as file:
            assert file.read() == JPEG
        assert alice.delete(begun["id"]).json()["code"] == "already_attached"


def test_a_put_after_cancel_lands_and_counts_for_nothing(alice: App, s3: Bucket) -> None:
    begun = alice.begin(headers={"Idempotency-Key": "one"}).json()
    assert alice.delete(begun["id"]).status_code == 204

    assert alice.send(begun["request"]) == 200

    for call in (alice.confirm, alice.renew):
        answer = call(begun["id"])
        assert (answer.status_code, answer.json()["code"]) == (410, "not_pending")
    again = alice.begin(headers={"Idempotency-Key": "one"}).json()
    assert (again["id"], again["status"], again["request"]) == (begun["id"], "cancelled", None)
    assert post(alice, begun["id"]).data["image"][0].code == "not_completed"
    upload = Upload.objects.get()
    assert (upload.status, upload.completed_at, upload.object_deleted_at) == (
        "cancelled",
        None,
        None,
    )
    assert upload.due_at == upload.key_closes_at, "the object is due for deletion"
    assert s3.read(upload) == JPEG


def test_a_put_after_reject(alice: App, s3: Bucket) -> None:
    begun = alice.begin().json()
    request = begun["request"]
    bomb = {**request, "headers": {**request["headers"], "Content-Encoding": "gzip"}}
    assert alice.send(bomb) == 200
    assert alice.confirm(begun["id"]).status_code == 422
    assert alice.delete(begun["id"]).status_code == 204, "which reopens nothing"

    assert alice.send(request) == 412

    assert alice.confirm(begun["id"]).status_code == 422
    assert alice.renew(begun["id"]).status_code == 410
    upload = Upload.objects.get()
    assert (upload.status, upload.due_at) == ("rejected", upload.key_closes_at)
    assert head(s3, upload)["ContentEncoding"] == "gzip"


def test_an_expired_url(alice: App, s3: Bucket, settings: Any) -> None:
    set_settings(settings, URL_EXPIRES=1)
    begun = alice.begin().json()
    assert begun["request"]["expires_in"] == 1
    time.sleep(1.3)
    assert alice.send(begun["request"]) == 403
    answer = alice.confirm(begun["id"])
    assert (answer.status_code, row(answer).status) == (409, "pending")
    assert s3.read(row(answer)) is None
    renewed = alice.renew(begun["id"]).json()
    assert alice.send(renewed["request"]) == 200
    assert row(alice.confirm(begun["id"])).status == "completed"


def test_renewals_do_not_outlive_the_deadline(alice: App, s3: Bucket, settings: Any) -> None:
    set_settings(settings, PENDING_EXPIRES=1, SWEEP_GRACE=1)
    begun = alice.begin().json()
    requests_ = [begun["request"], *(alice.renew(begun["id"]).json()["request"] for _ in range(5))]
    assert {request["expires_in"] for request in requests_} == {1}
    time.sleep(2.5)
    assert [alice.send(request) for request in requests_] == [403] * 6
    assert alice.renew(begun["id"]).status_code == 410
    assert alice.confirm(begun["id"]).status_code == 410
    upload = Upload.objects.get()
    assert (upload.status, s3.read(upload)) == ("expired", None)


def test_a_put_that_began_in_time_and_lands_on_an_expired_row(
    alice: App, s3: Bucket, settings: Any
) -> None:
    set_settings(settings, PENDING_EXPIRES=1, URL_EXPIRES=1, SWEEP_GRACE=1)
    begun = alice.begin().json()
    slow = Sent.of(begun["request"]).start(JPEG[:5])
    time.sleep(2.3)  # longer than anybody waits for it
    assert alice.confirm(begun["id"]).json()["upload"]["status"] == "expired"
    slow.send(JPEG[5:])
    assert slow.getresponse().status == 200, "S3 looks at the clock when a request begins"
    slow.close()

    answer = alice.confirm(begun["id"])

    assert (answer.status_code, answer.json()["code"]) == (410, "not_pending")
    upload = Upload.objects.get()
    assert (upload.status, upload.object_deleted_at) == ("expired", None)
    assert upload.due_at == upload.key_closes_at, "so its object will be deleted"
    assert s3.read(upload) == JPEG


def test_a_put_after_its_object_was_deleted(alice: App, s3: Bucket, settings: Any) -> None:
    set_settings(settings, URL_EXPIRES=1, SWEEP_GRACE=1)
    begun = alice.begin().json()
    assert alice.send(begun["request"]) == 200
    assert alice.confirm(begun["id"]).status_code == 200
    time.sleep(2.1)
    assert alice.delete(begun["id"]).status_code == 204
    upload = Upload.objects.get()
    assert s3.read(upload) is None

    assert alice.send(begun["request"], OTHER) == 403, "no signature lived longer than the object"

    upload.refresh_from_db()
    assert (upload.status, s3.read(upload)) == ("deleted", None)


@pytest.fixture
def versioned(s3: Bucket, storage_options: Callable[..., None]) -> Bucket:
    s3.name += "-versioned"
    s3.client.create_bucket(Bucket=s3.name)
    s3.client.put_bucket_versioning(Bucket=s3.name, VersioningConfiguration={"Status": "Enabled"})
    storage_options(bucket_name=s3.name)
    return s3


def test_a_delete_marker_reopens_the_key_but_not_the_upload(versioned: Bucket, alice: App) -> None:
    begun = alice.begin().json()
    assert alice.send(begun["request"]) == 200
    upload = row(alice.confirm(begun["id"]))
    versioned.client.delete_object(Bucket=versioned.name, Key=upload.key)

    assert alice.send(begun["request"], OTHER) == 200, "to S3 nothing is there"

    assert versioned.read(upload) == OTHER
    confirmed = row(alice.confirm(begun["id"]))
    assert (confirmed.version_id, confirmed.etag) == (upload.version_id, upload.etag)
    url = alice.get(f"{begun['id']}/url/").json()["url"]
    assert requests.get(url, timeout=10).content == JPEG, "the version that was confirmed"

    Upload.objects.update(url_expires_at=timezone.now() - timedelta(days=3))
    assert alice.delete(begun["id"]).status_code == 204
    versions = versioned.client.list_object_versions(Bucket=versioned.name, Prefix=upload.key)
    assert "Versions" not in versions
    assert "DeleteMarkers" not in versions
    assert Upload.objects.get().object_deleted_at is not None


# The download.


def rewrite(old: str, new: str) -> Callable[[Sent], None]:
    return lambda it: it.rewrite(old, new)


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(ask_for("&response-content-type=text/html"), id="response-content-type"),
        pytest.param(ask_for("&response-content-disposition=inline"), id="another disposition"),
        pytest.param(
            rewrite("attachment%3B%20filename%3D%22beach.jpg%22", "inline"), id="inline instead"
        ),
        pytest.param(rewrite("response-content-disposition", "x"), id="no disposition"),
        pytest.param(ask_for("&response-cache-control=public"), id="response-cache-control"),
        pytest.param(ask_for("&versionId=null"), id="versionId"),
        pytest.param(ask_for("&acl"), id="&acl"),
        pytest.param(ask_for("&uploads"), id="&uploads"),
        pytest.param(rewrite("X-Amz-Expires=3600", "X-Amz-Expires=604800"), id="a longer life"),
        pytest.param(forge_signature, id="one digit of the signature"),
        pytest.param(use("HEAD"), id="HEAD"),
        pytest.param(use("DELETE"), id="DELETE"),
        pytest.param(use("PUT"), id="PUT"),
        pytest.param(use("POST", X_HTTP_Method_Override="GET"), id="POST, overridden to GET"),
        pytest.param(say("x-amz-acl", "public-read"), id="x-amz-acl"),
    ],
)
def test_another_download_than_was_signed(
    alice: App, s3: Bucket, attack: Callable[[Sent], None]
) -> None:
    upload = row(alice.upload())
    url = alice.get(f"{upload.pk}/url/").json()["url"]
    it = Sent.of({"method": "GET", "url": url, "headers": {}}, b"")
    attack(it)
    assert it.send() == 403
    assert s3.read(upload) == JPEG
    assert row(alice.get(f"{upload.pk}/")).status == "completed"
    assert requests.get(url, timeout=10).content == JPEG


def test_the_download_of_anothers_key(alice: App, bob: App, s3: Bucket) -> None:
    mine, theirs = row(alice.upload()), row(bob.upload(OTHER))
    url = alice.get(f"{mine.pk}/url/").json()["url"]
    it = Sent.of({"method": "GET", "url": url, "headers": {}}, b"")
    it.rewrite(mine.key, theirs.key)
    assert it.send() == 403
    assert s3.read(theirs) == OTHER


@pytest.mark.parametrize("version", ["another", "none"])
def test_the_download_of_another_version(versioned: Bucket, alice: App, version: str) -> None:
    upload = row(alice.upload())
    versioned.write(upload, b"a version that was never confirmed")
    newest = head(versioned, upload)["VersionId"]
    url = alice.get(f"{upload.pk}/url/").json()["url"]
    it = Sent.of({"method": "GET", "url": url, "headers": {}}, b"")
    if version == "another":
        it.rewrite(upload.version_id, newest)
    else:
        it.rewrite(f"&versionId={upload.version_id}", "")
    assert it.send() == 403
    assert requests.get(url, timeout=10).content == JPEG
    assert row(alice.get(f"{upload.pk}/")).version_id == upload.version_id


def test_an_expired_download(alice: App, s3: Bucket, settings: Any) -> None:
    upload = row(alice.upload())
    set_settings(settings, URL_EXPIRES=1)
    url = alice.get(f"{upload.pk}/url/").json()["url"]
    time.sleep(1.3)
    assert requests.get(url, timeout=10).status_code == 403
    assert s3.read(upload) == JPEG


@pytest.mark.parametrize(
    ("content_type", "filename"),
    [
        ("text/html", "evil.html"),
        ("image/svg+xml", "evil.svg"),
        ("image/svg+xml; charset=utf-8", "evil.svg"),
        ("IMAGE/SVG+XML", "evil.svg"),
        ("application/xhtml+xml", "evil.xhtml"),
        ("text/xml", "evil.xml"),
        ("image/x+xml", "evil.png"),
        ("image/xhtml+xml", "evil.png"),
        ("image/html", "evil.png"),
        ("video/x+xml; charset=utf-8", "evil.mp4"),
        ("audio/xml", "evil.mp3"),
        ("application/octet-stream", "evil.html"),
        ("text/javascript", "evil.js"),
    ],
)
def test_a_page_is_never_shown(alice: App, s3: Bucket, content_type: str, filename: str) -> None:
    confirmed = alice.upload(
        HTML, destination="documents", content_type=content_type, filename=filename
    )
    upload = row(confirmed)
    assert (upload.status, s3.read(upload)) == ("completed", HTML), "*/* takes anything"

    for path in ("url/", "download/"):
        answer = alice.get(f"{upload.pk}/{path}", disposition="inline")
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "not_inline")
    found = requests.get(alice.get(f"{upload.pk}/url/").json()["url"], timeout=10)
    assert found.headers["Content-Disposition"] == f'attachment; filename="{filename}"'
    assert found.headers["Content-Type"] == upload.content_type


def test_a_page_that_is_declared_an_image_stays_one(alice: App, s3: Bucket) -> None:
    upload = row(alice.upload(HTML, filename="evil.html", content_type="image/png"))
    url = alice.get(f"{upload.pk}/url/", disposition="inline").json()["url"]
    found = requests.get(url, timeout=10)
    assert (found.content, found.headers["Content-Type"]) == (HTML, "image/png")
    assert head(s3, upload)["ContentType"] == "image/png"


@pytest.mark.parametrize(
    ("content_type", "filename"),
    [
        ("text/html", "evil.html"),
        ("image/svg+xml", "evil.svg"),
        ("application/xhtml+xml", "evil.xhtml"),
        ("image/x+xml", "evil.png"),
        ("image/html", "evil.png"),
    ],
)
def test_a_page_is_not_shown_by_the_url_of_a_hosts_serializer(
    alice: App, s3: Bucket, content_type: str, filename: str
) -> None:
    upload = row(
        alice.upload(HTML, destination="documents", content_type=content_type, filename=filename)
    )
    photo = Photo.objects.create(image=upload.attach())
    image = alice.client.get(f"{PHOTOS}{photo.pk}/").json()["image"]
    found = requests.get(image["url"], timeout=10)
    assert found.content == HTML
    assert found.headers["Content-Disposition"] == f'attachment; filename="{filename}"'
    shown = image["url"].replace("attachment", "inline")
    assert requests.get(shown, timeout=10).status_code == 403


def test_a_page_under_an_images_name_is_served_as_an_image(alice: App, s3: Bucket) -> None:
    """Put there by something else: by a form that believes its client's content type."""
    s3.client.put_object(Bucket=s3.name, Key="site/a.png", Body=HTML, ContentType="text/html")
    photo = Photo.objects.create(image="a.png")
    url = alice.client.get(f"{PHOTOS}{photo.pk}/").json()["image"]["url"]
    found = requests.get(url, timeout=10)
    assert (found.content, found.headers["Content-Type"]) == (HTML, "image/png")


@pytest.mark.parametrize("method", ["put", "patch", "post"])
def test_what_was_read_names_no_file_of_another_row(
    alice: App, bob: App, s3: Bucket, method: str
) -> None:
    post(alice, str(row(alice.upload()).pk))
    theirs = Photo.objects.get()
    own = Photo.objects.create(image="bobs.png")
    before = Upload.objects.values().get()
    image = bob.client.get(f"{PHOTOS}{theirs.pk}/").json()["image"]
    url = PHOTOS if method == "post" else f"{PHOTOS}{own.pk}/"

    answer = getattr(bob.client, method)(url, {"image": image}, format="json")

    code = "invalid" if method == "post" else "not_current"
    assert (answer.status_code, answer.data["image"][0].code) == (400, code)
    assert Photo.objects.count() == 2
    assert Photo.objects.get(pk=own.pk).image.name == "bobs.png"
    assert Upload.objects.values().get() == before


# What begin may be told.


@pytest.mark.usefixtures("empty")
@pytest.mark.parametrize(
    "declaration",
    [
        {"filename": "../../../etc/passwd"},
        {"filename": "..\\..\\beach.jpg"},
        {"filename": "/etc/passwd"},
        {"filename": ".."},
        {"filename": "beach\0.jpg"},
        {"filename": "beach.jpg\r\nx-amz-acl: public-read"},
        {"filename": "\u202egpj.exe", "content_type": ""},
        {"filename": "\u202e\u2066"},
        {"filename": "\u202e.."},
        {"content_type": "javascript:alert(1)"},
        {"content_type": "text/html"},
        {"content_type": "image/svg+xml"},
        {"content_type": "image/svg+xml ;x=y"},
        {"content_type": "image/x+xml"},
        {"content_type": "image/xhtml+xml"},
        {"content_type": "image/html"},
        {"content_type": "image/png;x=y, text/html"},
        {"content_type": "application/octet-stream", "filename": "evil.html"},
        {"content_type": "Image/SVG+XML"},
        {"content_type": "image/jpeg\r\nx-amz-acl: public-read"},
        {"content_type": "image/jpeg, text/html"},
        {"content_type": "", "filename": "evil.svg"},
        {"size": -1},
        {"size": 20 * 1024**2 + 1},
        {"destination": "../albums"},
        {"destination": "__class__"},
        {"checksum": {"algorithm": "MD5", "value": "A" * 22 + "=="}},
        {"context": {"status": "completed"}},
    ],
    ids=str,
)
def test_a_declaration_that_is_refused_leaves_nothing(
    alice: App, s3: Bucket, declaration: dict[str, Any]
) -> None:
    answer = alice.begin(**declaration)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert "X-Amz" not in answer.text
    assert not Upload.objects.exists()
    assert keys(s3) == []


@pytest.mark.parametrize(
    "filename",
    [
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "..%c0%af..%c0%afpasswd",
        "...",
        "-rf",
        ".htaccess",
        "\U0001f996" * 255,
        "\uff0e\uff0e\uff0fetc\uff0fpasswd",  # NFKD makes "../etc/passwd" of it
        "\u2025\u2215x.jpg",
        'x"; filename="evil.exe',
        "${jndi:ldap:x}.jpg",
        "?acl&x=#.jpg",
    ],
    ids=ascii,
)
def test_a_filename_does_not_move_the_key(alice: App, s3: Bucket, filename: str) -> None:
    confirmed = alice.upload(filename=filename)
    assert confirmed.status_code == 200
    assert confirmed.json()["filename"] == filename
    upload = row(confirmed)
    location, prefix, segment, tail = upload.key.split("/")
    assert (location, prefix, len(segment)) == ("site", "photos", 33)
    assert tail.strip(".") == tail
    assert set(tail) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    assert len(upload.name) <= 100
    assert s3.read(upload) == JPEG
    found = requests.get(alice.get(f"{upload.pk}/url/").json()["url"], timeout=10)
    assert found.content == JPEG
    assert found.headers["Content-Disposition"].startswith("attachment; filename")
    assert "Content-Type" in found.headers


def test_the_same_filename_twice(alice: App, bob: App, s3: Bucket) -> None:
    uploads = [row(app.upload(body)) for app, body in ((alice, JPEG), (alice, OTHER), (bob, HTML))]
    assert len({upload.key for upload in uploads}) == 3
    assert [s3.read(upload) for upload in uploads] == [JPEG, OTHER, HTML]


def test_a_filename_that_is_anothers_key(alice: App, bob: App, s3: Bucket) -> None:
    theirs = row(bob.upload(OTHER))
    mine = row(alice.upload(filename=theirs.key.replace("/", "_")))
    assert mine.key != theirs.key
    assert (s3.read(mine), s3.read(theirs)) == (JPEG, OTHER)


OURS: dict[str, Any] = {
    "id": "00000000-0000-0000-0000-000000000001",
    "owner": 1,
    "owner_id": 1,
    "key": "site/photos/mine.jpg",
    "name": "photos/mine.jpg",
    "prefix": "../",
    "bucket": "other",
    "storage": "staticfiles",
    "endpoint_url": "http://evil.example",
    "host": "evil.example",
    "acl": "public-read",
    "object_parameters": {"ACL": "public-read"},
    "parameters": {"ACL": "public-read"},
    "headers": {"x-amz-acl": "public-read"},
    "request": {"method": "DELETE"},
    "idempotency_key": "mine",
    "status": "completed",
    "etag": '"x"',
    "version_id": "x",
    "completed_at": "2020-01-01T00:00:00Z",
    "announced_at": "2020-01-01T00:00:00Z",
    "attached_at": "2020-01-01T00:00:00Z",
    "created_at": "2020-01-01T00:00:00Z",
    "url_expires_at": "2099-01-01T00:00:00Z",
    "expires_at": "2099-01-01T00:00:00Z",
    "expires_in": 604800,
    "due_at": None,
    "object_deleted_at": "2020-01-01T00:00:00Z",
    "multipart_upload_id": "x",
    "upload_id": "x",
    "part_size": 1,
    "part_count": 1,
    "parts": [{"part_number": 1, "size": 1}],
    "busy_until": "2099-01-01T00:00:00Z",
    "reason": "x",
}


def assert_ours_untouched(app: App, upload: Upload) -> None:
    now = timezone.now()
    for field in ("etag", "version_id", "multipart_upload_id", "reason"):
        assert getattr(upload, field) == "", field
    for field in ("completed_at", "announced_at", "attached_at", "object_deleted_at"):
        assert getattr(upload, field) is None, field
    assert (upload.status, upload.owner, upload.storage) == ("pending", app.user, "default")
    assert (upload.object_parameters, upload.idempotency_key) == ({}, None)
    assert (upload.part_size, upload.busy_until) == (None, None)
    assert upload.pk != UUID(OURS["id"])
    assert upload.key.startswith("site/")
    assert "mine" not in upload.key
    assert abs(upload.created_at - now) < timedelta(minutes=1)
    assert upload.url_expires_at < upload.created_at + timedelta(hours=1, minutes=1)
    assert upload.expires_at < upload.created_at + timedelta(days=1, minutes=1)
    assert upload.due_at == upload.key_closes_at


def test_fields_of_ours_in_a_declaration(alice: App, s3: Bucket) -> None:
    begun = alice.begin(**OURS)
    assert begun.status_code == 201
    assert_ours_untouched(alice, row(begun))
    assert row(begun).bucket == s3.name
    request = begun.json()["request"]
    assert request["url"].startswith(f"{s3.client.meta.endpoint_url}/{s3.name}/site/photos/")
    assert request["headers"] == {"Content-Type": "image/jpeg", "If-None-Match": "*"}
    assert (request["method"], request["expires_in"]) == ("PUT", 3600)
    assert_still_works(alice, s3, begun.json())


def test_fields_of_ours_in_a_query(alice: App, s3: Bucket) -> None:
    answer = alice.client.post(
        f"{URL}?status=completed&key=mine&owner=1&bucket=other",
        {"destination": "photos", "filename": "beach.jpg", "size": len(JPEG)},
        format="json",
    )
    assert_ours_untouched(alice, row(answer))
    assert_still_works(alice, s3, answer.json())


def test_fields_of_ours_in_a_context(alice: App, s3: Bucket) -> None:
    # Rails' CVE-2026-33173: the client's note and the server's own in one JSON.
    note = {"album": 1, "status": "completed", "key": "mine", "identified": True, "owner": 1}
    begun = alice.begin(destination="albums", content_type="image/jpeg", context=note)
    assert begun.json()["context"] == {"album": 1, "tags": []}
    assert_ours_untouched(alice, row(begun))
    assert_still_works(alice, s3, begun.json())


@pytest.mark.parametrize("call", ["confirm/", "renew/"])
def test_fields_of_ours_in_another_call(alice: App, s3: Bucket, call: str) -> None:
    begun = alice.begin()
    answer = alice.client.post(f"{URL}{begun.json()['id']}/{call}", OURS, format="json")
    assert answer.status_code == {"confirm/": 409, "renew/": 200}[call]
    assert_ours_untouched(alice, row(begun))
    assert_still_works(alice, s3, begun.json())


def test_a_confirm_that_claims_to_be_completed(alice: App, s3: Bucket) -> None:
    begun = alice.begin().json()
    forged = {**begun, "status": "completed", "etag": '"x"', "completed_at": "2020-01-01T00:00:00Z"}
    answer = alice.client.post(f"{URL}{begun['id']}/confirm/", forged, format="json")
    assert (answer.status_code, answer.json()["code"]) == (409, "object_missing")
    assert alice.get(f"{begun['id']}/url/").status_code == 409
    assert post(alice, begun["id"]).data["image"][0].code == "not_completed"
    assert s3.read(Upload.objects.get()) is None
    assert_still_works(alice, s3, begun)


@pytest.mark.usefixtures("empty")
def test_begin_replayed(alice: App, s3: Bucket) -> None:
    key = {"Idempotency-Key": "one"}
    begun = [alice.begin(headers=key).json() for _ in range(20)]
    assert {each["id"] for each in begun} == {str(Upload.objects.get().pk)}
    paths = {urlsplit(each["request"]["url"]).path for each in begun}
    assert len(paths) == 1, "twenty signatures for one key"
    assert [alice.send(each["request"]) for each in begun[:3]] == [200, 412, 412]
    upload = row(alice.confirm(begun[0]["id"]))
    assert (upload.status, keys(s3)) == ("completed", [upload.key])


@pytest.mark.parametrize(
    "change",
    [
        {"filename": "other.jpg"},
        {"content_type": "image/png"},
        {"size": 1},
        {"destination": "documents"},
        {"checksum": CRC32},
    ],
    ids=str,
)
def test_begin_replayed_with_another_body(alice: App, s3: Bucket, change: dict[str, Any]) -> None:
    key = {"Idempotency-Key": "one"}
    begun = alice.begin(headers=key).json()
    answer = alice.begin(headers=key, **change)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")
    assert answer.json()["upload"]["request"] is None
    assert row(answer) == Upload.objects.get()
    assert_still_works(alice, s3, begun)


# Another's.


@pytest.mark.parametrize("status", ["pending", "completed"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", ""),
        ("delete", ""),
        ("post", "confirm/"),
        ("post", "renew/"),
        ("get", "url/"),
        ("get", "download/"),
        ("get", "url/?owner=1&disposition=inline"),
    ],
)
def test_anothers_upload(
    alice: App, bob: App, s3: Bucket, status: str, method: str, path: str
) -> None:
    theirs = row(alice.upload() if status == "completed" else alice.begin())
    if status == "pending":  # a confirm would succeed
        s3.write(theirs, JPEG)
    before = Upload.objects.values().get()

    answer = getattr(bob.client, method)(f"{URL}{theirs.pk}/{path}")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "X-Amz" not in answer.text
    assert Upload.objects.values().get() == before
    assert s3.read(theirs) == JPEG


@pytest.mark.parametrize(
    "query",
    ["", "?owner=1", "?owner__isnull=False", "?id=x", "?search=beach", "?filename=beach.jpg"],
)
def test_anothers_upload_is_in_no_list(alice: App, bob: App, s3: Bucket, query: str) -> None:
    theirs = row(alice.upload())
    assert bob.client.get(f"{URL}{query}").json()["results"] == []
    assert s3.read(theirs) == JPEG


def test_anothers_idempotency_key(alice: App, bob: App, s3: Bucket) -> None:
    key = {"Idempotency-Key": "one"}
    theirs, mine = row(alice.begin(headers=key)), row(bob.begin(headers=key))
    assert (theirs.owner, mine.owner) == (alice.user, bob.user)
    assert theirs.key != mine.key
    assert s3.read(theirs) is s3.read(mine) is None


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("another's", "does_not_exist"),
        ("another's, in capitals", "does_not_exist"),
        ("another destination's", "wrong_destination"),
        ("pending", "not_completed"),
        ("pending, its object there", "not_completed"),
        ("cancelled", "not_completed"),
        ("deleted", "not_completed"),
        ("attached", "already_attached"),
        ("its key", "invalid"),
        ("its name", "invalid"),
        ("its url", "invalid"),
        ("itself", "invalid"),
    ],
)
def test_attach_what_is_not_to_be_attached(
    alice: App, bob: App, s3: Bucket, what: str, code: str
) -> None:
    upload = row(
        bob.upload()
        if what.startswith("another's")
        else alice.begin()
        if what in ("pending", "pending, its object there", "cancelled")
        else alice.upload(destination="documents" if "destination" in what else "photos")
    )
    if what == "pending, its object there":
        s3.write(upload, JPEG)
    if what in ("cancelled", "deleted"):
        assert alice.delete(str(upload.pk)).status_code == 204
    if what == "attached":
        assert post(alice, str(upload.pk)).status_code == 201
    image: object = {
        "another's, in capitals": str(upload.pk).upper(),
        "its key": upload.key,
        "its name": upload.name,
        "its url": f"{s3.client.meta.endpoint_url}/{s3.name}/{upload.key}",
        "itself": {"id": str(upload.pk), "status": "completed", "name": upload.name},
    }.get(what, str(upload.pk))
    before = Upload.objects.values().get()
    photos, there = Photo.objects.count(), s3.read(upload)

    answer = post(alice, image)

    assert (answer.status_code, answer.data["image"][0].code) == (400, code)
    assert Photo.objects.count() == photos
    assert Upload.objects.values().get() == before
    assert s3.read(upload) == there


@pytest.mark.usefixtures("empty")
def test_attach_bytes_past_the_bucket(alice: App, s3: Bucket) -> None:
    file = SimpleUploadedFile("evil.html", HTML, "text/html")
    answer = alice.client.post(PHOTOS, {"image": file}, format="multipart")
    assert (answer.status_code, answer.data["image"][0].code) == (400, "invalid")
    assert not Photo.objects.exists()
    assert keys(s3) == []


# The host's own doors.


@pytest.mark.parametrize("trick", ["header", "query", "form", "json"])
@pytest.mark.parametrize("status", ["pending", "completed"])
def test_another_method_by_a_trick(alice: App, s3: Bucket, trick: str, status: str) -> None:
    upload = row(alice.upload() if status == "completed" else alice.begin())
    before = Upload.objects.values().get()
    url, headers = f"{URL}{upload.pk}/", {"X-HTTP-Method-Override": "DELETE"}
    answer = {
        "header": lambda: alice.client.post(url, {}, format="json", headers=headers),
        "query": lambda: alice.client.post(f"{url}?_method=DELETE", {}, format="json"),
        "form": lambda: alice.client.post(url, {"_method": "DELETE"}),
        "json": lambda: alice.client.post(url, {"_method": "DELETE"}, format="json"),
    }[trick]()
    assert answer.status_code == 405
    assert alice.client.get(url, headers=headers).status_code == 200
    assert Upload.objects.values().get() == before
    assert s3.read(upload) == (JPEG if status == "completed" else None)


@pytest.mark.parametrize("call", ["begin", "confirm", "renew", "delete", "attach"])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_a_call_from_another_site(alice: App, s3: Bucket, call: str, content_type: str) -> None:
    upload = row(alice.upload() if call == "attach" else alice.begin())
    if call == "confirm":
        s3.write(upload, JPEG)
    before, there = Upload.objects.values().get(), s3.read(upload)
    assert alice.user is not None
    forger = APIClient(enforce_csrf_checks=True)
    forger.force_login(alice.user)
    method, url, body = {
        "begin": ("POST", URL, {"destination": "photos", "filename": "a.jpg", "size": 1}),
        "confirm": ("POST", f"{URL}{upload.pk}/confirm/", {}),
        "renew": ("POST", f"{URL}{upload.pk}/renew/", {}),
        "delete": ("DELETE", f"{URL}{upload.pk}/", {}),
        "attach": ("POST", PHOTOS, {"image": str(upload.pk)}),
    }[call]

    answer = forger.generic(method, url, json.dumps(body), content_type)

    assert answer.status_code == 403
    assert "CSRF" in answer.json()["detail"]
    assert "X-Amz" not in answer.text
    assert Upload.objects.values().get() == before
    assert not Photo.objects.exists()
    assert s3.read(upload) == there

    forger.cookies["csrftoken"] = "a" * 32
    headers = {"X-CSRFToken": "a" * 32}
    meant = forger.generic(method, url, json.dumps(body), "application/json", headers=headers)
    assert meant.status_code in (200, 201, 204), "with its token it is the app's own"


# Who knows the webhook's secret, and has a bucket that is called "sns".

SECRET = "s3cret-s3cret-s3cret"
TOPIC = "arn:aws:sns:us-west-2:123456789012:uploads"


class Impostor:
    """It signs as SNS does, with a key of its own, whose certificate anybody may read from S3."""

    def __init__(self, s3: Bucket) -> None:
        self.bucket = s3
        self.key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
        now, number = timezone.now(), x509.random_serial_number()
        builder = x509.CertificateBuilder(name, name, self.key.public_key(), number)
        builder = builder.not_valid_before(now - timedelta(days=1))
        made = builder.not_valid_after(now + timedelta(days=1)).sign(self.key, hashes.SHA256())
        self.path = "SimpleNotificationService-f3ec.pem"
        s3.client.put_object(
            Bucket=s3.name,
            Key=self.path,
            Body=made.public_bytes(Encoding.PEM),
            ACL="public-read",
        )

    def get(self, url: str) -> bytes:
        """What AWS's name servers would make of a host of S3: the bucket of that name."""
        endpoint = self.bucket.client.meta.endpoint_url
        path = f"{self.bucket.name}/{urlsplit(url).path[1:]}"
        return requests.get(f"{endpoint}/{path}", timeout=10).content

    def sign(self, said: dict[str, str]) -> dict[str, str]:
        text = "".join(f"{name}\n{said[name]}\n" for name in sorted(said))
        signature = self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return {
            **said,
            "SignatureVersion": "2",
            "Signature": base64.b64encode(signature).decode(),
        }


@pytest.mark.parametrize("kind", ["Notification", "SubscriptionConfirmation"])
@pytest.mark.parametrize(
    "host",
    [
        "sns.s3.amazonaws.com",
        "sns.s3-us-west-2.amazonaws.com",
        "sns.s3-accelerate.amazonaws.com",
        "sns.s3-website-us-west-2.amazonaws.com",
        "sns.s3.amazonaws.com.cn",
        "sns.us-west-2.amazonaws.com.cn",
        "sns.eu-central-1.amazonaws.com",
        "sns.us-west-2.amazonaws.com.",
        "sns.us-west-2.amazonaws.com@sns.s3.amazonaws.com",
        "SNS.us-west-2.amazonaws.com",
        "sns\u3002us-west-2.amazonaws.com",
    ],
)
def test_a_bucket_that_is_called_sns_signs_nothing(
    alice: App,
    other_bucket: Bucket,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    kind: str,
) -> None:
    set_settings(settings, EVENT_SECRET=SECRET, SNS_TOPICS=[TOPIC])
    begun = alice.begin()
    assert alice.send(begun.json()["request"]) == 200
    upload, impostor = row(begun), Impostor(other_bucket)
    asked = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return impostor.get(url)

    monkeypatch.setattr(sns, "fetch", fetch)
    sns._certificate_at.cache_clear()
    record = {
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": upload.bucket}, "object": {"key": upload.key}},
    }
    said = {
        "Message": json.dumps({"Records": [record]}),
        "MessageId": "1",
        "Timestamp": "2026-11-25T08:29:08.323Z",
        "TopicArn": TOPIC,
        "Type": kind,
    }
    if kind == "SubscriptionConfirmation":
        said["SubscribeURL"] = f"https://{host}/?Action=ConfirmSubscription&TopicArn={TOPIC}"
        said["Token"] = "2336412f37"
    body = {**impostor.sign(said), "SigningCertURL": f"https://{host}/{impostor.path}"}
    answer = alice.client.post(
        "/s3-events/", body, format="json", headers={"Authorization": f"Bearer {SECRET}"}
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "sns_signature_wrong")
    assert asked == []
    assert row(alice.get(f"{upload.pk}/")).status == "pending"
    assert alice.confirm(str(upload.pk)).status_code == 200


@pytest.mark.parametrize("who", ["nobody", "a user", "staff without the permission", "staff"])
def test_the_admins_download(
    alice: App, s3: Bucket, make_user: Callable[..., User], who: str
) -> None:
    upload = row(alice.upload())
    app = App(None if who == "nobody" else make_user(is_staff="staff" in who))
    if who == "staff":
        assert app.user is not None
        app.user.user_permissions.add(Permission.objects.get(codename="view_upload"))
    answer = app.client.get(f"/admin/s3direct_uploads/upload/{upload.pk}/download/?inline")
    expected = {"staff without the permission": 403}.get(who, 302)
    assert answer.status_code == expected
    assert ("X-Amz-Signature" in answer.get("Location", "")) == (who == "staff")
    assert s3.read(upload) == JPEG
    assert row(alice.get(f"{upload.pk}/")) == upload


# A signature is a password for an hour.


@pytest.fixture
def everything_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, db: None
) -> Iterator[pytest.LogCaptureFixture]:
    """Every logger says all it has, SQL included; botocore and urllib3 all but their debug."""
    caplog.set_level(logging.DEBUG)
    for name in [*logging.root.manager.loggerDict, "django.db.backends", "s3direct_uploads"]:
        theirs = name.partition(".")[0] in ("boto3", "botocore", "s3transfer", "urllib3")
        caplog.set_level(logging.INFO if theirs else logging.DEBUG, name)
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    with CaptureQueriesContext(connection):
        yield caplog


def signatures(answer: Any) -> set[str]:
    """Those handed out in an answer: in its body, or where it redirects to."""
    urls = [answer.get("Location", "")]
    if answer.get("Content-Type") == "application/json":
        body = answer.json()
        urls += [body.get("url", ""), (body.get("request") or {}).get("url", "")]
        parts = (body.get("multipart") or body).get("parts", [])
        urls += [part["url"] for part in parts]
    found = {parse_qs(urlsplit(url).query).get("X-Amz-Signature", [""])[0] for url in urls}
    return found - {""}


def test_no_signature_is_logged_or_kept(
    alice: App,
    s3: Bucket,
    everything_logged: pytest.LogCaptureFixture,
    make_user: Callable[..., User],
    s3_away: Callable[[], None],
) -> None:
    key = {"Idempotency-Key": "one"}
    begun = alice.begin(headers=key)
    id = begun.json()["id"]
    answers = [begun, alice.begin(headers=key), alice.renew(id), alice.confirm(id)]
    assert alice.send(begun.json()["request"]) == 200
    answers += [alice.confirm(id), alice.get(f"{id}/url/"), alice.get(f"{id}/download/")]
    staff = App(make_user(is_staff=True, is_superuser=True))
    admin = "/admin/s3direct_uploads/upload/"
    pages = [
        staff.client.get(path)
        for path in (admin, f"{admin}{id}/change/", f"{admin}{id}/history/", f"{admin}?q={id}")
    ]
    answers.append(staff.client.get(f"{admin}{id}/download/"))
    spoilt = alice.begin().json()
    headers = {**spoilt["request"]["headers"], "Content-Encoding": "gzip"}
    assert alice.send({**spoilt["request"], "headers": headers}) == 200
    refused = [alice.confirm(spoilt["id"]), alice.renew(id), alice.begin(headers=key, size=1)]
    s3_away()
    late = alice.begin()
    answers.append(late)
    refused += [alice.confirm(late.json()["id"]), alice.delete(id)]
    answers.append(alice.get())

    handed_out = set().union(*map(signatures, answers))
    assert len(handed_out) >= 3, "those of one second are the same"
    assert [page.status_code for page in pages] == [200] * 4
    assert [each.status_code for each in refused] == [422, 410, 409, 503, 204]

    log = everything_logged.text
    assert "s3direct_uploads_upload" in log, "SQL was logged"
    assert "S3 failed at HeadObject" in log
    said = {
        "the log": log,
        "the database": str([list(Upload.objects.values()), list(user_tables())]),
        "the admin": "".join(page.text for page in pages),
        "an error": "".join(each.text for each in refused),
        "the list": answers[-1].text,
    }
    for where, text in said.items():
        assert "X-Amz-Signature" not in text, where
        assert "X-Amz-Credential" not in text, where
        assert not [signature for signature in handed_out if signature in text], where
        assert "testsecretkey" not in text, where
    assert s3.read(Upload.objects.get(pk=id)) == JPEG


def user_tables() -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT session_data FROM django_session")
        sessions = cursor.fetchall()
        cursor.execute("SELECT change_message, object_repr FROM django_admin_log")
        return [*sessions, *cursor.fetchall()]


def test_no_signature_is_in_a_repr(
    alice: App, s3: Bucket, storage_options: Callable[..., None]
) -> None:
    assert alice.user is not None
    upload, presigned = lifecycle.begin(
        owner=alice.user, destination="photos", filename="beach.jpg", size=len(JPEG)
    )
    assert isinstance(presigned, PresignedRequest)
    s3.write(upload, JPEG, ContentType="image/jpeg")
    lifecycle.confirm(upload)
    download = lifecycle.presign_download(upload)
    said = [presigned, download, upload, get_bucket("default"), vars(upload)]
    storage_options(endpoint_url="http://127.0.0.1:9")
    other = Upload.objects.get(pk=alice.begin().json()["id"])
    with pytest.raises(BucketUnavailable) as away:
        lifecycle.confirm(other)
    with pytest.raises(UploadError) as settled:
        lifecycle.renew(upload)
    for error in (away.value, settled.value):
        said += [error, error.args, error.upload]
    for each in said:
        for text in (repr(each), str(each), f"{each}"):
            assert "X-Amz" not in text
            assert "testsecretkey" not in text
    assert Upload.objects.get(pk=upload.pk).status == "completed"
    assert s3.read(upload) == JPEG


def test_a_signature_is_in_no_cache(alice: App, s3: Bucket) -> None:
    begun = alice.begin(headers={"Idempotency-Key": "one"})
    assert alice.send(begun.json()["request"]) == 200
    renewed = alice.renew(begun.json()["id"])
    upload = row(alice.confirm(begun.json()["id"]))
    answers = [begun, renewed, *(alice.get(f"{upload.pk}/{path}/") for path in ("url", "download"))]
    assert all(signatures(answer) for answer in answers)
    assert {answer["Cache-Control"] for answer in answers} == {"no-store"}
    assert s3.read(upload) == JPEG


# A file in parts.


def stored_parts(s3: Bucket, upload: Upload) -> list[tuple[int, int]]:
    """Numbers and sizes of those that S3 has."""
    at = {"Bucket": s3.name, "Key": upload.key, "UploadId": upload.multipart_upload_id}
    parts = s3.client.list_parts(**at).get("Parts", ())
    return [(part["PartNumber"], part["Size"]) for part in parts]


def assert_parts_still_work(
    app: App, s3: Bucket, upload: Upload, part: dict[str, Any], body: bytes = LAST
) -> None:
    """The attack left no trace: no part is there, and the honest request does what it should."""
    answer = app.confirm(str(upload.pk))
    assert (answer.status_code, answer.json()["code"]) == (409, "parts_incomplete")
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id]
    assert (stored_parts(s3, upload), s3.read(upload)) == ([], None)
    assert Sent.of(part, body).send() == 200
    assert row(app.confirm(str(upload.pk))).status == "completed"
    assert s3.read(upload) == body
    assert s3.open_multiparts(upload) == []


def write_to_the_key(it: Sent) -> None:
    """As if it were the signature of a PUT."""
    it.url = re.sub(r"uploadId=[^&]*&partNumber=1&", "", it.url)
    assert "partNumber" not in it.url


@pytest.mark.usefixtures("empty", "films")
@pytest.mark.parametrize(
    ("attack", "status"),
    [
        pytest.param(forge_signature, 403, id="signature: one digit"),
        pytest.param(lambda it: it.rewrite("X-Amz-Signature", "x"), 403, id="signature: none"),
        pytest.param(
            lambda it: it.rewrite(f"&X-Amz-Signature={it.parameter('X-Amz-Signature')}", ""),
            403,
            id="signature: cut off",
        ),
        pytest.param(sign_by_header, 403, id="signature: moved to a header"),
        pytest.param(
            lambda it: it.rewrite("X-Amz-Expires=3600", "X-Amz-Expires=604800"),
            403,
            id="expiry: extended",
        ),
        pytest.param(
            lambda it: it.rewrite(it.parameter("X-Amz-Date"), "20991231T000000Z"),
            403,
            id="date: of the future",
        ),
        pytest.param(
            lambda it: it.rewrite("content-length%3Bhost", "host"),
            403,
            id="signed headers: only the host",
        ),
        pytest.param(lambda it: it.carry(LAST + b"x"), 403, id="body: longer"),
        pytest.param(lambda it: it.carry(LAST[:-1]), 403, id="body: shorter"),
        pytest.param(lambda it: it.carry(b""), 403, id="body: empty"),
        pytest.param(send_in_chunks, 403, id="body: in chunks, without a length"),
        pytest.param(say("Transfer-Encoding", "chunked"), 400, id="body: in chunks, with a length"),
        pytest.param(say("Content-Length", "1"), 400, id="body: two lengths"),
        pytest.param(say("Content-MD5", "A" * 22 + "=="), 400, id="body: another MD5"),
        pytest.param(rewrite("partNumber=1", "partNumber=2"), 403, id="part: another"),
        pytest.param(rewrite("partNumber=1", "partNumber=01"), 403, id="part: 01"),
        pytest.param(rewrite("partNumber=1", "partNumber=0"), 403, id="part: 0"),
        pytest.param(rewrite("partNumber=1", "partNumber=10001"), 403, id="part: 10,001"),
        pytest.param(rewrite("partNumber=1&", ""), 403, id="part: none"),
        pytest.param(ask_for("&partNumber=2"), 403, id="part: twice, another last"),
        pytest.param(rewrite("?", "?partNumber=2&"), 403, id="part: twice, another first"),
        pytest.param(rewrite("uploadId=", "uploadId=x"), 403, id="upload: another"),
        pytest.param(ask_for("&uploadId=x"), 403, id="upload: twice"),
        pytest.param(write_to_the_key, 403, id="upload: none, nor part"),
        pytest.param(rewrite("film.mp4", "other.mp4"), 403, id="key: another tail"),
        pytest.param(rewrite("/site/films/", "/site/"), 403, id="key: another folder"),
        pytest.param(lambda it: it.change("Host", "evil.example"), 403, id="host: another"),
        pytest.param(say("Content-Type", "text/html"), 403, id="content type"),
        *(
            pytest.param(say(name, value), 403, id=name)
            for name, value in (
                ("x-amz-acl", "public-read"),
                ("x-amz-grant-read", EVERYBODY),
                ("x-amz-tagging", "a=b"),
                ("x-amz-meta-a", "b"),
                ("x-amz-copy-source", "/x/y"),
                ("x-amz-storage-class", "GLACIER"),
                ("x-amz-server-side-encryption", "AES256"),
                ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
                ("x-amz-checksum-crc32", "AAAAAA=="),
                ("x-amz-sdk-checksum-algorithm", "CRC32"),
                ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
                ("x-amz-decoded-content-length", "1"),
                ("x-amz-security-token", "x"),
            )
        ),
        *(
            pytest.param(ask_for(query), 403, id=query)
            for query in ("&uploads", "&acl", "&tagging", "&x-amz-acl=public-read", "&x=y")
        ),
        # Of the uploadId alone, DELETE aborts, GET lists and POST completes.
        *(
            pytest.param(use(method), 403, id=f"method: {method}")
            for method in ("GET", "HEAD", "DELETE", "POST")
        ),
        pytest.param(
            use("POST", X_HTTP_Method_Override="PUT"), 403, id="method: POST, overridden to PUT"
        ),
    ],
)
def test_s3_refuses_another_part_than_was_signed(
    alice: App, s3: Bucket, attack: Callable[[Sent], None], status: int
) -> None:
    upload, part = begin_last_part(alice)
    it = Sent.of(part, LAST)
    attack(it)

    assert it.send() == status

    assert keys(s3) == []
    assert_parts_still_work(alice, s3, upload, part)


@pytest.mark.usefixtures("films")
@pytest.mark.parametrize("swap", ["the upload's id", "the key", "both"])
def test_the_signature_of_a_part_on_another_upload(
    alice: App, bob: App, s3: Bucket, swap: str
) -> None:
    mine, part = begin_last_part(alice)
    theirs, their_part = begin_last_part(bob)
    it = Sent.of(part, LAST)
    if swap != "the key":
        it.rewrite(quote(mine.multipart_upload_id), quote(theirs.multipart_upload_id))
    if swap != "the upload's id":
        it.rewrite(mine.key, theirs.key)
    assert it.send() == 403
    assert_parts_still_work(alice, s3, mine, part)
    assert_parts_still_work(bob, s3, theirs, their_part)


@pytest.mark.usefixtures("films")
@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Content-Encoding", "gzip"),
        ("Content-Encoding", "aws-chunked"),
        ("Content-Disposition", "inline"),
        ("Content-Language", "de"),
        ("Cache-Control", "public"),
        ("Expires", "Wed, 21 Oct 2099 07:28:00 GMT"),
        ("Content-Range", "bytes 0-3/99"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("x-goog-acl", "public-read"),
        ("x-goog-meta-a", "b"),
        ("x-goog-tagging", "a=b"),
        ("x-goog-storage-class", "GLACIER"),
        ("x-goog-website-redirect-location", "http://evil.example/"),
    ],
)
def test_what_is_added_to_a_part_changes_nothing(
    alice: App, s3: Bucket, header: str, value: str
) -> None:
    upload, part = begin_last_part(alice)
    it = Sent.of(part, LAST)
    it.add(header, value)
    assert it.send() == 200

    assert row(alice.confirm(str(upload.pk))).status == "completed"

    assert s3.read(upload) == LAST
    found = head(s3, upload)
    assert (found["ContentType"], found["Metadata"]) == ("video/mp4", {})
    for other in (
        "ContentEncoding",
        "ContentDisposition",
        "ContentLanguage",
        "CacheControl",
        "Expires",
        "StorageClass",
        "WebsiteRedirectLocation",
    ):
        assert other not in found
    grants = s3.client.get_object_acl(Bucket=s3.name, Key=upload.key)["Grants"]
    assert [each["Grantee"]["Type"] for each in grants] == ["CanonicalUser"]
    assert s3.client.get_object_tagging(Bucket=s3.name, Key=upload.key)["TagSet"] == []


@pytest.mark.usefixtures("films")
@pytest.mark.parametrize("vendor", ["goog", "rgw", "object"])
def test_anothers_object_is_not_copied_into_a_part(
    alice: App, bob: App, s3: Bucket, vendor: str
) -> None:
    theirs = row(bob.upload(b"secret!"))
    upload, part = begin_last_part(alice)
    it = Sent.of(part, LAST)
    it.add(f"x-{vendor}-copy-source", f"/{s3.name}/{theirs.key}")
    assert it.send() == 200
    assert alice.confirm(str(upload.pk)).status_code == 200
    assert s3.read(upload) == LAST


@pytest.mark.usefixtures("films")
def test_an_expired_part(alice: App, s3: Bucket, settings: Any) -> None:
    set_settings(settings, URL_EXPIRES=1)
    upload, part = begin_last_part(alice)
    time.sleep(1.3)
    assert Sent.of(part, LAST).send() == 403
    [renewed] = alice.sign_parts(str(upload.pk), [1]).json()["parts"]
    assert_parts_still_work(alice, s3, upload, {"method": "PUT", **renewed})


@pytest.mark.usefixtures("films")
@pytest.mark.parametrize("end", ["completed", "cancelled", "rejected", "deleted"])
def test_a_part_that_comes_too_late(alice: App, s3: Bucket, end: str) -> None:
    crc32 = base64.b64encode(zlib.crc32(b"rejected" if end == "rejected" else LAST).to_bytes(4))
    upload, part = begin_last_part(alice, checksum={"algorithm": "CRC32", "value": crc32.decode()})
    id = str(upload.pk)
    assert Sent.of(part, LAST).send() == 200
    if end != "cancelled":
        assert alice.confirm(id).status_code == (422 if end == "rejected" else 200)
    if end in ("cancelled", "deleted"):
        assert alice.delete(id).status_code == 204

    assert Sent.of(part, LAST[::-1]).send() == 404

    assert alice.sign_parts(id, [1]).status_code == 410
    assert alice.renew(id).status_code == 410
    upload.refresh_from_db()
    assert upload.status == end
    # Deleted: its object is due, and until then keeps the key closed.
    assert s3.read(upload) == (LAST if end in ("completed", "deleted") else None)
    assert s3.open_multiparts(upload) == []


@pytest.mark.usefixtures("films")
def test_a_part_that_began_in_time_and_lands_on_a_cancelled_upload(alice: App, s3: Bucket) -> None:
    upload, part = begin_last_part(alice)
    slow = Sent.of(part, LAST).start(LAST[:3])
    time.sleep(0.1)
    assert alice.delete(str(upload.pk)).status_code == 204
    slow.send(LAST[3:])
    assert slow.getresponse().status in (200, 404)
    slow.close()
    assert row(alice.get(f"{upload.pk}/")).status == "cancelled"
    assert s3.open_multiparts(upload) == []
    assert s3.read(upload) is None


@pytest.mark.usefixtures("films")
@pytest.mark.parametrize("method", ["get", "post"])
def test_anothers_parts(alice: App, bob: App, s3: Bucket, method: str) -> None:
    upload, part = begin_last_part(alice)
    before = Upload.objects.values().get()
    answer = bob.parts(str(upload.pk)) if method == "get" else bob.sign_parts(str(upload.pk), [1])
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "X-Amz" not in answer.text
    assert Upload.objects.values().get() == before
    assert_parts_still_work(alice, s3, upload, part)


@pytest.mark.usefixtures("films")
def test_parts_signed_for_another_site(alice: App, s3: Bucket) -> None:
    upload, part = begin_last_part(alice)
    before = Upload.objects.values().get()
    assert alice.user is not None
    forger = APIClient(enforce_csrf_checks=True)
    forger.force_login(alice.user)
    answer = forger.post(f"{URL}{upload.pk}/parts/", {"part_numbers": [1]}, format="json")
    assert answer.status_code == 403
    assert "CSRF" in answer.json()["detail"]
    assert "X-Amz" not in answer.text
    assert Upload.objects.values().get() == before
    assert_parts_still_work(alice, s3, upload, part)


def test_parts_of_an_upload_that_is_one_put(alice: App, s3: Bucket) -> None:
    begun = alice.begin().json()
    for answer in (alice.parts(begun["id"]), alice.sign_parts(begun["id"], [1])):
        assert (answer.status_code, answer.json()["code"]) == (409, "not_multipart")
        assert "X-Amz" not in answer.text
    assert s3.open_multiparts(Upload.objects.get()) == []
    assert_still_works(alice, s3, begun)


@pytest.mark.usefixtures("films")
@pytest.mark.parametrize(
    "numbers", [[10_001], [0], [-1], [2**31], [2**63], range(1, 1_002), [1, 10_001]], ids=str
)
def test_parts_that_s3_does_not_have(alice: App, s3: Bucket, numbers: Any) -> None:
    begun = alice.begin_film(size=10_000 * PART_SIZE)
    before = Upload.objects.values().get()
    answer = alice.sign_parts(begun.json()["id"], numbers)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert answer.json()["errors"][0]["field"] == "part_numbers"
    assert "X-Amz" not in answer.text
    assert Upload.objects.values().get() == before
    assert alice.sign_parts(begun.json()["id"], [10_000]).status_code == 200
    assert s3.open_multiparts(row(begun)) == [row(begun).multipart_upload_id]


@pytest.mark.usefixtures("films")
@pytest.mark.parametrize(
    ("length", "status", "code"),
    [(1024**2, 413, "request_too_large"), (16 * 1024, 400, "invalid"), (1024, 400, "invalid")],
)
def test_a_body_of_part_numbers_that_are_lists(
    alice: App, s3: Bucket, length: int, status: int, code: str
) -> None:
    """It was answered by 35 MB of errors, and took ten seconds."""
    upload, part = begin_last_part(alice)
    before = Upload.objects.values().get()
    lists = "[]," * (length // 3 - 10)
    body = f'{{"part_numbers":[{lists}[]]}}'
    url = f"{URL}{upload.pk}/parts/"
    start = time.process_time()
    answer = alice.client.post(url, body, content_type="application/json")
    assert time.process_time() - start < 0.5
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert len(answer.content) < 64 * 1024
    assert "X-Amz" not in answer.text
    assert Upload.objects.values().get() == before
    assert_parts_still_work(alice, s3, upload, part)


@pytest.mark.usefixtures("films")
def test_fields_of_ours_in_a_declaration_of_parts(alice: App, s3: Bucket) -> None:
    begun = alice.begin_film(**OURS)
    assert begun.status_code == 201
    upload = row(begun)
    assert (upload.part_size, upload.busy_until, upload.bucket) == (PART_SIZE, None, s3.name)
    assert upload.key.startswith("site/films/")
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id]
    assert upload.multipart_upload_id != "x"
    assert upload.expires_at < upload.created_at + timedelta(days=7, minutes=1)
    multipart = begun.json()["multipart"]
    assert (multipart["part_size"], multipart["part_count"]) == (PART_SIZE, 2)
    there = f"{s3.client.meta.endpoint_url}/{s3.name}/{upload.key}?uploadId="
    assert all(part["url"].startswith(there) for part in multipart["parts"])

    ours = {**OURS, "part_numbers": [2]}
    answer = alice.client.post(f"{URL}{upload.pk}/parts/", ours, format="json")
    [part] = answer.json()["parts"]
    assert (part["part_number"], part["size"], part["headers"]) == (2, 7, {})
    assert part["url"].startswith(there)
    assert alice.send_parts([part]) == [200]
    claims = {**OURS, "parts": [{"part_number": 1, "etag": '"x"'}], "multipart": None}
    early = alice.client.post(f"{URL}{upload.pk}/confirm/", claims, format="json")
    assert (early.status_code, early.json()["code"]) == (409, "parts_incomplete")
    assert early.json()["errors"][0]["params"] == {"part_numbers": [1]}
    assert (row(early).status, s3.read(upload)) == ("pending", None)


def crc64nvme(body: bytes) -> bytes:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = (crc >> 1) ^ (0x9A6C9329AC4BC9B5 if crc & 1 else 0)
        table.append(crc)
    crc = 2**64 - 1
    for byte in body:
        crc = table[(crc ^ byte) & 255] ^ (crc >> 8)
    return (crc ^ (2**64 - 1)).to_bytes(8)


@pytest.mark.usefixtures("films")
@pytest.mark.parametrize("declared", ["right", "wrong"])
@pytest.mark.parametrize("algorithm", ["CRC32", "CRC64NVME"])
def test_a_whole_files_checksum_is_compared_by_s3_or_by_us(
    alice: App, s3: Bucket, algorithm: str, declared: str
) -> None:
    body = FILM if declared == "right" else OTHER
    value = zlib.crc32(body).to_bytes(4) if algorithm == "CRC32" else crc64nvme(body)
    checksum = {"algorithm": algorithm, "value": base64.b64encode(value).decode()}
    begun = alice.begin_film(checksum=checksum)
    assert alice.send_parts(begun.json()["multipart"]["parts"]) == [200, 200]

    answers = [alice.confirm(begun.json()["id"]) for _ in range(2)]

    assert answers[0].json() == answers[1].json()
    upload = row(begun)
    if declared == "right":
        assert (answers[0].status_code, upload.status) == (200, "completed")
        found = s3.client.head_object(Bucket=s3.name, Key=upload.key, ChecksumMode="ENABLED")
        assert found[f"Checksum{algorithm}"] == checksum["value"]
    else:
        assert (answers[0].status_code, answers[0].json()["code"]) == (422, "object_mismatch")
        assert (upload.status, upload.due_at) == ("rejected", upload.key_closes_at)
    # A wrong CRC32 Ceph refuses at Complete; of a wrong CRC64NVME it makes an object, with its own.
    made = declared == "right" or algorithm == "CRC64NVME"
    assert s3.read(upload) == (FILM if made else None)
    assert s3.open_multiparts(upload) == []


@pytest.mark.usefixtures("films")
@pytest.mark.parametrize("body", [b"smuggled", b"THE END"])
def test_an_object_that_was_at_the_key_before(alice: App, s3: Bucket, body: bytes) -> None:
    """By whoever may write to the bucket as we do: no URL of ours writes there but Complete."""
    crc32 = base64.b64encode(zlib.crc32(LAST).to_bytes(4)).decode()
    upload, part = begin_last_part(alice, checksum={"algorithm": "CRC32", "value": crc32})
    s3.write(upload, body, ChecksumAlgorithm="CRC32")
    assert Sent.of(part, LAST).send() == 200
    answer = alice.confirm(str(upload.pk))
    assert (answer.status_code, answer.json()["code"]) == (422, "object_mismatch")
    upload.refresh_from_db()
    assert (upload.status, upload.due_at) == ("rejected", upload.key_closes_at)
    assert s3.read(upload) == body, "Complete overwrites nothing"
    assert s3.open_multiparts(upload) == []


@pytest.mark.usefixtures("films")
def test_nothing_but_complete_writes_to_its_key(alice: App, s3: Bucket) -> None:
    upload, part = begin_last_part(alice)
    assert Sent.of(part, LAST).send() == 200
    assert alice.confirm(str(upload.pk)).status_code == 200
    it = Sent.of(part, LAST[::-1])
    write_to_the_key(it)
    assert it.send() == 403
    at = {"Bucket": s3.name, "Key": upload.key}
    again = s3.client.create_multipart_upload(**at)["UploadId"]  # were another to be created
    tag = s3.client.upload_part(**at, UploadId=again, PartNumber=1, Body=b"THE END")["ETag"]
    other = StoredPart(part_number=1, size=7, etag=tag)
    get_bucket("default").complete_multipart(upload.key, again, [other], Declared(7))
    assert s3.read(upload) == LAST
    assert s3.open_multiparts(upload) == []


@pytest.mark.usefixtures("films")
def test_no_parts_signature_is_logged_or_kept(
    alice: App,
    s3: Bucket,
    everything_logged: pytest.LogCaptureFixture,
    make_user: Callable[..., User],
    s3_away: Callable[[], None],
) -> None:
    key = {"Idempotency-Key": "one"}
    upload, part = begin_last_part(alice, headers=key)
    id = str(upload.pk)
    answers = [alice.renew(id), alice.sign_parts(id, [1])]
    refused = [alice.confirm(id), alice.sign_parts(id, [2])]
    staff = App(make_user(is_staff=True, is_superuser=True))
    admin = "/admin/s3direct_uploads/upload/"
    pages = [staff.client.get(f"{admin}{id}/change/")]
    assert Sent.of(part, LAST).send() == 200
    assert alice.parts(id).json() == [{"part_number": 1, "size": 7}]
    assert alice.confirm(id).status_code == 200
    pages += [staff.client.get(path) for path in (admin, f"{admin}{id}/change/")]
    refused += [alice.renew(id), alice.sign_parts(id, [1]), alice.parts(id)]
    other = alice.begin_film()
    answers.append(other)
    s3_away()
    refused += [alice.begin_film(), alice.parts(other.json()["id"])]
    refused += [alice.confirm(other.json()["id"]), alice.delete(other.json()["id"])]

    handed_out = set().union(*map(signatures, answers))
    assert len(handed_out) >= 3, "those of one second are the same"
    assert [page.status_code for page in pages] == [200] * 3
    assert [each.status_code for each in refused] == [409, 400, 410, 410, 410, 503, 503, 503, 204]

    log = everything_logged.text
    assert "s3direct_uploads_upload" in log, "SQL was logged"
    assert "S3 failed at ListParts" in log
    said = {
        "the log": log,
        "the database": str([list(Upload.objects.values()), list(user_tables())]),
        "the admin": "".join(page.text for page in pages),
        "an error": "".join(each.text for each in refused),
    }
    for where, text in said.items():
        assert "X-Amz-Signature" not in text, where
        assert "X-Amz-Credential" not in text, where
        assert not [signature for signature in handed_out if signature in text], where
        assert "testsecretkey" not in text, where
    assert s3.read(upload) == LAST


@pytest.mark.usefixtures("films")
def test_no_parts_signature_is_in_a_repr_or_a_cache(alice: App, s3: Bucket) -> None:
    assert alice.user is not None
    upload, presigned = lifecycle.begin(
        owner=alice.user, destination="films", filename="a.mp4", size=len(FILM), multipart=True
    )
    assert isinstance(presigned, PresignedMultipart)
    parts, _ = lifecycle.sign_parts(upload, [1, 2])
    answers = [alice.renew(str(upload.pk)), alice.sign_parts(str(upload.pk), [1])]
    answers.append(alice.begin_film())
    assert all(signatures(answer) for answer in answers)
    assert {answer["Cache-Control"] for answer in answers} == {"no-store"}
    for each in (presigned, presigned.parts, parts, parts[0], upload, vars(upload)):
        for text in (repr(each), str(each), f"{each}"):
            assert "X-Amz" not in text
            assert "testsecretkey" not in text
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id]
