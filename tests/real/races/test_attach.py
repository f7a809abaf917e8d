"""An upload is attached once, or it is deleted."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from s3direct_uploads import lifecycle
from s3direct_uploads.exceptions import AlreadyAttached, NotCompleted
from s3direct_uploads.models import Upload
from tests.conftest import JPEG, App, Bucket, row
from tests.models import Photo

from .conftest import LEADS, PHOTOS, Call, at_once, change, codes, sent, two_at_once

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]


def attach(app: App, id: str) -> Any:
    return app.client.post(PHOTOS, {"image": id}, format="json")


def test_an_upload_is_deleted_or_attached_and_never_both(
    alice: App, s3: Bucket, crowd: Callable[[int], list[App]]
) -> None:
    winners = Counter[str]()
    one, two = crowd(2)
    for lead in LEADS * 2:
        id = sent(alice)
        assert alice.confirm(id).status_code == 200
        change(id, url_expires_at=timezone.now() - timedelta(days=3))

        deleted, attached = two_at_once(partial(one.delete, id), partial(attach, two, id), lead)

        upload = Upload.objects.get(pk=id)
        photos = list(Photo.objects.all())
        if upload.status == "deleted":
            winners["delete"] += 1
            assert codes([deleted, attached]) == [204, 400]
            # Django says so whether the delete came before it found the row, or after.
            assert attached.data["image"][0].code == "not_completed"
            assert (photos, upload.attached_at, s3.read(upload)) == ([], None, None)
        else:
            winners["attach"] += 1
            assert codes([deleted, attached]) == [409, 201]
            assert deleted.json()["code"] == "already_attached"
            assert [photo.image.name for photo in photos] == [upload.name]
            assert upload.attached_at is not None
            assert s3.read(upload) == JPEG
        Photo.objects.all().delete()
    assert winners["delete"] >= 2
    assert winners["attach"] >= 2


@pytest.mark.parametrize("kept", [True, False])
def test_delete_waits_for_a_transaction_that_attaches(
    alice: App, s3: Bucket, crowd: Callable[[int], list[App]], kept: bool
) -> None:
    (one,) = crowd(1)
    for _ in range(3):
        id = sent(alice)
        assert alice.confirm(id).status_code == 200
        attached = threading.Event()

        def attach_slowly(id: str = id, attached: threading.Event = attached) -> None:
            with transaction.atomic():
                Photo.objects.create(image=Upload.objects.get(pk=id).attach())
                attached.set()
                time.sleep(0.1)
                transaction.set_rollback(not kept)

        def delete(id: str = id, attached: threading.Event = attached) -> int:
            attached.wait(10)
            status: int = one.delete(id).status_code
            return status

        _, deleted = at_once([attach_slowly, delete])

        upload = Upload.objects.get(pk=id)
        assert (deleted, upload.status) == ((409, "completed") if kept else (204, "deleted"))
        assert (upload.attached_at is not None) == kept
        assert Photo.objects.filter(image=upload.name).exists() == kept
        assert s3.read(upload) == JPEG


@pytest.mark.parametrize(("many", "rounds"), [(2, 12), (8, 6), (20, 4)])
def test_of_many_requests_exactly_one_attaches(
    alice: App, s3: Bucket, crowd: Callable[[int], list[App]], many: int, rounds: int
) -> None:
    apps = crowd(many)
    for _ in range(rounds):
        id = sent(alice)
        assert alice.confirm(id).status_code == 200

        answers = at_once([partial(attach, app, id) for app in apps])

        assert sorted(codes(answers)) == [201] + [400] * (many - 1)
        refused = [answer for answer in answers if answer.status_code == 400]
        assert {answer.data["image"][0].code for answer in refused} == {"already_attached"}
        upload = Upload.objects.get(pk=id)
        assert Photo.objects.get(image=upload.name).pk == max(Photo.objects.values_list("pk"))[0]
        assert upload.attached_at is not None
        assert s3.read(upload) == JPEG
    assert Photo.objects.count() == rounds


def test_of_many_transactions_at_most_one_attaches(alice: App, s3: Bucket) -> None:
    id = sent(alice)
    assert alice.confirm(id).status_code == 200
    uploads = [Upload.objects.get(pk=id) for _ in range(20)]

    def claim(number: int) -> bool:
        try:
            with transaction.atomic():
                Photo.objects.create(title=str(number), image=uploads[number].attach())
                if number % 2 == 0:  # takes it, and rolls back
                    raise ZeroDivisionError
        except Exception:
            return False
        return True

    won = at_once([partial(claim, number) for number in range(20)])

    # None has it, if each that would have kept it came while another had it.
    assert sum(won) == Photo.objects.count() <= 1
    upload = Upload.objects.get(pk=id)
    assert (upload.attached_at is not None) == any(won)
    assert (upload.status, s3.read(upload)) == ("completed", JPEG)


def test_attach_beside_confirm_takes_only_a_completed_upload(
    alice: App, s3: Bucket, crowd: Callable[[int], list[App]], heard: Counter[tuple[str, Any]]
) -> None:
    seen = Counter[int]()
    one, two = crowd(2)
    for lead in LEADS:
        id = sent(alice)
        confirmed, attached = two_at_once(partial(one.confirm, id), partial(attach, two, id), lead)
        seen[attached.status_code] += 1
        upload = Upload.objects.get(pk=id)
        assert (confirmed.status_code, upload.status, upload.due_at) == (200, "completed", None)
        assert (upload.attached_at is not None) == (attached.status_code == 201)
        assert Photo.objects.filter(image=upload.name).count() == (attached.status_code == 201)
        if attached.status_code == 400:
            assert attached.data["image"][0].code == "not_completed"
        assert heard == {("completed", upload.pk): 1}
        heard.clear()
        assert s3.read(upload) == JPEG
    assert set(seen) == {201, 400}


def test_a_stale_row_is_never_attached(alice: App, s3: Bucket) -> None:
    """A process has read the row before it was deleted."""
    id = sent(alice)
    assert alice.confirm(id).status_code == 200
    stale = [Upload.objects.get(pk=id) for _ in range(8)]
    assert alice.delete(id).status_code == 204

    def claim(upload: Upload) -> bool:
        with pytest.raises(NotCompleted):
            upload.attach()
        return upload.status == "deleted"

    assert all(at_once([partial(claim, upload) for upload in stale]))
    assert Upload.objects.get(pk=id).attached_at is None
    assert s3.read(stale[0]) == JPEG


def test_an_upload_that_is_released_twice_beside_a_sweep_is_deleted_once(
    alice: App, s3: Bucket
) -> None:
    """Two requests delete a photo, a third one wants its file, and the sweep runs."""
    for _ in range(30):
        upload = row(alice.confirm(sent(alice)))
        upload.attach()
        copies = [Upload.objects.get(pk=upload.pk) for _ in range(3)]

        def attach(copy: Upload = copies[2]) -> str:
            try:
                return copy.attach()
            except (AlreadyAttached, NotCompleted) as error:
                return error.code

        calls: list[Call] = [copies[0].release, copies[1].release, lifecycle.sweep, attach]
        *_, swept, refused = at_once(calls)
        assert refused in ("already_attached", "not_completed")
        assert not +swept
        upload.refresh_from_db()
        assert (upload.status, upload.attached_at) == ("deleted", None)
        assert upload.due_at == upload.key_closes_at
        assert s3.read(upload) == JPEG, "the key is still open"
