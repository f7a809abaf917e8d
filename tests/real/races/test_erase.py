"""A person is erased, or deleted, while their browser begins, confirms and attaches.

In the end nothing is left that nobody holds, usage is in step, and nothing completes afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError

from s3direct_uploads import lifecycle
from s3direct_uploads.exceptions import NotCompleted, NotPending, OwnerUnknown
from s3direct_uploads.models import Upload, Usage
from tests.conftest import DAY, HOUR, JPEG, App, Bucket, age, row, sweep
from tests.field_models import Snap

from .conftest import LEADS, sent, two_at_once

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]

ENDS = {"cancelled", "deleted"}


@pytest.fixture(autouse=True)
def counted(settings: Any) -> None:
    """What is uploaded counts against a quota."""
    ours = settings.S3DIRECT_UPLOADS
    limits = {"MAX_PENDING": 1000, "MAX_TOTAL_SIZE": 1024**2}
    photos = {**ours["DESTINATIONS"]["photos"], **limits}
    settings.S3DIRECT_UPLOADS = {**ours, "DESTINATIONS": {**ours["DESTINATIONS"], "photos": photos}}


def user_of(app: App) -> User:
    assert app.user
    return User.objects.get(pk=app.user.pk)


def assert_gone(s3: Bucket, upload: Upload) -> None:
    age(2 * DAY, pk=upload.pk)
    sweep()
    assert s3.read(upload) is None


def assert_usage_in_step(app: App) -> None:
    counts = Usage.objects.filter(owner=app.user).values_list("pending", "total_size")
    before = list(counts)
    list(lifecycle.recount("photos"))
    assert list(counts) == before


@pytest.mark.parametrize("how", ["erase", "delete"])
def test_a_confirm_meanwhile_leaves_nothing_completed(
    make_user: Callable[..., User], s3: Bucket, heard: Counter[tuple[str, Any]], how: str
) -> None:
    seen = Counter[str]()
    for lead in LEADS * 2:
        app = App(make_user())
        user, upload = user_of(app), Upload.objects.get(pk=sent(app))
        end = partial(lifecycle.erase, user) if how == "erase" else user.delete

        def confirm(upload: Upload = upload) -> str:
            try:
                return str(lifecycle.confirm(upload).status)
            except NotPending:
                return "ended"

        _, confirmed = two_at_once(end, confirm, lead)

        upload = Upload.objects.get(pk=upload.pk)
        seen[upload.status] += 1
        assert upload.status in ENDS
        if upload.status == "cancelled":
            assert confirmed == "ended"
        # Otherwise it was completed, and deleted at once; confirm may have noticed that.
        assert heard["completed", upload.pk] == (upload.status == "deleted")
        if how == "erase":
            assert_usage_in_step(app)
        else:
            assert upload.owner_id is None
            assert not Usage.objects.filter(owner=app.user).exists()
        assert_gone(s3, upload)
    assert min(seen[each] for each in ENDS) >= 2, seen


@pytest.mark.parametrize("how", ["erase", "delete"])
def test_an_attach_meanwhile_keeps_the_file_or_fails(
    make_user: Callable[..., User], s3: Bucket, how: str
) -> None:
    winners = Counter[str]()
    for number, lead in enumerate(LEADS * 2):
        app = App(make_user())
        user, upload = user_of(app), row(app.upload())
        end = partial(lifecycle.erase, user) if how == "erase" else user.delete

        def attach(upload: Upload = upload, title: str = str(number)) -> Any:
            try:
                return Snap.objects.create(title=title, image=upload)
            except NotCompleted:
                return None

        erased, snap = two_at_once(end, attach, lead)

        upload = Upload.objects.get(pk=upload.pk)
        if snap is None:
            winners[how] += 1
            assert upload.status == "deleted"
            assert not Snap.objects.filter(title=str(number)).exists()
            assert_gone(s3, upload)
        else:
            winners["attach"] += 1
            assert (upload.status, upload.attached_to) == ("completed", "tests.Snap.image")
            assert s3.read(upload) == JPEG
            if how == "erase":
                assert [each.id for each in erased.in_use] == [upload.pk]
        if how == "erase":
            assert_usage_in_step(app)
    assert min(winners["attach"], winners[how]) >= 2, winners


@pytest.mark.parametrize("how", ["erase", "delete"])
def test_a_begin_meanwhile_is_ended_or_whole(
    make_user: Callable[..., User], s3: Bucket, how: str
) -> None:
    """An erased user may begin again. A deleted user may not."""
    seen = Counter[str]()
    for lead in LEADS * 2:
        app = App(make_user())
        user, again = user_of(app), user_of(app)
        first = row(app.begin())

        def end(user: User = user) -> str:
            try:
                lifecycle.erase(user) if how == "erase" else user.delete()
            except IntegrityError:  # PostgreSQL: an upload refers to the user since
                return "refused"
            return "ended"

        def begin(owner: User = again) -> Upload | None:
            try:
                photo = {"destination": "photos", "filename": "new.jpg", "size": len(JPEG)}
                return lifecycle.begin(owner=owner, **photo)[0]  # type: ignore[arg-type]
            except OwnerUnknown:
                return None

        ended, begun = two_at_once(end, begin, lead)

        first.refresh_from_db()
        if ended == "refused":
            assert (first.status, first.owner) == ("pending", user_of(app))
            user_of(app).delete()
            first.refresh_from_db()
        assert first.status == "cancelled"
        if begun is None:
            seen["refused"] += 1
            continue
        begun.refresh_from_db()
        seen[begun.status] += 1
        if how == "delete":
            assert (begun.status, begun.owner_id) == ("cancelled", None)
        else:
            assert (begun.status, begun.filename) in {("cancelled", ""), ("pending", "new.jpg")}
            assert_usage_in_step(app)
    assert seen["cancelled"] >= 2, seen
    assert seen["pending" if how == "erase" else "refused"] >= 2, seen


def test_two_who_erase_at_once_do_it_once(alice: App, s3: Bucket) -> None:
    for lead in LEADS:
        upload, completed = row(alice.begin()), row(alice.upload())
        one, two = two_at_once(
            partial(lifecycle.erase, user_of(alice)), partial(lifecycle.erase, user_of(alice)), lead
        )
        assert (one.cancelled + two.cancelled, one.deleted + two.deleted) == (1, 1)
        upload.refresh_from_db()
        completed.refresh_from_db()
        assert (upload.status, completed.status) == ("cancelled", "deleted")
        assert_usage_in_step(alice)
    age(3 * HOUR)
    sweep()
    assert set(Usage.objects.values_list("pending", "total_size")) == {(0, 0)}
