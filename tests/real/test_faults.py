"""The fault table: a process is killed, an answer is lost, a URL ends; and a file is in parts.

Each row ends completed, and announced once, or cancelled; and nothing is open at its key.
Django runs in a process of its own, with a wire to Ceph and another to the app.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from django.conf import settings
from django.db import connection
from django.utils import timezone

from s3direct_uploads.models import Upload
from tests.conftest import FILM, FILMS, LAST, PART_SIZE, App, Bucket, begin_last_part, row
from tests.real.site import ROOT, Exchange, Wire
from tests.real.waiting import wait_until
from tests.settings import free_port

pytestmark = [
    pytest.mark.fault,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("films"),
]

KEY = {"Idempotency-Key": "one"}
SERVE = """
import json, sys
import django
from django.core.servers.basehttp import run
from django.core.wsgi import get_wsgi_application
from tests import settings

given = json.loads(sys.argv[1])
settings.ALLOWED_HOSTS = ["127.0.0.1"]
settings.DATABASES["default"]["NAME"] = given["database"]
settings.STORAGES, settings.S3DIRECT_UPLOADS = given["storages"], given["uploads"]
django.setup()

from s3direct_uploads import signals

def tell(upload, cause, **_):
    print("announced", upload.pk, flush=True)

signals.upload_completed.connect(tell)
run("127.0.0.1", given["port"], get_wsgi_application(), threading=True)
"""


class ToS3(Wire):
    """As a Wire; and the length in the answer to a HEAD is that of the object."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.before: Callable[[str], None] | None = None  # a request is passed on
        wire = self

        class Handler(self.server.RequestHandlerClass):  # type: ignore[name-defined, misc]
            def pass_on(self) -> None:
                if wire.before:
                    wire.before(self.command)
                super().pass_on()

            def send_answer(
                self, exchange: Exchange, status: int, headers: list[tuple[str, str]], body: bytes
            ) -> None:
                if self.command != "HEAD":
                    super().send_answer(exchange, status, headers, body)
                    return
                exchange.status = status
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()

        self.server.RequestHandlerClass = Handler

    def mend(self) -> None:
        super().mend()
        self.before = None


class Server:
    """Django in a process of its own, on the test's database and bucket."""

    def __init__(self, log: Path, **changes: Any) -> None:
        self.log = log
        options = settings.STORAGES["default"]["OPTIONS"]
        self.s3 = ToS3(options["endpoint_url"])  # from Django
        self.parts = ToS3(options["endpoint_url"])  # from the app
        self.port = free_port()
        self.web = Wire(f"http://127.0.0.1:{self.port}")  # from the app to Django
        self.wires = (self.s3, self.parts, self.web)
        ends = {"endpoint_url": self.s3.url, "public_endpoint_url": self.parts.url}
        storage = {**settings.STORAGES["default"], "OPTIONS": {**options, **ends}}
        given = {
            "port": self.port,
            "database": connection.settings_dict["NAME"],
            "storages": {**settings.STORAGES, "default": storage},
            "uploads": {"DESTINATIONS": {"films": FILMS}, **changes},
        }
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE, json.dumps(given)],
                cwd=ROOT,
                env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.wait()

    def wait(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                requests.get(f"http://127.0.0.1:{self.port}/api/uploads/", timeout=10)
                return
            except requests.ConnectionError:
                time.sleep(0.05)
        raise AssertionError(f"The server does not answer:\n{self.log.read_text()}")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.kill()
        for wire in self.wires:
            wire.server.shutdown()
            wire.server.server_close()
        said = self.log.read_text()
        assert "Traceback" not in said, said
        assert "X-Amz" not in said

    def app(self, user: App) -> App:
        """That user's, at this server."""
        app = App(None)
        app.client = Remote(self.web.url, user.client.cookies["sessionid"].value)  # type: ignore[assignment]
        return app

    def announced(self, upload: Upload) -> int:
        """How often."""
        return self.log.read_text().splitlines().count(f"announced {upload.pk}")


class Remote:
    """As an APIClient, of a server in another process."""

    def __init__(self, url: str, session_id: str) -> None:
        self.url = url
        self.headers = {
            "Cookie": f"sessionid={session_id}; csrftoken={'x' * 32}",
            "X-CSRFToken": "x" * 32,
        }

    def post(self, path: str, body: Any, format: str, headers: Any = None) -> requests.Response:
        sent = {**self.headers, **(headers or {})}
        return requests.post(f"{self.url}{path}", json=body, headers=sent, timeout=30)

    def get(self, path: str, query: Any = None) -> requests.Response:
        return requests.get(f"{self.url}{path}", params=query, headers=self.headers, timeout=30)

    def delete(self, path: str) -> requests.Response:
        return requests.delete(f"{self.url}{path}", headers=self.headers, timeout=30)


@pytest.fixture(scope="module")
def make_server(
    django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []
    logs = tmp_path_factory.mktemp("servers")

    def make_server(**changes: Any) -> Server:
        servers.append(Server(logs / str(len(servers)), **changes))
        return servers[-1]

    yield make_server
    with ThreadPoolExecutor(len(servers)) as threads:  # each takes its time
        list(threads.map(Server.stop, servers))


@pytest.fixture(scope="module")
def running_server(make_server: Callable[..., Server]) -> Server:
    return make_server()


@pytest.fixture
def server(running_server: Server, s3: Bucket) -> Server:
    for wire in running_server.wires:
        wire.mend()
    return running_server


@pytest.fixture
def app(server: Server, alice: App) -> App:
    return server.app(alice)


@pytest.fixture
def doomed(make_server: Callable[..., Server], s3: Bucket) -> Server:
    """Another, which is to be killed."""
    return make_server()


class Held:
    """Requests of one kind, before S3 hears of them; or their answers, when it has done them."""

    def __init__(self, wire: ToS3, method: str, *, answers: bool) -> None:
        self.there, self.released = threading.Event(), threading.Event()

        def hold(held: str) -> None:
            if held == method:
                self.there.set()
                self.released.wait(30)

        def hold_answer(exchange: Exchange, body: bytes) -> bytes:
            hold(exchange.method)
            return body

        if answers:
            wire.rewrite = hold_answer
        else:
            wire.before = hold


def meanwhile(call: Callable[[], Any]) -> Future[Any]:
    """Its answer, or how it failed, when there is one."""
    return ThreadPoolExecutor(1).submit(call)


def time_passes(upload: Upload) -> None:
    """Until whoever was busy with it must be through, or dead."""
    assert Upload.objects.filter(pk=upload.pk, busy_until__gt=timezone.now()).exists()
    Upload.objects.filter(pk=upload.pk).update(busy_until=timezone.now())


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def assert_completed(
    app: App, s3: Bucket, upload: Upload, *servers: Server, body: bytes = LAST
) -> None:
    """For good, and announced once."""
    again = [app.confirm(str(upload.pk)) for _ in range(2)]
    assert [answer.status_code for answer in again] == [200, 200]
    assert again[0].json() == again[1].json()
    upload.refresh_from_db()
    assert (upload.status, upload.busy_until, upload.due_at) == ("completed", None, None)
    assert upload.announced_at is not None
    assert sum(server.announced(upload) for server in servers) == 1
    assert s3.read(upload) == body
    assert s3.open_multiparts(upload) == []


def assert_cancelled(app: App, s3: Bucket, upload: Upload, server: Server) -> None:
    assert code(app.confirm(str(upload.pk))) == (410, "not_pending")
    upload.refresh_from_db()
    assert (upload.status, upload.busy_until) == ("cancelled", None)
    assert (upload.due_at, upload.object_deleted_at) == (upload.key_closes_at, None)
    assert server.announced(upload) == 0
    assert s3.open_multiparts(upload) == []


# A process is killed.


def test_killed_when_s3_had_completed_it_and_the_row_did_not_know(
    alice: App, app: App, s3: Bucket, server: Server, doomed: Server
) -> None:
    theirs = doomed.app(alice)
    upload, part = begin_last_part(theirs)
    assert theirs.send(part, LAST) == 200
    held = Held(doomed.s3, "POST", answers=True)
    confirmed = meanwhile(lambda: theirs.confirm(str(upload.pk)))
    assert held.there.wait(60)

    doomed.kill()
    held.released.set()

    with pytest.raises(requests.ConnectionError):
        confirmed.result(10)
    upload.refresh_from_db()
    assert (upload.status, upload.etag) == ("pending", "")
    assert upload.busy_until is not None
    assert s3.read(upload) == LAST
    assert app.confirm(str(upload.pk)).status_code == 200, "at once"
    assert server.s3.seen("POST") == [], "nobody completes it again"
    assert_completed(app, s3, upload, doomed, server)


@pytest.mark.parametrize("arrives", [True, False])
def test_killed_while_complete_was_on_its_way(
    alice: App, app: App, s3: Bucket, server: Server, doomed: Server, arrives: bool
) -> None:
    theirs = doomed.app(alice)
    upload, part = begin_last_part(theirs)
    assert theirs.send(part, LAST) == 200
    complete = doomed.s3.hold("POST")
    confirmed = meanwhile(lambda: theirs.confirm(str(upload.pk)))
    assert complete.held.wait(60)

    doomed.kill()

    with pytest.raises(requests.ConnectionError):
        confirmed.result(10)
    assert app.confirm(str(upload.pk)).status_code == 202, "nobody can tell that it is dead"
    assert (s3.read(upload), server.s3.seen("POST")) == (None, [])
    if not arrives:
        complete.kind = "cut"
    complete.released.set()
    if arrives:
        wait_until(lambda: s3.read(upload) is not None)
    else:
        assert app.confirm(str(upload.pk)).status_code == 202
        time_passes(upload)
    assert app.confirm(str(upload.pk)).status_code == 200
    assert len(server.s3.seen("POST")) == (0 if arrives else 1)
    assert_completed(app, s3, upload, doomed, server)


@pytest.mark.parametrize("key", [KEY, None], ids=["with a key", "without one"])
def test_killed_when_s3_had_created_it_and_the_row_did_not_know(
    alice: App, app: App, s3: Bucket, server: Server, doomed: Server, key: dict[str, str] | None
) -> None:
    held = Held(doomed.s3, "POST", answers=True)
    begun = meanwhile(lambda: doomed.app(alice).begin_film(headers=key))
    assert held.there.wait(60)

    doomed.kill()
    held.released.set()

    with pytest.raises(requests.ConnectionError):
        begun.result(10)
    upload = Upload.objects.get()
    assert (upload.status, upload.multipart_upload_id) == ("pending", "")
    [stray] = s3.open_multiparts(upload)
    if key is None:  # whoever began it does not know of it, but for the list
        assert [each["id"] for each in app.get().json()["results"]] == [str(upload.pk)]
        assert app.delete(str(upload.pk)).status_code == 204
        assert_cancelled(app, s3, upload, server)
        assert s3.read(upload) is None
        return
    assert code(app.begin_film(headers=key)) == (503, "bucket_unavailable")
    time_passes(upload)
    again = app.begin_film(headers=key)
    assert (again.status_code, again.json()["id"]) == (201, str(upload.pk))
    upload.refresh_from_db()
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id] != [stray]
    assert app.send_parts(again.json()["multipart"]["parts"]) == [200, 200]
    assert app.confirm(str(upload.pk)).status_code == 200
    assert_completed(app, s3, upload, doomed, server, body=FILM)


# An answer is lost.


def test_begins_answer_is_lost(app: App, s3: Bucket, server: Server) -> None:
    server.web.lose_answer("POST")
    with pytest.raises(requests.ConnectionError):
        app.begin_film(headers=KEY)
    again = app.begin_film(headers=KEY)
    upload = Upload.objects.get()
    assert (again.status_code, row(again)) == (201, upload)
    assert s3.open_multiparts(upload) == [upload.multipart_upload_id]
    assert app.send_parts(again.json()["multipart"]["parts"]) == [200, 200]
    assert app.confirm(str(upload.pk)).status_code == 200
    assert_completed(app, s3, upload, server, body=FILM)


@pytest.mark.parametrize("arrives", ["before", "after"])
def test_creates_answer_is_lost(app: App, s3: Bucket, server: Server, arrives: str) -> None:
    """It reaches S3 before the next begin does, or after: then it took too long."""
    late = server.s3.delay("POST") if arrives == "after" else None
    if late is None:
        server.s3.lose_answer("POST")
    assert code(app.begin_film(headers=KEY)) == (503, "bucket_unavailable")
    lost = Upload.objects.get()
    assert (lost.status, lost.multipart_upload_id) == ("cancelled", "")
    assert lost.due_at == lost.key_closes_at

    again = app.begin_film(headers=KEY)
    upload = row(again)
    assert (again.status_code, upload.status) == (201, "pending")
    if late:
        assert s3.open_multiparts(lost) == []
        late.released.set()
        wait_until(lambda: s3.open_multiparts(lost) != [])
    assert len(s3.open_multiparts(lost)) == 1, "its row is due"
    assert app.send_parts(again.json()["multipart"]["parts"]) == [200, 200]
    assert app.confirm(str(upload.pk)).status_code == 200
    assert_completed(app, s3, upload, server, body=FILM)


@pytest.mark.parametrize("arrives", [True, False])
def test_a_parts_answer_is_lost_or_half_of_the_part(
    app: App, s3: Bucket, server: Server, arrives: bool
) -> None:
    begun = app.begin_film().json()
    upload = Upload.objects.get()
    first, last = begun["multipart"]["parts"]
    if arrives:
        server.parts.lose_answer("PUT")
    else:
        server.parts.cut("PUT", after=PART_SIZE // 2)
    with pytest.raises(requests.ConnectionError):
        app.send_parts([first])
    assert app.send_parts([last]) == [200]
    there = [part["part_number"] for part in app.parts(begun["id"]).json()]
    assert there == ([1, 2] if arrives else [2])
    if not arrives:
        assert code(app.confirm(begun["id"])) == (409, "parts_incomplete")
    assert app.send_parts([first]) == [200], "what has arrived may be sent again"
    assert app.confirm(begun["id"]).status_code == 200
    assert_completed(app, s3, upload, server, body=FILM)


def test_completes_answer_is_lost(app: App, s3: Bucket, server: Server) -> None:
    upload, part = begin_last_part(app)
    assert app.send(part, LAST) == 200
    server.s3.mend()
    server.s3.lose_answer("POST")
    assert code(app.confirm(str(upload.pk))) == (503, "bucket_unavailable")
    assert s3.read(upload) == LAST
    assert app.confirm(str(upload.pk)).status_code == 200
    assert server.s3.statuses("POST") == [0], "it is not asked again"
    assert_completed(app, s3, upload, server)


def test_complete_never_arrives(app: App, s3: Bucket, server: Server) -> None:
    upload, part = begin_last_part(app)
    assert app.send(part, LAST) == 200
    server.s3.mend()
    server.s3.cut("POST")
    assert code(app.confirm(str(upload.pk))) == (503, "bucket_unavailable")
    assert app.confirm(str(upload.pk)).status_code == 202, "which nobody can tell from the other"
    time_passes(upload)
    assert app.confirm(str(upload.pk)).status_code == 200
    assert server.s3.statuses("POST") == [0, 200]
    assert_completed(app, s3, upload, server)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_answer_to_what_may_be_asked_twice_is_lost(
    app: App, s3: Bucket, server: Server, method: str
) -> None:
    upload, part = begin_last_part(app)
    assert app.send(part, LAST) == 200
    server.s3.mend()
    server.s3.lose_answer(method)
    assert app.confirm(str(upload.pk)).status_code == 200, "it was asked twice"
    assert server.s3.statuses(method) == [0, 200]
    assert server.s3.statuses("POST") == [200]
    assert_completed(app, s3, upload, server)


def test_confirms_answer_is_lost(app: App, s3: Bucket, server: Server) -> None:
    upload, part = begin_last_part(app)
    assert app.send(part, LAST) == 200
    server.web.lose_answer("POST")
    with pytest.raises(requests.ConnectionError):
        app.confirm(str(upload.pk))
    upload.refresh_from_db()
    assert upload.status == "completed"
    assert_completed(app, s3, upload, server)


def test_cancels_answer_is_lost(app: App, s3: Bucket, server: Server) -> None:
    upload, part = begin_last_part(app)
    assert app.send(part, LAST) == 200
    server.web.lose_answer("DELETE")
    with pytest.raises(requests.ConnectionError):
        app.delete(str(upload.pk))
    assert app.delete(str(upload.pk)).status_code == 204
    assert_cancelled(app, s3, upload, server)
    assert app.send(part, LAST) == 404
    assert s3.read(upload) is None


def test_aborts_answer_is_lost(app: App, s3: Bucket, server: Server) -> None:
    upload, part = begin_last_part(app)
    assert app.send(part, LAST) == 200
    server.s3.lose_answer("DELETE")
    assert app.delete(str(upload.pk)).status_code == 204
    assert server.s3.statuses("DELETE") == [0, 404], "asked twice, and gone is gone"
    assert_cancelled(app, s3, upload, server)
    assert s3.read(upload) is None


# Time runs out, or somebody's patience.


def test_every_url_ends_half_way(
    alice: App, s3: Bucket, make_server: Callable[..., Server]
) -> None:
    server = make_server(URL_EXPIRES=1)
    app = server.app(alice)
    begun = app.begin_film().json()
    first, last = begun["multipart"]["parts"]
    assert app.send_parts([first]) == [200]
    time.sleep(1.5)
    assert app.send_parts([last]) == [403]
    assert code(app.confirm(begun["id"])) == (409, "parts_incomplete")

    renewed = app.renew(begun["id"]).json()["multipart"]
    assert app.send_parts(renewed["parts"][1:]) == [200]

    upload = Upload.objects.get()
    assert app.confirm(begun["id"]).status_code == 200
    assert_completed(app, s3, upload, server, body=FILM)


@pytest.mark.parametrize("s3_was_asked", [False, True])
def test_cancelled_while_it_is_confirmed(
    app: App, s3: Bucket, server: Server, s3_was_asked: bool
) -> None:
    upload, part = begin_last_part(app)
    assert app.send(part, LAST) == 200
    complete = Held(server.s3, "POST", answers=s3_was_asked)
    confirmed = meanwhile(lambda: app.confirm(str(upload.pk)))
    assert complete.there.wait(60)

    assert app.delete(str(upload.pk)).status_code == 204
    complete.released.set()

    # 503: of what was aborted Ceph says that it is being completed.
    assert confirmed.result(10).status_code == (410 if s3_was_asked else 503)
    assert_cancelled(app, s3, upload, server)
    assert s3.read(upload) == (LAST if s3_was_asked else None), "it is due for deletion"


@pytest.mark.parametrize("s3_was_asked", [False, True])
def test_cancelled_while_it_is_begun(
    app: App, s3: Bucket, server: Server, s3_was_asked: bool
) -> None:
    create = Held(server.s3, "POST", answers=s3_was_asked)
    begun = meanwhile(lambda: app.begin_film())
    assert create.there.wait(60)
    upload = Upload.objects.get()
    assert len(s3.open_multiparts(upload)) == s3_was_asked

    assert app.delete(str(upload.pk)).status_code == 204
    create.released.set()

    assert code(begun.result(10)) == (410, "not_pending")
    assert_cancelled(app, s3, upload, server)
    assert s3.read(upload) is None


# As many parts as there can be.


def put_all(parts: list[dict[str, Any]], body: bytes) -> list[int]:
    """As ``send`` does, by one connection: to each part its byte."""
    to_s3 = HTTPConnection(urlsplit(parts[0]["url"]).netloc, timeout=30)
    statuses = []
    for part in parts:
        there = urlsplit(part["url"])
        at = part["part_number"] - 1
        to_s3.request("PUT", f"{there.path}?{there.query}", body[at : at + 1])
        answer = to_s3.getresponse()
        answer.read()
        statuses.append(answer.status)
    to_s3.close()
    return statuses


def test_ten_thousand_parts(
    alice: App, app: App, s3: Bucket, s3_calls: list[str], server: Server
) -> None:
    """Of a byte each, for 5 MiB, the least that AWS allows, would be 49 GiB of Ceph's memory."""
    body = os.urandom(10_000)
    upload = row(alice.begin_film(size=10_000 * PART_SIZE))
    id = str(upload.pk)
    Upload.objects.update(size=10_000, part_size=1)
    parts: list[dict[str, Any]] = []
    for start in range(1, 10_001, 1000):
        answer = alice.sign_parts(id, range(start, start + 1000))
        assert answer.json()["expires_in"] == 3600
        parts += answer.json()["parts"]
    assert s3_calls == ["CreateMultipartUpload"]
    missing = parts.pop(4999)
    with ThreadPoolExecutor(8) as threads:
        statuses = threads.map(lambda nth: put_all(parts[nth::8], body), range(8))
        assert {status for each in statuses for status in each} == {200}

    s3_calls.clear()
    early = alice.confirm(id)
    assert code(early) == (409, "parts_incomplete")
    assert early.json()["errors"][0]["params"] == {"part_numbers": [5000]}
    assert put_all([missing], body) == [200]
    s3_calls.clear()
    there = alice.parts(id).json()
    assert there == [{"part_number": number, "size": 1} for number in range(1, 10_001)]
    assert s3_calls == ["ListParts"] * 10

    server.s3.mend()
    assert app.confirm(id).status_code == 200
    assert server.s3.statuses("GET") == [200] * 10, "ListParts, page by page"
    assert server.s3.statuses("POST") == [200], "CompleteMultipartUpload"
    assert_completed(app, s3, upload, server, body=body)
