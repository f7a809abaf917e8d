"""Who may post an event: whoever has the secret, as a token or a password."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client, override_settings

from tests.conftest import App
from tests.events.conftest import BEARER, SECRET, Post, aws, refused, said, sent


def basic(password: str, user: str = "ceph") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    "headers",
    [BEARER, {"Authorization": f"bearer {SECRET}"}, basic(SECRET), basic(SECRET, user="")],
)
def test_the_secret_is_a_token_or_a_password(post: Post, headers: dict[str, str]) -> None:
    assert said(post({"Records": []}, headers)) == (200, 0, 0)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": SECRET},
        {"Authorization": f"Token {SECRET}"},
        {"Authorization": f"Bearer {SECRET}x"},
        {"Authorization": f"Bearer {SECRET[:-1]}"},
        {"Authorization": f"Bearer {SECRET.upper()}"},
        {"Authorization": f"Bearer {SECRET}\u00e9"},
        {"Authorization": f"Basic {SECRET}"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic \u00e9"},
        basic(""),
        basic("ceph", user=SECRET),
        basic(f":{SECRET}"),
        {"Cookie": f"Authorization=Bearer {SECRET}"},
        {"X-Authorization": f"Bearer {SECRET}"},
        {"X-Secret": SECRET},
    ],
)
def test_without_the_secret_no_row_changes(
    alice: App,
    post: Post,
    s3_calls: list[str],
    headers: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    upload = sent(alice)
    body = {**aws(upload.bucket, upload.key), "secret": SECRET, "Authorization": SECRET}

    for path in ("/s3-events/", f"/s3-events/?secret={SECRET}&token={SECRET}"):
        answer = post(body, headers, path)
        assert refused(answer) == (401, "not_authenticated")
        assert answer.headers["WWW-Authenticate"].startswith("Basic "), "SNS waits to be asked"
    upload.refresh_from_db()
    assert (upload.status, s3_calls) == ("pending", [])
    assert SECRET not in "".join(
        record.getMessage() for record in caplog.records if record.name == "s3direct_uploads"
    )


@pytest.mark.parametrize("secret", ["", None, "short", "x" * 15, 5, "with spaces in between it"])
def test_without_a_secret_there_is_no_webhook(
    post: Post, configure: Callable[..., None], secret: Any
) -> None:
    configure(EVENT_SECRET=secret)
    for headers in (BEARER, {"Authorization": f"Bearer {secret}"}, {"Authorization": "Bearer "}):
        assert refused(post({"Records": []}, headers)) == (404, "not_found")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_the_webhook_takes_only_post(post: Post, method: str) -> None:
    answer = Client().generic(method, "/s3-events/", headers=BEARER)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


@override_settings(
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
)
def test_the_webhook_needs_no_login(post: Post) -> None:
    assert said(post({"Records": []})) == (200, 0, 0)
