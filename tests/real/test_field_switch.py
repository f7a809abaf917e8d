"""A model with 1,000 files is switched by one line, adopted, and switched back. No migration."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload
from tests.conftest import HOUR, Bucket, age

pytestmark = [pytest.mark.journey, pytest.mark.django_db(transaction=True)]

ROOT = Path(__file__).parent.parent.parent
MODELS = """
from django.db import models
from s3direct_uploads.fields import UploadFileField


class Scan(models.Model):
    file = {field}(upload_to="scans/"{more})
"""
DJANGOS = MODELS.format(field="models.FileField", more="")
OURS = MODELS.format(field="UploadFileField", more=', destination="documents"')
COUNT = 1000
DELETE_TEN = "from archive.models import Scan; Scan.objects.filter(pk__lte=10).delete()"


class Project:
    """Beside the suite, with its database and its bucket, and one app more."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "archive").mkdir()
        (folder / "archive" / "__init__.py").touch()
        name = settings.STORAGES["default"]["OPTIONS"]["bucket_name"]
        (folder / "archive_settings.py").write_text(
            "from tests.settings import *\n"
            "INSTALLED_APPS = [*INSTALLED_APPS, 'archive']\n"
            f"DATABASES['default']['NAME'] = {connection.settings_dict['NAME']!r}\n"
            f"STORAGES['default']['OPTIONS']['bucket_name'] = {name!r}\n"
        )

    def is_now(self, models: str) -> None:
        (self.folder / "archive" / "models.py").write_text(models)

    def manage(self, *arguments: str) -> str:
        paths = {"PYTHONPATH": str(self.folder), "DJANGO_SETTINGS_MODULE": "archive_settings"}
        command = [sys.executable, "manage.py", *arguments]
        # Not from compiled files: two versions of a source may be of one second.
        environment = {**os.environ, **paths, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()


def test_there_and_back_again(tmp_path: Path, s3: Bucket) -> None:
    names = [f"scans/{number:04}.pdf" for number in range(COUNT)]

    def put(name: str) -> None:
        s3.client.put_object(Bucket=s3.name, Key=f"site/{name}", Body=b"scan")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, names))
    project = Project(tmp_path)
    project.is_now(DJANGOS)
    project.manage("makemigrations", "archive")
    project.manage("migrate", "archive", "--skip-checks")
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO archive_scan (file) VALUES (%s)", [(name,) for name in names]
        )

    try:
        project.is_now(OURS)
        assert project.manage("makemigrations", "--check", "archive").startswith("No changes")
        adopt = ("adopt_files", "archive.Scan.file", "--destination", "documents")
        assert project.manage(*adopt) == f"Adopted: {COUNT} adopted."
        assert project.manage(*adopt) == f"Adopted: {COUNT} known."
        assert Upload.objects.filter(attached_to="archive.Scan.file").count() == COUNT
        project.manage("shell", "--no-imports", "-c", DELETE_TEN)
        assert Upload.objects.filter(status="deleted").count() == 10
        age(3 * HOUR)
        assert lifecycle.sweep() == {"cleaned": 10}
        assert len(left(s3)) == COUNT - 10

        project.is_now(DJANGOS)
        assert project.manage("makemigrations", "--check", "archive").startswith("No changes")
        project.manage("shell", "--no-imports", "-c", DELETE_TEN.replace("10", "20"))
        assert Upload.objects.filter(status="deleted").count() == 10, "Django's releases nothing"
        age(3 * HOUR)
        lifecycle.sweep()
        assert len(left(s3)) == COUNT - 10
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE archive_scan")
            cursor.execute("DELETE FROM django_migrations WHERE app = 'archive'")


def left(s3: Bucket) -> list[str]:
    pages = s3.client.get_paginator("list_objects_v2").paginate(
        Bucket=s3.name, Prefix="site/scans/"
    )
    return [each["Key"] for page in pages for each in page.get("Contents", ())]
