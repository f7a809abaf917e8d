"""The other ways to take a file: through Django, and by django-s3-file-field's own app."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.files.storage import storages
from django.db import models
from rest_framework import generics, serializers
from rest_framework.parsers import MultiPartParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from s3_file_field.fields import S3FileField


class Film(models.Model):
    """The file passes through Django, and django-storages saves it."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    file = models.FileField(storage=storages["plain"], upload_to="through")

    class Meta:
        app_label = "benchmarks"

    def __str__(self) -> str:
        return str(self.file)


class Direct(models.Model):
    """Its client asks for the URLs of this field. It has no table, because no row is saved."""

    file = S3FileField(storage=storages["plain"])

    class Meta:
        app_label = "benchmarks"

    def __str__(self) -> str:
        return str(self.file)


class FilmSerializer(serializers.ModelSerializer[Film]):
    class Meta:
        model = Film
        fields = ["id", "file"]


class CreateFilm(generics.CreateAPIView[Film]):
    permission_classes = [IsAuthenticated]
    parser_classes = [MultiPartParser]
    renderer_classes = [JSONRenderer]
    serializer_class = FilmSerializer

    def perform_create(self, serializer: Any) -> None:
        serializer.save(owner=self.request.user)
