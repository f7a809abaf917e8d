"""A host's Celery, whose beat has the very schedule that docs/sweep.md shows; only oftener."""

import os

from celery import Celery

from tests.documents import block

app = Celery("tests", broker=os.environ["REDIS_URL"])
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

_settings: dict[str, dict[str, dict[str, object]]] = {}
exec(block("docs/sweep.md", "CELERY_BEAT_SCHEDULE = {"), _settings)
app.conf.beat_schedule = _settings["CELERY_BEAT_SCHEDULE"]
app.conf.task_default_queue = os.environ["QUEUE"]
for _entry in app.conf.beat_schedule.values():
    _entry["schedule"] = 1.0  # seconds
