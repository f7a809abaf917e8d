"""A declared checksum, and what the host adds to the request: S3 refuses other values."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.storage import storages

from tests.conftest import JPEG, App, Bucket

from .conftest import OTHER, Sent, assert_still_works, set_settings

pytestmark = pytest.mark.attack

SHA256 = {
    "algorithm": "SHA256",
    "value": base64.b64encode(hashlib.sha256(JPEG).digest()).decode(),
}
CRC32 = {"algorithm": "CRC32", "value": base64.b64encode(zlib.crc32(JPEG).to_bytes(4)).decode()}


@pytest.mark.parametrize(
    ("checksum", "attack", "status"),
    [
        pytest.param(SHA256, lambda it: it.carry(OTHER), 400, id="SHA256: other bytes"),
        pytest.param(CRC32, lambda it: it.carry(OTHER), 400, id="CRC32: other bytes"),
        *(
            pytest.param(
                SHA256, lambda it, header=header: it.drop(header), 403, id=f"without {header}"
            )
            for header in (
                "Content-Type",
                "If-None-Match",
                "x-amz-sdk-checksum-algorithm",
                "x-amz-checksum-sha256",
            )
        ),
        pytest.param(
            SHA256,
            lambda it: it.change(
                "x-amz-checksum-sha256", base64.b64encode(hashlib.sha256(OTHER).digest()).decode()
            ),
            403,
            id="SHA256: the other bytes' own",
        ),
        pytest.param(
            SHA256,
            lambda it: it.change("x-amz-sdk-checksum-algorithm", "CRC32"),
            403,
            id="SHA256: named another",
        ),
    ],
)
def test_s3_refuses_bytes_that_differ_from_the_declared_checksum(
    alice: App,
    s3: Bucket,
    checksum: dict[str, str],
    attack: Callable[[Sent], None],
    status: int,
) -> None:
    begun = alice.begin(checksum=checksum).json()
    it = Sent.of(begun["request"], OTHER)
    attack(it)
    assert it.send() == status
    assert_still_works(alice, s3, begun)


@pytest.mark.parametrize("header", ["Cache-Control", "x-amz-meta-by", "x-amz-tagging", "x-amz-acl"])
@pytest.mark.parametrize("value", [None, "public-read-write"])
def test_object_parameters_of_the_host_cannot_be_left_out_or_changed(
    alice: App,
    s3: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    header: str,
    value: str | None,
) -> None:
    parameters = {"CacheControl": "private", "Metadata": {"by": "us"}, "Tagging": "a=b"}
    monkeypatch.setattr(storages["default"], "object_parameters", parameters)
    rules = {"MAX_SIZE": 100, "CONTENT_TYPES": ["image/*"], "ACL": "private"}
    set_settings(settings, DESTINATIONS={"photos": rules})
    begun = alice.begin().json()
    it = Sent.of(begun["request"])
    it.drop(header)
    if value is not None:
        it.add(header, value)
    assert it.send() == 403
    assert_still_works(alice, s3, begun)
