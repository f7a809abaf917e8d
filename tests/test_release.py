"""What a package index shows of the README: links that lead somewhere, or none."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import pytest

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
FORGE = "https://forge.example/someone/s3direct_uploads"
RELATIVE = re.compile(r"\]\((?!https?:|#)")


@pytest.fixture(scope="module")
def build() -> Any:
    spec = spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made(build: Any, repository: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"version": "1.2.3"}
    build.Repository(str(ROOT), {"repository": repository}).update(metadata)
    return metadata


def test_links_lead_to_the_repository_at_the_tag_of_the_version(build: Any) -> None:
    metadata = made(build, f"{FORGE}/")
    text = metadata["readme"]["text"]
    assert RELATIVE.search(README)
    assert not RELATIVE.search(text)
    assert f"({FORGE}/raw/v1.2.3/docs/wall.jpg)" in text
    assert f"({FORGE}/blob/v1.2.3/docs/recipes.md#visitors-upload-without-login)" in text
    assert metadata["urls"]["Source"] == FORGE


def test_without_a_repository_words_stay_and_nothing_is_invented(build: Any) -> None:
    metadata = made(build, "")
    text = metadata["readme"]["text"]
    assert metadata["urls"] == {}
    assert not RELATIVE.search(text)
    assert "![" not in text
    assert "Run the sweep every few minutes" in text
