"""``manage.py run_s3``: an S3 server for development."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from django.core.management import CommandError, call_command

from tests.conftest import child_environment, killed_after
from tests.settings import free_port


@pytest.fixture
def environment() -> dict[str, str]:
    return child_environment(
        S3_ENDPOINT_URL=f"http://127.0.0.1:{free_port()}",
        S3_BUCKET="media",
        DJANGO_SETTINGS_MODULE="example_project.settings",
    )


@pytest.mark.parametrize(
    ("number", "region"), [(signal.SIGINT, "us-east-1"), (signal.SIGTERM, "eu-central-1")]
)
def test_run_s3_serves_the_projects_buckets_with_cors_and_stops_at_a_signal(
    environment: dict[str, str], number: int, region: str
) -> None:
    environment["AWS_REGION"] = region
    process = subprocess.Popen(
        [sys.executable, "manage.py", "run_s3", "--origin", "http://app.example.com"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    with process, killed_after(30, process), process.stdout as output:
        line = output.readline()
        assert line == f"S3 at {environment['S3_ENDPOINT_URL']}, with media. Ctrl-C stops it.\n"

        def preflight(origin: str) -> requests.Response:
            headers = {
                "Origin": origin,
                "Access-Control-Request-Method": "PUT",
                "Access-Control-Request-Headers": "content-type,if-none-match",
            }
            url = f"{environment['S3_ENDPOINT_URL']}/media/k"
            return requests.options(url, headers=headers, timeout=10)

        for origin in ("http://127.0.0.1:8000", "http://localhost:3000", "http://app.example.com"):
            assert preflight(origin).status_code == 200
        assert preflight("http://evil.example.com").status_code == 403
        process.send_signal(number)
        assert process.wait(10) == 0


def test_run_s3_names_a_port_that_is_taken(storage_options: Callable[..., None]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        storage_options(endpoint_url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(CommandError, match="taken"):
            call_command("run_s3")


@pytest.mark.parametrize("endpoint_url", [None, "https://s3.example.com"])
def test_run_s3_refuses_a_storage_that_is_elsewhere(
    storage_options: Callable[..., None], endpoint_url: str | None
) -> None:
    storage_options(endpoint_url=endpoint_url)
    with pytest.raises(CommandError, match="endpoint_url"):
        call_command("run_s3")


def test_run_s3_says_how_to_install_moto(
    storage_options: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing: dict[str, Any] = {"moto.server": None}
    for name, module in missing.items():
        monkeypatch.setitem(sys.modules, name, module)
    storage_options(endpoint_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(CommandError, match="pip install"):
        call_command("run_s3")


def test_run_s3_names_missing_credentials(
    storage_options: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    storage_options(
        endpoint_url=f"http://127.0.0.1:{free_port()}", access_key=None, secret_key=None
    )
    with pytest.raises(CommandError, match=r"NoCredentials.*any access_key"):
        call_command("run_s3")
