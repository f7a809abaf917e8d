"""Where a completed file can be read, under its human name; and what may be shown inline."""

from __future__ import annotations

import pytest
import requests

from s3direct_uploads.models import Upload
from tests.conftest import JPEG, URL, App, Bucket, assert_error, row
from tests.http.conftest import NO_SUCH_ID


def test_url_and_download_give_the_human_name(alice: App) -> None:
    id = alice.upload(filename="Füße 🦶.jpg").json()["id"]

    answer = alice.get(f"{id}/url/")
    assert answer["Cache-Control"] == "no-store"
    assert answer.json()["expires_in"] == 3600
    found = requests.get(answer.json()["url"], timeout=10)
    assert found.content == JPEG
    assert found.headers["Content-Type"] == "image/jpeg"
    assert found.headers["Content-Disposition"] == (
        "attachment; filename*=utf-8''F%C3%BC%C3%9Fe%20%F0%9F%A6%B6.jpg"
    )

    redirect = alice.client.get(
        f"{URL}{id}/download/?disposition=inline", headers={"Accept": "image/*"}
    )
    assert redirect.status_code == 302
    assert redirect["Cache-Control"] == "no-store"
    found = requests.get(redirect["Location"], timeout=10)
    assert found.content == JPEG
    assert found.headers["Content-Disposition"].startswith("inline;")


def test_an_unknown_disposition_is_a_400(alice: App) -> None:
    answer = alice.get(f"{NO_SUCH_ID}/url/", disposition="evil")
    assert assert_error(answer, 400, "invalid")["errors"][0]["field"] == "disposition"


@pytest.mark.parametrize(
    ("content_type", "shown"),
    [
        ("image/jpeg", True),
        ("image/avif", True),
        ("image/png; charset=binary", True),
        ("video/mp4", True),
        ("video/quicktime", True),
        ("video/webm;codecs=vp8,opus", True),
        ("audio/ogg", True),
        ("audio/mpeg", True),
        ("application/pdf", True),
        ("image/svg+xml", False),
        ("image/svg", False),
        ("image/x+xml", False),
        ("image/xhtml+xml", False),
        ("image/html", False),
        ("image/xml;charset=utf-8", False),
        ("image/unheard-of", False),
        ("video/x+xml", False),
        ("audio/html", False),
        ("text/html", False),
        ("text/plain", False),
        ("application/pdf+xml", False),
        ("application/pdfx", False),
        ("application/zip", False),
        ("application/octet-stream", False),
    ],
)
def test_only_types_of_a_list_are_shown_inline(
    alice: App, s3: Bucket, content_type: str, shown: bool
) -> None:
    upload = row(alice.upload(destination="documents", filename="a", content_type=content_type))
    assert upload.content_type == content_type

    answer = alice.get(f"{upload.pk}/url/", disposition="inline")

    assert answer.status_code == (200 if shown else 400)
    if shown:
        found = requests.get(answer.json()["url"], timeout=10)
        assert found.headers["Content-Disposition"].startswith("inline")
    else:
        assert answer.json()["errors"][0]["code"] == "not_inline"
    found = requests.get(alice.get(f"{upload.pk}/url/").json()["url"], timeout=10)
    assert found.headers["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize("parameters", ["; x=y, text/html", ', text/html; x="', ";", "\r\nx: y"])
def test_parameters_that_no_client_may_declare_are_not_shown(alice: App, parameters: str) -> None:
    """A browser splits a Content-Type at its commas, and uses the last type that it knows."""
    upload = row(alice.upload())
    Upload.objects.update(content_type=f"image/png{parameters}")
    answer = alice.get(f"{upload.pk}/url/", disposition="inline")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "not_inline")
