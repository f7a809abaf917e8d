"""What no signal sees: ``--reconcile`` reports the uploads that no row names any more."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.urls import reverse

from example_project.photos.models import Photo as WallPhoto
from s3direct_uploads import lifecycle
from s3direct_uploads.lifecycle import holders
from s3direct_uploads.models import Upload
from tests.conftest import DAY, JPEG, App, Bucket, age, row
from tests.field_models import Record, Snap
from tests.host.fields.test_fields import held, made
from tests.host.fields.test_release import is_released, snap_of
from tests.models import Gallery, Photo

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def there_is_s3(own_bucket: Bucket) -> None:
    pass


def reconcile(*options: str) -> list[str]:
    out = StringIO()
    call_command("sweep_uploads", "--reconcile", *options, stdout=out)
    return [line for line in out.getvalue().splitlines() if " upload " in line or ": " in line]


def line(what: str, upload: Upload, to: str = "tests.Snap.image") -> str:
    return f"{what} upload {upload.bucket} {upload.key} {upload.size} {to}"


def test_what_an_update_or_raw_sql_let_go_is_reported_and_then_released(
    alice: App, s3: Bucket
) -> None:
    updated, deleted, wanted = (row(alice.upload()) for _ in range(3))
    for each in (updated, deleted, wanted):
        snap_of(each)
    Snap.objects.filter(image=updated).update(image="")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM tests_snap WHERE image = %s", [deleted.name])

    assert reconcile("--delete") == ["Reconciled: nothing."], "a day has not passed"
    age(2 * DAY)
    found = {line("unnamed", updated), line("unnamed", deleted)}
    *lines, summary = reconcile()
    assert (set(lines), summary) == (found, "Reconciled: 2 unnamed uploads.")
    assert reconcile("--delete", "--dry-run")[-1] == summary
    assert not is_released(updated)

    *lines, summary = reconcile("--delete")
    assert set(lines) == {line("released", updated), line("released", deleted)}
    assert summary == "Reconciled: 2 released uploads."
    assert (is_released(updated), is_released(deleted)) == (True, True)
    assert held(wanted) == "tests.Snap.image"
    lifecycle.sweep()
    assert [s3.read(each) for each in (updated, deleted, wanted)] == [None, None, JPEG]
    assert reconcile("--delete") == ["Reconciled: nothing."]


def test_what_stands_in_another_field_or_is_kept_is_wanted() -> None:
    moved, copied, kept, by_hand = made(), made(), made(), made()
    for each in (moved, copied):
        snap_of(each)
    Record.objects.create(file=moved.name)
    Photo.objects.create(image=copied.name)
    record = Record.objects.create(file=kept)
    record.delete()
    Gallery.objects.create(images=[by_hand.attach()])
    Snap.objects.update(image="")
    age(2 * DAY)
    assert reconcile("--delete") == ["Reconciled: nothing."]


def test_a_model_or_a_storage_that_is_gone_is_reported_and_never_released(settings: Any) -> None:
    uploads = {}
    for label in ("gone.Photo.image", "tests.Snap.gone", "tests.Snap.title", "x", "a.b.c.d"):
        uploads[label] = made()
        uploads[label].attach(to=label)
    elsewhere = made(bucket="another")
    Upload.objects.filter(pk=elsewhere.pk).update(
        attached_at=elsewhere.created_at, attached_to="tests.Snap.image"
    )
    uploads["tests.Snap.image"] = Upload.objects.get(pk=elsewhere.pk)
    age(2 * DAY)
    *lines, summary = reconcile("--delete")
    assert set(lines) == {line("unknown-field", each, to) for to, each in uploads.items()}
    assert summary == "Reconciled: 6 unknown-field uploads."
    assert not any(is_released(each) for each in uploads.values())


def test_more_than_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s3direct_uploads.lifecycle.reconciling.BATCH", 2)
    uploads = [made() for _ in range(5)]
    for each in uploads:
        each.attach(to="tests.Snap.image")
    age(2 * DAY)
    assert reconcile("--delete", "--destination", "documents") == ["Reconciled: nothing."]
    assert reconcile("--delete")[-1] == "Reconciled: 5 released uploads."
    assert all(is_released(each) for each in uploads)


def test_who_named_it_again_meanwhile_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    upload = made()
    upload.attach(to="tests.Snap.image")
    age(2 * DAY)
    [found] = lifecycle.unnamed()
    assert (found.upload, found.is_known, found.released) == (upload, True, False)
    looking = lifecycle.unnamed(delete=True)
    named = holders.named

    def named_meanwhile(uploads: Any, **options: Any) -> Any:
        there = named(uploads, **options)
        Snap.objects.create(title="Meanwhile", image=upload.name)
        return there

    monkeypatch.setattr("s3direct_uploads.lifecycle.reconciling.named", named_meanwhile)
    [found] = looking
    assert (found.released, held(upload)) == (False, "tests.Snap.image")


# The admin of uploads.


def test_the_admin_links_to_what_holds_it(admin_client: Any) -> None:
    upload, other, by_hand, free = made(), made(), made(), made()
    owner = admin_client.get("/admin/").context["user"]
    photo = WallPhoto.objects.create(owner=owner, image=upload, filename="beach.jpg")
    snap_of(other)
    by_hand.attach()

    def page(upload: Upload) -> str:
        url = reverse("admin:s3direct_uploads_upload_change", args=[upload.pk])
        text: str = admin_client.get(url).content.decode()
        return text

    link = f"/admin/s3direct_uploads/upload/{upload.pk}/holder/"
    assert f'<a href="{link}">photos.Photo.image</a>' in page(upload)
    assert admin_client.get(link)["Location"] == f"/admin/photos/photo/{photo.pk}/change/"
    assert '<div class="readonly">tests.Snap.image</div>' in page(other), "not in the admin"
    assert "the project&#x27;s own code" in page(by_hand)
    assert '<div class="readonly">nothing</div>' in page(free)
