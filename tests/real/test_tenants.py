"""Tenants in schemas of one PostgreSQL, and a bucket that S3 knows to be another's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import requests
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload
from tests.conftest import FILM, JPEG, App, Bucket, age, row
from tests.field_models import Snap

pytestmark = pytest.mark.attack

DAY = timedelta(days=1)


@pytest.fixture
def schema(db: None) -> Iterator[Callable[[str], None]]:
    """From then on the rows are of this schema, as django-tenants would have it."""
    table = Upload._meta.db_table

    def schema(name: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {name}")
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS {name}.{table} (LIKE public.{table} INCLUDING ALL)"
            )
            cursor.execute(f"SET search_path TO {name}, public")
        connection.schema_name = name  # type: ignore[attr-defined]

    yield schema
    with connection.cursor() as cursor:
        cursor.execute("SET search_path TO public")
    del connection.schema_name  # type: ignore[attr-defined]


def test_no_tenant_deletes_another_ones_files(
    alice: App,
    s3: Bucket,
    schema: Callable[[str], None],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("s3direct_uploads.lifecycle.reconciling.OLD_ENOUGH", -DAY)
    photos = {**settings.S3DIRECT_UPLOADS["DESTINATIONS"]["photos"], "PREFIX": "tenants/"}
    settings.S3DIRECT_UPLOADS = {"SITE": "tests", "DESTINATIONS": {"photos": photos}}
    schema("ada")
    upload = row(alice.upload())
    lost = row(alice.upload())

    schema("bob")
    assert not Upload.objects.exists()
    assert list(lifecycle.reconcile()) == []
    assert list(lifecycle.reconcile(delete=True)) == []
    assert s3.read(upload) == JPEG

    schema("ada")
    Upload.objects.filter(pk=lost.pk).delete()
    [stray] = lifecycle.reconcile(delete=True)
    assert (stray.key, stray.deleted) == (lost.key, True)
    assert (s3.read(upload), s3.read(lost)) == (JPEG, None)


@pytest.mark.usefixtures("films")
def test_with_the_right_owner_all_goes_well(
    alice: App, s3: Bucket, storage_options: Callable[..., None]
) -> None:
    owner = s3.client.list_buckets()["Owner"]["ID"]
    storage_options(object_parameters={"ExpectedBucketOwner": owner, "RequestPayer": "requester"})
    photo = row(alice.upload())
    film = alice.begin_film().json()
    assert alice.send_parts(film["multipart"]["parts"]) == [200, 200]
    answer = alice.confirm(film["id"])
    assert answer.status_code == 200
    for upload, body in ((photo, JPEG), (row(answer), FILM)):
        url = alice.get(f"{upload.pk}/url/").json()["url"]
        assert requests.get(url, timeout=10).content == body, "as a browser follows a link"
        assert alice.delete(str(upload.pk)).status_code == 204


def test_with_another_owner_s3_refuses_everybody(
    alice: App, s3: Bucket, storage_options: Callable[..., None]
) -> None:
    there = row(alice.upload())
    begun = alice.begin().json()
    storage_options(object_parameters={"ExpectedBucketOwner": "another"})
    request = alice.renew(begun["id"]).json()["request"]
    assert alice.send(request) == 403
    assert alice.confirm(begun["id"]).status_code == 503
    assert Upload.objects.get(pk=begun["id"]).status == "pending"
    assert s3.read(there) == JPEG


def test_schemas_that_no_connection_names_keep_their_files(
    alice: App,
    s3: Bucket,
    schema: Callable[[str], None],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A host's own middleware sets the search_path: then no key proves whose it is."""
    monkeypatch.setattr("s3direct_uploads.lifecycle.reconciling.OLD_ENOUGH", -DAY)
    settings.S3DIRECT_UPLOADS = {**settings.S3DIRECT_UPLOADS, "SITE": "tests"}
    schema("ada")
    del connection.schema_name  # type: ignore[attr-defined]
    upload = row(alice.upload())
    schema("bob")
    del connection.schema_name  # type: ignore[attr-defined]
    with pytest.raises(ImproperlyConfigured, match="ada, bob, public"):
        list(lifecycle.reconcile(delete=True))
    assert s3.read(upload) == JPEG
    schema("ada")  # which the fixture takes back


def test_no_upload_is_released_whose_row_another_schema_has(db: None, alice: App) -> None:
    """Uploads are shared, and each tenant has photos of its own."""
    upload = row(alice.upload())
    with connection.cursor() as cursor:
        for tenant in ("ada", "bob"):
            cursor.execute(f"CREATE SCHEMA {tenant}")
            cursor.execute(f"CREATE TABLE {tenant}.tests_snap (LIKE tests_snap INCLUDING ALL)")
        cursor.execute("SET search_path TO ada, public")
        Snap.objects.create(title="Ada's", image=upload)
        age(2 * DAY)
        assert list(lifecycle.unnamed()) == []

        cursor.execute("SET search_path TO bob, public")
        [found] = lifecycle.unnamed()
        assert not found.released
        with pytest.raises(ImproperlyConfigured, match=r"in several schemas \(ada, bob"):
            list(lifecycle.unnamed(delete=True))
        cursor.execute("SET search_path TO public")
    upload.refresh_from_db()
    assert (upload.status, upload.attached_to) == ("completed", "tests.Snap.image")
