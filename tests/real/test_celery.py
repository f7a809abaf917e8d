"""The sweep as a Celery task: real workers, beat, Redis, Ceph and PostgreSQL; and SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.utils import timezone

from s3direct_uploads.lifecycle import sweeping
from s3direct_uploads.models import Upload
from tests.conftest import HOUR, App, Bucket, age, row
from tests.real.settings import environment
from tests.real.site import ROOT
from tests.real.test_faults import ToS3
from tests.real.waiting import wait_until

pytestmark = [pytest.mark.celery, pytest.mark.django_db(transaction=True)]


class Celery:
    """A host's workers and its beat, on a queue of their own; a wire leads them to S3."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.queue = f"sweep-{uuid.uuid4().hex}"
        self.s3 = ToS3(settings.STORAGES["default"]["OPTIONS"]["endpoint_url"])
        self.env = {**environment(endpoint_url=self.s3.url), "QUEUE": self.queue}
        self.processes: list[subprocess.Popen[bytes]] = []

    def run(self, *arguments: str) -> subprocess.Popen[bytes]:
        name = f"{arguments[0]}-{len(self.processes)}"
        with (self.folder / name).open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "tests.real.celery_app", *arguments],
                cwd=ROOT,
                env=self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def worker(self) -> subprocess.Popen[bytes]:
        return self.run("worker", "--concurrency=1", "--loglevel=INFO")

    def beat(self) -> subprocess.Popen[bytes]:
        return self.run("beat", f"--schedule={self.folder / 'schedule'}", "--pidfile=")

    def log(self) -> str:
        return "\n".join(file.read_text() for file in sorted(self.folder.glob("*-*")))

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """It and its children, as a machine that fails does."""
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()

    def kill_child(self, worker: subprocess.Popen[bytes]) -> None:
        """The one that runs the tasks, as the kernel does where memory is short."""
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        assert len(children) == 1
        os.kill(int(children[0]), signal.SIGKILL)

    def stop(self) -> None:
        for process in self.processes:
            self.kill(process)
        self.s3.server.shutdown()
        self.s3.server.server_close()
        with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
            client.delete(self.queue)

    def until(self, what: Callable[[], Any]) -> None:
        wait_until(what, state=self.log)


@pytest.fixture
def celery(tmp_path: Path, s3: Bucket) -> Iterator[Celery]:
    celery = Celery(tmp_path)
    yield celery
    celery.stop()


def lost(app: App) -> Upload:
    """Sent, and its confirm never came; it has been due for an hour."""
    begun = app.begin()
    assert app.send(begun.json()["request"]) == 200
    upload = row(begun)
    age(3 * HOUR, pk=upload.pk)
    return upload


def is_completed(upload: Upload) -> bool:
    upload.refresh_from_db()
    return upload.status == "completed" and upload.announced_at is not None


def test_beat_has_a_lost_confirm_completed(alice: App, celery: Celery) -> None:
    upload = lost(alice)
    celery.worker()
    celery.beat()
    celery.until(lambda: is_completed(upload))
    assert upload.due_at is None
    celery.until(lambda: "'completed': 1" in celery.log())  # the worker says it afterwards
    assert alice.confirm(str(upload.pk)).json()["status"] == "completed"
    # And again, every second.
    celery.until(lambda: celery.log().count("s3direct_uploads.sweep") > 5)
    assert "Traceback" not in celery.log()


def test_what_a_killed_worker_had_claimed_the_next_one_completes(
    alice: App, celery: Celery
) -> None:
    upload = lost(alice)
    held = celery.s3.hold("HEAD", upload.key)
    first = celery.worker()
    celery.beat()
    celery.until(held.held.is_set)
    celery.kill(first)
    held.released.set()
    upload.refresh_from_db()
    assert upload.status == "pending"
    assert upload.due_at is not None
    assert upload.due_at > timezone.now() + sweeping.LEASE / 2  # it is the dead one's
    # Another sweep leaves it alone, while what is due besides does not wait.
    another = lost(alice)
    celery.worker()
    celery.until(lambda: is_completed(another))
    upload.refresh_from_db()
    assert upload.status == "pending"
    age(sweeping.LEASE + timedelta(seconds=2), pk=upload.pk)
    celery.until(lambda: is_completed(upload))
    assert alice.confirm(str(upload.pk)).json()["status"] == "completed"


def test_a_task_whose_process_was_killed_is_run_again(alice: App, celery: Celery) -> None:
    """At once, by the same worker: what was not claimed yet does not wait for the next beat."""
    upload = lost(alice)
    held = celery.s3.hold("HEAD", upload.key)
    worker = celery.worker()
    subprocess.run(
        [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "tests.real.celery_app",
            "call",
            "s3direct_uploads.sweep",
        ],
        cwd=ROOT,
        env=celery.env,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    celery.until(held.held.is_set)
    another = lost(alice)
    celery.kill_child(worker)
    held.released.set()
    celery.until(lambda: is_completed(another))
    upload.refresh_from_db()
    assert upload.status == "pending"
