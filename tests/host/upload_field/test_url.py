"""The URL that an ``UploadField`` shows: an attachment, unless its type is harmless."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

from s3direct_uploads.models import Upload
from s3direct_uploads.serializers import UploadField
from s3direct_uploads.storage import S3Storage
from tests.conftest import App, Bucket, row
from tests.host.upload_field.conftest import ClearablePhotoSerializer, GallerySerializer, new
from tests.models import Gallery, Photo

HTML = b"<script>alert(document.domain)</script>"


def image_of(photo: Photo) -> dict[str, Any]:
    shown: dict[str, Any] = ClearablePhotoSerializer(photo).data["image"]
    return shown


@pytest.mark.parametrize(
    ("filename", "content_type", "disposition"),
    [
        ("beach.jpg", "image/jpeg", 'inline; filename="beach.jpg"'),
        ("Füße.pdf", "application/pdf", "inline; filename*=utf-8''F%C3%BC%C3%9Fe.pdf"),
        ("evil.html", "text/html", 'attachment; filename="evil.html"'),
        ("evil.svg", "image/svg+xml", 'attachment; filename="evil.svg"'),
        ("evil.png", "image/x+xml", 'attachment; filename="evil.png"'),
        ("a.zip", "application/zip", 'attachment; filename="a.zip"'),
    ],
)
def test_only_a_harmless_file_is_shown_by_its_url(
    alice: App, filename: str, content_type: str, disposition: str
) -> None:
    upload = new(
        alice, body=HTML, destination="documents", filename=filename, content_type=content_type
    )
    shown = image_of(Photo.objects.create(image=upload.attach()))
    assert (shown["filename"], shown["content_type"]) == (filename, content_type)
    found = requests.get(shown["url"], timeout=10)
    assert found.content == HTML
    assert found.headers["Content-Disposition"] == disposition
    assert found.headers["Content-Type"] == content_type


@pytest.mark.parametrize(
    ("name", "disposition", "served"),
    [
        ("from/elsewhere.png", 'inline; filename="elsewhere.png"', "image/png"),
        ("from/evil.html", 'attachment; filename="evil.html"', "text/html"),
        ("from/unknown", 'attachment; filename="unknown"', "text/html"),
    ],
)
def test_a_file_that_came_another_way_is_what_its_name_says(
    s3: Bucket, db: None, name: str, disposition: str, served: str
) -> None:
    """Nobody checked its content: a page that is stored as ".png" is not served as a page."""
    s3.client.put_object(Bucket=s3.name, Key=f"site/{name}", Body=HTML, ContentType="text/html")
    found = requests.get(image_of(Photo(image=name))["url"], timeout=10)
    assert found.headers["Content-Disposition"] == disposition
    assert found.headers["Content-Type"] == served


def test_a_storage_whose_url_takes_no_parameters_is_asked_without_them(
    uploads_in_memory: Callable[..., Upload], make_user: Callable[..., Any]
) -> None:
    upload = uploads_in_memory(destination="photos", filename="\u200fFüße.jpg")
    shown = image_of(Photo.objects.create(image=upload.attach()))
    assert shown["url"].endswith(f"/{upload.name}")
    assert shown["filename"] == "Füße.jpg"


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({"custom_domain": "cdn.example.com"}, "https://cdn.example.com/site/a.html"),
        ({"querystring_auth": False}, None),
    ],
)
def test_a_url_without_a_signature_stays_as_it_is(
    db: None, storage_options: Callable[..., None], options: dict[str, Any], url: str | None
) -> None:
    """S3 answers 400 to an unsigned ``response-…`` parameter, and a CDN may know none."""
    storage_options(**options)
    shown = image_of(Photo(image="a.html"))
    assert "response" not in shown["url"].lower()
    assert url in (None, shown["url"])


def test_an_object_may_say_itself_that_it_is_an_attachment(
    alice: App, s3: Bucket, storage_options: Callable[..., None]
) -> None:
    """As check W066 advises: the header is signed, sent and stored."""
    storage_options(object_parameters={"ContentDisposition": "attachment"}, querystring_auth=False)
    begun = alice.begin(destination="documents", filename="a.html", content_type="").json()
    assert begun["request"]["headers"]["Content-Disposition"] == "attachment"
    assert alice.send(begun["request"]) == 200
    upload = row(alice.confirm(begun["id"]))
    assert upload.status == "completed"
    kept = s3.client.head_object(Bucket=s3.name, Key=upload.key)
    assert kept["ContentDisposition"] == "attachment"


def test_a_storage_of_the_hosts_own_may_have_a_plain_url(db: None, settings: Any) -> None:
    class Plain(S3Storage):
        def url(self, name: str) -> str:
            return f"https://files.example.com/{name}"

    photo = Photo(image="a.html")
    photo.image.storage = Plain(**settings.STORAGES["default"]["OPTIONS"])
    assert image_of(photo)["url"] == "https://files.example.com/a.html"


@pytest.mark.parametrize("status", ["verifying", "rejected", "deleted"])
def test_a_file_that_nobody_may_read_has_no_url(alice: App, status: str) -> None:
    """By a FileField, by a name in a list, or by the upload itself."""
    upload = new(alice)
    photo, gallery = Photo(image=upload.name), Gallery(images=[upload.name])
    assert image_of(photo)["url"]
    at = upload.completed_at
    Upload.objects.filter(pk=upload.pk).update(
        status=status,
        reason="EICAR",
        held_at=at,
        completed_at=at if status == "deleted" else None,
        announced_at=None,
    )
    upload.refresh_from_db()

    [in_list] = GallerySerializer(gallery).data["images"]
    by_itself = UploadField(destination="photos").to_representation(upload)

    for shown in (image_of(photo), in_list, by_itself):
        assert shown is not None
        assert shown["url"] is None
        assert shown["filename"] == upload.filename
