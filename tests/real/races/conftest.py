"""The cast of the races: many at once, on PostgreSQL and Ceph.

In the end the row, the bucket and every answer say the same. A race of two is run in rounds. In the
first and the last round one of the two ends before the other begins. In the rounds between they
begin almost at the same time, so that either can win.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import cache
from math import inf
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connections

from s3direct_uploads import signals
from s3direct_uploads.models import Upload
from tests.conftest import App, Connect

PHOTOS = "/api/photos/"
GRACE = timedelta(hours=1)  # SWEEP_GRACE: a key closes that much after its last URL ends
Call = Callable[[], Any]
# How much sooner the first of two begins than the second, in seconds; inf: it has ended by then.
LEADS = (-inf, *(n / 1000 for n in (-12, -8, -4, -2, -1, 0, 0, 1, 2, 4, 8, 12)), inf)


@cache
def threads(number: int) -> ThreadPoolExecutor:
    """They are kept: django-storages makes a client for each, which takes longer than a race."""
    return ThreadPoolExecutor(number)


def at_once(calls: Sequence[Call], delays: Sequence[float] = ()) -> list[Any]:
    """What each call returns. Each has its own thread and its own database connection."""
    barrier = threading.Barrier(len(calls), timeout=30)

    def run(number: int) -> Any:
        try:
            barrier.wait()
            if delays:
                time.sleep(delays[number])
            return calls[number]()
        finally:
            connections.close_all()

    return list(threads(len(calls)).map(run, range(len(calls))))


def two_at_once(one: Call, two: Call, lead: float) -> tuple[Any, Any]:
    if lead == inf:
        return one(), two()
    if lead == -inf:
        second = two()
        return one(), second
    first, second = at_once([one, two], [max(0.0, -lead), max(0.0, lead)])
    return first, second


@pytest.fixture
def crowd(alice: App) -> Callable[[int], list[App]]:
    """Alice with many clients, because a client may be used by one thread only."""

    def crowd(size: int) -> list[App]:
        apps = [App(None) for _ in range(size)]
        for app in apps:
            app.client.cookies.load(alice.client.cookies.output(header=""))
        return apps

    return crowd


@pytest.fixture
def heard(connect: Connect) -> Counter[tuple[str, Any]]:
    """How often each signal was sent, by its name and the upload's id."""
    counter: Counter[tuple[str, Any]] = Counter()
    lock = threading.Lock()
    for name in ("completed", "rejected", "expired", "cancelled"):

        def listen(upload: Upload, name: str = name, **_: Any) -> None:
            with lock:
                counter[name, upload.pk] += 1

        connect(getattr(signals, f"upload_{name}"), listen)
    return counter


def sent(app: App) -> str:
    """The id of an upload that is begun and sent, but not confirmed."""
    begun = app.begin().json()
    assert app.send(begun["request"]) == 200
    id: str = begun["id"]
    return id


def change(id: str, **columns: Any) -> None:
    Upload.objects.filter(pk=id).update(**columns)


def codes(answers: Sequence[Any]) -> list[int]:
    return [answer.status_code for answer in answers]


def url_end(answer: Any) -> datetime:
    return url_end_of(answer.json()["request"]["url"])


def url_end_of(url: str) -> datetime:
    query = parse_qs(urlsplit(url).query)
    signed_at = datetime.strptime(query["X-Amz-Date"][0] + "+0000", "%Y%m%dT%H%M%SZ%z")
    return signed_at + timedelta(seconds=int(query["X-Amz-Expires"][0]))
