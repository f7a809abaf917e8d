"""The sweep deletes objects once their keys are closed, and then prunes the rows."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from django.db import IntegrityError, connection, models
from django.db.models import ProtectedError
from django.utils import timezone

from s3direct_uploads import keys
from s3direct_uploads.models import Upload, Usage
from s3direct_uploads.s3 import Bucket as BucketOfOurs
from s3direct_uploads.s3 import get_bucket
from tests.conftest import DAY, HOUR, JPEG, App, Bucket, Connect, age, made_up_answer, row, sweep
from tests.lifecycle.sweep.conftest import rows


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


def test_an_upload_deleted_by_two_at_once_leaves_the_quota_once(
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
    """Like a ForeignKey with DO_NOTHING, which PostgreSQL checks at commit."""
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


def test_the_sweep_deletes_every_version(alice: App, versioned: Bucket) -> None:
    s3 = versioned
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
    """A bucket with object lock, and so with versions."""
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
    """The SQL that runs inside the ``with`` block."""

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
        assert (
            Counter(s3_calls)["DeleteObjects"] == 0
        )  # the bucket remembers that the server lacks it
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
