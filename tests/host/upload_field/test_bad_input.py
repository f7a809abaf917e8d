"""What a client sends to an ``UploadField`` and should not: a 400 with a code, nothing changes."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload
from s3direct_uploads.serializers import AttachUploadsMixin
from tests.conftest import App
from tests.field_models import Snap
from tests.host.upload_field.conftest import (
    GallerySerializer,
    assert_kept,
    is_attached,
    made,
    new,
)
from tests.models import Gallery, Photo

URLS: dict[str, type[Any]] = {"photos": Photo, "snaps": Snap}
WRONG: dict[str, tuple[str, Any]] = {
    "a list": ("invalid", [str(uuid4())]),
    "an empty list": ("invalid", []),
    "a number": ("invalid", 7),
    "true": ("invalid", True),
    "text": ("invalid", "beach.jpg"),
    "blank": ("invalid", " "),
    "a NUL": ("invalid", "\0"),
    "half a character": ("invalid", "\ud800"),
    "an id and more": ("invalid", f"{uuid4()}/"),
    "two ids": ("invalid", f"{uuid4()},{uuid4()}"),
    "an id of nothing": ("does_not_exist", str(uuid4())),
    "a form_value of nothing": ("does_not_exist", f"{uuid4()}:AAAA"),
}
STATUSES = ["pending", "verifying", "rejected", "expired", "cancelled", "deleted"]


def with_status(upload: Upload, status: str) -> str:
    changes: dict[str, Any] = {"status": status}
    if status != "deleted":
        changes["completed_at"] = changes["announced_at"] = None
    if status == "verifying":
        changes["held_at"] = timezone.now()
    if status == "rejected":
        changes["reason"] = "It is no image."
    Upload.objects.filter(pk=upload.pk).update(**changes)
    return str(upload.pk)


def assert_refused(app: App, image: Any, code: str) -> None:
    """By a create and by an update, with a plain FileField and with an UploadFileField."""
    before = list(Upload.objects.order_by("pk").values())
    for path, model in URLS.items():
        there, _ = model.objects.get_or_create(title="there", image="from/elsewhere.png")
        rows = list(model.objects.values())
        body, a_json = json.dumps({"title": "x", "image": image}), "application/json"
        for answer in (
            app.client.post(f"/api/{path}/", body, content_type=a_json),
            app.client.put(f"/api/{path}/{there.pk}/", body, content_type=a_json),
            app.client.patch(f"/api/{path}/{there.pk}/", body, content_type=a_json),
        ):
            assert answer.status_code == 400
            assert [each.code for each in answer.data["image"]] == [code]
        assert list(model.objects.values()) == rows
    assert list(Upload.objects.order_by("pk").values()) == before


@pytest.mark.parametrize("what", list(WRONG))
def test_what_is_no_id_is_refused(alice: App, what: str) -> None:
    code, image = WRONG[what]
    assert_refused(alice, image, code)


@pytest.mark.parametrize("what", ["name", "key"])
def test_a_raw_name_or_key_is_refused(alice: App, what: str) -> None:
    assert_refused(alice, getattr(new(alice), what), "invalid")


def test_a_file_is_refused(alice: App) -> None:
    for path in URLS:
        file = SimpleUploadedFile("beach.jpg", b"jpeg", "image/jpeg")
        answer = alice.client.post(f"/api/{path}/", {"title": "x", "image": file})
        assert answer.status_code == 400
        assert answer.data["image"][0].code == "invalid"


@pytest.mark.parametrize("status", STATUSES)
def test_an_upload_that_is_not_completed_is_refused(alice: App, status: str) -> None:
    assert_refused(alice, with_status(new(alice), status), "not_completed")


def test_an_upload_that_was_pruned_is_refused(alice: App) -> None:
    upload = new(alice)
    id = str(upload.pk)
    upload.delete()
    assert_refused(alice, id, "does_not_exist")


def test_anothers_upload_is_refused_as_if_there_were_none(alice: App, bob: App) -> None:
    upload = new(bob)
    assert_refused(alice, str(upload.pk), "does_not_exist")
    assert_refused(alice, upload.form_value, "does_not_exist")
    assert not is_attached(upload)


def test_an_upload_that_nobody_owns_is_refused(alice: App) -> None:
    upload = new(alice)
    Upload.objects.filter(pk=upload.pk).update(owner=None)
    assert_refused(alice, str(upload.pk), "does_not_exist")
    assert_refused(App(None), str(upload.pk), "does_not_exist")


def test_an_upload_to_another_destination_is_refused(alice: App) -> None:
    assert_refused(alice, str(new(alice, destination="documents").pk), "wrong_destination")


def test_an_upload_that_is_in_use_is_refused(alice: App) -> None:
    upload = new(alice)
    Photo.objects.create(image=upload.attach())
    assert_refused(alice, str(upload.pk), "already_attached")


def test_an_upload_that_was_released_is_refused(alice: App) -> None:
    upload = new(alice)
    Snap.objects.create(title="gone", image=upload).delete()
    assert_refused(alice, str(upload.pk), "not_completed")


@pytest.mark.parametrize("path", URLS)
def test_a_form_value_is_taken_as_its_id(alice: App, path: str) -> None:
    """A page may send the form of an ``<s3-upload>`` to the API as it is."""
    upload = new(alice)
    value = upload.form_value
    wrong = f"{upload.pk}:{'A' * 43}"
    assert_refused(alice, wrong, "does_not_exist")
    assert_refused(alice, f"{upload.pk}:", "does_not_exist")
    answer = alice.client.post(f"/api/{path}/", {"title": "x", "image": value})
    assert answer.status_code == 201, answer.json()
    assert_kept(alice, upload)
    id = answer.json()["id"]
    again = alice.client.put(f"/api/{path}/{id}/", {"title": "x", "image": value})
    assert again.status_code == 200, again.json()
    assert_kept(alice, upload)


def test_an_upload_that_is_deleted_after_it_was_validated_is_refused(alice: App) -> None:
    from tests.host_app import PhotoSerializer, SnapSerializer

    for serializer in (PhotoSerializer, SnapSerializer):
        kind: type[AttachUploadsMixin] = serializer
        upload = new(alice)
        it = made(kind, alice, {"title": "x", "image": str(upload.pk)})
        it.is_valid(raise_exception=True)
        lifecycle.cancel(upload)
        with pytest.raises(Exception, match="not completed") as refused:
            it.save()
        detail: Any = refused.value.detail  # type: ignore[attr-defined]
        assert detail["image"][0].code == "not_completed"
    assert not Photo.objects.exists()
    assert not Snap.objects.exists()


# Many.


def queries_for(app: App, images: list[Any]) -> tuple[Any, int]:
    it = made(GallerySerializer, app, {"images": images})
    with CaptureQueriesContext(connection) as queries:
        it.is_valid()
    return it, len(queries)


@pytest.mark.parametrize("what", ["known", "unknown", "form_value"])
def test_a_thousand_ids_take_a_few_queries(alice: App, bob: App, what: str) -> None:
    """A query for each took as many as the client liked."""
    known = new(alice if what == "form_value" else bob)
    images = {
        "known": [str(known.pk), *(str(uuid4()) for _ in range(999))],
        "unknown": [str(uuid4()) for _ in range(1000)],
        "form_value": [f"{uuid4()}:AAAA" for _ in range(1000)],
    }[what]
    it, queries = queries_for(alice, images)
    assert queries == 2
    assert len(it.errors["images"]) == 1000
    assert {each[0].code for each in it.errors["images"].values()} == {"does_not_exist"}
    assert not is_attached(known)


def test_the_same_id_a_thousand_times_is_attached_once_or_never(alice: App) -> None:
    upload = new(alice)
    it, queries = queries_for(alice, [str(upload.pk)] * 1000)
    assert (it.errors, queries) == ({}, 1)
    with pytest.raises(Exception, match="in use already") as refused:
        it.save()
    detail: Any = refused.value.detail  # type: ignore[attr-defined]
    assert detail["images"][1][0].code == "already_attached"
    assert not is_attached(upload)
    assert not Gallery.objects.exists()


def test_ids_in_other_fields_are_not_looked_up(alice: App) -> None:
    """They are only read together with an id that is wanted."""
    it = made(GallerySerializer, alice, {"title": str(uuid4()), "images": ["no", "ids"]})
    with CaptureQueriesContext(connection) as queries:
        assert not it.is_valid()
    assert len(queries) == 0


def test_deep_data_is_no_error_of_the_server(alice: App) -> None:
    upload = new(alice)
    deep: Any = str(uuid4())
    for _ in range(700):
        deep = [deep]
    answer = alice.client.post(
        "/api/photos/", {"image": str(upload.pk), "title": deep}, format="json"
    )
    assert (answer.status_code, list(answer.json())) == (400, ["title"])
