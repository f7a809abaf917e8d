"""The catalogues have every text of the source, translated, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

MESSAGES = ROOT / "scripts" / "messages"
PO = "s3direct_uploads/locale/ko/LC_MESSAGES/django.po"


def run(folder: Path, *args: str) -> tuple[int, str]:
    command = [sys.executable, str(folder / "scripts" / "messages"), *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


def test_they_are_up_to_date() -> None:
    assert run(ROOT, "--check") == (0, "")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A small repository with two texts, of which one is translated."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(MESSAGES, tmp_path / "scripts")
    (tmp_path / "s3direct_uploads").mkdir()
    (tmp_path / "s3direct_uploads/a.py").write_text(
        '_("Hello."); ngettext("%(n)d a", "%(n)d as", 2)'
    )
    page = tmp_path / "example_project/photos/a.html"
    page.parent.mkdir(parents=True)
    page.write_text(
        '{% translate "Wall" %}{% blocktranslate %}I am {{ name }}{% endblocktranslate %}'
    )
    (page.parent / "a.js").write_text("say(`${gettext('Wait')}`);")
    return tmp_path


def test_a_new_text_is_found_and_must_be_translated(copy: Path) -> None:
    code, said = run(copy, "--check")
    assert code == 1
    assert f"{PO} is not up to date" in said
    assert not (copy / PO).exists()
    code, said = run(copy)
    assert (code, said.count("not translated")) == (1, 5)
    texts = "".join(path.read_text() for path in copy.rglob("*.po"))
    for text in ("Hello.", "%(n)d as", "Wall", "I am %(name)s", "Wait"):
        assert f'"{text}"' in texts


def test_a_translation_must_have_the_same_placeholders(copy: Path) -> None:
    run(copy)
    for path in copy.rglob("*.po"):
        texts = path.read_text().replace('msgstr ""\n\n', 'msgstr "네"\n\n')
        path.write_text(texts.replace('msgstr[0] ""', 'msgstr[0] "%(m)d개"'))
    _, said = run(copy)
    assert "other placeholders" in said
    assert "%(n)d" in said
    assert "Hello." not in said


def test_a_binary_that_is_older_than_its_text_is_found(copy: Path) -> None:
    run(copy)
    mo = (copy / PO).with_suffix(".mo")
    mo.write_bytes(b"old")
    _, said = run(copy, "--check")
    assert "django.mo is not up to date" in said
