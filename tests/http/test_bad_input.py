"""What a client gets wrong at begin: a 4xx with a stable code, and no row is left."""

from __future__ import annotations

import json
from typing import Any

import pytest

from s3direct_uploads.models import Upload
from tests.conftest import URL, App, assert_error, row
from tests.http.conftest import ABSENT, LARGE

SHA256 = f"{'A' * 43}="


@pytest.mark.parametrize(
    ("field", "value", "error_field", "code"),
    [
        ("destination", "nowhere", "destination", "unknown"),
        ("destination", ABSENT, "destination", "required"),
        ("destination", "", "destination", "blank"),
        ("destination", ["photos"], "destination", "invalid"),
        ("destination", "pho\0tos", "destination", "null_characters_not_allowed"),
        ("size", ABSENT, "size", "required"),
        ("size", None, "size", "null"),
        ("size", -1, "size", "too_small"),
        ("size", 20 * 1024**2 + 1, "size", "too_large"),
        ("size", 2**63, "size", "too_large"),
        ("size", 10**400, "size", "too_large"),
        ("size", "many", "size", "invalid"),
        ("size", 1.5, "size", "invalid"),
        ("size", True, "size", "invalid"),
        ("size", "9" * 2000, "size", "max_string_length"),
        ("size", [1], "size", "invalid"),
        ("content_type", "text/html", "content_type", "not_allowed"),
        ("content_type", "image/svg+xml", "content_type", "not_allowed"),
        ("content_type", "javascript:alert(1)", "content_type", "malformed"),
        ("content_type", "image/", "content_type", "malformed"),
        ("content_type", "image/*", "content_type", "malformed"),
        ("content_type", "image/png\r\nX-Evil: 1", "content_type", "malformed"),
        ("content_type", 'image/png; a="\n"', "content_type", "malformed"),
        ("content_type", "image/png;\r\n a=b", "content_type", "malformed"),
        ("content_type", "image/png;\ta=b", "content_type", "malformed"),
        ("content_type", f"image/{'x' * 300}", "content_type", "malformed"),
        ("content_type", 5, "content_type", "malformed"),
        ("filename", ABSENT, "filename", "required"),
        ("filename", "", "filename", "blank"),
        ("filename", "   ", "filename", "blank"),
        ("filename", "..", "filename", "path"),
        ("filename", "x" * 2000 + ".jpg", "filename", "max_length"),
        ("filename", "../../etc/passwd", "filename", "path"),
        ("filename", "/etc/passwd", "filename", "path"),
        ("filename", "C:\\fakepath\\beach.jpg", "filename", "path"),
        ("filename", "a\0.jpg", "filename", "null_characters_not_allowed"),
        ("filename", "a\n.jpg", "filename", "characters"),
        ("filename", "\u200f", "filename", "blank"),
        ("filename", "\ufeff \u2066\u2069\u200b", "filename", "blank"),
        ("filename", "\u200d.\u200d", "filename", "path"),
        ("filename", "\u202e..", "filename", "path"),
        ("filename", "\ud800.jpg", "filename", "surrogate_characters_not_allowed"),
        ("filename", {"a": 1}, "filename", "invalid"),
        ("context", {"album": 1}, "context", "not_allowed"),
        ("context", [1], "context", "not_a_dict"),
        ("context", "album 1", "context", "not_a_dict"),
        ("checksum", {"algorithm": "MD5", "value": "AAAA"}, "checksum", "unknown_algorithm"),
        ("checksum", {"algorithm": "SHA256", "value": "AAAA"}, "checksum", "malformed"),
        ("checksum", {"algorithm": "CRC32", "value": "not base64"}, "checksum", "malformed"),
        ("checksum", {"algorithm": "CRC32", "value": "AAAAAB=="}, "checksum", "malformed"),
        ("checksum", {"algorithm": "CRC32", "value": "é"}, "checksum", "malformed"),
        ("checksum", {"algorithm": "CRC32"}, "checksum.value", "required"),
        ("checksum", "SHA256", "checksum", "invalid"),
        ("multipart", "true", "multipart", "invalid"),
        ("multipart", "", "multipart", "invalid"),
        ("multipart", 1, "multipart", "invalid"),
        ("multipart", 0, "multipart", "invalid"),
        ("multipart", [True], "multipart", "invalid"),
        ("multipart", {"part_size": 5 * 1024**2}, "multipart", "invalid"),
    ],
)
def test_begin_refuses_a_wrong_field_by_its_code(
    alice: App, field: str, value: Any, error_field: str, code: str
) -> None:
    declaration = {
        "destination": "photos",
        "filename": "beach.jpg",
        "content_type": "image/jpeg",
        "size": 5,
        field: value,
    }
    if value is ABSENT:
        del declaration[field]
    body = json.dumps(declaration)
    answer = alice.client.post(URL, body, content_type="application/json")

    errors = assert_error(answer, 400, "invalid")["errors"]
    assert [(error["field"], error["code"]) for error in errors] == [(error_field, code)]
    assert not Upload.objects.exists()


def test_over_5_gib_multipart_is_required(alice: App) -> None:
    body = assert_error(alice.begin(destination="documents", size=6 * 1024**3), 400, "invalid")
    assert body["errors"][0]["code"] == "multipart_required"


@pytest.mark.parametrize(
    ("declaration", "field", "code"),
    [
        ({"size": 20 * 1024**2 + 1}, "size", "too_large"),
        ({"size": 10**400}, "size", "too_large"),
        ({"size": -1}, "size", "too_small"),
        ({"checksum": {"algorithm": "SHA256", "value": SHA256}}, "checksum", "not_for_multipart"),
        ({"checksum": {"algorithm": "MD5", "value": "AAAA"}}, "checksum", "unknown_algorithm"),
        ({"checksum": {"algorithm": "CRC32", "value": "AAAA"}}, "checksum", "malformed"),
        ({"content_type": "text/html"}, "content_type", "not_allowed"),
        ({"filename": "a/b.jpg"}, "filename", "path"),
        ({"destination": "nowhere"}, "destination", "unknown"),
    ],
)
def test_begin_in_parts_refuses_a_wrong_field_by_its_code(
    alice: App, s3_calls: list[str], declaration: dict[str, Any], field: str, code: str
) -> None:
    declaration = {"size": LARGE, "multipart": True, **declaration}
    errors = assert_error(alice.begin(**declaration), 400, "invalid")["errors"]
    assert [(error["field"], error["code"]) for error in errors] == [(field, code)]
    assert not Upload.objects.exists()
    assert s3_calls == []


def test_one_part_is_one_put_and_may_have_any_checksum(alice: App) -> None:
    checksum = {"algorithm": "SHA256", "value": SHA256}
    begun = alice.begin(size=16 * 1024**2, multipart=True, checksum=checksum).json()
    assert begun["multipart"] is None
    assert begun["request"]["headers"]["x-amz-checksum-sha256"] == SHA256


@pytest.mark.parametrize(
    "filename",
    [
        "🏖️.jpg",
        "사진 한 장.jpg",
        "תמונה.jpg",
        "می\u200cخواهم.jpg",
        "👩\u200d👩\u200d👧.jpg",
        "a'b\"c;.jpg",
        "%2e%2e%2f.jpg",
        "x" * 251 + ".jpg",
    ],
)
def test_an_unusual_name_is_kept_as_it_is(alice: App, filename: str) -> None:
    confirmed = alice.upload(filename=filename)
    assert confirmed.json()["filename"] == filename
    upload = row(confirmed)
    assert upload.key.isascii()
    assert ".." not in upload.key
    assert len(upload.name) <= 100


@pytest.mark.parametrize(
    ("context", "code"),
    [
        ({}, "no_album"),
        ({"album": "x" * 1100}, "too_large"),
        ({"album": "a\0b"}, "invalid"),
        ({"album": "\ud800"}, "invalid"),
        ({"album": 1, "status": "completed", "tags": ["x" * 1024]}, "too_large"),
    ],
)
def test_a_context_that_its_destination_does_not_take_is_refused(
    alice: App, context: dict[str, Any], code: str
) -> None:
    declaration = {"destination": "albums", "filename": "a.jpg", "size": 5, "context": context}
    body = json.dumps(declaration)
    answer = alice.client.post(URL, body, content_type="application/json")
    assert assert_error(answer, 400, "invalid")["errors"][0]["code"] == code
    assert not Upload.objects.exists()


def test_a_context_cannot_set_our_columns(alice: App) -> None:
    begun = alice.begin(
        destination="albums",
        context={"album": 1, "status": "completed", "key": "x"},
        status="completed",
    )
    assert begun.json()["context"] == {"album": 1, "tags": []}
    assert row(begun).status == "pending"


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        ("{", "application/json", 400, "parse_error"),
        ("", "application/json", 400, "invalid"),
        (b"\xff\xfe", "application/json", 400, "parse_error"),
        ("[1]", "application/json", 400, "invalid"),
        ("null", "application/json", 400, "invalid"),
        ('{"size": NaN}', "application/json", 400, "parse_error"),
        ("[" * 16_000, "application/json", 400, "parse_error"),
        (
            '{"context":' * 100_000 + "1" + "}" * 100_000,
            "application/json",
            413,
            "request_too_large",
        ),
        ('{"size":' * 2_000, "application/json", 400, "parse_error"),
        (f'{{"size": {"9" * 5000}}}', "application/json", 400, "parse_error"),
        ('{"size": 1e400, "destination": "photos"}', "application/json", 400, "invalid"),
        ("{}", "application/json; charset=rot13", 400, "invalid"),
        ("size=1", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        ("<a/>", "text/xml", 415, "unsupported_media_type"),
        ("{}", "application/jsonp", 415, "unsupported_media_type"),
    ],
)
def test_a_body_that_is_no_json_object_has_a_code(
    alice: App, body: str | bytes, content_type: str, status: int, code: str
) -> None:
    answer = alice.client.post(URL, body, content_type=content_type)
    assert_error(answer, status, code)
    assert not Upload.objects.exists()


def test_a_context_with_infinity_is_refused(alice: App) -> None:
    body = '{"destination": "albums", "filename": "a.jpg", "size": 5, "context": {"album": 1e400}}'
    answer = alice.client.post(URL, body, content_type="application/json")
    assert assert_error(answer, 400, "invalid")["errors"][0]["field"] == "context"


def test_a_checksum_may_be_required(alice: App, settings: Any) -> None:
    rules = {"MAX_SIZE": 100, "CONTENT_TYPES": ["image/*"], "REQUIRE_CHECKSUM": True}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": rules}}
    (error,) = assert_error(alice.begin(), 400, "invalid")["errors"]
    assert (error["field"], error["code"]) == ("checksum", "required")
