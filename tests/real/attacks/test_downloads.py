"""The presigned download, changed; and a page that is never shown as a page."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.conftest import JPEG, App, Bucket, row
from tests.models import Photo

from .conftest import (
    HTML,
    OTHER,
    PHOTOS,
    Sent,
    ask_for,
    forge_signature,
    head,
    rewrite,
    say,
    set_settings,
    use,
)

pytestmark = pytest.mark.attack


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
def test_s3_refuses_a_download_that_differs_from_the_signed_one(
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


def test_a_signed_download_does_not_work_on_another_key(alice: App, bob: App, s3: Bucket) -> None:
    mine, theirs = row(alice.upload()), row(bob.upload(OTHER))
    url = alice.get(f"{mine.pk}/url/").json()["url"]
    it = Sent.of({"method": "GET", "url": url, "headers": {}}, b"")
    it.rewrite(mine.key, theirs.key)
    assert it.send() == 403
    assert s3.read(theirs) == OTHER


@pytest.mark.parametrize("version", ["another", "none"])
def test_a_signed_download_does_not_work_on_another_version(
    versioned: Bucket, alice: App, version: str
) -> None:
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


def test_s3_refuses_an_expired_download(alice: App, s3: Bucket, settings: Any) -> None:
    upload = row(alice.upload())
    set_settings(settings, URL_EXPIRES=1)
    url = alice.get(f"{upload.pk}/url/").json()["url"]
    time.sleep(1.3)
    assert requests.get(url, timeout=10).status_code == 403
    assert s3.read(upload) == JPEG


# A page is never shown.


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
def test_a_page_is_always_downloaded_and_never_shown(
    alice: App, s3: Bucket, content_type: str, filename: str
) -> None:
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


def test_a_page_that_was_declared_an_image_is_served_as_an_image(alice: App, s3: Bucket) -> None:
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
def test_the_url_in_a_serializer_never_shows_a_page(
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


def test_a_page_under_the_name_of_an_image_is_served_as_an_image(alice: App, s3: Bucket) -> None:
    """Something else stored it: a form that believes the content type of its client."""
    s3.client.put_object(Bucket=s3.name, Key="site/a.png", Body=HTML, ContentType="text/html")
    photo = Photo.objects.create(image="a.png")
    url = alice.client.get(f"{PHOTOS}{photo.pk}/").json()["image"]["url"]
    found = requests.get(url, timeout=10)
    assert (found.content, found.headers["Content-Type"]) == (HTML, "image/png")


# A filename.


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
