"""Usage stays in step with the rows, and a recount corrects it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError
from django.test import Client
from django.utils import timezone

from s3direct_uploads import lifecycle
from s3direct_uploads.lifecycle import rows, settling
from s3direct_uploads.models import Upload, Usage
from s3direct_uploads.testing import completed_upload
from tests.conftest import JPEG, App, Bucket, row
from tests.lifecycle.conftest import SIZE, Limit, later, recount, used


def test_a_recount_corrects(alice: App, bob: App, limit: Limit) -> None:
    limit(MAX_PENDING=5)
    alice.begin()
    alice.upload()
    bob.begin()
    alice.begin_film()
    Usage.objects.filter(owner=alice.user, destination="photos").update(pending=4, total_size=0)
    Usage.objects.filter(destination="films").delete()

    assert recount() == [
        "films: owners counted: 1, corrected: 1.",
        "photos: owners counted: 2, corrected: 1.",
    ]

    assert (used(alice), used(bob), used(alice, "films")[0]) == ((1, 2 * SIZE), (1, SIZE), 1)
    assert recount(destination="photos") == ["photos: owners counted: 2, corrected: 0."]


def test_a_recount_knows_destinations_that_are_no_more(
    alice: App, limit: Limit, settings: Any
) -> None:
    assert recount() == ["No destination has a limit."]
    limit(MAX_PENDING=5)
    alice.begin()
    Usage.objects.update(pending=3)
    settings.S3DIRECT_UPLOADS = {
        "DESTINATIONS": {"documents": settings.S3DIRECT_UPLOADS["DESTINATIONS"]["documents"]}
    }
    assert recount() == ["photos: owners counted: 1, corrected: 1."]
    assert recount(destination="documents") == ["documents: owners counted: 0, corrected: 0."]
    with pytest.raises(CommandError, match=r"'nowhere'\. Write one of documents, photos"):
        recount(destination="nowhere")


def test_what_is_counted_never_falls_below_nothing(alice: App, limit: Limit) -> None:
    limit(MAX_PENDING=5)
    upload = row(alice.begin())
    Usage.objects.update(pending=0, total_size=1)
    alice.delete(str(upload.pk))
    later(timedelta(hours=2))
    lifecycle.sweep()
    assert used(alice) == (0, 0)


def test_cleaned_by_two_at_once_it_is_given_back_once(alice: App, s3: Bucket, limit: Limit) -> None:
    limit(MAX_TOTAL_SIZE=1024)
    upload = row(alice.upload())
    alice.upload()
    alice.delete(str(upload.pk))
    later(timedelta(hours=2))
    stale = [Upload.objects.get(pk=upload.pk) for _ in range(3)]
    for each in stale:
        settling.delete_object(each)
    assert used(alice) == (0, SIZE)


def test_a_sweep_does_not_miss_that_its_rows_were_counted_meanwhile(
    alice: App, limit: Limit
) -> None:
    limit(MAX_PENDING=1)
    alice.begin()
    Upload.objects.update(counted=False)
    [claimed] = Upload.objects.all()
    recount(destination="photos")
    now = timezone.now()
    unchanged = {"status": "pending"}
    assert rows.move_claimed([claimed], unchanged, status="expired", due_at=now) == []
    claimed.refresh_from_db()
    assert (claimed.status, used(alice)) == ("pending", (1, SIZE))
    assert rows.move_claimed([claimed], unchanged, status="expired", due_at=now) == [claimed]
    assert used(alice) == (0, SIZE)


@pytest.mark.parametrize("how", ["one", "many"])
def test_a_host_that_deletes_a_row_gives_its_owner_the_room(
    alice: App, limit: Limit, how: str
) -> None:
    limit(MAX_PENDING=2, MAX_TOTAL_SIZE=2 * SIZE)
    attached = row(alice.upload())
    attached.attach()
    alice.begin()
    assert alice.begin().status_code == 403
    if how == "one":
        attached.delete()
        assert used(alice) == (1, SIZE)
        Upload.objects.get().delete()
    else:
        Upload.objects.all().delete()
    assert used(alice) == (0, 0)
    assert alice.begin().status_code == 201


def test_a_row_that_is_deleted_is_given_back_as_it_is_now(alice: App, limit: Limit) -> None:
    limit(MAX_PENDING=2)
    alice.begin()
    stale = row(alice.begin())
    alice.delete(str(stale.pk))
    assert (stale.status, used(alice)) == ("pending", (1, 2 * SIZE))
    stale.delete()
    assert used(alice) == (1, SIZE)


def test_rows_that_are_not_counted_give_nothing_back(alice: App, limit: Limit) -> None:
    limit(MAX_PENDING=2)
    alice.begin()
    completed_upload(owner=alice.user, destination="photos", content=JPEG).delete()
    assert used(alice) == (1, SIZE)


def test_usage_is_deleted_with_its_owner(alice: App, s3: Bucket, limit: Limit) -> None:
    limit(MAX_PENDING=2)
    upload = row(alice.begin())
    stale = Upload.objects.get(pk=upload.pk)
    assert alice.user
    alice.user.delete()
    assert not Usage.objects.exists()
    upload.refresh_from_db()
    assert (upload.owner, upload.counted) == (None, True)
    for each in (stale, upload):
        lifecycle.cancel(each)
    later(timedelta(hours=2))
    assert lifecycle.sweep() == {"cleaned": 1}
    assert not Usage.objects.exists()
    upload.refresh_from_db()
    upload.delete()


@pytest.mark.parametrize("permissions", [("view_usage",), ("view_usage", "delete_user")])
def test_the_admin_shows_usage_and_changes_nothing(
    alice: App,
    bob: App,
    limit: Limit,
    make_user: Callable[..., User],
    permissions: tuple[str, ...],
) -> None:
    limit(MAX_PENDING=5)
    alice.begin(size=1536)
    bob.begin()
    staff = make_user(is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(staff)
    listed = "/admin/s3direct_uploads/usage/"
    usage = Usage.objects.get(owner=alice.user)

    page = client.get(listed, {"q": "alice", "destination": "photos"}).content.decode()

    assert "1.5\xa0kB" in page
    assert ">bob<" not in page
    assert ">bob<" in client.get(listed).content.decode()
    assert client.get(f"{listed}add/").status_code == 403
    assert client.post(f"{listed}{usage.pk}/change/", {"pending": "0"}).status_code == 403
    bulk = {"action": "delete_selected", "_selected_action": [usage.pk], "post": "yes"}
    client.post(listed, bulk)
    assert used(alice) == (1, 1536)
    # Staff who may delete users are not kept from it by what those have uploaded.
    assert alice.user
    client.post(f"/admin/auth/user/{alice.user.pk}/delete/", {"post": "yes"})
    gone = "delete_user" in permissions
    assert User.objects.filter(username="alice").exists() is not gone
    assert Usage.objects.filter(pk=usage.pk).exists() is not gone
