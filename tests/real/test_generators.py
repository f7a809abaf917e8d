"""The clients that generators make of docs/openapi.yaml: TypeScript's is built and used."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from . import npm
from .site import PASSWORD, ROOT, Site

pytestmark = pytest.mark.contract

DESCRIPTION = ROOT / "docs" / "openapi.yaml"
TYPED = ROOT / "tests" / "real" / "typed"
PART_SIZE = 16 * 1024**2


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site().serving(tmp_path_factory.mktemp("site") / "log") as site:
        site.make_user("typed")
        yield site


# TypeScript


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the compiled client, and what the compiler said."""
    folder = tmp_path_factory.mktemp("typed")
    (folder / "package.json").write_text('{"type": "module"}')
    generators = ("openapi-typescript@7.13.0", "openapi-fetch@0.17.0")
    npm.install(folder, npm.TYPESCRIPT, npm.NODE_TYPES, *generators)
    made = npm.run(folder, "openapi-typescript", str(DESCRIPTION), "--output", "schema.d.ts")
    assert made.returncode == 0, made.stdout + made.stderr
    for source in TYPED.glob("*.ts"):
        shutil.copy(source, folder)
    options = ("--strict", "--target", "es2022", "--module", "nodenext", "--types", "node")
    said = npm.run(folder, "tsc", *options, "client.ts", "refused.ts").stdout
    return folder, said


def test_typescript_refuses_what_begin_would_refuse(compiled: tuple[Path, str]) -> None:
    """refused.ts says in a comment why each line is wrong. client.ts has no errors."""
    _, said = compiled
    found: dict[str, str] = {}  # by file and line; what is indented belongs to the error before
    for error in re.split(r"\n(?=\S)", said.strip()):
        match = re.match(r"(\S+)\((\d+),\d+\): error TS\d+: ", error)
        assert match, said
        found[f"{match[1]}:{match[2]}"] = error
    lines = (TYPED / "refused.ts").read_text().splitlines()
    wrong = {
        f"refused.ts:{number}": line.partition("; // ")[2]
        for number, line in enumerate(lines, start=1)
        if "; // " in line
    }
    assert len(wrong) == 4
    assert found.keys() == wrong.keys(), said
    for place, why in wrong.items():
        assert why in found[place]


@pytest.mark.parametrize("size", [5, PART_SIZE + 1])
def test_a_typescript_client_uploads_a_file(
    site: Site, compiled: tuple[Path, str], tmp_path: Path, size: int
) -> None:
    folder, _ = compiled
    path = tmp_path / "film.png"
    path.write_bytes(os.urandom(size))
    authorization = "Basic " + b64encode(f"typed:{PASSWORD}".encode()).decode()

    done = npm.run(folder, "node", "client.js", site.url, authorization, str(path))

    assert (done.returncode, done.stderr) == (0, "")
    uploaded = json.loads(done.stdout)
    assert uploaded["refused"] == ["too_small"]
    row = site.rows("typed")[-1]
    assert (uploaded["id"], uploaded["isCompleted"]) == (str(row.id), True)
    assert (row.status, row.filename, row.size) == ("completed", "film.png", size)
    assert (row.part_size is None) == (size < PART_SIZE)
    assert site.read(row) == path.read_bytes()


# Kotlin and Swift

# The generator asks each example that stands where it is used for the name of its component.
OWN_WARNING = "Failed to get the schema name: null"


def generate(language: str, folder: Path) -> None:
    """Make a client, without an error or a warning."""
    jar = files("openapi_generator_cli") / "openapi-generator.jar"
    quick = "-XX:TieredStopAtLevel=1"  # a third of the time, because it runs so shortly
    made = subprocess.run(
        [
            *(os.environ["JAVA"], quick, "-jar", str(jar), "generate"),
            *("--generator-name", language, "--input-spec", str(DESCRIPTION)),
            *("--output", str(folder), "--additional-properties", "enumUnknownDefaultCase=true"),
        ],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
        check=False,
    )
    assert made.returncode == 0, made.stdout
    said = re.findall(r"^.*(?:\bWARN\b|\bERROR\b|Exception).*$", made.stdout, re.M)
    assert [line for line in said if not line.endswith(OWN_WARNING)] == []


def read(folder: Path, name: str) -> str:
    [source] = folder.rglob(name)
    return source.read_text()


def test_kotlin(tmp_path: Path) -> None:
    generate("kotlin", tmp_path)

    fields = re.findall(
        r'@Json\(name = "(\w+)"\)\s+val \w+: ([\w.<>, ]+?)(\? = null)?,?\n',
        read(tmp_path, "DirectUploadDeclaration.kt"),
    )

    assert {name: type for name, type, optional in fields if not optional} == {
        "destination": "kotlin.String",
        "filename": "kotlin.String",
        "size": "kotlin.Long",
    }
    assert {name: type for name, type, optional in fields if optional} == {
        "content_type": "kotlin.String",
        "checksum": "DirectUploadChecksum",
        "context": "kotlin.collections.Map<kotlin.String, kotlin.Any>",
        "multipart": "kotlin.Boolean",
    }
    assert "val code: kotlin.String," in read(tmp_path, "DirectUploadError.kt")
    assert_every_class_is_ours(tmp_path, "main/**/models/*.kt")
    assert "unknown_default_open_api" in read(tmp_path, "DirectUploadStatus.kt")
    calls = read(tmp_path, "UploadsApi.kt")
    assert re.search(r"fun beginUpload\(directUploadDeclaration: DirectUploadDeclaration, ", calls)
    parts = "kotlin.collections.List<DirectUploadStoredPart>"
    assert re.search(rf"fun listUploadParts\(id: .*\) : {parts} ", calls)


def test_swift(tmp_path: Path) -> None:
    generate("swift6", tmp_path)

    [parameters] = re.findall(
        r"public init\((.*)\) {", read(tmp_path, "DirectUploadDeclaration.swift")
    )

    assert parameters == (
        "destination: String, filename: String, size: Int64, contentType: String? = nil, "
        "checksum: DirectUploadChecksum? = nil, context: [String: JSONValue]? = nil, "
        "multipart: Bool? = nil"
    )
    assert "public var code: String\n" in read(tmp_path, "DirectUploadError.swift")
    assert_every_class_is_ours(tmp_path, "Models/*.swift")
    assert "unknownDefaultOpenApi" in read(tmp_path, "DirectUploadStatus.swift")
    calls = read(tmp_path, "UploadsAPI.swift")
    assert re.search(r"func beginUpload\(directUploadDeclaration: DirectUploadDeclaration, ", calls)
    assert re.search(r"func listUploadParts\(.*\) .*-> \[DirectUploadStoredPart\] {", calls)


def assert_every_class_is_ours(folder: Path, models: str) -> None:
    """If a schema has no name, the generator invents one."""
    described = set(re.findall(r"^    (DirectUpload\w*):$", DESCRIPTION.read_text(), re.M))
    assert {path.stem for path in folder.rglob(models)} == described
