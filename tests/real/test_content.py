"""SNIFF and IMAGE on a real S3: what it is asked for, and that nobody can exchange the object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import get_bucket
from tests.conftest import DAY, HOUR, App, Bucket, age, row, sweep
from tests.content.files import TEXT, big_exif, image, png

pytestmark = [pytest.mark.attack, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def looked_into(settings: Any) -> None:
    ours = settings.S3DIRECT_UPLOADS
    photos = {"MAX_SIZE": 20 * 1024**2, "CONTENT_TYPES": ["image/*"], "SNIFF": True, "IMAGE": {}}
    settings.S3DIRECT_UPLOADS = {**ours, "DESTINATIONS": {"photos": photos}}


@pytest.fixture
def gets(s3: Bucket) -> Iterator[list[dict[str, str]]]:
    """The headers of each GET that Django sends, and its URL."""
    sent: list[dict[str, str]] = []
    meta: Any = get_bucket("default")._client.meta.events

    def record(request: Any, **_: Any) -> None:
        headers = {
            name: str(value, "ascii") if isinstance(value, bytes) else str(value)
            for name, value in request.headers.items()
        }
        sent.append({**headers, "url": request.url})

    meta.register("before-send.s3.GetObject", record, unique_id="gets")
    yield sent
    meta.unregister("before-send.s3.GetObject", unique_id="gets")


def exchange_after_head(upload: Upload, s3: Bucket, body: bytes) -> None:
    """Between the HEAD and the first GET somebody puts another object there."""
    meta: Any = get_bucket("default")._client.meta.events

    def exchange(**_: Any) -> None:
        meta.unregister("before-call.s3.GetObject", unique_id="exchange")
        s3.write(upload, body)

    meta.register("before-call.s3.GetObject", exchange, unique_id="exchange")


def sent(app: App, body: bytes, content_type: str = "image/jpeg") -> Upload:
    begun = app.begin(size=len(body), content_type=content_type)
    assert app.send(begun.json()["request"], body) == 200
    return row(begun)


def test_a_photograph_takes_one_get_of_its_beginning(
    alice: App, gets: list[dict[str, str]]
) -> None:
    upload = row(alice.upload(image("JPEG", (1200, 900))))
    assert upload.status == "completed"
    [get] = gets
    assert get["Range"] == "bytes=0-40959"


def test_a_long_header_takes_a_few(alice: App, gets: list[dict[str, str]]) -> None:
    upload = row(alice.upload(big_exif(1024**2)))
    assert (upload.status, len(gets)) == ("completed", 5)


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (TEXT, "image/jpeg", "The content is not of the type image/jpeg."),
        (
            png(50_000, 50_000),
            "image/png",
            "The image has 50000 x 50000 pixels; at most 50000000 are allowed.",
        ),
    ],
)
def test_a_text_and_a_bomb_are_rejected(
    alice: App, s3: Bucket, body: bytes, content_type: str, reason: str
) -> None:
    answer = alice.upload(body, content_type=content_type)
    upload = row(answer)
    assert (answer.status_code, upload.status, upload.reason) == (422, "rejected", reason)
    age(3 * HOUR)
    assert sweep()["cleaned"] == 1
    assert s3.read(upload) is None


def test_what_was_exchanged_after_the_head_is_not_taken_for_it(
    alice: App, s3: Bucket, gets: list[dict[str, str]]
) -> None:
    """Without versions the answer to the GET has another ETag than the HEAD's."""
    good = image("JPEG")
    upload = sent(alice, TEXT)
    exchange_after_head(upload, s3, good)
    answer = alice.confirm(str(upload.pk))
    assert (answer.status_code, answer.json()["code"]) == (503, "bucket_unavailable")
    upload.refresh_from_db()
    assert (upload.status, s3.read(upload)) == ("pending", good)
    # The next confirm looks at what is there now: it has not the length that was declared.
    assert alice.confirm(str(upload.pk)).status_code == 422


def test_with_versions_the_one_of_the_head_is_read(
    alice: App, versioned: Bucket, gets: list[dict[str, str]]
) -> None:
    good = image("JPEG")
    upload = sent(alice, good)
    exchange_after_head(upload, versioned, TEXT)
    assert alice.confirm(str(upload.pk)).status_code == 200
    upload.refresh_from_db()
    [get] = gets
    assert f"versionId={upload.version_id}" in get["url"]
    url = alice.get(f"{upload.pk}/url/").json()["url"]
    assert requests.get(url, timeout=10).content == good


@pytest.mark.parametrize("action", ["s3:GetObjectVersion", "s3:GetObject"])
def test_a_permission_that_is_missing_costs_no_object(
    alice: App,
    versioned: Bucket,
    s3_client: Any,
    caplog: pytest.LogCaptureFixture,
    action: str,
) -> None:
    """The first: a HEAD passes and the GET is denied. The second: both are denied, and S3 still
    answers 404 for a key where nothing is.
    """
    s3 = versioned
    at = {"Bucket": s3.name}
    deny = {
        "Effect": "Deny",
        "Principal": {"AWS": ["*"]},
        "Action": action,
        "Resource": f"arn:aws:s3:::{s3.name}/*",
    }
    body = image("JPEG")
    uploads = [sent(alice, body) for _ in range(8)]
    try:
        policy = {"Version": "2012-10-17", "Statement": [deny]}
        s3_client.put_bucket_policy(**at, Policy=json.dumps(policy))
        assert alice.confirm(str(uploads[0].pk)).status_code == 503
        for later in (3 * HOUR, 10 * DAY, 100 * DAY):
            age(later)
            assert sweep() == {"failed": 8}
        assert {each.status for each in Upload.objects.all()} == {"pending"}
        operation = "GetObject" if action == "s3:GetObjectVersion" else "HeadObject"
        assert caplog.text.count(f"S3 refuses {operation}: 403 AccessDenied") == 1
        assert action in caplog.text

        s3_client.delete_bucket_policy(**at)
        age(DAY)
        assert sweep() == {"completed": 8}
    finally:
        s3_client.delete_bucket_policy(**at)
    assert s3.read(uploads[0]) == body
