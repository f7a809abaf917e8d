"""``adopt_files``: files that were there before this app become uploads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection

from example_project.photos.models import Photo as WallPhoto
from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload, Usage
from s3direct_uploads.s3 import get_bucket
from tests.conftest import DAY, HOUR, Bucket, age
from tests.field_models import Portrait, Snap
from tests.host.fields.test_fields import held, made
from tests.host.fields.test_release import is_released
from tests.models import Photo

pytestmark = pytest.mark.django_db
SNAPS = ("tests.Snap.image", "--destination", "photos")


@pytest.fixture(autouse=True)
def there_is_s3(own_bucket: Bucket) -> None:
    pass


def run(*arguments: str) -> tuple[list[str], str]:
    """The lines that the command prints, and what it fails with."""
    out, error = StringIO(), ""
    try:
        call_command("adopt_files", *arguments, stdout=out)
    except CommandError as failed:
        error = str(failed)
    return out.getvalue().splitlines(), error


@pytest.fixture
def write(s3: Bucket) -> Callable[..., str]:
    """Put an object where a FileField keeps it; its name."""

    def write(name: str, body: bytes = b"before", content_type: str = "image/png") -> str:
        key = f"site/{name}"
        s3.client.put_object(Bucket=s3.name, Key=key, Body=body, ContentType=content_type)
        return name

    return write


def test_a_file_of_before_becomes_an_upload(
    write: Callable[..., str], s3: Bucket, s3_calls: list[str]
) -> None:
    snap = Snap.objects.create(title="1", image=write("old/beach 1.png"))
    Snap.objects.create(title="2")
    s3_calls.clear()
    assert run(*SNAPS) == (["Adopted: 1 adopted."], "")
    assert s3_calls == ["HeadObject"]

    upload = Upload.objects.get()
    assert (upload.status, upload.attached_to) == ("completed", "tests.Snap.image")
    assert (upload.key, upload.name) == ("site/old/beach 1.png", snap.image.name)
    assert (upload.filename, upload.content_type, upload.size) == ("beach 1.png", "image/png", 6)
    assert (upload.owner, upload.counted, upload.due_at) == (None, False, None)
    assert upload.etag
    assert list(Upload.objects.of_file(snap.image)) == [upload]

    s3_calls.clear()
    assert run(*SNAPS) == (["Adopted: 1 known."], "")
    assert (s3_calls, Upload.objects.count()) == ([], 1)


def test_its_file_lives_and_dies_with_its_row_from_then_on(
    write: Callable[..., str], s3: Bucket, make_user: Callable[..., User], settings: Any
) -> None:
    ours = settings.S3DIRECT_UPLOADS
    photos = {**ours["DESTINATIONS"]["photos"], "MAX_TOTAL_SIZE": 10}
    settings.S3DIRECT_UPLOADS = {**ours, "DESTINATIONS": {**ours["DESTINATIONS"], "photos": photos}}
    owner, other = make_user("owner"), make_user("other")
    for number in range(3):
        image = write(f"old/{number}.png", b"x" * 8)
        WallPhoto.objects.create(owner=owner, image=image, filename="x")
    WallPhoto.objects.create(owner=other, image=write("old/other.png"), filename="x")
    arguments = ("photos.Photo.image", "--destination", "photos", "--owner", "owner")

    assert run(*arguments) == (["Adopted: 4 adopted."], "")
    assert Usage.objects.get(owner=owner).total_size == 24, "more than the limit: it is there"
    assert Usage.objects.get(owner=other).total_size == 6
    assert list(lifecycle.recount("photos")) == [
        (Usage.objects.get(owner=owner), False),
        (Usage.objects.get(owner=other), False),
    ]
    assert run(*arguments) == (["Adopted: 4 known."], "")
    assert Usage.objects.get(owner=owner).total_size == 24

    upload = Upload.objects.get(key="site/old/0.png")
    age(30 * DAY)
    assert lifecycle.sweep() == {}
    assert list(lifecycle.unnamed(delete=True)) == []
    assert [each.key for each in lifecycle.reconcile(delete=True)] == [], "no key has our MAC"
    WallPhoto.objects.get(image=upload.name).delete()
    assert is_released(upload)
    age(3 * HOUR)
    lifecycle.sweep()
    assert s3.read(upload) is None
    assert s3.read(Upload.objects.get(key="site/old/1.png")) == b"x" * 8
    assert Usage.objects.get(owner=owner).total_size == 16
    age(2 * DAY)
    lifecycle.sweep()
    age(8 * DAY)
    lifecycle.sweep()
    assert not Upload.objects.filter(pk=upload.pk).exists(), "pruned"


def test_what_cannot_be_adopted_is_named_and_the_rest_is_adopted(
    write: Callable[..., str], head_answers: dict[str, int]
) -> None:
    names = ["old/missing.png", "../outside.png", "/outside.png", "old//x.png", "http://a/b.png"]
    released = made()
    Snap.objects.create(title="tmp", image=released).delete()
    pending = made(status="pending", completed_at=None, announced_at=None)
    forbidden = write("old/forbidden.png")
    head_answers["forbidden"] = 403
    for name in [*names, forbidden, write("old/there.png")]:
        Snap.objects.create(title=name, image=name)
    Snap.objects.filter(title="old/there.png").update(title="there")
    for upload in (released, pending):  # which the field itself refuses
        Snap.objects.create(title=upload.pk.hex)
        Snap.objects.filter(title=upload.pk.hex).update(image=upload.name)

    *lines, summary = run(*SNAPS)[0]

    said = {line.split(" tests.Snap ")[1].split(" ", 1)[1]: line.split()[0] for line in lines}
    assert said == {
        "old/missing.png": "missing",
        **dict.fromkeys(names[1:], "outside"),
        pending.name: "gone",
        released.name: "gone",
        forbidden: "failed",
    }
    assert summary == "Adopted: 1 adopted, 1 failed, 2 gone, 1 missing, 4 outside."
    assert run(*SNAPS)[1] == "Files that are not uploads: 8. The lines above name them."
    assert held(Upload.objects.get(key="site/old/there.png")) == "tests.Snap.image"


def test_uploads_that_no_field_held_are_claimed() -> None:
    unattached, by_hand, elsewhere = made(), made(), made()
    by_hand.attach()
    elsewhere.attach(to="tests.Cover.picture")
    for each in (unattached, by_hand, elsewhere):
        Snap.objects.create(title=each.pk.hex, image=each.name)
    assert run(*SNAPS, "--dry-run") == (["Dry run: 2 claimed, 1 known."], "")
    assert run(*SNAPS) == (["Adopted: 2 claimed, 1 known."], "")
    assert (held(unattached), held(by_hand)) == ("tests.Snap.image", "tests.Snap.image")
    assert held(elsewhere) == "tests.Cover.picture"
    assert run(*SNAPS) == (["Adopted: 3 known."], "")


def test_an_upload_of_somebody_else_that_nothing_holds_is_not_claimed(
    make_user: Callable[..., Any],
) -> None:
    alice, bob = make_user(), make_user()
    victims, bobs, by_hand = (made(owner=owner) for owner in (alice, bob, alice))
    by_hand.attach()
    rows = [
        WallPhoto.objects.create(owner=bob, image=each.name, filename="x")
        for each in (victims, bobs, by_hand)
    ]

    *lines, summary = run("photos.Photo.image", "--destination", "photos", "--owner", "owner")[0]

    assert lines == [f"conflict photos.Photo {rows[0].pk} {victims.name}"]
    assert summary == "Adopted: 2 claimed, 1 conflict."
    rows[0].delete()
    victims.refresh_from_db()
    assert (victims.status, held(victims)) == ("completed", "")


def test_an_upload_whose_row_let_it_go_meanwhile_is_not_claimed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A list of the project's own has it, too. A field that held it would release it there."""
    upload = made()
    snap = Snap.objects.create(title="1", image=upload.attach())
    claim = lifecycle.adopting._Batch._claim

    def meanwhile(self: Any, *known: Any) -> str:
        snap.image = None
        snap.save()
        return claim(self, *known)

    monkeypatch.setattr(lifecycle.adopting._Batch, "_claim", meanwhile)
    *lines, _ = run(*SNAPS)[0]
    assert lines == [f"changed tests.Snap {snap.pk} {upload.name}"]
    assert (held(upload), upload.status) == ("…", "completed")


def test_a_dry_run_asks_and_writes_nothing(write: Callable[..., str], s3_calls: list[str]) -> None:
    Snap.objects.create(title="1", image=write("old/1.png"))
    Snap.objects.create(title="2", image="old/never-there.png")
    s3_calls.clear()
    lines, error = run(*SNAPS, "--dry-run")
    assert lines[-1] == "Dry run: 1 adopted, 1 missing."
    assert error
    assert (s3_calls, Upload.objects.count()) == (["HeadObject"] * 2, 0)


def test_one_file_of_several_rows_is_one_upload(write: Callable[..., str]) -> None:
    name = write("old/1.png")
    first = Snap.objects.create(title="1", image=name)
    second = Snap.objects.create(title="2", image=name)
    assert run(*SNAPS) == (["Adopted: 1 adopted, 1 known."], "")
    upload = Upload.objects.get()
    first.delete()
    assert not is_released(upload)
    second.delete()
    assert is_released(upload)


def test_it_goes_on_where_it_was_interrupted(
    write: Callable[..., str], s3_calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s3direct_uploads.lifecycle.adopting.BATCH", 2)
    for number in range(5):
        Snap.objects.create(title=str(number), image=write(f"old/{number}.png"))
    batches = lifecycle.adopt(Snap._meta.get_field("image"), destination="photos")
    assert [each.what for each in next(batches)] == ["adopted"] * 2
    batches.close()  # type: ignore[attr-defined]
    assert Upload.objects.count() == 2
    s3_calls.clear()
    assert run(*SNAPS) == (["Adopted: 3 adopted, 2 known."], "")
    assert s3_calls == ["HeadObject"] * 3


def test_it_needs_no_tqdm(write: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    Snap.objects.create(title="1", image=write("old/1.png"))
    assert run(*SNAPS) == (["Adopted: 1 adopted."], "")


def test_s3_away_stops_it(write: Callable[..., str], s3_away: Callable[[], None]) -> None:
    Snap.objects.create(title="1", image="old/1.png")
    s3_away()
    lines, error = run(*SNAPS)
    assert lines == ["Adopted: nothing."]
    assert error.endswith("Run it again to continue.")
    assert not Upload.objects.exists()


def test_a_row_that_changed_meanwhile_is_left_alone(
    write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Snap.objects.create(title="1", image=write("old/1.png"))
    new = made()
    replaced = Snap.objects.create(title="2", image=write("old/2.png"))
    bucket = type(get_bucket("default"))
    head = bucket.head
    lock = threading.Lock()

    def head_meanwhile(self: Any, key: str) -> Any:
        with lock:
            asked.append(key)
        return head(self, key)

    asked: list[str] = []
    monkeypatch.setattr(bucket, "head", head_meanwhile)
    insert = lifecycle.adopting._Batch._insert_all

    def meanwhile(self: Any, found: Any) -> Any:
        gone.delete()
        replaced.image = new
        replaced.save()
        return insert(self, found)

    monkeypatch.setattr(lifecycle.adopting._Batch, "_insert_all", meanwhile)
    lines, _ = run(*SNAPS)
    assert lines[-1] == "Adopted: 2 changed."
    assert sorted(asked) == ["site/old/1.png", "site/old/2.png"]
    assert Upload.objects.get() == new


def test_two_processes_that_adopt_the_same_make_one_upload(
    write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        Snap.objects.create(title=str(number), image=write(f"old/{number}.png"))
    insert = lifecycle.adopting._Batch._insert_all
    others: list[int] = []

    def second(self: Any, found: Any) -> Any:
        if not others:
            others.append(1)
            insert(self, dict(list(found.items())[:2]))
        return insert(self, found)

    monkeypatch.setattr(lifecycle.adopting._Batch, "_insert_all", second)
    assert run(*SNAPS) == (["Adopted: 1 adopted, 2 known."], "")
    assert Upload.objects.count() == 3


def test_the_owner_may_be_further_away_or_the_row_itself(
    write: Callable[..., str], make_user: Callable[..., User]
) -> None:
    path = lifecycle.adopting._owner_path
    assert path(WallPhoto, "owner") == "owner__pk"
    assert path(User, "pk") == "pk"
    for wrong in ("pk", "title", "album", "album__owner", "nothing", "owner"):
        Snap.objects.get_or_create(title="x")
        _, error = run(*SNAPS, "--owner", wrong)
        assert wrong in error


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("tests.Snap.nothing", "--destination", "photos"), "There is no field"),
        (("tests.Nothing.image", "--destination", "photos"), "There is no field"),
        (("Snap.image", "--destination", "photos"), "Write the field as app.Model.field"),
        (("tests.Snap.title", "--destination", "photos"), "tests.Snap.title is not a FileField."),
        (("tests.Snap.image", "--destination", "x"), "There is no destination 'x'. Write one of"),
        (
            ("tests.Snap.image", "--destination", "photos", "--owner", "title"),
            "The path 'title' does not lead from tests.Snap to its user (auth.User). Write the "
            "names of foreign keys, joined by __, such as owner or album__owner.",
        ),
    ],
)
def test_wrong_arguments(arguments: tuple[str, ...], problem: str) -> None:
    lines, error = run(*arguments)
    assert (lines, problem in error) == ([], True)
    assert "again" not in error


def test_another_destination_than_the_fields_is_refused(write: Callable[..., str]) -> None:
    Snap.objects.create(title="1", image=write("old/1.png"))
    _, error = run("tests.Snap.image", "--destination", "documents")
    assert "tests.Snap.image has the destination 'photos'" in error
    assert not Upload.objects.exists()


def test_a_storage_of_another_place_is_refused(settings: Any) -> None:
    media = settings.STORAGES["default"]
    elsewhere = {**media, "OPTIONS": {**media["OPTIONS"], "location": "elsewhere"}}
    settings.STORAGES = {**settings.STORAGES, "media": elsewhere}
    rules = {**settings.S3DIRECT_UPLOADS["DESTINATIONS"]["photos"], "STORAGE": "media"}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": rules}}
    Photo.objects.create(image="old.png")
    _, error = run("tests.Photo.image", "--destination", "photos")
    assert "the location 'site'; that of the destination 'photos' has" in error


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_s3_is_asked(
    write: Callable[..., str], in_transaction: list[bool]
) -> None:
    Portrait.objects.create(image=write("old/1.png"), width=1, height=1)
    in_transaction.clear()
    assert not connection.in_atomic_block
    assert run("tests.Portrait.image", "--destination", "photos") == (["Adopted: 1 adopted."], "")
    assert in_transaction == [False]


def test_a_plain_filefield_is_switched_adopted_and_switched_back(
    write: Callable[..., str],
) -> None:
    """The one-line change is the class of the field. Its rows are the same before and after."""
    Photo.objects.bulk_create([Photo(image=write(f"old/{each}.png")) for each in range(3)])
    assert run("tests.Photo.image", "--destination", "photos") == (["Adopted: 3 adopted."], "")
    uploads = list(Upload.objects.all())
    assert {each.attached_to for each in uploads} == {"tests.Photo.image"}
    Photo.objects.all().delete()
    assert not any(is_released(each) for each in uploads), "Django's own field releases nothing"
    age(2 * DAY)
    assert len(list(lifecycle.unnamed(delete=True))) == 3
    assert all(is_released(each) for each in uploads)
