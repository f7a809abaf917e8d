"""Answers and pages in Korean, and what must not be in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from typing import Any

import pytest
from django.utils import translation

from tests.conftest import App

HANGUL = re.compile("[가-힣]")
# Three English words in a row are a sentence. Two may be a name, as "Photo wall".
SENTENCE = re.compile(r"[A-Za-z']{2,}(?:[ ,.:;]+[A-Za-z']{2,}){2,}")


def english_in(text: str, sent: Iterable[str] = ()) -> list[str]:
    """The English sentences in a text, without what the client sent."""
    for each in sent:
        text = text.replace(each, "…")
    return SENTENCE.findall(text)


def assert_korean(text: str, sent: Iterable[str] = ()) -> None:
    assert HANGUL.search(text), text
    assert english_in(text, sent) == [], text


@pytest.fixture(params=["LANGUAGE_CODE", "Accept-Language"])
def korean(request: pytest.FixtureRequest, settings: Any) -> dict[str, str]:
    """A site in Korean, or one that speaks its readers' languages. Returns the headers to send."""
    if request.param == "LANGUAGE_CODE":
        settings.LANGUAGE_CODE = "ko"
        return {}
    return speaks_languages(settings)


def speaks_languages(settings: Any) -> dict[str, str]:
    session, *others = settings.MIDDLEWARE
    settings.MIDDLEWARE = [session, "django.middleware.locale.LocaleMiddleware", *others]
    return {"Accept-Language": "ko"}


@pytest.fixture(autouse=True)
def _no_language_stays() -> Any:
    with translation.override("en-us"):
        translation.deactivate()
        yield


def with_headers(app: App, headers: Mapping[str, str]) -> None:
    """Send these headers with each request from now on."""
    names = {name: f"HTTP_{name.upper().replace('-', '_')}" for name in headers}
    app.client.credentials(**{names[name]: value for name, value in headers.items()})


class Reader(HTMLParser):
    """What a person reads of a page, and hears of it."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("script", "style")
        heard = ("aria-label", "alt", "placeholder", "title")
        self.said += [value for name, value in attrs if name in heard and value]
        self.said += [
            value or "" for name, value in attrs if ("type", "submit") in attrs and name == "value"
        ]

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._hidden and data.strip():
            self.said.append(" ".join(data.split()))


def read(page: Any) -> list[str]:
    reader = Reader()
    reader.feed(page.content.decode())
    return reader.said
