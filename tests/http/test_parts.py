"""Sign parts, and list parts: what cannot be signed, and where there are no parts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from s3direct_uploads.models import Upload
from tests.conftest import URL, App, assert_error
from tests.http.conftest import ABSENT, begin_in_parts


@pytest.mark.parametrize(
    ("part_numbers", "field", "code"),
    [
        (ABSENT, "part_numbers", "required"),
        (None, "part_numbers", "null"),
        ([], "part_numbers", "empty"),
        (1, "part_numbers", "not_a_list"),
        ("1", "part_numbers", "not_a_list"),
        ({"0": 1}, "part_numbers", "not_a_list"),
        (["1"], "part_numbers.0", "invalid"),
        ([1, "2"], "part_numbers.1", "invalid"),
        ([True], "part_numbers.0", "invalid"),
        ([None], "part_numbers.0", "null"),
        ([1.5], "part_numbers.0", "invalid"),
        ([[1]], "part_numbers.0", "invalid"),
        ([{"part_number": 1}], "part_numbers.0", "invalid"),
        ([0], "part_numbers", "out_of_range"),
        ([-1], "part_numbers", "out_of_range"),
        ([1, 2, 3], "part_numbers", "out_of_range"),
        ([10_001], "part_numbers", "out_of_range"),
        ([2**63], "part_numbers", "out_of_range"),
        ([10**400], "part_numbers", "out_of_range"),
        ([1] * 1001, "part_numbers", "max_length"),
    ],
)
def test_part_numbers_that_cannot_be_signed_are_a_400(
    alice: App, s3_calls: list[str], part_numbers: Any, field: str, code: str
) -> None:
    id = begin_in_parts(alice)
    before = Upload.objects.values().get()
    s3_calls.clear()
    body = "{}" if part_numbers is ABSENT else json.dumps({"part_numbers": part_numbers})
    answer = alice.client.post(f"{URL}{id}/parts/", body, content_type="application/json")

    errors = assert_error(answer, 400, "invalid")["errors"]
    assert [(error["field"], error["code"]) for error in errors] == [(field, code)]
    assert Upload.objects.values().get() == before
    assert s3_calls == []


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        ("{", "application/json", 400, "parse_error"),
        ("", "application/json", 400, "invalid"),
        ("[1]", "application/json", 400, "invalid"),
        ("null", "application/json", 400, "invalid"),
        ("[" * 16_000, "application/json", 400, "parse_error"),
        ('{"part_numbers":' * 1_000, "application/json", 400, "parse_error"),
        (f'{{"part_numbers": {"[" * 900}{"]" * 900}}}', "application/json", 400, "invalid"),
        (f'{{"part_numbers": [{"9" * 5000}]}}', "application/json", 400, "parse_error"),
        ('{"part_numbers": [1e400]}', "application/json", 400, "invalid"),
        ('{"part_numbers": [NaN]}', "application/json", 400, "parse_error"),
        (f"[{'1,' * 600_000}1]", "application/json", 413, "request_too_large"),
        ("part_numbers=1", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
    ],
)
def test_a_body_that_lists_no_parts_has_a_code(
    alice: App, body: str, content_type: str, status: int, code: str
) -> None:
    url = f"{URL}{begin_in_parts(alice)}/parts/"
    assert_error(alice.client.post(url, body, content_type=content_type), status, code)


def test_the_error_says_how_many_parts_there_are(alice: App) -> None:
    answer = alice.sign_parts(begin_in_parts(alice), [2, 3])
    assert assert_error(answer, 400, "invalid")["errors"] == [
        {
            "field": "part_numbers",
            "code": "out_of_range",
            "detail": "This upload has the parts 1 to 2.",
            "params": {"max_part_number": 2},
        }
    ]


@pytest.mark.parametrize("declaration", [{}, {"multipart": True}, {"multipart": None}])
def test_one_put_has_no_parts(alice: App, s3_calls: list[str], declaration: dict[str, Any]) -> None:
    begun = alice.begin(**declaration).json()
    id = begun["id"]
    for answer in (alice.parts(id), alice.sign_parts(id, [1])):
        body = assert_error(answer, 409, "not_multipart")
        assert (body["upload"]["id"], body["upload"]["status"]) == (id, "pending")
    assert s3_calls == []
    assert alice.send(begun["request"]) == 200
    assert alice.confirm(id).json()["status"] == "completed"
