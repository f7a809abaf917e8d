"""What each request costs Django, beside a plain view of REST Framework that does the same work."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection
from django.test import RequestFactory, override_settings
from django.urls import get_resolver
from rest_framework.test import force_authenticate

from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import get_bucket

from .bare import Note
from .goals import guarded
from .profiled import bound_by
from .report import Benchmark, Line, middle

PAIRS = 41
BLOCK = 15  # requests, of a kind, one after the other
PUTS = 5  # in a block of confirms: each of them needs an object
LISTS = 3
URLCONF = "benchmarks.bare"
DECLARED = {"filename": "film.mp4", "content_type": "video/mp4", "size": 5}


def run() -> Benchmark:
    with connection.schema_editor() as schema:
        schema.create_model(Note)
    try:
        with override_settings(DEBUG=False, ROOT_URLCONF=URLCONF, ALLOWED_HOSTS=["localhost"]):
            lines = [
                line
                for row, measure in ((1, begin), (2, confirm), (3, retrieve), (3, listing))
                for line in guarded(row, measure.__name__, measure)
            ]
    finally:
        Upload.objects.all().delete()
        with connection.schema_editor() as schema:
            schema.delete_model(Note)
    return Benchmark(
        "What a request costs Django",
        f"One process, {PAIRS} pairs of blocks, turn about, of {BLOCK} requests ({PUTS} confirms, "
        f"{LISTS} lists). A request is resolved by its URL, authenticated by "
        "`force_authenticate`, answered by the view and rendered; there is no middleware. CPU time "
        "is the process's own, elapsed time includes PostgreSQL and Ceph. The bare views are in "
        "`benchmarks/bare.py`. The two answers of retrieve and list are equal, byte for byte: that "
        "is asserted first. Counted are SQL statements that name the app's tables.",
        lines,
    )


# The four rows.


def begin() -> Iterator[Line]:
    user = get_user_model().objects.get()
    body = {"destination": "films", **DECLARED}
    ours = [posted(user, "/api/uploads/", body)] * BLOCK
    bare = [posted(user, "/bare/notes/", DECLARED)] * BLOCK
    yield from compare(
        1, "begin", "a bare view that inserts a row", lambda: ours, lambda: bare, 1.8
    )
    yield statements("begin", ours[0], 1)


def confirm() -> Iterator[Line]:
    user = get_user_model().objects.get()
    bucket = get_bucket("default")

    def begun() -> list[Upload]:
        uploads = []
        for _ in range(PUTS):
            answer = json.loads(
                posted(user, "/api/uploads/", {"destination": "films", **DECLARED})()
            )
            upload = Upload.objects.get(pk=answer["id"])
            bucket._client.put_object(
                Bucket=bucket.name, Key=upload.key, Body=b"hello", ContentType="video/mp4"
            )
            uploads.append(upload)
        return uploads

    def confirms() -> list[Callable[[], Any]]:
        return [posted(user, f"/api/uploads/{each.pk}/confirm/", {}) for each in begun()]

    key = begun()[0].key

    def head() -> Any:
        return bucket._client.head_object(Bucket=bucket.name, Key=key, ChecksumMode="ENABLED")

    yield from compare(2, "confirm", "boto3's `head_object`", confirms, lambda: [head] * PUTS, 2.0)
    yield statements("confirm", confirms()[0], 2)


def retrieve() -> Iterator[Line]:
    user = get_user_model().objects.get()
    upload = Upload.objects.newest_first()[0]
    ours = [got(user, f"/api/uploads/{upload.pk}/")] * BLOCK
    bare = [got(user, f"/bare/uploads/{upload.pk}/")] * BLOCK
    assert ours[0]() == bare[0]()
    yield from compare(3, "retrieve", "a bare view", lambda: ours, lambda: bare, 1.5)
    yield statements("retrieve", ours[0], 1)


def listing() -> Iterator[Line]:
    user = get_user_model().objects.get()
    ours = [got(user, "/api/uploads/")] * LISTS
    bare = [got(user, "/bare/uploads/")] * LISTS
    ours_said, bare_said = json.loads(ours[0]()), json.loads(bare[0]())
    assert ours_said["results"] == bare_said["results"]
    assert len(ours_said["results"]) == 50
    yield from compare(3, "list of 50", "a bare view", lambda: ours, lambda: bare, 1.5)
    yield statements("list of 50", ours[0], 1)


# Requests.


def posted(user: Any, path: str, body: Any) -> Callable[[], bytes]:
    text = json.dumps(body)
    return answered(
        user,
        lambda: RequestFactory(headers={"host": "localhost"}).post(
            path, text, content_type="application/json"
        ),
    )


def got(user: Any, path: str) -> Callable[[], bytes]:
    return answered(user, lambda: RequestFactory(headers={"host": "localhost"}).get(path))


def answered(user: Any, make: Callable[[], Any]) -> Callable[[], bytes]:
    resolver = get_resolver(URLCONF)

    def answer() -> bytes:
        request = make()
        force_authenticate(request, user)
        view, args, kwargs = resolver.resolve(request.path_info)
        response = view(request, *args, **kwargs)
        if not response.is_rendered:
            response.render()
        content: bytes = response.content
        assert response.status_code in (200, 201), content
        return content

    return answer


# What they cost.


Calls = Callable[[], Sequence[Callable[[], Any]]]


def compare(
    row: int, what: str, with_what: str, ours: Calls, theirs: Calls, goal: float
) -> Iterator[Line]:
    cost(ours()), cost(theirs())  # the first ones make caches
    pairs = []
    for number in range(PAIRS):
        each = [ours(), theirs()]
        costs = [cost(calls) for calls in (each if number % 2 else reversed(each))]
        pairs.append(tuple(costs if number % 2 else reversed(costs)))
    cpu = [mine[0] / other[0] for mine, other in pairs]
    elapsed = [mine[1] / other[1] for mine, other in pairs]
    mine = statistics.median(mine[0] for mine, _ in pairs) * 1000
    other = statistics.median(other[0] for _, other in pairs) * 1000
    met = statistics.median(cpu) <= goal
    yield Line(
        f"{what}: CPU time ÷ that of {with_what}",
        f"{middle(cpu)}, {PAIRS} pairs; {mine:.2f} and {other:.2f} ms",
        f"≤ {goal}",
        met,
        row,
        with_what,
        "" if met else bound_by(partial(cost, ours())),
    )
    yield Line(f"{what}: elapsed time ÷ that of {with_what}", middle(elapsed))


def cost(calls: Sequence[Callable[[], Any]]) -> tuple[float, float]:
    """CPU seconds and elapsed seconds of a call, on average."""
    start, cpu = time.perf_counter(), time.process_time()
    for call in calls:
        call()
    cpu, elapsed = time.process_time() - cpu, time.perf_counter() - start
    return cpu / len(calls), elapsed / len(calls)


def statements(what: str, call: Callable[[], Any], goal: int) -> Line:
    with counting() as said:
        call()
    return Line(f"{what}: SQL statements", str(len(said)), f"≤ {goal}", len(said) <= goal)


@contextmanager
def counting() -> Iterator[list[str]]:
    said: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "s3direct_uploads" in sql:
            said.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield said
