"""What GET returned may be sent back, and null clears the field."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from rest_framework import serializers

from s3direct_uploads.models import Upload
from tests.conftest import App
from tests.host.upload_field.conftest import (
    PHOTOS,
    ClearablePhotoSerializer,
    GallerySerializer,
    NestedSerializer,
    assert_kept,
    is_attached,
    made,
    new,
    save,
)
from tests.host_app import PhotoSerializer
from tests.models import Gallery, Photo


def read(app: App, photo: Photo) -> dict[str, Any]:
    answer: dict[str, Any] = app.client.get(f"{PHOTOS}{photo.pk}/").json()
    return answer


def send(app: App, method: str, photo: Photo, data: dict[str, Any]) -> Any:
    return getattr(app.client, method)(f"{PHOTOS}{photo.pk}/", data, format="json")


@pytest.mark.parametrize("method", ["put", "patch"])
def test_what_was_read_may_be_sent_back(alice: App, photo: Photo, method: str) -> None:
    before = Upload.objects.values().get()
    answer = send(alice, method, photo, {**read(alice, photo), "title": "y"})
    assert answer.status_code == 200, answer.json()
    assert answer.json()["title"] == "y"
    assert answer.json()["image"]["name"] == photo.image.name
    after = Photo.objects.get()
    assert (after.title, after.image.name) == ("y", photo.image.name)
    assert Upload.objects.values().get() == before


@pytest.mark.parametrize("method", ["put", "patch"])
def test_a_save_may_be_repeated(alice: App, photo: Photo, method: str) -> None:
    """If the answer was lost, the client sends the same id for the same row: nothing changes."""
    upload = Upload.objects.get()
    before = Upload.objects.values().get()
    for _ in range(2):
        answer = send(alice, method, photo, {"image": str(upload.pk), "title": "y"})
        assert answer.status_code == 200, answer.json()
        assert answer.json()["image"]["name"] == upload.name
    assert Photo.objects.get().image.name == upload.name
    assert Upload.objects.values().get() == before


def test_whoever_edits_it_may_send_back_what_it_holds(alice: App, bob: App, photo: Photo) -> None:
    upload = Upload.objects.get()
    for image in (read(bob, photo)["image"], str(upload.pk)):
        answer = send(bob, "put", photo, {"image": image, "title": "bob's"})
        assert answer.status_code == 200, answer.json()
    assert Photo.objects.get().image.name == upload.name


def test_what_came_another_way_may_be_sent_back(alice: App) -> None:
    photo = Photo.objects.create(image="from/elsewhere.png")
    answer = send(alice, "put", photo, {**read(alice, photo), "title": "y"})
    assert (answer.status_code, answer.json()["title"]) == (200, "y")
    assert Photo.objects.get().image.name == "from/elsewhere.png"


def test_a_put_of_another_id_still_takes_it(alice: App, photo: Photo) -> None:
    other = new(alice)
    assert send(alice, "put", photo, {"image": str(other.pk)}).status_code == 200
    assert Photo.objects.get().image.name == other.name
    assert_kept(alice, other)


@pytest.mark.parametrize("method", ["put", "patch", "post"])
def test_nobody_names_anothers_file_by_what_was_read(
    alice: App, bob: App, photo: Photo, method: str
) -> None:
    theirs = read(alice, photo)
    own = Photo.objects.create(image="bobs/own.png")
    data = {"title": "stolen", "image": theirs["image"]}
    if method == "post":
        answer = bob.client.post(PHOTOS, data, format="json")
    else:
        answer = send(bob, method, own, data)
    assert answer.status_code == 400
    assert answer.data["image"][0].code == ("invalid" if method == "post" else "not_current")
    assert Photo.objects.get(pk=own.pk).image.name == "bobs/own.png"
    assert Photo.objects.count() == 2
    by_id = send(bob, "put", own, {"image": str(Upload.objects.get().pk)})
    assert by_id.data["image"][0].code == "does_not_exist"


@pytest.mark.parametrize(
    "image",
    [
        {},
        {"name": None},
        {"name": ""},
        {"name": ["x"]},
        {"name": {"a": 1}},
        {"name": "x" * 100_000},
        {"id": "x"},
        {"url": "http://127.0.0.1/x"},
    ],
)
def test_a_dict_that_names_nothing_is_refused(
    alice: App, photo: Photo, image: dict[str, Any]
) -> None:
    empty = Photo.objects.create()
    for each in (photo, empty):
        answer = send(alice, "put", each, {"image": image})
        assert answer.status_code == 400
        assert answer.data["image"][0].code == "not_current"


@pytest.mark.filterwarnings("ignore:The list-based error format")
def test_a_row_of_a_list_of_rows_is_not_guessed(alice: App, photo: Photo) -> None:
    """In a list of rows no file is current, unless the list says which row is meant."""
    other = Photo.objects.create(image="other.png")
    data = [{"image": {"name": photo.image.name}}, {"image": {"name": "other.png"}}]
    it = made(PhotoSerializer, alice, data, Photo.objects.order_by("pk"), many=True)
    assert not it.is_valid()
    assert "not_current" in str(it.errors)
    other.refresh_from_db()
    assert other.image.name == "other.png"


def test_a_list_of_the_hosts_own_may_say_which_row_is_meant(alice: App, photo: Photo) -> None:
    class ByTitle(serializers.ListSerializer[Any]):
        child: Any

        def run_child_validation(self, data: Any) -> Any:
            self.child.instance = Photo.objects.get(title=data["title"])
            return super().run_child_validation(data)

        def update(self, instance: Any, validated_data: Any) -> Any:
            return [
                self.child.update(Photo.objects.get(title=said["title"]), said)
                for said in validated_data
            ]

    class Listed(PhotoSerializer):
        class Meta(PhotoSerializer.Meta):
            list_serializer_class = ByTitle

    Photo.objects.create(image="b.png", title="b")
    data = [
        {"title": "b", "image": {"name": "b.png"}},
        {"title": "x", "image": read(alice, photo)["image"]},
    ]
    save(Listed, alice, data, Photo.objects.all(), many=True)
    assert set(Photo.objects.values_list("image", flat=True)) == {"b.png", photo.image.name}


def test_a_list_takes_what_was_read_beside_what_is_new(alice: App) -> None:
    one, two, three = new(alice), new(alice), new(alice)
    gallery = save(GallerySerializer, alice, {"images": [str(one.pk), str(two.pk)]})
    shown = GallerySerializer(gallery).data["images"]

    save(
        GallerySerializer,
        alice,
        {"images": [shown[1], str(three.pk), str(one.pk)]},
        gallery,
        partial=True,
    )

    gallery.refresh_from_db()
    assert gallery.images == [two.name, three.name, one.name]
    assert_kept(alice, one, two, three)
    foreign = new(alice)
    it = made(GallerySerializer, alice, {"images": [{"name": foreign.name}]}, gallery, partial=True)
    assert not it.is_valid()
    assert it.errors["images"][0][0].code == "not_current"


@pytest.mark.parametrize("sent", ["what was read", "another's", "ids"])
def test_a_long_list_takes_one_query(alice: App, sent: str) -> None:
    """A query for each item took seven seconds of CPU for 1,000 items."""
    names = [f"photos/{number}/a.jpg" for number in range(1000)]
    gallery = Gallery.objects.create(images=names)
    images: Any = {
        "what was read": [{"name": name} for name in names],
        "another's": [{"name": "bobs/own.png"}] * 1000,
        "ids": [str(new(alice).pk)] * 300,
    }[sent]
    it = made(GallerySerializer, alice, {"images": images}, gallery, partial=True)
    before = time.process_time()
    assert it.is_valid() is (sent != "another's")
    assert time.process_time() - before < 2  # seconds


def test_a_dict_takes_what_was_read(alice: App) -> None:
    upload = new(alice)
    gallery = save(GallerySerializer, alice, {"pages": {"front": str(upload.pk)}})
    shown = GallerySerializer(gallery).data["pages"]
    save(GallerySerializer, alice, {"pages": {"back": shown["front"]}}, gallery, partial=True)
    gallery.refresh_from_db()
    assert gallery.pages == {"back": upload.name}


def test_a_nested_row_takes_what_was_read(alice: App) -> None:
    upload = new(alice)
    gallery = save(NestedSerializer, alice, {"cover": {"image": str(upload.pk)}})
    shown = NestedSerializer(gallery).data
    for image in (shown["cover"]["image"], str(upload.pk)):
        data = {"title": "y", "cover": {"title": "z", "image": image}}
        save(NestedSerializer, alice, data, gallery)
    gallery.refresh_from_db()
    assert (gallery.title, gallery.cover.title) == ("y", "z")
    assert gallery.cover.image.name == upload.name


@pytest.mark.parametrize("method", ["create", "update", "partial"])
def test_null_clears_the_field(alice: App, photo: Photo, method: str) -> None:
    instance = None if method == "create" else photo
    it = save(
        ClearablePhotoSerializer, alice, {"image": None}, instance, partial=method == "partial"
    )
    it.refresh_from_db()
    assert it.image.name == ""
    assert ClearablePhotoSerializer(it).data["image"] is None
    upload = new(alice)
    save(ClearablePhotoSerializer, alice, {"image": str(upload.pk)}, it)
    assert_kept(alice, upload)


def test_a_field_that_is_not_sent_is_left_alone(alice: App, photo: Photo) -> None:
    save(ClearablePhotoSerializer, alice, {"title": "y"}, photo, partial=True)
    save(ClearablePhotoSerializer, alice, {"title": "y"}, photo)
    assert Photo.objects.get().image.name == photo.image.name


def test_what_is_valid_and_not_saved_can_be_shown(alice: App) -> None:
    upload = new(alice)
    it = made(PhotoSerializer, alice, {"image": str(upload.pk)})
    it.is_valid(raise_exception=True)
    assert it.data["image"]["name"] == upload.name
    assert not is_attached(upload)


def test_a_failed_save_keeps_the_uploads_of_a_list(alice: App) -> None:
    upload = new(alice)
    it = made(GallerySerializer, alice, {"images": [str(upload.pk)]})
    it.is_valid(raise_exception=True)
    with pytest.raises(IntegrityError, match=r"NOT NULL|null value"), transaction.atomic():
        it.save(title=None)
    assert not is_attached(upload)
    assert it.save().images == [upload.name]
    assert_kept(alice, upload)
