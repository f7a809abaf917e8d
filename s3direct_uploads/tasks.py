"""The sweep as a task: of Celery, and of Django 6's own ``django.tasks``, whichever is there."""

from __future__ import annotations

from . import lifecycle

try:
    from celery import shared_task
except ImportError:  # a host without Celery
    pass
else:
    # Acknowledged late: if a worker dies during the task, another worker runs it again.
    @shared_task(name="s3direct_uploads.sweep", acks_late=True, reject_on_worker_lost=True)
    def sweep_uploads(limit: int | None = None, destination: str = "") -> dict[str, int]:
        """Call ``lifecycle.sweep``, and return its counts: {"expired": 3}. Several may run."""
        return dict(lifecycle.sweep(limit=limit, destination=destination))


try:
    from django.tasks import task
except ImportError:  # Django 5.2
    pass
else:

    @task()
    def sweep(limit: int | None = None, destination: str = "") -> dict[str, int]:
        """The same for ``sweep.enqueue()``."""
        return dict(lifecycle.sweep(limit=limit, destination=destination))
