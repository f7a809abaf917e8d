"""A client of the soak: uploads its share, each as chance has it, and may be killed meanwhile.

It notes what it did and was answered, a line of JSON each: [number, upload's id, step, status].
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import requests

from . import PART_SIZE, body_of, in_parts

Answer = requests.Response | None  # None: it gave up
Step = Callable[["Attempt"], None]

PLANS = {
    "send confirm": 44,
    "send confirm_twice": 5,
    "send confirm_and_cancel": 3,
    "send": 9,  # the tab was closed
    "": 4,
    "half": 3,
    "half send confirm": 3,
    "cancel": 3,
    "send cancel": 4,
    "cancel send": 4,  # on a tombstone
    "cancel wait send": 3,
    "send confirm cancel": 5,
    "send confirm cancel send confirm": 3,
    "renew send confirm": 4,
    "send renew confirm": 2,
    "garble confirm": 3,
    "dress confirm": 3,
    "wait send confirm": 3,
    "send wait confirm": 3,
}
TRIES = 8


@dataclass(order=True)
class Attempt:
    """An upload, and the steps that are still to be done."""

    due: float
    number: int
    steps: list[str]
    body: bytes = field(repr=False)
    upload: dict[str, Any]
    asked_at: float  # for what it is to send

    @property
    def expires_in(self) -> int:
        sending = self.upload["request"] or self.upload["multipart"]
        return sending["expires_in"] if sending else 0

    @property
    def requests(self) -> list[tuple[dict[str, Any], bytes]]:
        """What S3 is to be sent."""
        if not self.upload["multipart"]:
            return [(self.upload["request"], self.body)] if self.upload["request"] else []
        starts = range(0, len(self.body), PART_SIZE)
        bodies = [self.body[start : start + PART_SIZE] for start in starts]
        return list(zip(self.upload["multipart"]["parts"], bodies, strict=True))


class Client:
    def __init__(
        self, servers: list[str], session_id: str, seed: str, log: str, url_expires: int, grace: int
    ) -> None:
        self.servers, self.seed = servers, seed
        self.url_expires, self.grace = url_expires, grace
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.session = requests.Session()
        self.session.headers["X-CSRFToken"] = "x" * 32
        self.session.headers["Cookie"] = f"sessionid={session_id}; csrftoken={'x' * 32}"
        self.s3 = requests.Session()
        self.later: list[Attempt] = []
        self.chance = random.Random(f"{seed} {os.getpid()}")

    def run(self, numbers: list[int]) -> None:
        for number in numbers:
            attempt = self.begin(number)
            if attempt:
                self.go_on(attempt)
            while self.later and self.later[0].due <= time.monotonic():
                self.go_on(heapq.heappop(self.later))
        while self.later:
            time.sleep(max(0, self.later[0].due - time.monotonic()))
            self.go_on(heapq.heappop(self.later))

    def begin(self, number: int) -> Attempt | None:
        chance = random.Random(f"{self.seed} plan {number}")
        [plan] = chance.choices(list(PLANS), list(PLANS.values()))
        body, parted = body_of(self.seed, number), in_parts(self.seed, number)
        declaration: dict[str, Any] = {
            "destination": "films" if parted else chance.choice(["photos", "documents"]),
            "filename": f"{number}.jpg",
            "content_type": "image/jpeg",
            "size": len(body),
            "multipart": parted,
        }
        if "garble" in plan or (not parted and chance.random() < 0.3):
            digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
            if not parted:
                declaration["checksum"] = {"algorithm": "SHA256", "value": digest}
        key = f"{self.seed} {number}" if chance.random() < 0.6 else None
        asked_at = time.monotonic()
        answer = self.ask("POST", "", declaration, tries=1000, key=key)
        if answer is None or answer.status_code != 201:
            self.note(number, None, "begin", answer)
            return None
        upload = answer.json()
        self.note(number, upload["id"], "begin", answer)
        return Attempt(0, number, plan.split(), body, upload, asked_at)

    def go_on(self, attempt: Attempt) -> None:
        while attempt.steps:
            step = attempt.steps.pop(0)
            if step == "wait":
                # Its URL ends, or is about to.
                attempt.due = time.monotonic() + self.url_expires * self.chance.uniform(0.7, 1.5)
                heapq.heappush(self.later, attempt)
                return
            getattr(self, step)(attempt)

    # The steps.

    def send(self, attempt: Attempt) -> None:
        statuses = [self.put(*each, {}) for each in attempt.requests]
        # When it arrived its key had not closed: it must not be lost.
        in_time = time.monotonic() < attempt.asked_at + attempt.expires_in + self.grace
        step = "send" if in_time else "send late"
        self.note(attempt.number, attempt.upload["id"], step, max(statuses, default=0))

    def dress(self, attempt: Attempt) -> None:
        """With a header that nobody signed."""
        statuses = [self.put(*each, {"Content-Encoding": "gzip"}) for each in attempt.requests]
        self.note(attempt.number, attempt.upload["id"], "dress", max(statuses, default=0))

    def garble(self, attempt: Attempt) -> None:
        """Other bytes: of parts fewer, and else what has not the checksum that was signed."""
        for request, body in attempt.requests:
            wrong = body[1:] if attempt.upload["multipart"] else bytes(len(body))
            status = self.put(request, wrong, {})
            self.note(attempt.number, attempt.upload["id"], "garble", status)

    def half(self, attempt: Attempt) -> None:
        """The connection is cut in the midst of it."""
        for request, body in attempt.requests[:1]:
            there = urlsplit(request["url"])
            to_s3 = HTTPConnection(there.netloc, timeout=30)
            to_s3.putrequest("PUT", f"{there.path}?{there.query}")
            for name, value in {**request["headers"], "Content-Length": str(len(body))}.items():
                to_s3.putheader(name, value)
            to_s3.endheaders()
            to_s3.send(body[: len(body) // 2])
            to_s3.close()
        self.note(attempt.number, attempt.upload["id"], "half", 0)

    def confirm(self, attempt: Attempt) -> None:
        answer = self.ask("POST", f"{attempt.upload['id']}/confirm/", {})
        self.note(attempt.number, attempt.upload["id"], "confirm", answer)

    def confirm_twice(self, attempt: Attempt) -> None:
        self.at_once(self.confirm, self.confirm, attempt)

    def confirm_and_cancel(self, attempt: Attempt) -> None:
        self.at_once(self.confirm, self.cancel, attempt)

    def at_once(self, one: Step, two: Step, attempt: Attempt) -> None:
        other = threading.Thread(target=two, args=[attempt])
        other.start()
        one(attempt)
        other.join()

    def cancel(self, attempt: Attempt) -> None:
        self.note(attempt.number, attempt.upload["id"], "try to cancel", 0)
        answer = self.ask("DELETE", f"{attempt.upload['id']}/")
        self.note(attempt.number, attempt.upload["id"], "cancel", answer)

    def renew(self, attempt: Attempt) -> None:
        asked_at = time.monotonic()
        answer = self.ask("POST", f"{attempt.upload['id']}/renew/", {})
        self.note(attempt.number, attempt.upload["id"], "renew", answer)
        if answer is not None and answer.status_code == 200:
            attempt.upload, attempt.asked_at = answer.json(), asked_at

    # What goes over the wire.

    def put(self, request: dict[str, Any], body: bytes, headers: dict[str, str]) -> int:
        sent = {**request["headers"], **headers}
        for _ in range(TRIES):
            try:
                return self.s3.put(request["url"], body, headers=sent, timeout=30).status_code
            except requests.RequestException:
                pass
        return 0

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        tries: int = TRIES,
        key: str | None = None,
    ) -> Answer:
        """Any of the servers, and again where it was killed or S3 is away from it."""
        headers = {"Idempotency-Key": key} if key else {}
        for _ in range(tries):
            url = f"{self.chance.choice(self.servers)}/api/uploads/{path}"
            try:
                answer = self.session.request(method, url, json=body, headers=headers, timeout=30)
            except requests.RequestException:
                pass
            else:
                # Without a length: its server was killed while it answered.
                if answer.status_code not in (202, 503) and "Content-Length" in answer.headers:
                    return answer
            time.sleep(self.chance.uniform(0.05, 0.4))
        return None

    def note(self, number: int, id: str | None, step: str, answer: Answer | int) -> None:
        status = answer if isinstance(answer, int) else 0 if answer is None else answer.status_code
        os.write(self.log, (json.dumps([number, id, step, status]) + "\n").encode())


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    numbers = given.pop("numbers")
    Client(**given).run(numbers)
