"""Tenants: one process serves many, and a storage's bucket or folder depends on the tenant."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import storages
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.utils import timezone

from s3direct_uploads import keys, lifecycle, provisioning
from s3direct_uploads.exceptions import BucketUnavailable
from s3direct_uploads.lifecycle import bucket_failures
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import Declared, get_bucket
from s3direct_uploads.storage import S3Storage
from tests.conftest import JPEG, App, Bucket, row

DAY = timedelta(days=1)
current: dict[str, Any] = {}  # of the tenant whose turn it is


class TenantStorage(S3Storage):
    """As hosts of django-tenants write it: a property asks whose request this is."""

    @property
    def location(self) -> str:
        return str(current["location"])

    @property
    def bucket_name(self) -> str:
        return str(current["bucket_name"])

    @property
    def endpoint_url(self) -> str:
        return str(current["endpoint_url"])


@pytest.fixture
def turn(settings: Any, s3: Bucket) -> Iterator[Callable[..., None]]:
    """From now on requests are this tenant's, with its storage and its schema."""
    options = settings.STORAGES["default"]["OPTIONS"]
    properties = ("location", "bucket_name", "endpoint_url")
    first = {name: options[name] for name in properties}
    backend = {
        "BACKEND": f"{__name__}.TenantStorage",
        "OPTIONS": {name: value for name, value in options.items() if name not in properties},
    }
    settings.STORAGES = {**settings.STORAGES, "default": backend}

    def turn(schema: str = "", **said: str) -> None:
        current.clear()
        current.update({**first, **said})
        connection.schema_name = schema  # type: ignore[attr-defined]

    turn()
    yield turn
    del connection.schema_name  # type: ignore[attr-defined]


@pytest.fixture
def second_bucket(s3: Bucket) -> str:
    name = f"{s3.name}-second"
    s3.client.create_bucket(Bucket=name)
    return name


def body_of(s3: Bucket, upload: Upload) -> bytes:
    body: bytes = s3.client.get_object(Bucket=upload.bucket, Key=upload.key)["Body"].read()
    return body


def command(*arguments: str) -> str:
    out = io.StringIO()
    call_command("sweep_uploads", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_each_tenants_upload_lands_in_its_own_folder(
    alice: App, s3: Bucket, turn: Callable[..., None]
) -> None:
    uploads = []
    for tenant in ("ada", "bob", "ada"):
        turn(location=tenant)
        answer = alice.upload()
        assert answer.status_code == 200
        upload = row(answer)
        assert upload.key.startswith(f"{tenant}/photos/")
        assert upload.name == upload.key.removeprefix(f"{tenant}/")
        assert body_of(s3, upload) == JPEG
        uploads.append(upload)
    # The first tenant's turn: the second's file is no name of its storage.
    with pytest.raises(ImproperlyConfigured):
        assert uploads[1].name


def test_each_tenants_upload_lands_in_its_own_bucket(
    alice: App, s3: Bucket, turn: Callable[..., None], second_bucket: str
) -> None:
    for bucket in (s3.name, second_bucket, s3.name):
        turn(bucket_name=bucket)
        answer = alice.upload()
        assert answer.status_code == 200
        upload = row(answer)
        assert upload.bucket == bucket
        assert body_of(s3, upload) == JPEG
        # As the model's field finds it: a URL, and the file itself.
        assert f"/{bucket}/" in storages["default"].url(upload.name)
        assert storages["default"].size(upload.name) == len(JPEG)
        with storages["default"].open(upload.name) as file:
            assert file.read() == JPEG


def test_each_tenants_s3_is_asked_at_its_own_address(
    turn: Callable[..., None],
) -> None:
    hosts = []
    for host in ("a.example.com", "b.example.com", "a.example.com"):
        turn(endpoint_url=f"https://{host}")
        bucket = get_bucket("default")
        request = bucket.presign_put("k", Declared(1), expires=DAY)
        hosts.append((request.url.split("/")[2], bucket.endpoint_url))
    assert hosts == [
        ("a.example.com", "https://a.example.com"),
        ("b.example.com", "https://b.example.com"),
        ("a.example.com", "https://a.example.com"),
    ]


def test_tenants_of_one_s3_share_its_clients(turn: Callable[..., None], second_bucket: str) -> None:
    turn(location="ada")
    first = get_bucket("default")
    turn(location="bob", bucket_name=second_bucket)
    second = get_bucket("default")
    assert (first.name, first.location) != (second.name, second.location)
    assert first._client is second._client


def test_a_row_remembers_its_bucket_whoevers_turn_it_is(
    alice: App, s3: Bucket, turn: Callable[..., None], second_bucket: str
) -> None:
    """Where all tenants' rows are in one table, one sweep looks after all of them."""
    turn(bucket_name=s3.name, location="ada")
    assert get_bucket("default").name == s3.name
    turn(bucket_name=second_bucket, location="bob")
    begun = alice.begin().json()
    assert alice.send(begun["request"]) == 200
    cancelled = row(alice.begin())
    lifecycle.cancel(cancelled)
    turn(bucket_name=s3.name, location="ada")
    Upload.objects.update(
        url_expires_at=timezone.now() - 3 * DAY, due_at=timezone.now() - timedelta(hours=1)
    )

    assert lifecycle.sweep() == {"completed": 1, "cleaned": 1}

    upload = Upload.objects.get(pk=begun["id"])
    assert (upload.status, upload.bucket) == ("completed", second_bucket)


def test_what_the_bucket_needs_is_said_for_the_tenant_whose_turn_it_is(
    turn: Callable[..., None], second_bucket: str
) -> None:
    turn(location="ada")
    assert provisioning.needs_of("default").folder == "ada/"
    turn(location="bob", bucket_name=second_bucket)
    needs = provisioning.needs_of("default")
    assert (needs.bucket, needs.folder) == (second_bucket, "bob/")


def test_without_a_tenant_there_is_no_upload_and_no_traceback(
    alice: App, turn: Callable[..., None]
) -> None:
    turn(bucket_name="")  # as under the public schema
    answer = alice.begin()
    assert (answer.status_code, answer.json()["code"]) == (503, "misconfigured")
    call_command("check", fail_level="WARNING")
    current.clear()  # or the property raises
    answer = alice.begin()
    assert (answer.status_code, answer.json()["code"]) == (503, "misconfigured")
    assert not Upload.objects.exists()


# Which tenant an object belongs to.


@pytest.fixture
def old_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is too young to be a stray."""
    monkeypatch.setattr("s3direct_uploads.lifecycle.reconciling.OLD_ENOUGH", -DAY)


@pytest.fixture
def site(settings: Any) -> Callable[[str | None], None]:
    """From then on this is another site, with the same bucket and SECRET_KEY."""

    def site(name: str | None) -> None:
        settings.S3DIRECT_UPLOADS = {**settings.S3DIRECT_UPLOADS, "SITE": name}

    return site


def forget_rows() -> None:
    """The strays of another site: in another schema, or database."""
    Upload.objects.all().delete()


@pytest.mark.usefixtures("old_enough")
def test_another_schemas_files_are_no_strays(
    alice: App, s3: Bucket, turn: Callable[..., None]
) -> None:
    turn("ada", location="shared")
    upload = row(alice.upload())
    forget_rows()

    turn("bob", location="shared")
    assert "object" not in command("--reconcile")
    assert "object" not in command("--reconcile", "--delete")
    assert body_of(s3, upload) == JPEG

    turn("ada", location="shared")
    assert command("--reconcile", "--delete").count(f"deleted object {s3.name} {upload.key}") == 1


@pytest.mark.usefixtures("old_enough")
def test_another_sites_files_are_no_strays(
    alice: App, s3: Bucket, turn: Callable[..., None], site: Callable[[str | None], None]
) -> None:
    """Staging, say: the same SECRET_KEY and bucket, and a copy of the same database."""
    turn(location="shared")
    site("production")
    upload = row(alice.upload())
    forget_rows()

    site("staging")
    assert "object" not in command("--reconcile", "--delete")
    assert body_of(s3, upload) == JPEG

    site("production")
    assert f"deleted object {s3.name} {upload.key}" in command("--reconcile", "--delete")


@pytest.mark.usefixtures("old_enough")
def test_another_databases_files_are_no_strays(
    alice: App, s3: Bucket, turn: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tenant with a database of its own."""
    turn(location="shared")
    upload = row(alice.upload())
    forget_rows()
    with monkeypatch.context() as other:
        other.setitem(connection.settings_dict, "NAME", "another")
        assert "object" not in command("--reconcile", "--delete")
    assert body_of(s3, upload) == JPEG
    assert f"deleted object {s3.name} {upload.key}" in command("--reconcile", "--delete")


@pytest.mark.usefixtures("old_enough")
@pytest.mark.parametrize("name", [None, "", "not a site", 5])
def test_a_site_without_a_name_deletes_no_strays(
    alice: App,
    s3: Bucket,
    turn: Callable[..., None],
    site: Callable[[str | None], None],
    name: Any,
) -> None:
    turn(location="shared")
    site(name)
    upload = row(alice.upload())
    forget_rows()
    assert f"stray object {s3.name} {upload.key}" in command("--reconcile")
    with pytest.raises(CommandError, match="SITE"):
        command("--reconcile", "--delete")
    assert body_of(s3, upload) == JPEG


@pytest.mark.usefixtures("old_enough")
def test_a_database_of_the_same_name_on_another_server_is_another(
    alice: App, s3: Bucket, turn: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A router that writes each region's rows to a server of its own, which names it alike."""
    turn(location="shared")
    upload = row(alice.upload())
    here = lifecycle.site()
    monkeypatch.setattr("s3direct_uploads.lifecycle.connection.database", lambda: "elsewhere")
    connections["elsewhere"] = connection.copy("elsewhere")
    try:
        there = lifecycle.site()
    finally:
        del connections["elsewhere"]
    assert keys.is_ours(here, s3.name, upload.key)
    assert not keys.is_ours(there, s3.name, upload.key)


def test_a_file_of_another_tenants_is_no_file_for_this_ones_models(
    alice: App, s3: Bucket, turn: Callable[..., None]
) -> None:
    """Where all tenants' rows are in one table, and a user has logins at two of them."""
    turn(location="ada")
    upload = row(alice.upload())
    turn(location="bob")
    answer = alice.client.post("/api/photos/", {"title": "t", "image": str(upload.pk)})
    assert answer.status_code == 400
    assert answer.json()["image"] == ["This upload is for another destination."]
    upload.refresh_from_db()
    assert upload.attached_at is None
    turn(location="ada")
    answer = alice.client.post("/api/photos/", {"title": "t", "image": str(upload.pk)})
    assert answer.status_code == 201


PROPERTIES = ("access_key", "secret_key", "endpoint_url", "public_endpoint_url")


class AccountStorage(S3Storage):
    """Each tenant has an account, or a server, of its own."""

    @property
    def access_key(self) -> str:
        return str(current["access_key"])

    @property
    def secret_key(self) -> str:
        return "secret"

    @property
    def endpoint_url(self) -> str:
        return str(current["endpoint_url"])

    @property
    def public_endpoint_url(self) -> str | None:  # type: ignore[override]
        said: str | None = current.get("public_endpoint_url")
        return said


@pytest.mark.parametrize("public", [None, "https://files.example.com"])
def test_a_files_url_is_signed_by_the_account_of_the_tenant_whose_turn_it_is(
    settings: Any, s3: Bucket, turn: Callable[..., None], public: str | None
) -> None:
    options = settings.STORAGES["default"]["OPTIONS"]
    backend = {
        "BACKEND": f"{__name__}.AccountStorage",
        "OPTIONS": {
            **{name: value for name, value in options.items() if name not in PROPERTIES},
            "bucket_name": "media",
        },
    }
    settings.STORAGES = {**settings.STORAGES, "default": backend}
    for tenant in ("ada", "bob", "ada"):
        endpoint_url = f"https://{tenant}.example.com"
        turn(access_key=tenant, endpoint_url=endpoint_url, public_endpoint_url=public)
        url = storages["default"].url("beach.jpg")
        assert url.startswith(f"{public or endpoint_url}/media/beach.jpg?")
        assert f"X-Amz-Credential={tenant}%2F" in url
        handed = get_bucket("default").presign_put("k", Declared(1), expires=DAY).url
        assert handed.startswith(f"{public or endpoint_url}/media/k?")
        assert f"X-Amz-Credential={tenant}%2F" in handed


def test_two_servers_with_buckets_of_one_name_fail_apart(
    s3: Bucket, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five failures of one server do not end the sweep of the other."""
    default = settings.STORAGES["default"]
    away = {**default, "OPTIONS": {**default["OPTIONS"], "region_name": "eu-west-1"}}
    settings.STORAGES = {**settings.STORAGES, "away": away}
    one, other = get_bucket("default"), get_bucket("away")
    assert one.name == other.name
    buckets = bucket_failures.Buckets()
    monkeypatch.setattr(other, "is_away", lambda: True)
    for _ in range(bucket_failures.GIVE_UP_AFTER):
        buckets.judge(other, BucketUnavailable("S3 is away."))
    assert buckets.is_away(other)
    assert not buckets.is_away(one)
