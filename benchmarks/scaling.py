"""What a million uploads cost: how often who is asked, and how long they compute."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import redis
import requests
from botocore.httpsession import URLLib3Session
from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import DateTimeField, F
from django.test import Client

from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import get_bucket
from tests.real.test_scale import BLOCK, FILL, PATTERN
from tests.settings import free_port

from .report import MIB, Benchmark, Line, say
from .served import BenchSite, as_json, memory_of

URL = "/api/uploads/"
SINGLE, MULTIPART, PART = 1000, 20, 16 * MIB
ROWS = 200_000  # to see how large a million are
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Asked:
    """What was asked of PostgreSQL and of S3 meanwhile, and how long this process computed."""

    sql: Counter[str] = field(default_factory=Counter)
    s3: Counter[str] = field(default_factory=Counter)
    cpu: float = 0.0
    seconds: float = 0.0

    @property
    def ours(self) -> int:
        return self.sql.total() - self.sql["the host's"]

    def __str__(self) -> str:
        by_s3 = ", ".join(f"{count:,} {name}" for name, count in self.s3.items()) or "none"
        return f"{self.ours:,} queries; S3: {by_s3}"


@contextmanager
def asking() -> Iterator[Asked]:
    asked = Asked()

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        ours = "s3direct_uploads" in sql
        asked.sql[sql.split()[0] if ours else "the host's"] += 1
        return execute(sql, params, many, context)

    def send(self: Any, request: Any) -> Any:
        names[0] += 1
        return sent(self, request)

    names, sent = [0], URLLib3Session.send
    bucket = get_bucket("default")

    def count(event_name: str, **_: Any) -> None:
        asked.s3[event_name.rpartition(".")[2]] += 1

    clients = [bucket._client, bucket._creator, bucket._completer]
    for client in clients:
        client.meta.events.register("before-send.s3", count, unique_id="asking")
    start, cpu = time.monotonic(), time.process_time()
    with connection.execute_wrapper(note), patch.object(URLLib3Session, "send", send):
        yield asked
    asked.seconds, asked.cpu = time.monotonic() - start, time.process_time() - cpu
    for client in clients:
        client.meta.events.unregister("before-send.s3", unique_id="asking")
    # A try that was handed to boto3 counts there again, and would here be none of an upload's.
    assert names[0] == asked.s3.total(), (names, asked.s3)


def run(site: BenchSite, folder: Path) -> Benchmark:
    lines = [*count_requests(), *serve(site, folder), *keep(site), *queue()]
    for line in lines:
        say(f"scaling: {line.what}: {line.measured}")
    return Benchmark(
        "What uploads cost a server",
        "Counted are SQL statements that name the app's tables (those for session and user are the "
        "host's, whatever it asks for) and requests to S3 that left the process. CPU time of "
        f"requests is that of one gunicorn worker (sync, DEBUG off), over {SINGLE:,} uploads of 5 bytes in one PUT, "
        f"and {MULTIPART} of {PART / MIB:.0f} MiB and a byte in two parts, one after the other. Rows are those of "
        f"`tests/real/test_scale.py`, {ROWS:,} of them; a sweep's time is per block of {BLOCK:,} rows, in one process "
        "beside PostgreSQL and Ceph on the same machine.",
        lines,
    )


def declared(size: int = 5, **more: Any) -> dict[str, Any]:
    return {
        "destination": "films",
        "filename": "film.mp4",
        "content_type": "video/mp4",
        "size": size,
        **more,
    }


def age(by: timedelta) -> None:
    times = [each.name for each in Upload._meta.fields if isinstance(each, DateTimeField)]
    Upload.objects.update(**{name: F(name) - by for name in times})


def put(request: dict[str, Any], body: bytes) -> None:
    answer = requests.put(request["url"], data=body, headers=request["headers"], timeout=60)
    assert answer.status_code == 200, answer.text


def count_requests() -> Iterator[Line]:
    client = Client(headers={"host": "localhost"})
    client.force_login(get_user_model().objects.get())

    def call(path: str = "", **body: Any) -> tuple[Any, Asked]:
        with asking() as asked:
            answer = client.post(f"{URL}{path}", body, content_type="application/json")
        assert answer.status_code in (200, 201), answer.content
        return answer.json(), asked

    call(**declared())  # a process's first is nobody's
    begun, asked = call(**declared())
    yield Line("begin, one PUT", str(asked))
    put(begun["request"], b"hello")
    yield Line("confirm, one PUT", str(call(f"{begun['id']}/confirm/")[1]))
    begun, asked = call(**declared(PART + 1, multipart=True))
    yield Line("begin, in parts", str(asked))
    for part, body in zip(begun["multipart"]["parts"], (bytes(PART), b"!"), strict=True):
        put(part, body)
    yield Line("confirm, in parts", str(call(f"{begun['id']}/confirm/")[1]))
    begun, _ = call(**declared())
    put(begun["request"], b"hello")
    with asking() as asked:
        lifecycle.confirm(Upload.objects.get(pk=begun["id"]), cause="event")
    yield Line("confirm by an event, once its row is found", str(asked))
    Upload.objects.all().delete()
    # A thousand, of which nobody confirmed any: half of them were sent.
    for number in range(BLOCK):
        begun, _ = call(**declared())
        if number % 2:
            put(begun["request"], b"hello")
    age(timedelta(hours=3))
    yield from swept(
        "lost confirms, and as many to wait for", {"completed": BLOCK // 2, "waiting": BLOCK // 2}
    )
    Upload.objects.all().delete()


def swept(what: str, expected: dict[str, int]) -> Iterator[Line]:
    with asking() as asked:
        assert +lifecycle.sweep(limit=BLOCK) == expected
    yield Line(
        f"a sweep of {BLOCK:,}: {what}",
        f"{asked}; {asked.cpu:.2f} s of CPU time, {BLOCK / asked.seconds:,.0f} a second",
    )


def serve(site: BenchSite, folder: Path) -> Iterator[Line]:
    client = Client()
    client.force_login(get_user_model().objects.get())
    token = "a" * 32
    session = requests.Session()
    session.cookies.update({"sessionid": client.cookies["sessionid"].value, "csrftoken": token})
    session.headers.update({"X-CSRFToken": token})
    port = free_port()
    secret = {"SECRET_KEY": "insecure-and-only-for-development"}
    with (folder / "gunicorn").open("w") as log:
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gunicorn",
                f"--bind=127.0.0.1:{port}",
                "--timeout=240",
                "example_project.wsgi",
            ],
            env={**site.env, **secret, "DEBUG": "0", "ALLOWED_HOSTS": "127.0.0.1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}{URL}"
        for _ in range(200):
            try:
                requests.get(url, timeout=30)
                break
            except requests.ConnectionError:
                time.sleep(0.1)
        [worker] = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()

        def timed(calls: Callable[[], list[Any]], count: int) -> tuple[list[Any], str]:
            before = cpu_of(worker)
            answers = calls()
            return answers, f"{(cpu_of(worker) - before) / count * 1000:.1f} s"

        def begin(count: int, **body: Any) -> list[Any]:
            return [as_json(session.post(url, json=declared(**body))) for _ in range(count)]

        def confirm(ids: list[str]) -> list[Any]:
            return [as_json(session.post(f"{url}{id}/confirm/", json={})) for id in ids]

        def sent(begun: list[Any]) -> list[str]:
            for each in begun:
                in_parts = each["multipart"] and each["multipart"]["parts"]
                for request in in_parts or [each["request"]]:
                    put(request, bytes(request.get("size", 5)))
            return [each["id"] for each in begun]

        for what, count, body in (
            ("one PUT", SINGLE, {}),
            ("in two parts", MULTIPART, {"size": PART + 1, "multipart": True}),
        ):
            confirm(sent(begin(1, **body)))  # a process's first is nobody's
            begun, cpu = timed(partial(begin, count, **body), count)
            yield Line(f"CPU time of 1,000 begins, {what}", cpu)
            ids = sent(begun)
            yield Line(
                f"CPU time of 1,000 confirms, {what}", timed(partial(confirm, ids), count)[1]
            )
        yield Line("memory of a worker", f"{memory_of(int(worker)) / MIB:.0f} MiB")
    finally:
        server.terminate()
        server.wait()
    Upload.objects.all().delete()
    site.empty_all()


def cpu_of(pid: str) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def keep(site: BenchSite) -> Iterator[Line]:
    table = "s3direct_uploads_upload"
    run = site.database.execute
    run(f"TRUNCATE {table} CASCADE")
    values = {
        "owner": 1,
        "bucket": site.bucket,
        "size": 5,
        "rows": ROWS,
        "block": BLOCK,
        "pattern": PATTERN,
        "owners": 1000,
    }
    run("SET session_replication_role = replica")
    run(FILL, values)
    run("SET session_replication_role = DEFAULT")
    run(f"VACUUM ANALYZE {table}")
    [(rows, indexes)] = run(
        f"SELECT pg_table_size('{table}'), pg_indexes_size('{table}')"
    ).fetchall()
    yield Line(
        "rows on disk", f"{rows / ROWS:.0f} bytes each, and {indexes / ROWS:.0f} in its indexes"
    )
    yield from swept("never sent, past their deadline", {"expired": BLOCK})
    yield from swept("tombstones, their objects deleted", {"cleaned": BLOCK})
    seconds, cpu, queries, times = [], [], [], 40
    for _ in range(times):
        with asking() as asked:
            assert +lifecycle.sweep(limit=BLOCK) == {"pruned": BLOCK}
        seconds.append(asked.seconds)
        cpu.append(asked.cpu)
        queries.append(asked.ours)
    yield Line(
        f"a sweep of {BLOCK:,}: tombstones, pruned",
        f"{median(queries):.0f} queries; S3: none; {median(cpu):.3f} s of CPU time, {BLOCK / median(seconds):,.0f} a second",
    )
    run(f"TRUNCATE {table} CASCADE")


def queue() -> Iterator[Line]:
    """Of a task that waits: what Redis holds of it."""
    from celery import Celery

    from s3direct_uploads.tasks import sweep_uploads

    app = Celery(broker=os.environ["REDIS_URL"])
    app.conf.task_default_queue = name = f"bench-{os.getpid()}"
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        for _ in range(288):  # a day's, every five minutes
            app.send_task(sweep_uploads.name, expires=300)
        size = client.memory_usage(name, samples=0)
        client.delete(name)
    app.close()
    assert isinstance(size, int), json.dumps(str(size))
    yield Line("Redis: a day's tasks, if none were run", f"{size / 1024:.0f} KiB")
