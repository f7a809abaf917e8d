"""Names and keys: they fit a FileField, they are safe in any URL, and we know our own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import default_storage
from django.http import HttpRequest

from s3direct_uploads import keys
from s3direct_uploads.destinations import Destination
from s3direct_uploads.models import Upload
from tests.conftest import App

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def new_key(
    filename: str = "beach.jpg",
    *,
    bucket: str = "media",
    location: str = "site",
    prefix: str = "a/",
) -> str:
    return keys.join(location, keys.new_name("here", bucket, location, prefix, filename, 100))


def tail(filename: str, max_length: int = 100) -> str:
    return keys.new_name("here", "media", "", "", filename, max_length).split("/")[-1]


HOSTILE = [
    (".", "file"),
    ("..", "file"),
    ("...", "file"),
    ("-", "file"),
    ("", "file"),
    (" ", "file"),
    ("../../etc/passwd", "etc-passwd"),
    ("..%2f..%2fetc", "2f..-2fetc"),
    ("a/b\\c.jpg", "a-b-c.jpg"),
    (".htaccess", "file.htaccess"),
    ("..jpg", "file.jpg"),
    ("-rf.sh", "rf.sh"),
    ("a.", "a"),
    ("a...", "a"),
    ("a.tar.gz", "a.tar.gz"),
    ("no extension", "no-extension"),
    ("v1.2 of the very long story", "v1.2-of-the-very-long-story"),
    ("IMG_1.HEIC", "IMG_1.HEIC"),
    ("Füße.jpg", "Fue.jpg"),
    ("1️⃣ 🏖️ 2.png", "1-2.png"),
    ("사진 한 장.jpg", "file.jpg"),
    ("a\r\nX-Evil: 1.jpg", "a-X-Evil-1.jpg"),
    ("한글 사진.jpg ", "file.jpg"),
    ("한글 사진.jpg.", "file.jpg"),
    ("한글 (1).jpg…", "1.jpg"),
    ("写真.jpg\u200f", "file.jpg"),
    (".사진.jpg", "file.jpg"),
    ("보고서.한글", "file"),
    ("ＩＭＧ＿１．ｊｐｇ", "IMG_1.jpg"),
    ("CON.txt", "CON.txt"),
    ("𝄞" * 251 + ".jpg", "file.jpg"),
    ("한" * 255, "file"),
    ("a?b#c&d=e;f.jpg", "a-b-c-d-e-f.jpg"),
    ("a.jpg\0.exe", "a.jpg.exe"),
    ("\u202egpj.exe", "gpj.exe"),
    ("x" * 251 + ".jpg", "x" * 62 + ".jpg"),
    ("." * 255, "file"),
    ("é" * 255, "e" * 66),
]


@pytest.mark.parametrize(("filename", "expected"), HOSTILE)
def test_of_a_filename_what_is_legible_is_kept(filename: str, expected: str) -> None:
    assert tail(filename) == expected


@pytest.mark.parametrize(
    "filename", ["写真.jpg", "🏖️.jpg", "\ud800.jpg", "фото.jpg", "صورة.jpg ", "👩\u200d👧.jpg."]
)
def test_without_an_ascii_character_the_extension_is_kept(filename: str) -> None:
    assert tail(filename) == "file.jpg"


def test_a_name_fits_its_field_whatever_the_prefix_and_the_filename() -> None:
    for max_length in (64, 65, 99, 100, 255, 512):
        for prefix_length in range(0, max_length - keys.RESERVED_LENGTH + 1, 3):
            prefix = f"{'p' * (prefix_length - 1)}/" if prefix_length else ""
            for length in (1, 4, 5, 10, 15, 16, 60, 255, 1000):
                for extension in ("", ".gz", ".jpeg", ".webmanifest", ".0123456789"):
                    filename = "x" * length + extension
                    name = keys.new_name("here", "media", "site", prefix, filename, max_length)
                    assert len(name) <= max_length, (max_length, prefix, filename)
                    assert re.fullmatch(r"(p*/)?[\w-]{33}/[\w-][\w.-]*", name, re.ASCII), name
                    if len(extension) <= 1 + keys.MAX_EXTENSION_LENGTH:
                        assert name.endswith(extension), (max_length, prefix, filename)
                        assert PurePosixPath(name).suffix == extension


def test_only_as_much_is_cut_as_must_be() -> None:
    assert len(keys.new_name("here", "media", "site", "a/", "x" * 255, 100)) == 100
    assert len(keys.new_name("here", "media", "site", "a/", "x" * 255 + ".jpg", 100)) == 100
    assert tail("x" * 62 + ".jpg", 100) == "x" * 62 + ".jpg"
    assert tail("x" * 61 + ".y.jpg", 100) == "x" * 61 + ".jpg", "no dot before the extension's"


@pytest.mark.parametrize("filename", [filename for filename, _ in HOSTILE])
def test_a_name_is_the_same_after_every_normalisation(filename: str) -> None:
    location = keys.location_of(default_storage)
    name = keys.new_name("here", "media", location, "photos/2026/", filename, 100)
    assert name.startswith("photos/2026/")
    # As the storage itself finds the key of what a FileField holds.
    assert default_storage._normalize_name(name) == keys.join(location, name)  # type: ignore[attr-defined]
    assert default_storage.get_valid_name(name.split("/")[-1]) == name.split("/")[-1]


def test_the_segment_is_never_the_same() -> None:
    made = [new_key() for _ in range(1000)]
    segments = [re.fullmatch(r"site/a/([\w-]{33})/beach.jpg", key) for key in made]
    assert len({match[1] for match in segments if match}) == 1000
    # 22 characters of base64url hold the 128 bits.
    assert len({match[1][:22] for match in segments if match}) == 1000


# What is ours.


@pytest.mark.parametrize("location", ["", "site", "/site/", "a/b"])
@pytest.mark.parametrize("prefix", ["", "photos/", "photos/2026/07/", "_-/"])
@pytest.mark.parametrize("filename", ["beach.jpg", "..", "사진.jpg", "x" * 255])
def test_a_key_that_we_made_is_ours(location: str, prefix: str, filename: str) -> None:
    key = new_key(filename, location=location, prefix=prefix)
    assert keys.is_ours("here", "media", key)
    assert not keys.is_ours("here", "media-backup", key), "a copy elsewhere is not"


def test_one_character_changed_anywhere_and_it_is_not_ours() -> None:
    key = new_key()
    for position, character in enumerate(key):
        for other in (ALPHABET[(ALPHABET.find(character) + 1) % 64], "/", ".", "é"):
            if other != character:
                changed = key[:position] + other + key[position + 1 :]
                assert not keys.is_ours("here", "media", changed), changed
        assert not keys.is_ours("here", "media", key[:position] + key[position + 1 :])
        assert not keys.is_ours("here", "media", key[:position] + "x" + key[position:])


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key.removeprefix("site/"),
        lambda key: key.replace("site/", "other/"),
        lambda key: f"backup/{key}",
        lambda key: f"/{key}",
        lambda key: key.replace("/a/", "/b/"),
        lambda key: key.replace("/a/", "/"),
        lambda key: f"{key}/",
        lambda key: f"{key}/beach.jpg",
        lambda key: f"{key}\n",
        lambda key: key.rpartition("/")[0],
        lambda key: "",
        lambda key: "site/photos/beach.jpg",
        lambda key: f"site/a/{'x' * 33}/beach.jpg",
    ],
)
def test_another_key_is_not_ours(change: Callable[[str], str]) -> None:
    assert not keys.is_ours("here", "media", change(new_key()))


def test_a_key_outlives_its_secret_as_long_as_that_is_a_fallback(settings: Any) -> None:
    key = new_key()
    settings.SECRET_KEY = "another"
    assert not keys.is_ours("here", "media", key)
    settings.SECRET_KEY_FALLBACKS = ["older", "tests"]
    assert keys.is_ours("here", "media", key)
    settings.SECRET_KEY_FALLBACKS = ["older"]
    assert not keys.is_ours("here", "media", key)


# Prefixes.

MALFORMED = [
    "photos",
    "/",
    "/photos/",
    "photos//",
    "../",
    "photos/../",
    ".hidden/",
    "my photos/",
    "fotos-é/",
    "photos\\",
    "photos/\n",
    "photos/?x=/",
    "photos/%2e%2e/",
]


@pytest.mark.parametrize("prefix", [*MALFORMED, "p" * 51 + "/", "p/" * 26])
def test_an_impossible_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(ImproperlyConfigured):
        new_key(prefix=prefix)


def test_the_longest_prefix_leaves_room_for_a_files_name() -> None:
    name = keys.new_name("here", "media", "site", "p" * 50 + "/", "x" * 255 + ".0123456789", 100)
    assert name.endswith("/xxxx.0123456789")


class FromItsHook(Destination):
    max_size = 1024
    content_types = ["*/*"]

    def get_prefix(self, upload: Upload, request: HttpRequest | None) -> str:
        assert request is not None
        return request.headers["X-Prefix"]


@pytest.mark.parametrize("prefix", ["photos", "../", "fotos é/", "p" * 51 + "/"])
def test_a_hook_that_gives_such_a_prefix_is_misconfigured(
    alice: App, settings: Any, caplog: pytest.LogCaptureFixture, prefix: str
) -> None:
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": FromItsHook}}
    assert alice.begin(headers={"X-Prefix": "fine/"}).status_code == 201
    Upload.objects.all().delete()

    answer = alice.begin(headers={"X-Prefix": prefix})

    assert (answer.status_code, answer.json()["code"]) == (503, "misconfigured")
    assert "prefix" not in answer.json()["detail"], "no matter of the client's"
    assert "prefix" in caplog.text
    assert not Upload.objects.exists()
