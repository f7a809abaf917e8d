"""docs/openapi.yaml, held against the running server by Schemathesis: all of its checks."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from s3direct_uploads import signals
from s3direct_uploads.models import Upload
from tests.conftest import App, Connect
from tests.openapi.conftest import Anything
from tests.openapi.test_answers import (
    abort_behind,
    give_up_parts,
    provoke_mismatch,
    send_in_parts,
)

pytestmark = pytest.mark.contract

ROOT = Path(__file__).resolve().parent.parent.parent
SCHEMA = ROOT / "docs" / "openapi.yaml"
CSRF_TOKEN = "x" * 32
CONFIG = """
[cache]
enabled = false

[auth.wfc]
path = "{folder}/auth.json"
user = "alice"
peers = ["alice", "bob"]

[dictionaries]
known = {{ values = {known} }}

[parameters]
"path.id" = {{ dictionary = "known", probability = 0.5 }}

[warnings]
fail-on = ["missing_auth", "missing_deserializer", "unsupported_regex", "unused_openapi_auth"]

[checks.positive_data_acceptance]
# 410 and 422 say what became of an upload, not that the request was wrong.
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 410, 422, 429, "5xx"]
"""
# Else it was all 404s, and shows nothing. 403: with no session, or one that was made up.
MUST_BE_SEEN = {
    "begin_upload": {201, 400, 403, 409, 415},
    "begin_uploads": {200, 400, 403},
    "confirm_uploads": {200, 400, 403},
    "list_uploads": {200, 400, 403, 404},
    "retrieve_upload": {200, 403, 404},
    "confirm_upload": {200, 403, 404, 409, 410, 422},
    "renew_upload": {200, 403, 404, 410},
    "list_upload_parts": {200, 403, 404, 409, 410},
    "sign_upload_parts": {200, 400, 403, 404, 409, 410},
    "delete_upload": {204, 403, 404, 409},
    "get_upload_url": {200, 400, 403, 409},
    "download_upload": {302, 400, 403, 409},
}


@pytest.fixture
def some_are_attached(connect: Connect) -> None:
    turns = itertools.count()

    def attach(upload: Upload, **_: Any) -> None:
        if next(turns) % 3 == 0:
            upload.attach()

    connect(signals.upload_completed, attach)


@pytest.mark.usefixtures("some_are_attached")
def test_the_server_does_what_the_description_says(
    live_server: Any,
    alice: App,
    bob: App,
    settings: Any,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    names = settings.S3DIRECT_UPLOADS["DESTINATIONS"]
    # What the schema allows must then be accepted.
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": dict.fromkeys(names, Anything)}
    users = [signed_in("alice", alice), signed_in("bob", bob)]
    (tmp_path / "auth.json").write_text(json.dumps({"auth": users}))
    known = json.dumps(in_many_states(alice, bob))
    config = CONFIG.format(folder=tmp_path, known=known)
    (tmp_path / "schemathesis.toml").write_text(config)

    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli"),
            *("--config-file", tmp_path / "schemathesis.toml"),
            *("run", SCHEMA, "--url", live_server.url, "--checks", "all", "--no-color"),
            "--generation-deterministic",
            *("--max-examples", "40", "--max-redirects", "0", "--continue-on-failure"),
            *("--report-json-path", tmp_path / "report.json"),
            *("--report-ndjson-path", tmp_path / "events.ndjson"),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONHASHSEED": "0",
            "SCHEMATHESIS_HOOKS": "tests.real.contract_hooks",
            "KNOWN_IDS": known,
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    seen = statuses(tmp_path / "events.ndjson")
    missed = {name: wanted - set(seen[name]) for name, wanted in MUST_BE_SEEN.items()}
    assert not any(missed.values()), missed
    cases = json.loads((tmp_path / "report.json").read_text())["test_cases"]["generated"]
    record_property("contract_cases", cases)
    assert cases > 300


def in_many_states(app: App, other: App) -> list[str]:
    """The ids of uploads such as chance seldom makes: completed, or in parts that are gone."""
    return [
        send_in_parts(other, 1),
        *(app.upload().json()["id"] for _ in range(4)),
        *(send_in_parts(app, 1, 2, 3, 4) for _ in range(3)),
        *(send_in_parts(app, 1) for _ in range(3)),
        abort_behind(app),
        give_up_parts(app),
        provoke_mismatch(app).json()["upload"]["id"],
    ]


def signed_in(name: str, app: App) -> dict[str, Any]:
    """A user by session, in the words of Web Fuzzing Commons."""
    session = app.client.cookies["sessionid"].value
    headers = {
        "Cookie": f"sessionid={session}; csrftoken={CSRF_TOKEN}",
        "X-CSRFToken": CSRF_TOKEN,
    }
    return {
        "name": name,
        "fixedHeaders": [{"name": name, "value": value} for name, value in headers.items()],
    }


def statuses(events: Path) -> dict[str, Counter[int]]:
    """How often each operation answered how."""
    operations = {
        (method.upper(), path): operation["operationId"]
        for path, methods in yaml.safe_load(SCHEMA.read_text())["paths"].items()
        for method, operation in methods.items()
    }
    seen: dict[str, Counter[int]] = {name: Counter() for name in operations.values()}
    for line in events.read_text().splitlines():
        scenario = json.loads(line).get("ScenarioFinished", {"recorder": {}})
        for id, interaction in scenario["recorder"].get("interactions", {}).items():
            case = scenario["recorder"]["cases"][id]["value"]
            name = operations.get((case["method"], case["path"]))
            if name and interaction["response"]:
                seen[name][interaction["response"]["status_code"]] += 1
    return seen
