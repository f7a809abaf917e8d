"""``uploads_in_memory(hooks=True)``: a host tests its own hooks, without S3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.files.storage import storages

from s3direct_uploads import content, lifecycle, signals
from s3direct_uploads.exceptions import HookFailed, ObjectMismatch, ObjectMissing
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import StoredObject
from tests.conftest import Connect
from tests.content.files import HTML, image
from tests.host_app import Albums

Make = Callable[..., Upload]


@pytest.fixture
def heard(connect: Connect) -> list[tuple[str, str]]:
    heard: list[tuple[str, str]] = []

    def completed(upload: Upload, cause: str, **_: Any) -> None:
        heard.append(("completed", cause))

    def rejected(upload: Upload, **_: Any) -> None:
        heard.append(("rejected", upload.reason))

    connect(signals.upload_completed, completed)
    connect(signals.upload_rejected, rejected)
    return heard


@pytest.fixture
def make(s3_calls: list[str], uploads_in_memory: Make) -> Make:
    def make(**options: Any) -> Upload:
        declared = {
            "destination": "albums",
            "filename": "a.jpg",
            "context": {"album": 1},
            "hooks": True,
        }
        upload = uploads_in_memory(**{**declared, **options})
        assert s3_calls == []
        return upload

    return make


def test_without_hooks_nothing_is_asked(
    uploads_in_memory: Make, heard: list[tuple[str, str]]
) -> None:
    upload = uploads_in_memory(destination="albums", filename="forbidden.txt", content=b"x" * 13)
    assert (upload.status, heard) == ("completed", [])


def test_every_hook_is_called_and_the_signal_is_sent(
    make: Make,
    heard: list[tuple[str, str]],
    make_user: Callable[..., User],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[tuple[Upload, str]] = []
    monkeypatch.setattr(
        Albums, "completed", lambda self, upload: told.append((upload, upload.status))
    )
    owner = make_user()
    body = image("JPEG")
    upload = make(owner=owner, content=body, context={"album": 7, "more": 1})
    assert told == [(upload, "completed")]
    assert heard == [("completed", "client")]
    upload.refresh_from_db()
    assert (upload.status, upload.size, upload.owner) == ("completed", len(body), owner)
    assert upload.context == {"album": 7, "tags": []}, "clean_context"
    assert upload.key.startswith(f"albums/{owner.pk}/"), "get_prefix"
    assert (upload.due_at, upload.announced_at is not None) == (None, True)
    assert upload.attach() == upload.name


@pytest.mark.parametrize(
    ("declared", "refusal", "message"),
    [
        ({"filename": "forbidden.jpg"}, PermissionDenied, "^$"),
        ({"filename": "a.png"}, ValidationError, "Not image/png"),
        ({"content": b""}, ValidationError, "At least 1 byte"),
        ({"context": {}}, ValidationError, "Which album"),
    ],
)
def test_what_a_script_could_not_begin_leaves_no_row(
    make: Make, declared: dict[str, Any], refusal: type[Exception], message: str
) -> None:
    with pytest.raises(refusal, match=message):
        make(**declared)
    assert not Upload.objects.exists()


def test_a_verify_that_rejects(make: Make, heard: list[tuple[str, str]]) -> None:
    with pytest.raises(ObjectMismatch, match="bad luck") as rejected:
        make(content=b"x" * 13)
    upload = Upload.objects.get()
    assert rejected.value.upload == upload
    assert (upload.status, heard) == ("rejected", [("rejected", upload.reason)])


def test_a_verify_that_fails(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Albums, "verify", lambda *_: 1 / 0)
    with pytest.raises(HookFailed) as failed:
        make()
    assert isinstance(failed.value.__cause__, ZeroDivisionError)
    assert Upload.objects.get().status == "pending"


@pytest.mark.parametrize("by_hook", [False, True])
def test_the_content_is_looked_into(
    make: Make, monkeypatch: pytest.MonkeyPatch, by_hook: bool
) -> None:
    def verify(self: Albums, upload: Upload, stored: StoredObject) -> None:
        content.sniff(upload, stored)
        assert content.measure_image(upload, stored).width == 64

    if by_hook:
        monkeypatch.setattr(Albums, "verify", verify)
    else:
        monkeypatch.setattr(Albums, "sniff", True)
        monkeypatch.setattr(Albums, "image", {"MIN_WIDTH": 64})
    assert make(content=image("JPEG")).status == "completed"
    with pytest.raises(ObjectMismatch, match="not of the type image/jpeg"):
        make(content=HTML)
    assert make(content=image("JPEG") + b"\0" * 100_000).status == "completed"


def test_a_host_tests_its_scan(
    make: Make,
    heard: list[tuple[str, str]],
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The scan reads the file and answers, as with S3."""
    monkeypatch.setattr(Albums, "hold", True)
    found: list[bytes] = []

    def scan(upload: Upload, **_: Any) -> None:
        with lifecycle.open_held(upload) as file:
            found.append(file.read(3))
            file.seek(0)
            found.append(file.read())
        if b"virus" in found[-1]:
            lifecycle.reject(upload, "A virus was found.")
        else:
            lifecycle.accept(upload)

    connect(signals.upload_held, scan)
    good = make(content=b"a good file")
    good.refresh_from_db()
    assert (found, good.status) == ([b"a g", b"a good file"], "completed")
    assert heard == [("completed", "scan")]
    assert good.attach() == good.name

    with pytest.raises(ObjectMismatch, match="A virus was found"):
        make(content=b"a virus")
    bad = Upload.objects.exclude(pk=good.pk).get()
    assert (bad.status, bad.reason) == ("rejected", "A virus was found.")


def test_a_held_file_that_is_gone_is_rejected(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Albums, "hold", True)
    held = make()
    assert held.status == "verifying"
    storages[held.storage].delete(held.name)
    with pytest.raises(ObjectMissing):
        lifecycle.open_held(held)
    with pytest.raises(ObjectMismatch):
        lifecycle.accept(held)
    assert Upload.objects.get().status == "rejected"
