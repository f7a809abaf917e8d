"""The recipes of docs/recipes.md with a real worker, Redis, Ceph and PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import storages

from tests.conftest import HOUR, App, Bucket, age, row
from tests.host.test_completed import assert_thumbnail, lying_photograph, write_recipes
from tests.real.test_celery import Celery, is_completed

pytestmark = [pytest.mark.celery, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def celery(tmp_path: Path, s3: Bucket, settings: Any) -> Iterator[Celery]:
    """A host's worker that has the recipe's tasks, and its beat."""
    write_recipes(tmp_path)
    photos = {"photos": "gallery.uploads.Photos"}
    settings.S3DIRECT_UPLOADS = {**settings.S3DIRECT_UPLOADS, "DESTINATIONS": photos}
    celery = Celery(tmp_path)
    celery.env["PYTHONPATH"] = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    yield celery
    celery.stop()


def test_a_worker_makes_the_thumbnail_of_what_the_sweep_completed(
    alice: App, s3: Bucket, celery: Celery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its confirm was lost: the hook runs in the worker that sweeps, and queues the other task."""
    monkeypatch.syspath_prepend(tmp_path)
    body = lying_photograph()
    begun = alice.begin(size=len(body))
    assert alice.send(begun.json()["request"], body) == 200
    upload = row(begun)
    age(3 * HOUR, pk=upload.pk)

    celery.run("worker", "--concurrency=1", "--loglevel=INFO", "--include=gallery.tasks")
    celery.beat()
    celery.until(lambda: is_completed(upload))
    name = f"thumbnails/{upload.pk}.webp"
    celery.until(lambda: storages["default"].exists(name))
    assert_thumbnail(upload, s3)
    assert "gallery.tasks.make_thumbnail" in celery.log()
    assert "Traceback" not in celery.log()
