"""What a host writes: a destination with hooks, a serializer, and a view of its own."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.http import HttpRequest
from rest_framework import serializers, viewsets

from s3direct_uploads.destinations import Destination
from s3direct_uploads.exceptions import ObjectMismatch
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import StoredObject
from s3direct_uploads.serializers import AttachUploadsMixin, UploadField
from tests.field_models import Snap
from tests.models import Photo


class Albums(Destination):
    max_size = 1024**2
    min_size = 1
    content_types = ["image/jpeg"]

    def has_permission(self, upload: Upload, request: HttpRequest | None) -> bool:
        return "forbidden" not in upload.filename

    def get_prefix(self, upload: Upload, request: HttpRequest | None) -> str:
        return f"albums/{upload.owner_id or 'scripts'}/"

    def clean_context(self, context: dict[str, Any], request: HttpRequest | None) -> dict[str, Any]:
        if not isinstance(context.get("album"), int):
            raise ValidationError("Which album?", code="no_album")
        return {"album": context["album"], "tags": tuple(context.get("tags", ()))}

    def verify(self, upload: Upload, stored: StoredObject) -> None:
        if stored.size == 13:
            raise ObjectMismatch("Thirteen bytes bring bad luck.")


class PhotoSerializer(AttachUploadsMixin, serializers.ModelSerializer[Photo]):
    image = UploadField(destination="photos")

    class Meta:
        model = Photo
        fields = ["id", "title", "image"]


class PhotoViewSet(viewsets.ModelViewSet[Photo]):
    queryset = Photo.objects.order_by("id")
    serializer_class = PhotoSerializer
    pagination_class = None


class SnapSerializer(AttachUploadsMixin, serializers.ModelSerializer[Snap]):
    """Its model has an UploadFileField, so it does not write the field."""

    class Meta:
        model = Snap
        fields = ["id", "title", "image"]


class SnapViewSet(viewsets.ModelViewSet[Snap]):
    queryset = Snap.objects.order_by("id")
    serializer_class = SnapSerializer
    pagination_class = None
