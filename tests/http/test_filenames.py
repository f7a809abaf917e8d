"""Filenames as people have them: invisible characters are removed, not refused."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
import requests
from django.contrib.auth.models import Permission, User
from django.core.files.base import ContentFile
from django.test import Client

from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload
from s3direct_uploads.testing import completed_upload
from tests.conftest import JPEG, App, Bucket, row

NAMES = [
    ("\u200fתמונה.jpg", "תמונה.jpg"),
    ("תמונה\u200e (1).jpg", "תמונה (1).jpg"),
    ("\u2067صورة\u2069.jpg", "صورة.jpg"),
    ("\u061cصورة.jpg\u061c", "صورة.jpg"),
    ("\u202bصورة\u202c.jpg", "صورة.jpg"),
    ("photo\u202egpj.exe.jpg", "photogpj.exe.jpg"),
    ("\ufeffbeach.jpg\u200b", "beach.jpg"),
    ("\u200d\u2060beach.jpg\u200c", "beach.jpg"),
    # As macOS writes them: accents and syllables are decomposed.
    (unicodedata.normalize("NFD", "Füße.jpg"), "Füße.jpg"),
    (unicodedata.normalize("NFD", "한국어 사진.jpg"), "한국어 사진.jpg"),
]
KEPT = ["می\u200cخواهم.jpg", "👩\u200d👩\u200d👧.jpg", "na\u200bme.jpg", " beach.jpg "]


@pytest.mark.parametrize(
    ("filename", "kept"), [*NAMES, *((name, name) for name in KEPT)], ids=ascii
)
def test_marks_of_direction_are_taken_off(alice: App, s3: Bucket, filename: str, kept: str) -> None:
    begun = alice.begin(filename=filename)
    assert begun.status_code == 201
    assert begun.json()["filename"] == kept
    assert row(begun).filename == kept
    assert alice.send(begun.json()["request"]) == 200
    id = alice.confirm(begun.json()["id"]).json()["id"]

    found = requests.get(alice.get(f"{id}/url/").json()["url"], timeout=10)

    assert found.content == JPEG
    disposition = found.headers["Content-Disposition"]
    assert not any(mark in disposition for mark in ("%E2%80%8F", "%E2%80%AE", "%E2%81%A7"))


def test_the_length_of_a_filename_counts_visible_characters(alice: App) -> None:
    seen = "한" * 251 + ".jpg"
    asked = "\u2067" + unicodedata.normalize("NFD", seen) + "\u2069"
    assert (len(seen), len(asked)) == (255, 759)
    begun = alice.begin(filename=asked)
    assert begun.status_code == 201
    assert row(begun).filename == seen
    longer = alice.begin(filename="한" + seen)
    assert longer.json()["errors"][0]["code"] == "max_length"


def test_a_name_that_reads_backwards_is_told_as_it_is(alice: App) -> None:
    begun = alice.begin(destination="documents", filename="photo\u202egpj.exe", content_type="")
    assert begun.json()["filename"] == "photogpj.exe"
    assert begun.json()["content_type"] == "application/vnd.microsoft.portable-executable"
    refused = alice.begin(filename="photo\u202egpj.exe", content_type="")
    assert refused.json()["errors"][0]["code"] == "not_allowed"


@pytest.mark.parametrize(("filename", "kept"), NAMES, ids=ascii)
def test_the_list_is_asked_for_the_name_as_the_client_has_it(
    alice: App, filename: str, kept: str
) -> None:
    """upload.js asks with ``file.name`` to resume an interrupted upload."""
    id = alice.begin(filename=filename).json()["id"]
    alice.begin(filename="other.jpg")
    for asked in (filename, kept):
        assert [each["id"] for each in alice.get(filename=asked).json()["results"]] == [id]


def test_a_repeated_begin_is_compared_by_what_is_seen(alice: App) -> None:
    key = {"Idempotency-Key": "names"}
    first = alice.begin(headers=key, filename="\u200fתמונה.jpg")
    second = alice.begin(headers=key, filename="\u200fתמונה.jpg")
    third = alice.begin(headers=key, filename="תמונה.jpg")
    assert [each.status_code for each in (first, second, third)] == [201, 201, 201]
    assert {each.json()["id"] for each in (first, second, third)} == {first.json()["id"]}
    assert Upload.objects.count() == 1


def test_a_script_and_a_hosts_test_keep_such_a_name_alike(db: None, s3: Bucket) -> None:
    file: Any = ContentFile(JPEG, name="\u200fתמונה.jpg")
    assert lifecycle.store(file, destination="photos").filename == "תמונה.jpg"
    assert completed_upload(destination="photos", filename="\u200fa.jpg").filename == "a.jpg"


def test_support_finds_such_a_name_as_it_was_pasted(
    alice: App, make_user: Callable[..., User]
) -> None:
    alice.begin(filename="\u200fתמונה.jpg")
    staff = make_user(is_staff=True)
    staff.user_permissions.add(Permission.objects.get(codename="view_upload"))
    client = Client()
    client.force_login(staff)
    page = client.get("/admin/s3direct_uploads/upload/", {"q": "\u200fתמונה"})
    assert "תמונה.jpg" in page.content.decode()
    alice.begin(filename="Füße.jpg")
    page = client.get(
        "/admin/s3direct_uploads/upload/", {"q": unicodedata.normalize("NFD", "Füße")}
    )
    assert "Füße.jpg" in page.content.decode()
