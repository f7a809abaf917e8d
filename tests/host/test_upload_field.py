"""``UploadField`` wherever a host writes it: what it takes is attached, or the host is told.

What is in use and not attached would be its owner's to delete, under the model that shows it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, transaction
from rest_framework import serializers

from s3direct_uploads.models import Upload
from s3direct_uploads.serializers import AttachUploadsMixin, UploadField
from s3direct_uploads.storage import S3Storage
from tests.conftest import JPEG, App, Bucket, row
from tests.host_app import PhotoSerializer
from tests.models import Gallery, Photo

PHOTOS = "/api/photos/"
HTML = b"<script>alert(document.domain)</script>"


class PlainPhotoSerializer(serializers.ModelSerializer[Photo]):
    image = UploadField(destination="photos", allow_null=True, required=False)

    class Meta:
        model = Photo
        fields = ["id", "title", "image"]


class ClearablePhotoSerializer(AttachUploadsMixin, PlainPhotoSerializer):
    pass


class GallerySerializer(AttachUploadsMixin, serializers.ModelSerializer[Gallery]):
    images = serializers.ListField(child=UploadField(destination="photos"), required=False)
    pages = serializers.DictField(child=UploadField(destination="photos"), required=False)

    class Meta:
        model = Gallery
        fields = ["id", "title", "images", "pages"]


class NestedSerializer(AttachUploadsMixin, serializers.ModelSerializer[Gallery]):
    """As DRF's documentation has it: the host writes create and update of what is nested."""

    cover = PlainPhotoSerializer(required=False)
    photos = PlainPhotoSerializer(many=True, required=False)

    class Meta:
        model = Gallery
        fields = ["id", "title", "cover", "photos"]

    def create(self, validated_data: dict[str, Any]) -> Gallery:
        cover = validated_data.pop("cover", None)
        photos = validated_data.pop("photos", [])
        gallery = Gallery.objects.create(
            cover=cover and Photo.objects.create(**cover), **validated_data
        )
        gallery.photos.set([Photo.objects.create(**each) for each in photos])
        return gallery

    def update(self, gallery: Gallery, validated_data: dict[str, Any]) -> Gallery:
        assert gallery.cover is not None
        for name, value in validated_data.pop("cover", {}).items():
            setattr(gallery.cover, name, value)
        gallery.cover.save()
        return super().update(gallery, validated_data)


def made(
    serializer: type[serializers.BaseSerializer[Any]],
    app: App,
    data: Any,
    instance: Any = None,
    **options: Any,
) -> Any:
    """The serializer of a request that ``app`` sends."""
    context = {"request": SimpleNamespace(user=app.user)}
    return serializer(instance, data=data, context=context, **options)


def save(
    serializer: type[serializers.BaseSerializer[Any]],
    app: App,
    data: Any,
    instance: Any = None,
    **options: Any,
) -> Any:
    it = made(serializer, app, data, instance, **options)
    it.is_valid(raise_exception=True)
    return it.save()


def new(app: App, **declaration: Any) -> Upload:
    return row(app.upload(**declaration))


def is_attached(upload: Upload) -> bool:
    upload.refresh_from_db()
    return upload.attached_at is not None


def assert_kept(app: App, *uploads: Upload) -> None:
    """Each is attached: its owner cannot delete it any more."""
    for upload in uploads:
        assert is_attached(upload)
        assert app.delete(str(upload.pk)).json()["code"] == "already_attached"


# Wherever it stands, what it takes is attached.


def test_a_list_is_attached(alice: App, s3: Bucket) -> None:
    one, two = new(alice), new(alice)
    gallery = save(GallerySerializer, alice, {"images": [str(one.pk), str(two.pk)]})
    gallery.refresh_from_db()
    assert gallery.images == [one.name, two.name]
    assert_kept(alice, one, two)
    shown = GallerySerializer(gallery).data["images"]
    assert [each["name"] for each in shown] == [one.name, two.name]
    assert [each["size"] for each in shown] == [len(JPEG)] * 2
    assert requests.get(shown[1]["url"], timeout=10).content == JPEG


def test_a_list_of_files_takes_one_query(alice: App, django_assert_num_queries: Any) -> None:
    ids = [str(new(alice).pk) for _ in range(3)]
    save(GallerySerializer, alice, [{"images": ids[:2]}, {"images": ids[2:]}], many=True)
    galleries = Gallery.objects.order_by("pk")
    with django_assert_num_queries(2):
        shown = GallerySerializer(galleries, many=True).data
    assert [len(each["images"]) for each in shown] == [2, 1]
    first = Gallery.objects.order_by("pk")[0]
    with django_assert_num_queries(1):
        assert len(GallerySerializer(first).data["images"]) == 2


def test_a_dict_is_attached(alice: App) -> None:
    upload = new(alice)
    gallery = save(GallerySerializer, alice, {"pages": {"front": str(upload.pk)}})
    gallery.refresh_from_db()
    assert gallery.pages == {"front": upload.name}
    assert_kept(alice, upload)
    assert GallerySerializer(gallery).data["pages"]["front"]["name"] == upload.name


def test_a_list_in_a_dict_is_attached(alice: App) -> None:
    class Deep(GallerySerializer):
        pages = serializers.DictField(
            child=serializers.ListField(child=UploadField(destination="photos"))
        )

    upload = new(alice)
    gallery = save(Deep, alice, {"pages": {"a": [str(upload.pk)]}})
    gallery.refresh_from_db()
    assert gallery.pages == {"a": [upload.name]}
    assert_kept(alice, upload)
    assert Deep(gallery).data["pages"]["a"][0]["name"] == upload.name


def test_what_is_nested_is_attached(alice: App) -> None:
    cover, one, two = new(alice), new(alice), new(alice)
    data = {
        "title": "Summer",
        "cover": {"image": str(cover.pk)},
        "photos": [{"image": str(one.pk)}, {"image": str(two.pk), "title": "two"}],
    }
    gallery = save(NestedSerializer, alice, data)
    gallery.refresh_from_db()
    assert gallery.cover.image.name == cover.name
    names = {each.image.name for each in gallery.photos.all()}
    assert names == {one.name, two.name}
    assert_kept(alice, cover, one, two)


def test_many_galleries_at_once_are_attached(alice: App) -> None:
    one, two = new(alice), new(alice)
    data = [{"images": [str(one.pk)]}, {"images": [str(two.pk)]}]
    galleries = save(GallerySerializer, alice, data, many=True)
    assert [each.images for each in galleries] == [[one.name], [two.name]]
    assert_kept(alice, one, two)


def test_a_create_of_the_hosts_own_gets_names_with_many_as_well(alice: App) -> None:
    class Own(PhotoSerializer):
        def create(self, validated_data: dict[str, Any]) -> Photo:
            return Photo.objects.create(**validated_data)

    one, two = new(alice), new(alice)
    save(Own, alice, {"image": str(one.pk)})
    save(Own, alice, [{"image": str(two.pk)}], many=True)
    assert set(Photo.objects.values_list("image", flat=True)) == {one.name, two.name}
    assert_kept(alice, one, two)


def test_a_list_serializer_of_the_hosts_own_may_update(alice: App) -> None:
    class Each(serializers.ListSerializer[Any]):
        child: Any

        def update(self, instance: Any, validated_data: Any) -> Any:
            pairs = zip(instance, validated_data, strict=True)
            return [self.child.update(photo, said) for photo, said in pairs]

    class Listed(PhotoSerializer):
        class Meta(PhotoSerializer.Meta):
            list_serializer_class = Each

    photos = [Photo.objects.create(image="a.jpg"), Photo.objects.create(image="b.jpg")]
    one, two = new(alice), new(alice)
    data = [{"image": str(one.pk)}, {"image": str(two.pk)}]
    save(Listed, alice, data, photos, many=True)
    assert set(Photo.objects.values_list("image", flat=True)) == {one.name, two.name}
    assert_kept(alice, one, two)


def test_a_dotted_source_is_attached(alice: App) -> None:
    class Dotted(AttachUploadsMixin, serializers.ModelSerializer[Gallery]):
        image = UploadField(destination="photos", source="cover.image")

        class Meta:
            model = Gallery
            fields = ["title", "image"]

        def create(self, validated_data: dict[str, Any]) -> Gallery:
            cover = Photo.objects.create(**validated_data.pop("cover"))
            return Gallery.objects.create(cover=cover, **validated_data)

    upload = new(alice)
    gallery = save(Dotted, alice, {"image": str(upload.pk)})
    assert gallery.cover.image.name == upload.name
    assert_kept(alice, upload)
    assert Dotted(gallery).data["image"]["name"] == upload.name


def test_a_dotted_source_that_nobody_saves_attaches_nothing(alice: App) -> None:
    """DRF's own error; the transaction takes the attaching back."""

    class Dotted(AttachUploadsMixin, serializers.ModelSerializer[Gallery]):
        image = UploadField(destination="photos", source="cover.image")

        class Meta:
            model = Gallery
            fields = ["image"]

    upload = new(alice)
    with pytest.raises(AssertionError, match="dotted-source"):
        save(Dotted, alice, {"image": str(upload.pk)})
    assert not is_attached(upload)
    assert not Gallery.objects.exists()


def test_one_upload_in_two_places_is_refused_whole(alice: App) -> None:
    upload = new(alice)
    it = made(GallerySerializer, alice, {"images": [str(upload.pk), str(upload.pk)]})
    it.is_valid(raise_exception=True)
    with pytest.raises(serializers.ValidationError) as refused:
        it.save()
    detail: Any = refused.value.detail
    assert detail["images"][1][0].code == "already_attached"
    assert not is_attached(upload)
    assert not Gallery.objects.exists()


def test_who_comes_second_is_told_where(alice: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """The errors have the shape of the data, by the names of the fields."""

    class Renamed(PlainPhotoSerializer):
        file = UploadField(destination="photos", source="image")

        class Meta(PlainPhotoSerializer.Meta):
            fields = ["file"]

    class Outer(NestedSerializer):
        cover = Renamed()

    upload = new(alice)
    it = made(Outer, alice, {"cover": {"file": str(upload.pk)}})
    it.is_valid(raise_exception=True)
    Upload.objects.get(pk=upload.pk).attach()
    with pytest.raises(serializers.ValidationError) as refused:
        it.save()
    detail: Any = refused.value.detail
    assert detail["cover"]["file"][0].code == "already_attached"
    assert not Photo.objects.exists()


@pytest.mark.parametrize("read_only", [False, True])
def test_an_upload_that_save_gets_by_a_keyword_is_attached(alice: App, read_only: bool) -> None:
    class Shown(ClearablePhotoSerializer):
        image = UploadField(destination="photos", read_only=read_only, required=False)

    upload, other = new(alice), new(alice)
    it = made(Shown, alice, {"title": "x", "image": str(other.pk)})
    it.is_valid(raise_exception=True)
    photo = it.save(image=upload)
    assert photo.image.name == upload.name
    assert_kept(alice, upload)
    assert not is_attached(other), "it was replaced"
    again = made(Shown, alice, {}, photo)
    again.is_valid(raise_exception=True)
    with pytest.raises(serializers.ValidationError) as refused:
        again.save(image=upload)
    detail: Any = refused.value.detail
    assert detail["image"][0].code == "already_attached"


def test_what_only_points_to_an_upload_is_not_attached(alice: App) -> None:
    """A foreign key to Upload wants the row, not the name."""
    said: list[dict[str, Any]] = []

    class Pointing(AttachUploadsMixin, serializers.Serializer[Any]):
        image = UploadField(destination="photos")
        seen = serializers.PrimaryKeyRelatedField(queryset=Upload.objects.all())
        more = serializers.PrimaryKeyRelatedField(queryset=Upload.objects.all(), many=True)

        def create(self, validated_data: dict[str, Any]) -> Any:
            said.append(validated_data)
            return validated_data

    taken, seen, given = new(alice), new(alice), new(alice)
    data = {"image": str(taken.pk), "seen": str(seen.pk), "more": [str(seen.pk)]}
    it = made(Pointing, alice, data)
    it.is_valid(raise_exception=True)
    it.save(given=given)
    assert said == [{"image": taken.name, "seen": seen, "more": [seen], "given": given}]
    assert_kept(alice, taken)
    assert not is_attached(seen)
    assert not is_attached(given)


# Else the host is told, before anything is saved.


class PlainSerializer(serializers.Serializer[Any]):
    image = UploadField(destination="photos")

    def create(self, validated_data: dict[str, Any]) -> Photo:
        return Photo.objects.create(image=validated_data["image"].name)


class PlainListSerializer(serializers.ModelSerializer[Gallery]):
    images = serializers.ListField(child=UploadField(destination="photos"))

    class Meta:
        model = Gallery
        fields = ["images"]


class PlainNestedSerializer(serializers.ModelSerializer[Gallery]):
    cover = ClearablePhotoSerializer()  # has it, but nobody calls its save()

    class Meta:
        model = Gallery
        fields = ["cover"]


class LateListSerializer(serializers.ListSerializer[Photo], AttachUploadsMixin):
    child = ClearablePhotoSerializer()


@pytest.mark.parametrize(
    ("serializer", "data", "options", "named"),
    [
        (PlainPhotoSerializer, {"image": "id"}, {}, "class PlainPhotoSerializer(Attach"),
        (PlainPhotoSerializer, {"title": "without a file"}, {}, "PlainPhotoSerializer"),
        (PlainPhotoSerializer, [{"image": "id"}], {"many": True}, "PlainPhotoSerializer"),
        (PlainSerializer, {"image": "id"}, {}, "class PlainSerializer(AttachUploadsMixin"),
        (PlainListSerializer, {"images": ["id"]}, {}, "class PlainListSerializer("),
        (PlainNestedSerializer, {"cover": {"image": "id"}}, {}, "class PlainNestedSerializer("),
        (LateListSerializer, [{"image": "id"}], {}, "class LateListSerializer(AttachUploadsMixin"),
        (
            serializers.ListSerializer,
            [{"image": "id"}],
            {"child": ClearablePhotoSerializer()},
            "ClearablePhotoSerializer(many=True)",
        ),
    ],
)  # fmt: skip
def test_a_serializer_that_would_not_attach_is_named(
    alice: App, serializer: Any, data: Any, options: dict[str, Any], named: str
) -> None:
    upload = new(alice)

    def with_id(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: with_id(each) for name, each in value.items()}
        if isinstance(value, list):
            return [with_id(each) for each in value]
        return str(upload.pk) if value == "id" else value

    with pytest.raises(ImproperlyConfigured) as told:
        save(serializer, alice, with_id(data), **options)
    assert named in str(told.value)
    assert "AttachUploadsMixin" in str(told.value)
    assert not is_attached(upload)
    assert not Photo.objects.exists()
    assert not Gallery.objects.exists()


def test_a_field_alone_attaches_nothing(alice: App) -> None:
    with pytest.raises(ImproperlyConfigured, match="AttachUploadsMixin"):
        UploadField(destination="photos").run_validation(str(new(alice).pk))


def test_a_field_of_a_destination_that_there_is_not(db: None) -> None:
    class Misspelt(serializers.Serializer[Any]):
        images = serializers.ListField(child=UploadField(destination="fotos"))

    with pytest.raises(ImproperlyConfigured, match="fotos"):
        _ = Misspelt(Gallery(images=["a.jpg"])).data


@pytest.mark.parametrize("order", ["first", "last"])
def test_the_mixin_may_stand_on_either_side_of_a_serializer(alice: App, order: str) -> None:
    bases: Any = (AttachUploadsMixin, PlainPhotoSerializer)
    Either = type("Either", bases if order == "first" else bases[::-1], {})
    one, two = new(alice), new(alice)
    save(Either, alice, {"image": str(one.pk)})
    save(Either, alice, [{"image": str(two.pk)}], many=True)
    assert_kept(alice, one, two)


def test_a_field_that_is_only_read_asks_for_no_mixin(alice: App) -> None:
    class Read(serializers.ModelSerializer[Photo]):
        image = UploadField(destination="photos", read_only=True)

        class Meta:
            model = Photo
            fields = ["title", "image"]

    photo = save(Read, alice, {"title": "x"})
    assert Read(photo).data == {"title": "x", "image": None}


def test_without_a_request_the_host_is_told(alice: App) -> None:
    it = PhotoSerializer(data={"image": str(new(alice).pk)})
    with pytest.raises(ImproperlyConfigured, match="context="):
        it.is_valid()


# What GET returned may be sent back.


def read(app: App, photo: Photo) -> dict[str, Any]:
    answer: dict[str, Any] = app.client.get(f"{PHOTOS}{photo.pk}/").json()
    return answer


def send(app: App, method: str, photo: Photo, data: dict[str, Any]) -> Any:
    return getattr(app.client, method)(f"{PHOTOS}{photo.pk}/", data, format="json")


@pytest.fixture
def photo(alice: App) -> Photo:
    answer = alice.client.post(PHOTOS, {"image": str(new(alice).pk), "title": "x"}, format="json")
    return Photo.objects.get(pk=answer.json()["id"])


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
    """The answer was lost: the same id for the same row changes nothing."""
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
    """Whose file is current, of many rows? None, unless the list says which row is meant."""
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
def test_a_long_list_is_looked_at_once(alice: App, sent: str) -> None:
    """Not once for each item that is sent: 1,000 took seven seconds of CPU."""
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


# To clear it.


@pytest.mark.parametrize("method", ["create", "update", "partial"])
def test_null_clears_it(alice: App, photo: Photo, method: str) -> None:
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


def test_what_is_not_said_is_left_alone(alice: App, photo: Photo) -> None:
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


# The URL of what it shows.


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
    """Nobody looked at it: a page that is stored as ".png" is not served as a page."""
    s3.client.put_object(Bucket=s3.name, Key=f"site/{name}", Body=HTML, ContentType="text/html")
    found = requests.get(image_of(Photo(image=name))["url"], timeout=10)
    assert found.headers["Content-Disposition"] == disposition
    assert found.headers["Content-Type"] == served


def test_a_storage_whose_url_takes_no_parameters(
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
    """As the check W066 advises: the header is signed, sent and kept."""
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
