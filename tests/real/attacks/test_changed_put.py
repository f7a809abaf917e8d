"""The presigned PUT, changed: S3 refuses a request that differs from the signed one."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from tests.conftest import JPEG, App, Bucket, row

from .conftest import (
    EVERYBODY,
    Sent,
    ask_for,
    assert_still_works,
    forge_signature,
    keys,
    say,
    send_in_chunks,
    sign_by_header,
    use,
)

pytestmark = pytest.mark.attack


def sign_as_version_2(it: Sent) -> None:
    access_key = it.parameter("X-Amz-Credential").partition("/")[0]
    signature = it.parameter("X-Amz-Signature")
    it.url = it.url.partition("?")[0]
    it.url += f"?AWSAccessKeyId={access_key}&Expires=4102444800&Signature={signature}"


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
def test_s3_refuses_a_put_that_differs_from_the_signed_one(
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


def test_a_signature_is_for_one_bucket(alice: App, s3: Bucket, other_bucket: Bucket) -> None:
    begun = alice.begin().json()
    it = Sent.of(begun["request"])
    it.rewrite(f"/{s3.name}/", f"/{other_bucket.name}/")
    assert it.send() == 403
    assert keys(other_bucket) == []
    assert_still_works(alice, s3, begun)


def test_a_url_does_not_work_with_the_headers_of_another_upload(alice: App, s3: Bucket) -> None:
    mine = alice.begin().json()
    other = alice.begin(content_type="image/png", size=4).json()
    it = Sent.of({**other["request"], "url": mine["request"]["url"]}, b"\x89PNG")
    assert it.send() == 403
    assert_still_works(alice, s3, mine)
    assert row(alice.get(f"{other['id']}/")).status == "pending"


def test_a_signature_does_not_work_on_the_key_of_another_upload(alice: App, s3: Bucket) -> None:
    mine, other = alice.begin().json(), row(alice.begin())
    it = Sent.of(mine["request"])
    it.rewrite(row(alice.get(f"{mine['id']}/")).key, other.key)
    assert it.send() == 403
    assert s3.read(other) is None
    assert_still_works(alice, s3, mine)


@pytest.mark.usefixtures("empty")
def test_the_signature_of_a_put_does_not_sign_a_form_post(alice: App, s3: Bucket) -> None:
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


def test_a_put_that_is_cut_in_the_middle_stores_nothing(alice: App, s3: Bucket) -> None:
    begun = alice.begin().json()
    Sent.of(begun["request"]).start(JPEG[:5]).close()
    time.sleep(0.1)
    assert_still_works(alice, s3, begun)


def test_bytes_beyond_the_declared_length_are_not_stored(alice: App, s3: Bucket) -> None:
    begun = alice.begin().json()
    it = Sent.of(begun["request"])
    it.body += b"PUT /beyond HTTP/1.1\r\n\r\n"
    assert it.send() == 200
    upload = row(alice.confirm(begun["id"]))
    assert (upload.status, s3.read(upload)) == ("completed", JPEG)


def test_an_empty_upload_takes_no_bytes(alice: App, s3: Bucket) -> None:
    begun = alice.begin(size=0).json()
    assert Sent.of(begun["request"], JPEG).send() == 403
    answer = alice.confirm(begun["id"])
    assert (answer.status_code, row(answer).status) == (409, "pending")
    assert s3.read(row(answer)) is None
