"""What type a file has, whatever the system knows and the browser says."""

from __future__ import annotations

import mimetypes
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from s3direct_uploads import content_types, lifecycle
from s3direct_uploads.models import Upload
from tests.conftest import App, Bucket, row

# The type must not depend on this machine's /etc/mime.types.
SYSTEMS = {
    "a system without mime.types": mimetypes.MimeTypes(filenames=()),
    "a system that knows better": mimetypes.MimeTypes(filenames=()),
}
SYSTEMS["a system that knows better"].add_type("text/vnd.trolltech.linguist", ".ts")
SYSTEMS["a system that knows better"].add_type("text/x-nonsense", ".jpg")
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
EXCEL = "application/vnd.ms-excel"
OCTETS = "application/octet-stream"


@pytest.fixture(params=SYSTEMS)
def system(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mimetypes, "_db", SYSTEMS[request.param])
    monkeypatch.setattr(mimetypes, "inited", True)


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize(
    ("filename", "content_type"),
    [
        ("letter.docx", DOCX),
        ("film.mkv", "video/x-matroska"),
        ("film.m4v", "video/mp4"),
        ("song.m4a", "audio/mp4"),
        ("song.flac", "audio/flac"),
        ("film.ts", "video/mp2t"),
        ("photo.jpg", "image/jpeg"),
        ("photo.JFIF", "image/jpeg"),
        ("IMG_1.HEIC", "image/heic"),
        ("photo.avif", "image/avif"),
        ("photo.jxl", "image/jxl"),
        ("DSC_1.NEF", "image/x-nikon-nef"),
        ("book.epub", "application/epub+zip"),
        ("scene.glb", "model/gltf-binary"),
        ("table.parquet", "application/vnd.apache.parquet"),
        ("font.woff2", "font/woff2"),
        ("archive.tar.gz", "application/gzip"),
        ("archive.7z", "application/x-7z-compressed"),
        ("table.csv", "text/csv"),
        ("notes.md", "text/markdown"),
        ("words.srt", "application/x-subrip"),
        ("no extension", "application/octet-stream"),
        (".jpg", "application/octet-stream"),
        ("file.unheard-of", "application/octet-stream"),
    ],
)
def test_a_guess_is_the_same_on_every_system(alice: App, filename: str, content_type: str) -> None:
    answer = alice.begin(destination="documents", filename=filename, content_type="")
    assert answer.status_code == 201
    assert answer.json()["content_type"] == content_type
    assert answer.json()["request"]["headers"]["Content-Type"] == content_type
    assert row(answer).content_type == content_type


@pytest.mark.parametrize(
    ("filename", "declared", "meant"),
    [
        ("a.jpg", "image/jpg", "image/jpeg"),
        ("a.jpg", "image/pjpeg", "image/jpeg"),
        ("a.png", "image/x-png", "image/png"),
        ("a.bmp", "image/x-ms-bmp", "image/bmp"),
        ("a.mp3", "audio/mp3", "audio/mpeg"),
        ("a.m4a", "audio/x-m4a", "audio/mp4"),
        ("a.wav", "audio/x-wav", "audio/wav"),
        ("a.avi", "video/avi", "video/x-msvideo"),
        ("a.zip", "application/x-zip-compressed", "application/zip"),
        ("a.rar", "application/x-rar-compressed", "application/vnd.rar"),
        ("a.csv", "application/vnd.ms-excel", "text/csv"),
        ("a.xls", "application/vnd.ms-excel", "application/vnd.ms-excel"),
        ("a.csv", "text/comma-separated-values", "text/csv"),
        ("a.rtf", "application/msword", "application/rtf"),
        ("a.doc", "application/msword", "application/msword"),
        ("a.ogg", "application/ogg", "audio/ogg"),
        ("a.ts", "text/vnd.trolltech.linguist", "video/mp2t"),
        ("a.heic", "application/octet-stream", "image/heic"),
        ("a.heic", "binary/octet-stream", "image/heic"),
        ("a.heic", "Application/Octet-Stream", "image/heic"),
        ("a.pdf", "application/force-download", "application/pdf"),
        ("a.unheard-of", "application/octet-stream", "application/octet-stream"),
        ("a.unheard-of", "binary/octet-stream", "application/octet-stream"),
        ("a.jpg", "application/octet-stream; charset=binary", "image/jpeg"),
        ("a.webm", "video/webm;codecs=vp8", "video/webm;codecs=vp8"),
        ("a.m4a", "audio/x-m4a; codecs=alac", "audio/mp4; codecs=alac"),
        ("a.png", "image/jpeg", "image/jpeg"),
        ("a.xyz", "chemical/x-xyz", "chemical/x-xyz"),
    ],
)
def test_what_pickers_and_browsers_declare_is_understood(
    alice: App, filename: str, declared: str, meant: str
) -> None:
    begun = alice.begin(destination="documents", filename=filename, content_type=declared).json()
    assert begun["content_type"] == meant
    assert begun["request"]["headers"]["Content-Type"] == meant
    assert alice.send(begun["request"]) == 200
    upload = row(alice.confirm(begun["id"]))
    assert (upload.status, upload.content_type) == ("completed", meant)


def allow(settings: Any, *types: str) -> None:
    rules = {"MAX_SIZE": 1024, "CONTENT_TYPES": list(types)}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": rules}}


@pytest.mark.parametrize(
    ("allowed", "filename", "declared", "meant"),
    [
        # The settings may use such a name as well.
        (["image/jpg"], "a.jpg", "image/jpg", "image/jpeg"),
        (["image/jpg"], "a.jpg", "image/jpeg", "image/jpeg"),
        (["audio/x-m4a"], "a.m4a", "audio/mp4", "audio/mp4"),
        # A declared application/octet-stream gives way to the guess where that is allowed.
        (["image/jpeg", OCTETS], "a.jpg", OCTETS, "image/jpeg"),
        # Else it stays, if the destination names it.
        ([OCTETS], "a.jpg", OCTETS, OCTETS),
        ([OCTETS], "a.html", OCTETS, OCTETS),
        (["application/*"], "a.jpg", OCTETS, OCTETS),
        # A browser sniffs an "application/unknown" and may find a page, so that type is not kept.
        ([OCTETS], "a.html", "application/unknown", OCTETS),
        (["application/*"], "a.html", "application/unknown", OCTETS),
        (["application/unknown"], "a.html", "application/unknown", OCTETS),
        ([EXCEL], "a.csv", EXCEL, EXCEL),
        (["application/*"], "a.psd", "application/x-photoshop", "application/x-photoshop"),
        (["application/*"], "a.docx", "", DOCX),
    ],
)
def test_an_alias_of_an_allowed_type_is_allowed(
    alice: App, settings: Any, allowed: list[str], filename: str, declared: str, meant: str
) -> None:
    allow(settings, *allowed)
    answer = alice.begin(filename=filename, content_type=declared)
    assert answer.status_code == 201, answer.json()
    assert answer.json()["content_type"] == meant


@pytest.mark.parametrize(
    ("allowed", "filename", "declared"),
    [
        (["image/*"], "a.html", "application/octet-stream"),
        (["image/jpeg"], "a.png", "application/octet-stream"),
        (["image/jpeg"], "a.unheard-of", "application/octet-stream"),
    ],
)
def test_a_guess_is_held_against_the_rules_as_well(
    alice: App, settings: Any, allowed: list[str], filename: str, declared: str
) -> None:
    allow(settings, *allowed)
    answer = alice.begin(filename=filename, content_type=declared)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["code"] == "not_allowed"
    assert not Upload.objects.exists()


@pytest.mark.parametrize("again", ["image/jpg", "image/pjpeg", "image/jpeg", "", None])
def test_a_repeated_begin_is_compared_by_what_was_meant(alice: App, again: str | None) -> None:
    key = {"Idempotency-Key": "types"}
    first = alice.begin(headers=key, content_type="image/jpg")
    second = alice.begin(headers=key, content_type=again)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] == second.json()["id"]
    other = alice.begin(headers=key, content_type="image/png")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("allowed", "declared", "status"),
    [
        ("image/*", "image/x+xml", 400),
        ("image/*", "image/xhtml+xml", 400),
        ("image/*", "image/html", 400),
        ("image/*", "image/xml", 400),
        ("image/*", "image/svg", 400),
        ("image/*", "image/svg+xml", 400),
        ("image/*", "IMAGE/X+XML;charset=utf-8", 400),
        ("image/*", "image/vnd.dwg", 201),
        ("video/*", "video/x+xml", 400),
        ("audio/*", "audio/xhtml", 400),
        ("text/*", "text/html", 400),
        ("text/*", "text/xml", 400),
        ("text/*", "text/xsl", 400),
        ("text/*", "text/plain", 201),
        ("application/*", "application/xhtml+xml", 400),
        ("application/*", "application/xml", 400),
        ("application/*", "application/vnd.mozilla.xul+xml", 400),
        ("application/*", DOCX, 201),
        ("image/svg+xml", "image/svg+xml", 201),
        ("image/x+xml", "image/x+xml", 201),
        ("text/html", "text/html", 201),
        ("multipart/*", "multipart/x-mixed-replace; boundary=x", 400),
        ("multipart/*", "multipart/related", 400),
        ("message/*", "message/rfc822", 400),
        ("unknown/*", "unknown/unknown", 400),
        ("message/rfc822", "message/rfc822", 201),
        ("*/*", "image/x+xml", 201),
        ("*/*", "text/html", 201),
    ],
)
def test_a_wildcard_never_includes_what_can_run_scripts(
    alice: App, settings: Any, allowed: str, declared: str, status: int
) -> None:
    allow(settings, allowed)
    answer = alice.begin(filename="a", content_type=declared)
    assert answer.status_code == status
    if status == 400:
        (error,) = answer.json()["errors"]
        assert error["code"] == "not_allowed"
        assert "must be named itself" in error["detail"]
        assert not Upload.objects.exists()


def test_a_page_by_its_filename_is_no_image(alice: App) -> None:
    for filename in ("a.svg", "a.html", "a.xhtml", "a.xml"):
        answer = alice.begin(filename=filename, content_type="")
        assert answer.json()["errors"][0]["code"] == "not_allowed", filename


@pytest.mark.parametrize(
    ("filename", "code"),
    [
        ("/etc/passwd.jpg", "path"),
        ("//x.jpg", "path"),
        ("C:\\x.jpg", "path"),
        ("http://[.jpg", "path"),
        ("\ud800.jpg", "characters"),
        ("data:,x", None),
        ("a.", None),
        ("?", None),
    ],
)
def test_an_odd_name_is_an_error_of_its_own_or_none(
    db: None, s3: Bucket, filename: str, code: str | None
) -> None:
    declaration: dict[str, Any] = {"destination": "documents", "filename": filename, "size": 1}
    if code is None:
        upload, _ = lifecycle.begin(owner=None, **declaration)
        assert upload.content_type == "application/octet-stream"
        return
    with pytest.raises(ValidationError) as refused:
        lifecycle.begin(owner=None, **declaration)
    assert refused.value.error_dict["filename"][0].code == code


@pytest.mark.parametrize(
    ("filename", "content_type"),
    [
        ("", OCTETS),
        (".", OCTETS),
        ("...", OCTETS),
        ("/", OCTETS),
        ("//host/x.png", "image/png"),
        ("C:\\x.png", "image/png"),
        ("http://[.png", "image/png"),
        ("a.png ", "image/png"),
        ("\ud800.png", "image/png"),
        ("a.\ud800", OCTETS),
        ("a.\u0130", OCTETS),
        ("x" * 10**6 + ".png", "image/png"),
        ("folder.png/x", OCTETS),
        ("drawing.svgz", OCTETS),
    ],
)
def test_a_guess_never_raises(filename: str, content_type: str) -> None:
    assert content_types.guess(filename) == content_type


@pytest.mark.parametrize(
    ("filename", "content_type", "kept"),
    [
        ("IMG_1.HEIC", "", "image/heic"),
        ("IMG_1.HEIC", None, "image/heic"),
        ("a.webp", "", "image/webp"),
        ("a.jpg", "IMAGE/JPEG", "image/jpeg"),
        ("a.png", "image/png; charset=binary", "image/png; charset=binary"),
    ],
)
def test_a_content_type_is_guessed_or_normalised(
    alice: App, filename: str, content_type: str | None, kept: str
) -> None:
    begun = alice.begin(filename=filename, content_type=content_type)
    assert begun.json()["content_type"] == kept
    assert begun.json()["request"]["headers"]["Content-Type"] == kept


def test_a_recorders_type_with_parameters_arrives_as_declared(alice: App) -> None:
    confirmed = alice.upload(
        destination="documents", filename="a.webm", content_type="video/webm;codecs=vp8,opus"
    )
    assert confirmed.json()["content_type"] == "video/webm;codecs=vp8,opus"
