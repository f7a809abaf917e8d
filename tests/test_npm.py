"""The folder of static files is an npm package, too. tests/real/test_npm.py packs and uses it."""

from __future__ import annotations

import json
import re
import subprocess
from fnmatch import fnmatch
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.test_readme import PROJECT

FOLDER = ROOT / "s3direct_uploads/static/s3direct_uploads"


@pytest.fixture(scope="module")
def package() -> dict[str, Any]:
    described: dict[str, Any] = json.loads((FOLDER / "package.json").read_text())
    return described


def test_it_has_the_version_of_the_django_app(package: dict[str, Any]) -> None:
    assert (package["name"], package["version"]) == (PROJECT["name"], PROJECT["version"])
    assert package["license"] == PROJECT["license"]


def test_every_file_is_packed(package: dict[str, Any]) -> None:
    for file in FOLDER.iterdir():
        assert file.name == "package.json" or any(
            fnmatch(file.name, pattern) for pattern in package["files"]
        ), file.name


def test_everything_that_is_exported_exists(package: dict[str, Any]) -> None:
    for target in package["exports"].values():
        for path in target.values() if isinstance(target, dict) else [target]:
            assert (FOLDER / path).is_file(), path


def test_declarations_are_made_of_every_module(package: dict[str, Any]) -> None:
    """Of those that the command names, and of those that they import."""
    found = set(re.findall(r" ([\w]+\.js)\b", package["scripts"]["prepack"]))
    exported = {str(name).removeprefix("./") for name in package["exports"]}
    assert {name for name in exported if name.endswith(".js")} <= found
    waiting = list(found)
    while waiting:
        source = (FOLDER / waiting.pop()).read_text()
        imported = set(re.findall(r"from \"\./(\w+\.js)\"|import\(\"\./(\w+\.js)\"\)", source))
        new = {"".join(names) for names in imported} - found - {"types.js"}
        found |= new
        waiting += new
    assert found == {path.name for path in FOLDER.glob("*.js")}


def test_git_ignores_what_packing_leaves_if_it_is_interrupted() -> None:
    """Then the wheel leaves it out as well. The hand-written types are not ignored."""

    def ignored(name: str) -> bool:
        path = str((FOLDER / name).relative_to(ROOT))
        check = ["git", "check-ignore", "--quiet", "--no-index", path]
        return subprocess.run(check, cwd=ROOT, check=False).returncode == 0

    assert ignored("upload.d.ts")
    assert ignored(f"s3direct-uploads-{PROJECT['version']}.tgz")
    assert not ignored("types.d.ts")
