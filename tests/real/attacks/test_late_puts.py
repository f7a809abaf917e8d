"""A second PUT, and a late one: S3 refuses it, or it has no effect and the sweep deletes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from django.utils import timezone

from s3direct_uploads.models import Upload
from tests.conftest import JPEG, App, Bucket, row
from tests.models import Photo

from .conftest import OTHER, Sent, head, keys, post, prepend, set_settings

pytestmark = pytest.mark.attack


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(lambda it: None, id="the same"),
        pytest.param(prepend("If-None-Match", '"x"'), id="If-None-Match twice, ours last"),
    ],
)
@pytest.mark.parametrize(
    "when", ["before confirm", "after confirm", "after attach", "after delete"]
)
def test_s3_refuses_a_second_put(
    alice: App, s3: Bucket, when: str, attack: Callable[[Sent], None]
) -> None:
    begun = alice.begin().json()
    assert alice.send(begun["request"]) == 200
    if when != "before confirm":
        assert alice.confirm(begun["id"]).status_code == 200
    if when == "after attach":
        assert post(alice, begun["id"]).status_code == 201
    if when == "after delete":
        assert alice.delete(begun["id"]).status_code == 204

    it = Sent.of(begun["request"], OTHER)
    attack(it)
    assert it.send() == 412

    upload = Upload.objects.get()
    assert s3.read(upload) == JPEG
    if when == "after delete":
        assert (upload.status, upload.due_at) == ("deleted", upload.key_closes_at)
        assert alice.confirm(begun["id"]).status_code == 410
    else:
        assert row(alice.confirm(begun["id"])).status == "completed"
    if when == "after attach":
        with Photo.objects.get().image.open() as file:
            assert file.read() == JPEG
        assert alice.delete(begun["id"]).json()["code"] == "already_attached"


@pytest.mark.usefixtures("empty")
def test_twenty_signatures_for_one_key_store_one_object(alice: App, s3: Bucket) -> None:
    key = {"Idempotency-Key": "one"}
    begun = [alice.begin(headers=key).json() for _ in range(20)]
    assert {each["id"] for each in begun} == {str(Upload.objects.get().pk)}
    paths = {urlsplit(each["request"]["url"]).path for each in begun}
    assert len(paths) == 1, "twenty signatures for one key"
    assert [alice.send(each["request"]) for each in begun[:3]] == [200, 412, 412]
    upload = row(alice.confirm(begun[0]["id"]))
    assert (upload.status, keys(s3)) == ("completed", [upload.key])


def test_a_put_after_cancel_is_stored_and_does_not_complete_the_upload(
    alice: App, s3: Bucket
) -> None:
    begun = alice.begin(headers={"Idempotency-Key": "one"}).json()
    assert alice.delete(begun["id"]).status_code == 204

    assert alice.send(begun["request"]) == 200

    for call in (alice.confirm, alice.renew):
        answer = call(begun["id"])
        assert (answer.status_code, answer.json()["code"]) == (410, "not_pending")
    again = alice.begin(headers={"Idempotency-Key": "one"}).json()
    assert (again["id"], again["status"], again["request"]) == (begun["id"], "cancelled", None)
    assert post(alice, begun["id"]).data["image"][0].code == "not_completed"
    upload = Upload.objects.get()
    assert (upload.status, upload.completed_at, upload.object_deleted_at) == (
        "cancelled",
        None,
        None,
    )
    assert upload.due_at == upload.key_closes_at, "the object is due for deletion"
    assert s3.read(upload) == JPEG


def test_s3_refuses_a_put_after_rejection(alice: App, s3: Bucket) -> None:
    begun = alice.begin().json()
    request = begun["request"]
    bomb = {**request, "headers": {**request["headers"], "Content-Encoding": "gzip"}}
    assert alice.send(bomb) == 200
    assert alice.confirm(begun["id"]).status_code == 422
    assert alice.delete(begun["id"]).status_code == 204, "the key stays closed"

    assert alice.send(request) == 412

    assert alice.confirm(begun["id"]).status_code == 422
    assert alice.renew(begun["id"]).status_code == 410
    upload = Upload.objects.get()
    assert (upload.status, upload.due_at) == ("rejected", upload.key_closes_at)
    assert head(s3, upload)["ContentEncoding"] == "gzip"


def test_s3_refuses_an_expired_url(alice: App, s3: Bucket, settings: Any) -> None:
    set_settings(settings, URL_EXPIRES=1)
    begun = alice.begin().json()
    assert begun["request"]["expires_in"] == 1
    time.sleep(1.3)
    assert alice.send(begun["request"]) == 403
    answer = alice.confirm(begun["id"])
    assert (answer.status_code, row(answer).status) == (409, "pending")
    assert s3.read(row(answer)) is None
    set_settings(settings, URL_EXPIRES=3600)
    renewed = alice.renew(begun["id"]).json()
    assert alice.send(renewed["request"]) == 200
    assert row(alice.confirm(begun["id"])).status == "completed"


def test_no_renewed_url_outlives_the_deadline(alice: App, s3: Bucket, settings: Any) -> None:
    set_settings(settings, PENDING_EXPIRES=1, SWEEP_GRACE=1)
    begun = alice.begin().json()
    requests_ = [begun["request"], *(alice.renew(begun["id"]).json()["request"] for _ in range(2))]
    assert {request["expires_in"] for request in requests_} == {1}
    time.sleep(2.5)
    assert [alice.send(request) for request in requests_] == [403] * 3
    assert alice.renew(begun["id"]).status_code == 410
    assert alice.confirm(begun["id"]).status_code == 410
    upload = Upload.objects.get()
    assert (upload.status, s3.read(upload)) == ("expired", None)


def test_a_put_that_ends_after_expiry_does_not_complete_the_upload(
    alice: App, s3: Bucket, settings: Any
) -> None:
    set_settings(settings, PENDING_EXPIRES=1, URL_EXPIRES=1, SWEEP_GRACE=1)
    begun = alice.begin().json()
    slow = Sent.of(begun["request"]).start(JPEG[:5])
    time.sleep(2.3)  # until URL_EXPIRES and SWEEP_GRACE are over
    assert alice.confirm(begun["id"]).json()["upload"]["status"] == "expired"
    slow.send(JPEG[5:])
    assert slow.getresponse().status == 200, "S3 compares the expiry with the start of the request"
    slow.close()

    answer = alice.confirm(begun["id"])

    assert (answer.status_code, answer.json()["code"]) == (410, "not_pending")
    upload = Upload.objects.get()
    assert (upload.status, upload.object_deleted_at) == ("expired", None)
    assert upload.due_at == upload.key_closes_at, "so its object will be deleted"
    assert s3.read(upload) == JPEG


def test_s3_refuses_a_put_after_the_object_was_deleted(
    alice: App, s3: Bucket, settings: Any
) -> None:
    set_settings(settings, URL_EXPIRES=1, SWEEP_GRACE=1)
    begun = alice.begin().json()
    assert alice.send(begun["request"]) == 200
    assert alice.confirm(begun["id"]).status_code == 200
    time.sleep(2.1)
    assert alice.delete(begun["id"]).status_code == 204
    upload = Upload.objects.get()
    assert s3.read(upload) is None

    assert alice.send(begun["request"], OTHER) == 403, "its URLs had expired by then"

    upload.refresh_from_db()
    assert (upload.status, s3.read(upload)) == ("deleted", None)


def test_after_a_delete_marker_the_upload_keeps_its_confirmed_version(
    versioned: Bucket, alice: App
) -> None:
    begun = alice.begin().json()
    assert alice.send(begun["request"]) == 200
    upload = row(alice.confirm(begun["id"]))
    versioned.client.delete_object(Bucket=versioned.name, Key=upload.key)

    assert alice.send(begun["request"], OTHER) == 200, "S3 sees a delete marker, and no object"

    assert versioned.read(upload) == OTHER
    confirmed = row(alice.confirm(begun["id"]))
    assert (confirmed.version_id, confirmed.etag) == (upload.version_id, upload.etag)
    url = alice.get(f"{begun['id']}/url/").json()["url"]
    assert requests.get(url, timeout=10).content == JPEG, "the version that was confirmed"

    Upload.objects.update(url_expires_at=timezone.now() - timedelta(days=3))
    assert alice.delete(begun["id"]).status_code == 204
    versions = versioned.client.list_object_versions(Bucket=versioned.name, Prefix=upload.key)
    assert "Versions" not in versions
    assert "DeleteMarkers" not in versions
    assert Upload.objects.get().object_deleted_at is not None
