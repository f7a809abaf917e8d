"""Serializers that a host writes with ``UploadField``, and who saves them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from rest_framework import serializers

from s3direct_uploads.models import Upload
from s3direct_uploads.serializers import AttachUploadsMixin, UploadField
from tests.conftest import App, row
from tests.models import Gallery, Photo

PHOTOS = "/api/photos/"


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
    """As in DRF's documentation: the host writes ``create`` and ``update`` for nested rows."""

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


@pytest.fixture
def photo(alice: App) -> Photo:
    answer = alice.client.post(PHOTOS, {"image": str(new(alice).pk), "title": "x"}, format="json")
    return Photo.objects.get(pk=answer.json()["id"])
