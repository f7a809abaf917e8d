"""What a client gets wrong: a 4xx with a stable code in the one shape, and no row is left."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, ErrorDetail

from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload
from s3direct_uploads.views import UploadViewSet
from tests.conftest import URL, App, row
from tests.host_app import Albums

ABSENT = object()
LARGE = 16 * 1024**2 + 1  # two parts
SHA256 = f"{'A' * 43}="
NO_SUCH_ID = "01890a5d-ac96-774b-bcce-b302099a8057"


def assert_error(answer: Any, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), body
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert all(set(error) == {"field", "code", "detail", "params"} for error in body["errors"])
    assert answer["Cache-Control"] == "no-store"
    return body


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
def test_begin_refuses(alice: App, field: str, value: Any, error_field: str, code: str) -> None:
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


def test_an_error_says_what_would_be_right(alice: App) -> None:
    body = alice.begin(size=21 * 1024**2, content_type="text/plain").json()
    assert body == {
        "code": "invalid",
        "detail": "content_type: Not text/plain; allowed: image/*.",
        "errors": [
            {
                "field": "content_type",
                "code": "not_allowed",
                "detail": "Not text/plain; allowed: image/*.",
                "params": {"content_types": ["image/*"]},
            },
            {
                "field": "size",
                "code": "too_large",
                "detail": "At most 20 MiB.",
                "params": {"max_size": 20 * 1024**2},
            },
        ],
    }


def test_over_5_gib_takes_multipart(alice: App) -> None:
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
def test_begin_refuses_in_parts_as_well(
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
def test_a_context_that_its_destination_does_not_take(
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
def test_a_body_that_is_no_json_object(
    alice: App, body: str | bytes, content_type: str, status: int, code: str
) -> None:
    answer = alice.client.post(URL, body, content_type=content_type)
    assert_error(answer, status, code)
    assert not Upload.objects.exists()


def test_a_context_of_infinity_would_break_postgresql(alice: App) -> None:
    body = '{"destination": "albums", "filename": "a.jpg", "size": 5, "context": {"album": 1e400}}'
    answer = alice.client.post(URL, body, content_type="application/json")
    assert assert_error(answer, 400, "invalid")["errors"][0]["field"] == "context"


@pytest.mark.parametrize("key", ["", "x" * 65, "é", "a\tb"])
def test_an_idempotency_key_that_is_none(alice: App, key: str) -> None:
    answer = alice.client.post(URL, {}, format="json", headers={"Idempotency-Key": key})
    assert answer.status_code == 400
    answer = alice.begin(headers={"Idempotency-Key": key})
    assert assert_error(answer, 400, "invalid")["errors"][0]["field"] == "Idempotency-Key"
    assert not Upload.objects.exists()


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"status": "ready"}, "status"),
        ({"size": "x"}, "size"),
        ({"size": 2**63}, "size"),
        ({"size": -1}, "size"),
        ({"filename": "a\0"}, "filename"),
    ],
)
def test_a_list_that_cannot_be(alice: App, query: dict[str, Any], field: str) -> None:
    assert assert_error(alice.get(**query), 400, "invalid")["errors"][0]["field"] == field


@pytest.mark.parametrize("cursor", ["x", "🏖️", "cD0x", "bz0tMQ=="])
def test_a_cursor_of_ones_own_making(alice: App, cursor: str) -> None:
    alice.begin()
    assert alice.get(cursor=cursor).status_code in (200, 400, 404)


def test_a_disposition_that_is_none(alice: App) -> None:
    answer = alice.get(f"{NO_SUCH_ID}/url/", disposition="evil")
    assert assert_error(answer, 400, "invalid")["errors"][0]["field"] == "disposition"


def begin_in_parts(app: App) -> str:
    id: str = app.begin(size=LARGE, multipart=True).json()["id"]
    return id


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
def test_parts_that_cannot_be_signed(
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
def test_a_body_that_lists_no_parts(
    alice: App, body: str, content_type: str, status: int, code: str
) -> None:
    url = f"{URL}{begin_in_parts(alice)}/parts/"
    assert_error(alice.client.post(url, body, content_type=content_type), status, code)


def test_how_many_parts_there_are_is_said(alice: App) -> None:
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
def test_one_put_has_no_parts(alice: App, declaration: dict[str, Any]) -> None:
    id = alice.begin(**declaration).json()["id"]
    for answer in (alice.parts(id), alice.sign_parts(id, [1])):
        body = assert_error(answer, 409, "not_multipart")
        assert (body["upload"]["id"], body["upload"]["status"]) == (id, "pending")


def test_parts_of_what_was_given_up(alice: App) -> None:
    id = begin_in_parts(alice)
    assert alice.delete(id).status_code == 204
    for answer in (alice.parts(id), alice.sign_parts(id, [1])):
        body = assert_error(answer, 410, "not_pending")
        assert body["upload"]["status"] == "cancelled"


ANY_CALL = [
    ("get", ""),
    ("delete", ""),
    ("post", "confirm/"),
    ("post", "renew/"),
    ("get", "parts/"),
    ("post", "parts/"),
    ("get", "url/"),
    ("get", "download/"),
]


def call(app: App, method: str, url: str) -> Any:
    """Of the posts one alone has a body."""
    body = {"part_numbers": [1]} if method == "post" else None
    return getattr(app.client, method)(url, body, format="json")


@pytest.mark.parametrize(("method", "path"), ANY_CALL)
@pytest.mark.parametrize("id", ["theirs", NO_SUCH_ID, "1", "x" * 5000, "a\0b", "%00"])
def test_anothers_upload_is_not_found(
    alice: App, bob: App, method: str, path: str, id: str
) -> None:
    begun = alice.begin().json()
    url = f"{URL}{begun['id'] if id == 'theirs' else id}/{path}"
    assert_error(call(bob, method, url), 404, "not_found")
    assert Upload.objects.get().status == "pending"


@pytest.mark.parametrize(("method", "path"), [("get", ""), ("post", ""), *ANY_CALL])
def test_nobody_may_do_anything(alice: App, nobody: App, method: str, path: str) -> None:
    id = alice.begin().json()["id"]
    url = f"{URL}{id}/{path}" if path else URL
    assert_error(call(nobody, method, url), 403, "not_authenticated")


@pytest.mark.parametrize("method", ["put", "patch", "options", "trace"])
def test_other_methods(alice: App, method: str) -> None:
    id = alice.begin().json()["id"]
    for url in (URL, f"{URL}{id}/", f"{URL}{id}/confirm/", f"{URL}{id}/parts/"):
        assert_error(getattr(alice.client, method)(url), 405, "method_not_allowed")


def test_csrf_is_checked_where_a_session_authenticates(alice: App) -> None:
    begun = alice.begin().json()
    alice.client.handler.enforce_csrf_checks = True
    answers = [
        alice.begin(),
        alice.confirm(begun["id"]),
        alice.renew(begun["id"]),
        alice.sign_parts(begun["id"], [1]),
        alice.delete(begun["id"]),
    ]
    for answer in answers:
        assert "CSRF" in assert_error(answer, 403, "permission_denied")["detail"]
    assert row(alice.get(f"{begun['id']}/")).status == "pending"


def test_a_destination_may_ask_for_a_permission(alice: App, settings: Any) -> None:
    destinations = settings.S3DIRECT_UPLOADS["DESTINATIONS"]
    rules = {**destinations["photos"], "PERMISSION": "tests.add_photo"}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": rules}}
    assert_error(alice.begin(), 403, "permission_denied")
    assert not Upload.objects.exists()


def test_a_hook_may_refuse(alice: App) -> None:
    answer = alice.begin(destination="albums", filename="forbidden.jpg", context={"album": 1})
    assert_error(answer, 403, "permission_denied")
    assert not Upload.objects.exists()


def test_a_checksum_may_be_required(alice: App, settings: Any) -> None:
    rules = {"MAX_SIZE": 100, "CONTENT_TYPES": ["image/*"], "REQUIRE_CHECKSUM": True}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": rules}}
    (error,) = assert_error(alice.begin(), 400, "invalid")["errors"]
    assert (error["field"], error["code"]) == ("checksum", "required")


def test_throttling_is_the_hosts_and_says_when_to_come_back(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rest_framework.throttling import UserRateThrottle

    class OnceAMinute(UserRateThrottle):
        scope = "once_a_minute"  # the cache outlives a test: what others asked does not count here
        rate = "1/min"

    monkeypatch.setattr(UploadViewSet, "throttle_classes", [OnceAMinute])
    assert alice.begin().status_code == 201
    answer = alice.begin()
    assert 1 <= assert_error(answer, 429, "throttled")["retry_after"] <= 60
    assert answer["Retry-After"] == str(answer.json()["retry_after"])


def test_a_bug_of_ours_is_not_hidden(alice: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s3direct_uploads.lifecycle.begin", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        alice.begin()


def test_a_tokens_own_error_keeps_the_one_shape(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    class InvalidToken(AuthenticationFailed):
        """As rest_framework_simplejwt says it."""

        def __init__(self) -> None:
            self.detail = {
                "detail": ErrorDetail("Token is invalid", code="token_not_valid"),
                "code": ErrorDetail("token_not_valid", code="token_not_valid"),
            }

    class Bearer(BaseAuthentication):
        def authenticate(self, request: Any) -> None:
            raise InvalidToken

        def authenticate_header(self, request: Any) -> str:
            return "Bearer"

    monkeypatch.setattr(UploadViewSet, "authentication_classes", [Bearer])
    answer = alice.begin()
    assert assert_error(answer, 401, "token_not_valid")["detail"] == "Token is invalid"
    assert answer["WWW-Authenticate"] == "Bearer"


def test_a_key_without_an_owner_is_a_scripts_mistake(alice: App) -> None:
    with pytest.raises(ValueError, match="owner"):
        lifecycle.begin(
            owner=None, destination="photos", filename="a.jpg", size=1, idempotency_key="k"
        )


def test_hooks_see_the_context_as_it_is_kept(alice: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def has_permission(self: Albums, upload: Upload, request: Any) -> bool:
        return bool(upload.context["album"] > 0)

    monkeypatch.setattr(Albums, "has_permission", has_permission)
    for context in ({}, {"album": "x"}, None):
        answer = alice.begin(destination="albums", context=context)
        assert_error(answer, 400, "invalid")
    assert alice.begin(destination="albums", context={"album": 1}).status_code == 201
    assert alice.begin(destination="albums", context={"album": 0}).status_code == 403
