"""Tricks with names: no row releases or deletes a file that another one needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections, transaction

from s3direct_uploads.exceptions import NotCompleted
from s3direct_uploads.models import Upload
from tests.conftest import DAY, JPEG, App, Bucket, age, row
from tests.field_models import Cover, Legacy, Novel, Record, Snap, Trashed
from tests.host.fields.test_fields import held, made
from tests.host.fields.test_reconcile import reconcile
from tests.host.fields.test_release import is_released, snap_of
from tests.models import Gallery

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def there_is_s3(own_bucket: Bucket) -> None:
    pass


# A name that a client chose: photo.image = "the/key/of/another".


@pytest.mark.parametrize("how", ["delete", "replace", "clear", "delete()", "keep"])
@pytest.mark.parametrize("holder", ["by hand", "another field", "unknown field"])
def test_whoever_names_a_file_that_no_filefield_has_cannot_release_it(
    how: str, holder: str
) -> None:
    victims = made()
    to = {
        "by hand": "",
        "another field": "tests.Gallery.images",
        "unknown field": "gone.A.image",
    }
    Gallery.objects.create(images=[victims.attach(to=to[holder])])
    if how == "keep":
        record = Record.objects.create(file=victims.name)
        record.delete()
    else:
        snap = Snap.objects.create(title="Thief", image=victims.name)
        match how:
            case "delete":
                snap.delete()
            case "replace":
                snap.image = made()
                snap.save()
            case "clear":
                snap.image = None
                snap.save()
            case "delete()":
                snap.image.delete()
    assert not is_released(victims)
    assert held(victims) == (to[holder] or "…"), "and what holds it is still said"


@pytest.mark.parametrize(
    "spelled", ["{0}/./{1}", "{0}//{1}", "{0}/x/../{1}", "{0}\\{1}", "./{0}/{1}", "x/../{0}/{1}"]
)
def test_another_spelling_of_a_name_deletes_nothing(alice: App, s3: Bucket, spelled: str) -> None:
    victims = row(alice.upload())
    snap_of(victims)
    thief = Snap.objects.create(title="Thief")
    thief.image = spelled.format(*victims.name.split("/", 1))
    thief.image.delete()
    assert s3.read(victims) == JPEG
    assert held(victims) == "tests.Snap.image"


@pytest.mark.parametrize("status", ["pending", "verifying"])
def test_a_name_whose_upload_is_not_completed_is_refused(alice: App, status: str) -> None:
    upload = row(alice.begin())
    if status == "verifying":
        Upload.objects.filter(pk=upload.pk).update(status=status, held_at=upload.created_at)
    with pytest.raises(NotCompleted), transaction.atomic():
        Snap.objects.create(title="By name", image=upload.name)
    assert not Snap.objects.exists()


# One row, two fields.


@pytest.mark.parametrize("how", ["replace", "clear"])
def test_a_file_in_two_fields_of_one_row_stays_until_both_let_it_go(how: str) -> None:
    upload, other = made(), made()
    novel = Novel.objects.create(sample=upload)
    novel.picture = novel.sample.name
    novel.save()
    assert (novel.picture.name, novel.sample.name) == (upload.name, upload.name)

    novel = Novel.objects.get()
    novel.sample = other if how == "replace" else None
    novel.save()
    assert not is_released(upload)
    novel.picture = None
    novel.save()
    assert is_released(upload)


def test_two_fields_of_one_table_are_emptied_at_once() -> None:
    upload = made()
    trashed = Trashed.objects.create(image=upload)
    trashed.cover = trashed.image.name
    trashed.save()
    trashed = Trashed.objects.get()
    trashed.image = None
    trashed.save()
    assert not is_released(upload)
    trashed.image = upload.name
    trashed.save()

    trashed = Trashed.objects.get()
    trashed.image, trashed.cover = None, None
    trashed.save()
    assert is_released(upload)


def test_rows_that_swap_their_files_in_one_statement_keep_both() -> None:
    one, two = made(), made()
    first, second = snap_of(one), snap_of(two)
    first, second = Snap.objects.get(pk=first.pk), Snap.objects.get(pk=second.pk)
    first.image, second.image = two.name, one.name
    Snap.objects.bulk_update([first, second], ["image"])
    assert (is_released(one), is_released(two)) == (False, False)
    assert Snap.objects.get(pk=first.pk).image.name == two.name


# Rows that are there, and that managers hide.


def test_a_row_that_the_base_manager_hides_still_has_its_file() -> None:
    hidden, shared = made(), made()
    Trashed.objects.create(image=hidden, is_deleted=True)
    Trashed.objects.create(image=shared.name, is_deleted=True)
    snap = snap_of(shared)
    assert Trashed._base_manager.count() == 0

    snap.delete()
    age(2 * DAY)
    assert reconcile("--delete") == ["Reconciled: nothing."]
    assert (is_released(hidden), is_released(shared)) == (False, False)


def test_a_hidden_row_that_is_deleted_releases_its_file() -> None:
    upload = made()
    Trashed.objects.create(image=upload, is_deleted=True).delete()
    assert is_released(upload)


def test_a_table_that_django_does_not_manage_is_asked_if_it_is_there() -> None:
    upload = made()
    snap = snap_of(upload)
    snap.delete()
    assert is_released(upload), "there is no such table"

    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE tests_legacy (id integer PRIMARY KEY, image varchar(100))")
    named = made()
    Legacy.objects.create(pk=1, image=named.name)
    snap_of(named).delete()
    assert not is_released(named)


# Reconcile, with settings that are not those of the rows.


@pytest.mark.parametrize("location", ["", "another", "media/photos"])
def test_in_another_location_nothing_is_released(settings: Any, location: str) -> None:
    storage = settings.STORAGES["default"]
    storage = {**storage, "OPTIONS": {**storage["OPTIONS"], "location": "media"}}
    settings.STORAGES = {**settings.STORAGES, "default": storage}
    upload = made()
    snap_of(upload)
    age(2 * DAY)
    assert reconcile("--delete") == ["Reconciled: nothing."]

    moved = {**storage, "OPTIONS": {**storage["OPTIONS"], "location": location}}
    settings.STORAGES = {**settings.STORAGES, "default": moved}
    reconcile("--delete")
    assert not is_released(upload)


# A row that moves to another database.


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A second database, with a table of covers."""
    file = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "archive.sqlite3")}
    both = connections.configure_settings({"default": {}, "archive": file})
    monkeypatch.setitem(connections.settings, "archive", both["archive"])
    connections["archive"].connect()  # Django's TestCase lets nobody connect later
    with connections["archive"].schema_editor() as editor:
        editor.create_model(Cover)
    yield "archive"
    connections["archive"].close()
    del connections["archive"]


def test_a_file_that_a_row_in_another_database_names_is_never_released(archive: str) -> None:
    upload, other = made(), made()
    cover, kept = Cover.objects.create(picture=upload), Cover.objects.create(picture=other)
    Cover(picture=upload.name).save(using=archive)
    Cover(picture="photos/of-no-upload.jpg").save(using=archive)
    assert (held(upload), held(other)) == ("…", "tests.Cover.picture")

    cover.delete()
    assert not is_released(upload)
    Cover.objects.using(archive).all().delete()
    assert not is_released(upload), "nobody knows that it is not needed"
    kept.delete()
    assert is_released(other)
