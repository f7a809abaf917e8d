"""A host's Celery, whose beat has the very schedule that docs/sweep.md shows; only oftener."""

import os
import re

from celery import Celery

from tests.real.site import ROOT

app = Celery("tests", broker=os.environ["REDIS_URL"])
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

_shown = re.search(
    r"```python\n(CELERY_BEAT_SCHEDULE = .*?)```", (ROOT / "docs/sweep.md").read_text(), re.S
)
assert _shown
_settings: dict[str, dict[str, dict[str, object]]] = {}
exec(_shown[1], _settings)
app.conf.beat_schedule = _settings["CELERY_BEAT_SCHEDULE"]
app.conf.task_default_queue = os.environ["QUEUE"]
for _entry in app.conf.beat_schedule.values():
    _entry["schedule"] = 1.0  # seconds
