"""Attacks on Django alone, by somebody with a login and a client of their own.

No test here needs an S3 that verifies signatures. Attacks on S3 are in ``tests/real/attacks``.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone
from rest_framework.test import APIClient

from s3direct_uploads import lifecycle
from s3direct_uploads.events import sns
from s3direct_uploads.exceptions import BucketUnavailable, UploadError
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import PresignedMultipart, PresignedRequest, get_bucket
from tests.conftest import FILM, JPEG, LAST, PART_SIZE, URL, App, Bucket, begin_last_part, row
from tests.models import Photo

pytestmark = pytest.mark.attack
PHOTOS = "/api/photos/"
OTHER = JPEG[::-1]  # other bytes, as many
HTML = b"<script>alert(document.domain)</script>"


def post(app: App, image: object) -> Any:
    return app.client.post(PHOTOS, {"image": image}, format="json")


def assert_still_works(app: App, s3: Bucket, begun: dict[str, Any]) -> None:
    """The attack changed nothing: the row is pending, and the request as it was signed works."""
    answer = app.confirm(begun["id"])
    assert (answer.status_code, answer.json()["code"]) == (409, "object_missing")
    upload = row(answer)
    assert (upload.status, upload.etag, upload.completed_at) == ("pending", "", None)
    assert app.send(begun["request"]) == 200
    assert row(app.confirm(begun["id"])).status == "completed"
    assert s3.read(upload) == JPEG


# What begin may be told.


@pytest.mark.parametrize(
    "declaration",
    [
        {"filename": "beach.jpg\r\nx-amz-acl: public-read"},
        {"filename": "\u202egpj.exe", "content_type": ""},
        {"content_type": "image/svg+xml ;x=y"},
        {"content_type": "image/png;x=y, text/html"},
        {"content_type": "application/octet-stream", "filename": "evil.html"},
        {"content_type": "Image/SVG+XML"},
        {"content_type": "image/jpeg\r\nx-amz-acl: public-read"},
        {"content_type": "image/jpeg, text/html"},
        {"destination": "../albums"},
        {"destination": "__class__"},
    ],
    ids=str,
)
def test_a_refused_declaration_makes_no_row_and_asks_s3_nothing(
    alice: App, s3_calls: list[str], declaration: dict[str, Any]
) -> None:
    answer = alice.begin(**declaration)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert "X-Amz" not in answer.text
    assert not Upload.objects.exists()
    assert s3_calls == []


def test_each_upload_of_one_filename_has_its_own_key(alice: App, bob: App, s3: Bucket) -> None:
    uploads = [row(app.upload(body)) for app, body in ((alice, JPEG), (alice, OTHER), (bob, HTML))]
    assert len({upload.key for upload in uploads}) == 3
    assert [s3.read(upload) for upload in uploads] == [JPEG, OTHER, HTML]


def test_a_filename_cannot_choose_the_key_of_another_upload(
    alice: App, bob: App, s3: Bucket
) -> None:
    theirs = row(bob.upload(OTHER))
    mine = row(alice.upload(filename=theirs.key.replace("/", "_")))
    assert mine.key != theirs.key
    assert (s3.read(mine), s3.read(theirs)) == (JPEG, OTHER)


CRC32 = {"algorithm": "CRC32", "value": base64.b64encode(zlib.crc32(JPEG).to_bytes(4)).decode()}


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
def test_an_idempotency_key_is_refused_with_another_body(
    alice: App, s3: Bucket, change: dict[str, Any]
) -> None:
    key = {"Idempotency-Key": "one"}
    begun = alice.begin(headers=key).json()
    answer = alice.begin(headers=key, **change)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")
    assert answer.json()["upload"]["request"] is None
    assert row(answer) == Upload.objects.get()
    assert_still_works(alice, s3, begun)


# Columns of ours.


# What a client may write into a body, as if it were a setting or a column.
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


def test_begin_ignores_columns_in_the_body(alice: App, s3: Bucket) -> None:
    begun = alice.begin(**OURS)
    assert begun.status_code == 201
    assert_ours_untouched(alice, row(begun))
    assert row(begun).bucket == s3.name
    request = begun.json()["request"]
    assert request["url"].startswith(f"{s3.client.meta.endpoint_url}/{s3.name}/site/photos/")
    assert request["headers"] == {"Content-Type": "image/jpeg", "If-None-Match": "*"}
    assert (request["method"], request["expires_in"]) == ("PUT", 3600)
    assert_still_works(alice, s3, begun.json())


def test_begin_ignores_columns_in_the_query(alice: App, s3: Bucket) -> None:
    answer = alice.client.post(
        f"{URL}?status=completed&key=mine&owner=1&bucket=other",
        {"destination": "photos", "filename": "beach.jpg", "size": len(JPEG)},
        format="json",
    )
    assert_ours_untouched(alice, row(answer))
    assert_still_works(alice, s3, answer.json())


def test_begin_ignores_columns_in_the_context(alice: App, s3: Bucket) -> None:
    # As in CVE-2026-33173 of Rails: the client's words and the server's are in one JSON.
    note = {"album": 1, "status": "completed", "key": "mine", "identified": True, "owner": 1}
    begun = alice.begin(destination="albums", content_type="image/jpeg", context=note)
    assert begun.json()["context"] == {"album": 1, "tags": []}
    assert_ours_untouched(alice, row(begun))
    assert_still_works(alice, s3, begun.json())


@pytest.mark.parametrize("call", ["confirm/", "renew/"])
def test_confirm_and_renew_ignore_columns_in_the_body(alice: App, s3: Bucket, call: str) -> None:
    begun = alice.begin()
    answer = alice.client.post(f"{URL}{begun.json()['id']}/{call}", OURS, format="json")
    assert answer.status_code == {"confirm/": 409, "renew/": 200}[call]
    assert_ours_untouched(alice, row(begun))
    assert_still_works(alice, s3, begun.json())


@pytest.mark.usefixtures("films")
def test_calls_about_parts_ignore_columns_in_the_body(alice: App, s3: Bucket) -> None:
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


def test_confirm_does_not_believe_that_an_upload_is_completed(alice: App, s3: Bucket) -> None:
    begun = alice.begin().json()
    forged = {**begun, "status": "completed", "etag": '"x"', "completed_at": "2020-01-01T00:00:00Z"}
    answer = alice.client.post(f"{URL}{begun['id']}/confirm/", forged, format="json")
    assert (answer.status_code, answer.json()["code"]) == (409, "object_missing")
    assert alice.get(f"{begun['id']}/url/").status_code == 409
    assert post(alice, begun["id"]).data["image"][0].code == "not_completed"
    assert s3.read(Upload.objects.get()) is None
    assert_still_works(alice, s3, begun)


@pytest.mark.usefixtures("films")
@pytest.mark.parametrize("numbers", [[10_001], [1, 10_001], [2**31]], ids=str)
def test_an_upload_of_ten_thousand_parts_has_no_other_part(
    alice: App, s3: Bucket, numbers: Any
) -> None:
    begun = alice.begin_film(size=10_000 * PART_SIZE)
    before = Upload.objects.values().get()
    answer = alice.sign_parts(begun.json()["id"], numbers)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert answer.json()["errors"][0]["field"] == "part_numbers"
    assert "X-Amz" not in answer.text
    assert Upload.objects.values().get() == before
    assert alice.sign_parts(begun.json()["id"], [10_000]).status_code == 200
    assert s3.open_multiparts(row(begun)) == [row(begun).multipart_upload_id]


# Uploads of another owner.


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
def test_the_upload_of_another_owner_is_not_found(
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


@pytest.mark.usefixtures("films")
@pytest.mark.parametrize("method", ["get", "post"])
def test_the_parts_of_another_owner_are_not_found(
    alice: App, bob: App, s3: Bucket, method: str
) -> None:
    upload, part = begin_last_part(alice)
    before = Upload.objects.values().get()
    answer = bob.parts(str(upload.pk)) if method == "get" else bob.sign_parts(str(upload.pk), [1])
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "X-Amz" not in answer.text
    assert Upload.objects.values().get() == before
    assert alice.send(part, LAST) == 200
    assert row(alice.confirm(str(upload.pk))).status == "completed"
    assert s3.read(upload) == LAST


def test_the_upload_of_another_owner_is_in_no_batch(alice: App, bob: App, s3: Bucket) -> None:
    theirs, mine = row(alice.begin()), row(bob.begin())
    for upload in (theirs, mine):
        s3.write(upload, JPEG)
    before = Upload.objects.filter(pk=theirs.pk).values().get()

    answer = bob.confirm_batch([str(mine.pk), str(theirs.pk), theirs.pk.hex, f"{{{theirs.pk}}}"])

    found = answer.json()["results"]
    assert [each["status"] for each in found] == [200, 404, 404, 404]
    assert str(theirs.pk) not in answer.text
    assert Upload.objects.filter(pk=theirs.pk).values().get() == before


def test_a_batch_ignores_columns_in_its_declarations(alice: App, bob: App) -> None:
    columns = {"owner": bob.user.pk, "status": "completed", "key": "evil", "counted": True}  # type: ignore[union-attr]
    answer = alice.begin_batch({**columns, "idempotency_key": "x", "id": str(UUID(int=0))})
    assert answer.json()["results"][0]["status"] == 201
    upload = Upload.objects.get()
    assert (upload.owner, upload.status, upload.counted) == (alice.user, "pending", False)
    assert (upload.idempotency_key, upload.pk.int > 0, "evil" in upload.key) == (None, True, False)


HUGE = 500 * 1024
HUGE_DECLARATIONS: dict[str, Any] = {
    "a filename": {"filename": "x" * HUGE},
    "a content type": {"content_type": "image/jpeg" + ";a=b" * (HUGE // 4)},
    "a destination": {"destination": "x" * HUGE},
    "a size": {"size": "9" * HUGE},
    "a checksum": {"checksum": {"algorithm": "CRC32", "value": "A" * HUGE}},
    "a context": {"destination": "albums", "context": {"album": 1, "tags": ["x" * HUGE]}},
    "a list": [[]] * (HUGE // 4),
    "text": "x" * HUGE,
}


@pytest.mark.parametrize("kind", HUGE_DECLARATIONS)
def test_a_huge_declaration_refuses_no_other(alice: App, kind: str) -> None:
    answer = alice.begin_batch({}, HUGE_DECLARATIONS[kind], {})
    found = answer.json()["results"]
    assert [each["status"] for each in found] == [201, 400, 201]
    assert len(json.dumps(found[1])) < 4 * 1024
    assert Upload.objects.count() == 2


@pytest.mark.parametrize("field", ["context", "filename", "checksum", "destination", "unknown"])
def test_a_declaration_that_is_nested_deeply_refuses_no_other(alice: App, field: str) -> None:
    deep = "[" * 400 + "]" * 400
    if field == "context":
        deep = f'{{"a": {deep}}}'
    photo = '"destination": "photos", "filename": "a.jpg", "size": 5'
    body = f'{{"uploads": [{{{photo}}}, {{{photo}, "{field}": {deep}}}, {{{photo}}}]}}'
    answer = alice.client.post(f"{URL}batch/", body, content_type="application/json")
    found = [each["status"] for each in answer.json()["results"]]
    assert found == [201, 201 if field == "unknown" else 400, 201]


@pytest.mark.parametrize(
    "query",
    ["", "?owner=1", "?owner__isnull=False", "?id=x", "?search=beach", "?filename=beach.jpg"],
)
def test_the_upload_of_another_owner_is_in_no_list(
    alice: App, bob: App, s3: Bucket, query: str
) -> None:
    theirs = row(alice.upload())
    assert bob.client.get(f"{URL}{query}").json()["results"] == []
    assert s3.read(theirs) == JPEG


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("another's", "does_not_exist"),
        ("another's, in capitals", "does_not_exist"),
        ("another destination's", "wrong_destination"),
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
def test_a_serializer_refuses_an_upload_that_may_not_be_attached(
    alice: App, bob: App, s3: Bucket, what: str, code: str
) -> None:
    upload = row(
        bob.upload()
        if what.startswith("another's")
        else alice.begin()
        if what in ("pending, its object there", "cancelled")
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


def test_a_serializer_refuses_a_file_that_is_posted_to_django(
    alice: App, s3_calls: list[str]
) -> None:
    file = SimpleUploadedFile("evil.html", HTML, "text/html")
    answer = alice.client.post(PHOTOS, {"image": file}, format="multipart")
    assert (answer.status_code, answer.data["image"][0].code) == (400, "invalid")
    assert not Photo.objects.exists()
    assert s3_calls == []


# The host: the method, CSRF, and the webhook.


@pytest.mark.parametrize("trick", ["header", "query", "form", "json"])
@pytest.mark.parametrize("status", ["pending", "completed"])
def test_a_post_cannot_be_turned_into_a_delete(
    alice: App, s3: Bucket, trick: str, status: str
) -> None:
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
def test_a_call_from_another_site_is_refused(
    alice: App, s3: Bucket, call: str, content_type: str
) -> None:
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


# Somebody knows the secret of the webhook, and has a bucket that is named "sns".

SECRET = "s3cret-s3cret-s3cret"
TOPIC = "arn:aws:sns:us-west-2:123456789012:uploads"


class Impostor:
    """It signs as SNS does, by a key of its own. The certificate of the key is right as well."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
        now, number = timezone.now(), x509.random_serial_number()
        builder = x509.CertificateBuilder(name, name, self.key.public_key(), number)
        builder = builder.not_valid_before(now - timedelta(days=1))
        made = builder.not_valid_after(now + timedelta(days=1)).sign(self.key, hashes.SHA256())
        self.certificate = made.public_bytes(Encoding.PEM)

    def sign(self, said: dict[str, str]) -> dict[str, str]:
        text = "".join(f"{name}\n{said[name]}\n" for name in sorted(said))
        signature = self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return {
            **said,
            "SignatureVersion": "2",
            "Signature": base64.b64encode(signature).decode(),
        }


@pytest.mark.parametrize("kind", ["Notification", "SubscriptionConfirmation"])
def test_a_bucket_that_is_named_sns_cannot_sign_a_message(
    alice: App, settings: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    ours = settings.S3DIRECT_UPLOADS
    settings.S3DIRECT_UPLOADS = {**ours, "EVENT_SECRET": SECRET, "SNS_TOPICS": [TOPIC]}
    begun = alice.begin()
    assert alice.send(begun.json()["request"]) == 200
    upload, impostor = row(begun), Impostor()
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return impostor.certificate

    def say_from(host: str) -> Any:
        said = {"MessageId": "1", "Timestamp": "2026-11-25T08:29:08.323Z", "TopicArn": TOPIC}
        record = {
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": upload.bucket}, "object": {"key": upload.key}},
        }
        said |= {"Type": kind, "Message": json.dumps({"Records": [record]})}
        if kind == "SubscriptionConfirmation":
            said["SubscribeURL"] = f"https://{host}/?Action=ConfirmSubscription&TopicArn={TOPIC}"
            said["Token"] = "2336412f37"
        certificate_url = f"https://{host}/SimpleNotificationService-f3ec.pem"
        body = {**impostor.sign(said), "SigningCertURL": certificate_url}
        headers = {"Authorization": f"Bearer {SECRET}"}
        return alice.client.post("/s3-events/", body, format="json", headers=headers)

    monkeypatch.setattr(sns, "fetch", fetch)
    sns._certificate_at.cache_clear()

    refused = say_from("sns.s3-us-west-2.amazonaws.com")

    assert (refused.status_code, refused.json()["code"]) == (403, "sns_signature_wrong")
    assert asked == []
    assert row(alice.get(f"{upload.pk}/")).status == "pending"
    # The host is the only thing that is wrong: SNS itself would be believed.
    assert say_from("sns.us-west-2.amazonaws.com").status_code == 200
    sns._certificate_at.cache_clear()


# A signature is a password for an hour.


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


@pytest.mark.usefixtures("films")
def test_no_signature_of_a_part_is_in_a_repr(alice: App, s3: Bucket) -> None:
    assert alice.user is not None
    upload, presigned = lifecycle.begin(
        owner=alice.user, destination="films", filename="a.mp4", size=len(FILM), multipart=True
    )
    assert isinstance(presigned, PresignedMultipart)
    parts, _ = lifecycle.sign_parts(upload, [1, 2])
    for each in (presigned, presigned.parts, parts, parts[0], upload, vars(upload)):
        for text in (repr(each), str(each), f"{each}"):
            assert "X-Amz" not in text
            assert "testsecretkey" not in text
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id]
