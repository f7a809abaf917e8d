"""What the app's requests are compared with: the same work by plain views of REST Framework."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import QuerySet
from django.urls import include, path
from rest_framework import generics, serializers
from rest_framework.pagination import CursorPagination
from rest_framework.parsers import JSONParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.viewsets import ReadOnlyModelViewSet

from s3direct_uploads.models import Upload


class Note(models.Model):
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    filename = models.CharField(max_length=255)
    content_type = models.CharField(max_length=255)
    size = models.BigIntegerField()

    class Meta:
        app_label = "benchmarks"

    def __str__(self) -> str:
        return self.filename


class NoteSerializer(serializers.Serializer[Note]):
    filename = serializers.CharField(max_length=255)
    content_type = serializers.CharField(max_length=255)
    size = serializers.IntegerField(min_value=0)

    def create(self, validated_data: dict[str, Any]) -> Note:
        note = Note(**validated_data)
        note.save(force_insert=True)
        return note


class CreateNote(generics.CreateAPIView[Note]):
    permission_classes = [IsAuthenticated]
    parser_classes = [JSONParser]
    renderer_classes = [JSONRenderer]
    serializer_class = NoteSerializer

    def perform_create(self, serializer: Any) -> None:
        serializer.save(owner=self.request.user)


class RowSerializer(serializers.ModelSerializer[Upload]):
    """The answer of the app, field by field, as a project would write it."""

    reason = serializers.SerializerMethodField()
    request = serializers.SerializerMethodField()
    multipart = serializers.SerializerMethodField()

    class Meta:
        model = Upload
        fields: ClassVar[list[str]] = [
            *("id", "status", "destination", "filename", "content_type", "size", "context"),
            *("created_at", "expires_at", "completed_at", "reason", "form_value", "visitor"),
            *("request", "multipart"),
        ]

    def get_reason(self, upload: Upload) -> str | None:
        return upload.reason or None

    def get_request(self, upload: Upload) -> None:
        return None

    get_multipart = get_request


class NewestFirst(CursorPagination):
    ordering = "-id"
    page_size = 50


class Rows(ReadOnlyModelViewSet[Upload]):
    permission_classes = [IsAuthenticated]
    parser_classes = [JSONParser]
    renderer_classes = [JSONRenderer]
    serializer_class = RowSerializer
    pagination_class = NewestFirst

    def get_queryset(self) -> QuerySet[Upload]:
        return Upload.objects.filter(owner=self.request.user.pk)


urlpatterns = [
    path("api/uploads/", include("s3direct_uploads.urls")),
    path("bare/notes/", CreateNote.as_view()),
    path("bare/uploads/", Rows.as_view({"get": "list"})),
    path("bare/uploads/<str:pk>/", Rows.as_view({"get": "retrieve"})),
]
