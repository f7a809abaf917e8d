"""A host moves from another package by the words of docs/moving.md and docs/fields.md."""

from __future__ import annotations

import re
from typing import Any, cast

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db.migrations import RunPython
from django.db.models import fields

from s3direct_uploads.models import Upload
from tests.conftest import Bucket
from tests.documents import block
from tests.host.conftest import Install
from tests.shell import commands

pytestmark = pytest.mark.django_db(transaction=True)

IMPORTS = """from django.db import models
from s3direct_uploads.fields import UploadFileField, UploadImageField
"""


def added(diff: str) -> str:
    """The only line that a host adds."""
    [line] = re.findall(r"^\+ *(.*)$", diff, re.MULTILINE)
    assert isinstance(line, str)
    return line


def migrated(field: Any) -> tuple[Any, ...]:
    """What a migration writes of this field."""
    _, path, arguments, options = field.deconstruct()
    return path, arguments, options


def run(code: str) -> None:
    """The commands of this block that adopt; the tables are there already."""
    for words in commands(code):
        name, *arguments = words[2:]
        if name == "adopt_files":
            call_command(name, *arguments)


def test_from_filefield_it_is_one_line_without_a_migration() -> None:
    diff = block(
        "docs/fields.md",
        '-    image = models.ImageField(upload_to="photos/", max_length=150)',
        "diff",
    )
    names: dict[str, Any] = {}
    [removed] = re.findall(r"^- *(.*)$", diff, re.MULTILINE)
    exec(f"{IMPORTS}{removed.replace('image', 'before', 1)}\n{added(diff)}", names)
    names["before"].set_attributes_from_name("image")
    names["image"].set_attributes_from_name("image")
    assert migrated(names["image"]) == migrated(names["before"])


def test_from_django_s3_file_field(install: Install, s3: Bucket) -> None:
    diff = block("docs/moving.md", "-    file = S3FileField()", "diff")
    model = "from archive.uploads import upload_to\n\n\nclass Document(models.Model):\n    "
    document = install(
        "archive",
        block("docs/moving.md", "# archive/uploads.py"),
        f"# archive/models.py\n{IMPORTS}{model}{added(diff)}",
    ).Document
    key = "site/0b7f5f0e-9a0e-4f4e-8f43-2f7c9d1f8a60/Träume 1.pdf"
    s3.client.put_object(Bucket=s3.name, Key=key, Body=b"%PDF", ContentType="application/pdf")
    row = document.objects.create(file=key.removeprefix("site/"))
    # As S3FileField has it: the column does not change.
    assert document._meta.get_field("file").max_length == 2000
    assert migrated(document._meta.get_field("file"))[0] == "django.db.models.FileField"

    run(block("docs/moving.md", "python manage.py makemigrations archive", "sh"))

    upload = Upload.objects.get()
    assert (upload.key, upload.status, upload.attached_to) == (
        key,
        "completed",
        "archive.Document.file",
    )
    with row.file.open() as file:
        assert file.read() == b"%PDF"


def test_from_django_s3direct(
    install: Install, s3: Bucket, settings: Any, storage_options: Any
) -> None:
    storage_options(location="")
    settings.S3DIRECT_UPLOADS = {
        "DESTINATIONS": {"videos": {"MAX_SIZE": 1024**3, "CONTENT_TYPES": ["*/*"]}}
    }
    diff = block("docs/moving.md", '     video = S3DirectField(dest="videos")', "diff")
    # S3DirectField is a text field: get_internal_type() says "TextField".
    film = install(
        "cinema",
        f"# cinema/models.py\n{IMPORTS}\n\nclass Film(models.Model):\n"
        f"    video = models.TextField(blank=True)\n    {added(diff)}",
    ).Film
    assert isinstance(film._meta.get_field("video"), fields.TextField)
    key = "uploads/beach photo+1 Ä.mp4"
    s3.client.put_object(Bucket=s3.name, Key=key, Body=b"film", ContentType="video/mp4")
    url = f"https://s3.eu-west-1.amazonaws.com/{s3.name}/uploads/beach%20photo%2B1%20%C3%84.mp4"
    full, empty = film.objects.create(video=url), film.objects.create()
    migration: dict[str, Any] = {}
    exec(block("docs/moving.md", "# cinema/migrations/0003_names.py"), migration)
    assert migration["name_of"]("https://s3.example.com/media/a/b.mp4") == "a/b.mp4"
    migration["BUCKET"] = s3.name
    [operation] = migration["Migration"].operations
    assert isinstance(operation, RunPython)

    operation.code(cast(Any, apps), cast(Any, None))
    run(block("docs/moving.md", "python manage.py migrate cinema", "sh"))

    full.refresh_from_db()
    empty.refresh_from_db()
    assert (full.video_file.name, empty.video_file.name) == (key, "")
    with full.video_file.open() as file:
        assert file.read() == b"film"
    upload = Upload.objects.get()
    assert (upload.key, upload.attached_to) == (key, "cinema.Film.video_file")
