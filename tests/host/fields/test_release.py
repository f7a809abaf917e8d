"""A model's field gives its file up when the row takes another one, or goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import transaction
from django.urls import reverse

from example_project.photos.models import Photo as WallPhoto
from s3direct_uploads import lifecycle
from s3direct_uploads.exceptions import NotCompleted
from s3direct_uploads.models import Upload, Usage
from tests.conftest import DAY, HOUR, JPEG, App, Bucket, age, row
from tests.field_models import Album, Cover, LastSnap, Portrait, Record, Snap
from tests.host.fields.test_fields import held, made
from tests.models import Photo

pytestmark = pytest.mark.django_db
autocommit = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def there_is_s3(s3: Bucket) -> None:
    pass


def snap_of(upload: Upload, **columns: Any) -> Snap:
    return Snap.objects.create(title=upload.pk.hex, image=upload, **columns)


def is_released(upload: Upload) -> bool:
    upload.refresh_from_db()
    assert (upload.status == "deleted") is (upload.attached_at is None)
    return upload.status == "deleted"


# Replaced and cleared.


@autocommit
@pytest.mark.parametrize("how", ["upload", "none", "text", "ContentFile", "delete()", "save()"])
def test_the_file_that_was_there_is_released(how: str) -> None:
    old, new = made(), made()
    snap = snap_of(old)
    snap = Snap.objects.get()
    if how == "delete()":
        snap.image.delete()
    elif how == "save()":
        snap.image.save("by-a-script.jpg", ContentFile(b"script"))
    else:
        snap.image = {
            "upload": new,
            "none": None,
            "text": "photos/from-before.jpg",
            "ContentFile": ContentFile(b"by Django", name="django.jpg"),
        }[how]
        assert not is_released(old), "not before it is saved"
        snap.save()
    assert is_released(old)
    assert old.due_at == old.key_closes_at
    now = Snap.objects.get().image.name
    assert (now == new.name) is (how == "upload")
    assert bool(now) is (how not in ("none", "delete()"))
    assert held(new) == ("tests.Snap.image" if how == "upload" else "")


def test_the_objects_go_once_their_keys_have_closed_and_the_usage_with_them(
    alice: App, s3: Bucket, settings: Any
) -> None:
    ours = settings.S3DIRECT_UPLOADS
    photos = {**ours["DESTINATIONS"]["photos"], "MAX_TOTAL_SIZE": 10 * len(JPEG)}
    settings.S3DIRECT_UPLOADS = {**ours, "DESTINATIONS": {**ours["DESTINATIONS"], "photos": photos}}
    first, second, third = (row(alice.upload()) for _ in range(3))
    snap, other = snap_of(first), snap_of(third)
    snap.image = second
    snap.save()
    other.delete()

    assert Usage.objects.get().total_size == 3 * len(JPEG)
    age(3 * HOUR)
    lifecycle.sweep()
    assert [s3.read(each) for each in (first, second, third)] == [None, JPEG, None]
    assert Usage.objects.get().total_size == len(JPEG)
    assert alice.delete(str(second.pk)).json()["code"] == "already_attached"


def test_an_upload_that_was_assigned_and_never_saved_is_still_its_owners() -> None:
    old, new = made(), made()
    snap = snap_of(old)
    snap.image = new
    snap.image.delete(save=False)
    assert (held(old), held(new), new.status) == ("tests.Snap.image", "", "completed")
    snap.save()
    assert (is_released(old), new.status) == (True, "completed")
    assert Snap.objects.get().image.name == ""


@autocommit
def test_it_rolls_back_with_the_row() -> None:
    old, new = made(), made()
    snap = snap_of(old)

    def replace_delete_and_fail() -> None:
        with transaction.atomic():
            snap.image = new
            snap.save()
            assert is_released(old)
            Snap.objects.get().delete()
            assert is_released(new)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        replace_delete_and_fail()
    assert (held(old), held(new), old.due_at) == ("tests.Snap.image", "", None)
    assert Snap.objects.get().image.name == old.name


# Deleted.


@pytest.mark.parametrize("how", ["instance", "queryset", "cascade", "proxy", "stale", "deferred"])
def test_the_file_of_a_deleted_row_is_released(how: str) -> None:
    album, old, upload = Album.objects.create(), made(), made()
    stale = snap_of(old, album=album)
    snap = Snap.objects.get()
    snap.image = upload
    snap.save()
    match how:
        case "instance":
            snap.delete()
        case "queryset":
            Snap.objects.all().delete()
        case "cascade":
            album.delete()
        case "proxy":
            LastSnap.objects.all().delete()
        case "stale":
            stale.delete()
        case "deferred":
            Snap.objects.only("title").get().delete()
    assert not Snap.objects.exists()
    assert is_released(old)
    assert is_released(upload), "what the row had, whatever the instance says"


def test_the_admin_deletes_so(admin_client: Any) -> None:
    upload = made()
    owner = admin_client.get("/admin/").context["user"]
    photo = WallPhoto.objects.create(owner=owner, image=upload, filename="beach.jpg")
    url = reverse("admin:photos_photo_delete", args=[photo.pk])
    assert admin_client.post(url, {"post": "yes"}).status_code == 302
    assert is_released(upload)


def test_deleting_many_rows_costs_a_fixed_number_of_queries_for_each(
    django_assert_max_num_queries: Any,
) -> None:
    for _ in range(10):
        snap_of(made())
    with django_assert_max_num_queries(10 + 10 * 15):
        Snap.objects.all().delete()
    assert Upload.objects.filter(status="deleted").count() == 10


# An instance that is older than its row.


@autocommit
def test_a_stale_save_leaves_the_newer_file_alone() -> None:
    old, new = made(), made()
    snap_of(old)
    stale, snap = Snap.objects.get(), Snap.objects.get()
    snap.image = new
    snap.save()

    stale.title = "Renamed"
    stale.save()

    assert Snap.objects.get().title == "Renamed"
    assert Snap.objects.get().image.name == new.name
    assert (is_released(old), held(new)) == (True, "tests.Snap.image")
    Snap.objects.bulk_update([stale], ["image", "title"])
    assert Snap.objects.get().image.name == new.name
    stale.refresh_from_db()
    assert stale.image.name == new.name
    stale.save()
    assert held(new) == "tests.Snap.image"


@pytest.mark.parametrize(
    "", [pytest.param(marks=autocommit, id="autocommit"), pytest.param(id="in a TestCase")]
)
def test_an_instance_that_saved_its_own_file_may_become_stale_too() -> None:
    first, second = made(), made()
    stale = snap_of(first)
    snap = Snap.objects.get()
    snap.image = second
    snap.save()
    stale.save()
    assert Snap.objects.get().image.name == second.name
    assert (is_released(first), held(second)) == (True, "tests.Snap.image")


@autocommit
def test_a_stale_instance_that_takes_another_file_releases_what_the_row_has() -> None:
    old, new, newest = made(), made(), made()
    snap_of(old)
    stale, snap = Snap.objects.get(), Snap.objects.get()
    snap.image = new
    snap.save()
    stale.image = newest
    stale.save()
    assert Snap.objects.get().image.name == newest.name
    assert (is_released(old), is_released(new), held(newest)) == (True, True, "tests.Snap.image")


# One file, several rows.


@pytest.mark.parametrize("how", ["pk", "name", "FieldFile", "other model", "plain FileField"])
def test_a_file_that_another_row_names_is_not_released(how: str) -> None:
    upload = made()
    snap = snap_of(upload)
    match how:
        case "pk":
            copied: Any = Snap.objects.get()
            copied.pk, copied.title = None, "Copy"
            copied._state.adding = True
            copied.save()
        case "name":
            copied = Snap.objects.create(title="Copy", image=snap.image.name)
        case "FieldFile":
            copied = Snap.objects.create(title="Copy")
            copied.image = Snap.objects.get(pk=snap.pk).image
            copied.save()
        case "other model":
            copied = Cover.objects.create(picture=snap.image.name)
        case _:
            copied = Photo.objects.create(image=snap.image.name)

    snap.image = made()
    snap.save()
    assert not is_released(upload)
    copied.delete()
    assert is_released(upload) is (how != "plain FileField"), "Django's own releases nothing"


def test_two_rows_that_are_deleted_at_once_release_their_one_file() -> None:
    upload = made()
    snap = snap_of(upload)
    Snap.objects.create(title="Copy", image=snap.image.name)
    Snap.objects.all().delete()
    assert is_released(upload)


def test_a_file_that_was_released_is_not_named_again() -> None:
    upload = made()
    snap = snap_of(upload)
    snap.delete()
    snap._state.adding = True
    with pytest.raises(NotCompleted, match="released"), transaction.atomic():
        Snap.objects.create(title="Again", image=upload.name)
    assert not Snap.objects.exists()


# Told to keep it.


def test_what_is_to_be_kept_stays_attached() -> None:
    replaced, deleted = made(), made()
    record = Record.objects.create(file=replaced)
    record.file = deleted
    record.save()
    record.delete()
    for upload in (replaced, deleted):
        assert (held(upload), upload.status) == ("…", "completed"), "no field holds it any more"
    age(30 * DAY)
    assert lifecycle.sweep() == {}


def test_what_no_upload_was_is_nobodys_to_release(s3: Bucket) -> None:
    old = Snap.objects.create(title="Old", image=ContentFile(b"old", name="old.jpg"))
    name, storage = str(old.image.name), old.image.storage
    old.image = made()
    old.save()
    assert storage.exists(name), "as in Django"
    unattached = made()
    snap = Snap.objects.create(title="By name", image=unattached.name)
    snap.delete()
    unattached.refresh_from_db()
    assert (unattached.status, unattached.attached_at) == ("completed", None), "still its owner's"


def test_an_image_is_cleared_with_its_dimensions() -> None:
    upload = made()
    portrait = Portrait.objects.create(image=upload, width=640, height=480)
    portrait.image.delete()
    assert list(Portrait.objects.values_list("image", "width", "height")) == [("", None, None)]
    assert is_released(upload)


def test_hosts_without_s3_test_the_same(uploads_in_memory: Callable[..., Upload]) -> None:
    first = uploads_in_memory(destination="photos", content=b"first")
    snap = snap_of(first)
    with Snap.objects.get().image.open() as file:
        assert file.read() == b"first"
    snap.image = uploads_in_memory(destination="photos", content=b"second")
    snap.save()
    assert is_released(first)


# REST Framework, until it maps the field by itself.


@pytest.mark.urls("example_project.urls")
def test_the_example_posts_and_deletes_its_photos_so(alice: App, bob: App) -> None:
    upload = row(alice.upload())
    url = reverse("photo-list")
    posted = alice.client.post(url, {"image": str(upload.pk)}, format="json")
    assert posted.status_code == 201
    assert held(upload) == "photos.Photo.image"
    again = alice.client.post(url, {"image": str(upload.pk)}, format="json")
    assert (again.status_code, again.data["image"][0].code) == (400, "already_attached")
    detail = reverse("photo-detail", args=[posted.json()["id"]])
    assert bob.client.delete(detail).status_code == 404
    assert alice.client.delete(detail).status_code == 204
    assert is_released(upload)


@pytest.mark.urls("example_project.urls")
def test_who_comes_second_is_told_so_by_the_serializer(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = row(alice.upload())
    claim = Upload.claim

    def lose(self: Upload, to: str) -> None:
        claim(Upload.objects.get(pk=upload.pk), "tests.Snap.image")
        claim(self, to)

    monkeypatch.setattr(Upload, "claim", lose)
    answer = alice.client.post(reverse("photo-list"), {"image": str(upload.pk)}, format="json")
    assert (answer.status_code, answer.data["image"][0].code) == (400, "already_attached")
    assert not WallPhoto.objects.exists()
