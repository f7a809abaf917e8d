"""The sweep of pending uploads in parts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from s3direct_uploads.exceptions import AnswerLost, BucketUnavailable
from s3direct_uploads.lifecycle import sweeping
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import Bucket as BucketOfOurs
from s3direct_uploads.s3 import Declared, get_bucket
from tests.conftest import DAY, FILM, HOUR, LAST, App, Bucket, age, begin_last_part, sweep


@pytest.mark.usefixtures("films")
def test_the_sweep_completes_parts_whose_confirm_was_lost(
    alice: App, s3: Bucket, heard: list[Any]
) -> None:
    begun = alice.begin_film().json()
    assert alice.send_parts(begun["multipart"]["parts"]) == [200, 200]
    age(2 * HOUR)
    assert sweep() == {"completed": 1}
    upload = Upload.objects.get()
    assert (upload.status, upload.busy_until) == ("completed", None)
    assert s3.read(upload) == FILM
    assert heard == [("completed", "sweep")]


@pytest.mark.usefixtures("films")
def test_parts_are_waited_for_and_aborted_in_the_end(
    alice: App, s3: Bucket, heard: list[Any]
) -> None:
    begun = alice.begin_film().json()
    alice.send_parts(begun["multipart"]["parts"][:1])
    age(2 * HOUR)
    assert sweep() == {"waiting": 1}
    upload = Upload.objects.get()
    assert (upload.status, upload.due_at) == ("pending", upload.expires_at)
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id]
    age(7 * DAY)
    assert sweep() == {"expired": 1, "cleaned": 1}
    assert s3.open_multiparts(upload) == []
    assert heard == [("expired", None)]


@pytest.mark.usefixtures("films")
def test_a_multipart_upload_that_s3_gave_up_expires(alice: App, s3: Bucket) -> None:
    upload, _ = begin_last_part(alice)
    get_bucket("default").abort_multipart(upload.key, upload.multipart_upload_id)
    age(2 * HOUR)
    assert sweep() == {"waiting": 1}
    age(7 * DAY)
    assert sweep() == {"expired": 1, "cleaned": 1}


@pytest.mark.usefixtures("films")
def test_the_sweep_leaves_parts_alone_that_another_completes(alice: App, s3: Bucket) -> None:
    upload, put = begin_last_part(alice)
    assert alice.send(put, LAST) == 200
    age(2 * HOUR)
    busy = timezone.now() + timedelta(minutes=3)
    Upload.objects.update(busy_until=busy)
    assert sweep() == {"waiting": 1}
    upload.refresh_from_db()
    assert (upload.status, upload.due_at, upload.busy_until) == ("pending", busy, busy)
    age(HOUR)  # the other process died
    assert sweep() == {"completed": 1}
    assert s3.read(upload) == LAST


@pytest.mark.usefixtures("films")
def test_parts_that_another_completes_at_the_deadline_do_not_expire(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 joins the parts just after the sweep found no object. So it finds neither."""
    upload, put = begin_last_part(alice)
    assert alice.send(put, LAST) == 200
    age(8 * DAY)
    busy = timezone.now() + timedelta(minutes=3)
    Upload.objects.update(busy_until=busy)
    list_parts = BucketOfOurs.list_parts

    def completed_meanwhile(bucket: BucketOfOurs, key: str, upload_id: str) -> Any:
        parts = list_parts(bucket, key, upload_id)
        bucket.complete_multipart(key, upload_id, parts, Declared(len(LAST)))
        return list_parts(bucket, key, upload_id)

    monkeypatch.setattr(BucketOfOurs, "list_parts", completed_meanwhile)
    assert sweep() == {"waiting": 1}
    upload.refresh_from_db()
    assert (upload.status, upload.due_at) == ("pending", busy)
    age(HOUR)  # the process that completed the other process died before it wrote the row
    assert sweep() == {"completed": 1}
    assert s3.read(upload) == LAST


@pytest.mark.usefixtures("films")
def test_parts_whose_sweep_is_killed_as_it_completes_them_do_not_expire(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No sweep ran for a month. Then each one is killed, days apart, and leaves its lease."""
    upload, put = begin_last_part(alice)
    assert alice.send(put, LAST) == 200
    age(30 * DAY)

    class Killed(BaseException):
        pass

    def killed(*_: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(BucketOfOurs, "complete_multipart", killed)
        for _ in range(3):
            with pytest.raises(Killed):
                sweep()
            age(2 * DAY)
    upload.refresh_from_db()
    assert (upload.status, upload.busy_until is None) == ("pending", False)
    assert sweep() == {"completed": 1}
    assert s3.read(upload) == LAST


@pytest.mark.usefixtures("films")
@pytest.mark.parametrize("is_lost", [True, False])
def test_parts_that_s3_cannot_join_expire_a_day_after_the_first_failure(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch, is_lost: bool
) -> None:
    upload, put = begin_last_part(alice)
    assert alice.send(put, LAST) == 200

    def fails(*_: Any) -> Any:
        raise (AnswerLost if is_lost else BucketUnavailable)("S3 cannot join them.")

    monkeypatch.setattr(BucketOfOurs, "complete_multipart", fails)
    age(30 * DAY)
    assert sweep() == {"failed": 1}
    upload.refresh_from_db()
    assert (upload.status, upload.failing_since is None) == ("pending", False)
    age(2 * DAY)
    assert sweep() == {"expired": 1, "cleaned": 1}
    upload.refresh_from_db()
    assert upload.status == "expired"


@pytest.mark.usefixtures("films")
def test_parts_that_are_cancelled_during_complete_are_deleted_after_it(
    alice: App, s3: Bucket
) -> None:
    """Its URLs ended days ago, but S3 still joins the parts."""
    upload, _ = begin_last_part(alice)
    age(3 * DAY)
    busy = timezone.now() + timedelta(minutes=3)
    Upload.objects.update(busy_until=busy)
    assert alice.delete(str(upload.pk)).status_code == 204
    assert sweep() == {}
    s3.write(upload, LAST)
    assert Upload.objects.get().due_at == busy
    age(HOUR)
    assert sweep() == {"cleaned": 1}
    assert s3.read(upload) is None
    assert Upload.objects.get().object_deleted_at is not None


@pytest.mark.usefixtures("films")
def test_a_lease_that_is_given_back_meanwhile_leaves_the_row_due(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_last_part(alice)
    age(2 * HOUR)
    busy = timezone.now() + timedelta(minutes=3)
    Upload.objects.update(busy_until=busy)
    ask = sweeping._Sweep._ask

    def given_back_meanwhile(*args: Any) -> Any:
        answers = ask(*args)
        Upload.objects.update(busy_until=None)
        return answers

    monkeypatch.setattr(sweeping._Sweep, "_ask", given_back_meanwhile)
    assert sweep() == {"waiting": 1}
    assert Upload.objects.get().due_at == busy
