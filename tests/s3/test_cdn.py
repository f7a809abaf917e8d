"""Where a download leads when the storage has a custom_domain, or signs no URLs."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from django.core import checks
from django.core.files.storage import storages
from django.core.management import call_command
from django.utils import timezone
from storages.backends import s3 as django_storages

from s3direct_uploads.models import Upload
from s3direct_uploads.serializers import UploadField
from s3direct_uploads.storage import S3Storage
from tests.conftest import JPEG, App, Bucket, row

CDN = "cdn.example.com"
PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = PRIVATE.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.TraditionalOpenSSL,
    serialization.NoEncryption(),
).decode()
SIGNED = {"custom_domain": CDN, "cloudfront_key_id": "K2JCJMDEHXQW5F", "cloudfront_key": PEM}
HTML: dict[str, Any] = {
    "destination": "documents",
    "filename": "a.html",
    "content_type": "text/html",
}


def url_of(app: App, upload: Upload, **query: str) -> str:
    """Both endpoints answer alike."""
    answer = app.get(f"{upload.pk}/url/", **query)
    assert answer.status_code == 200
    assert answer.json()["expires_in"] == 3600
    url: str = answer.json()["url"]
    redirect = app.get(f"{upload.pk}/download/", **query)
    assert redirect.status_code == 302
    assert redirect["Location"].partition("?")[0] == url.partition("?")[0]
    return url


def by_s3(url: str, s3: Bucket, upload: Upload) -> str:
    """S3 itself signed this URL. Returns the disposition of its answer."""
    assert "X-Amz-Signature" in url
    assert f"{s3.name}/{upload.key}?" in url
    answer = requests.get(url, timeout=10)
    assert (answer.status_code, answer.content) == (200, JPEG)
    return answer.headers["Content-Disposition"]


def assert_cloudfront_signed(url: str) -> None:
    """As CloudFront verifies it: a canned policy for the URL with its query."""
    resource, _, signature = url.partition("&Expires=")
    expires, signed, key = signature.replace("&", "=").split("=")[0::2]
    assert key == "K2JCJMDEHXQW5F"
    assert 3500 < int(expires) - timezone.now().timestamp() <= 3600
    policy = {
        "Statement": [
            {
                "Resource": resource,
                "Condition": {"DateLessThan": {"AWS:EpochTime": int(expires)}},
            }
        ]
    }
    raw = base64.b64decode(signed.replace("-", "+").replace("_", "=").replace("~", "/"))
    text = json.dumps(policy, separators=(",", ":")).encode()
    PRIVATE.public_key().verify(raw, text, padding.PKCS1v15(), hashes.SHA1())


@pytest.mark.parametrize("kind", [S3Storage, django_storages.S3Storage])
@pytest.mark.parametrize(
    ("filename", "encoded"),
    [("my beach.jpg", "my%20beach.jpg"), ("Füße; a=b.jpg", "F%C3%BC%C3%9Fe%3B%20a%3Db.jpg")],
)
def test_cloudfront_signs_and_is_told_the_disposition(
    alice: App,
    settings: Any,
    storage_options: Callable[..., None],
    kind: type[Any],
    filename: str,
    encoded: str,
) -> None:
    storage_options(**SIGNED)
    default = {**settings.STORAGES["default"], "BACKEND": f"{kind.__module__}.S3Storage"}
    settings.STORAGES = {**settings.STORAGES, "default": default}
    upload = row(alice.upload(filename=filename))
    for query, disposition in ((({}), "attachment"), ({"disposition": "inline"}, "inline")):
        url = url_of(alice, upload, **query)
        parts = urlsplit(url)
        assert (parts.scheme, parts.netloc, parts.path) == ("https", CDN, f"/{upload.key}")
        told = dict(parse_qsl(parts.query))["response-content-disposition"]
        assert told == f"{disposition};filename*=utf-8''{encoded}"
        # Not every CDN reads one as a space.
        assert "+" not in parts.query.partition("&Expires")[0]
        assert_cloudfront_signed(url)


def test_a_domain_that_signs_nothing_shows_what_is_safe_and_s3_sends_the_rest(
    alice: App, s3: Bucket, storage_options: Callable[..., None]
) -> None:
    storage_options(custom_domain=CDN)
    photo = row(alice.upload())
    shown = url_of(alice, photo, disposition="inline")
    assert shown == f"https://{CDN}/{photo.key}" == storages["default"].url(photo.name)
    # The domain cannot be told to say "attachment", so S3's own URL is used.
    assert by_s3(url_of(alice, photo), s3, photo).startswith("attachment")
    page = row(alice.upload(**HTML))
    assert by_s3(url_of(alice, page), s3, page).startswith("attachment")
    assert alice.get(f"{page.pk}/url/", disposition="inline").status_code == 400


def test_what_is_stored_as_an_attachment_is_one_on_every_domain(
    alice: App, s3: Bucket, storage_options: Callable[..., None]
) -> None:
    storage_options(custom_domain=CDN, object_parameters={"ContentDisposition": "attachment"})
    page = row(alice.upload(**HTML))
    assert url_of(alice, page) == f"https://{CDN}/{page.key}"
    photo = row(alice.upload())
    assert by_s3(url_of(alice, photo, disposition="inline"), s3, photo).startswith("inline")


def test_a_public_bucket_needs_no_signature_to_show_what_is_safe(
    alice: App, s3: Bucket, storage_options: Callable[..., None], settings: Any
) -> None:
    storage_options(querystring_auth=False)
    photo = row(alice.upload())
    shown = url_of(alice, photo, disposition="inline")
    endpoint_url = settings.STORAGES["default"]["OPTIONS"]["endpoint_url"]
    assert shown == f"{endpoint_url}/{s3.name}/{photo.key}" == storages["default"].url(photo.name)
    assert by_s3(url_of(alice, photo), s3, photo).startswith("attachment")


def test_cloudfront_signs_nothing_where_the_storage_says_so(
    alice: App, s3: Bucket, storage_options: Callable[..., None]
) -> None:
    storage_options(**SIGNED, querystring_auth=False)
    photo = row(alice.upload())
    assert url_of(alice, photo, disposition="inline") == f"https://{CDN}/{photo.key}"
    assert by_s3(url_of(alice, photo), s3, photo).startswith("attachment")


@pytest.mark.parametrize("options", [{"location": "moved"}, {"bucket_name": "another"}])
def test_where_the_domain_serves_no_more_s3_signs(
    alice: App,
    s3: Bucket,
    settings: Any,
    storage_options: Callable[..., None],
    options: dict[str, str],
) -> None:
    photo = row(alice.upload())
    # The old storage stays configured by another alias.
    settings.STORAGES = {**settings.STORAGES, "before": settings.STORAGES["default"]}
    storage_options(**SIGNED, **options)
    assert by_s3(url_of(alice, photo), s3, photo).startswith("attachment")


def found() -> list[str]:
    return [
        str(each.id).removeprefix("s3direct_uploads.")
        for each in checks.run_checks()
        if str(each.id).startswith("s3direct_uploads.")
    ]


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({}, []),
        (SIGNED, []),
        ({"custom_domain": CDN}, ["W045"]),
        ({"querystring_auth": False}, ["W045"]),
        ({**SIGNED, "querystring_auth": False}, ["W045"]),
        (
            {"custom_domain": CDN, "object_parameters": {"ContentDisposition": "Attachment"}},
            [],
        ),
    ],
)
def test_a_storage_that_forces_no_download_is_a_warning(
    settings: Any, storage_options: Callable[..., None], options: dict[str, Any], ids: list[str]
) -> None:
    photos = {"MAX_SIZE": 1, "CONTENT_TYPES": ["image/*"]}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": photos}}
    storage_options(**options)
    assert found() == ids


@pytest.mark.parametrize("key", ["no key", ""])
def test_a_key_that_signs_nothing_is_misconfigured(
    alice: App, storage_options: Callable[..., None], key: str
) -> None:
    storage_options(**SIGNED | {"cloudfront_key": key})
    assert found() == ["E020"]
    answer = alice.begin()
    assert (answer.status_code, answer.json()["code"]) == (503, "misconfigured")


# A domain that is there, as check_bucket meets it.


@pytest.fixture
def cdn(s3: Bucket) -> Iterator[Callable[[bool], str]]:
    """A CDN in front of the bucket, which passes the disposition on or not. Returns its host."""
    servers = []

    def cdn(passes_on: bool) -> str:
        class Edge(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                told = dict(parse_qsl(url.query)).get("response-content-disposition")
                said = {"ResponseContentDisposition": told} if told and passes_on else {}
                found = s3.client.get_object(Bucket=s3.name, Key=url.path[1:], **said)
                self.send_response(200)
                if "ContentDisposition" in found:
                    self.send_header("Content-Disposition", found["ContentDisposition"])
                self.end_headers()
                self.wfile.write(found["Body"].read())

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Edge)
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"127.0.0.1:{server.server_port}"

    yield cdn
    for server in servers:
        server.shutdown()
        server.server_close()


def levels() -> dict[str, list[str]]:
    """What check_bucket finds about the domain: levels by code."""
    out = StringIO()
    with pytest.raises(SystemExit):  # moto enforces nothing
        call_command("check_bucket", "--json", stdout=out)
    found: dict[str, list[str]] = {}
    for each in json.loads(out.getvalue()):
        if each["code"].startswith("domain"):
            found.setdefault(each["code"], []).append(each["level"])
    return found


@pytest.mark.django_db
@pytest.mark.usefixtures("no_pause")
def test_check_bucket_tries_the_domain(
    s3: Bucket, storage_options: Callable[..., None], cdn: Callable[[bool], str]
) -> None:
    assert levels() == {}
    signed = {**SIGNED, "url_protocol": "http:"}
    storage_options(**signed | {"custom_domain": cdn(True)})
    assert levels() == {"domain": ["pass", "pass"]}
    storage_options(**signed | {"custom_domain": cdn(False)})
    assert levels() == {"domain": ["pass"], "domain.disposition": ["fail"]}
    # Without a signature only inline downloads use the domain.
    storage_options(
        custom_domain=cdn(False), url_protocol="http:", cloudfront_key_id=None, cloudfront_key=None
    )
    assert levels() == {"domain": ["pass"]}
    storage_options(custom_domain="127.0.0.1:9")
    assert levels() == {"domain.refused": ["fail"]}


# A host's own url().


class NameAlone(S3Storage):
    def url(self, name: str) -> str:
        return f"https://{CDN}/signed/{name}"


@pytest.mark.parametrize("options", [{"custom_domain": CDN}, SIGNED])
def test_a_url_method_that_takes_only_a_name_is_called_with_it(
    alice: App,
    s3: Bucket,
    settings: Any,
    storage_options: Callable[..., None],
    options: dict[str, str],
) -> None:
    storage_options(**options)
    default = {**settings.STORAGES["default"], "BACKEND": f"{__name__}.NameAlone"}
    settings.STORAGES = {**settings.STORAGES, "default": default}
    photo = row(alice.upload())
    shown = url_of(alice, photo, disposition="inline")
    if options is SIGNED:
        assert by_s3(shown, s3, photo).startswith("inline"), "it has to say how"
    else:
        assert shown == f"https://{CDN}/signed/{photo.name}"
    assert by_s3(url_of(alice, photo), s3, photo).startswith("attachment")


def test_a_models_page_is_no_page_on_the_domain_that_cloudfront_signs_for(
    alice: App, storage_options: Callable[..., None]
) -> None:
    storage_options(**SIGNED)
    for said, disposition in ((HTML, "attachment"), ({}, "inline")):
        upload = row(alice.upload(**said))
        field = UploadField(destination=upload.destination)
        url = (field.to_representation(upload) or {})["url"]
        assert urlsplit(url).netloc == CDN
        told = dict(parse_qsl(urlsplit(url).query))["response-content-disposition"]
        assert told == f"{disposition};filename*=utf-8''{upload.filename}"
        assert_cloudfront_signed(url)
