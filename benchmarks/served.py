"""The example project, served as in tests/real, but with no wire in between; and a large file."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.real.site import ADMIN, PASSWORD, Site
from tests.settings import free_port

from .report import GIB, PART_SIZE, say

AUTHORIZATION = f"Basic {b64encode(f'{ADMIN}:{PASSWORD}'.encode()).decode()}"
PARALLEL = 4
CORS = {
    "AllowedMethods": ["GET", "HEAD", "PUT", "POST", "DELETE"],
    "AllowedHeaders": ["*"],
    "ExposeHeaders": ["ETag"],
}


class BenchSite(Site):
    server: subprocess.Popen[bytes]

    def __init__(self, static: Path) -> None:
        super().__init__()
        self.url = f"http://127.0.0.1:{self.port}"
        del self.env["S3_PUBLIC_ENDPOINT_URL"]
        self.env |= {"DJANGO_SETTINGS_MODULE": "benchmarks.settings", "BENCH_STATIC": str(static)}

    def wait_for(self, server: subprocess.Popen[bytes], log: Path) -> None:
        self.server = server
        super().wait_for(server, log)

    def allow(self, origin: str, *headers: str) -> None:
        """For the other clients as well, whose browsers create and complete by themselves."""
        rule = {**CORS, "AllowedOrigins": [origin]}
        self.client.put_bucket_cors(Bucket=self.bucket, CORSConfiguration={"CORSRules": [rule]})

    def memory(self) -> int:
        """Of Django's process, in bytes."""
        return memory_of(self.server.pid)

    def check(self, film: Film) -> None:
        """That what lies in the bucket is the film, in the parts that it was to be sent in."""
        [stored] = self.client.list_objects_v2(Bucket=self.bucket)["Contents"]
        assert (stored["Size"], stored["ETag"]) == (film.size, film.etag), stored

    def empty(self) -> None:
        for each in self.client.list_objects_v2(Bucket=self.bucket).get("Contents", ()):
            self.client.delete_object(Bucket=self.bucket, Key=each["Key"])
        for each in self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ()):
            where = {"Key": each["Key"], "UploadId": each["UploadId"]}
            self.client.abort_multipart_upload(Bucket=self.bucket, **where)

    def empty_all(self) -> None:
        """Of however many there are."""
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            keys = [{"Key": each["Key"]} for each in page.get("Contents", ())]
            if keys:
                self.client.delete_objects(Bucket=self.bucket, Delete={"Objects": keys})

    def remove(self) -> None:
        self.empty_all()
        self.empty()
        self.client.delete_bucket(Bucket=self.bucket)


@dataclass
class Workers:
    """Those of a gunicorn, at ``url``."""

    url: str
    pids: list[int]

    def cpu(self) -> float:
        """CPU seconds that they used so far, with the threads that have ended."""
        # As /proc/PID/stat, in nanoseconds and not in hundredths: clock_getcpuclockid(3).
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.pids)

    def forget_memory(self) -> None:
        for pid in self.pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def most_memory(self) -> int:
        """Of one of them, in bytes, since ``forget_memory``."""
        return max(memory_of(pid, "VmHWM:") for pid in self.pids)


@contextmanager
def gunicorn(site: Site, folder: Path, *, workers: int = 1, kept: int = 60) -> Iterator[Workers]:
    """Sync workers, DEBUG off. A connection to PostgreSQL is kept for ``kept`` seconds."""
    port = free_port()
    env = {
        **site.env,
        "SECRET_KEY": "insecure-and-only-for-development",
        "DEBUG": "0",
        "ALLOWED_HOSTS": "127.0.0.1",
        "BENCH_CONN_MAX_AGE": str(kept),
    }
    command = [sys.executable, "-m", "gunicorn", f"--bind=127.0.0.1:{port}", "--timeout=240"]
    command += [f"--workers={workers}", "--backlog=2048", "example_project.wsgi"]
    with (folder / "gunicorn").open("w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        url = f"http://127.0.0.1:{port}"
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
        deadline = time.monotonic() + 60
        while True:
            try:
                requests.get(f"{url}/api/uploads/", timeout=30)
                break
            except requests.ConnectionError:
                if time.monotonic() > deadline or server.poll() is not None:
                    raise AssertionError((folder / "gunicorn").read_text()[-500:]) from None
                time.sleep(0.1)
        yield Workers(url, [int(pid) for pid in children.read_text().split()])
    finally:
        server.terminate()
        server.wait()


def memory_of(pid: int, what: str = "VmRSS:") -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


class Film:
    """A file of random bytes, and the same in parts: curl can send a file, but no range of one."""

    size = GIB

    def __init__(self, folder: Path) -> None:
        say("making a file of 1 GiB")
        self.path = folder / "film.mp4"
        self.parts: list[Path] = []
        digests = b""
        with self.path.open("wb") as whole:
            for number in range(1, self.size // PART_SIZE + 1):
                content = os.urandom(PART_SIZE)
                whole.write(content)
                part = folder / f"part-{number}"
                part.write_bytes(content)
                self.parts.append(part)
                digests += hashlib.md5(content).digest()
        # As S3 makes it: whoever sent other bytes, or other parts, is found out by it.
        self.etag = f'"{hashlib.md5(digests).hexdigest()}-{len(self.parts)}"'
        os.sync()  # now, and not while something is measured


def as_json(response: Any) -> Any:
    assert response.ok, (response.status_code, response.text)
    return response.json()
