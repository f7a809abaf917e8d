"""How many queries it takes to show files: the uploads of many rows are read together."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext
from rest_framework import serializers

from s3direct_uploads.serializers import AttachUploadsMixin
from s3direct_uploads.testing import completed_upload
from tests.host.upload_field.conftest import PlainPhotoSerializer
from tests.host_app import PhotoSerializer
from tests.models import Gallery, Photo

pytestmark = pytest.mark.usefixtures("s3", "db")


class GallerySerializer(AttachUploadsMixin, serializers.ModelSerializer[Gallery]):
    cover = PhotoSerializer()
    photos = PhotoSerializer(many=True)

    class Meta:
        model = Gallery
        fields = ["cover", "photos"]


class PlainGallerySerializer(serializers.ModelSerializer[Gallery]):
    cover = PlainPhotoSerializer()
    photos = PlainPhotoSerializer(many=True)

    class Meta:
        model = Gallery
        fields = ["cover", "photos"]


def a_photo(title: str = "") -> Photo:
    upload = completed_upload(destination="photos", filename="beach.jpg")
    return Photo.objects.create(image=upload.attach(), title=title)


@pytest.fixture
def galleries() -> QuerySet[Gallery]:
    for _ in range(3):
        gallery = Gallery.objects.create(cover=a_photo())
        gallery.photos.set([a_photo("shown"), a_photo("hidden")])
    return Gallery.objects.order_by("pk")


def shown(serializer: Any, rows: Any, **options: Any) -> tuple[Any, list[int]]:
    """What is shown; and how many queries it took, for uploads and for the host's rows."""
    with CaptureQueriesContext(connection) as queries:
        data = serializer(rows, **options).data
    uploads = [each for each in queries if '"s3direct_uploads_upload"' in each["sql"]]
    return data, [len(uploads), len(queries) - len(uploads)]


def assert_all_known(data: Any) -> None:
    for gallery in data:
        for each in (gallery["cover"], *gallery["photos"]):
            assert each["image"]["filename"] == "beach.jpg"
            assert each["image"]["size"] == len(b"content")


@pytest.mark.parametrize("serializer", [GallerySerializer, PlainGallerySerializer])
def test_nested_rows_that_were_prefetched_take_one_query_for_each_field(
    galleries: QuerySet[Gallery], serializer: Any
) -> None:
    rows = galleries.select_related("cover").prefetch_related("photos")
    data, queries = shown(serializer, rows, many=True)
    assert_all_known(data)
    assert queries == [2, 2], "for cover and photos; the host's are the galleries and their photos"


def test_nested_rows_that_were_not_prefetched_take_one_query_for_each_list(
    galleries: QuerySet[Gallery],
) -> None:
    data, queries = shown(GallerySerializer, galleries, many=True)
    assert_all_known(data)
    assert queries == [1 + 3, 1 + 3 + 3], "the host's: galleries, covers, lists of photos"

    data, queries = shown(GallerySerializer, Gallery.objects.order_by("pk")[0])
    assert_all_known([data])
    assert queries == [2, 2]


def test_a_list_serializer_may_choose_what_it_shows(galleries: QuerySet[Gallery]) -> None:
    """Rows that it does not show are not read for their uploads."""

    class Chosen(serializers.ListSerializer[Photo]):
        def to_representation(self, data: Any) -> Any:
            return super().to_representation(data.filter(title="shown"))

    class ChosenPhotoSerializer(PhotoSerializer):
        class Meta(PhotoSerializer.Meta):
            list_serializer_class = Chosen

    class ChosenGallerySerializer(GallerySerializer):
        photos = ChosenPhotoSerializer(many=True)

    data, queries = shown(ChosenGallerySerializer, galleries[0])
    assert [each["title"] for each in data["photos"]] == ["shown"]
    assert_all_known([data])
    assert queries == [2, 2]


def test_rows_that_are_no_models_show_their_files(galleries: QuerySet[Gallery]) -> None:
    class Outer(serializers.Serializer[Any]):
        covers = PhotoSerializer(many=True, source="get_covers")
        none = PhotoSerializer(source="missing", required=False)

    class Shelf:
        def get_covers(self) -> list[Photo | None]:
            return [each.cover for each in galleries]

    data, queries = shown(Outer, [Shelf(), Shelf()], many=True)
    assert [len(each["covers"]) for each in data] == [3, 3]
    assert queries[0] == 1
