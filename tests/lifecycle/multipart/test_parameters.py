"""What S3 is told of an upload in parts, and at which of its calls."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from tests.conftest import FILM, REAL, App, Bucket, row
from tests.lifecycle.multipart.conftest import CRC32, Line, code, sent


def test_object_parameters_and_acl_are_told_to_create(
    alice: App, s3: Bucket, storage_options: Callable[..., None], settings: Any
) -> None:
    storage_options(
        object_parameters={
            "CacheControl": "max-age=60",
            "ContentLanguage": "de",
            "Metadata": {"by": "us"},
            "ContentType": "not/ours",
        }
    )
    destinations = settings.S3DIRECT_UPLOADS["DESTINATIONS"]
    public = {**destinations["films"], "ACL": "public-read"}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"films": public}}

    upload = sent(alice)
    # A deploy that changes the storage rejects no upload that was begun before.
    storage_options(object_parameters={"CacheControl": "no-store"})
    confirmed = alice.confirm(str(upload.pk))

    assert confirmed.status_code == 200
    found = s3.client.head_object(Bucket=s3.name, Key=upload.key)
    assert found["ContentType"] == "video/mp4"
    assert (found["CacheControl"], found["ContentLanguage"]) == ("max-age=60", "de")
    assert found["Metadata"] == {"by": "us"}
    grants = s3.client.get_object_acl(Bucket=s3.name, Key=upload.key)["Grants"]
    assert "READ" in {
        each["Permission"]
        for each in grants
        if each["Grantee"].get("URI", "").endswith("/AllUsers")
    }
    assert s3.read(upload) == FILM


def test_complete_says_the_size_and_checksum_of_the_object(
    alice: App, s3: Bucket, told: dict[str, dict[str, Any]]
) -> None:
    upload = sent(alice, checksum=CRC32)
    at = {"Bucket": s3.name, "Key": upload.key}
    assert told["CreateMultipartUpload"] == {
        **at,
        "ContentType": "video/mp4",
        "ChecksumAlgorithm": "CRC32",
        "ChecksumType": "FULL_OBJECT",
    }

    confirmed = alice.confirm(str(upload.pk))

    complete = told["CompleteMultipartUpload"]
    parts = complete.pop("MultipartUpload")["Parts"]
    assert complete == {
        **at,
        "UploadId": upload.multipart_upload_id,
        "IfNoneMatch": "*",
        "MpuObjectSize": len(FILM),
        "ChecksumCRC32": CRC32["value"],
        "ChecksumType": "FULL_OBJECT",
    }
    assert [part["PartNumber"] for part in parts] == [1, 2]
    assert parts[1]["ETag"] == f'"{hashlib.md5(b"the end").hexdigest()}"'
    assert row(confirmed).status == "completed"
    assert s3.read(upload) == FILM


def test_a_crc64nvme_is_told_to_create_and_complete(
    alice: App, s3: Bucket, line: Line, told: dict[str, dict[str, Any]]
) -> None:
    upload = sent(alice, checksum={"algorithm": "CRC64NVME", "value": "AAAAAAAAAAA="})
    assert told["CreateMultipartUpload"]["ChecksumAlgorithm"] == "CRC64NVME"
    assert told["CreateMultipartUpload"]["ChecksumType"] == "FULL_OBJECT"
    line.refuse("CompleteMultipartUpload", 400, "BadDigest")  # as AWS does
    assert code(alice.confirm(str(upload.pk))) == (422, "object_mismatch")
    assert told["CompleteMultipartUpload"]["ChecksumCRC64NVME"] == "AAAAAAAAAAA="
    assert told["CompleteMultipartUpload"]["ChecksumType"] == "FULL_OBJECT"
    upload.refresh_from_db()
    assert (upload.status, upload.busy_until) == ("rejected", None)
    assert s3.open_multiparts(upload) == [], "the parts are given up"
    assert s3.read(upload) is None


def test_another_checksum_is_rejected_for_good(alice: App, s3: Bucket) -> None:
    upload = sent(alice, checksum={"algorithm": "CRC32", "value": "AAAAAA=="})

    answers = [alice.confirm(str(upload.pk)) for _ in range(2)]

    assert [code(answer) for answer in answers] == [(422, "object_mismatch")] * 2
    assert answers[0].json() == answers[1].json()
    upload = row(answers[0])
    assert upload.status == "rejected"
    assert upload.reason.endswith("is not the one declared.")
    assert (upload.busy_until, upload.due_at) == (None, upload.key_closes_at)
    assert s3.open_multiparts(upload) == []
    # Ceph compares at Complete, and makes no object; moto does not.
    assert s3.read(upload) == (None if REAL else FILM)
