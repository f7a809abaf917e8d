"""The sweep as a Celery task, for hosts that have Celery."""

from __future__ import annotations

from celery import shared_task

from . import lifecycle


# Acknowledged late: if a worker dies during the task, another worker runs it again.
@shared_task(name="s3direct_uploads.sweep", acks_late=True, reject_on_worker_lost=True)
def sweep_uploads(limit: int | None = None, destination: str = "") -> dict[str, int]:
    """Call ``lifecycle.sweep``, and return its counts: {"expired": 3}. Several may run at once."""
    return dict(lifecycle.sweep(limit=limit, destination=destination))
