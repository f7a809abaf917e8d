"""docs/openapi.yaml is up to date, and describes every call, status, code and field."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_spec_validator import OpenAPIV30SpecValidator

from s3direct_uploads import lifecycle
from s3direct_uploads.exceptions import BucketUnavailable, OwnerUnknown, raised_by
from s3direct_uploads.openapi.errors import MEANINGS
from s3direct_uploads.openapi.operations import OPERATIONS
from s3direct_uploads.serializers import BeginSerializer, PartNumbersSerializer, UploadSerializer
from tests.conftest import ROOT
from tests.openapi.conftest import COMMITTED, STATUSES, operations

ANY_CALL = {401, 403, 413, 429}


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


def test_a_validator_finds_nothing(committed: dict[str, Any]) -> None:
    assert [error.message for error in OpenAPIV30SpecValidator(committed).iter_errors()] == []


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


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(COMMITTED.read_text())
    return document


def test_every_status_is_described(committed: dict[str, Any]) -> None:
    described = {
        name: {int(status) for status in operation["responses"]}
        for name, operation in operations(committed).items()
    }
    expected = {name: statuses | ANY_CALL for name, statuses in STATUSES.items()}
    for operation in OPERATIONS.values():
        if operation.raises:
            expected[operation.id] |= {error.status for error in raised_by(operation.raises)}
    assert described == expected


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
        ("`POST /batch/` begin many", lifecycle.begin_many),
        ("`POST /batch/confirm/`", lifecycle.confirm_many),
        ("`POST /{id}/renew/`", lifecycle.renew),
        ("`POST /{id}/parts/`", lifecycle.sign_parts),
        ("`GET /{id}/parts/`", lifecycle.list_parts),
        ("`DELETE /{id}/`", lifecycle.cancel),
        ("`GET /{id}/url/`, `GET /{id}/download/`", lifecycle.presign_download),
    ],
)
def test_the_table_of_calls_has_what_each_call_raises(call: str, operation: Any) -> None:
    contract = (ROOT / "docs/http.md").read_text()
    [answers] = re.findall(rf"^\| {re.escape(call)} \|.*\| (.*) \|$", contract, re.M)
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


def inner_schemas(schema: Any) -> Iterator[dict[str, Any]]:
    """All objects in a schema, without those that it refers to."""
    if isinstance(schema, dict):
        yield schema
    for each in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(each, dict | list):
            yield from inner_schemas(each)


def test_all_errors_have_one_schema(committed: dict[str, Any]) -> None:
    """From one schema for each status, code generators make one class for each."""
    found = [
        response["content"]["application/json"]["schema"]
        for operation in operations(committed).values()
        for status, response in operation["responses"].items()
        if int(status) >= 400
    ]
    assert len(found) > 60
    assert all(schema == {"$ref": "#/components/schemas/DirectUploadError"} for schema in found)


def test_the_items_of_a_list_have_a_type_with_a_name(committed: dict[str, Any]) -> None:
    """Code generators refuse a list without items. They invent a name for an unnamed object."""
    lists = [schema for schema in inner_schemas(committed) if schema.get("type") == "array"]
    assert len(lists) > 5
    for schema in lists:
        assert "$ref" in schema["items"] or schema["items"]["type"] not in ("object", "array")
    for name, schema in committed["components"]["schemas"].items():
        assert schema["type"] != "array", f"a generator leaves out {name}"


def test_code_generators_can_read_what_is_sent(committed: dict[str, Any]) -> None:
    """The schemas are plain objects: many generators fail at a choice between schemas."""

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
