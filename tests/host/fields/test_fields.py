"""A model's field claims the upload that it is assigned, in the transaction of its row."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.management import call_command
from django.db import IntegrityError, connection, models, transaction
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.state import ModelState, ProjectState
from django.test.utils import CaptureQueriesContext, isolate_apps
from django.utils import timezone

from s3direct_uploads.exceptions import (
    AlreadyAttached,
    NameTooLong,
    NotCompleted,
    UploadError,
    WrongDatabase,
    WrongDestination,
)
from s3direct_uploads.fields import UploadFileField, UploadImageField
from s3direct_uploads.models import Upload
from s3direct_uploads.testing import completed_upload
from tests.conftest import Bucket
from tests.field_models import Book, Cover, Novel, Portrait, Snap

autocommit = pytest.mark.django_db(transaction=True)
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def anything_in_s3_is_there(s3: Bucket) -> None:
    pass


def made(destination: str = "photos", **changes: Any) -> Upload:
    """A completed upload, whose object nobody reads."""
    upload = completed_upload(destination=destination, filename="beach.jpg")
    Upload.objects.filter(pk=upload.pk).update(**changes)
    upload.refresh_from_db()
    return upload


def held(upload: Upload) -> str:
    """What holds it, as its row says; "" if nothing does, "…" if no field is named."""
    upload.refresh_from_db()
    return upload.attached_to or ("…" if upload.attached_at else "")


# It is claimed when its row is saved.


def test_saving_the_row_claims_the_upload() -> None:
    upload = made()
    snap = Snap(title="Beach")
    snap.image = upload
    assert snap.image.name == upload.name
    assert snap.image.upload == upload
    assert "X-Amz-Signature" in snap.image.url
    assert held(upload) == "", "nothing is claimed before it is saved"

    snap.save()

    assert held(upload) == "tests.Snap.image"
    assert Snap.objects.get().image.name == upload.name
    assert Snap.objects.get(image=upload) == snap


def test_every_way_to_save_a_row_claims_it() -> None:
    created, bulky, another, got, kept, lazily = (made() for _ in range(6))
    Snap.objects.create(title="1", image=created)
    two, three = Snap.objects.bulk_create(
        [Snap(title="2", image=bulky), Snap(title="3", image=another)]
    )
    Snap.objects.get_or_create(image=got, defaults={"title": "4"})
    assert Snap.objects.get_or_create(image=got) == (Snap.objects.get(title="4"), False)
    Snap.objects.update_or_create(title="5", defaults={"image": kept})
    six = Snap.objects.create(title="6")
    six = Snap.objects.defer("image").get(pk=six.pk)
    six.image = lazily
    six.save()
    for upload in (created, bulky, another, got, kept, lazily):
        assert held(upload) == "tests.Snap.image"
    assert {two.image.name, three.image.name} <= set(Snap.objects.values_list("image", flat=True))
    assert Snap.objects.get(title="6").image.name == lazily.name


def test_bulk_update_claims_the_new_and_releases_the_old() -> None:
    before = [made(), made()]
    snaps = [Snap.objects.create(title=each.pk.hex, image=each) for each in before]
    after = [made(), made()]
    for snap, upload in zip(snaps, after, strict=True):
        snap.image = upload
    assert Snap.objects.bulk_update(snaps, ["image"]) == 2
    assert [held(each) for each in after] == ["tests.Snap.image"] * 2
    assert [held(each) for each in before] == ["", ""]
    assert {each.status for each in before} == {"deleted"}
    assert {each.image.name for each in Snap.objects.all()} == {each.name for each in after}


def test_inheritance_names_the_table_that_has_the_column() -> None:
    cover, picture, sample = made(), made(), made()
    Cover.objects.create(picture=cover)
    novel = Novel.objects.create(picture=picture, sample=sample)
    assert held(cover) == "tests.Cover.picture"
    assert (held(picture), held(sample)) == ("tests.Book.picture", "tests.Novel.sample")
    assert Book.objects.get().picture.name == picture.name

    replaced, novel.sample = sample, made()
    novel.save()
    assert (held(replaced), replaced.status, held(picture)) == ("", "deleted", "tests.Book.picture")
    novel.delete()
    assert (held(picture), picture.status) == ("", "deleted")
    assert {each.status for each in Upload.objects.all()} == {"completed", "deleted"}
    assert Upload.objects.get(status="completed") == cover


def test_a_save_that_leaves_the_field_out_leaves_the_upload_alone() -> None:
    snap, upload = Snap.objects.create(title="Beach"), made()
    snap.image = upload
    snap.title = "Sea"
    snap.save(update_fields=["title"])
    assert (held(upload), Snap.objects.get().image.name) == ("", "")
    snap.save(update_fields=["image"])
    assert (held(upload), Snap.objects.get().image.name) == ("tests.Snap.image", upload.name)


@autocommit
def test_to_save_again_changes_nothing_and_asks_nothing() -> None:
    upload = made()
    snap = Snap.objects.create(title="Beach", image=upload)
    with CaptureQueriesContext(connection) as queries:
        snap.save()
    assert len(queries) == 1, "the UPDATE alone"
    assert (held(upload), Snap.objects.get().image.name) == ("tests.Snap.image", upload.name)
    snap.image = upload
    snap.full_clean()
    snap.save()
    Snap.objects.get().save()
    assert held(upload) == "tests.Snap.image"


def test_to_save_twice_in_one_transaction_claims_it_once() -> None:
    upload = made()
    snap = Snap.objects.create(title="Beach", image=upload)
    snap.full_clean()
    snap.save()
    assert held(upload) == "tests.Snap.image"


# It is claimed with the row, or not at all.


@autocommit
def test_a_failed_insert_leaves_nothing_claimed_with_autocommit() -> None:
    upload = made()
    Snap.objects.create(title="Beach")
    snap = Snap(title="Beach", image=upload)
    with pytest.raises(IntegrityError):
        snap.save()
    assert held(upload) == ""
    snap.title = "Sea"
    snap.save()
    assert held(upload) == "tests.Snap.image", "the same instance may be saved again"


@autocommit
@pytest.mark.parametrize("save", ["save", "bulk_create", "bulk_update", "update_or_create"])
def test_a_statement_that_fails_claims_and_releases_nothing(save: str) -> None:
    old, new = made(), made()
    Snap.objects.create(title="Taken")
    snap = Snap.objects.create(title="Beach", image=old)
    snap.image, snap.title = new, "Taken"

    def try_it() -> None:
        if save == "save":
            snap.save()
        elif save == "bulk_update":
            Snap.objects.bulk_update([snap], ["image", "title"])
        elif save == "bulk_create":
            Snap.objects.bulk_create([Snap(title="1", image=new), Snap(title="Taken")])
        else:
            Snap.objects.update_or_create(pk=snap.pk, defaults={"image": new, "title": "Taken"})

    with pytest.raises(IntegrityError):
        try_it()
    assert (held(old), held(new)) == ("tests.Snap.image", "")
    assert old.status == "completed"
    assert Snap.objects.get(pk=snap.pk).image.name == old.name


@autocommit
def test_a_transaction_that_rolls_back_gives_it_back_and_may_be_repeated() -> None:
    old, new = made(), made()
    snap = Snap.objects.create(title="Beach", image=old)
    snap.image = new

    def save_and_fail() -> None:
        with transaction.atomic():
            snap.save()
            assert held(new) == "tests.Snap.image"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        save_and_fail()
    assert (held(old), held(new)) == ("tests.Snap.image", "")
    snap.save()
    assert (held(old), held(new)) == ("", "tests.Snap.image")
    assert old.status == "deleted"


@autocommit
def test_a_new_row_that_was_rolled_back_is_saved_again() -> None:
    upload = made()
    snap = Snap(title="Beach", image=upload)

    def save_and_fail() -> None:
        with transaction.atomic():
            snap.save()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        save_and_fail()
    assert (held(upload), Snap.objects.count()) == ("", 0)
    snap.save()
    assert (held(upload), Snap.objects.get().image.name) == ("tests.Snap.image", upload.name)


@autocommit
def test_signals_are_sent_outside_of_the_transaction_as_always(connect_to: Any) -> None:
    seen: list[bool] = []
    connect_to(models.signals.pre_save, lambda **_: seen.append(connection.in_atomic_block))
    connect_to(models.signals.post_save, lambda **_: seen.append(connection.in_atomic_block))
    Snap.objects.create(title="Beach", image=made())
    assert seen == [False, False]


@pytest.fixture
def connect_to() -> Iterator[Callable[..., None]]:
    connected: list[tuple[Any, Any]] = []

    def connect_to(signal: Any, handler: Any) -> None:
        signal.connect(handler, sender=Snap)
        connected.append((signal, handler))

    yield connect_to
    for signal, handler in connected:
        signal.disconnect(handler, sender=Snap)


# What cannot be claimed.


def unusable() -> dict[str, tuple[Upload, type[UploadError]]]:
    used = made()
    used.attach()
    scanned = made(status="verifying", held_at=timezone.now(), completed_at=None, announced_at=None)
    elsewhere = made(bucket="another")
    long = made()
    Upload.objects.filter(pk=long.pk).update(key=f"site/photos/{'x' * 100}.jpg")
    long.refresh_from_db()
    return {
        "already_attached": (used, AlreadyAttached),
        "not_completed": (scanned, NotCompleted),
        "wrong_destination": (made("documents"), WrongDestination),
        "other bucket": (elsewhere, WrongDestination),
        "name_too_long": (long, NameTooLong),
    }


def test_what_cannot_be_claimed_is_an_error_of_the_form_or_of_the_save() -> None:
    old = made()
    snap = Snap.objects.create(title="Beach", image=old)
    for code, (upload, kind) in unusable().items():
        snap.image = upload
        with pytest.raises(ValidationError) as invalid:
            snap.full_clean()
        assert [each.code for each in invalid.value.error_dict["image"]] == [kind.code], code
        before = held(upload), upload.status
        with pytest.raises(kind) as refused, transaction.atomic():
            snap.save()
        assert refused.value.upload == upload
        assert refused.value.code == kind.code
        assert (held(upload), upload.status) == before
        with pytest.raises(kind), transaction.atomic():
            Snap.objects.bulk_create([Snap(title="Other", image=upload)])
    assert held(old) == "tests.Snap.image"
    assert Snap.objects.get().image.name == old.name


def test_a_stale_upload_is_looked_up_and_one_that_is_gone_is_named() -> None:
    stale = made()
    Upload.objects.get(pk=stale.pk).attach()
    with pytest.raises(ValidationError, match="in use already"):
        Snap(title="x", image=stale).full_clean()
    gone = made()
    gone_again = copy.copy(gone)
    gone.delete()
    with pytest.raises(ValidationError, match="not completed"):
        Snap(title="x", image=gone_again).full_clean()
    with pytest.raises((NotCompleted, Upload.DoesNotExist)), transaction.atomic():
        Snap.objects.create(title="x", image=gone_again)


def test_one_upload_is_of_one_row() -> None:
    upload = made()
    Snap.objects.create(title="Beach", image=upload)
    with pytest.raises(AlreadyAttached), transaction.atomic():
        Snap.objects.create(title="Sea", image=upload)
    with pytest.raises(AlreadyAttached), transaction.atomic():
        Snap.objects.bulk_create([Snap(title="Sea", image=upload)])
    assert Snap.objects.count() == 1


def test_a_queryset_update_refuses_an_upload() -> None:
    Snap.objects.create(title="Beach")
    with pytest.raises(TypeError, match="Tried to update field"):
        Snap.objects.update(image=made())


class ToOther:
    def db_for_write(self, model: Any, **_: Any) -> str | None:
        return "other" if model is Upload else None


def test_another_database_is_refused(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = made()
    settings.DATABASE_ROUTERS = ["tests.host.fields.test_fields.ToOther"]
    with pytest.raises(WrongDatabase), transaction.atomic():
        Snap.objects.create(title="Beach", image=upload)
    [error] = [each for each in Snap._meta.get_field("image").check() if "E054" in str(each.id)]
    settings.DATABASE_ROUTERS = []
    assert (held(upload), "'other'" in error.msg) == ("", True)


# As in Django.


def test_what_is_not_from_an_upload_is_saved_as_in_django(s3: Bucket) -> None:
    old_name = Snap.objects.create(title="1", image="photos/from-before.jpg")
    assert Snap.objects.get(pk=old_name.pk).image.name == "photos/from-before.jpg"
    snap = Snap(title="2", image=ContentFile(b"by Django", name="small.jpg"))
    snap.save()
    with Snap.objects.get(pk=snap.pk).image.open() as file:
        assert file.read() == b"by Django"
    script = Snap.objects.create(title="3")
    script.image.save("script.jpg", ContentFile(b"by a script"))
    with Snap.objects.get(pk=script.pk).image.open() as file:
        assert file.read() == b"by a script"
    name = script.image.name
    script.image.delete()
    assert Snap.objects.get(pk=script.pk).image.name == ""
    assert name
    assert not storages["default"].exists(name)
    assert Snap().image.name == ""
    assert not Snap().image
    assert not Upload.objects.exists()


@autocommit
def test_a_file_of_djangos_own_is_sent_before_the_transaction(
    s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = storages["default"]
    seen: list[bool] = []

    def save(name: str, *_: Any, **__: Any) -> str:
        seen.append(connection.in_atomic_block)
        return name

    monkeypatch.setattr(storage, "save", save)
    Snap.objects.create(title="2", image=ContentFile(b"by Django", name="small.jpg"))
    assert seen == [False]


def test_copies_and_pickles_have_what_the_instance_has() -> None:
    upload = made()
    for snap in (
        copy.copy(Snap(title="1", image=upload)),
        copy.deepcopy(Snap(title="2", image=upload)),
        pickle.loads(pickle.dumps(Snap(title="3", image=upload))),
    ):
        with transaction.atomic():
            snap.save()
            assert held(upload) == "tests.Snap.image"
            transaction.set_rollback(True)
    loaded = Snap.objects.create(title="4", image=made())
    again = pickle.loads(pickle.dumps(Snap.objects.get(pk=loaded.pk)))
    again.save()
    assert Snap.objects.get(pk=loaded.pk).image.name == loaded.image.name


def test_fixtures_carry_names(tmp_path: Any) -> None:
    upload = made()
    Snap.objects.create(title="Beach", image=upload)
    path = tmp_path / "snaps.json"
    call_command("dumpdata", "tests.Snap", output=str(path))
    call_command("loaddata", str(path), verbosity=0)
    assert Snap.objects.get().image.name == upload.name
    assert held(upload) == "tests.Snap.image"


# Images.


def test_dimensions_never_open_s3(s3_calls: list[str]) -> None:
    upload = made()
    portrait = Portrait(image=upload)
    assert (portrait.width, portrait.height) == (None, None)
    portrait = Portrait(image=upload, width=640, height=480)
    portrait.full_clean()
    portrait.save()
    assert held(upload) == "tests.Portrait.image"
    loaded = Portrait.objects.get()
    assert (loaded.width, loaded.height) == (640, 480)
    Portrait.objects.update(width=None)
    loaded = Portrait.objects.get()
    loaded.refresh_from_db()
    assert (loaded.width, loaded.height) == (None, 480)
    loaded.image = made()
    assert loaded.width is None
    assert loaded.height is None, "those were of the file before"
    loaded.width = 10
    loaded.save()
    assert Portrait.objects.get().width == 10
    loaded.image = None
    loaded.save()
    assert loaded.width is None
    assert not loaded.image
    assert s3_calls == []


# Migrations.


def test_migrations_see_djangos_own_fields() -> None:
    file = UploadFileField("File", destination="photos", blank=True, max_length=200)
    assert file.deconstruct()[1:] == (
        "django.db.models.FileField",
        [],
        {"verbose_name": "File", "blank": True, "max_length": 200, "upload_to": ""},
    )
    image = UploadImageField(destination="photos", width_field="w", upload_to="old/")
    assert image.deconstruct()[1:] == (
        "django.db.models.ImageField",
        [],
        {"upload_to": "old/", "width_field": "w"},
    )
    assert type(image.clone()) is models.ImageField
    given = models.FileField(storage=media_storage)
    ours = UploadFileField(destination="photos", storage=media_storage)
    assert ours.deconstruct()[1:] == given.deconstruct()[1:]


def media_storage() -> Any:
    return storages["default"]


def test_to_switch_and_to_go_back_needs_no_migration() -> None:
    @isolate_apps("tests")
    def state(field: Any) -> ProjectState:
        class Switched(models.Model):
            image = field

            class Meta:
                app_label = "tests"

            def __str__(self) -> str:
                return ""

        state = ProjectState()
        state.add_model(ModelState.from_model(Switched))
        return state

    def detect(one: ProjectState, other: ProjectState) -> Any:
        detector: Any = MigrationAutodetector(one, other)
        return detector._detect_changes()

    djangos = models.ImageField(upload_to="photos/", max_length=150, storage=media_storage)
    options: Any = {"upload_to": "photos/", "max_length": 150, "storage": media_storage}
    ours = UploadImageField(destination="photos", on_delete="keep", **options)
    before, after = state(djangos), state(ours)
    assert detect(before, after) == {}
    assert detect(after, before) == {}


# The storage.


def test_the_storage_is_the_destinations(settings: Any) -> None:
    media = settings.STORAGES["default"]
    elsewhere = {**media, "OPTIONS": {**media["OPTIONS"], "location": "elsewhere"}}
    settings.STORAGES = {**settings.STORAGES, "media": elsewhere}
    rules = {**settings.S3DIRECT_UPLOADS["DESTINATIONS"]["photos"], "STORAGE": "media"}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": rules}}
    upload = made()
    assert upload.key.startswith("elsewhere/photos/")
    snap = Snap.objects.create(title="Beach", image=upload)
    assert Snap.objects.get().image.storage is storages["media"]
    assert snap.image.name == upload.name
    assert "/elsewhere/photos/" in snap.image.url
    snap.delete()
    assert (held(upload), upload.status) == ("", "deleted")


# System checks.


def problems(field: Any, **columns: Any) -> list[str]:
    """The ids of what is wrong with a model that has this field."""
    with isolate_apps("tests"):
        body = {
            "__module__": "tests.models",
            "Meta": type("Meta", (), {"app_label": "tests"}),
            "__str__": lambda self: "",
            "image": field,
        }
        model: Any = type("Checked", (models.Model,), {**body, **columns})
    found: list[Any] = model.check()
    assert all(each.hint for each in found)
    return [str(each.id).removeprefix("s3direct_uploads.") for each in found]


def other_folder() -> Any:
    return other_storage(location="elsewhere")


def other_bucket() -> Any:
    return other_storage(bucket_name="elsewhere")


def other_storage(**changes: str) -> Any:
    storage: Any = storages["default"]
    backends: Any = storages.backends
    return type(storage)(**{**backends["default"]["OPTIONS"], **changes})


def test_each_mistake_is_a_check() -> None:
    number = models.PositiveIntegerField
    assert problems(UploadFileField(destination="photos")) == []
    assert problems(UploadFileField(destination="photos", storage=media_storage)) == []
    assert problems(UploadFileField(destination="nowhere")) == ["E050"]
    assert problems(UploadFileField(destination=None)) == ["E050"]  # type: ignore[arg-type]
    assert problems(UploadFileField(destination="photos", on_replace="delete")) == ["E051"]
    assert problems(UploadFileField(destination="photos", on_delete=models.CASCADE)) == ["E051"]  # type: ignore[arg-type]
    assert problems(UploadFileField(destination="photos", storage=other_folder)) == ["E052"]
    assert problems(UploadFileField(destination="photos", storage=other_bucket)) == ["E052"]
    assert problems(UploadFileField(destination="photos", max_length=99)) == ["E053"]
    assert problems(UploadFileField(destination="photos", max_length=None)) == []
    image = UploadImageField(destination="photos", width_field="w", height_field="h")
    assert problems(image, w=number(), h=number(null=True)) == ["W055"]


def test_a_destination_that_is_wrong_in_itself_has_its_own_check(settings: Any) -> None:
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": {"MAX_SIZE": "20 MB"}}}
    assert problems(UploadFileField(destination="photos")) == []
