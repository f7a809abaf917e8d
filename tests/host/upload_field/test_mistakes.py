"""A serializer that would not attach what it takes is named before anything is saved."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from rest_framework import serializers

from s3direct_uploads.serializers import AttachUploadsMixin, UploadField
from tests.conftest import App
from tests.host.upload_field.conftest import (
    ClearablePhotoSerializer,
    PlainPhotoSerializer,
    is_attached,
    new,
    save,
)
from tests.host_app import PhotoSerializer
from tests.models import Gallery, Photo


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
    cover = ClearablePhotoSerializer()  # has the mixin, but nobody calls its save()

    class Meta:
        model = Gallery
        fields = ["cover"]


@pytest.mark.parametrize(
    ("serializer", "data", "options", "named"),
    [
        (PlainPhotoSerializer, {"image": "id"}, {}, "class PlainPhotoSerializer(Attach"),
        (PlainPhotoSerializer, {"title": "without a file"}, {}, "PlainPhotoSerializer"),
        (PlainPhotoSerializer, [{"image": "id"}], {"many": True}, "PlainPhotoSerializer"),
        (PlainSerializer, {"image": "id"}, {}, "class PlainSerializer(AttachUploadsMixin"),
        (PlainListSerializer, {"images": ["id"]}, {}, "class PlainListSerializer("),
        (PlainNestedSerializer, {"cover": {"image": "id"}}, {}, "class PlainNestedSerializer("),
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


def test_a_field_with_an_unknown_destination_is_named(db: None) -> None:
    class Misspelt(serializers.Serializer[Any]):
        images = serializers.ListField(child=UploadField(destination="fotos"))

    with pytest.raises(ImproperlyConfigured, match="fotos"):
        _ = Misspelt(Gallery(images=["a.jpg"])).data


@pytest.mark.parametrize(
    "base", [PlainPhotoSerializer, PlainSerializer, serializers.ListSerializer]
)
def test_the_mixin_stands_before_the_other_bases(base: type[Any]) -> None:
    """Otherwise REST Framework's methods would be called instead of its own."""
    with pytest.raises(ImproperlyConfigured, match=r"class Late\(AttachUploadsMixin, …\)"):
        type("Late", (base, AttachUploadsMixin), {})
    type("First", (AttachUploadsMixin, base), {})


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
