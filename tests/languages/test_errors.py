"""No answer mixes two languages: each error of the HTTP contract, in Korean."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import override_settings
from django.utils.translation import override
from rest_framework.authentication import BasicAuthentication
from rest_framework.throttling import UserRateThrottle

from s3direct_uploads.destinations import format_size
from s3direct_uploads.models import Upload
from s3direct_uploads.serializers import UploadField
from s3direct_uploads.views import UploadViewSet
from tests.conftest import JPEG, ROOT, URL, App, Bucket, Visitor
from tests.languages.conftest import HANGUL, assert_korean, speaks_languages, with_headers
from tests.openapi import test_answers

[_, CASES] = test_answers.test_a_real_answer_is_as_its_schema_says.pytestmark[0].args
ERRORS = [(provoke, code) for provoke, _, _, code in CASES if code]


def assert_in_korean(answer: Any, sent: tuple[str, ...] = ()) -> dict[str, Any]:
    """The detail of an error, and of each of its items."""
    body: dict[str, Any] = answer.json()
    assert answer.status_code >= 400, body
    for each in [body, *body["errors"]]:
        assert_korean(each["detail"], sent)
    if body.get("upload") and body["upload"]["reason"]:
        assert_korean(body["upload"]["reason"], sent)
    return body


@pytest.mark.parametrize(("provoke", "code"), ERRORS)
def test_every_error_of_the_contract(
    alice: App, korean: dict[str, str], provoke: Callable[[App], Any], code: str
) -> None:
    with_headers(alice, korean)
    assert assert_in_korean(provoke(alice))["code"] == code


def test_these_are_all_errors_of_the_contract() -> None:
    described = set(re.findall(r"- `(\w+)`: ", (ROOT / "docs/openapi.yaml").read_text()))
    here = {"misconfigured", "storage_not_s3", "bucket_unavailable", "parse_error"}
    here |= {
        "not_authenticated",
        "authentication_failed",
        "permission_denied",
        "throttled",
        "not_in_batch",
    }
    assert described - {code for _, code in ERRORS} - here == {"owner_unknown"}


def test_owner_unknown(korean: dict[str, str]) -> None:
    from s3direct_uploads.exceptions import OwnerUnknown
    from s3direct_uploads.models import owner_key

    with pytest.raises(OwnerUnknown) as raised:
        owner_key(None)
    assert str(raised.value) == "The owner must be a saved auth.User."
    with override("ko"):
        assert_korean(raised.value.detail)


def test_503s(
    alice: App, korean: dict[str, str], s3_away: Callable[[], None], settings: Any
) -> None:
    with_headers(alice, korean)
    id = alice.begin().json()["id"]
    s3_away()
    assert assert_in_korean(alice.confirm(id))["code"] == "bucket_unavailable"
    # A batch asks S3 in threads, which have no language.
    [result] = alice.confirm_batch([id]).json()["results"]
    assert_korean(result["error"]["detail"])
    memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
    settings.STORAGES = {**settings.STORAGES, "default": memory}
    assert assert_in_korean(alice.begin())["code"] == "storage_not_s3"
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": {"MAX_SIZE": "huge"}}}
    assert assert_in_korean(alice.begin())["code"] == "misconfigured"


def test_401_403_404_405_and_429(
    alice: App, nobody: App, korean: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for app in (alice, nobody):
        with_headers(app, korean)
    assert assert_in_korean(nobody.begin())["code"] == "not_authenticated"
    album: dict[str, Any] = {"destination": "albums", "context": {"album": 1}}
    forbidden = alice.begin(filename="forbidden.jpg", **album)
    assert assert_in_korean(forbidden)["code"] == "permission_denied"
    assert_in_korean(alice.client.put(URL))
    assert_in_korean(alice.get("unknown/"))

    class OnceADay(UserRateThrottle):
        scope = "once_a_day"
        rate = "1/day"

    monkeypatch.setattr(UploadViewSet, "throttle_classes", [OnceADay])
    alice.get()
    assert assert_in_korean(alice.get())["code"] == "throttled"


def test_authentication_failed(
    nobody: App, korean: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UploadViewSet, "authentication_classes", [BasicAuthentication])
    for said in ("Basic", "Basic a b", "Basic é", "Basic YTpi"):
        with_headers(nobody, {**korean, "Authorization": said})
        assert assert_in_korean(nobody.begin())["code"] == "authentication_failed"


def test_csrf(alice: App, korean: dict[str, str]) -> None:
    with_headers(alice, korean)
    alice.client.handler.enforce_csrf_checks = True
    assert_in_korean(alice.begin())
    alice.client.cookies["csrftoken"] = "x" * 32
    assert_in_korean(alice.begin())


@pytest.mark.parametrize("body", ["{", "", "[1", '{"a": 1e999}', "[" * 9000, "\0", '"\\ud800'])
def test_json_that_is_none(alice: App, korean: dict[str, str], body: str) -> None:
    with_headers(alice, korean)
    assert_in_korean(alice.client.post(URL, body, content_type="application/json"))


WRONG = [
    None,
    "",
    " ",
    1,
    -1,
    1.5,
    10**30,
    "9" * 2000,
    True,
    [],
    {},
    [1],
    {"a": 1},
    "\0",
    "x" * 300,
]
DECLARED = ["destination", "filename", "size", "content_type", "checksum", "context", "multipart"]


@pytest.mark.parametrize("field", DECLARED)
def test_a_declaration_that_is_wrong(alice: App, korean: dict[str, str], field: str) -> None:
    with_headers(alice, korean)
    wrong: list[dict[str, Any]] = [{field: each} for each in WRONG]
    refused = [answer for each in wrong if (answer := alice.begin(**each)).status_code > 201]
    assert len(refused) > 3
    for answer in refused:
        assert_in_korean(answer)


@pytest.mark.parametrize(
    ("destination", "declaration", "code"),
    [
        ({}, {"filename": "x" * 256}, "max_length"),
        ({}, {"filename": "\u200b"}, "blank"),
        ({}, {"filename": "a/b.jpg"}, "path"),
        ({}, {"filename": "a\x07.jpg"}, "characters"),
        ({}, {"content_type": "jpeg"}, "malformed"),
        ({}, {"content_type": "text/plain"}, "not_allowed"),
        ({}, {"content_type": "image/svg+xml"}, "not_allowed"),
        ({}, {"size": 21 * 1024**3}, "too_large"),
        ({}, {"size": 1}, "too_small"),
        ({"MAX_SIZE": 6 * 1024**3}, {"size": 5 * 1024**3 + 1}, "multipart_required"),
        ({"REQUIRE_CHECKSUM": True}, {}, "required"),
        ({}, {"checksum": {"algorithm": "MD5", "value": "YQ=="}}, "unknown_algorithm"),
        ({}, {"checksum": {"algorithm": "SHA256", "value": "YQ=="}}, "malformed"),
        ({}, {"checksum": {"algorithm": "SHA256"}}, "required"),
        (
            {"PART_SIZE": 5 * 1024**2},
            {
                "size": 6 * 1024**2,
                "multipart": True,
                "checksum": {"algorithm": "SHA256", "value": "YQ=="},
            },
            "not_for_multipart",
        ),
        ({}, {"context": {"a": 1}}, "not_allowed"),
        ({}, {"context": {"a": "x" * 2000}}, "too_large"),
        ({}, {"context": {"a": "\0"}}, "invalid"),
    ],
)
def test_each_rule_of_a_destination(
    alice: App,
    korean: dict[str, str],
    destination: dict[str, Any],
    declaration: dict[str, Any],
    code: str,
) -> None:
    with_headers(alice, korean)
    photos = {"MAX_SIZE": 20 * 1024**2, "MIN_SIZE": 2, "CONTENT_TYPES": ["image/*"], **destination}
    with override_settings(S3DIRECT_UPLOADS={"DESTINATIONS": {"photos": photos}}):
        body = assert_in_korean(alice.begin(**declaration))
    assert [each["code"] for each in body["errors"]] == [code]


def test_a_query_that_is_wrong(alice: App, korean: dict[str, str]) -> None:
    with_headers(alice, korean)
    for query in ({"size": -1}, {"size": 2**70}, {"status": "new"}, {"cursor": "x"}):
        assert_in_korean(alice.get(**query))
    assert_in_korean(alice.get(filename="x" * 9000))
    id = alice.upload().json()["id"]
    assert_in_korean(alice.get(f"{id}/url/", disposition="x"))
    assert_in_korean(alice.begin(headers={"Idempotency-Key": "é"}))


def test_a_batch_that_is_wrong(alice: App, korean: dict[str, str]) -> None:
    with_headers(alice, korean)
    bodies: list[Any] = [{}, {"uploads": 1}, {"uploads": []}, {"uploads": [{}] * 101}]
    for body in bodies:
        assert_in_korean(alice.client.post(f"{URL}batch/", body, format="json"))
    [result] = alice.begin_batch(1).json()["results"]
    assert_korean(result["error"]["detail"])


def test_visitors(visitor: Visitor, korean: dict[str, str]) -> None:
    with_headers(visitor, korean)
    assert_in_korean(visitor.begin(headers={"Idempotency-Key": "short"}))


def test_a_rejection_is_stored_in_english_and_told_in_korean(
    alice: App, korean: dict[str, str]
) -> None:
    with_headers(alice, korean)
    body = assert_in_korean(test_answers.provoke_mismatch(alice))
    upload = Upload.objects.get()
    assert upload.reason == "A header was sent that nobody signed: ContentEncoding."
    assert body["detail"] == body["upload"]["reason"] == upload_reason_in_korean(upload)
    assert alice.get(f"{upload.pk}/").json()["reason"] == body["detail"]


def upload_reason_in_korean(upload: Upload) -> str:
    with override("ko"):
        return upload.localized_reason


def test_a_hosts_own_reason_stays_as_it_was_written(
    alice: App, korean: dict[str, str], s3: Bucket
) -> None:
    with_headers(alice, korean)
    body = b"x" * 13  # see tests/host_app.py
    begun = alice.begin(destination="albums", context={"album": 1}, size=13).json()
    alice.send(begun["request"], body)
    assert alice.confirm(begun["id"]).json()["detail"] == "Thirteen bytes bring bad luck."


def test_two_readers_get_two_languages_one_after_the_other(alice: App, settings: Any) -> None:
    """REST Framework keeps some texts in the language of the first request."""
    korean = speaks_languages(settings)
    told = []
    for headers in ({}, korean, {}, korean):
        with_headers(alice, headers)
        answers = [
            alice.get(size=-1),
            alice.get(size=2**70),
            alice.begin(size=-1),
            alice.begin(size=1e3),
        ]
        told.append([each.json()["detail"] for each in answers if each.status_code >= 400])
    assert told[0] == told[2] != told[1] == told[3]
    assert not HANGUL.search("".join(told[0]))
    for each in told[1]:
        assert_korean(each)


@pytest.mark.parametrize("code", sorted(UploadField.default_error_messages))
def test_the_serializers_field(code: str) -> None:
    with override("ko"):
        assert_korean(str(UploadField.default_error_messages[code]))


def test_sizes_are_told_in_the_readers_language(alice: App, settings: Any) -> None:
    photos = {"MAX_SIZE": 1536, "MIN_SIZE": 1000, "CONTENT_TYPES": ["image/*"]}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": photos}}
    told = {}
    for settings.LANGUAGE_CODE in ("en", "ko", "de"):
        told[settings.LANGUAGE_CODE] = [
            alice.begin(size=size).json()["errors"][0]["detail"] for size in (2000, len(JPEG))
        ]
    assert told == {
        "en": ["At most 1.5 kB.", "At least 1,000 bytes."],
        "ko": ["최대 1.5kB입니다.", "최소 1,000바이트이어야 합니다."],
        "de": ["At most 1,5 kB.", "At least 1.000 bytes."],
    }


SIZES = json.loads((ROOT / "tests/js/sizes.json").read_text())


@pytest.mark.parametrize(("size", "english", "korean"), SIZES)
def test_a_size_is_told_as_the_page_tells_it(size: int, english: str, korean: str) -> None:
    with override("en"):
        assert format_size(size) == english
    with override("ko"):
        assert format_size(size) == korean


def test_a_size_beside_its_limit_never_looks_the_same(alice: App, settings: Any) -> None:
    """Or a file of 1.9 MB would be too large for 1.9 MB."""
    photos = {"MAX_SIZE": 1_950_000, "MIN_SIZE": 1_500, "CONTENT_TYPES": ["image/*"]}
    settings.S3DIRECT_UPLOADS = {
        "DESTINATIONS": {"photos": {**photos, "MAX_TOTAL_SIZE": 1_900_000}}
    }
    said = [
        alice.begin(size=size).json()["detail"]
        for size in (1_950_001, 3_000_000, 1_499, 1_100, 1_900_001)
    ]
    assert said == [
        "size: At most 1,950,000 bytes.",
        "size: At most 1.9 MB.",
        "size: At least 1,500 bytes.",
        "size: At least 1.5 kB.",
        "1,900,000 bytes of 1.8 MB are left.",
    ]
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": {**photos, "MAX_SIZE": 2**40}}}
    said = [alice.begin(size=size).json()["detail"] for size in (5 * 1024**3 + 1, 2**35)]
    assert said == [
        "size: A file of more than 5,368,709,120 bytes needs a multipart upload.",
        "size: A file of more than 5 GB needs a multipart upload.",
    ]


# The source.

PACKAGE = ROOT / "s3direct_uploads"
# Read by machines: S3, SNS and SQS.
FOR_MACHINES = {"MalformedEvent", "SNSTopicNotAllowed", "SNSSignatureWrong", "SNSUnavailable"}
FOR_MACHINES |= {"QueueUnavailable"}
# Read by developers.
FOR_DEVELOPERS = {"ImproperlyConfigured", "ValueError", "TypeError", "RuntimeError", "CommandError"}
FOR_DEVELOPERS |= {"TransactionManagementError", "KeyError", "FileNotFoundError"}


def untranslated(source: str) -> Iterator[str]:
    """The errors in a source whose text is no gettext's."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = (
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        )
        is_error = re.fullmatch(
            r"ValidationError|NotFound|ParseError|RequestTooLarge|PermissionDenied|ErrorDetail|"
            r"[A-Z]\w*(Missing|Gone|Mismatch|Unavailable|Misconfigured|Lost|NotS3|Failed|Exceeded|"
            r"Pending|Completed|Held|Attached|Multipart|Destination|TooLong|Database|Unknown|Reused|"
            r"InBatch)",
            name,
        )
        text = node.args[0]
        is_text = isinstance(text, ast.JoinedStr) or (
            isinstance(text, ast.Constant) and isinstance(text.value, str)
        )
        if is_error and is_text and name not in FOR_MACHINES:
            yield ast.unparse(node)


def test_every_error_has_a_text_that_can_be_translated() -> None:
    found: list[str] = []
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name not in ("openapi", "commands") and path.name != "sweeping.py":
            found += untranslated(path.read_text())
    assert found == []
    assert (
        list(untranslated('raise NotPending("No.")\nraise ValidationError(f"{x}", code=1)')) != []
    )
    assert list(untranslated('raise NotPending(_("No."))\nraise MalformedEvent("No.")')) == []
