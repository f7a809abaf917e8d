"""What the schema lets a client send, the server accepts, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from s3direct_uploads.destinations import MAX_OBJECT_SIZE, MIN_PART_SIZE
from s3direct_uploads.models import Upload
from tests.conftest import URL, App
from tests.openapi.conftest import assert_as_described, validator


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
def test_the_schema_takes_the_declarations_that_begin_takes(
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
def test_the_schema_takes_the_sizes_that_begin_in_parts_takes(
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
def test_the_schema_takes_the_part_numbers_that_the_server_takes(
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
