"""Several sweeps share the rows: each row is claimed by one of them."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from s3direct_uploads.lifecycle import sweeping
from s3direct_uploads.models import Upload
from tests.conftest import HOUR, App, age, sweep


def test_a_row_that_another_sweep_has_claimed_is_not_taken(alice: App) -> None:
    alice.begin(), alice.begin()
    age(2 * HOUR)
    _, claimed = sweeping._claim(1, "")
    assert len(claimed) == 1
    assert sweep() == {"waiting": 1}
    assert sweep() == {}
    # That sweep died. After its lease another sweep takes the row.
    age(sweeping.LEASE + timedelta(seconds=2), pk=claimed[0].pk)
    assert sweep() == {"waiting": 1}


def test_a_limit_is_kept_and_the_oldest_come_first(alice: App) -> None:
    ids = [alice.begin().json()["id"] for _ in range(5)]
    age(2 * HOUR)
    assert sweep(limit=2) == {"waiting": 2}
    left = Upload.objects.filter(due_at__lte=timezone.now()).order_by("pk")
    assert [str(upload.pk) for upload in left] == ids[2:]


def test_the_sweep_may_be_limited_to_a_destination(alice: App) -> None:
    alice.begin()
    alice.begin(destination="documents")
    age(2 * HOUR)
    assert sweep(destination="documents") == {"waiting": 1}
    assert sweep() == {"waiting": 1}
