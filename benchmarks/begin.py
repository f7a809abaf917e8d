"""Begin, of a file of 5 TiB: how often S3 is asked, and what it costs Django."""

from __future__ import annotations

import time
from typing import Any
from unittest.mock import patch

from botocore.httpsession import URLLib3Session
from django.contrib.auth import get_user_model
from django.test import Client

from .report import Benchmark, Line, middle, say

SIZE = 5 * 1024**4  # bytes: the largest object of S3 for most of its life
TIMES = 20


def run() -> Benchmark:
    client = Client(headers={"host": "localhost"})
    client.force_login(get_user_model().objects.get())
    first, *others = [begin(client) for _ in range(TIMES + 1)]
    times = [cpu for cpu, _, _ in others]
    trips = max(trips for _, trips, _ in others)
    answer = others[0][2]
    multipart = answer.json()["multipart"]
    say(f"begin: {middle(times, '.4f', ' s')}, {trips} round trips")
    return Benchmark(
        "Beginning an upload of 5 TiB",
        f"`POST /api/uploads/` by Django's test client, {TIMES} times after a first one, with "
        "PostgreSQL and Ceph. A round trip is an HTTP request to S3 that leaves the process, "
        "whichever client sends it. The time is the process's own: it waits for both servers besides.",
        [
            Line("round trips to S3", f"{trips}", "≤ 2", trips <= 2),
            Line(
                "CPU time",
                middle(times, ".4f", " s"),
                "≤ 0.2 s",
                sorted(times)[TIMES // 2] <= 0.2,
            ),
            Line("CPU time of a process's first", f"{first[0]:.3f} s"),
            Line(
                "the answer",
                f"{len(answer.content):,} bytes: {multipart['part_count']:,} parts of "
                f"{multipart['part_size'] / 1024**2:.0f} MiB, {len(multipart['parts'])} signed",
            ),
        ],
    )


def begin(client: Client) -> tuple[float, int, Any]:
    """CPU seconds, round trips to S3, and the answer."""
    declared = {
        "destination": "films",
        "filename": "film.mp4",
        "content_type": "video/mp4",
        "size": SIZE,
        "multipart": True,
    }
    with patch.object(
        URLLib3Session, "send", autospec=True, side_effect=URLLib3Session.send
    ) as send:
        start = time.process_time()
        answer = client.post("/api/uploads/", declared, content_type="application/json")
        cpu = time.process_time() - start
    assert answer.status_code == 201, answer.content[:500]
    client.delete(f"/api/uploads/{answer.json()['id']}/")
    return cpu, send.call_count, answer
