"""The code of docs/languages.md, run as it stands."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from django.utils.translation import gettext, override, trans_real

from s3direct_uploads.exceptions import ObjectMismatch
from tests.conftest import App
from tests.documents import block


def test_the_middleware_makes_an_error_korean(alice: App, settings: Any) -> None:
    names: dict[str, Any] = {}
    exec(block("docs/languages.md", "MIDDLEWARE = [", "python"), names)
    settings.MIDDLEWARE = [
        *names["MIDDLEWARE"],
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ]
    settings.LANGUAGES = names["LANGUAGES"]
    alice.client.defaults["HTTP_ACCEPT_LANGUAGE"] = "ko"

    [error] = alice.begin(size=10**15).json()["errors"]

    assert error["code"] == "too_large"
    assert error["detail"].startswith("최대 ")


def test_a_catalogue_of_the_project_adds_a_language(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, Any] = {"BASE_DIR": tmp_path}
    exec(block("docs/languages.md", 'LOCALE_PATHS = [BASE_DIR / "locale"]', "python"), names)
    messages = block(
        "docs/languages.md",
        "# locale/de/LC_MESSAGES/django.po: take the texts from s3direct_uploads/locale/ko/LC_MESSAGES/django.po",  # noqa: E501
        "po",
    )
    compiled = tmp_path / "locale" / "de" / "LC_MESSAGES" / "django.mo"
    compiled.parent.mkdir(parents=True)
    with compiled.open("wb") as file:
        write_mo(file, read_po(io.BytesIO(messages.encode()), locale="de"))
    settings.LOCALE_PATHS = names["LOCALE_PATHS"]
    monkeypatch.setattr(trans_real, "_translations", {})

    with override("de"):
        assert gettext("At most %(size)s.") == "Höchstens %(size)s."


def test_a_reason_of_the_host_is_translated_when_it_is_read() -> None:
    names: dict[str, Any] = {}
    exec(
        block(
            "docs/languages.md", "from django.utils.translation import gettext_lazy as _", "python"
        ),
        names,
    )
    with pytest.raises(ObjectMismatch, match="Choose a square image"):
        names["verify"](None, None, None)
