"""The npm package as its users get it: packed, checked, installed, compiled with and run."""

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

FOLDER = ROOT / "s3direct_uploads/static/s3direct_uploads"
PACKED = ROOT / "tests" / "real" / "packed"
STRICTLY = ("--strict", "--target", "es2022", "--types", "node")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed in a copy of the folder, which others read meanwhile."""
    folder = tmp_path_factory.mktemp("npm") / "package"
    shutil.copytree(FOLDER, folder)
    packed = npm.run(folder, "npm", "pack")
    assert packed.returncode == 0, packed.stderr
    [archive] = folder.glob("*.tgz")
    left = {path.name for path in folder.iterdir()} - {archive.name}
    assert left == {path.name for path in FOLDER.iterdir()}, "it removes what it made"
    return archive


@pytest.fixture(scope="module")
def project(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host's project that has installed the package."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "package.json").write_text('{"type": "module"}')
    checkers = ("publint@0.3.25", "@arethetypeswrong/cli@0.18.5")
    uppies = ("uppy-5@npm:@uppy/core@5.2.0", "uppy-6@npm:@uppy/core@6.3.1")
    npm.install(folder, str(archive), npm.TYPESCRIPT, npm.NODE_TYPES, *checkers, *uppies)
    for source in PACKED.glob("*.ts"):
        shutil.copy(source, folder)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site().serving(tmp_path_factory.mktemp("site") / "log") as site:
        site.make_user("packer")
        yield site


@pytest.mark.parametrize(
    "check",
    [
        ("publint", "run", "--strict"),
        # A style sheet has no types. The package is only for import, not for require.
        ("attw", "--profile", "esm-only", "--exclude-entrypoints", "./element.css", "--no-color"),
    ],
    ids=["publint", "attw"],
)
def test_the_checkers_of_packages_find_nothing(
    project: Path, archive: Path, check: tuple[str, ...]
) -> None:
    done = npm.run(project, *check, str(archive))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "s3direct-uploads" in done.stdout


def test_every_module_has_declarations(project: Path) -> None:
    package = project / "node_modules" / "s3direct-uploads"
    modules = {path.stem for path in package.glob("*.js")}
    assert modules >= {"upload", "checksum", "node", "element", "texts", "uppy"}
    declared = {path.name.removesuffix(".d.ts") for path in package.glob("*.d.ts")}
    assert declared == modules | {"types"}


def test_a_bundlers_typescript_takes_it(project: Path) -> None:
    bundler = ("--module", "esnext", "--moduleResolution", "bundler")
    done = npm.run(project, "tsc", *STRICTLY, "--noEmit", *bundler, "consumer.ts", "page.ts")
    assert (done.returncode, done.stdout) == (0, "")


def test_the_types_of_uppy_5_and_6_take_the_plugin(project: Path) -> None:
    browser = ("--lib", "es2022,dom,dom.iterable", "--skipLibCheck", "--module", "nodenext")
    done = npm.run(project, "tsc", *STRICTLY, "--noEmit", *browser, "uppy.ts")
    assert (done.returncode, done.stdout) == (0, "")


def test_typescript_refuses_what_upload_would_refuse(project: Path) -> None:
    """refused.ts says in a comment why each line is wrong. The others have no errors."""
    sources = ("consumer.ts", "page.ts", "refused.ts")
    said = npm.run(project, "tsc", *STRICTLY, "--noEmit", "--module", "nodenext", *sources).stdout
    errors = re.split(r"\n(?=\S)", said.strip())
    wrong = re.findall(r"; // (.+)", (PACKED / "refused.ts").read_text())
    assert len(errors) == len(wrong) == 5, said
    for error, why in zip(errors, wrong, strict=True):
        assert error.startswith("refused.ts")
        assert why in error


def test_it_uploads_a_file_a_blob_and_a_file_on_disk(
    site: Site, project: Path, tmp_path: Path
) -> None:
    path = tmp_path / "film.png"
    path.write_bytes(os.urandom(1024**2))
    authorization = "Basic " + b64encode(f"packer:{PASSWORD}".encode()).decode()
    without_dom = ("--lib", "es2022")
    made = npm.run(project, "tsc", *STRICTLY, *without_dom, "--module", "nodenext", "consumer.ts")
    assert (made.returncode, made.stdout) == (0, "")

    done = npm.run(project, "node", "consumer.js", site.url, authorization, str(path))

    assert (done.returncode, done.stderr) == (0, "")
    names = ["file.png", "blob.png", "disk.png"]
    refused = ["destination: unknown"]
    assert json.loads(done.stdout) == {"names": names, "isPaused": True, "refused": refused}
    rows = site.rows("packer")
    assert sorted(row.filename for row in rows) == sorted(names)
    for row in rows:
        assert (row.status, row.checksum_algorithm) == ("completed", "CRC32")
        assert site.read(row) == path.read_bytes()
