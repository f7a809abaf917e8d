"""A host's Celery whose scan is the very code that docs/scanning.md shows."""

from __future__ import annotations

import functools
import os
import uuid
from typing import Any

import django
from celery import Celery
from django.conf import settings

from s3direct_uploads import signals
from tests.documents import block

_RECIPE = block("docs/scanning.md", '# scanning.py in your app, here "documents"')
CLAMD_CONF = block("docs/scanning.md", "StreamMaxLength 100M", "text")

QUEUE = os.environ.get("SCAN_QUEUE") or f"scan-{uuid.uuid4().hex}"  # of one run of the tests

app = Celery("scanning", broker=os.environ["REDIS_URL"])
app.conf.task_default_queue = QUEUE


@functools.cache
def load() -> dict[str, Any]:
    """Run the code of the page, once. Returns its names; its receiver is not connected any more."""
    app.set_current()
    app.set_default()
    names: dict[str, Any] = {"__name__": "scanning"}
    exec(_RECIPE, names)
    assert signals.upload_held.disconnect(names["start_scan"])
    return names


if "SCAN_QUEUE" in os.environ:  # in the worker
    django.setup()
    settings.CLAMD = ("127.0.0.1", int(os.environ["CLAMD_PORT"]))
    load()
