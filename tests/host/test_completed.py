"""The hook ``completed``, and the recipes of docs/recipes.md, which are run as they stand."""

from __future__ import annotations

import importlib
import io
import logging
import re
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import django
import pytest
from celery import current_app
from django.core.files.storage import storages
from django.db import connection
from django.utils import timezone
from PIL import Image

from s3direct_uploads import events, lifecycle, signals, tasks
from s3direct_uploads.destinations import Destination
from s3direct_uploads.models import Upload
from tests.conftest import JPEG, App, Bucket, Connect, age, row, sweep
from tests.content.files import image
from tests.documents import block
from tests.events.conftest import s3_record
from tests.host_app import Albums

HOUR = timedelta(hours=1)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, any_context: None) -> list[tuple[Any, str, bool]]:
    """Of which uploads the albums' hook was told, their status in the database, and whether in a
    transaction."""
    told: list[tuple[Any, str, bool]] = []

    def completed(self: Albums, upload: Upload) -> None:
        status = Upload.objects.get(pk=upload.pk).status
        told.append((upload.pk, status, lifecycle.connection.in_transaction()))

    monkeypatch.setattr(Albums, "completed", completed)
    return told


def sent(app: App) -> Upload:
    begun = app.begin(destination="albums")
    assert app.send(begun.json()["request"]) == 200
    return row(begun)


def test_the_client_the_event_and_the_sweep_tell_it_once(
    alice: App, told: list[tuple[Any, str, bool]]
) -> None:
    by_client, by_event, by_sweep = sent(alice), sent(alice), sent(alice)
    for _ in range(2):
        assert alice.confirm(str(by_client.pk)).status_code == 200
        events.settle(events.parse({"Records": [s3_record(by_event.bucket, by_event.key)]}))
    age(3 * HOUR)
    assert sweep() == {"completed": 1}
    age(3 * HOUR)
    sweep()
    uploads = (by_client, by_event, by_sweep)
    assert told == [(upload.pk, "completed", False) for upload in uploads]


@pytest.mark.django_db
def test_a_script_that_stores_tells_it(told: list[tuple[Any, str, bool]], s3: Bucket) -> None:
    upload = lifecycle.store(io.BytesIO(JPEG), destination="albums", filename="a.jpg")
    assert told == [(upload.pk, "completed", False)]


def test_a_rejected_upload_is_not_completed(alice: App, told: list[tuple[Any, str, bool]]) -> None:
    assert alice.upload(b"x" * 13, destination="albums").status_code == 422
    assert told == []


def test_the_hook_is_told_before_the_signal(
    alice: App, monkeypatch: pytest.MonkeyPatch, any_context: None, connect: Connect
) -> None:
    heard: list[str] = []

    def handler(**_: Any) -> None:
        heard.append("signal")

    monkeypatch.setattr(Albums, "completed", lambda self, upload: heard.append("hook"))
    connect(signals.upload_completed, handler)
    alice.upload(destination="albums")
    assert heard == ["hook", "signal"]


@pytest.mark.parametrize("crash", [RuntimeError, Upload.DoesNotExist, RecursionError])
def test_a_hook_that_fails_is_logged_and_nothing_else(
    alice: App,
    monkeypatch: pytest.MonkeyPatch,
    any_context: None,
    caplog: pytest.LogCaptureFixture,
    connect: Connect,
    crash: type[Exception],
) -> None:
    heard: list[Upload] = []

    def handler(upload: Upload, **_: Any) -> None:
        heard.append(upload)

    def completed(self: Albums, upload: Upload) -> None:
        raise crash("broker away")

    monkeypatch.setattr(Albums, "completed", completed)
    connect(signals.upload_completed, handler)
    answer = alice.upload(destination="albums")
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")
    upload = row(answer)
    assert (upload.due_at, upload.announced_at is not None, heard) == (None, True, [upload])
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.getMessage() == "The hook completed of 'albums' failed"
    assert "broker away" in caplog.text


def test_a_process_that_died_before_the_hook_is_made_good_by_the_sweep(
    alice: App, told: list[tuple[Any, str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Killed

    upload = sent(alice)
    with monkeypatch.context() as patch:
        patch.setattr("s3direct_uploads.destinations.completed", die)
        with pytest.raises(Killed):
            lifecycle.confirm(upload)
    assert told == []
    Upload.objects.update(due_at=timezone.now())
    assert sweep() == {"announced": 1}
    assert told == [(upload.pk, "completed", False)]
    upload.refresh_from_db()
    assert (upload.due_at, upload.announced_at is not None) == (None, True)


def updates_of(confirm: Callable[[], Any]) -> list[list[str]]:
    """The columns that each UPDATE of the upload's row sets."""
    updates: list[list[str]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith('UPDATE "s3direct_uploads_upload"'):
            setting = sql.partition(" SET ")[2].partition(" WHERE ")[0]
            updates.append(sorted(re.findall(r'"(\w+)" = ', setting)))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        confirm()
    return updates


COMPLETES = ["busy_until", "completed_at", "due_at", "etag", "status", "version_id"]


def test_a_completion_that_nobody_hears_is_announced_by_its_own_update(
    alice: App, any_context: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Albums, "completed", Destination.completed)
    upload = sent(alice)
    updates = updates_of(lambda: lifecycle.confirm(upload))
    assert updates == [["announced_at", *COMPLETES]]
    upload.refresh_from_db()
    assert (upload.status, upload.due_at) == ("completed", None)
    assert upload.announced_at == upload.completed_at
    age(3 * HOUR)
    assert sweep() == {}


@pytest.mark.parametrize("hearer", ["hook", "hook of the instance", "signal"])
def test_a_completion_that_somebody_hears_is_announced_after_it(
    alice: App,
    any_context: None,
    monkeypatch: pytest.MonkeyPatch,
    connect: Connect,
    hearer: str,
) -> None:
    """If the process died in between, the row would be due."""
    seen: list[tuple[str, bool, bool]] = []

    def hear(*_: Any, upload: Upload, **__: Any) -> None:
        now = Upload.objects.get(pk=upload.pk)
        seen.append((now.status, now.due_at is not None, now.announced_at is not None))

    monkeypatch.setattr(Albums, "completed", Destination.completed)
    if hearer == "hook":
        monkeypatch.setattr(Albums, "completed", lambda self, upload: hear(upload=upload))
    elif hearer == "hook of the instance":

        def init(self: Albums, name: str) -> None:
            self.name = name
            self.completed = lambda upload: hear(upload=upload)  # type: ignore[method-assign]

        monkeypatch.setattr(Albums, "__init__", init)
    else:
        connect(signals.upload_completed, hear)
    upload = sent(alice)
    updates = updates_of(lambda: lifecycle.confirm(upload))
    assert seen == [("completed", True, False)]
    assert updates == [COMPLETES, ["announced_at", "due_at"]]


def test_a_destination_that_is_wrong_by_then_is_told_once_it_is_right(
    alice: App,
    told: list[tuple[Any, str, bool]],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload = sent(alice)
    with monkeypatch.context() as patch:
        patch.setattr("s3direct_uploads.lifecycle.settling.announce", lambda *_: None)
        lifecycle.confirm(upload)
    right = settings.S3DIRECT_UPLOADS
    wrong = {**right, "DESTINATIONS": {**right["DESTINATIONS"], "albums": "no.such.Albums"}}
    for uploads, heard in ((wrong, 0), (right, 1)):
        settings.S3DIRECT_UPLOADS = uploads
        Upload.objects.update(due_at=timezone.now())
        sweep()
        assert len(told) == heard
        upload.refresh_from_db()
        assert (upload.announced_at is not None) == bool(heard)


def test_the_hook_must_be_a_method(alice: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async def completed(self: Albums, upload: Upload) -> None: ...

    monkeypatch.setattr(Albums, "completed", completed)
    answer = alice.begin(destination="albums")
    assert (answer.status_code, answer.json()["code"]) == (503, "misconfigured")


# The recipes.


RECIPE = {
    "thumbnails": block("docs/recipes.md", "# gallery/thumbnails.py"),
    "tasks": block("docs/recipes.md", "# gallery/tasks.py"),
    "uploads": block("docs/recipes.md", "# gallery/uploads.py"),
    "django_tasks": block("docs/recipes.md", "# gallery/django_tasks.py"),
    "django_uploads": block("docs/recipes.md", "# gallery/django_uploads.py"),
}


def write_recipes(folder: Path) -> None:
    """The app that the recipes make, in this folder."""
    (folder / "gallery").mkdir()
    (folder / "gallery" / "__init__.py").touch()
    for name, code in RECIPE.items():
        (folder / "gallery" / f"{name}.py").write_text(code)


Use = Callable[[str], None]


@pytest.fixture
def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Use]:
    """From now on the photos are uploaded by this recipe."""
    write_recipes(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def use(destination: str) -> None:
        photos = {"photos": destination}
        settings.S3DIRECT_UPLOADS = {**settings.S3DIRECT_UPLOADS, "DESTINATIONS": photos}

    yield use
    for name in [each for each in sys.modules if each.split(".")[0] == "gallery"]:
        del sys.modules[name]


def assert_thumbnail(upload: Upload, s3: Bucket) -> None:
    with storages["default"].open(f"thumbnails/{upload.pk}.webp") as file:
        thumbnail = Image.open(file)
        assert (thumbnail.format, thumbnail.size) == ("WEBP", (300, 400)), "it stands upright"


def lying_photograph() -> bytes:
    """Its camera was held upright, and its pixels lie."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return image("JPEG", (1200, 900), exif=exif.tobytes())


@pytest.fixture
def at_once() -> Iterator[None]:
    """Celery's tasks run in this process, without a broker."""
    before = current_app.conf.task_always_eager
    current_app.conf.task_always_eager = True
    yield
    current_app.conf.task_always_eager = before


@pytest.mark.usefixtures("at_once")
def test_a_thumbnail_in_celery(alice: App, s3: Bucket, use: Use) -> None:
    """tests/real/test_recipes.py has it with a worker."""
    use("gallery.uploads.Photos")
    upload = row(alice.upload(lying_photograph()))
    assert_thumbnail(upload, s3)

    module = importlib.import_module("gallery.thumbnails")
    module.save_thumbnail(str(upload.pk))  # and again
    assert_thumbnail(upload, s3)
    alice.delete(str(upload.pk))
    module.save_thumbnail(str(upload.pk))


def test_a_thumbnail_in_djangos_tasks(alice: App, s3: Bucket, use: Use) -> None:
    """Django 5.2 has none: then nothing of ours needs them, and the check names the import."""
    use("gallery.django_uploads.Photos")
    if django.VERSION >= (6, 0):
        assert_thumbnail(row(alice.upload(lying_photograph())), s3)
    else:
        answer = alice.begin()
        assert (answer.status_code, answer.json()["code"]) == (503, "misconfigured")
        from s3direct_uploads import checks

        [message] = checks.check_destinations()
        assert "django.tasks" in message.msg


def test_the_sweep_in_djangos_tasks(alice: App) -> None:
    upload = sent_photo(alice)
    age(3 * HOUR)
    if django.VERSION >= (6, 0):
        result = tasks.sweep.enqueue(destination="photos")
        assert result.return_value == {"completed": 1}
    else:
        assert not hasattr(tasks, "sweep")
        assert tasks.sweep_uploads(destination="photos") == {"completed": 1}
    upload.refresh_from_db()
    assert upload.status == "completed"


def sent_photo(app: App) -> Upload:
    begun = app.begin()
    assert app.send(begun.json()["request"]) == 200
    return row(begun)


def test_without_celery_the_module_of_tasks_is_imported_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "celery", None)
    monkeypatch.delitem(sys.modules, "s3direct_uploads.tasks")
    module = importlib.import_module("s3direct_uploads.tasks")
    assert not hasattr(module, "sweep_uploads")
    assert hasattr(module, "sweep") == (django.VERSION >= (6, 0))
