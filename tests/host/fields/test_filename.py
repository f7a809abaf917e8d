"""A template shows a file by its human name: {{ snap.image.filename }}."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from django.template import Context, Template

from s3direct_uploads import lifecycle
from tests.conftest import App, Bucket, row
from tests.field_models import Portrait, Snap
from tests.host.upload_field.conftest import ClearablePhotoSerializer
from tests.models import Photo

SHOWN = Template("{{ snap.image.filename }}")


@pytest.mark.parametrize(
    ("filename", "shown"),
    [
        ("한글 사진.jpg", "한글 사진.jpg"),
        (unicodedata.normalize("NFD", "한글 사진.jpg"), "한글 사진.jpg"),
        ("写真 📷.jpg", "写真 📷.jpg"),
        ("a<b>&.jpg", "a&lt;b&gt;&amp;.jpg"),
    ],
    ids=ascii,
)
def test_a_template_shows_the_name_that_the_owner_gave(
    alice: App, s3: Bucket, filename: str, shown: str
) -> None:
    upload = row(alice.upload(filename=filename))
    snap = Snap.objects.create(title="one", image=upload)
    again = Snap.objects.get()
    for each in (snap, again):
        assert SHOWN.render(Context({"snap": each})) == shown
    assert str(again.image).endswith(".jpg")
    assert str(again.image).isascii()


def test_the_name_of_a_file_is_one_query(
    alice: App, s3: Bucket, django_assert_num_queries: Any
) -> None:
    Portrait.objects.create(image=row(alice.upload(filename="한글.jpg")))
    portrait: Any = Portrait.objects.get()
    with django_assert_num_queries(1):
        assert portrait.image.filename == "한글.jpg"


def test_a_file_that_is_no_upload_has_the_end_of_its_name(db: None, s3: Bucket) -> None:
    snap: Any = Snap.objects.create(title="old", image="photos/2020/사진.jpg")
    empty: Any = Snap(title="none")
    assert snap.image.filename == "사진.jpg"
    assert empty.image.filename == ""


def test_after_its_owner_was_erased_a_file_has_the_end_of_its_key(alice: App, s3: Bucket) -> None:
    upload = row(alice.upload(filename="나의 일기.jpg"))
    Snap.objects.create(title="one", image=upload)
    photo = Photo.objects.create(image=upload.name)
    assert alice.user
    lifecycle.erase(alice.user)
    snap: Any = Snap.objects.get()
    assert snap.image.filename == "file.jpg"
    assert ClearablePhotoSerializer(photo).data["image"]["filename"] == "file.jpg"
