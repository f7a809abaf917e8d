"""The sweep as a Celery task, for hosts that have Celery."""

from __future__ import annotations

from celery import shared_task

from . import lifecycle


# Acknowledged late: where a worker dies in the midst of it, another takes it up.
@shared_task(name="s3direct_uploads.sweep", acks_late=True, reject_on_worker_lost=True)
def sweep_uploads(limit: int | None = None, destination: str = "") -> dict[str, int]:
    """``lifecycle.sweep``; how many of what, {"expired": 3}. It may run beside another."""
    return dict(lifecycle.sweep(limit=limit, destination=destination))
