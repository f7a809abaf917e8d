"""A client of each way to upload: what it asks of Django, and what it sends to S3 itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import urllib3

from .report import MIB

NAME, TYPE = "film.mp4", "video/mp4"
PART = 16 * MIB  # from this size on, ours sends parts
BATCH = 20  # uploads
BOUNDARY = "s3direct-bench"


@lru_cache(maxsize=2)
def content(size: int) -> bytes:
    return bytes(size)


class Visit:
    """A client that is signed in. It notes how long Django took to answer; threads may share it."""

    def __init__(self, url: str, session_id: str) -> None:
        token = "a" * 32
        self.url = url
        self.pool = urllib3.PoolManager(maxsize=100, retries=False, timeout=180)
        self.headers = {
            "Cookie": f"sessionid={session_id}; csrftoken={token}",
            "X-CSRFToken": token,
            "Host": urlsplit(url).netloc,
        }

    def ask(self, path: str, body: Any, took: list[float]) -> Any:
        return self.post(path, json.dumps(body).encode(), "application/json", took)

    def post(
        self, path: str, body: Any, content_type: str, took: list[float], size: int | None = None
    ) -> Any:
        headers = {**self.headers, "Content-Type": content_type}
        if size is not None:
            headers["Content-Length"] = str(size)
        start = time.perf_counter()
        answer = self.pool.request("POST", f"{self.url}{path}", body=body, headers=headers)
        took.append(time.perf_counter() - start)
        assert answer.status in (200, 201), (answer.status, answer.data[:500])
        return json.loads(answer.data)

    def put(self, url: str, size: int, headers: dict[str, str]) -> str:
        answer = self.pool.request("PUT", url, body=content(size), headers=headers)
        assert answer.status == 200, (answer.status, answer.data[:500])
        return answer.headers["ETag"]


Upload = Callable[[Visit, int], list[float]]  # seconds of each request to Django


def through(visit: Visit, size: int) -> list[float]:
    """The file is the body of one request."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{NAME}"\r\n'
        f"Content-Type: {TYPE}\r\n\r\n"
    ).encode()
    end = f"\r\n--{BOUNDARY}--\r\n".encode()

    def body() -> Iterator[bytes]:
        yield head
        for start in range(0, size, MIB):
            yield content(min(MIB, size - start))
        yield end

    took: list[float] = []
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    visit.post("/through/", body(), kind, took, len(head) + size + len(end))
    return took


def s3_file_field(visit: Visit, size: int) -> list[float]:
    """Initialize, PUT the parts, complete, let S3 join them, finalize."""
    took: list[float] = []
    asked = {
        "field_id": "benchmarks.Direct.file",
        "file_name": NAME,
        "file_size": size,
        "content_type": TYPE,
    }
    begun = visit.ask("/direct/upload-initialize/", asked, took)
    parts = [
        {
            "part_number": part["part_number"],
            "size": part["size"],
            "etag": visit.put(part["upload_url"], part["size"], {}),
        }
        for part in begun["parts"]
    ]
    signature = begun["upload_signature"]
    done = {"upload_signature": signature, "upload_id": begun["upload_id"], "parts": parts}
    completion = visit.ask("/direct/upload-complete/", done, took)
    answer = visit.pool.request("POST", completion["complete_url"], body=completion["body"])
    assert answer.status == 200, answer.data[:500]
    visit.ask("/direct/finalize/", {"upload_signature": signature}, took)
    return took


def ours(visit: Visit, size: int) -> list[float]:
    """Begin, PUT the file or its parts, confirm."""
    took: list[float] = []
    begun = visit.ask("/api/uploads/", _declared(size, multipart=True), took)
    _send(visit, begun, size)
    confirmed = visit.ask(f"/api/uploads/{begun['id']}/confirm/", {}, took)
    assert confirmed["status"] == "completed"
    return took


def ours_in_a_batch(visit: Visit, size: int) -> list[float]:
    """As many as a batch has: begin them, PUT each, confirm them."""
    took: list[float] = []
    asked = {"uploads": [_declared(size)] * BATCH}
    begun = visit.ask("/api/uploads/batch/", asked, took)["results"]
    for each in begun:
        _send(visit, each["upload"], size)
    ids = [each["upload"]["id"] for each in begun]
    confirmed = visit.ask("/api/uploads/batch/confirm/", {"ids": ids}, took)["results"]
    assert {each["upload"]["status"] for each in confirmed} == {"completed"}
    return took


def _declared(size: int, **more: Any) -> dict[str, Any]:
    return {"destination": "films", "filename": NAME, "content_type": TYPE, "size": size, **more}


def _send(visit: Visit, begun: Any, size: int) -> None:
    if begun["multipart"] is None:
        visit.put(begun["request"]["url"], size, begun["request"]["headers"])
    else:
        for part in begun["multipart"]["parts"]:
            visit.put(part["url"], part["size"], part["headers"])
