"""The presigned part, changed: S3 refuses a request that differs from the signed one."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

import pytest

from s3direct_uploads.s3 import Declared, StoredPart, get_bucket
from tests.conftest import LAST, App, Bucket, begin_last_part, row

from .conftest import (
    EVERYBODY,
    Sent,
    ask_for,
    assert_parts_still_work,
    forge_signature,
    head,
    keys,
    rewrite,
    say,
    send_in_chunks,
    sign_by_header,
    use,
)

pytestmark = pytest.mark.attack


def write_to_the_key(it: Sent) -> None:
    """Use the signature of the part for a PUT of the whole object."""
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
        # With an uploadId alone, DELETE aborts, GET lists the parts, and POST completes.
        *(
            pytest.param(use(method), 403, id=f"method: {method}")
            for method in ("GET", "HEAD", "DELETE", "POST")
        ),
        pytest.param(
            use("POST", X_HTTP_Method_Override="PUT"), 403, id="method: POST, overridden to PUT"
        ),
    ],
)
def test_s3_refuses_a_part_that_differs_from_the_signed_one(
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
def test_the_signature_of_a_part_does_not_work_on_another_upload(
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
def test_headers_that_are_added_to_a_part_have_no_effect(
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
def test_a_part_is_never_copied_from_another_object(
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
def test_only_complete_writes_to_the_key(alice: App, s3: Bucket) -> None:
    upload, part = begin_last_part(alice)
    assert Sent.of(part, LAST).send() == 200
    assert alice.confirm(str(upload.pk)).status_code == 200
    it = Sent.of(part, LAST[::-1])
    write_to_the_key(it)
    assert it.send() == 403
    at = {"Bucket": s3.name, "Key": upload.key}
    again = s3.client.create_multipart_upload(**at)["UploadId"]  # as if it was created twice
    tag = s3.client.upload_part(**at, UploadId=again, PartNumber=1, Body=b"THE END")["ETag"]
    other = StoredPart(part_number=1, size=7, etag=tag)
    get_bucket("default").complete_multipart(upload.key, again, [other], Declared(7))
    assert s3.read(upload) == LAST
    assert s3.open_multiparts(upload) == []
