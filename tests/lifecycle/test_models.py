"""The database refuses impossible rows, and has an index for each query."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import AddField
from django.db.models import Value, signals
from django.db.models.functions import Lower
from django.utils import timezone

from s3direct_uploads import inserting
from s3direct_uploads.models import Upload, new_id
from tests.conftest import ROOT, Connect

NOW = timezone.now()


def make(**fields: Any) -> Upload:
    values: dict[str, Any] = {
        "destination": "photos",
        "storage": "default",
        "bucket": "media",
        "key": str(new_id()),
        "filename": "a.jpg",
        "content_type": "image/jpeg",
        "size": 1,
        "url_expires_at": NOW,
        "expires_at": NOW,
    }
    return Upload.objects.create(**values | fields)


FULL = {
    "object_parameters": {"CacheControl": "no-cache", "Metadata": {"by": "é"}},
    "context": {"a": [1, None, "\U0001f996"]},
    "idempotency_key": "k",
    "part_size": 5,
    "busy_until": NOW,
    "multipart_upload_id": "2~x",
    "due_at": NOW,
}


@pytest.mark.django_db
@pytest.mark.parametrize("fields", [{}, FULL, {"part_size": 5}, {"size": 2**63 - 1}])
def test_a_row_is_inserted_as_django_would_insert_it(
    fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def values(upload: Upload) -> dict[str, Any]:
        own = ("id", "key", "idempotency_key", "created_at")
        return {k: v for k, v in Upload.objects.values().get(pk=upload.pk).items() if k not in own}

    ours = [make(**fields | {"idempotency_key": None}) for _ in range(2)]
    monkeypatch.setattr(inserting, "insert", lambda *_, **__: False)
    theirs = make(**fields)
    assert values(ours[0]) == values(ours[1]) == values(theirs)
    assert ours[0].pk == Upload.objects.get(key=ours[0].key).pk


@pytest.mark.django_db
def test_an_expression_is_inserted_by_django() -> None:
    upload = make(filename=Lower(Value("A.JPG")))
    assert Upload.objects.get(pk=upload.pk).filename == "a.jpg"


@pytest.mark.django_db
def test_the_signals_of_a_models_row_are_sent(connect: Connect) -> None:
    heard: list[tuple[str, Any, bool]] = []

    def before(instance: Upload, **_: Any) -> None:
        heard.append(("before", instance.pk, Upload.objects.filter(pk=instance.pk).exists()))

    def after(instance: Upload, created: bool, **_: Any) -> None:
        heard.append(("after", instance.pk, created))

    connect(signals.pre_save, before)
    connect(signals.post_save, after)
    upload = make()
    assert heard == [("before", upload.pk, False), ("after", upload.pk, True)]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("constraint", "fields"),
    [
        ("size", {"size": -1}),
        ("status", {"status": "ready"}),
        ("checksum_whole", {"checksum": "AAAA"}),
        ("checksum_whole", {"checksum_algorithm": "CRC32"}),
        ("completed_has_time", {"status": "completed"}),
        ("completed_has_time", {"status": "deleted"}),
        ("completed_has_time", {"status": "pending", "completed_at": NOW}),
        ("announced_is_completed", {"announced_at": NOW}),
        ("attached_is_completed", {"attached_at": NOW}),
        (
            "attached_is_completed",
            {"status": "deleted", "completed_at": NOW, "attached_at": NOW},
        ),
        ("only_tombstones_lose_objects", {"object_deleted_at": NOW}),
        ("rejected_has_reason", {"status": "rejected"}),
    ],
)
def test_the_database_refuses_an_impossible_row(constraint: str, fields: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match=f"s3direct_{constraint}"), transaction.atomic():
        make(**fields)


@pytest.mark.django_db
def test_a_key_is_used_once_and_a_begin_counts_once(django_user_model: Any) -> None:
    owner = django_user_model.objects.create(username="alice")
    make(key="k", owner=owner, idempotency_key="i")
    with pytest.raises(IntegrityError), transaction.atomic():
        make(key="k")
    with pytest.raises(IntegrityError), transaction.atomic():
        make(owner=owner, idempotency_key="i")
    make(idempotency_key="i")
    make(owner=owner)
    make(owner=owner)


@pytest.mark.django_db
def test_an_upload_outlives_its_owner(django_user_model: Any) -> None:
    owner = django_user_model.objects.create(username="alice")
    upload = make(owner=owner)
    owner.delete()
    upload.refresh_from_db()
    assert upload.owner is None


def test_ids_are_ordered_by_time() -> None:
    ids = [new_id() for _ in range(1000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 1000
    assert ids[0].version == 7


def test_a_key_closes_when_the_slowest_client_must_have_ended() -> None:
    upload = Upload(url_expires_at=NOW, size=10)
    assert upload.key_closes_at == NOW + timedelta(hours=1)
    upload.size = 64 * 1024 * 7200
    assert upload.key_closes_at == NOW + timedelta(hours=2)


def test_the_text_of_an_upload_has_filename_and_status() -> None:
    assert str(Upload(filename="a.jpg")) == "a.jpg (pending)"


@pytest.mark.django_db
def test_the_migrations_are_complete() -> None:
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


def test_code_of_the_version_before_still_inserts_after_a_migration() -> None:
    """While a deploy rolls, old processes insert without the new columns."""
    migrations = MigrationLoader(None).disk_migrations
    added = [
        (name, operation)
        for (app, name), migration in migrations.items()
        if app == "s3direct_uploads" and name != "0001_initial"
        for operation in migration.operations
        if isinstance(operation, AddField)
    ]
    assert {operation.name for _, operation in added} >= {"counted", "visitor"}
    unfilled = [
        f"{name}: {operation.name}"
        for name, operation in added
        if not operation.field.null and not operation.field.has_db_default()
    ]
    assert unfilled == [], "Write db_default, or null=True."


@pytest.mark.django_db
def test_the_database_fills_the_columns_that_old_code_does_not_know() -> None:
    begun = make()
    columns = [
        str(field.column)
        for field in Upload._meta.concrete_fields
        if field.name not in ("id", "key", "visitor", "counted")
    ]
    names = ", ".join(connection.ops.quote_name(each) for each in columns)
    id = new_id()
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO s3direct_uploads_upload (id, key, {names})"
            f" SELECT %s, 'another', {names} FROM s3direct_uploads_upload",
            [Upload._meta.pk.get_db_prep_value(id, connection)],
        )
    new = Upload.objects.get(key="another")
    assert (new.pk, new.visitor, new.counted) == (id, False, False)
    assert new.filename == begun.filename


@pytest.mark.django_db
def test_there_are_the_indexes_that_are_asked_for_and_no_others() -> None:
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, Upload._meta.db_table)
    indexes = {
        tuple(each["columns"])
        for each in found.values()
        if each["index"] or each["unique"] or each["primary_key"]
    }
    assert {columns for columns in indexes if "owner_id" not in columns} == {
        ("id",),
        ("key",),
        ("due_at",),
        ("filename",),
        ("idempotency_key",),  # of visitors only
        ("status", "id"),
    }
    assert ("owner_id",) not in indexes


def test_a_hosts_default_auto_field_changes_no_migration(tmp_path: Path) -> None:
    """The suite's own is BigAutoField, which ``test_the_migrations_are_complete`` tries."""
    (tmp_path / "hosts_settings.py").write_text(
        "from tests.settings import *\nDEFAULT_AUTO_FIELD = 'django.db.models.AutoField'\n"
    )
    done = subprocess.run(
        [sys.executable, "manage.py", "makemigrations", "s3direct_uploads", "--check", "--dry-run"],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(tmp_path),
            "DJANGO_SETTINGS_MODULE": "hosts_settings",
            "DATABASE_URL": "sqlite:///:memory:",
        },
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
