"""Run by tests/lifecycle/test_times.py, with tests.projects.naive.settings."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from s3direct_uploads import lifecycle, times
from s3direct_uploads.checks import check_database
from s3direct_uploads.lifecycle import reconciling
from s3direct_uploads.lifecycle.multipart import COMPLETE_LEASE
from s3direct_uploads.lifecycle.rows import lease
from s3direct_uploads.models import Upload
from tests.conftest import JPEG, App, Bucket, row

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
# In New York the clock goes from 2:00 to 3:00 at 7:00 UTC, and from 2:00 to 1:00 at 6:00 UTC.
SPRING = datetime(2026, 3, 8, 7, tzinfo=UTC)
AUTUMN = datetime(2026, 11, 1, 6, tzinfo=UTC)

SetClock = Callable[[datetime], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Set the local time that ``datetime.now()`` returns."""

    def clock(moment: datetime) -> None:
        def now() -> datetime:
            return datetime.fromtimestamp(moment.timestamp())  # which of two hours, it knows

        monkeypatch.setattr(timezone, "now", now)
        monkeypatch.setattr(Upload._meta.get_field("created_at"), "_get_default", now)

    return clock


@pytest.fixture
def rules(settings: Any) -> Callable[..., None]:
    def rules(**changes: Any) -> None:
        settings.S3DIRECT_UPLOADS = {**settings.S3DIRECT_UPLOADS, **changes}

    return rules


def said(text: str) -> datetime:
    """A time in our JSON, as a client anywhere reads it."""
    moment = datetime.fromisoformat(text)
    assert moment.utcoffset() == timedelta(0), text
    return moment


def minutes_from_now(text: str) -> float:
    return (said(text) - datetime.now(UTC)).total_seconds() / 60


def test_the_settings_are_as_intended(db: None) -> None:
    assert timezone.is_naive(timezone.now())
    ahead = timezone.now() - datetime.now(UTC).replace(tzinfo=None)
    assert ahead < -3 * HOUR, "it is earlier in New York than in UTC"


# The whole life.


def test_an_upload_is_begun_completed_listed_and_deleted(alice: App, s3: Bucket) -> None:
    begun = alice.begin().json()
    assert abs(minutes_from_now(begun["created_at"])) < 1
    assert abs(minutes_from_now(begun["expires_at"]) - 24 * 60) < 61
    assert begun["completed_at"] is None
    assert alice.send(begun["request"]) == 200

    confirmed = alice.confirm(begun["id"]).json()
    assert abs(minutes_from_now(confirmed["completed_at"])) < 1
    assert confirmed["created_at"] == begun["created_at"], "the row says what begin said"
    [listed] = alice.get().json()["results"]
    assert listed["completed_at"] == confirmed["completed_at"]
    refused = alice.confirm(begun["id"]).json()
    assert refused["expires_at"] == begun["expires_at"]

    assert alice.delete(begun["id"]).status_code == 204
    Upload.objects.update(url_expires_at=timezone.now() - 2 * HOUR, due_at=timezone.now())
    assert lifecycle.sweep() == {"cleaned": 1}
    assert s3.read(Upload.objects.get()) is None


def test_what_its_client_left_behind_expires(alice: App) -> None:
    upload = row(alice.begin())
    assert lifecycle.sweep() == {}, "nothing is due yet"
    ago = timezone.now() - 30 * HOUR
    Upload.objects.update(url_expires_at=ago, expires_at=ago, due_at=ago)
    assert lifecycle.sweep() == {"expired": 1, "cleaned": 1}
    upload.refresh_from_db()
    assert upload.status == "expired"
    refused = alice.confirm(str(upload.pk))
    assert (refused.status_code, refused.json()["code"]) == (410, "not_pending")
    assert abs(minutes_from_now(refused.json()["upload"]["expires_at"]) + 30 * 60) < 61


def test_what_no_row_knows_is_found(
    alice: App, s3: Bucket, rules: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = f"corner-{uuid.uuid4().hex[:8]}/"
    corner = {"MAX_SIZE": 1024, "CONTENT_TYPES": ["image/*"], "PREFIX": prefix}
    rules(DESTINATIONS={"corner": corner})
    lost = row(alice.upload(destination="corner"))
    Upload.objects.all().delete()
    assert list(lifecycle.reconcile(destination="corner")) == [], "it is young"
    for age, found in ((MINUTE, []), (-MINUTE, [lost.key])):
        monkeypatch.setattr(reconciling, "OLD_ENOUGH", age)
        assert [each.key for each in lifecycle.reconcile(destination="corner")] == found
    out = io.StringIO()
    call_command("sweep_uploads", "--reconcile", "--destination", "corner", "--delete", stdout=out)
    assert s3.read(lost) is None


def test_the_admin_shows_local_times(alice: App, admin_client: Client) -> None:
    upload = row(alice.upload())
    Upload.objects.update(created_at=timezone.now() - 3 * HOUR)
    listed = admin_client.get("/admin/s3direct_uploads/upload/")
    assert "3\xa0hours" in listed.content.decode()
    page = admin_client.get(f"/admin/s3direct_uploads/upload/{upload.pk}/change/")
    assert page.status_code == 200


# The clock is put forward, or back.


def test_a_time_of_the_day_is_said_in_utc_in_winter_and_in_summer(alice: App) -> None:
    upload = row(alice.begin())
    for local, utc in (
        (datetime(2026, 1, 15, 12), "2026-01-15T17:00:00Z"),
        (datetime(2026, 7, 15, 12), "2026-07-15T16:00:00Z"),
    ):
        Upload.objects.update(created_at=local)
        assert alice.get(f"{upload.pk}/").json()["created_at"] == utc


def test_where_the_clock_goes_forward_nothing_ends_early(
    alice: App, s3: Bucket, clock: SetClock, rules: Any
) -> None:
    rules(SWEEP_GRACE=5 * MINUTE)
    clock(SPRING - 30 * MINUTE)
    begun = alice.begin().json()
    assert begun["request"]["expires_in"] == 3600
    assert said(begun["expires_at"]) - said(begun["created_at"]) >= 24 * HOUR
    assert alice.send(begun["request"]) == 200

    clock(SPRING + 20 * MINUTE)  # the URL lives for ten minutes
    assert alice.delete(begun["id"]).status_code == 204
    lifecycle.sweep()
    upload = Upload.objects.get()
    assert s3.read(upload) == JPEG, "or who has the URL could write to the key again"

    clock(SPRING + 3 * HOUR)
    lifecycle.sweep()
    assert s3.read(upload) is None


def test_where_the_clock_goes_back_nothing_ends_early(
    alice: App, s3: Bucket, clock: SetClock, rules: Any
) -> None:
    rules(SWEEP_GRACE=5 * MINUTE, URL_EXPIRES=2 * HOUR)
    clock(AUTUMN - 90 * MINUTE)  # 0:30, until 1:30, of which there are two
    begun = alice.begin().json()
    assert begun["request"]["expires_in"] == 7200
    assert alice.send(begun["request"]) == 200
    upload = Upload.objects.get()
    assert alice.delete(begun["id"]).status_code == 204

    for when in (-20 * MINUTE, 20 * MINUTE, 29 * MINUTE):
        clock(AUTUMN + when)
        lifecycle.sweep()
        assert s3.read(upload) == JPEG, when

    clock(AUTUMN + 4 * HOUR)
    lifecycle.sweep()
    assert s3.read(upload) is None


@pytest.mark.parametrize("change", [SPRING, AUTUMN])
def test_a_lease_is_one_processes_alone_while_the_clock_changes(
    alice: App, clock: SetClock, films: None, change: datetime
) -> None:
    clock(change - 10 * SECOND)
    upload = row(alice.begin_film())
    assert lease(upload, COMPLETE_LEASE)
    for after in (SECOND, COMPLETE_LEASE - 11 * SECOND):
        clock(change + after)
        assert not lease(Upload.objects.get(), COMPLETE_LEASE), after
    clock(change + 2 * HOUR)
    assert lease(Upload.objects.get(), COMPLETE_LEASE)


def test_two_uploads_an_hour_apart_have_the_same_time_on_the_wall(
    alice: App, clock: SetClock
) -> None:
    """Only the answer to begin tells the two hours apart; the row has one of them."""
    instants = [AUTUMN - 30 * MINUTE, AUTUMN + 30 * MINUTE]
    begun = []
    for instant in instants:
        clock(instant)
        begun.append(alice.begin().json())
    assert [said(each["created_at"]) for each in begun] == instants
    listed = alice.get().json()["results"]
    assert [each["id"] for each in listed] == [begun[1]["id"], begun[0]["id"]], "newest first"
    for each, instant in zip(reversed(listed), instants, strict=True):
        assert abs(said(each["created_at"]) - instant) <= HOUR


def test_a_check_says_so(settings: Any) -> None:
    assert [each.id for each in check_database()] == ["s3direct_uploads.W046"]
    settings.TIME_ZONE = "UTC"
    assert check_database() == []


@pytest.mark.parametrize("change", [SPRING, AUTUMN])
def test_later_is_never_early_and_at_most_an_hour_late(change: datetime) -> None:
    for start in range(-180, 181, 15):
        begun = change + start * MINUTE
        local = begun.astimezone().replace(tzinfo=None)
        for length in (MINUTE, 45 * MINUTE, HOUR, 2 * HOUR, 24 * HOUR):
            end = times.later(local, length)
            reached = [
                begun + passed * MINUTE
                for passed in range(0, 60 * 28, 5)
                if (begun + passed * MINUTE).astimezone().replace(tzinfo=None) >= end
            ]
            assert begun + length <= reached[0] <= begun + length + HOUR + 5 * MINUTE
