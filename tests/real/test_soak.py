"""The soak: thousands of uploads, while whoever takes part is killed and S3 has a bad day.

SOAK_SEED repeats a run, as far as chance has a say in it: what clients do, not who is faster.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Q

from s3direct_uploads import lifecycle, signals
from s3direct_uploads.models import Upload, Usage
from tests.conftest import App, Bucket, age
from tests.real.site import ROOT, Exchange, Fault
from tests.real.soak import PART_SIZE, body_of
from tests.real.soak.apps import note
from tests.real.test_faults import ToS3
from tests.settings import free_port

pytestmark = [pytest.mark.soak, pytest.mark.django_db(transaction=True)]

UPLOADS = int(os.environ.get("SOAK_UPLOADS", "2000"))
CLIENTS, SERVERS, WORKERS = 16, 3, 2
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
# Seconds. An upload's whole life fits into the storm, but for parts, which have 80 s to arrive.
URL_EXPIRES, SWEEP_GRACE = 15, 5
LIMITS = {"MAX_PENDING": 10**6, "MAX_TOTAL_SIZE": 10**12}  # never reached, but counted
RULES: dict[str, Any] = {
    "DESTINATIONS": {
        "photos": {"MAX_SIZE": 1024**2, "CONTENT_TYPES": ["image/*"], **LIMITS},
        "documents": {"MAX_SIZE": 1024**2, "CONTENT_TYPES": ["*/*"]},
        "films": {
            "MAX_SIZE": 1024**3,
            "CONTENT_TYPES": ["*/*"],
            "PART_SIZE": PART_SIZE,
            **LIMITS,
        },
    },
    "URL_EXPIRES": URL_EXPIRES,
    "SWEEP_GRACE": SWEEP_GRACE,
    "PENDING_EXPIRES": 30,
    "MULTIPART_EXPIRES": 40,
}
FAULTS = ("reset", "cut", "lose the answer", "delay", "delay", "500", "503")  # as often as here
TOMBSTONES = ("rejected", "expired", "cancelled", "deleted")


class Weather(ToS3):
    """A wire to S3 on which every sixth request goes wrong."""

    def __init__(self, target: str, chance: random.Random) -> None:
        super().__init__(target)
        self.chance = chance
        self.faults_seen: Counter[str] = Counter()
        self.passed = 0
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a kill

    def _fault_of(self, exchange: Exchange) -> Fault | None:
        with self.lock:
            self.passed += 1
            if self.chance.random() > 1 / 6:
                return None
            kind = self.chance.choice(FAULTS)
            seconds = self.chance.choice([0.1, 0.3, 1, 4])  # the last: S3 is not waited for
            self.faults_seen[kind] += 1
        if kind.isdigit():
            return Fault(exchange.method, "", "refuse", status=int(kind))
        return Fault(exchange.method, "", kind, patience=seconds)


@dataclass
class Process:
    """One that takes part, and is started again where it was killed."""

    kind: str
    command: Callable[[], list[str]]
    env: dict[str, str]
    log: Path
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.running = subprocess.Popen(
                self.command(), cwd=ROOT, env=self.env, stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def pid(self) -> int:
        assert self.running
        return self.running.pid

    @property
    def ended(self) -> int | None:
        """Its exit code, negative if it was killed; None while it runs."""
        assert self.running
        return self.running.poll()

    def kill(self) -> None:
        assert self.running
        self.running.send_signal(signal.SIGKILL)
        self.running.wait()


@dataclass
class Announcement:
    pid: int
    start: float
    end: float | None = None


@dataclass
class Cast:
    """All processes; who was killed, and when, by the monotonic clock."""

    processes: list[Process]
    chance: random.Random
    deaths: dict[int, float] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)

    def kill_one(self, *kinds: str) -> None:
        kind = self.chance.choice(kinds)
        alive = [each for each in self.processes if each.kind == kind and each.ended is None]
        if alive:
            self.kill(self.chance.choice(alive))

    def kill(self, process: Process) -> None:
        process.kill()
        self.deaths[process.pid] = time.monotonic()
        self.kills[process.kind] += 1

    def revive(self, *kinds: str) -> None:
        """Start again who was killed, by us or by its own handler."""
        for process in self.processes:
            if process.kind in kinds and process.ended:
                self.notice(process)
                process.start()

    def notice(self, process: Process) -> None:
        if process.pid not in self.deaths:
            assert process.ended == -signal.SIGKILL, process.log.read_text()
            self.deaths[process.pid] = time.monotonic()
            self.kills[f"{process.kind}, by its handler"] += 1

    def end(self) -> None:
        for process in self.processes:
            if process.running and process.ended is None:
                self.kill(process)
            elif process.running and process.ended:
                self.notice(process)


class Soak:
    """The site of a run, its cast, and what its files say of them."""

    def __init__(self, seed: str, folder: Path, s3: Bucket, users: list[App]) -> None:
        self.seed, self.folder, self.s3 = seed, folder, s3
        self.chance = random.Random(seed)
        self.announcements_log = folder / "announcements"
        storage = settings.STORAGES["default"]
        self.wire = Weather(storage["OPTIONS"]["endpoint_url"], random.Random(f"{seed} weather"))
        ends = {"endpoint_url": self.wire.url, "public_endpoint_url": os.environ["S3_ENDPOINT_URL"]}
        theirs = {**storage, "OPTIONS": {**storage["OPTIONS"], **ends}}
        self.given = {
            "seed": seed,
            "database": connection.settings_dict["NAME"],
            "storages": {**settings.STORAGES, "default": theirs},
            "uploads": settings.S3DIRECT_UPLOADS,
            "announcements": str(self.announcements_log),
        }
        self.ports = [free_port() for _ in range(SERVERS)]
        self.cast = Cast(
            [
                *(self.server(port) for port in self.ports),
                *(self.worker(number) for number in range(WORKERS)),
                *(self.client(number, user) for number, user in enumerate(users)),
            ],
            self.chance,
        )

    def server(self, port: int) -> Process:
        return self.django("server", str(port), "runserver", "--noreload", f"127.0.0.1:{port}")

    def worker(self, number: int) -> Process:
        return self.django("worker", str(number), "sweep_uploads", "--loop", "1")

    def django(self, kind: str, name: str, *command: str) -> Process:
        env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.real.soak.settings",
            "SOAK": json.dumps(self.given),
        }
        whole = [sys.executable, "manage.py", *command]
        return Process(kind, lambda: whole, env, self.folder / f"{kind}-{name}.log")

    def client(self, number: int, user: App) -> Process:
        notes = self.folder / f"client-{number}.notes"

        def command() -> list[str]:
            """From where it was killed."""
            begun = [note.number for note in _notes(notes)]
            next_one = max(begun, default=number - CLIENTS) + CLIENTS
            given = {
                "servers": [f"http://127.0.0.1:{port}" for port in self.ports],
                "session_id": user.client.cookies["sessionid"].value,
                "seed": self.seed,
                "log": str(notes),
                "url_expires": URL_EXPIRES,
                "grace": SWEEP_GRACE,
                "numbers": list(range(next_one, UPLOADS, CLIENTS)),
            }
            return [sys.executable, "-m", "tests.real.soak.client", json.dumps(given)]

        return Process("client", command, dict(os.environ), self.folder / f"client-{number}.log")

    # What happens.

    def storm(self) -> None:
        """All clients do their share, and whoever takes part may be killed at any time."""
        clients = [each for each in self.cast.processes if each.kind == "client"]
        for process in self.cast.processes:
            process.start()
        next_kill = 50
        while any(client.ended != 0 for client in clients):
            time.sleep(0.05)
            self.cast.revive("server", "worker", "client")
            if self.wire.passed > next_kill:
                self.cast.kill_one("server", "worker", "client", "client")
                next_kill += self.chance.randint(20, 80)
        self.cast.end()

    def night(self) -> None:
        """Time passes: workers sweep what was left, and are killed in the midst of it."""
        for by in (16 * MINUTE, 16 * MINUTE, 6 * MINUTE, 25 * HOUR, 25 * HOUR):
            age(by)
            for process in self.cast.processes:
                if process.kind == "worker":
                    process.start()
            until = time.monotonic() + self.chance.uniform(2, 5)
            while time.monotonic() < until:
                time.sleep(0.05)
                self.cast.revive("worker")
            self.cast.end()
            while self.wire.underway:  # no request waits on the wire for a day
                time.sleep(0.05)

    def calm(self) -> Counter[str]:
        """S3 is well again: sweep until nothing is left to do but to prune."""
        swept: Counter[str] = Counter()
        unsettled = Q(status="pending") | Q(status="completed", due_at__isnull=False)
        unclean = Q(status__in=TOMBSTONES, object_deleted_at=None)
        while Upload.objects.filter(unsettled | unclean).exists():
            assert swept["rounds"] < 6, "the sweep comes to no end"
            age(25 * HOUR)
            swept += lifecycle.sweep()
            swept["rounds"] += 1
        return swept

    # What became of it.

    def notes(self) -> Iterator[Note]:
        for number in range(CLIENTS):
            yield from _notes(self.folder / f"client-{number}.notes")

    def announcements(self) -> dict[str, list[Announcement]]:
        """By the upload's id, in order. Who died by its own handler has said so, too."""
        heard: defaultdict[str, list[Announcement]] = defaultdict(list)
        for line in self.announcements_log.read_text().splitlines():
            what, id, pid, when = line.split()
            if what == "start":
                heard[id].append(Announcement(int(pid), float(when)))
            elif what == "dies":
                self.cast.deaths[int(pid)] = float(when)
            else:
                [its] = [each for each in heard[id] if each.pid == int(pid) and each.end is None]
                its.end = float(when)
        return heard

    def excuse(self, announcement: Announcement) -> str:
        """Why there was to be another after it."""
        death = self.cast.deaths.get(announcement.pid)
        if death is not None and announcement.end is None:
            return "killed inside the handlers"
        if death is not None and announcement.end and death - announcement.end < 10:
            return "killed right after them"
        return "none"

    def objects(self) -> dict[str, int]:
        pages = self.s3.client.get_paginator("list_objects_v2").paginate(Bucket=self.s3.name)
        return {each["Key"]: each["Size"] for page in pages for each in page.get("Contents", ())}

    def multiparts(self) -> list[tuple[str, str]]:
        """The key and S3's id of each that is open."""
        pages = self.s3.client.get_paginator("list_multipart_uploads")
        return [
            (each["Key"], each["UploadId"])
            for page in pages.paginate(Bucket=self.s3.name)
            for each in page.get("Uploads", ())
        ]

    def digest_of(self, upload: Upload) -> str:
        return hashlib.sha256(self.s3.read(upload) or b"").hexdigest()

    def close(self) -> None:
        self.cast.end()
        self.wire.server.shutdown()
        self.wire.server.server_close()
        for key in self.objects():
            self.s3.client.delete_object(Bucket=self.s3.name, Key=key)
        for key, id in self.multiparts():
            self.s3.client.abort_multipart_upload(Bucket=self.s3.name, Key=key, UploadId=id)


class Note(NamedTuple):
    """What a client did, and how it was answered."""

    number: int
    id: str | None
    step: str
    status: int


def _notes(path: Path) -> list[Note]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [Note(*json.loads(line)) for line in lines]


@pytest.fixture
def soak(
    tmp_path: Path, s3_client: Any, make_user: Callable[..., User], settings: Any
) -> Iterator[Soak]:
    storage = settings.STORAGES["default"]
    options = {**storage["OPTIONS"], "bucket_name": f"soak-{os.getpid()}"}
    s3_client.create_bucket(Bucket=options["bucket_name"])
    settings.STORAGES = {**settings.STORAGES, "default": {**storage, "OPTIONS": options}}
    settings.S3DIRECT_UPLOADS = RULES
    seed = os.environ.get("SOAK_SEED") or secrets.token_hex(4)
    soak = Soak(seed, tmp_path, Bucket(s3_client), [App(make_user()) for _ in range(CLIENTS)])
    yield soak
    soak.close()


def test_soak(
    soak: Soak, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, Any], None]
) -> None:
    began = time.monotonic()
    soak.storm()
    stormy = time.monotonic() - began
    after_the_storm = Counter(Upload.objects.values_list("status", flat=True))
    soak.night()

    def listen(upload: Upload, **_: Any) -> None:
        for what in ("start", "end"):
            note(soak.announcements_log, what, upload)

    signals.upload_completed.connect(listen)
    soak.calm()
    signals.upload_completed.disconnect(listen)

    uploads = list(Upload.objects.all())
    objects, open_still, heard = soak.objects(), soak.multiparts(), soak.announcements()
    wrong = [
        *wrong_rows(soak, uploads, objects),
        *wrong_announcements(soak, uploads, heard),
        *broken_promises(soak, {str(upload.pk): upload for upload in uploads}),
        *failures(soak),
        *(f"an open multipart upload of {key}" for key, _ in open_still),
    ]
    monkeypatch.setattr("s3direct_uploads.lifecycle.reconciling.OLD_ENOUGH", -HOUR)
    wrong += [f"reconcile finds {stray}" for stray in lifecycle.reconcile()]
    counted = {usage.pk: (usage.pending, usage.total_size) for usage in Usage.objects.all()}
    for destination in ("photos", "films"):
        for usage, changed in lifecycle.recount(destination):
            if changed:
                right = usage.pending, usage.total_size
                wrong.append(f"counted {counted.get(usage.pk)}, not {right}: {usage}")

    age(8 * DAY)
    pruned = lifecycle.sweep()
    wrong += [f"not pruned: {upload}" for upload in Upload.objects.exclude(status="completed")]
    if soak.objects() != objects:
        wrong.append("objects came or went while rows were pruned")

    begun = {note.number for note in soak.notes() if note.step == "begin" and note.id}
    times = Counter(len(each) for each in heard.values())
    unheard = sum(u.status == "deleted" and str(u.pk) not in heard for u in uploads)
    excuses = Counter(soak.excuse(each) for all in heard.values() for each in all[:-1])
    report = [
        f"seed {soak.seed}, {len(begun)} uploads by {CLIENTS} clients",
        f"rows: {counts(Counter(upload.status for upload in uploads))}; {counts(pruned)}",
        f"rows after the storm: {counts(after_the_storm)}",
        f"in parts: {counts(Counter(u.status for u in uploads if u.is_multipart))}",
        f"objects: {len(objects)}, {sum(objects.values())} bytes; "
        f"open multipart uploads: {len(open_still)}",
        f"announced: {counts(Counter({f'{n} times': c for n, c in times.items()}))}; "
        f"{unheard} deleted before",
        f"again because: {counts(excuses)}",
        f"kills: {counts(soak.cast.kills)}",
        f"faults on the wire: {counts(soak.wire.faults_seen)} in {soak.wire.passed} requests",
        f"answers: {counts(Counter(f'{n.step} {n.status}' for n in soak.notes()))}",
        f"seconds: {stormy:.0f} of storm, {time.monotonic() - began:.0f} in all",
    ]
    record_property("soak", report)
    sys.stdout.write("\n".join(report) + "\n")
    assert wrong == [], "\n".join(wrong)
    assert len(begun) == UPLOADS


def counts(counter: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counter.items()))


def wrong_rows(soak: Soak, uploads: list[Upload], objects: dict[str, int]) -> Iterator[str]:
    """A completed row has its object, byte for byte, and an object has a completed row."""
    completed = {upload.key: upload for upload in uploads if upload.status == "completed"}
    for upload in uploads:
        if upload.status not in ("completed", *TOMBSTONES):
            yield f"{upload.pk} is {upload.status} in the end"
    for upload in completed.values():
        if upload.due_at is not None or upload.announced_at is None:
            yield f"{upload.pk} is completed, due at {upload.due_at}, said {upload.announced_at}"
    for key in objects.keys() - completed.keys():
        row = Upload.objects.filter(key=key).first()
        yield f"an object without a completed row: {key}, {row and (row.pk, row.status)}"
    for key in completed.keys() - objects.keys():
        yield f"{completed[key].pk} is completed and has no object"
    there = [upload for key, upload in completed.items() if key in objects]
    with ThreadPoolExecutor(4) as threads:
        for upload, digest in zip(there, threads.map(soak.digest_of, there), strict=True):
            number = int(upload.filename.removesuffix(".jpg"))
            if digest != hashlib.sha256(body_of(soak.seed, number)).hexdigest():
                yield f"{upload.pk} ({upload.filename}) is completed and holds something else"


def wrong_announcements(
    soak: Soak, uploads: list[Upload], heard: dict[str, list[Announcement]]
) -> Iterator[str]:
    """One for each that is completed, and another only for one that a kill cut short."""
    by_id = {str(upload.pk): upload for upload in uploads}
    for id, upload in by_id.items():
        if upload.status == "completed" and not heard.get(id):
            yield f"{id} is completed and was never announced"
    for id, all in heard.items():
        if id not in by_id or by_id[id].status not in ("completed", "deleted"):
            yield f"{id} was announced and is {by_id.get(id)}"
        for earlier in all[:-1]:
            if soak.excuse(earlier) == "none":
                yield f"{id} was announced again without a reason: {all}"


def broken_promises(soak: Soak, by_id: dict[str, Upload]) -> Iterator[str]:
    """What a client was told, and what S3 took of it, is not lost."""
    steps: defaultdict[str, list[Note]] = defaultdict(list)
    for each in soak.notes():
        if each.id:
            steps[each.id].append(each)
        if each.status >= 500:
            yield f"answered by {each.status}: {each}"
    for id, all in steps.items():
        status = by_id[id].status if id in by_id else "gone"
        did = {(each.step, each.status) for each in all}
        names = {each.step for each in all}
        if ("cancel", 204) in did and status not in TOMBSTONES:
            yield f"{id} was cancelled and is {status}: {all}"
        if ("confirm", 200) in did and status not in ("completed", "deleted"):
            yield f"{id} was confirmed and is {status}: {all}"
        sent = did & {("send", 200), ("send", 412)} and not names & {"dress", "try to cancel"}
        if sent and status not in ("completed", "deleted"):
            yield f"{id} was sent and is {status}: {all}"


def failures(soak: Soak) -> Iterator[str]:
    for process in soak.cast.processes:
        said = process.log.read_text()
        for bad in ("Internal Server Error", "could not confirm", "The sweep failed", "X-Amz-"):
            if bad in said:
                yield f"{process.log.name} says {bad!r}: {said[said.index(bad) :][:3000]}"
        handlers = said.count("RuntimeError: a handler that fails")
        if said.count("Traceback") != handlers:
            yield f"{process.log.name} has a traceback: {said[said.index('Traceback') :][:3000]}"
