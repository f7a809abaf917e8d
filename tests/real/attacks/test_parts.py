"""A file in parts: late parts, another checksum, and an object that is already there."""

from __future__ import annotations

import base64
import time
import zlib
from typing import Any

import pytest

from tests.conftest import FILM, LAST, App, Bucket, begin_last_part, row

from .conftest import OTHER, Sent, assert_parts_still_work, set_settings

pytestmark = pytest.mark.attack


@pytest.mark.usefixtures("films")
def test_s3_refuses_an_expired_part(alice: App, s3: Bucket, settings: Any) -> None:
    set_settings(settings, URL_EXPIRES=1)
    upload, part = begin_last_part(alice)
    time.sleep(1.3)
    assert Sent.of(part, LAST).send() == 403
    set_settings(settings, URL_EXPIRES=3600)
    [renewed] = alice.sign_parts(str(upload.pk), [1]).json()["parts"]
    assert_parts_still_work(alice, s3, upload, {"method": "PUT", **renewed})


@pytest.mark.usefixtures("films")
@pytest.mark.parametrize("end", ["completed", "cancelled", "rejected", "deleted"])
def test_s3_refuses_a_part_of_an_upload_that_is_settled(alice: App, s3: Bucket, end: str) -> None:
    crc32 = base64.b64encode(zlib.crc32(b"rejected" if end == "rejected" else LAST).to_bytes(4))
    upload, part = begin_last_part(alice, checksum={"algorithm": "CRC32", "value": crc32.decode()})
    id = str(upload.pk)
    assert Sent.of(part, LAST).send() == 200
    if end != "cancelled":
        assert alice.confirm(id).status_code == (422 if end == "rejected" else 200)
    if end in ("cancelled", "deleted"):
        assert alice.delete(id).status_code == 204

    assert Sent.of(part, LAST[::-1]).send() == 404

    assert alice.sign_parts(id, [1]).status_code == 410
    assert alice.renew(id).status_code == 410
    upload.refresh_from_db()
    assert upload.status == end
    # The object of a deleted upload stays until its key closes.
    assert s3.read(upload) == (LAST if end in ("completed", "deleted") else None)
    assert s3.open_multiparts(upload) == []


@pytest.mark.usefixtures("films")
def test_a_part_that_ends_after_cancel_leaves_nothing(alice: App, s3: Bucket) -> None:
    upload, part = begin_last_part(alice)
    slow = Sent.of(part, LAST).start(LAST[:3])
    time.sleep(0.1)
    assert alice.delete(str(upload.pk)).status_code == 204
    slow.send(LAST[3:])
    assert slow.getresponse().status in (200, 404)
    slow.close()
    assert row(alice.get(f"{upload.pk}/")).status == "cancelled"
    assert s3.open_multiparts(upload) == []
    assert s3.read(upload) is None


def crc64nvme(body: bytes) -> bytes:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = (crc >> 1) ^ (0x9A6C9329AC4BC9B5 if crc & 1 else 0)
        table.append(crc)
    crc = 2**64 - 1
    for byte in body:
        crc = table[(crc ^ byte) & 255] ^ (crc >> 8)
    return (crc ^ (2**64 - 1)).to_bytes(8)


@pytest.mark.usefixtures("films")
@pytest.mark.parametrize("declared", ["right", "wrong"])
@pytest.mark.parametrize("algorithm", ["CRC32", "CRC64NVME"])
def test_the_checksum_of_the_whole_file_is_compared_by_s3_or_django(
    alice: App, s3: Bucket, algorithm: str, declared: str
) -> None:
    body = FILM if declared == "right" else OTHER
    value = zlib.crc32(body).to_bytes(4) if algorithm == "CRC32" else crc64nvme(body)
    checksum = {"algorithm": algorithm, "value": base64.b64encode(value).decode()}
    begun = alice.begin_film(checksum=checksum)
    assert alice.send_parts(begun.json()["multipart"]["parts"]) == [200, 200]

    answers = [alice.confirm(begun.json()["id"]) for _ in range(2)]

    assert answers[0].json() == answers[1].json()
    upload = row(begun)
    if declared == "right":
        assert (answers[0].status_code, upload.status) == (200, "completed")
        found = s3.client.head_object(Bucket=s3.name, Key=upload.key, ChecksumMode="ENABLED")
        assert found[f"Checksum{algorithm}"] == checksum["value"]
    else:
        assert (answers[0].status_code, answers[0].json()["code"]) == (422, "object_mismatch")
        assert (upload.status, upload.due_at) == ("rejected", upload.key_closes_at)
    # Ceph refuses a wrong CRC32 at Complete. With a wrong CRC64NVME it makes an object.
    made = declared == "right" or algorithm == "CRC64NVME"
    assert s3.read(upload) == (FILM if made else None)
    assert s3.open_multiparts(upload) == []


@pytest.mark.usefixtures("films")
@pytest.mark.parametrize("body", [b"smuggled", b"THE END"])
def test_complete_overwrites_no_object(alice: App, s3: Bucket, body: bytes) -> None:
    """Somebody with our rights stored it. Of our own requests only Complete writes to the key."""
    crc32 = base64.b64encode(zlib.crc32(LAST).to_bytes(4)).decode()
    upload, part = begin_last_part(alice, checksum={"algorithm": "CRC32", "value": crc32})
    s3.write(upload, body, ChecksumAlgorithm="CRC32")
    assert Sent.of(part, LAST).send() == 200
    answer = alice.confirm(str(upload.pk))
    assert (answer.status_code, answer.json()["code"]) == (422, "object_mismatch")
    upload.refresh_from_db()
    assert (upload.status, upload.due_at) == ("rejected", upload.key_closes_at)
    assert s3.read(upload) == body, "Complete overwrites nothing"
    assert s3.open_multiparts(upload) == []
