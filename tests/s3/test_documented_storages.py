"""The storages that the documentation shows: tenants, Docker, providers, a CDN. As they stand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from django.core.files.storage import storages
from django.db import connection

from s3direct_uploads import checks, lifecycle
from s3direct_uploads.s3 import get_bucket
from tests.conftest import DAY, JPEG, App, Bucket, row
from tests.documents import block, write
from tests.s3.test_cdn import PEM, assert_cloudfront_signed


def read(code: str, **names: Any) -> dict[str, Any]:
    """The names that this block has made."""
    exec(code, names)
    return names


def options(code: str) -> dict[str, Any]:
    """Those of a block that is one line of a storage's settings."""
    found: dict[str, Any] = read(f"storage = {{{code}}}")["storage"]["OPTIONS"]
    return found


# Tenants.


@pytest.fixture
def turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any, s3: Bucket
) -> Iterator[Callable[[str], None]]:
    """From now on requests are this tenant's, as django-tenants says it."""
    connection.schema_name = "public"  # type: ignore[attr-defined]
    write(tmp_path, block("docs/tenants.md", "# shops/storage.py"))
    monkeypatch.syspath_prepend(tmp_path)
    shown = read(block("docs/tenants.md", "# settings.py, with tenants"))
    ours = {**settings.STORAGES["default"]["OPTIONS"]}
    del ours["location"]
    shown["STORAGES"]["default"]["OPTIONS"] = {
        **shown["STORAGES"]["default"]["OPTIONS"],
        **ours,
    }
    settings.STORAGES = shown["STORAGES"]
    settings.S3DIRECT_UPLOADS = shown["S3DIRECT_UPLOADS"]

    def turn(schema: str) -> None:
        connection.schema_name = schema  # type: ignore[attr-defined]

    yield turn
    del connection.schema_name  # type: ignore[attr-defined]
    for name in ("shops", "shops.storage"):
        sys.modules.pop(name, None)


def test_each_tenant_has_a_folder_and_reconcile_leaves_those_of_others(
    alice: App, s3: Bucket, turn: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s3direct_uploads.lifecycle.reconciling.OLD_ENOUGH", -DAY)
    assert checks.check_storages() == []
    turn("ada")
    adas = row(alice.upload())
    assert adas.key.startswith("tenants/ada/photos/")
    turn("bob")
    bobs = row(alice.upload())
    assert bobs.key.startswith("tenants/bob/photos/")
    assert not adas.is_here

    adas.delete()  # as if its row were lost
    bobs.delete()
    assert [each.key for each in lifecycle.reconcile(delete=True)] == [bobs.key]

    assert s3.client.get_object(Bucket=s3.name, Key=adas.key)["Body"].read() == JPEG
    turn("ada")
    assert [each.key for each in lifecycle.reconcile(delete=True)] == [adas.key]


# Docker.

COMPOSE = yaml.safe_load(block("docs/docker.md", "# compose.yaml", "yaml"))
DOCKER = block("docs/docker.md", "# settings.py, in a container")


@pytest.mark.parametrize("service", ["web", "sweep"])
def test_in_docker_urls_are_signed_for_the_public_host(
    alice: App, settings: Any, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    for name, value in COMPOSE["services"][service]["environment"].items():
        monkeypatch.setenv(name, value)
    settings.STORAGES = read(DOCKER)["STORAGES"]

    request = alice.begin().json()["request"]

    assert request["url"].startswith("http://localhost:9000/media/photos/")
    assert "X-Amz-Credential=example%2F" in request["url"]
    assert storages["default"].url("photos/a.jpg").startswith("http://localhost:9000/media/")
    assert get_bucket("default")._client.meta.endpoint_url == "http://minio:9000"


def test_in_docker_each_address_is_one_that_the_file_serves() -> None:
    services = COMPOSE["services"]
    minio = services["minio"]
    for service in ("web", "sweep"):
        environment = services[service]["environment"]
        inside = urlsplit(environment["S3_ENDPOINT_URL"])
        outside = urlsplit(environment["S3_PUBLIC_ENDPOINT_URL"])
        assert inside.hostname in services
        assert f"{outside.port}:{inside.port}" in minio["ports"]
        keys = (environment["S3_ACCESS_KEY"], environment["S3_SECRET_KEY"])
        assert keys == (
            minio["environment"]["MINIO_ROOT_USER"],
            minio["environment"]["MINIO_ROOT_PASSWORD"],
        )
    [port] = services["web"]["ports"]
    page = urlsplit(minio["environment"]["MINIO_API_CORS_ALLOW_ORIGIN"])
    assert str(page.port) == port.split(":")[0]


# Providers.


def test_on_aws_urls_have_the_buckets_own_host(
    alice: App, storage_options: Callable[..., None]
) -> None:
    code = block(
        "docs/providers.md", '"OPTIONS": {"bucket_name": "media", "region_name": "eu-central-1"}'
    )
    storage_options(endpoint_url=None, **options(code))
    url = alice.begin().json()["request"]["url"]
    assert url.startswith("https://media.s3.eu-central-1.amazonaws.com/site/photos/")


def test_in_a_private_network_urls_have_the_public_host(
    alice: App, storage_options: Callable[..., None]
) -> None:
    code = block(
        "docs/providers.md",
        '"OPTIONS": {"endpoint_url": "http://minio:9000", '
        '"public_endpoint_url": "https://files.example.com"}',
    )
    storage_options(**options(code))
    assert alice.begin().json()["request"]["url"].startswith("https://files.example.com/")
    assert get_bucket("default")._client.meta.endpoint_url == "http://minio:9000"


def test_without_conditional_writes_everything_is_sent_in_parts(
    alice: App, s3: Bucket, storage_options: Callable[..., None]
) -> None:
    code = block(
        "docs/providers.md",
        '"OPTIONS": {"endpoint_url": "https://s3.example.com", "overwrite_guard": "multipart"}',
    )
    shown = options(code)
    assert shown.pop("endpoint_url")  # here it is moto
    storage_options(**shown)
    begun = alice.begin().json()
    assert (begun["request"], begun["multipart"]["part_count"]) == (None, 1)


# A CDN.


def test_cloudfront_signs_downloads(
    alice: App, s3: Bucket, settings: Any, tmp_path: Path, storage_options: Callable[..., None]
) -> None:
    upload = row(alice.upload())
    (tmp_path / "cloudfront.pem").write_text(PEM)
    code = block("docs/cdn.md", "# settings.py, with CloudFront and signed URLs")
    shown = read(code, STORAGES={"default": {"OPTIONS": {}}}, BASE_DIR=tmp_path)["STORAGES"]
    storage_options(**shown["default"]["OPTIONS"])

    url = alice.get(f"{upload.pk}/url/").json()["url"]

    assert url.startswith("https://files.example.com/site/photos/")
    assert_cloudfront_signed(url)
