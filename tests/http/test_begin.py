"""Begin: one row, and one signed request that pins what was declared."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from s3direct_uploads.models import Upload
from tests.conftest import JPEG, App, Bucket, assert_error, row
from tests.host_app import Albums


def test_without_credentials_begin_leaves_no_row(
    alice: App, storage_options: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    storage_options(access_key=None, secret_key=None)
    answer = alice.begin()
    assert (answer.status_code, answer.json()["code"]) == (503, "bucket_unavailable")
    assert not Upload.objects.exists()


def test_the_signature_pins_what_was_declared(alice: App) -> None:
    request = alice.begin().json()["request"]
    query = parse_qs(urlsplit(request["url"]).query)
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-SignedHeaders"] == ["content-length;content-type;host;if-none-match"]


def test_the_key_is_ours_and_says_nothing_of_the_row(alice: App) -> None:
    one, two = (row(alice.begin(filename="../x y.jpg".replace("/", "_"))) for _ in range(2))
    location, prefix, segment, tail = one.key.split("/")
    assert (location, prefix, len(segment), tail) == ("site", "photos", 33, "_x-y.jpg")
    assert one.name == f"photos/{segment}/{tail}"
    assert one.key != two.key
    assert str(one.pk) not in one.key
    assert one.pk < two.pk, "ids are ordered by time"


def test_begin_is_one_insert_and_asks_s3_nothing(
    alice: App, s3_calls: list[str], django_assert_num_queries: Any
) -> None:
    alice.begin()
    s3_calls.clear()
    with django_assert_num_queries(3) as queries:
        assert alice.begin().status_code == 201
    session, user, insert = (query["sql"] for query in queries.captured_queries)
    assert "django_session" in session
    assert "auth_user" in user
    assert insert.startswith("INSERT")
    assert s3_calls == []


@pytest.mark.parametrize(
    ("algorithm", "value"),
    [
        ("SHA256", base64.b64encode(hashlib.sha256(JPEG).digest()).decode()),
        ("CRC32", base64.b64encode(zlib.crc32(JPEG).to_bytes(4)).decode()),
    ],
)
def test_a_declared_checksum_is_signed_and_compared(
    alice: App, s3: Bucket, algorithm: str, value: str
) -> None:
    begun = alice.begin(checksum={"algorithm": algorithm, "value": value}).json()
    assert begun["request"]["headers"][f"x-amz-checksum-{algorithm.lower()}"] == value
    signed = parse_qs(urlsplit(begun["request"]["url"]).query)["X-Amz-SignedHeaders"][0]
    assert f"x-amz-checksum-{algorithm.lower()}" in signed.split(";")
    assert alice.send(begun["request"]) == 200
    assert row(alice.confirm(begun["id"])).status == "completed"


def test_a_crc64nvme_is_signed(alice: App) -> None:
    begun = alice.begin(checksum={"algorithm": "CRC64NVME", "value": "AAAAAAAAAAA="}).json()
    assert begun["request"]["headers"]["x-amz-checksum-crc64nvme"] == "AAAAAAAAAAA="


def test_hooks_see_the_context_as_it_is_kept(alice: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def has_permission(self: Albums, upload: Upload, request: Any) -> bool:
        return bool(upload.context["album"] > 0)

    monkeypatch.setattr(Albums, "has_permission", has_permission)
    for context in ({}, {"album": "x"}, None):
        answer = alice.begin(destination="albums", context=context)
        assert_error(answer, 400, "invalid")
    assert alice.begin(destination="albums", context={"album": 1}).status_code == 201
    assert alice.begin(destination="albums", context={"album": 0}).status_code == 403
