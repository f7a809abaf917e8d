"""Batches of a hundred: what one upload costs Django, beside the calls for one upload alone."""

from __future__ import annotations

import gc
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from unittest.mock import patch

from django.contrib.auth import get_user_model
from django.test import Client, override_settings

from s3direct_uploads.lifecycle import batches
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import get_bucket

from .profiled import Inline, bound_by
from .report import Benchmark, Line, say

BATCH = 100  # uploads
TIMES = 10
URL = "/api/uploads/"
FILE = {"destination": "films", "filename": "film.mp4", "content_type": "video/mp4", "size": 5}
GOALS = {"begin": 0.2, "confirm": 0.7}  # milliseconds of CPU time for each upload


def run() -> Benchmark:
    with override_settings(DEBUG=False, ALLOWED_HOSTS=["localhost"]):
        return measure()


def measure() -> Benchmark:
    client = Client(headers={"host": "localhost"})
    client.force_login(get_user_model().objects.get())
    together(client), alone(client)  # the first ones make caches
    batches = [together(client) for _ in range(TIMES)]
    singles = [alone(client) for _ in range(TIMES)]
    lines = []
    for place, (what, goal) in enumerate(GOALS.items()):
        costs = sorted(each[place] for each in batches)
        middle, single = (
            statistics.median(costs),
            statistics.median(each[place] for each in singles),
        )
        say(f"batch: {what}: {middle:.3f} ms, alone {single:.3f} ms")
        lines += [
            Line(
                f"{what}: CPU time of one upload in a batch",
                f"{middle:.3f} ms ({costs[0]:.3f} to {costs[-1]:.3f})",
                f"≤ {goal} ms",
                middle <= goal,
                4,
                f"{single:.2f} ms alone",
                "" if middle <= goal else profile(client, what),
            ),
            Line(f"{what}: CPU time of one upload alone", f"{single:.3f} ms"),
        ]
    return Benchmark(
        f"Batches of {BATCH} uploads",
        f"`POST /api/uploads/batch/` and `/batch/confirm/` by Django's test client, {TIMES} times "
        f"after a first one, in one process, with PostgreSQL and Ceph. The CPU time is the process's "
        "own, with session, user, middleware and the threads that ask S3, divided by the number of "
        "uploads. The PUTs are not measured.",
        lines,
    )


def together(client: Client) -> tuple[float, float]:
    """Milliseconds of CPU for each upload of a batch: of its begin, and of its confirm."""
    gc.collect()  # so that nothing of what the PUTs left counts
    begun, begin = timed(client, f"{URL}batch/", {"uploads": [FILE] * BATCH})
    ids = [each["upload"]["id"] for each in begun["results"]]
    put(ids)
    gc.collect()
    confirmed, confirm = timed(client, f"{URL}batch/confirm/", {"ids": ids})
    assert {each["status"] for each in confirmed["results"]} == {200}
    return begin / BATCH, confirm / BATCH


def profile(client: Client, what: str) -> str:
    if what == "begin":
        return bound_by(partial(timed, client, f"{URL}batch/", {"uploads": [FILE] * BATCH}))
    begun, _ = timed(client, f"{URL}batch/", {"uploads": [FILE] * BATCH})
    ids = [each["upload"]["id"] for each in begun["results"]]
    put(ids)
    with patch.object(batches, "ThreadPoolExecutor", Inline):
        return bound_by(partial(timed, client, f"{URL}batch/confirm/", {"ids": ids}))


def alone(client: Client) -> tuple[float, float]:
    begun, begin = timed(client, URL, FILE)
    put([begun["id"]])
    gc.collect()
    confirmed, confirm = timed(client, f"{URL}{begun['id']}/confirm/", {})
    assert confirmed["status"] == "completed"
    return begin, confirm


def timed(client: Client, path: str, body: Any) -> tuple[Any, float]:
    start = time.process_time()
    answer = client.post(path, body, content_type="application/json")
    cpu = time.process_time() - start
    assert answer.status_code in (200, 201), answer.content[:500]
    return json.loads(answer.content), cpu * 1000


def put(ids: list[str]) -> None:
    bucket = get_bucket("default")

    def put_one(key: str) -> None:
        bucket._client.put_object(
            Bucket=bucket.name, Key=key, Body=b"hello", ContentType=str(FILE["content_type"])
        )

    keys = Upload.objects.filter(pk__in=ids).values_list("key", flat=True)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put_one, keys))
