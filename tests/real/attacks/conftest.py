"""The cast of the attacks: a request to S3 that is sent exactly as the attacker wrote it.

The attacker has a login and a presigned URL. S3 here is Ceph, which verifies signatures. Each test
ends with what the bucket and the row contain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from s3direct_uploads.models import Upload
from tests.conftest import JPEG, LAST, App, Bucket, row

PHOTOS = "/api/photos/"
OTHER = JPEG[::-1]  # other bytes, as many
EVERYBODY = "uri=http://acs.amazonaws.com/groups/global/AllUsers"
HTML = b"<script>alert(document.domain)</script>"


@dataclass
class Sent:
    """A request to S3, sent octet for octet. ``requests`` would correct it first."""

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
    """The bucket is empty before the test. What it holds afterwards was stored by the test."""
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
    """The attack changed nothing: the row is pending, and the request as it was signed works."""
    answer = app.confirm(begun["id"])
    assert (answer.status_code, answer.json()["code"]) == (409, "object_missing")
    upload = row(answer)
    assert (upload.status, upload.etag, upload.completed_at) == ("pending", "", None)
    assert Sent.of(begun["request"]).send() == 200
    assert row(app.confirm(begun["id"])).status == "completed"
    assert s3.read(upload) == JPEG


def stored_parts(s3: Bucket, upload: Upload) -> list[tuple[int, int]]:
    """The numbers and sizes of the parts that S3 has."""
    at = {"Bucket": s3.name, "Key": upload.key, "UploadId": upload.multipart_upload_id}
    parts = s3.client.list_parts(**at).get("Parts", ())
    return [(part["PartNumber"], part["Size"]) for part in parts]


def assert_parts_still_work(
    app: App, s3: Bucket, upload: Upload, part: dict[str, Any], body: bytes = LAST
) -> None:
    """The attack changed nothing: S3 has no part, and the request as it was signed works."""
    answer = app.confirm(str(upload.pk))
    assert (answer.status_code, answer.json()["code"]) == (409, "parts_incomplete")
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id]
    assert (stored_parts(s3, upload), s3.read(upload)) == ([], None)
    assert Sent.of(part, body).send() == 200
    assert row(app.confirm(str(upload.pk))).status == "completed"
    assert s3.read(upload) == body
    assert s3.open_multiparts(upload) == []


# Changes to a request.


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


def send_in_chunks(it: Sent) -> None:
    it.drop("Content-Length")
    it.add("Transfer-Encoding", "chunked")
    it.body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(it.body), it.body)


def say(name: str, value: str) -> Callable[[Sent], None]:
    return lambda it: it.add(name, value)


def prepend(name: str, value: str) -> Callable[[Sent], None]:
    return lambda it: it.headers.insert(0, (name, value))


def rewrite(old: str, new: str) -> Callable[[Sent], None]:
    return lambda it: it.rewrite(old, new)


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
