"""The description in docs/openapi.yaml, and the one that a host generates."""
# mypy: untyped-calls-exclude="drf_spectacular"

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from django.test import override_settings
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import patched_settings

from s3direct_uploads.destinations import MAX_OBJECT_SIZE, MIN_PART_SIZE, Destination
from tests import openapi_settings
from tests import urls as host_urls
from tests.conftest import ROOT
from tests.openapi.errors import assert_error_as_described

COMMITTED = ROOT / "docs" / "openapi.yaml"


STATUSES = {  # and those of the errors that the operation declares by @raises
    "begin_upload": {201, 400, 415},
    "list_uploads": {200, 400, 404},
    "retrieve_upload": {200, 404},
    "confirm_upload": {200, 202, 400, 404, 415},
    "begin_uploads": {200, 400, 415},
    "confirm_uploads": {200, 400, 415},
    "renew_upload": {200, 400, 404, 415},
    "list_upload_parts": {200, 404},
    "sign_upload_parts": {200, 400, 404, 415},
    "delete_upload": {204, 404},
    "get_upload_url": {200, 400, 404},
    "download_upload": {302, 400, 404},
}


def operations(document: dict[str, Any]) -> dict[str, Any]:
    return {
        operation["operationId"]: operation
        for methods in document["paths"].values()
        for operation in methods.values()
    }


@pytest.fixture
def anything_goes(settings: Any) -> None:
    names = settings.S3DIRECT_UPLOADS["DESTINATIONS"]
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": dict.fromkeys(names, Anything)}


class Anything(Destination):
    """Without rules of its own."""

    max_size = MAX_OBJECT_SIZE
    content_types = ["*/*"]
    part_size = MIN_PART_SIZE

    def clean_context(self, context: dict[str, Any], request: Any) -> dict[str, Any]:
        return context


def generate(urlpatterns: Any = host_urls.urlpatterns, **spectacular: Any) -> dict[str, Any]:
    """What a host gets, without a warning."""
    with patched_settings({**openapi_settings.SPECTACULAR_SETTINGS, **spectacular}):
        document: dict[str, Any] = SchemaGenerator(patterns=urlpatterns).get_schema(public=True)
    assert not GENERATOR_STATS, GENERATOR_STATS._warn_cache
    return document


@pytest.fixture
def with_spectacular(settings: Any) -> None:
    settings.REST_FRAMEWORK = openapi_settings.REST_FRAMEWORK


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    with override_settings(REST_FRAMEWORK=openapi_settings.REST_FRAMEWORK):
        return generate(OAS_VERSION="3.1.0")


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    whole = {**schema, "components": document["components"]}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def assert_as_described(document: dict[str, Any], operation: str, answer: Any) -> None:
    response = operations(document)[operation]["responses"][str(answer.status_code)]
    for name, header in response["headers"].items():
        assert name in answer.headers or not header["required"]
    if "content" not in response:
        assert answer.content == b""
        return
    content = response["content"][answer["Content-Type"]]
    body = answer.json()
    validator(document, content["schema"]).validate(body)
    if answer.status_code >= 400:
        assert_error_as_described(response["description"], answer.status_code, body)
    if "multipart" in body:  # begin and renew answer with one of the two
        sent = operation in ("begin_upload", "renew_upload")
        assert (body["request"], body["multipart"]).count(None) == (1 if sent else 2)
