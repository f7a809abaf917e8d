"""A process that starts: its imports, its first requests, its memory, and whom it asks."""

from __future__ import annotations

import json
import subprocess
import sys
from statistics import median
from typing import Any

from tests.real.site import ROOT

from .report import MIB, Benchmark, Line
from .served import BenchSite

TIMES = 5
# Told by a new process about itself. psycopg's own connections are no Python sockets.
SCRIPT = """
import json, os, sys, time
asked = []
sys.addaudithook(lambda event, args: asked.append(str(args[-1])) if event == "socket.connect" else None)
start = time.perf_counter()
from django.conf import settings
import django
if sys.argv[1] == "without":
    settings.INSTALLED_APPS = [each for each in settings.INSTALLED_APPS if not each.startswith(("s3direct_uploads", "example_project"))]
    settings.ROOT_URLCONF = "django.contrib.auth.urls"
import rest_framework.viewsets, storages.backends.s3
django.setup()
from django.urls import get_resolver
get_resolver().url_patterns
setup = time.perf_counter() - start
memory = lambda: next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmRSS"))
told = {"setup": setup, "memory": memory()}
if sys.argv[1] == "with":
    settings.ALLOWED_HOSTS = ["localhost"]
    from django.contrib.auth import get_user_model
    from django.test import Client
    client = Client(headers={"host": "localhost"})
    client.force_login(get_user_model().objects.get())
    def begin():
        start = time.perf_counter()
        body = {"destination": "photos", "filename": "a.png", "size": 5}
        answer = client.post("/api/uploads/", body, content_type="application/json")
        assert answer.status_code == 201, answer.content[:300]
        return time.perf_counter() - start
    told |= {"first": begin(), "asked": list(asked), "second": begin(), "memory": memory()}
print(json.dumps(told))
"""


def run(site: BenchSite) -> Benchmark:
    with_app, without = [], []
    for _ in range(TIMES):
        with_app.append(told(site, "with"))
        without.append(told(site, "without"))

    def middle_of(told: list[dict[str, Any]], what: str, scale: float = 1) -> str:
        return f"{median(each[what] for each in told) * scale:.0f}"

    imports = [
        mine["setup"] - other["setup"] for mine, other in zip(with_app, without, strict=True)
    ]
    asked = [each for process in with_app for each in process["asked"]]
    return Benchmark(
        "A process that starts",
        f"{TIMES} new processes with the example project, and as many without the app, turn about. Both import "
        "Django, REST Framework and django-storages with boto3, set Django up and read the URLs. The first begin "
        "makes boto3's session and client. Asked is whom Python's sockets connect to until its "
        "answer; psycopg's are not among them.",
        [
            Line(
                "import of the app, with its URLs",
                f"{median(imports) * 1000:.0f} ms more than {middle_of(without, 'setup', 1000)} ms without it",
                row=11,
            ),
            Line(
                "first begin of a process",
                f"{middle_of(with_app, 'first', 1000)} ms, the second {middle_of(with_app, 'second', 1000)} ms",
                row=11,
            ),
            Line(
                "memory of a process",
                f"{middle_of(with_app, 'memory', 1 / MIB)} MiB after a begin; "
                f"{middle_of(without, 'memory', 1 / MIB)} MiB without the app",
                row=11,
            ),
            Line(
                "whom the first begin asks, besides PostgreSQL",
                ", ".join(sorted(set(asked))) or "nobody",
                "nobody",
                not asked,
                11,
            ),
        ],
    )


def told(site: BenchSite, how: str) -> dict[str, Any]:
    settings = {"DJANGO_SETTINGS_MODULE": "example_project.settings", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, how]
    env = {**site.env, **settings, "DEBUG": "0", "SECRET_KEY": "insecure-and-only-for-development"}
    ran = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-500:]
    said: dict[str, Any] = json.loads(ran.stdout)
    return said
