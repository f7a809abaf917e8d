"""Uploads that ClamAV scans: its real daemon, in Celery, by the code of docs/scanning.md."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from s3direct_uploads import signals
from s3direct_uploads.models import Upload
from tests.conftest import DAY, HOUR, App, Bucket, Connect, age, row, sweep
from tests.real import scanning
from tests.real.settings import environment
from tests.real.site import ROOT
from tests.real.waiting import wait_until
from tests.settings import free_port

pytestmark = [pytest.mark.celery, pytest.mark.django_db(transaction=True)]

# In two pieces, so that no scanner stops at this file.
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}" + rb"$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
MIB = 1024**2
SECONDS = 60  # until a test gives up


class ClamAV:
    """Its daemon on a loopback port, with one signature of our own: EICAR's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        (folder / "signatures").mkdir()
        (folder / "tmp").mkdir()
        # Its name; of any type of file; at any offset; the bytes.
        signature = f"Eicar-Test:0:*:{EICAR.hex()}\n"
        (folder / "signatures" / "eicar.ndb").write_text(signature)
        (folder / "clamd.conf").write_text(
            f"{scanning.CLAMD_CONF}"
            f"TCPSocket {self.port}\n"
            "TCPAddr 127.0.0.1\n"
            f"DatabaseDirectory {folder}/signatures\n"
            f"TemporaryDirectory {folder}/tmp\n"
            f"LogFile {folder}/clamd.log\n"
            "Foreground yes\n"
        )

    def start(self) -> None:
        with (self.folder / "output").open("w") as output:
            self.process = subprocess.Popen(
                [os.environ["CLAMD"], f"--config-file={self.folder / 'clamd.conf'}"],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_until(self.answers, state=self.log)

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as clamd:
                clamd.sendall(b"zPING\0")
                return clamd.recv(16) == b"PONG\0"
        except ConnectionRefusedError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(SECONDS)
            self.process = None

    def log(self) -> str:
        return (self.folder / "output").read_text()


class Worker:
    """A Celery worker in a process of its own, which scans what comes into its queue."""

    def __init__(self, folder: Path, clamav: ClamAV) -> None:
        self.file = folder / "worker.log"
        self.env = {
            **environment(),
            "SCAN_QUEUE": scanning.QUEUE,
            "CLAMD_PORT": str(clamav.port),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.file.open("w") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    *("-m", "celery", "-A", "tests.real.scanning"),
                    *("worker", "--pool=solo", "--loglevel=INFO"),
                ],
                cwd=ROOT,
                env=self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def log(self) -> str:
        return self.file.read_text()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
            client.delete(scanning.QUEUE)


@pytest.fixture
def clamav(tmp_path: Path) -> Iterator[ClamAV]:
    clamav = ClamAV(tmp_path)
    yield clamav
    clamav.stop()


@pytest.fixture
def worker(
    tmp_path: Path, clamav: ClamAV, s3: Bucket, settings: Any, connect: Connect
) -> Iterator[Worker]:
    """Documents are held; what the page connects hears of it."""
    ours = settings.S3DIRECT_UPLOADS
    documents = {"MAX_SIZE": 100 * MIB, "CONTENT_TYPES": ["*/*"], "HOLD": True}
    known = {**ours["DESTINATIONS"], "documents": documents}
    settings.S3DIRECT_UPLOADS = {**ours, "DESTINATIONS": known}
    worker = Worker(tmp_path, clamav)
    connect(signals.upload_held, scanning.load()["start_scan"])
    yield worker
    worker.stop()


def upload(app: App, name: str, body: bytes) -> Upload:
    """Sent and confirmed, and held."""
    answer = app.upload(body, destination="documents", filename=name, content_type="")
    assert (answer.status_code, answer.json()["status"]) == (202, "verifying")
    return row(answer)


def is_settled(*uploads: Upload) -> bool:
    for each in uploads:
        each.refresh_from_db()
    return all(each.status != "verifying" for each in uploads)


def zipped(body: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("readme.txt", body)
    return archive.getvalue()


def test_what_is_clean_passes_and_eicar_is_rejected(
    alice: App, s3: Bucket, clamav: ClamAV, worker: Worker
) -> None:
    clamav.start()
    worker.start()
    clean = upload(alice, "letter.txt", b"Dear Bob,")
    film = upload(alice, "film.mp4", os.urandom(8 * MIB))
    infected = upload(alice, "eicar.com", EICAR)
    packed = upload(alice, "eicar.zip", zipped(EICAR))
    hidden = upload(alice, "end.bin", bytes(8 * MIB) + EICAR)
    all_of_them = (clean, film, infected, packed, hidden)
    wait_until(lambda: is_settled(*all_of_them), state=worker.log)

    for good in (clean, film):
        assert good.status == "completed"
        assert alice.confirm(str(good.pk)).status_code == 200
        assert alice.get(f"{good.pk}/url/").status_code == 200
        assert good.attach()
    for bad in (infected, packed, hidden):
        assert (bad.status, bad.reason) == ("rejected", "Eicar-Test.UNOFFICIAL was found.")
        answer = alice.confirm(str(bad.pk))
        assert (answer.status_code, answer.json()["code"]) == (422, "object_mismatch")
        assert answer.json()["upload"]["reason"] == "Eicar-Test.UNOFFICIAL was found."
        assert alice.get(f"{bad.pk}/url/").status_code == 409
    assert "Traceback" not in worker.log()

    # To the end: no URL can write them again, so their objects go. What was accepted stays.
    age(3 * HOUR)
    assert sweep() == {"cleaned": 3}
    assert [s3.read(bad) for bad in (infected, packed, hidden)] == [None] * 3
    assert s3.read(clean) == b"Dear Bob,"
    s3.client.delete_object(Bucket=s3.name, Key=film.key)


def test_a_daemon_that_was_down_scans_what_was_held_meanwhile(
    alice: App, clamav: ClamAV, worker: Worker
) -> None:
    worker.start()
    clean = upload(alice, "letter.txt", b"Dear Bob,")
    infected = upload(alice, "eicar.com", EICAR)
    wait_until(lambda: worker.log().count("ConnectionRefusedError") >= 2, state=worker.log)
    assert not is_settled(clean)
    assert alice.confirm(str(clean.pk)).status_code == 202

    # Still down when the sweep asks again: nothing is lost, and nothing is let through.
    age(HOUR / 3)
    assert sweep() == {"reminded": 2}
    wait_until(lambda: worker.log().count("raised unexpected") >= 4, state=worker.log)
    assert not is_settled(clean)
    assert not is_settled(infected)

    clamav.start()
    assert sweep() == {}  # it is not due yet
    age(HOUR)
    assert sweep() == {"reminded": 2}
    wait_until(lambda: is_settled(clean, infected), state=worker.log)
    assert clean.status == "completed"
    assert (infected.status, infected.reason) == ("rejected", "Eicar-Test.UNOFFICIAL was found.")
    wait_until(lambda: sweep() == {}, state=worker.log)


def test_what_a_daemon_never_scanned_ends(alice: App, s3: Bucket, worker: Worker) -> None:
    """Neither a worker nor a daemon: the tasks wait in the queue, until it is too late."""
    held = upload(alice, "letter.txt", b"Dear Bob,")
    age(DAY)
    assert sweep() == {"rejected": 1, "cleaned": 1}
    worker.start()  # It finds both tasks in its queue.
    wait_until(lambda: "succeeded" in worker.log(), state=worker.log)
    held.refresh_from_db()
    assert (held.status, held.reason) == ("rejected", "It was not scanned in time.")
    assert s3.read(held) is None


def test_what_clamav_cannot_scan_as_a_whole_is_not_let_through(
    alice: App, clamav: ClamAV, worker: Worker
) -> None:
    conf = clamav.folder / "clamd.conf"
    conf.write_text(conf.read_text().replace("MaxFileSize 100M", "MaxFileSize 1M"))
    clamav.start()
    worker.start()
    held = upload(alice, "large.bin", bytes(2 * MIB) + EICAR)
    wait_until(lambda: is_settled(held), state=worker.log)
    assert held.status == "rejected"
    assert held.reason.startswith("Heuristics.Limits.Exceeded")
