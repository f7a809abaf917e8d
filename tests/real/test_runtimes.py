"""upload.js in Deno, in Bun, as in React Native, and in Hermes."""

from __future__ import annotations

import json
import os
import re
import shutil
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import npm
from .site import PASSWORD, ROOT, Site

pytestmark = pytest.mark.journey

MIB = 1024**2
PART_SIZE = 16 * MIB
REACT_NATIVE = ROOT / "tests" / "real" / "react_native"
PACKAGE = ROOT / "s3direct_uploads/static/s3direct_uploads"
# Of React Native 0.79: what bundles an app, and the packages that its globals come from.
METRO = (
    "metro@0.82.5",
    "@react-native/babel-preset@0.79.0",
    "@react-native/metro-config@0.79.0",
    "abort-controller@3.0.0",
    "whatwg-fetch@3.6.20",
    "hermes-engine-cli@0.12.0",
)
RUNTIMES = {"deno": ["deno", "run", "--allow-all"], "bun": ["bun"]}


@pytest.fixture(scope="module")
def installed() -> Path:
    """Deno and Bun; and Metro and Hermes. They stay in .venv for the next run."""
    folder = ROOT / ".venv" / "runtimes"
    if not (folder / "node_modules" / "hermes-engine-cli").is_dir():
        folder.mkdir(exist_ok=True)
        npm.install(folder, "deno@2.9.6", "bun@1.4.5", *METRO)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site().serving(tmp_path_factory.mktemp("site") / "log") as site:
        site.make_user("node")
        yield site


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", ["openFile", "Blob"])
def test_a_file_on_disk_with_a_connection_that_breaks(
    site: Site, installed: Path, tmp_path: Path, runtime: str, kind: str
) -> None:
    site.s3.mend()
    path = tmp_path / "film.png"
    path.write_bytes(os.urandom(2 * PART_SIZE + 1))
    fault = site.s3.cut("PUT", after=MIB)
    script = str(ROOT / "tests/real/upload.mjs")
    options = json.dumps({"as": kind, "checksum": "CRC32"})
    command = [*RUNTIMES[runtime], script, site.url, "node", PASSWORD, str(path), options]

    done = npm.run(installed, *command, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    row = site.rows("node")[-1]
    assert (answer["id"], answer["status"], answer["isForward"]) == (str(row.id), "completed", True)
    assert fault.held.is_set()
    assert sorted(site.s3.statuses("PUT")) == [0, 200, 200, 200]
    assert (row.status, row.checksum_algorithm) == ("completed", "CRC32")
    assert site.head(row)["ChecksumCRC32"] == row.checksum
    assert site.read(row) == path.read_bytes()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_file_that_changed_and_an_upload_that_is_aborted(
    site: Site, installed: Path, tmp_path: Path, runtime: str
) -> None:
    site.s3.mend()
    path = tmp_path / "film.png"
    path.write_bytes(os.urandom(64 * MIB))
    script = str(ROOT / "tests/real/upload.mjs")
    for options, name, code in (
        ({"abortAt": 20 * MIB}, "AbortError", None),
        ({"change": "rewrite"}, "UploadError", "file_unreadable"),
    ):
        told = [site.url, "node", PASSWORD, str(path), json.dumps(options)]
        done = npm.run(installed, *RUNTIMES[runtime], script, *told, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        error = json.loads(done.stdout)["error"]
        assert (error["name"], error.get("code")) in {(name, code), (name, 20)}, error
    row = site.rows("node")[-1]
    assert (row.status, site.read(row)) == ("cancelled", None)
    assert site.open_multiparts(row) == []


# React Native


def test_without_what_react_native_lacks_by_the_apps_own_send(site: Site, tmp_path: Path) -> None:
    site.s3.mend()
    path = tmp_path / "film.png"
    path.write_bytes(os.urandom(PART_SIZE + 1))
    authorization = "Basic " + b64encode(f"node:{PASSWORD}".encode()).decode()

    command = ["node", str(REACT_NATIVE / "phone.mjs"), site.url, authorization, path.as_uri()]
    done = npm.run(ROOT, *command, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "ends": ["one.png", "parts.png"],
        "loaded": 2 * (PART_SIZE + 1),
    }
    rows = site.rows("node")[-2:]
    assert {row.filename: row.part_size for row in rows} == {
        "one.png": None,
        "parts.png": PART_SIZE,
    }
    for row in rows:
        assert (row.status, site.read(row)) == ("completed", path.read_bytes())


@pytest.fixture(scope="module")
def bundle(installed: Path) -> Path:
    """The app that Metro makes of ``react_native/app.js`` and the package."""
    for source in REACT_NATIVE.glob("*.js"):
        shutil.copy(source, installed)
    package = installed / "node_modules" / "s3direct-uploads"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(PACKAGE, package)
    options = ("--out", "bundle", "--platform", "ios", "--minify", "false")
    done = npm.run(installed, "metro", "build", "app.js", *options, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return installed / "bundle.js"


HERMES = "node_modules/hermes-engine-cli/linux64-bin"


def test_metro_bundles_it_and_hermes_compiles_it(bundle: Path) -> None:
    compile = (f"{HERMES}/hermesc", "-w", "-emit-binary", "-out", "app.hbc", bundle.name)
    done = npm.run(bundle.parent, *compile, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_hermes_runs_it(bundle: Path) -> None:
    done = npm.run(bundle.parent, f"{HERMES}/hermes", "-w", bundle.name, timeout=30)
    said = json.loads(done.stdout)
    for what, ends in (
        ("whole", ["POST /", "PUT 1 from file:///cache/a.png, 0 to 7", "POST u1/confirm/"]),
        (
            "parts",
            [
                "POST /",
                "PUT 2?part=1 from file:///cache/b.png, 0 to 5",
                "PUT 2?part=2 from file:///cache/b.png, 5 to 10",
                "PUT 2?part=3 from file:///cache/b.png, 10 to 12",
                "POST u2/confirm/",
            ],
        ),
    ):
        assert said[what]["asked"] == ends
        assert said[what]["result"]["status"] == "completed"
    assert said["several"]["result"] == ["completed", "completed"]
    aborted = said["paused, resumed and aborted"]
    assert aborted["result"]["name"] == "AbortError"
    sent = "PUT 5 from file:///cache/e.png, 0 to 3"
    assert aborted["asked"] == ["POST /", sent, sent, "DELETE u5/"]
    for what, message in (
        ("checksum", "No checksum can be computed here"),
        ("no slice", "This file has no slice()"),
        ("no send", "There is no XMLHttpRequest here"),
    ):
        refused = said[what]["result"]
        assert (refused["code"], said[what]["asked"]) == ("not_supported", [])
        assert re.match(re.escape(message), refused["message"])
