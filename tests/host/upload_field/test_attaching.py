"""``UploadField`` wherever a host writes it: what it takes is attached."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from rest_framework import serializers

from s3direct_uploads.models import Upload
from s3direct_uploads.serializers import AttachUploadsMixin, UploadField
from tests.conftest import JPEG, App, Bucket
from tests.host.upload_field.conftest import (
    ClearablePhotoSerializer,
    GallerySerializer,
    NestedSerializer,
    PlainPhotoSerializer,
    assert_kept,
    is_attached,
    made,
    new,
    save,
)
from tests.host_app import PhotoSerializer
from tests.models import Gallery, Photo


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
    """The error is DRF's. The transaction rolls the attach back."""

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


def test_the_second_to_attach_is_told_which_field(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_field_that_only_points_to_an_upload_attaches_nothing(alice: App) -> None:
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
