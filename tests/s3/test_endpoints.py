"""Where S3 is, as boto3 finds it: an option, the environment, or a profile of ~/.aws/config."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.client import Config
from django.core.files.storage import storages
from django.core.management import call_command
from storages.backends import s3 as django_storages

from s3direct_uploads.s3 import Bucket, Declared, get_bucket
from s3direct_uploads.storage import S3Storage
from tests.conftest import App, row
from tests.conftest import Bucket as Seen
from tests.settings import free_port

HOUR = timedelta(hours=1)
AWS = {"bucket_name": "media", "access_key": "AKIA", "secret_key": "s", "region_name": "eu-west-1"}
MINIO = "http://minio.example.com:9000"
VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_CONFIG_FILE")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Variables, and the file ~/.aws/config, of which the first profile is "default"."""

    def environment(config: str = "", **variables: str) -> None:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        file = tmp_path / "config"
        file.write_text(config)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    environment()
    return environment


def urls(storage: Any) -> list[str]:
    """Every URL that clients get, and that of a FileField: scheme, host and path."""
    bucket = Bucket(storage)
    handed = [
        bucket.presign_put("k", Declared(1), expires=HOUR).url,
        bucket.presign_get("k", filename="k", inline=False, version_id="", expires=HOUR).url,
        bucket.presign_parts("k", "id", {1: 1}, expires=HOUR)[0].url,
        *bucket.endpoints,
    ]
    if isinstance(storage, S3Storage):
        handed.append(storage.url("k"))
    return sorted({url.partition("?")[0].removesuffix("k").rstrip("/") for url in handed})


SERVICES = f"""
[default]
services = mine
[services mine]
s3 =
    endpoint_url = {MINIO}
"""
CASES: list[tuple[str, dict[str, str], dict[str, Any], str]] = [
    # the file, variables, the storage's options, and the URL of the bucket
    ("", {}, {}, "https://media.s3.eu-west-1.amazonaws.com"),
    ("", {"AWS_ENDPOINT_URL_S3": MINIO}, {}, f"{MINIO}/media"),
    ("", {"AWS_ENDPOINT_URL": MINIO}, {}, f"{MINIO}/media"),
    (f"[default]\nendpoint_url = {MINIO}", {}, {}, f"{MINIO}/media"),
    (SERVICES, {}, {}, f"{MINIO}/media"),
    (
        f"[profile mine]\nendpoint_url = {MINIO}",
        {"AWS_PROFILE": "mine"},
        {},
        f"{MINIO}/media",
    ),
    # The more specific setting wins.
    ("", {"AWS_ENDPOINT_URL": MINIO}, {"endpoint_url": "http://b:1"}, "http://b:1/media"),
    (
        "",
        {"AWS_ENDPOINT_URL": MINIO, "AWS_ENDPOINT_URL_S3": "http://b:1"},
        {},
        "http://b:1/media",
    ),
    (
        "",
        {"AWS_ENDPOINT_URL": MINIO, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
        {},
        "https://media.s3.eu-west-1.amazonaws.com",
    ),
    # How the bucket is named: the option, then the profile, then what the host wants.
    (
        "",
        {"AWS_ENDPOINT_URL_S3": MINIO},
        {"addressing_style": "virtual"},
        "http://media.minio.example.com:9000",
    ),
    (
        "[default]\ns3 =\n    addressing_style = path",
        {},
        {},
        "https://s3.eu-west-1.amazonaws.com/media",
    ),
    (
        "[default]\ns3 =\n    addressing_style = path",
        {},
        {"addressing_style": "virtual"},
        "https://media.s3.eu-west-1.amazonaws.com",
    ),
    (
        "[default]\ns3 =\n    addressing_style = virtual",
        {"AWS_ENDPOINT_URL": MINIO},
        {},
        "http://media.minio.example.com:9000",
    ),
    (
        "[default]\ns3 =\n    addressing_style = virtual",
        {},
        {"endpoint_url": MINIO},
        "http://media.minio.example.com:9000",
    ),
    (
        "[default]\ns3 =\n    addressing_style = virtual",
        {"AWS_ENDPOINT_URL": MINIO},
        {"client_config": Config(s3={"addressing_style": "path"})},
        f"{MINIO}/media",
    ),
    # Other settings of S3 stay as they are.
    (
        "[default]\ns3 =\n    use_dualstack_endpoint = true",
        {},
        {},
        "https://media.s3.dualstack.eu-west-1.amazonaws.com",
    ),
]


@pytest.mark.parametrize("kind", [S3Storage, django_storages.S3Storage])
@pytest.mark.parametrize(("config", "variables", "options", "url"), CASES)
def test_every_url_leads_where_boto3_would_go(
    environment: Callable[..., None],
    kind: type[Any],
    config: str,
    variables: dict[str, str],
    options: dict[str, Any],
    url: str,
) -> None:
    environment(config, **variables)
    assert urls(kind(**AWS | options)) == [url]


def test_the_storages_named_profile_is_used(
    environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    environment(
        f"[profile mine]\nendpoint_url = {MINIO}\nregion = eu-west-1\n"
        "aws_access_key_id = AKIA\naws_secret_access_key = s"
    )
    storage = S3Storage(bucket_name="media", session_profile="mine")
    assert urls(storage) == [f"{MINIO}/media"]


def test_the_public_endpoint_is_named_by_path_wherever_the_server_goes(
    environment: Callable[..., None],
) -> None:
    environment()
    storage = S3Storage(**AWS | {"public_endpoint_url": "https://files.example.com"})
    bucket = Bucket(storage)
    server = "https://media.s3.eu-west-1.amazonaws.com/"
    assert bucket.endpoints == (server, "https://files.example.com/media")
    assert storage.url("k").startswith("https://files.example.com/media/k?")
    put = bucket.presign_put("k", Declared(1), expires=HOUR)
    assert put.url.startswith("https://files.example.com/media/k?")


def test_the_profile_names_buckets_at_the_public_endpoint_too(
    environment: Callable[..., None],
) -> None:
    environment("[default]\ns3 =\n    addressing_style = virtual")
    storage = S3Storage(**AWS | {"public_endpoint_url": "https://files.example.com"})
    put = Bucket(storage).presign_put("k", Declared(1), expires=HOUR)
    for url in (put.url, storage.url("k")):
        assert url.startswith("https://media.files.example.com/k?")


@pytest.mark.parametrize("url", ["no url", "ftp:/x", "http://"])
def test_a_variable_that_is_no_url_is_misconfigured(
    alice: App,
    environment: Callable[..., None],
    storage_options: Callable[..., None],
    url: str,
) -> None:
    environment(AWS_ENDPOINT_URL_S3=url)
    storage_options(endpoint_url=None)
    answer = alice.begin()
    assert (answer.status_code, answer.json()["code"]) == (503, "misconfigured")


def test_a_profile_that_there_is_not_is_misconfigured(
    alice: App, environment: Callable[..., None], storage_options: Callable[..., None]
) -> None:
    environment()
    storage_options(session_profile="none", access_key=None, secret_key=None)
    answer = alice.begin()
    assert (answer.status_code, answer.json()["code"]) == (503, "misconfigured")


@pytest.mark.usefixtures("no_pause")
def test_an_upload_goes_where_the_environment_says(
    alice: App,
    s3: Seen,
    environment: Callable[..., None],
    settings: Any,
    storage_options: Callable[..., None],
) -> None:
    endpoint_url = settings.STORAGES["default"]["OPTIONS"]["endpoint_url"]
    environment(AWS_ENDPOINT_URL_S3=endpoint_url)
    storage_options(endpoint_url=None)
    answer = alice.upload()
    assert answer.status_code == 200
    upload = row(answer)
    assert storages["default"].url(upload.name).startswith(f"{endpoint_url}/{s3.name}/site/")
    assert get_bucket("default").endpoint_url == endpoint_url
    client = get_bucket("default")._client
    storages["default"].exists("k")  # so that the storage finds its own addressing style
    assert get_bucket("default")._client is client
    out = StringIO()
    with pytest.raises(SystemExit):  # moto enforces nothing
        call_command("check_bucket", "--json", stdout=out)
    levels = {each["code"]: each["level"] for each in json.loads(out.getvalue())}
    assert (levels["endpoint"], levels["presigned"]) == ("pass", "pass")


def test_run_s3_serves_where_the_environment_says(
    environment: Callable[..., None], tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    # Its settings read S3_ENDPOINT_URL. An empty one leaves the endpoint to boto3.
    variables = {
        "S3_ENDPOINT_URL": "",
        "AWS_ENDPOINT_URL_S3": url,
        "S3_BUCKET": "media",
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3",
    }
    with subprocess.Popen(
        [sys.executable, "manage.py", "run_s3"],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == f"S3 at {url}, with media. Ctrl-C stops it.\n"
        client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="s",
        )
        assert [each["Name"] for each in client.list_buckets()["Buckets"]] == ["media"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_finding_the_endpoint_asks_no_server(
    environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the machine's metadata server for credentials is asked."""
    environment()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("It was asked.")

    monkeypatch.setattr("botocore.session.Session.get_credentials", refuse)
    for kind in (S3Storage, django_storages.S3Storage):
        kind(bucket_name="media", region_name="eu-west-1")
    call_command("check")


def test_a_storages_host_is_of_its_region_though_django_storages_asks_for_none(
    environment: Callable[..., None],
) -> None:
    environment()
    storage = S3Storage(**AWS)
    host = urlsplit(storage.url("k")).netloc
    assert host == "media.s3.eu-west-1.amazonaws.com"
    assert urlsplit(storage.connection.meta.client.meta.endpoint_url).scheme == "https"
