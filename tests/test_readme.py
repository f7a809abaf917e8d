"""A stranger's first steps: the wheel, in an empty project, by the README's own lines."""

from __future__ import annotations

import gzip
import itertools
import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from django.conf import settings
from packaging.requirements import Requirement

from tests.conftest import ROOT, Bucket
from tests.documents import block

TRY = """
import json, requests
from django.contrib.auth.models import User
from django.test import Client

client = Client()
client.force_login(User.objects.create_user("alice"))
declared = {"destination": "photos", "filename": "beach.jpg", "size": 5}
begun = client.post("/api/uploads/", declared, content_type="application/json").json()
request = begun["request"]
sent = requests.put(request["url"], headers=request["headers"], data=b"hello")
confirmed = client.post(f"/api/uploads/{begun['id']}/confirm/", {}, content_type="application/json")
url = client.get(f"/api/uploads/{begun['id']}/url/").json()["url"]
print(sent.status_code, confirmed.json()["status"], requests.get(url).text)
import s3direct_uploads
print(s3direct_uploads.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(ROOT)], check=True)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    for name in (
        "py.typed",
        "locale/ko/LC_MESSAGES/django.mo",
        "migrations/0001_initial.py",
        "management/commands/check_bucket.py",
        "management/commands/run_s3.py",
        "management/commands/setup_bucket.py",
        "static/s3direct_uploads/upload.js",
        "static/s3direct_uploads/all.js",
        "static/s3direct_uploads/batches.js",
        "static/s3direct_uploads/network.js",
        "static/s3direct_uploads/checksum.js",
        "static/s3direct_uploads/node.js",
        "static/s3direct_uploads/types.d.ts",
        "static/s3direct_uploads/package.json",
        "static/s3direct_uploads/element.js",
        "static/s3direct_uploads/uppy.js",
        "static/s3direct_uploads/korean.js",
        "static/s3direct_uploads/element.css",
        "templates/s3direct_uploads/upload_widget.html",
    ):
        assert f"s3direct_uploads/{name}" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"s3direct_uploads"}


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = [
    *PROJECT["dependencies"],
    *itertools.chain.from_iterable(PROJECT["optional-dependencies"].values()),
]


@pytest.mark.parametrize("needed", NEEDED)
def test_a_dependency_has_a_lower_bound_and_no_upper_one(needed: str) -> None:
    requirement = Requirement(needed)
    assert {each.operator for each in requirement.specifier} == {">="}
    tried = dict(
        line.lower().split("==") for line in (ROOT / "constraints.txt").read_text().split()
    )
    name = requirement.name.lower()
    assert tried.get(name, "") in requirement.specifier or requirement.marker


def test_run_s3_has_what_motos_server_needs() -> None:
    """The extra names a part of it, and no version that moto refuses."""
    server = [Requirement(each) for each in metadata.requires("moto") or ()]
    for ours in map(Requirement, PROJECT["optional-dependencies"]["dev"][1:]):
        theirs = next(each for each in server if each.name.lower() == ours.name)
        [bound] = ours.specifier
        assert bound.version in theirs.specifier


@pytest.mark.parametrize(("module", "limit"), [("upload.js", 10), ("network.js", 5)])
def test_what_a_page_loads_is_small(module: str, limit: int) -> None:
    """In KiB. upload.js always loads network.js, and the others only when it needs them."""
    source = ROOT / "s3direct_uploads/static/s3direct_uploads" / module
    assert len(gzip.compress(source.read_bytes())) < limit * 1024


# What the extras install, as Python imports it.
EXTRAS = {
    "celery": "celery",
    "cryptography": "cryptography",
    "drf-spectacular": "drf_spectacular",
    "flask": "flask",
    "flask-cors": "flask_cors",
    "moto": "moto",
    "pillow": "PIL",
    "puremagic": "puremagic",
    "tqdm": "tqdm",
}


def test_the_list_of_extras_is_whole() -> None:
    extras = map(Requirement, itertools.chain(*PROJECT["optional-dependencies"].values()))
    assert {each.name for each in extras} == EXTRAS.keys()


def test_the_wheel_works_in_an_empty_project(wheel: Path, s3: Bucket, tmp_path: Path) -> None:
    """Also without any of the extras: sitecustomize makes each import of them fail."""
    unpacked, project = tmp_path / "packages", tmp_path / "project"
    ZipFile(wheel).extractall(unpacked)
    project.mkdir()
    (unpacked / "sitecustomize.py").write_text(
        f"import sys\nsys.modules.update(dict.fromkeys({sorted(EXTRAS.values())!r}))\n"
    )
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DJANGO")},
        "PYTHONPATH": str(unpacked),
    }

    def run(*command: str) -> str:
        ran = subprocess.run(
            [sys.executable, *command],
            cwd=project,
            env=environment,
            text=True,
            capture_output=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    run("-m", "django", "startproject", "site_", ".")
    options: Any = settings.STORAGES["default"]["OPTIONS"]
    own = (
        f"AWS_S3_ENDPOINT_URL = {options['endpoint_url']!r}\n"
        f"AWS_S3_REGION_NAME = {options['region_name']!r}\n"
        f"AWS_ACCESS_KEY_ID = {options['access_key']!r}\n"
        f"AWS_SECRET_ACCESS_KEY = {options['secret_key']!r}\n"
        "ALLOWED_HOSTS = ['testserver']\n"
    )
    lines = block("README.md", "# settings.py").replace('"media"', repr(s3.name))
    lines = lines.replace("eu-central-1", options["region_name"])
    with (project / "site_" / "settings.py").open("a") as file:
        file.write(lines + own)
    with (project / "site_" / "urls.py").open("a") as file:
        file.write(block("README.md", "# urls.py"))

    assert "no issues" in run("manage.py", "check")
    run("manage.py", "migrate", "--verbosity", "0")
    said = run("manage.py", "shell", "--verbosity", "0", "-c", TRY).splitlines()
    assert said == ["200 completed hello", str(unpacked / "s3direct_uploads" / "__init__.py")]
    with pytest.raises(AssertionError, match="ModuleNotFoundError: import of tqdm halted"):
        run("-c", "import tqdm")
    assert run("manage.py", "sweep_uploads") == "Swept: nothing.\n"
