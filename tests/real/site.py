"""The example project as a deployed site: its server, database and bucket, and the wires to them.

The browser reaches both Django and Ceph by a Wire, which tells what passed and fails when told to.
"""

from __future__ import annotations

import atexit
import http.client
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.message import Message
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import boto3
import psycopg
import requests
from botocore.config import Config
from PIL import Image
from playwright.sync_api import BrowserContext, Locator, Page
from psycopg.rows import class_row

from tests.real.waiting import wait_until
from tests.settings import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
ADMIN, PASSWORD = "admin", "secret"
SMALL_BUFFER = 64 * 1024  # bytes; of what a wire holds back the browser must know
CORS_RULE = {
    "AllowedMethods": ["GET", "PUT", "HEAD"],
    "AllowedHeaders": ["content-type", "if-none-match"],
    "ExposeHeaders": ["ETag"],
}


@dataclass(eq=False)
class Exchange:
    """A request of the browser's, and what became of it."""

    method: str
    path: str  # without its query: there are the signatures
    headers: Message
    part: int = 0  # its number; 0: of no multipart upload
    received: int = 0  # bytes of its body
    status: int = 0  # 0: no answer reached the browser, but S3 may have taken it


@dataclass
class Fault:
    """What a wire does to a request, once ``after`` bytes of its body have passed."""

    method: str
    path: str  # how it ends
    kind: str  # "hold", "cut", "lose the answer", "refuse"; "delay", "reset": nothing has passed
    after: int = 0
    part: int = 0  # the number of the part that it meets; 0: any request
    refusal: bytes = b""
    status: int = 403  # of a refusal
    patience: float = 60  # seconds that it holds at most
    held: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


class Wire:
    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.exchanges: list[Exchange] = []
        self.faults: list[Fault] = []
        self.lock = threading.Lock()
        self.rewrite: Callable[[Exchange, bytes], bytes] | None = None  # an answer, under way
        self.rate = 0  # bytes of bodies in a second, over all connections; 0: no limit
        self.outage = ""  # to all requests: "reset", or "swallow" the answers
        self.underway: set[Exchange] = set()
        self._paced_until = 0.0

        self.server = self._listen(0)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def _listen(self, port: int) -> ThreadingHTTPServer:
        wire = self

        class Handler(WireHandler):
            def pass_on(self) -> None:
                self.handle_exchange(wire)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def server_bind(self) -> None:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
                super().server_bind()

        server = Server(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        return server

    def stop(self) -> None:
        """What is under way is cut, and no connection is accepted."""
        self.outage = "reset"
        self.server.shutdown()
        self.server.server_close()

    def start(self) -> None:
        """At the same address as before."""
        self.server = self._listen(self.server.server_port)
        self.outage = ""

    def pace(self, count: int) -> None:
        """Sleeps as long as so many bytes take."""
        if not self.rate:
            return
        with self.lock:
            self._paced_until = max(self._paced_until, time.monotonic()) + count / self.rate
            until = self._paced_until
        time.sleep(max(0, until - time.monotonic()))

    def hold(self, method: str, path: str = "", *, after: int = 0) -> Fault:
        return self._fail(Fault(method, path, "hold", after))

    def delay(self, method: str, path: str = "") -> Fault:
        """Unlike ``hold``, the target hears nothing of it until it is released."""
        return self._fail(Fault(method, path, "delay"))

    def cut(self, method: str, path: str = "", *, after: int = 0) -> Fault:
        return self._fail(Fault(method, path, "cut", after))

    def lose_answer(self, method: str, path: str = "", *, part: int = 0) -> Fault:
        return self._fail(Fault(method, path, "lose the answer", part=part))

    def refuse(self, method: str, body: bytes) -> Fault:
        """In the server's place, with a 403 that the page may read."""
        return self._fail(Fault(method, "", "refuse", refusal=body))

    def seen(self, method: str, path: str = "") -> list[Exchange]:
        """The requests so far, in order, whose path ends like that."""
        return [
            each for each in self.exchanges if each.method == method and each.path.endswith(path)
        ]

    def statuses(self, method: str, path: str = "") -> list[int]:
        return [each.status for each in self.seen(method, path)]

    def mend(self) -> None:
        """Forget what was seen, and fail no more."""
        self.faults.clear()
        self.exchanges.clear()
        self.rewrite = None
        self.rate = 0
        self.outage = ""

    def _fail(self, fault: Fault) -> Fault:
        self.faults.append(fault)
        return fault

    def _fault_of(self, exchange: Exchange) -> Fault | None:
        length = int(exchange.headers.get("Content-Length") or 0)
        with self.lock:
            for fault in self.faults:
                if (
                    fault.method == exchange.method
                    and exchange.path.endswith(fault.path)
                    and fault.part in (0, exchange.part)
                    and fault.after <= length  # a part that is shorter never gets so far
                ):
                    self.faults.remove(fault)
                    return fault
        return None


class Gone(Exception):
    """The browser hung up, or was cut off."""


class WireHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def pass_on(self) -> None:
        raise NotImplementedError

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = lambda self: self.pass_on()

    def handle_exchange(self, wire: Wire) -> None:
        # One request for each connection: Chromium repeats by itself what failed on an old one.
        self.close_connection = True
        path, _, query = self.path.partition("?")
        part = int(parse_qs(query).get("partNumber", ["0"])[0])
        exchange = Exchange(self.command, path, self.headers, part)
        wire.exchanges.append(exchange)
        wire.underway.add(exchange)
        try:
            self.exchange(wire, exchange)
        finally:
            wire.underway.discard(exchange)

    def exchange(self, wire: Wire, exchange: Exchange) -> None:
        fault = wire._fault_of(exchange)
        server = http.client.HTTPConnection(wire.target, timeout=60)
        try:
            if fault and fault.kind == "refuse":
                exchange.received = len(self.rfile.read(int(self.headers["Content-Length"] or 0)))
                readable = [("Access-Control-Allow-Origin", self.headers["Origin"] or "*")]
                self.send_answer(exchange, fault.status, readable, fault.refusal)
                return
            if fault and fault.kind == "delay":
                fault.held.set()
                fault.released.wait(fault.patience)
            if fault and fault.kind == "reset":
                raise Gone
            self.send_request(server, exchange, fault, wire)
            answer = server.getresponse()
            status, headers, body = answer.status, answer.getheaders(), answer.read()
            if fault and fault.kind == "lose the answer":
                raise Gone
            if wire.outage == "swallow":
                self.connection.settimeout(fault.patience if fault else 600)
                self.connection.recv(1)  # until the browser hangs up
                raise Gone
            if wire.outage == "reset":
                raise Gone
            if wire.rewrite:
                body = wire.rewrite(exchange, body)
            self.send_answer(exchange, status, headers, body)
        except Gone:
            # At once, by a reset, and with nothing more to Ceph of what was to come.
            reset = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        except OSError:
            pass  # the browser left before its answer came
        finally:
            server.close()

    def send_request(
        self,
        server: http.client.HTTPConnection,
        exchange: Exchange,
        fault: Fault | None,
        wire: Wire,
    ) -> None:
        server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "connection":
                server.putheader(name, value)
        server.endheaders()
        length = int(self.headers.get("Content-Length") or 0)
        while True:
            if fault and exchange.received >= fault.after and not fault.held.is_set():
                fault.held.set()
                if fault.kind == "hold":
                    fault.released.wait(fault.patience)
                if fault.kind == "cut":
                    raise Gone
            if wire.outage == "reset":
                raise Gone
            if exchange.received == length:
                return
            chunk = self.rfile.read1(min(SMALL_BUFFER, length - exchange.received))
            if not chunk:
                raise Gone
            exchange.received += len(chunk)
            wire.pace(len(chunk))
            server.send(chunk)

    def send_answer(
        self, exchange: Exchange, status: int, headers: list[tuple[str, str]], body: bytes
    ) -> None:
        exchange.status = status
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclass
class Row:
    """An upload, as PostgreSQL has it."""

    id: UUID
    status: str
    destination: str
    context: dict[str, Any]
    filename: str
    content_type: str
    size: int
    checksum_algorithm: str
    checksum: str
    key: str
    etag: str
    part_size: int | None
    url_expires_at: datetime
    attached_at: datetime | None


class Site:
    """The photo wall, at ``url``."""

    def __init__(self) -> None:
        self.bucket = f"wall-{uuid4().hex}"  # there may be several sites at once
        self.port = free_port()
        self.web = Wire(f"http://127.0.0.1:{self.port}")
        self.s3 = Wire(os.environ["S3_ENDPOINT_URL"])
        self.url = self.web.url
        self.client = self.client_at(os.environ["S3_ENDPOINT_URL"])
        self.database, self.database_url = _make_database()
        self.env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.real.site_settings",
            "DATABASE_URL": self.database_url,
            "DEBUG": "1",
            "S3_BUCKET": self.bucket,
            "S3_PUBLIC_ENDPOINT_URL": self.s3.url,
        }

    def client_at(self, endpoint_url: str, config: Config | None = None) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=endpoint_url,
            config=config,
            region_name=os.environ.get("AWS_REGION", "us-east-1"),
            aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        )

    @contextmanager
    def serving(self, log: Path) -> Iterator[Site]:
        self.client.create_bucket(Bucket=self.bucket)
        self.allow(self.url)
        command = [sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{self.port}"]
        with (
            log.open("w") as output,
            subprocess.Popen(
                command, cwd=ROOT, env=self.env, stdout=output, stderr=subprocess.STDOUT
            ) as server,
        ):
            try:
                self.wait_for(server, log)
                yield self
            finally:
                server.terminate()
                for wire in (self.web, self.s3):
                    wire.server.shutdown()
                    wire.server.server_close()
                self.database.close()
                _drop_database(self.database_url)

    def manage(self, *command: str) -> str:
        """What it says."""
        return _manage(self.env, *command)

    def sweep(self) -> str:
        return self.manage("sweep_uploads")

    def let_pass(self, *, hours: int) -> None:
        """To the uploads it is that much later."""
        times = ("created_at", "url_expires_at", "expires_at", "due_at", "completed_at")
        earlier = ", ".join(f"{name} = {name} - %(by)s" for name in times)
        self.database.execute(
            f"UPDATE s3direct_uploads_upload SET {earlier}", {"by": timedelta(hours=hours)}
        )

    def wait_for(self, server: subprocess.Popen[bytes], log: Path) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and server.poll() is None:
            try:
                requests.get(f"http://127.0.0.1:{self.port}/accounts/login/", timeout=10)
                return
            except requests.ConnectionError:
                time.sleep(0.1)
        raise AssertionError(f"The site does not answer:\n{log.read_text()}")

    def make_user(self, username: str) -> None:
        """With the admin's password."""
        self.database.execute(
            """INSERT INTO auth_user (username, password, is_superuser, is_staff, is_active,
                                      first_name, last_name, email, date_joined)
               SELECT %s, password, false, false, true, '', '', '', now()
               FROM auth_user WHERE username = %s""",
            [username, ADMIN],
        )

    def end_sessions(self) -> None:
        self.database.execute("DELETE FROM django_session")

    def rows(self, username: str) -> list[Row]:
        """That user's uploads, the oldest first."""
        columns = ", ".join(f"upload.{name}" for name in Row.__dataclass_fields__)
        cursor = self.database.cursor(row_factory=class_row(Row))
        cursor.execute(
            f"""SELECT {columns} FROM s3direct_uploads_upload AS upload
                JOIN auth_user ON auth_user.id = upload.owner_id
                WHERE username = %s ORDER BY upload.id""",
            [username],
        )
        return cursor.fetchall()

    def open_multiparts(self, row: Row) -> list[str]:
        """S3's ids of those at its key that are neither completed nor aborted."""
        found = self.client.list_multipart_uploads(Bucket=self.bucket, Prefix=row.key)
        return [each["UploadId"] for each in found.get("Uploads", ())]

    def parts(self, row: Row) -> set[int]:
        """The numbers of the parts that S3 has. The answer about one may never have come."""
        [upload_id] = self.open_multiparts(row)
        at = {"Bucket": self.bucket, "Key": row.key, "UploadId": upload_id}
        return {each["PartNumber"] for each in self.client.list_parts(**at).get("Parts", ())}

    def read(self, row: Row) -> bytes | None:
        try:
            body: bytes = self.client.get_object(Bucket=self.bucket, Key=row.key)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None
        return body

    def head(self, row: Row) -> dict[str, Any]:
        request = {"Bucket": self.bucket, "Key": row.key, "ChecksumMode": "ENABLED"}
        found: dict[str, Any] = self.client.head_object(**request)
        return found

    def allow(self, origin: str, *headers: str) -> None:
        """The bucket's CORS rule: this origin alone, and these headers beside the usual two."""
        rule = {
            **CORS_RULE,
            "AllowedOrigins": [origin],
            "AllowedHeaders": [*CORS_RULE["AllowedHeaders"], *headers],
        }
        self.client.put_bucket_cors(Bucket=self.bucket, CORSConfiguration={"CORSRules": [rule]})


def _manage(env: dict[str, str], *command: str) -> str:
    return subprocess.run(
        [sys.executable, "manage.py", *command, "--verbosity", "0"],
        cwd=ROOT,
        env=env,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def _make_database() -> tuple[psycopg.Connection[Any], str]:
    """A copy of the template: with the tables, and the admin."""
    url = _create_database(f"TEMPLATE {urlsplit(_template()).path[1:]}")
    return psycopg.connect(url, autocommit=True), url


@cache
def _template() -> str:
    """The URL of a database that is migrated once, and copied for each site."""
    url = _create_database()
    atexit.register(_drop_database, url)
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.real.cinema.settings",  # the wall, and more tables
        "DATABASE_URL": url,
        "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
    }
    _manage(env, "migrate")
    _manage(env, "createsuperuser", "--noinput", "--username", ADMIN, "--email", "a@example.com")
    return url


def _create_database(options: str = "") -> str:
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/wall_{uuid4().hex}")
    with _maintenance(url.geturl()) as server:
        server.execute(f"CREATE DATABASE {url.path[1:]} {options}")
    return url.geturl()


def _drop_database(url: str) -> None:
    with _maintenance(url) as server:
        server.execute(f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]} WITH (FORCE)")


def _maintenance(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(urlsplit(url)._replace(path="/postgres").geturl(), autocommit=True)


class Visitor:
    """A person of that name, with a browser of their own."""

    def __init__(self, site: Site, context: BrowserContext, username: str, files: Path) -> None:
        self.site = site
        self.context = context
        self.username = username
        self.files = files
        self.page = context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.photos = self.page.locator("#wall .photo")

    def sign_in(self, page: Page | None = None) -> None:
        page = page or self.page
        page.get_by_label("Username").fill(self.username)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{self.site.url}/")

    def until(self, condition: Callable[[], object]) -> None:
        """Waits, while the page goes on."""
        wait_until(
            condition,
            state=lambda: (self.site.web.exchanges, self.site.s3.exchanges),
            pause=lambda: self.page.wait_for_timeout(5),
        )

    def make_photo(self, filename: str, *, more: int = 0) -> Path:
        """A JPEG that browsers show, 320 pixels wide; ``more`` bytes follow, which none minds."""
        path = self.files / filename
        with path.open("wb") as file:
            Image.new("RGB", (320, 240), "orange").save(file, "JPEG")
            file.write(os.urandom(more))
        return path

    def add(self, *files: Path) -> None:
        self.page.locator("#files").set_input_files(files)

    def photo(self, filename: str) -> Locator:
        return self.photos.filter(has=self.page.locator(f'img[alt="{filename}"]'))

    def underway(self, filename: str) -> Locator:
        return self.page.locator("#underway li").filter(has_text=filename)

    def record(self, filename: str) -> Locator:
        """In the list of My uploads."""
        return self.page.locator("#uploads li").filter(has_text=filename)

    def row(self) -> Row:
        """Their only upload."""
        [row] = self.rows()
        return row

    def rows(self) -> list[Row]:
        return self.site.rows(self.username)
