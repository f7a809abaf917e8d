"""``release()``: a model gives up its file in the transaction that replaces or deletes its row."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.urls import reverse

from example_project.photos.models import Photo as WallPhoto
from s3direct_uploads import lifecycle, signals
from s3direct_uploads.exceptions import AlreadyAttached, NotAttached, NotCompleted
from s3direct_uploads.models import Upload, Usage
from tests.conftest import DAY, HOUR, JPEG, App, Bucket, Connect, age, row
from tests.models import Photo

MINUTE = timedelta(minutes=1)


@pytest.fixture
def limited(settings: Any) -> None:
    """An owner has room for one photograph and a half."""
    ours = settings.S3DIRECT_UPLOADS
    photos = {**ours["DESTINATIONS"]["photos"], "MAX_TOTAL_SIZE": len(JPEG) * 3 // 2}
    settings.S3DIRECT_UPLOADS = {**ours, "DESTINATIONS": {**ours["DESTINATIONS"], "photos": photos}}


def attached(app: App) -> tuple[Upload, Photo]:
    upload = row(app.upload())
    with transaction.atomic():
        photo = Photo.objects.create(image=upload.attach())
    return upload, photo


def total_size() -> int:
    return Usage.objects.get().total_size


@pytest.mark.attack  # a client writes it again, and would get the room for free
def test_the_object_goes_and_the_quota_returns_once_the_key_has_closed(
    alice: App, s3: Bucket, limited: None, s3_calls: list[str]
) -> None:
    begun = alice.begin().json()
    assert alice.send(begun["request"]) == 200
    upload = row(alice.confirm(begun["id"]))
    photo = Photo.objects.create(image=upload.attach())
    s3_calls.clear()

    with transaction.atomic():
        upload.release()
        photo.delete()

    assert s3_calls == [], "S3 is not asked"
    upload.refresh_from_db()
    assert (upload.status, upload.attached_at, upload.due_at) == (
        "deleted",
        None,
        upload.key_closes_at,
    )
    assert (s3.read(upload), total_size()) == (JPEG, len(JPEG))
    assert alice.begin().json()["code"] == "quota_exceeded", "its room is taken until it is gone"
    s3.client.delete_object(Bucket=s3.name, Key=upload.key)
    assert alice.send(begun["request"]) == 200, "its URL still lives, and could write it again"
    assert lifecycle.sweep() == {}

    age(3 * HOUR)
    assert lifecycle.sweep() == {"cleaned": 1}
    assert (s3.read(upload), total_size()) == (None, 0)
    assert alice.send(begun["request"]) == 200, "a PUT that took a long time"
    age(DAY + HOUR)
    assert lifecycle.sweep() == {"cleaned": 1}
    assert s3.read(upload) is None
    assert alice.begin().status_code == 201


def test_release_rolls_back_with_the_change_of_the_model(alice: App, s3: Bucket) -> None:
    upload, photo = attached(alice)

    def replace() -> None:
        with transaction.atomic():
            upload.release()
            photo.delete()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        replace()
    upload.refresh_from_db()
    assert (upload.status, upload.due_at, Photo.objects.count()) == ("completed", None, 1)
    assert upload.attached_at is not None
    age(30 * DAY)
    assert lifecycle.sweep() == {}
    assert s3.read(upload) == JPEG


def test_release_may_be_repeated(alice: App) -> None:
    upload, _ = attached(alice)
    stale = Upload.objects.get()
    upload.release()
    stale.release()
    assert (upload.status, stale.status) == ("deleted", "deleted")
    with pytest.raises(NotCompleted):
        stale.attach()
    assert alice.delete(str(upload.pk)).status_code == 204
    assert alice.get(f"{upload.pk}/url/").json()["code"] == "not_completed"


def test_only_what_a_model_holds_is_released(alice: App) -> None:
    for upload in (row(alice.begin()), row(alice.upload())):
        with pytest.raises(NotAttached) as refused:
            upload.release()
        assert refused.value.upload == upload
        assert Upload.objects.get(pk=upload.pk).due_at == upload.due_at
    upload.attach()
    with pytest.raises(AlreadyAttached):
        upload.attach()


def test_the_upload_of_a_file_is_found_by_the_file(
    alice: App, storage_options: Callable[..., None]
) -> None:
    upload, photo = attached(alice)
    assert list(Upload.objects.of_file(photo.image)) == [upload]
    assert list(Upload.objects.of_file(Photo().image)) == []
    assert list(Upload.objects.of_file(Photo(image="photos/from-before.jpg").image)) == []
    other_bucket = Photo(image=photo.image.name).image
    storage_options(bucket_name="another")
    assert list(Upload.objects.of_file(other_bucket)) == [], "a copy is another file"


def test_a_release_is_logged_once_it_is_committed(
    alice: App, caplog: pytest.LogCaptureFixture, django_capture_on_commit_callbacks: Any
) -> None:
    upload, _ = attached(alice)
    caplog.clear()
    caplog.set_level(logging.INFO, "s3direct_uploads")
    with django_capture_on_commit_callbacks(execute=True):
        upload.release()
        assert caplog.records == []
    [record] = caplog.records
    assert "completed -> deleted (script, " in record.getMessage()


@pytest.mark.urls("example_project.urls")
def test_the_example_project_releases_its_photos(alice: App, s3: Bucket, limited: None) -> None:
    begun = alice.begin().json()
    assert alice.send(begun["request"]) == 200
    upload = row(alice.confirm(begun["id"]))
    assert upload.owner_id
    photo = WallPhoto.objects.create(
        owner_id=upload.owner_id, image=upload, filename=upload.filename
    )

    assert alice.client.delete(reverse("photo-detail", args=[photo.pk])).status_code == 204

    assert not WallPhoto.objects.exists()
    assert Upload.objects.get().status == "deleted"
    assert total_size() == len(JPEG)
    age(3 * HOUR)
    lifecycle.sweep()
    assert (s3.read(upload), total_size()) == (None, 0)


def test_a_handler_whose_transaction_rolls_back_released_nothing(
    alice: App, connect: Connect
) -> None:
    heard: list[str] = []

    def try_it(upload: Upload, cause: str, **_: Any) -> None:
        heard.append(cause)
        upload.attach()
        with transaction.atomic():
            upload.release()
            raise ZeroDivisionError

    connect(signals.upload_completed, try_it)
    answer = alice.upload()
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")
    upload = row(answer)
    assert (upload.status, upload.due_at) == ("completed", None)
    age(DAY)
    assert (lifecycle.sweep(), heard) == ({}, ["client"]), "it is announced once"
