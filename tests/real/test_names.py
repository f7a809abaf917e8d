"""Filenames in all scripts, on a real S3: the key is ASCII, and people get their own name back."""

from __future__ import annotations

import re
import unicodedata
from email.message import Message
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import requests

from s3direct_uploads import keys, lifecycle
from s3direct_uploads.models import Upload
from tests.conftest import DAY, FILM, JPEG, App, Bucket, age, row, sweep
from tests.field_models import Snap

pytestmark = [pytest.mark.journey, pytest.mark.django_db(transaction=True)]

HANGUL = "한글 사진.jpg"
NAMES = {
    "Hangul": (HANGUL, HANGUL, "file.jpg"),
    "Hangul of macOS": (unicodedata.normalize("NFD", HANGUL), HANGUL, "file.jpg"),
    "Japanese": ("写真 ２.jpg", "写真 ２.jpg", "2.jpg"),
    "Arabic with marks": ("\u2067صورة\u2069 ١.jpg", "صورة ١.jpg", "file.jpg"),
    "Persian": ("می\u200cخواهم.jpg", "می\u200cخواهم.jpg", "file.jpg"),
    "a family": ("👩\u200d👩\u200d👧.jpg", "👩\u200d👩\u200d👧.jpg", "file.jpg"),
    "the longest": ("𝄞" * 251 + ".jpg", "𝄞" * 251 + ".jpg", "file.jpg"),
    "a dot first": (".사진.jpg", ".사진.jpg", "file.jpg"),
    "a space last": ("사진.jpg ", "사진.jpg ", "file.jpg"),
    "a dot last": ("사진.jpg.", "사진.jpg.", "file.jpg"),
    "reserved on Windows": ("CON.jpg", "CON.jpg", "CON.jpg"),
    "quotes": ("a\"b';=é%25+ c.jpg", "a\"b';=é%25+ c.jpg", "a-b-e-25-c.jpg"),
}


def saved_as(answer: requests.Response) -> str:
    """The name by which a browser saves this answer (RFC 6266)."""
    disposition = answer.headers["Content-Disposition"]
    extended = re.fullmatch(r"attachment; ?filename\*=utf-8''(\S+)", disposition)
    if extended:
        return unquote(extended[1], errors="strict")
    message = Message()
    message["Content-Disposition"] = disposition
    return str(message.get_filename())


@pytest.mark.parametrize(("filename", "kept", "tail"), NAMES.values(), ids=NAMES)
def test_a_file_comes_back_under_its_own_name(
    alice: App, s3: Bucket, filename: str, kept: str, tail: str
) -> None:
    answer = alice.upload(filename=filename)
    assert (answer.status_code, answer.json()["filename"]) == (200, kept)
    upload = row(answer)
    assert upload.filename == kept
    assert upload.key.isascii()
    assert upload.key.rpartition("/")[2] == tail
    assert s3.read(upload) == JPEG

    found = requests.get(alice.get(f"{upload.pk}/url/").json()["url"], timeout=10)
    assert (found.status_code, found.content) == (200, JPEG)
    assert saved_as(found) == kept
    Snap.objects.create(title="one", image=upload)
    snap: Any = Snap.objects.get()
    assert snap.image.filename == kept
    # As upload.js asks for it after a reload: by the name that the browser has.
    assert alice.get(filename=filename).json()["results"][0]["id"] == str(upload.pk)


def test_a_film_with_a_korean_name_goes_in_parts(alice: App, s3: Bucket, films: None) -> None:
    begun = alice.begin_film(filename="제주도 여행.mp4").json()
    assert alice.send_parts(begun["multipart"]["parts"]) == [200, 200]
    upload = row(alice.confirm(begun["id"]))
    assert (upload.status, upload.key.rpartition("/")[2]) == ("completed", "file.mp4")
    assert s3.read(upload) == FILM


def test_files_with_unicode_keys_are_adopted_byte_for_byte(alice: App, s3: Bucket) -> None:
    """Django's own FileField keeps Hangul in keys. NFC and NFD are two objects to S3."""
    field: Any = Snap._meta.get_field("image")
    location = keys.location_of(field.storage)
    names = [f"old/{unicodedata.normalize(form, HANGUL)}" for form in ("NFC", "NFD")]
    bodies = [b"one", b"two"]
    for name, body in zip(names, bodies, strict=True):
        key = keys.join(location, name)
        s3.client.put_object(Bucket=s3.name, Key=key, Body=body, ContentType="image/jpeg")
        Snap.objects.bulk_create([Snap(title=str(body), image=name)])

    adopted = [
        each.what for batch in lifecycle.adopt(field, destination="photos") for each in batch
    ]

    assert adopted == ["adopted", "adopted"]
    found_by_name = {upload.name: upload for upload in Upload.objects.all()}
    uploads = [found_by_name[name] for name in names]
    for upload, body in zip(uploads, bodies, strict=True):
        url = lifecycle.presign_download(upload).url
        assert urlsplit(url).path.isascii()
        found = requests.get(url, timeout=10)
        assert found.content == body
        assert unicodedata.normalize("NFC", saved_as(found)) == HANGUL
    Snap.objects.get(image=names[1]).delete()
    age(2 * DAY)
    assert sweep()["cleaned"] == 1
    assert [s3.read(upload) for upload in uploads] == [b"one", None]
