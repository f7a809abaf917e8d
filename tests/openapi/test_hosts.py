"""A host's own views, serializers and destinations in the description."""
# mypy: untyped-calls-exclude="drf_spectacular"

from __future__ import annotations

import json
from typing import Any

import pytest
from django.urls import include, path
from drf_spectacular.utils import extend_schema
from openapi_spec_validator import validate
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.generics import GenericAPIView
from rest_framework.routers import DefaultRouter

from s3direct_uploads.serializers import UploadSerializer
from s3direct_uploads.views import UploadViewSet
from tests import urls as host_urls
from tests.openapi.conftest import STATUSES, generate, operations


@pytest.mark.usefixtures("with_spectacular")
def test_a_host_may_mount_it_elsewhere_and_say_it_in_other_words() -> None:
    class OwnViewSet(UploadViewSet):
        http_method_names = ["get", "post"]

        @extend_schema(summary="Our own words")
        def create(self, request: Any, **kwargs: Any) -> Any:
            return super().create(request, **kwargs)

        @extend_schema(responses=UploadSerializer(many=True), summary="Our own")
        @action(detail=False)
        def recent(self, request: Any) -> Any: ...

    router = DefaultRouter()
    router.register("files", OwnViewSet, basename="file")
    document = generate([path("x/", include(router.urls))], PREPROCESSING_HOOKS=[])
    described = operations(document)
    assert set(STATUSES) - {"delete_upload"} <= set(described)
    assert described["begin_upload"]["summary"] == "Our own words"
    assert set(described["begin_upload"]["responses"]) >= {"201", "409"}
    assert described["confirm_upload"]["summary"] == "Confirm that the file was sent"
    assert document["components"]["schemas"]["DirectUpload"]["properties"]["id"]["format"] == "uuid"


@pytest.mark.usefixtures("with_spectacular")
@pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
def test_a_validator_finds_nothing_in_a_hosts_own_description(version: str) -> None:
    document = generate(OAS_VERSION=version, PREPROCESSING_HOOKS=[])
    assert "DirectUploadDestination" in document["components"]["schemas"]
    validate(json.loads(json.dumps(document)))


@pytest.mark.usefixtures("with_spectacular")
def test_the_description_names_the_hosts_destinations(settings: Any) -> None:
    named = generate()["components"]["schemas"]
    assert named["DirectUploadDestination"]["enum"] == ["albums", "documents", "photos"]
    destination = named["DirectUploadDeclaration"]["properties"]["destination"]
    assert destination["allOf"] == [{"$ref": "#/components/schemas/DirectUploadDestination"}]
    settings.S3DIRECT_UPLOADS = {}
    any_string = generate()["components"]["schemas"]
    assert "DirectUploadDestination" not in any_string
    assert any_string["DirectUploadDeclaration"]["properties"]["destination"]["type"] == "string"


@pytest.mark.usefixtures("with_spectacular")
@pytest.mark.parametrize("split", [False, True])
def test_a_hosts_own_names_stay_the_hosts(split: bool) -> None:
    class OwnUploadSerializer(UploadSerializer):
        mood = serializers.CharField(read_only=True)

        class Meta(UploadSerializer.Meta):
            fields = [*UploadSerializer.Meta.fields, "mood"]

    class ArticleSerializer(serializers.Serializer[Any]):
        status = serializers.ChoiceField(choices=["draft", "public"])
        method = serializers.ChoiceField(choices=["fax"])
        upload = UploadSerializer(read_only=True)

    class OwnUploadView(GenericAPIView[Any]):
        serializer_class = OwnUploadSerializer

        def get(self, request: Any) -> Any: ...

    class ArticleView(GenericAPIView[Any]):
        serializer_class = ArticleSerializer

        def put(self, request: Any) -> Any: ...

    def schemas_of(view: Any) -> Any:
        pages = [*host_urls.urlpatterns, path("own/", view.as_view())]
        document = generate(pages, PREPROCESSING_HOOKS=[], COMPONENT_SPLIT_REQUEST=split)
        return document["components"]["schemas"]

    schemas = schemas_of(ArticleView)
    assert schemas["StatusEnum"]["enum"] == ["draft", "public"]
    assert schemas["MethodEnum"]["enum"] == ["fax"]
    schemas = schemas_of(OwnUploadView)
    assert "mood" in schemas["OwnUpload"]["properties"]
    assert "mood" not in schemas["DirectUpload"]["properties"]
    assert "pending" in schemas["DirectUploadStatus"]["enum"]
    assert schemas["DirectUpload"]["required"] == UploadSerializer.Meta.fields


@pytest.mark.usefixtures("with_spectacular")
@pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
def test_an_upload_field_is_written_as_an_id_and_read_as_an_object(version: str) -> None:
    more = {"OAS_VERSION": version, "PREPROCESSING_HOOKS": []}
    split = generate(COMPONENT_SPLIT_REQUEST=True, **more)["components"]["schemas"]
    written = split["PhotoRequest"]["properties"]["image"]
    read = split["Photo"]["properties"]["image"]
    assert (written["type"], written["format"]) == ("string", "uuid")
    assert read["type"] == "object"
    shown = ["name", "url", "size", "content_type", "filename"]
    assert list(read["properties"]) == read["required"] == shown

    of_a_model = split["SnapRequest"]["properties"]["image"]
    assert (of_a_model["format"], of_a_model["description"]) == ("uuid", written["description"])
    assert split["Snap"]["properties"]["image"]["properties"] == read["properties"]
    assert split["SnapRequest"]["required"] == ["title"], "the model's field may be blank"

    both = generate(**more)["components"]["schemas"]["Photo"]["properties"]["image"]
    assert both["oneOf"] == [written, read]


def test_the_view_is_left_as_it_was(document: dict[str, Any]) -> None:
    assert not hasattr(UploadViewSet.create, "kwargs")
    assert not hasattr(UploadViewSet.sign_parts, "kwargs")
    assert "schema" not in UploadViewSet.confirm.kwargs
    assert "schema" not in UploadViewSet.parts.kwargs
