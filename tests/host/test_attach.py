"""An upload becomes a file of the host's model, once: ``attach()`` and ``UploadField``."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from s3direct_uploads.exceptions import AlreadyAttached, NotCompleted
from s3direct_uploads.models import Upload
from tests.conftest import JPEG, App, row
from tests.host_app import PhotoSerializer
from tests.models import Photo

PHOTOS = "/api/photos/"


def post(app: App, image: object, **fields: Any) -> Any:
    return app.client.post(PHOTOS, {"image": image, **fields}, format="json")


def test_an_upload_becomes_a_file_of_a_model(alice: App) -> None:
    upload = row(alice.upload(filename="beach.jpg"))

    answer = post(alice, str(upload.pk), title="The beach")

    assert answer.status_code == 201
    photo = Photo.objects.get()
    assert photo.image.name == upload.name
    with photo.image.open() as file:
        assert file.read() == JPEG, "readable through its own storage"
    image = answer.json()["image"]
    assert "X-Amz-Signature" in image["url"]
    del image["url"]
    assert image == {
        "name": upload.name,
        "size": len(JPEG),
        "content_type": "image/jpeg",
        "filename": "beach.jpg",
    }
    upload.refresh_from_db()
    assert upload.attached_at is not None
    gone = alice.delete(str(upload.pk))
    assert (gone.status_code, gone.json()["code"]) == (409, "already_attached")


def test_an_upload_that_cannot_be_attached_has_a_code(alice: App, bob: App) -> None:
    used = row(alice.upload())
    used.attach()
    cases = {
        "already_attached": used.pk,
        "not_completed": row(alice.begin()).pk,
        "wrong_destination": row(alice.upload(destination="documents")).pk,
        "does_not_exist": row(bob.upload()).pk,
        "invalid": "x",
        "null": None,
    }
    for code, id in cases.items():
        answer = post(alice, id and str(id))
        assert answer.status_code == 400, code
        assert answer.data["image"][0].code == code
    for value in (5, [str(used.pk)], {"id": str(used.pk)}, str(uuid.uuid4())):
        assert post(alice, value).status_code == 400
    assert not Photo.objects.exists()


def test_nobody_attaches_an_upload_without_an_owner(alice: App, nobody: App) -> None:
    upload = row(alice.upload())
    Upload.objects.update(owner=None)
    assert post(nobody, str(upload.pk)).data["image"][0].code == "does_not_exist"


def test_attach_is_once_and_says_why_not(alice: App) -> None:
    pending = row(alice.begin())
    with pytest.raises(NotCompleted) as refused:
        pending.attach()
    assert refused.value.upload == pending

    upload = row(alice.upload())
    stale = Upload.objects.get(pk=upload.pk)
    assert upload.attach() == upload.name
    with pytest.raises(AlreadyAttached):
        stale.attach()
    alice.delete(str(pending.pk))
    with pytest.raises(NotCompleted):
        pending.attach()


def test_a_transaction_that_fails_gives_the_upload_back(alice: App) -> None:
    upload = row(alice.upload())

    def attach_and_fail() -> None:
        with transaction.atomic():
            Photo.objects.create(pk=1, image=upload.attach())
            Photo.objects.create(pk=1)

    with pytest.raises(IntegrityError):
        attach_and_fail()
    upload.refresh_from_db()
    assert upload.attached_at is None
    assert post(alice, str(upload.pk)).status_code == 201


def test_the_second_to_attach_in_a_race_gets_an_error(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = row(alice.upload())
    attach = Upload.attach

    def lose(self: Upload) -> str:
        attach(Upload.objects.get(pk=upload.pk))
        return attach(self)

    monkeypatch.setattr(Upload, "attach", lose)
    answer = post(alice, str(upload.pk))
    assert (answer.status_code, answer.data["image"][0].code) == (400, "already_attached")
    assert not Photo.objects.exists()


def test_an_update_takes_another_upload_or_leaves_it(alice: App) -> None:
    id = post(alice, str(row(alice.upload()).pk)).json()["id"]
    other = row(alice.upload(filename="other.png", content_type="image/png"))
    url = f"{PHOTOS}{id}/"
    assert alice.client.patch(url, {"title": "x"}, format="json").json()["title"] == "x"
    changed = alice.client.patch(url, {"image": str(other.pk)}, format="json")
    assert changed.json()["image"]["content_type"] == "image/png"
    assert Photo.objects.get().image.name == other.name


@pytest.fixture
def nine_photos(alice: App) -> None:
    for _ in range(7):
        post(alice, str(row(alice.upload()).pk))
    Photo.objects.create(image="from/elsewhere.png")
    Photo.objects.create(image="")


@pytest.mark.usefixtures("nine_photos")
def test_a_list_of_files_takes_one_query_and_no_request_to_s3(
    alice: App, s3_calls: list[str]
) -> None:
    with CaptureQueriesContext(connection) as queries:
        *uploaded, elsewhere, none = alice.client.get(PHOTOS).json()
    assert len([each for each in queries if "s3direct_uploads_upload" in each["sql"]]) == 1
    assert s3_calls == []
    assert {each["image"]["size"] for each in uploaded} == {len(JPEG)}
    assert (elsewhere["image"]["size"], elsewhere["image"]["content_type"]) == (None, "image/png")
    assert none["image"] is None


def serializer(app: App, upload: Upload, many: bool = False) -> PhotoSerializer:
    said: Any = {"image": str(upload.pk)}
    context = {"request": SimpleNamespace(user=app.user)}
    made = PhotoSerializer(data=[said] if many else said, many=many, context=context)
    made.is_valid(raise_exception=True)
    return made


def test_a_save_that_failed_may_be_tried_again(alice: App) -> None:
    upload = row(alice.upload())
    made = serializer(alice, upload)
    with pytest.raises(IntegrityError), transaction.atomic():
        made.save(title=None)
    upload.refresh_from_db()
    assert upload.attached_at is None, "rolled back with the photo"

    assert made.save().image.name == upload.name
    upload.refresh_from_db()
    assert upload.attached_at is not None
    assert alice.delete(str(upload.pk)).json()["code"] == "already_attached"


def test_a_serializer_with_many_attaches_each_upload(alice: App) -> None:
    upload = row(alice.upload())
    (photo,) = serializer(alice, upload, many=True).save()
    assert photo.image.name == upload.name
    upload.refresh_from_db()
    assert upload.attached_at is not None


def test_a_save_with_another_file_leaves_the_upload_alone(alice: App) -> None:
    upload = row(alice.upload())
    assert serializer(alice, upload).save(image="other.jpg").image.name == "other.jpg"
    upload.refresh_from_db()
    assert upload.attached_at is None


@pytest.mark.parametrize("changes", [{"location": "moved"}, {"bucket_name": "another"}])
def test_a_storage_that_moved_is_named_before_anything_is_claimed(
    alice: App, storage_options: Callable[..., None], changes: dict[str, str]
) -> None:
    upload = row(alice.upload())
    storage_options(**changes)
    with pytest.raises(ImproperlyConfigured, match="no key"):
        upload.attach()
    upload.refresh_from_db()
    assert upload.attached_at is None


def test_a_model_that_keeps_its_files_elsewhere_is_named(alice: App, settings: Any) -> None:
    media = settings.STORAGES["default"]
    elsewhere = {**media, "OPTIONS": {**media["OPTIONS"], "location": "elsewhere"}}
    settings.STORAGES = {**settings.STORAGES, "media": elsewhere}
    rules = {"MAX_SIZE": 100, "CONTENT_TYPES": ["image/*"], "STORAGE": "media"}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": rules}}
    upload = row(alice.upload())
    with pytest.raises(ImproperlyConfigured, match="another storage than 'photos'"):
        serializer(alice, upload).save()
    upload.refresh_from_db()
    assert upload.attached_at is None
