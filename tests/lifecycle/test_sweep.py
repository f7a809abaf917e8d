"""The sweep: whatever became of its client, every upload ends in one true state."""

from __future__ import annotations

import io
import logging
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, models
from django.db.models import ProtectedError
from django.utils import timezone

from s3direct_uploads import keys, lifecycle, signals
from s3direct_uploads.lifecycle import sweeping
from s3direct_uploads.models import Upload, Usage
from s3direct_uploads.s3 import Bucket as BucketOfOurs
from s3direct_uploads.s3 import Declared, StoredObject, get_bucket
from tests import host_app
from tests.conftest import (
    FILM,
    JPEG,
    LAST,
    App,
    Bucket,
    Connect,
    begin_last_part,
    child_environment,
    killed_after,
    made_up_answer,
    row,
)

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def age(by: timedelta, **rows: Any) -> None:
    """Let time pass, for all rows or these."""
    times = [
        field.name
        for field in Upload._meta.fields
        if isinstance(field, models.DateTimeField) and field.name != "announced_at"
    ]
    Upload.objects.filter(**rows).update(**{name: models.F(name) - by for name in times})


def sweep(**options: Any) -> dict[str, int]:
    return dict(+lifecycle.sweep(**options))


@pytest.fixture
def heard(connect: Connect) -> list[tuple[str, str | None]]:
    """What hosts are told from now on: [("completed", "sweep")]."""
    told: list[tuple[str, str | None]] = []
    sent = {
        "completed": signals.upload_completed,
        "rejected": signals.upload_rejected,
        "expired": signals.upload_expired,
    }

    def note(signal: Any, cause: str | None = None, **_: Any) -> None:
        told.append((next(name for name in sent if sent[name] is signal), cause))

    for each in sent.values():
        connect(each, note)
    return told


# Pending: lost confirms, and those who never came.


def test_what_is_not_due_is_left_alone(alice: App, s3_calls: list[str]) -> None:
    upload = row(alice.begin())
    assert sweep() == {}
    assert s3_calls == []
    assert row(alice.get(f"{upload.pk}/")).due_at == upload.due_at


def test_a_lost_confirm_is_made_good(
    alice: App, s3: Bucket, heard: list[Any], s3_calls: list[str]
) -> None:
    begun = alice.begin().json()
    assert alice.send(begun["request"]) == 200
    age(2 * HOUR)
    s3_calls.clear()
    assert sweep() == {"completed": 1}
    assert s3_calls == ["HeadObject", "HeadBucket", "HeadObject"]  # may 404s be believed? yes
    upload = Upload.objects.get()
    assert (upload.status, upload.due_at) == ("completed", None)
    assert upload.announced_at is not None
    assert heard == [("completed", "sweep")]
    # The client comes late, and is answered as if nothing had been.
    assert alice.confirm(begun["id"]).json()["status"] == "completed"
    assert heard == [("completed", "sweep")]
    assert sweep() == {}


def test_what_was_not_sent_is_waited_for_until_its_deadline(alice: App, heard: list[Any]) -> None:
    id = alice.begin().json()["id"]
    age(2 * HOUR)
    assert sweep() == {"waiting": 1}
    upload = Upload.objects.get()
    assert (upload.status, upload.due_at) == ("pending", upload.expires_at)
    assert sweep() == {}
    # Renewed meanwhile, it is looked at when the new URL has ended.
    assert alice.renew(id).status_code == 200
    upload.refresh_from_db()
    assert upload.due_at == upload.url_expires_at + HOUR
    age(DAY)
    assert sweep() == {"expired": 1, "cleaned": 1}
    upload.refresh_from_db()
    assert (upload.status, upload.announced_at) == ("expired", None)
    assert heard == [("expired", None)]
    assert alice.confirm(id).json()["code"] == "not_pending"


def test_a_large_file_is_waited_for_as_long_as_it_may_take(alice: App) -> None:
    upload = row(alice.begin(destination="documents", size=4 * 1024**3))
    age(23 * HOUR)
    assert upload.key_closes_at - upload.created_at > 19 * HOUR  # 4 GiB at 64 KiB/s
    age(2 * HOUR)  # over its deadline, and its URL has long ended
    assert sweep() == {"expired": 1, "cleaned": 1}


def test_a_put_under_way_at_the_deadline_is_waited_for(alice: App) -> None:
    alice.begin(destination="documents", size=4 * 1024**3)
    Upload.objects.update(expires_at=timezone.now(), due_at=timezone.now())
    assert sweep() == {"waiting": 1}
    upload = Upload.objects.get()
    assert (upload.status, upload.due_at) == ("pending", upload.key_closes_at)


def test_what_is_not_as_declared_is_rejected(alice: App, s3: Bucket, heard: list[Any]) -> None:
    upload = row(alice.begin())
    s3.write(upload, JPEG + b"more")
    age(2 * HOUR)
    assert sweep() == {"rejected": 1, "cleaned": 1}
    upload.refresh_from_db()
    assert upload.status == "rejected"
    assert upload.reason == f"{len(JPEG)} bytes were declared, {len(JPEG) + 4} were sent."
    assert heard == [("rejected", None)]
    assert s3.read(upload) is None


def test_a_renewal_while_s3_is_asked_counts(alice: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was asked for before the deadline: its URL must find the row pending."""
    alice.begin()
    age(2 * DAY)
    ask, now = sweeping._Sweep._ask, timezone.now()

    def renewed_meanwhile(*args: Any) -> Any:
        answers = ask(*args)
        Upload.objects.update(url_expires_at=now + HOUR, due_at=now + 2 * HOUR)
        return answers

    monkeypatch.setattr(sweeping._Sweep, "_ask", renewed_meanwhile)
    assert sweep() == {}
    upload = Upload.objects.get()
    assert (upload.status, upload.due_at) == ("pending", now + 2 * HOUR)


@pytest.mark.parametrize("by", ["the sweep", "its client"])
def test_what_comes_between_the_look_and_the_deadline_counts(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """A host's handlers, and S3's bad days, can make it minutes."""
    upload = row(alice.begin())
    age(2 * DAY)
    # A PUT under way may land for a second yet.
    Upload.objects.update(url_expires_at=timezone.now() + timedelta(seconds=1) - HOUR)
    head = BucketOfOurs.head

    def slow_head(bucket: BucketOfOurs, key: str) -> StoredObject:
        try:
            return head(bucket, key)
        finally:
            if key == upload.key:
                time.sleep(1.1)
                s3.write(upload, JPEG)

    monkeypatch.setattr(BucketOfOurs, "head", slow_head)
    if by == "the sweep":
        assert sweep() == {"waiting": 1}
    else:
        assert alice.confirm(str(upload.pk)).json()["code"] == "object_missing"
    upload.refresh_from_db()
    assert upload.status == "pending"
    monkeypatch.undo()
    age(HOUR)
    assert sweep() == {"completed": 1}
    assert s3.read(upload) == JPEG


# In parts.


@pytest.mark.usefixtures("films")
def test_a_lost_confirm_of_parts_is_made_good(alice: App, s3: Bucket, heard: list[Any]) -> None:
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
def test_whoever_completes_the_parts_is_not_disturbed(alice: App, s3: Bucket) -> None:
    upload, put = begin_last_part(alice)
    assert alice.send(put, LAST) == 200
    age(2 * HOUR)
    busy = timezone.now() + timedelta(minutes=3)
    Upload.objects.update(busy_until=busy)
    assert sweep() == {"waiting": 1}
    upload.refresh_from_db()
    assert (upload.status, upload.due_at, upload.busy_until) == ("pending", busy, busy)
    age(HOUR)  # it died
    assert sweep() == {"completed": 1}
    assert s3.read(upload) == LAST


@pytest.mark.usefixtures("films")
def test_what_is_completed_at_the_deadline_does_not_expire(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 is through with the parts just after the sweep found no object: it finds neither."""
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
    age(HOUR)  # whoever had it died before it could say so
    assert sweep() == {"completed": 1}
    assert s3.read(upload) == LAST


@pytest.mark.usefixtures("films")
def test_what_is_cancelled_while_it_is_completed_is_cleaned_after_that(
    alice: App, s3: Bucket
) -> None:
    """No URL has lived for days, but S3 puts the parts together yet."""
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


# Announcements.


def test_a_completion_that_was_not_announced_is(alice: App, heard: list[Any]) -> None:
    id = alice.upload().json()["id"]
    now = timezone.now()
    Upload.objects.update(announced_at=None, due_at=now)  # the process died before its handlers
    heard.clear()
    assert sweep() == {"announced": 1}
    upload = Upload.objects.get(pk=id)
    assert (upload.announced_at or now) > now
    assert upload.due_at is None
    assert heard == [("completed", "sweep")]


def test_what_another_sweep_announces_meanwhile_is_not_announced_again(
    alice: App, heard: list[Any], connect: Connect
) -> None:
    """A thousand handlers of a second each take longer than the lease of their sweep."""
    ids = [alice.upload(body=JPEG + bytes([n])).json()["id"] for n in range(3)]
    Upload.objects.update(announced_at=None)
    for number, id in enumerate(ids):
        due = timezone.now() - timedelta(seconds=9 - number)
        Upload.objects.filter(pk=id).update(due_at=due)
    heard.clear()
    told: list[str] = []

    def take_long(upload: Upload, **_: Any) -> None:
        told.append(str(upload.pk))
        if len(told) == 1:
            deleted, other = (id for id in ids if id != told[0])
            assert alice.delete(deleted).status_code == 204
            age(sweeping.LEASE + timedelta(seconds=2), pk=other)
            assert sweep() == {"announced": 1}

    connect(signals.upload_completed, take_long)
    assert sweep() == {"announced": 1}
    assert len(heard) == len(told) == len(set(told)) == 2
    assert Upload.objects.filter(announced_at=None).get().status == "deleted"


def test_a_handler_that_deletes_its_row_does_not_end_the_sweep(
    alice: App, connect: Connect
) -> None:
    for n in range(3):
        alice.upload(body=JPEG + bytes([n]))
    Upload.objects.update(announced_at=None, due_at=timezone.now())

    def take_over(upload: Upload, **_: Any) -> None:
        Upload.objects.get(pk=upload.pk).delete()

    connect(signals.upload_completed, take_over)
    assert sweep() == {"announced": 3}
    assert not Upload.objects.exists()


# Tombstones.


def test_a_deleted_object_goes_once_its_key_has_closed_and_its_row_in_the_end(
    alice: App, s3: Bucket, s3_calls: list[str]
) -> None:
    upload = row(alice.upload())
    assert alice.delete(str(upload.pk)).status_code == 204
    assert sweep() == {}
    assert s3.read(upload) == JPEG
    age(5 * HOUR)
    s3_calls.clear()
    assert sweep() == {"cleaned": 1}
    assert s3_calls == ["HeadObject", "HeadBucket", "DeleteObjects"]
    assert s3.read(upload) is None
    upload.refresh_from_db()
    assert upload.object_deleted_at is None  # a PUT may have been under way: once more
    s3.write(upload, JPEG)
    age(DAY + HOUR)
    assert sweep() == {"cleaned": 1}
    assert s3.read(upload) is None
    upload.refresh_from_db()
    assert upload.object_deleted_at is not None
    s3_calls.clear()
    age(6 * DAY)
    assert sweep() == {}
    age(2 * DAY)
    assert sweep() == {"pruned": 1}
    assert s3_calls == []
    assert not Upload.objects.exists()


def test_what_a_sweep_cleans_while_it_is_deleted_is_counted_out_once(
    alice: App, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = settings.S3DIRECT_UPLOADS
    photos = {**ours["DESTINATIONS"]["photos"], "MAX_TOTAL_SIZE": 1000}
    settings.S3DIRECT_UPLOADS = {
        **ours,
        "DESTINATIONS": {**ours["DESTINATIONS"], "photos": photos},
    }
    kept, deleted = (row(alice.upload(body=JPEG + bytes([n]))) for n in range(2))
    age(5 * HOUR)
    delete = BucketOfOurs.delete

    def delete_meanwhile(bucket: BucketOfOurs, key: str) -> None:
        age(HOUR)
        assert sweep() == {"cleaned": 1}
        delete(bucket, key)

    monkeypatch.setattr(BucketOfOurs, "delete", delete_meanwhile)
    assert alice.delete(str(deleted.pk)).status_code == 204
    assert Usage.objects.get().total_size == kept.size


@pytest.mark.parametrize("error", [ProtectedError("in use", set()), IntegrityError("in use")])
def test_a_row_that_a_model_refers_to_stays_and_the_others_go(
    alice: App, error: Exception, connect: Connect
) -> None:
    uploads = [row(alice.upload(body=JPEG + bytes([n]))) for n in range(3)]
    Upload.objects.update(status="deleted", object_deleted_at=timezone.now(), due_at=timezone.now())

    def refer(instance: Upload, **_: Any) -> None:
        if instance.pk == uploads[1].pk:
            raise error

    connect(models.signals.pre_delete, refer, Upload)
    assert sweep() == {"pruned": 2}
    assert Upload.objects.get().pk == uploads[1].pk
    assert Upload.objects.get().due_at is None


def test_a_row_whose_deletion_fails_holds_up_no_other(
    alice: App, caplog: pytest.LogCaptureFixture
) -> None:
    uploads = [row(alice.upload(body=JPEG + bytes([n]))) for n in range(3)]
    Upload.objects.update(status="deleted", object_deleted_at=timezone.now(), due_at=timezone.now())

    def fail(instance: Upload, **_: Any) -> None:
        if instance.pk == uploads[1].pk:
            raise RuntimeError("the host's handler")

    models.signals.post_delete.connect(fail, Upload)
    try:
        assert sweep() == {"pruned": 2, "failed": 1}
    finally:
        models.signals.post_delete.disconnect(fail, Upload)
    upload = Upload.objects.get()
    assert upload.pk == uploads[1].pk
    assert (upload.due_at or timezone.now()) > timezone.now(), "it is tried again, later"
    assert "the host's handler" in caplog.text
    age(HOUR)
    assert sweep() == {"pruned": 1}


@pytest.mark.django_db(transaction=True)
def test_a_row_that_only_the_database_knows_to_be_referred_to_stays(alice: App) -> None:
    """As of a ForeignKey with DO_NOTHING, which PostgreSQL checks as it commits."""
    uploads = [row(alice.upload(body=JPEG + bytes([n]))) for n in range(3)]
    Upload.objects.update(status="deleted", object_deleted_at=timezone.now(), due_at=timezone.now())
    table, column = Upload._meta.db_table, Upload._meta.pk.db_type(connection)
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE note (upload {column} REFERENCES {table} (id) "
            "DEFERRABLE INITIALLY DEFERRED)"
        )
        cursor.execute(
            f"INSERT INTO note SELECT id FROM {table} WHERE key = %s",
            [uploads[1].key],
        )
    try:
        assert sweep() == {"pruned": 2}
        assert Upload.objects.get().pk == uploads[1].pk
        assert Upload.objects.get().due_at is None
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE note")


def test_many_are_waited_for_by_one_update(alice: App) -> None:
    ids = [alice.begin().json()["id"] for _ in range(6)]
    age(2 * HOUR)
    with Queries() as queries:
        assert sweep() == {"waiting": 6}
    assert sum(sql.startswith("UPDATE") for sql in queries) == 2  # claimed, and put back
    for upload in Upload.objects.filter(pk__in=ids):
        assert upload.due_at == upload.expires_at


def test_every_version_goes(
    make_user: Callable[..., Any], s3: Bucket, storage_options: Callable[..., None]
) -> None:
    s3.name = f"versions-{uuid.uuid4().hex}"
    s3.client.create_bucket(Bucket=s3.name)
    s3.client.put_bucket_versioning(Bucket=s3.name, VersioningConfiguration={"Status": "Enabled"})
    storage_options(bucket_name=s3.name)
    alice = App(make_user())
    upload = row(alice.upload())
    alice.delete(str(upload.pk))
    s3.write(upload, JPEG[::-1])
    age(5 * HOUR)
    assert sweep() == {"cleaned": 1}
    left = s3.client.list_object_versions(Bucket=s3.name, Prefix=upload.key)
    assert not left.get("Versions")
    assert not left.get("DeleteMarkers")


@pytest.fixture
def locked(s3: Bucket, storage_options: Callable[..., None]) -> Bucket:
    """A bucket in which an object can be put under a legal hold, which keeps versions as well."""
    s3.name = f"locked-{uuid.uuid4().hex}"
    s3.client.create_bucket(Bucket=s3.name, ObjectLockEnabledForBucket=True)
    storage_options(bucket_name=s3.name)
    return s3


@pytest.mark.parametrize("many", [True, False], ids=["DeleteObjects", "one by one"])
def test_a_version_under_legal_hold_keeps_no_other_object(
    locked: Bucket,
    make_user: Callable[..., Any],
    many: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(get_bucket("default"), "_deletes_many", many)
    alice = App(make_user())
    uploads = [row(alice.upload(body=JPEG + bytes([n]))) for n in range(8)]
    held, others = uploads[:4], uploads[4:]
    for upload in held:
        hold = {"Bucket": locked.name, "Key": upload.key}
        locked.client.put_object_legal_hold(**hold, LegalHold={"Status": "ON"})
    for upload in uploads:
        alice.delete(str(upload.pk))
    age(5 * HOUR)
    assert sweep() == {"cleaned": 4, "failed": 4}
    assert [locked.read(upload) for upload in others] == [None] * 4
    age(DAY + HOUR)
    assert sweep() == {"cleaned": 4, "failed": 4}, "and the others' second cleaning comes in time"
    assert {upload.object_deleted_at is None for upload in rows(others)} == {False}
    for upload in held:
        off = {"Bucket": locked.name, "Key": upload.key}
        for version in versions(locked, upload):
            locked.client.put_object_legal_hold(
                **off, VersionId=version, LegalHold={"Status": "OFF"}
            )
    age(DAY + HOUR)
    assert sweep()["cleaned"] == 4
    assert [versions(locked, upload) for upload in held] == [[]] * 4


def rows(uploads: list[Upload]) -> list[Upload]:
    return list(Upload.objects.filter(pk__in=[upload.pk for upload in uploads]))


def versions(s3: Bucket, upload: Upload) -> list[str]:
    found = s3.client.list_object_versions(Bucket=s3.name, Prefix=upload.key)
    return [each["VersionId"] for each in found.get("Versions", ())]


def test_a_thousand_objects_are_deleted_by_one_request(
    alice: App, s3: Bucket, s3_calls: list[str]
) -> None:
    example = row(alice.upload())
    closed = timezone.now() - 3 * HOUR
    Upload.objects.bulk_create(
        Upload(
            destination="photos",
            storage="default",
            bucket=example.bucket,
            key=keys.join(
                "site", keys.new_name("", example.bucket, "site", "photos/", "a.jpg", 100)
            ),
            filename="a.jpg",
            content_type="image/jpeg",
            size=1,
            status="cancelled",
            created_at=closed,
            url_expires_at=closed,
            expires_at=closed,
            due_at=closed,
        )
        for _ in range(1500)
    )
    s3_calls.clear()
    with Queries() as queries:
        assert sweep() == {"cleaned": 1500}
    assert Counter(s3_calls) == {"HeadObject": 1, "HeadBucket": 1, "DeleteObjects": 2}
    assert len(queries) <= 15  # 6 a batch, and 3 to find no more
    assert s3.read(example) == JPEG


class Queries(list[str]):
    """The SQL that runs meanwhile."""

    def __enter__(self) -> Queries:
        self.recording = connection.execute_wrapper(self.record)
        self.recording.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.recording.__exit__(*error)

    def record(self, execute: Any, sql: str, *args: Any) -> Any:
        self.append(sql)
        return execute(sql, *args)


def test_a_server_without_deleteobjects_is_asked_one_by_one(
    alice: App, s3: Bucket, s3_calls: list[str]
) -> None:
    uploads = [row(alice.upload(body=JPEG + bytes([n]))) for n in range(3)]
    for upload in uploads:
        alice.delete(str(upload.pk))
    age(5 * HOUR)
    bucket = get_bucket("default")
    events: Any = bucket._client.meta.events

    def not_implemented(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        return made_up_answer(request, 501, "<Error><Code>NotImplemented</Code></Error>")

    events.register("before-send.s3.DeleteObjects", not_implemented, unique_id="501")
    try:
        s3_calls.clear()
        assert sweep() == {"cleaned": 3}
        assert Counter(s3_calls)["DeleteObject"] == 3
        assert [s3.read(upload) for upload in uploads] == [None, None, None]
        s3_calls.clear()
        age(DAY + HOUR)
        assert sweep() == {"cleaned": 3}
        assert Counter(s3_calls)["DeleteObjects"] == 0  # it is known by now
    finally:
        events.unregister("before-send.s3.DeleteObjects", unique_id="501")
        bucket._deletes_many = True


def test_a_key_that_s3_fails_to_delete_keeps_no_other(
    alice: App, s3: Bucket, s3_calls: list[str]
) -> None:
    uploads = [row(alice.upload(body=JPEG + bytes([n]))) for n in range(3)]
    for upload in uploads:
        alice.delete(str(upload.pk))
    age(5 * HOUR)
    bad, *others = uploads
    events: Any = get_bucket("default")._client.meta.events

    def fail(request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
        if bad.key not in request.url and bad.key.encode() not in (request.body or b""):
            return None
        return made_up_answer(request, 500, "<Error><Code>InternalError</Code></Error>")

    events.register("before-send.s3", fail, unique_id="bad key")
    try:
        s3_calls.clear()
        assert sweep() == {"cleaned": 2, "failed": 1}
        assert s3_calls[2:5] == ["DeleteObjects", "HeadObject", "HeadBucket"], "is it the bucket?"
        assert Counter(s3_calls)["DeleteObject"] == 3, "so each by itself"
        assert [s3.read(upload) for upload in others] == [None, None]
    finally:
        events.unregister("before-send.s3", unique_id="bad key")
    age(DAY)
    assert sweep() == {"cleaned": 3}
    assert s3.read(bad) is None


def test_a_failure_that_nobody_expected_is_logged_and_holds_up_no_other(
    alice: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = row(alice.begin()), alice.begin()
    assert alice.send(good.json()["request"]) == 200
    head = BucketOfOurs.head

    def fail(self: BucketOfOurs, key: str) -> StoredObject:
        if key == bad.key:
            raise ValueError("unexpected")
        return head(self, key)

    monkeypatch.setattr(BucketOfOurs, "head", fail)
    age(2 * HOUR)
    assert sweep() == {"completed": 1, "failed": 1}
    [record] = [each for each in caplog.records if each.exc_info]
    assert str(bad.pk) in record.getMessage()


# When S3 has a bad day.


def test_while_s3_is_away_nothing_changes_and_it_backs_off(
    alice: App, s3: Bucket, s3_away: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    alice.begin()
    age(3 * HOUR)
    s3_away()
    assert sweep() == {"failed": 1}
    upload = Upload.objects.get()
    assert upload.status == "pending"
    assert upload.due_at is not None
    first = upload.due_at - timezone.now()
    assert sweep() == {}
    assert "leaves out the bucket" in caplog.text
    age(10 * HOUR)
    assert sweep() == {"failed": 1}
    upload.refresh_from_db()
    assert upload.due_at is not None
    assert upload.due_at - timezone.now() > 4 * first
    age(30 * DAY)
    assert sweep() == {"failed": 1}
    upload.refresh_from_db()
    assert upload.status == "pending"
    assert upload.due_at is not None
    assert upload.due_at - timezone.now() <= DAY


@pytest.mark.parametrize("status", [403, 405, 500, 503])
def test_keys_for_which_s3_fails_are_put_off_alone_and_end_with_their_deadline(
    alice: App, bob: App, s3: Bucket, head_answers: dict[str, int], status: int
) -> None:
    failing = [row(bob.begin()) for _ in range(20)]
    honest = [alice.begin() for _ in range(5)]
    failing += [row(bob.begin()) for _ in range(20)]
    for begun in honest:
        assert alice.send(begun.json()["request"]) == 200
    head_answers |= {upload.key: status for upload in failing}
    age(3 * HOUR)
    assert sweep() == {"completed": 5, "failed": 40}
    assert {row(begun).status for begun in honest} == {"completed"}
    assert {upload.status for upload in rows(failing)} == {"pending"}
    answer = bob.confirm(str(failing[0].pk))
    assert (answer.status_code, answer.json()["code"]) == (503, "bucket_unavailable")
    age(2 * DAY)
    assert sweep() == {"expired": 40, "cleaned": 40}
    assert {upload.status for upload in rows(failing)} == {"expired"}


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("InvalidRequest", "rejected"),  # AWS
        ("InvalidArgument", "rejected"),  # Ceph
        ("KMS.DisabledException", "failed"),
    ],
)
def test_a_bad_request_rejects_what_its_uploader_encrypted_and_nothing_else(
    alice: App, s3: Bucket, head_answers: dict[str, int], code: str, outcome: str
) -> None:
    """A HEAD's answer has no body: why it is a bad request says only a GET."""
    begun = alice.begin()
    assert alice.send(begun.json()["request"]) == 200
    events: Any = get_bucket("default")._client.meta.events

    def answer(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        return made_up_answer(request, 400, f"<Error><Code>{code}</Code></Error>")

    events.register("before-send.s3.GetObject", answer, unique_id="GetObject")
    try:
        head_answers[row(begun).key] = 400
        age(3 * HOUR)
        assert sweep()[outcome] == 1
    finally:
        events.unregister("before-send.s3.GetObject", unique_id="GetObject")
    if outcome == "rejected":
        assert row(begun).reason == "S3's answer about this object cannot be read."
        assert s3.read(row(begun)) is None
    else:
        head_answers.clear()
        assert alice.confirm(begun.json()["id"]).json()["status"] == "completed"


@pytest.mark.parametrize("status", [400, 403, 500])
def test_where_s3_fails_for_all_keys_none_is_rejected_and_none_expires(
    alice: App, s3: Bucket, head_answers: dict[str, int], status: int
) -> None:
    """Expired credentials are a bad request as well, and a HEAD's answer says no more."""
    begun = [alice.begin() for _ in range(3)]
    head_answers[""] = status
    age(2 * DAY)
    assert sweep() == {"failed": 3}
    assert alice.confirm(begun[0].json()["id"]).status_code == 503
    assert {row(each).status for each in begun} == {"pending"}
    head_answers.clear()
    age(2 * DAY)
    assert sweep()["expired"] == 3


def test_a_bad_request_that_passes_rejects_nothing(
    alice: App, s3: Bucket, head_answers: dict[str, int]
) -> None:
    begun = alice.begin().json()
    assert alice.send(begun["request"]) == 200
    id, events = "once", cast(Any, get_bucket("default")._client.meta.events)

    def once(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        events.unregister("before-send.s3.HeadObject", unique_id=id)
        return made_up_answer(request, 400, "")

    events.register("before-send.s3.HeadObject", once, unique_id=id)
    assert alice.confirm(begun["id"]).json()["status"] == "completed"


def test_a_bucket_that_is_gone_is_no_proof_that_nothing_was_sent(
    alice: App,
    s3: Bucket,
    storage_options: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """To a HEAD of a key it answers 404, as if only the object were missing."""
    alice.begin()
    storage_options(bucket_name="gone-bucket")
    Upload.objects.update(bucket="gone-bucket")
    age(3 * DAY)
    assert sweep() == {"failed": 1}
    assert Upload.objects.get().status == "pending"
    assert caplog.text.count("NoSuchBucket") == 1


def test_a_row_whose_bucket_is_not_configured_is_skipped(
    alice: App, caplog: pytest.LogCaptureFixture
) -> None:
    alice.begin(), alice.begin()
    Upload.objects.update(bucket="another")
    age(3 * DAY)
    assert sweep() == {"failed": 2}
    assert {upload.status for upload in Upload.objects.all()} == {"pending"}
    assert caplog.text.count("No storage has the bucket 'another'") == 1


def test_one_bad_row_does_not_hold_up_the_rest(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad = row(alice.begin(destination="albums", filename="bad.jpg", context={"album": 12}))
    good = row(alice.begin())
    s3.write(bad, JPEG)
    s3.write(good, JPEG)
    age(2 * HOUR)

    def broken(*_: Any) -> None:
        raise RuntimeError("the host's hook")

    monkeypatch.setattr(host_app.Albums, "verify", broken)
    assert sweep() == {"completed": 1, "failed": 1}
    bad.refresh_from_db()
    good.refresh_from_db()
    assert (bad.status, good.status) == ("pending", "completed")
    assert "the host's hook" in caplog.text


def test_no_network_in_a_transaction(alice: App, in_transaction: list[bool]) -> None:
    begun = alice.begin().json()
    alice.send(begun["request"])
    row(alice.upload(body=b"another"))
    age(2 * HOUR)
    in_transaction.clear()
    # The suite's own transaction is one that nobody else would have.
    sweep()
    assert len(in_transaction) >= 3


# Two at once, and one that dies.


def test_what_another_has_claimed_is_not_taken(alice: App) -> None:
    alice.begin(), alice.begin()
    age(2 * HOUR)
    _, claimed = sweeping._claim(1, "")
    assert len(claimed) == 1
    assert sweep() == {"waiting": 1}
    assert sweep() == {}
    # It died: after its lease another takes the row up.
    age(sweeping.LEASE + timedelta(seconds=2), pk=claimed[0].pk)
    assert sweep() == {"waiting": 1}


def test_a_limit_is_kept_and_the_oldest_come_first(alice: App) -> None:
    ids = [alice.begin().json()["id"] for _ in range(5)]
    age(2 * HOUR)
    assert sweep(limit=2) == {"waiting": 2}
    left = Upload.objects.filter(due_at__lte=timezone.now()).order_by("pk")
    assert [str(upload.pk) for upload in left] == ids[2:]


def test_a_destination_of_its_own(alice: App) -> None:
    alice.begin()
    alice.begin(destination="documents")
    age(2 * HOUR)
    assert sweep(destination="documents") == {"waiting": 1}
    assert sweep() == {"waiting": 1}


# Reconciling.


@pytest.fixture
def corner(settings: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A destination with a folder of this test's own, in which nothing is too young."""
    name = f"corner-{uuid.uuid4().hex[:8]}"
    ours = settings.S3DIRECT_UPLOADS
    corner = {"MAX_SIZE": 1000, "CONTENT_TYPES": ["image/*"]}
    destinations = {**ours["DESTINATIONS"], name: corner}
    settings.S3DIRECT_UPLOADS = {**ours, "DESTINATIONS": destinations}
    monkeypatch.setattr("s3direct_uploads.lifecycle.reconciling.OLD_ENOUGH", -HOUR)
    return name


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
    # The albums' hook may put them anywhere.
    assert [prefix for _, prefix in _places("")] == ["site/"]
    del settings.S3DIRECT_UPLOADS["DESTINATIONS"]["albums"]
    assert [prefix for _, prefix in _places("")] == [
        f"site/{corner}/",
        "site/documents/",
        "site/photos/",
    ]


# The command.


def command(*arguments: str) -> str:
    out = io.StringIO()
    call_command("sweep_uploads", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_the_command_says_what_it_did(alice: App) -> None:
    begun = alice.begin().json()
    alice.send(begun["request"])
    alice.begin()
    assert command() == "Swept: nothing.\n"
    age(2 * HOUR)
    assert command("--dry-run") == "Due: 2 pending.\n"
    assert command("--limit", "1", "--destination", "photos") == "Swept: 1 completed.\n"
    assert command() == "Swept: 1 waiting.\n"
    assert command("--dry-run") == "Due: nothing.\n"


def test_the_command_reconciles(alice: App, corner: str) -> None:
    upload = row(alice.upload(destination=corner))
    there = ["--reconcile", "--destination", corner]
    Upload.objects.update(completed_at=timezone.now() - 2 * DAY)
    assert command(*there) == "Reconciled: 1 uploads completed and never attached.\n"
    upload.delete()
    said = f"object {upload.bucket} {upload.key} {len(JPEG)}\n"
    assert command(*there) == f"stray {said}Reconciled: 1 stray objects.\n"
    assert command(*there, "--delete", "--dry-run").startswith("stray object")
    assert command(*there, "--delete") == f"deleted {said}Reconciled: 1 deleted objects.\n"
    assert command(*there) == "Reconciled: nothing.\n"


def test_in_a_loop_it_goes_on_whatever_happens_until_it_is_told_to_stop(tmp_path: Path) -> None:
    environment = child_environment(
        DJANGO_SETTINGS_MODULE="example_project.settings",
        DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3",
    )

    def manage(*command: str) -> list[str]:
        return [sys.executable, "manage.py", *command]

    with subprocess.Popen(
        manage("sweep_uploads", "--loop", "0.1"),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        with killed_after(30, process):
            assert "The sweep failed: OperationalError: no such table" in process.stdout.readline()
            subprocess.run(manage("migrate", "--verbosity", "0"), env=environment, check=True)
            while "failed" in (line := process.stdout.readline()):
                pass
            assert [line, process.stdout.readline()] == ["Swept: nothing.\n"] * 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    "arguments",
    [["--delete"], ["--limit", "0"], ["--loop", "0"], ["--reconcile", "--destination", "none"]],
)
@pytest.mark.django_db
def test_the_command_refuses(arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        command(*arguments)


# What the log says.


def test_each_transition_is_one_record(
    alice: App, s3: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "s3direct_uploads")
    begun = alice.begin().json()
    alice.send(begun["request"])
    alice.confirm(begun["id"])
    alice.confirm(begun["id"])
    alice.delete(begun["id"])
    alice.begin()
    age(3 * DAY)
    sweep()
    ours = [vars(each) for each in caplog.records if hasattr(each, "upload_id")]
    said = [(each["from"], each["to"], each["cause"]) for each in ours]
    assert said == [
        (None, "pending", "client"),
        ("pending", "completed", "client"),
        ("completed", "deleted", "client"),
        (None, "pending", "client"),
        ("pending", "expired", "sweep"),
    ]
    assert (ours[0]["upload_id"], ours[0]["destination"]) == (begun["id"], "photos")
    assert 0 <= ours[0]["duration"] < 60
    assert 0 <= ours[-1]["duration"] - 3 * DAY.total_seconds() < 60
    for each in ours:
        assert "http" not in each["message"]
