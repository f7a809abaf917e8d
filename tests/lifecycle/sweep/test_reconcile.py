"""Reconcile finds the objects that are provably ours and have no row."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from django.utils import timezone

from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import Declared, get_bucket
from tests.conftest import DAY, JPEG, App, Bucket, made_up_answer, row
from tests.models import Photo


def test_reconcile_finds_and_deletes_what_is_ours_and_no_row_knows(
    alice: App, s3: Bucket, corner: str
) -> None:
    kept = row(alice.upload(destination=corner))
    lost = row(alice.upload(body=b"lost", destination=corner))
    late = row(alice.upload(body=b"late", destination=corner))
    Upload.objects.filter(pk=late.pk).update(status="deleted", object_deleted_at=timezone.now())
    open_still = get_bucket("default").create_multipart(kept.key, Declared(1))
    theirs = f"site/{corner}/not-ours/beach.jpg"
    forged = kept.key.replace("/beach", "x/beach")
    copied = lost.key.replace(corner, f"{corner}/copy")
    for key in (theirs, forged, copied):
        s3.client.put_object(Bucket=s3.name, Key=key, Body=b"x")
    lost.delete()

    found = {
        (each.kind, each.key, each.deleted) for each in lifecycle.reconcile(destination=corner)
    }
    strays = {("object", lost.key), ("object", late.key), ("multipart", kept.key)}
    assert found == {(*stray, False) for stray in strays}
    assert s3.read(lost) == b"lost"

    deleted = list(lifecycle.reconcile(destination=corner, delete=True))
    assert {(each.kind, each.key, each.deleted) for each in deleted} == {
        (*stray, True) for stray in strays
    }
    assert open_still in {each.upload_id for each in deleted}
    assert (s3.read(lost), s3.read(late), s3.read(kept)) == (None, None, JPEG)
    assert s3.open_multiparts(kept) == []
    listed = s3.client.list_objects_v2(Bucket=s3.name, Prefix=f"site/{corner}/")["Contents"]
    assert {each["Key"] for each in listed} == {kept.key, theirs, forged, copied}
    assert list(lifecycle.reconcile(destination=corner)) == []


def test_an_object_that_a_row_of_the_project_names_is_no_stray(
    alice: App, s3: Bucket, corner: str
) -> None:
    """Its upload was deleted by hand."""
    named, lost = (row(alice.upload(destination=corner)) for _ in range(2))
    photo = Photo.objects.create(image=named.attach())
    Upload.objects.all().delete()

    deleted = list(lifecycle.reconcile(destination=corner, delete=True))
    assert [each.key for each in deleted] == [lost.key]
    assert (s3.read(named), s3.read(lost)) == (JPEG, None)

    photo.delete()
    [deleted_too] = lifecycle.reconcile(destination=corner, delete=True)
    assert deleted_too.key == named.key


def test_reconcile_goes_on_past_a_multipart_upload_that_s3_fails_to_abort(
    alice: App, s3: Bucket, corner: str
) -> None:
    kept = row(alice.upload(destination=corner))
    bucket = get_bucket("default")
    bad, good = sorted(bucket.create_multipart(kept.key, Declared(1)) for _ in range(2))
    events: Any = bucket._client.meta.events

    def fail(request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
        if bad not in request.url:
            return None
        return made_up_answer(request, 500, "<Error><Code>InternalError</Code></Error>")

    events.register("before-send.s3.AbortMultipartUpload", fail, unique_id="bad id")
    try:
        found = lifecycle.reconcile(destination=corner, delete=True)
        assert {each.upload_id: each.deleted for each in found} == {bad: False, good: True}
    finally:
        events.unregister("before-send.s3.AbortMultipartUpload", unique_id="bad id")
    assert s3.open_multiparts(kept) == [bad]


@pytest.mark.usefixtures("films")
def test_reconcile_leaves_alone_what_is_under_way(
    alice: App, corner: str, settings: Any, s3: Bucket
) -> None:
    settings.S3DIRECT_UPLOADS["DESTINATIONS"]["films"] = {
        **settings.S3DIRECT_UPLOADS["DESTINATIONS"]["films"],
        "PREFIX": f"{corner}/",
    }
    film = row(alice.begin_film())
    sent = alice.begin(destination=corner).json()
    alice.send(sent["request"])
    cancelled = row(alice.upload(destination=corner))
    alice.delete(str(cancelled.pk))
    assert list(lifecycle.reconcile(destination=corner, delete=True)) == []
    assert s3.open_multiparts(film) == [film.multipart_upload_id]


def test_reconcile_takes_nothing_that_is_young(
    alice: App, corner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row(alice.upload(destination=corner)).delete()
    monkeypatch.setattr("s3direct_uploads.lifecycle.reconciling.OLD_ENOUGH", DAY)
    assert list(lifecycle.reconcile(destination=corner, delete=True)) == []


def test_reconcile_walks_through_no_folder_twice(settings: Any, corner: str) -> None:
    from s3direct_uploads.lifecycle.reconciling import _places

    assert [prefix for _, prefix in _places(corner)] == [f"site/{corner}/"]
    # The hook of the albums may choose any folder.
    assert [prefix for _, prefix in _places("")] == ["site/"]
    del settings.S3DIRECT_UPLOADS["DESTINATIONS"]["albums"]
    assert [prefix for _, prefix in _places("")] == [
        f"site/{corner}/",
        "site/documents/",
        "site/photos/",
    ]
