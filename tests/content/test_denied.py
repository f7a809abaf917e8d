"""S3 has an object, and does not give its bytes: never the end of its upload.

A client cannot cause it. What a presigned request does not sign, S3 refuses if it begins with
x-amz-: encryption, tags and storage class are the server's. So the role or the bucket is wrong, or
S3 is not well, and whoever corrects that must find all objects still there.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.utils import timezone

from s3direct_uploads import lifecycle
from s3direct_uploads.exceptions import BucketUnavailable
from s3direct_uploads.models import Upload
from tests.conftest import DAY, JPEG, PART_SIZE, App, Bucket, age, assert_error, sweep
from tests.content.files import ANY, box, get_answers, image, looked_into, sent

__all__ = ["get_answers", "looked_into"]

pytestmark = pytest.mark.usefixtures("looked_into")

DENIALS = [
    (403, "AccessDenied"),  # no s3:GetObjectVersion, or no kms:Decrypt
    (403, "InvalidObjectState"),  # a rule of the bucket has archived it
    (400, "KMS.DisabledException"),
    (400, "KMS.KMSInvalidStateException"),
    (503, "SlowDown"),
    (500, "InternalError"),
]


@pytest.mark.parametrize("refusal", DENIALS, ids=lambda each: each[1])
@pytest.mark.parametrize("destination", ["sniffed", "measured"])
def test_past_its_deadline_an_upload_whose_bytes_are_not_given_waits(
    alice: App,
    s3: Bucket,
    get_answers: list[tuple[int, str]],
    destination: str,
    refusal: tuple[int, str],
) -> None:
    body = image("JPEG")
    upload = sent(alice, body, destination)
    get_answers.append(refusal)
    for later in (10 * DAY, 10 * DAY, 100 * DAY):
        age(later)
        assert sweep() == {"failed": 1}
        assert_error(alice.confirm(str(upload.pk)), 503, "bucket_unavailable")
        upload.refresh_from_db()
        assert upload.status == "pending"
        assert upload.due_at is not None
        assert timezone.now() < upload.due_at <= timezone.now() + DAY
    assert sweep() == {}

    get_answers.clear()
    assert s3.read(upload) == body
    age(DAY)
    assert sweep() == {"completed": 1}


def test_a_film_whose_parts_were_joined_by_the_sweep_waits_too(
    alice: App, settings: Any, get_answers: list[tuple[int, str]]
) -> None:
    settings.S3DIRECT_UPLOADS["DESTINATIONS"]["sniffed"] |= {"PART_SIZE": PART_SIZE}
    body = box(b"isom") + b"\0" * PART_SIZE
    begun = alice.begin(
        destination="sniffed", size=len(body), content_type="video/mp4", multipart=True
    ).json()
    assert set(alice.send_parts(begun["multipart"]["parts"], body)) == {200}
    get_answers.append((403, "AccessDenied"))
    age(30 * DAY)
    assert sweep() == {"failed": 1}
    assert Upload.objects.get().status == "pending"
    age(30 * DAY)
    assert sweep() == {"failed": 1}

    get_answers.clear()
    age(DAY)
    assert sweep() == {"completed": 1}


def test_forty_denials_are_one_line_and_hold_up_no_other_upload(
    alice: App, bob: App, get_answers: list[tuple[int, str]], caplog: pytest.LogCaptureFixture
) -> None:
    denied = [sent(bob, image("JPEG")) for _ in range(20)]
    honest = [sent(alice, JPEG, "photos") for _ in range(3)]
    denied += [sent(bob, image("JPEG")) for _ in range(20)]
    get_answers.append((403, "AccessDenied"))
    age(10 * DAY)
    caplog.clear()
    assert sweep() == {"completed": 3, "failed": 40}
    assert {each.status for each in Upload.objects.filter(pk__in=[u.pk for u in denied])} == {
        "pending"
    }
    assert {each.status for each in Upload.objects.filter(pk__in=[u.pk for u in honest])} == {
        "completed"
    }
    [record] = [each for each in caplog.records if each.levelname == "ERROR"]
    said = record.getMessage()
    assert said.startswith("S3 refuses GetObject: 403 AccessDenied.")
    for permission in ("s3:GetObject", "s3:GetObjectVersion", "kms:Decrypt"):
        assert permission in said


def test_a_denial_is_said_again_after_a_minute(
    alice: App,
    get_answers: list[tuple[int, str]],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    upload = sent(alice, image("JPEG"))
    get_answers.append((403, "AccessDenied"))
    for moment, lines in ((1000.0, 1), (1050.0, 1), (1061.0, 2)):
        now[0] = moment
        assert_error(alice.confirm(str(upload.pk)), 503, "bucket_unavailable")
        assert caplog.text.count("S3 refuses GetObject") == lines


def test_a_scan_that_is_denied_its_object_leaves_it_held(
    alice: App, settings: Any, get_answers: list[tuple[int, str]]
) -> None:
    settings.S3DIRECT_UPLOADS["DESTINATIONS"]["held"] = {**ANY, "HOLD": True}
    upload = sent(alice, JPEG, "held")
    assert alice.confirm(str(upload.pk)).status_code == 202
    get_answers.append((403, "AccessDenied"))
    with lifecycle.open_held(upload) as file, pytest.raises(BucketUnavailable):
        file.read()
    upload.refresh_from_db()
    assert upload.status == "verifying"
