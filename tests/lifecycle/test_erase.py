"""A person goes: what nobody holds is cancelled or deleted, and what a model holds is listed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from io import BytesIO, StringIO
from typing import Any

import pytest
import requests
from django.contrib.admin.utils import NestedObjects
from django.contrib.auth.models import AnonymousUser, User
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.transaction import TransactionManagementError
from django.utils import timezone

from s3direct_uploads import lifecycle, signals
from s3direct_uploads.exceptions import NotCompleted, NotPending, OwnerUnknown
from s3direct_uploads.models import Upload, Usage
from tests.conftest import DAY, HOUR, JPEG, App, Bucket, Connect, age, row, sweep
from tests.field_models import Snap
from tests.lifecycle.conftest import Limit, recount, used
from tests.models import Photo

SIZE = len(JPEG)


@pytest.fixture
def held(settings: Any) -> None:
    """A scan holds what is confirmed from now on."""
    ours = settings.S3DIRECT_UPLOADS["DESTINATIONS"]
    settings.S3DIRECT_UPLOADS = {
        "DESTINATIONS": {**ours, "photos": {**ours["photos"], "HOLD": True}}
    }


def states(*uploads: Upload) -> list[str]:
    for upload in uploads:
        upload.refresh_from_db()
    return [upload.status for upload in uploads]


def close(*uploads: Upload) -> None:
    """Let the last URL of these have expired three days ago."""
    for upload in uploads:
        past = timezone.now() - timedelta(days=3)
        Upload.objects.filter(pk=upload.pk).update(url_expires_at=past)


# The host deletes the user.


def test_a_pending_upload_of_a_deleted_user_never_completes(
    alice: App, s3: Bucket, heard: list[str]
) -> None:
    begun = alice.begin()
    upload, stale = row(begun), row(begun)
    assert alice.user
    alice.user.delete()
    assert states(upload) == ["cancelled"]
    assert upload.owner_id is None

    assert alice.send(begun.json()["request"]) == 200, "S3 still takes the signed PUT"
    assert lifecycle.notice(s3.name, upload.key) == upload, "and says so"
    for each in (upload, stale):
        with pytest.raises(NotPending):
            lifecycle.confirm(each)
    assert sweep() == {}, "the key is open still"
    age(3 * HOUR)
    assert sweep() == {"cleaned": 1}
    assert s3.read(upload) is None
    assert heard == []


def test_a_completed_upload_of_a_deleted_user_goes_with_its_object(alice: App, s3: Bucket) -> None:
    upload = row(alice.upload())
    assert alice.user
    alice.user.delete()
    assert states(upload) == ["deleted"]
    assert s3.read(upload) == JPEG
    with pytest.raises(NotCompleted):
        upload.attach()
    age(3 * HOUR)
    assert sweep() == {"cleaned": 1}
    assert s3.read(upload) is None
    age(9 * DAY)
    sweep()
    age(9 * DAY)
    sweep()
    assert not Upload.objects.exists()


def test_parts_of_a_deleted_user_are_aborted(alice: App, s3: Bucket, films: None) -> None:
    upload = row(alice.begin_film())
    s3.write_part(upload, 1, b"part")
    assert alice.user
    alice.user.delete()
    age(3 * HOUR)
    assert sweep() == {"cleaned": 1}
    assert s3.open_multiparts(upload) == []


def test_a_deleted_users_file_stays_as_long_as_a_row_names_it(alice: App, s3: Bucket) -> None:
    upload = row(alice.upload())
    snap = Snap.objects.create(title="kept", image=upload)
    assert alice.user
    alice.user.delete()
    assert states(upload) == ["completed"]
    assert (upload.owner_id, upload.attached_to) == (None, "tests.Snap.image")
    age(3 * HOUR)
    assert sweep() == {}
    assert s3.read(upload) == JPEG
    snap.delete()
    assert states(upload) == ["deleted"]


def test_an_upload_that_never_had_an_owner_is_no_orphan(alice: App, s3: Bucket) -> None:
    """A script's, or a visitor's."""
    stored = lifecycle.store(BytesIO(JPEG), destination="photos", filename="a.jpg")
    begun, _ = lifecycle.begin(
        owner=None, destination="photos", filename="b.jpg", size=SIZE, content_type="image/jpeg"
    )
    assert alice.user
    alice.user.delete()
    assert states(stored, begun) == ["completed", "pending"]
    s3.write(begun, JPEG)
    assert lifecycle.confirm(begun).status == "completed"


def test_only_the_deleted_user_loses_uploads(alice: App, bob: App) -> None:
    mine, theirs = row(alice.begin()), row(bob.begin())
    User.objects.filter(username="alice").delete()
    assert states(mine, theirs) == ["cancelled", "pending"]


def test_many_users_are_deleted_at_once(make_user: Callable[..., User], s3: Bucket) -> None:
    uploads = [row(App(make_user()).begin()) for _ in range(3)]
    tombstone = uploads[0]
    lifecycle.cancel(tombstone)
    due_at = tombstone.due_at
    User.objects.all().delete()
    assert states(*uploads) == ["cancelled"] * 3
    assert tombstone.due_at == due_at
    assert {upload.owner_id for upload in uploads} == {None}


def test_to_look_at_a_deletion_or_to_roll_it_back_changes_nothing(alice: App) -> None:
    """The admin collects what it would delete, to ask first."""
    upload = row(alice.begin())
    assert alice.user
    NestedObjects("default").collect([alice.user])
    assert states(upload) == ["pending"]
    with transaction.atomic():
        User.objects.all().delete()
        assert states(upload) == ["cancelled"]
        transaction.set_rollback(True)
    assert states(upload) == ["pending"]
    assert upload.owner == alice.user


# lifecycle.erase().


@pytest.fixture
def heard(connect: Connect) -> list[str]:
    """The status of each upload that is announced or cancelled."""
    heard: list[str] = []

    def listen(upload: Upload, **_: Any) -> None:
        heard.append(upload.status)

    connect(signals.upload_completed, listen)
    connect(signals.upload_cancelled, listen)
    return heard


def test_what_nobody_holds_is_erased_and_the_rest_is_listed(
    alice: App, bob: App, s3: Bucket, heard: list[str]
) -> None:
    pending, completed, attached, elsewhere = (
        row(alice.begin()),
        *(row(alice.upload()) for _ in range(3)),
    )
    theirs = row(bob.upload())
    snap = Snap.objects.create(title="held", image=attached)
    elsewhere.attach()
    close(completed)
    heard.clear()
    assert alice.user

    erased = lifecycle.erase(alice.user)

    assert (erased.cancelled, erased.deleted, erased.waiting) == (1, 1, 1)
    assert erased.in_use == [
        lifecycle.InUse(attached.pk, "photos", [f"tests.Snap.image of {snap.pk}"]),
        lifecycle.InUse(elsewhere.pk, "photos", []),
    ]
    assert states(pending, completed, attached, elsewhere, theirs) == [
        "cancelled",
        "deleted",
        "completed",
        "completed",
        "completed",
    ]
    assert heard == ["cancelled"]
    assert s3.read(completed) is None, "its key is closed: it is deleted at once"
    assert s3.read(attached) == s3.read(theirs) == JPEG
    assert pending.due_at == pending.key_closes_at
    assert alice.user == attached.owner


def test_the_words_of_the_person_are_blanked_in_every_row(
    alice: App, bob: App, s3: Bucket, any_context: None
) -> None:
    said: dict[str, Any] = {
        "filename": "my diary.jpg",
        "destination": "albums",
        "context": {"about": "me"},
    }
    rejected, attached = row(alice.upload(**said)), row(alice.upload(**said))
    row(alice.begin({"Idempotency-Key": "my diary"}, **said))
    theirs = row(bob.begin(**said))
    lifecycle.cancel(rejected)
    attached.attach()
    assert alice.user

    erased = lifecycle.erase(alice.user)

    assert erased.blanked == 3
    mine = Upload.objects.filter(owner=alice.user)
    assert {(each.filename, each.idempotency_key) for each in mine} == {("", None)}
    assert [each.context for each in mine] == [{}] * 3
    theirs.refresh_from_db()
    assert (theirs.filename, theirs.context) == ("my diary.jpg", {"about": "me"})
    assert attached.key.endswith("/my-diary.jpg"), "the object stays, and so does its key"


@pytest.mark.parametrize("disposition", ["attachment", "inline"])
def test_a_file_without_a_filename_is_still_downloaded(
    alice: App, s3: Bucket, disposition: str
) -> None:
    upload = row(alice.upload())
    upload.attach()
    assert alice.user
    lifecycle.erase(alice.user)
    query = {"disposition": disposition} if disposition == "inline" else {}
    found = requests.get(alice.get(f"{upload.pk}/url/", **query).json()["url"], timeout=10)
    assert (found.content, found.headers["Content-Disposition"]) == (JPEG, disposition)
    assert alice.get(f"{upload.pk}/").json()["filename"] == ""


def test_a_dry_run_says_what_would_be_done(alice: App, s3: Bucket) -> None:
    row(alice.begin())
    row(alice.upload()).attach()
    row(alice.upload())
    close(row(alice.upload()))
    before = list(Upload.objects.order_by("pk").values())
    assert alice.user

    planned = lifecycle.erase(alice.user, dry_run=True)

    assert list(Upload.objects.order_by("pk").values()) == before
    assert lifecycle.erase(alice.user) == planned
    assert (planned.cancelled, planned.deleted, planned.waiting, planned.blanked) == (1, 2, 2, 4)


def test_to_erase_twice_finds_nothing_the_second_time(alice: App, s3: Bucket) -> None:
    attached = row(alice.upload())
    attached.attach()
    row(alice.begin())
    assert alice.user
    first, second = lifecycle.erase(alice.user), lifecycle.erase(alice.user)
    assert first.in_use == second.in_use
    assert (second.cancelled, second.deleted, second.blanked, second.waiting) == (0, 0, 0, 1)


def test_while_s3_is_away_the_sweep_does_the_rest(
    alice: App, s3: Bucket, s3_away: Callable[[], None], storage_options: Callable[..., None]
) -> None:
    completed, film = row(alice.upload()), row(alice.begin())
    close(completed, film)
    assert alice.user
    endpoint = s3.client.meta.endpoint_url
    s3_away()

    erased = lifecycle.erase(alice.user)

    assert (erased.cancelled, erased.deleted, erased.waiting) == (1, 1, 2)
    storage_options(endpoint_url=endpoint)
    assert s3.read(completed) == JPEG
    assert sweep() == {}, "a row that failed is tried again later"
    age(DAY)
    assert sweep() == {"cleaned": 2}
    assert s3.read(completed) is None


def test_parts_are_aborted_at_once(alice: App, s3: Bucket, films: None) -> None:
    upload = row(alice.begin_film())
    s3.write_part(upload, 1, b"part")
    assert alice.user
    lifecycle.erase(alice.user)
    assert s3.open_multiparts(upload) == []


def test_a_held_upload_is_erased_too(alice: App, s3: Bucket, held: None) -> None:
    upload = row(alice.upload())
    assert upload.status == "verifying"
    assert alice.user
    assert lifecycle.erase(alice.user).cancelled == 1
    assert states(upload) == ["cancelled"]


def test_usage_stays_in_step(alice: App, s3: Bucket, limit: Limit) -> None:
    limit(MAX_TOTAL_SIZE=1024, MAX_PENDING=9)
    closed, attached = row(alice.upload()), row(alice.upload())
    row(alice.begin())
    attached.attach()
    close(closed)
    assert used(alice) == (1, 3 * SIZE)
    assert alice.user
    lifecycle.erase(alice.user)
    assert used(alice) == (0, 2 * SIZE), "one in use, and one that may still arrive"
    assert "photos: owners counted: 1, corrected: 0." in recount()
    alice.user.delete()
    assert not Usage.objects.exists()


def test_more_uploads_than_one_batch(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s3direct_uploads.lifecycle.erasing.BATCH", 2)
    for _ in range(5):
        alice.begin()
    for number in range(3):
        Snap.objects.create(title=str(number), image=row(alice.upload()))
    assert alice.user
    erased = lifecycle.erase(alice.user)
    assert (erased.cancelled, erased.blanked, len(erased.in_use)) == (5, 8, 3)
    assert all(each.rows for each in erased.in_use)


def test_each_row_that_names_the_file_is_listed(alice: App, s3: Bucket) -> None:
    upload = row(alice.upload())
    snap = Snap.objects.create(title="one", image=upload)
    photo = Photo.objects.create(image=upload.name)
    assert alice.user
    [in_use] = lifecycle.erase(alice.user).in_use
    assert sorted(in_use.rows) == [
        f"tests.Photo.image of {photo.pk}",
        f"tests.Snap.image of {snap.pk}",
    ]


@pytest.mark.django_db(transaction=True)
def test_s3_is_never_asked_in_a_transaction(
    alice: App, s3: Bucket, films: None, in_transaction: list[bool]
) -> None:
    close(row(alice.upload()))
    row(alice.begin_film())
    assert alice.user
    in_transaction.clear()
    lifecycle.erase(alice.user)
    assert set(in_transaction) == {False}
    with transaction.atomic(), pytest.raises(TransactionManagementError):
        lifecycle.erase(alice.user)


@pytest.mark.parametrize("owner", [AnonymousUser(), User(username="ghost"), None, 5])
def test_nobody_cannot_be_erased(alice: App, s3: Bucket, owner: Any) -> None:
    """It would be everything that scripts and visitors uploaded."""
    stored = lifecycle.store(BytesIO(JPEG), destination="photos", filename="a.jpg")
    with pytest.raises(OwnerUnknown):
        lifecycle.erase(owner)
    assert states(stored) == ["completed"]
    assert stored.filename == "a.jpg"


# manage.py erase_uploads.


def erase_uploads(*arguments: str) -> str:
    out = StringIO()
    call_command("erase_uploads", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_erases_by_username(alice: App, s3: Bucket) -> None:
    row(alice.begin())
    closed, attached = row(alice.upload()), row(alice.upload())
    close(closed)
    snap = Snap.objects.create(title="held", image=attached)
    told = [
        "Uploads that were cancelled: 1.",
        "Uploads that were deleted: 1.",
        "Rows whose filename and context were blanked: 3.",
        "Objects that a sweep deletes later: 1.",
        "Uploads that are in use, and stay: 1. Change or delete the rows that name them:",
        f"{attached.pk} photos: tests.Snap.image of {snap.pk}",
    ]
    tried = erase_uploads("alice", "--dry-run").splitlines()
    assert tried == ["Dry run: nothing is changed.", *told]
    assert states(closed) == ["completed"]
    assert erase_uploads("alice").splitlines() == told
    assert states(closed) == ["deleted"]


def test_the_command_erases_by_primary_key(alice: App, s3: Bucket) -> None:
    upload = row(alice.begin())
    assert alice.user
    erase_uploads(str(alice.user.pk))
    assert states(upload) == ["cancelled"]


UNKNOWN = ["nobody", "999999", "0" * 400, "-1", "\x00", "01234567-89ab-4cde-8f01-23456789abcd"]


@pytest.mark.parametrize("user", UNKNOWN)
def test_the_command_refuses_somebody_unknown(alice: App, user: str) -> None:
    with pytest.raises(CommandError, match="There is no user"):
        erase_uploads(user)


def test_the_command_never_guesses_between_two_users(
    alice: App, make_user: Callable[..., User], s3: Bucket
) -> None:
    """One's username is the other's primary key."""
    assert alice.user
    namesake = App(make_user(str(alice.user.pk)))
    mine, theirs = row(alice.begin()), row(namesake.begin())
    with pytest.raises(CommandError, match="--by"):
        erase_uploads(str(alice.user.pk))
    assert states(mine, theirs) == ["pending", "pending"]
    erase_uploads(str(alice.user.pk), "--by", "username")
    assert states(mine, theirs) == ["pending", "cancelled"]
    erase_uploads(str(alice.user.pk), "--by", "pk")
    assert states(mine) == ["cancelled"]


def test_the_command_says_who_holds_what_no_row_names(alice: App, s3: Bucket) -> None:
    upload = row(alice.upload())
    upload.attach()
    said = erase_uploads("alice").splitlines()
    assert said[-1] == f"{upload.pk} photos: no FileField names it; the project's own code may"
