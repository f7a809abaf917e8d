"""The description for drf-spectacular: whole, true, and not in the way of who has none."""
# mypy: untyped-calls-exclude="drf_spectacular"

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from django.test import override_settings
from django.urls import include, path
from django.utils import timezone
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import patched_settings
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.generics import GenericAPIView
from rest_framework.routers import DefaultRouter
from rest_framework.throttling import UserRateThrottle

from s3direct_uploads import lifecycle
from s3direct_uploads.destinations import MAX_OBJECT_SIZE, MIN_PART_SIZE, Destination
from s3direct_uploads.exceptions import (
    BucketUnavailable,
    OwnerUnknown,
    PartsIncomplete,
    raised_by,
)
from s3direct_uploads.models import Upload
from s3direct_uploads.openapi.errors import MEANINGS
from s3direct_uploads.openapi.operations import OPERATIONS
from s3direct_uploads.s3 import Bucket, get_bucket
from s3direct_uploads.serializers import BeginSerializer, PartNumbersSerializer, UploadSerializer
from s3direct_uploads.views import UploadViewSet

from . import openapi_settings
from . import urls as host_urls
from .conftest import JPEG, URL, App, row
from .host import Albums

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = ROOT / "docs" / "openapi.yaml"

ANY_CALL = {401, 403, 413, 429}
STATUSES = {
    "begin_upload": {201, 400, 409, 410, 415, 503},
    "list_uploads": {200, 400, 404},
    "retrieve_upload": {200, 404},
    "confirm_upload": {200, 202, 400, 404, 409, 410, 415, 422, 503},
    "renew_upload": {200, 400, 404, 410, 415, 503},
    "list_upload_parts": {200, 404, 409, 410, 503},
    "sign_upload_parts": {200, 400, 404, 409, 410, 415, 503},
    "delete_upload": {204, 404, 409},
    "get_upload_url": {200, 400, 404, 409, 503},
    "download_upload": {302, 400, 404, 409, 503},
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=env, capture_output=True, text=True
    )


def test_the_committed_description_is_the_generated_one(tmp_path: Path) -> None:
    made = tmp_path / "openapi.yaml"
    command = "manage.py spectacular --settings tests.openapi_settings --validate --fail-on-warn"
    done = run(*command.split(), "--file", str(made))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert made.read_text() == COMMITTED.read_text(), "run `make schema`"


def test_nothing_else_needs_drf_spectacular() -> None:
    done = run(
        "-c",
        """
import sys
sys.modules["drf_spectacular"] = None
import django
django.setup()
import s3direct_uploads.testing, s3direct_uploads.urls, s3direct_uploads.views
from django.core.management import call_command
call_command("check", fail_level="WARNING")
assert "s3direct_uploads.openapi" not in sys.modules
""",
    )
    assert (done.returncode, done.stderr) == (0, "")


# What it says.


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(COMMITTED.read_text())
    return document


def operations(document: dict[str, Any]) -> dict[str, Any]:
    return {
        operation["operationId"]: operation
        for methods in document["paths"].values()
        for operation in methods.values()
    }


def test_every_status_is_described(committed: dict[str, Any]) -> None:
    described = {
        name: {int(status) for status in operation["responses"]}
        for name, operation in operations(committed).items()
    }
    assert described == {name: statuses | ANY_CALL for name, statuses in STATUSES.items()}


def test_every_code_is_described_under_its_status(committed: dict[str, Any]) -> None:
    described: dict[str, set[int]] = {}
    meanings: dict[str, set[str]] = {}
    for operation in operations(committed).values():
        for status, response in operation["responses"].items():
            for code, meaning in re.findall(r"- `(\w+)`: (.+)", response["description"]):
                described.setdefault(code, set()).add(int(status))
                meanings.setdefault(code, set()).add(meaning)
    raised = {
        error.code: {error.status}
        for operation in OPERATIONS.values()
        if operation.raises
        for error in raised_by(operation.raises)
    }
    assert {code: described[code] for code in raised} == raised
    assert set(described) == {*MEANINGS, *raised, OwnerUnknown.code}
    assert meanings["bucket_unavailable"] == {BucketUnavailable.__doc__}


@pytest.mark.parametrize(
    ("call", "operation"),
    [
        ("`POST /` begin", lifecycle.begin),
        ("`POST /{id}/confirm/`", lifecycle.confirm),
        ("`POST /{id}/renew/`", lifecycle.renew),
        ("`POST /{id}/parts/`", lifecycle.sign_parts),
        ("`GET /{id}/parts/`", lifecycle.list_parts),
        ("`DELETE /{id}/`", lifecycle.cancel),
        ("`GET /{id}/url/`, `GET /{id}/download/`", lifecycle.presign_download),
    ],
)
def test_the_readmes_table_has_what_each_call_raises(call: str, operation: Any) -> None:
    readme = (ROOT / "README.md").read_text()
    [answers] = re.findall(rf"^\| {re.escape(call)} \|.*\| (.*) \|$", readme, re.M)
    said = {
        (int(status), code)
        for status, codes in re.findall(r"\b([45]\d\d) ((?:`\w+`(?:, )?)+)", answers)
        for code in re.findall(r"\w+", codes)
    }
    assert said == {(error.status, error.code) for error in raised_by(operation)}


def test_every_field_is_described(committed: dict[str, Any]) -> None:
    schemas = committed["components"]["schemas"]
    upload, declaration = schemas["DirectUpload"], schemas["DirectUploadDeclaration"]
    assert list(upload["properties"]) == UploadSerializer.Meta.fields == upload["required"]
    fields = BeginSerializer().fields
    assert list(declaration["properties"]) == list(fields)
    assert declaration["required"] == [name for name, field in fields.items() if field.required]
    for name, field in fields.items():
        assert declaration["properties"][name].get("nullable", False) == field.allow_null, name
    numbers = schemas["DirectUploadPartNumbers"]["properties"]
    assert list(numbers) == list(PartNumbersSerializer().fields)


def test_every_name_is_ours(committed: dict[str, Any]) -> None:
    assert all(name.startswith("DirectUpload") for name in committed["components"]["schemas"])


def test_code_generators_can_read_what_is_sent(committed: dict[str, Any]) -> None:
    """Plain objects: many generators fail at a choice between schemas."""

    def keywords(schema: Any) -> Iterator[str]:
        if isinstance(schema, dict):
            if "$ref" in schema:
                yield from keywords(schemas[schema["$ref"].rpartition("/")[2]])
            yield from schema
        for each in schema.values() if isinstance(schema, dict) else ():
            for inner in each if isinstance(each, list) else [each]:
                yield from keywords(inner)

    schemas = committed["components"]["schemas"]
    for operation in operations(committed).values():
        for content in operation.get("requestBody", {}).get("content", {}).values():
            found = set(keywords(content["schema"]))
            assert "properties" in found
            assert not found & {"anyOf", "oneOf"}


def test_in_our_own_description_a_destination_is_any_string(committed: dict[str, Any]) -> None:
    schemas = committed["components"]["schemas"]
    assert "DirectUploadDestination" not in schemas
    destination = schemas["DirectUploadDeclaration"]["properties"]["destination"]
    assert destination["type"] == "string"
    assert destination["minLength"] == 1
    assert "enum" not in destination


def test_every_operation_says_what_it_is_for(committed: dict[str, Any]) -> None:
    for operation in operations(committed).values():
        assert operation["summary"]
        assert operation["description"]


@pytest.mark.parametrize(
    ("field", "value", "good"),
    [
        ("filename", "beach.jpg", True),
        ("filename", "🏖️ a'b\"c;.jpg", True),
        ("filename", " .jpg ", True),
        ("filename", "...", True),
        ("filename", "\u2028a", True),
        ("filename", "x" * 255, True),
        ("filename", "x" * 256, False),
        ("filename", "", False),
        ("filename", " \u00a0", False),
        ("filename", ".", False),
        ("filename", "..", False),
        ("filename", "a/b", False),
        ("filename", "a\\b", False),
        ("filename", "a\nb", False),
        ("filename", "a\u0085b", False),
        ("filename", "photo\u202egpj.exe", True),
        ("filename", "\u200f", False),
        ("filename", "\ufeff \u202e\u200b", False),
        ("filename", 5, False),
        ("filename", None, False),
        ("size", 0, True),
        ("size", 5 * 1024**3, True),
        ("size", -1, False),
        ("size", "5", False),
        ("size", 5.5, False),
        ("size", True, False),
        ("content_type", None, True),
        ("content_type", "", True),
        ("content_type", "IMAGE/JPEG", True),
        ("content_type", "video/webm;codecs=vp8,opus", True),
        ("content_type", 'a/b ; c="d e"; f=g', True),
        ("content_type", "image", False),
        ("content_type", "image/*", False),
        ("content_type", "image/png;", False),
        ("content_type", "image/png\r\nX-Evil: 1", False),
        ("content_type", 'image/png; a="\n"', False),
        ("content_type", f"image/{'x' * 250}", False),
        ("content_type", 5, False),
        ("checksum", None, True),
        ("checksum", {"algorithm": "CRC32", "value": "NhCmhg=="}, True),
        ("checksum", {"algorithm": "CRC64NVME", "value": "AAAAAAAAAAA="}, True),
        ("checksum", {"algorithm": "SHA256", "value": f"{'A' * 43}="}, True),
        ("checksum", {"algorithm": "SHA256", "value": f"{'A' * 42}B="}, False),
        ("checksum", {"algorithm": "CRC32", "value": "NhCmhh=="}, False),
        ("checksum", {"algorithm": "MD5", "value": "NhCmhg=="}, False),
        ("checksum", {"algorithm": "CRC32"}, False),
        ("checksum", "NhCmhg==", False),
        ("context", None, True),
        ("context", {"album": 1}, True),
        ("context", [1], False),
        ("destination", "photos", True),
        ("destination", "nowhere", False),
        ("destination", 5, False),
        ("multipart", None, True),
        ("multipart", False, True),
        ("multipart", True, True),
        ("multipart", "true", False),
        ("multipart", 1, False),
        ("multipart", {}, False),
    ],
)
@pytest.mark.usefixtures("anything_goes")
def test_what_may_be_declared(
    alice: App, document: dict[str, Any], field: str, value: Any, good: bool
) -> None:
    declaration = {"destination": "photos", "filename": "a", "size": 5, field: value}
    assert_agreed(alice, document, declaration, good)


@pytest.mark.parametrize(
    ("size", "multipart", "good"),
    [
        (0, True, True),
        (MIN_PART_SIZE + 1, True, True),
        (5 * 1024**3, False, True),
        (5 * 1024**3 + 1, True, True),
        (MAX_OBJECT_SIZE, True, True),
        (MAX_OBJECT_SIZE + 1, True, False),
        (-1, True, False),
    ],
)
@pytest.mark.usefixtures("anything_goes")
def test_what_may_be_sent_in_parts(
    alice: App, document: dict[str, Any], size: int, multipart: bool | None, good: bool
) -> None:
    declaration = {"destination": "photos", "filename": "a", "size": size, "multipart": multipart}
    assert_agreed(alice, document, declaration, good)


@pytest.mark.parametrize(
    ("declared", "code", "said_in"),
    [
        ({"size": 5 * 1024**3 + 1}, "multipart_required", "DirectUploadDeclaration"),
        (
            {"size": 5 * 1024**3 + 1, "multipart": False},
            "multipart_required",
            "DirectUploadDeclaration",
        ),
        (
            {"checksum": {"algorithm": "SHA256", "value": "NhCmhg=="}},
            "malformed",
            "DirectUploadChecksum",
        ),
        (
            {
                "size": MIN_PART_SIZE + 1,
                "multipart": True,
                "checksum": {"algorithm": "SHA256", "value": f"{'A' * 43}="},
            },
            "not_for_multipart",
            "DirectUploadChecksum",
        ),
    ],
)
@pytest.mark.usefixtures("anything_goes")
def test_a_condition_between_fields_is_said_in_prose(
    alice: App, document: dict[str, Any], declared: dict[str, Any], code: str, said_in: str
) -> None:
    declaration = {"destination": "photos", "filename": "a", "size": 5, **declared}
    schemas = document["components"]["schemas"]
    assert validator(document, schemas["DirectUploadDeclaration"]).is_valid(declaration)
    answer = alice.client.post(URL, declaration, content_type="application/json")
    assert answer.status_code == 400
    assert [error["code"] for error in answer.json()["errors"]] == [code]
    prose = schemas[said_in]["description"]
    assert {
        "multipart_required": 'more than 5 GiB needs `"multipart": true`',
        "malformed": "A SHA256 is 32 bytes long, a CRC32 4 bytes, a CRC64NVME 8 bytes.",
        "not_for_multipart": "A file that is sent in parts takes CRC32 or CRC64NVME",
    }[code] in " ".join(prose.split())
    assert not Upload.objects.exists()


@pytest.mark.parametrize(
    ("part_numbers", "good"),
    [
        ([1], True),
        ([10_000, 1, 1], True),
        ([*range(1, 1001)], True),
        ([*range(1, 1002)], False),
        ([], False),
        ([0], False),
        ([10_001], False),
        ([1.5], False),
        (["1"], False),
        ([True], False),
        ([None], False),
        (1, False),
        ("1", False),
        ({"1": 1}, False),
        (None, False),
    ],
)
@pytest.mark.usefixtures("anything_goes")
def test_which_parts_may_be_asked_for(
    alice: App, document: dict[str, Any], part_numbers: Any, good: bool
) -> None:
    id = alice.begin(size=MAX_OBJECT_SIZE, multipart=True).json()["id"]
    schema = document["components"]["schemas"]["DirectUploadPartNumbers"]
    assert validator(document, schema).is_valid({"part_numbers": part_numbers}) == good
    body = {"part_numbers": part_numbers}
    answer = alice.client.post(f"{URL}{id}/parts/", body, format="json")
    assert answer.status_code == (200 if good else 400), answer.json()
    if good:
        assert_as_described(document, "sign_upload_parts", answer)


def assert_agreed(app: App, document: dict[str, Any], declaration: Any, good: bool) -> None:
    schema = document["components"]["schemas"]["DirectUploadDeclaration"]
    assert validator(document, schema).is_valid(declaration) == good
    answer = app.client.post(URL, json.dumps(declaration), content_type="application/json")
    assert answer.status_code == (201 if good else 400), answer.json()
    if good:
        assert_as_described(document, "begin_upload", answer)


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


# Whether it is true, by OpenAPI 3.1, whose schemas are JSON Schema's.


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


def contents(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All that is sent or answered, with schema and examples."""
    for operation in operations(document).values():
        for body in (operation.get("requestBody", {}), *operation["responses"].values()):
            yield from body.get("content", {}).values()


def test_every_example_is_as_its_schema_says(document: dict[str, Any]) -> None:
    count = 0
    for content in contents(document):
        for example in content.get("examples", {}).values():
            validator(document, content["schema"]).validate(example["value"])
            count += 1
    assert count > 40


def provoke_too_large(app: App) -> Any:
    body = f'{{"context": "{"x" * 1024**2}"}}'
    return app.client.post(URL, body, content_type="application/json")


def provoke_mismatch(app: App) -> Any:
    begun = app.begin().json()
    app.send(begun["request"], JPEG, **{"Content-Encoding": "gzip"})
    return app.confirm(begun["id"])


def provoke_hook_failed(app: App, hook: str = "has_permission") -> Any:
    album: dict[str, Any] = {"destination": "albums", "context": {"album": 1}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Albums, hook, lambda *_: 1 / 0)
        begun = app.begin(**album)
        if hook != "verify":
            return begun
        app.send(begun.json()["request"])
        return app.confirm(begun.json()["id"])


def provoke_verifying(app: App) -> Any:
    upload = row(app.begin())
    Upload.objects.update(status="verifying", held_at=timezone.now())
    return app.confirm(str(upload.pk))


def provoke_cancelled(app: App) -> Any:
    id = app.begin().json()["id"]
    app.delete(id)
    return app.renew(id)


def provoke_attached(app: App) -> Any:
    upload = row(app.upload())
    upload.attach()
    return app.delete(str(upload.pk))


def provoke_reused(app: App) -> Any:
    app.begin(headers={"Idempotency-Key": "one"})
    return app.begin(headers={"Idempotency-Key": "one"}, size=1)


def begin_within(app: App, **limit: int) -> Any:
    photos = {"MAX_SIZE": 1024, "CONTENT_TYPES": ["image/*"], **limit}
    with override_settings(S3DIRECT_UPLOADS={"DESTINATIONS": {"photos": photos}}):
        app.begin()
        return app.begin()


def provoke_full(app: App) -> Any:
    return begin_within(app, MAX_TOTAL_SIZE=len(JPEG) + 1)


def provoke_too_many(app: App) -> Any:
    return begin_within(app, MAX_PENDING=1)


def begin_in_parts(app: App) -> str:
    """Of two parts."""
    id: str = app.begin(size=16 * 1024**2 + 1, multipart=True).json()["id"]
    return id


def provoke_cancelled_meanwhile(app: App) -> Any:
    create = Bucket.create_multipart

    def cancel_first(*args: Any, **kwargs: Any) -> str:
        app.delete(str(Upload.objects.get().pk))
        return create(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bucket, "create_multipart", cancel_first)
        return app.begin(size=16 * 1024**2 + 1, multipart=True)


def send_in_parts(app: App, *part_numbers: int) -> str:
    begun = app.begin(size=16 * 1024**2 + 1, multipart=True).json()
    for part in begun["multipart"]["parts"]:
        if part["part_number"] in part_numbers:
            assert app.send({"method": "PUT", **part}, b"\0" * part["size"]) == 200
    id: str = begun["id"]
    return id


def provoke_completing(app: App) -> Any:
    id = begin_in_parts(app)
    Upload.objects.update(busy_until=timezone.now() + timedelta(minutes=1))
    return app.confirm(id)


def provoke_replaced(app: App) -> Any:
    id = send_in_parts(app, 1, 2)

    def replace(self: Bucket, key: str, upload_id: str, *_: Any, **__: Any) -> None:
        again: Any = {"Bucket": self.name, "Key": key, "UploadId": upload_id, "PartNumber": 2}
        self._client.upload_part(**again, Body=b"x")
        raise PartsIncomplete({})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bucket, "complete_multipart", replace)  # moto does not look at ETags
        return app.confirm(id)


def abort_behind(app: App) -> str:
    """S3 forgets a multipart upload, as by a rule of the bucket's."""
    id = begin_in_parts(app)
    upload = Upload.objects.get(pk=id)
    get_bucket("default").abort_multipart(upload.key, upload.multipart_upload_id)
    return id


def give_up_parts(app: App) -> str:
    id = begin_in_parts(app)
    app.delete(id)
    return id


@pytest.mark.parametrize(
    ("provoke", "operation", "status", "code"),
    [
        (lambda app: app.begin(), "begin_upload", 201, None),
        (lambda app: app.begin(size=-1), "begin_upload", 400, "invalid"),
        (lambda app: app.begin(checksum={"algorithm": "X"}), "begin_upload", 400, "invalid"),
        (lambda app: app.begin(size=10**8, multipart=1), "begin_upload", 400, "invalid"),
        (provoke_full, "begin_upload", 403, "quota_exceeded"),
        (provoke_too_many, "begin_upload", 429, "too_many_pending"),
        (provoke_reused, "begin_upload", 409, "idempotency_key_reused"),
        (provoke_cancelled_meanwhile, "begin_upload", 410, "not_pending"),
        (provoke_too_large, "begin_upload", 413, "request_too_large"),
        (lambda app: app.client.post(URL, {}), "begin_upload", 415, "unsupported_media_type"),
        (provoke_hook_failed, "begin_upload", 503, "hook_failed"),
        (
            lambda app: provoke_hook_failed(app, "verify"),
            "confirm_upload",
            503,
            "hook_failed",
        ),
        (lambda app: app.upload() and app.get(), "list_uploads", 200, None),
        (lambda app: app.get(size="x"), "list_uploads", 400, "invalid"),
        (lambda app: app.get(cursor="x"), "list_uploads", 404, "not_found"),
        (lambda app: app.get("1/"), "retrieve_upload", 404, "not_found"),
        (lambda app: app.upload(), "confirm_upload", 200, None),
        (provoke_verifying, "confirm_upload", 202, None),
        (
            lambda app: app.confirm(app.begin().json()["id"]),
            "confirm_upload",
            409,
            "object_missing",
        ),
        (lambda app: app.confirm(send_in_parts(app, 1, 2)), "confirm_upload", 200, None),
        (provoke_completing, "confirm_upload", 202, None),
        (
            lambda app: app.confirm(send_in_parts(app, 2)),
            "confirm_upload",
            409,
            "parts_incomplete",
        ),
        (provoke_replaced, "confirm_upload", 409, "parts_incomplete"),
        (lambda app: app.confirm(abort_behind(app)), "confirm_upload", 410, "multipart_gone"),
        (provoke_mismatch, "confirm_upload", 422, "object_mismatch"),
        (lambda app: app.renew(app.begin().json()["id"]), "renew_upload", 200, None),
        (lambda app: app.renew(begin_in_parts(app)), "renew_upload", 200, None),
        (provoke_cancelled, "renew_upload", 410, "not_pending"),
        (
            lambda app: app.parts(send_in_parts(app, 2)),
            "list_upload_parts",
            200,
            None,
        ),
        (lambda app: app.parts("1"), "list_upload_parts", 404, "not_found"),
        (
            lambda app: app.parts(app.begin().json()["id"]),
            "list_upload_parts",
            409,
            "not_multipart",
        ),
        (
            lambda app: app.parts(give_up_parts(app)),
            "list_upload_parts",
            410,
            "not_pending",
        ),
        (
            lambda app: app.parts(abort_behind(app)),
            "list_upload_parts",
            410,
            "multipart_gone",
        ),
        (lambda app: app.sign_parts(begin_in_parts(app), [2, 1]), "sign_upload_parts", 200, None),
        (
            lambda app: app.sign_parts(begin_in_parts(app), [3]),
            "sign_upload_parts",
            400,
            "invalid",
        ),
        (lambda app: app.sign_parts("1", [1]), "sign_upload_parts", 404, "not_found"),
        (
            lambda app: app.sign_parts(app.begin().json()["id"], [1]),
            "sign_upload_parts",
            409,
            "not_multipart",
        ),
        (
            lambda app: app.sign_parts(give_up_parts(app), [1]),
            "sign_upload_parts",
            410,
            "not_pending",
        ),
        (
            lambda app: app.client.post(f"{URL}{begin_in_parts(app)}/parts/", {"part_numbers": 1}),
            "sign_upload_parts",
            415,
            "unsupported_media_type",
        ),
        (provoke_attached, "delete_upload", 409, "already_attached"),
        (
            lambda app: app.get(f"{app.upload().json()['id']}/url/"),
            "get_upload_url",
            200,
            None,
        ),
        (
            lambda app: app.get(f"{app.begin().json()['id']}/download/"),
            "download_upload",
            409,
            "not_completed",
        ),
        (
            lambda app: app.get(f"{app.upload().json()['id']}/download/"),
            "download_upload",
            302,
            None,
        ),
    ],
)
def test_a_real_answer_is_as_its_schema_says(
    alice: App,
    settings: Any,
    document: dict[str, Any],
    provoke: Callable[[App], Any],
    operation: str,
    status: int,
    code: str | None,
) -> None:
    answer = provoke(alice)
    assert_as_described(document, operation, answer)
    assert answer.status_code == status
    if code:
        assert answer.json()["code"] == code


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
    if "multipart" in body:  # one of the two is to be sent where something is to be sent at all
        sent = operation in ("begin_upload", "renew_upload")
        assert (body["request"], body["multipart"]).count(None) == (1 if sent else 2)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        ("{", "application/json", 400),
        ("0" * 1024**2 + "0", "application/json", 413),
        ("a=b", "application/x-www-form-urlencoded", 415),
        ("[1]", "application/json", 409),
    ],
)
def test_a_body_where_there_is_none_and_a_session_authenticates(
    alice: App, document: dict[str, Any], body: str, content_type: str, status: int
) -> None:
    id = alice.begin().json()["id"]
    alice.client.handler.enforce_csrf_checks = True
    token = "x" * 32
    alice.client.cookies["csrftoken"] = token
    answer = alice.client.post(
        f"{URL}{id}/confirm/", body, content_type=content_type, headers={"X-CSRFToken": token}
    )
    assert_as_described(document, "confirm_upload", answer)
    assert answer.status_code == status


def test_what_is_no_fault_of_the_clients(
    alice: App, s3_away: Callable[[], None], settings: Any, document: dict[str, Any]
) -> None:
    id, in_parts = alice.begin().json()["id"], begin_in_parts(alice)
    s3_away()
    answers = [
        ("confirm_upload", alice.confirm(id)),
        ("confirm_upload", alice.confirm(in_parts)),
        ("list_upload_parts", alice.parts(in_parts)),
        ("begin_upload", alice.begin(size=16 * 1024**2 + 1, multipart=True)),
    ]
    memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
    settings.STORAGES = {**settings.STORAGES, "default": memory}
    answers += [
        ("begin_upload", alice.begin()),
        ("renew_upload", alice.renew(id)),
        ("sign_upload_parts", alice.sign_parts(in_parts, [1])),
    ]
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": {"MAX_SIZE": "huge"}}}
    answers += [("begin_upload", alice.begin())]
    for operation, answer in answers:
        assert_as_described(document, operation, answer)
    assert [answer.json()["code"] for _, answer in answers] == [
        *["bucket_unavailable"] * 4,
        "storage_not_s3",
        *["bucket_unavailable"] * 2,
        "misconfigured",
    ]


@pytest.mark.parametrize(
    ("call", "operation"),
    [
        (lambda app: app.begin(), "begin_upload"),
        (lambda app: app.get(), "list_uploads"),
        (lambda app: app.delete("1"), "delete_upload"),
    ],
)
def test_whom_the_host_does_not_let_in(
    nobody: App,
    alice: App,
    document: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[App], Any],
    operation: str,
) -> None:
    class OnceADay(UserRateThrottle):
        scope = "once_a_day"
        rate = "1/day"

    assert_as_described(document, operation, call(nobody))
    monkeypatch.setattr(UploadViewSet, "throttle_classes", [OnceADay])
    answers = [call(alice) for _ in range(2)]
    assert answers[1].status_code == 429
    assert_as_described(document, operation, answers[1])


# A host's own.


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
def test_the_destinations_are_the_hosts(settings: Any) -> None:
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

    both = generate(**more)["components"]["schemas"]["Photo"]["properties"]["image"]
    assert both["oneOf"] == [written, read]


def test_the_view_is_left_as_it_was(document: dict[str, Any]) -> None:
    assert not hasattr(UploadViewSet.create, "kwargs")
    assert not hasattr(UploadViewSet.sign_parts, "kwargs")
    assert "schema" not in UploadViewSet.confirm.kwargs
    assert "schema" not in UploadViewSet.parts.kwargs
