"""An S3 that answers as a test says, for HEADs of a bucket."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import patch

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from s3direct_uploads.s3 import Bucket
from s3direct_uploads.storage import S3Storage

Headers = dict[str, str]
MODIFIED = "Wed, 02 Jan 2030 03:04:05 GMT"
PLAIN = {"Content-Length": "5", "Content-Type": "a/b", "ETag": '"e"', "Last-Modified": MODIFIED}
KEY = "site/a b+c/é.jpg"


@dataclass
class Server:
    """It gives each request the same answer, and keeps what it was asked."""

    port: int = 0
    status: int = 200
    headers: Headers = field(default_factory=lambda: {**PLAIN})
    raw: bytes | None = None  # instead of an answer, before the connection ends
    pause: float = 0  # seconds, before the answer
    asked: list[tuple[str, Headers]] = field(default_factory=list)
    connections: int = 0
    tunnels: list[str] = field(default_factory=list)  # that were opened through this proxy

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def serving(tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[Server]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 20

        def setup(self) -> None:
            super().setup()
            server.connections += 1

        def do_HEAD(self) -> None:
            server.asked.append(
                (self.path, {name.lower(): value for name, value in self.headers.items()})
            )
            threading.Event().wait(server.pause)
            if server.raw is not None:
                self.wfile.write(server.raw)
                self.close_connection = True
                return
            self.send_response_only(server.status)
            for name, value in server.headers.items():
                self.send_header(name, value)
            self.end_headers()

        def do_CONNECT(self) -> None:
            """As a proxy: the tunnel leads to this machine, whatever host was named."""
            server.tunnels.append(self.path)
            port = int(self.path.rpartition(":")[2])
            self.close_connection = True
            with socket.create_connection(("127.0.0.1", port)) as there:
                self.send_response_only(200)
                self.end_headers()
                back = threading.Thread(target=pump, args=(there, self.connection))
                back.start()
                pump(self.connection, there)
                back.join()

        def log_message(self, *_: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    httpd.daemon_threads = True
    if tls:
        httpd.socket = tls.wrap_socket(httpd.socket, server_side=True)
    server.port = httpd.server_address[1]
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def storage_at(url: str | None, **options: Any) -> S3Storage:
    return S3Storage(
        **{
            "bucket_name": "media",
            "access_key": "AKIA",
            "secret_key": "secret",
            "region_name": "eu-central-1",
            "endpoint_url": url,
            **options,
        }
    )


def bucket_at(url: str | None, **options: Any) -> Bucket:
    """A bucket of which boto3 has sent no HEAD yet."""
    return Bucket(storage_at(url, **options))


def is_by_boto3(bucket: Bucket, key: str = KEY) -> bool:
    """Whether boto3 sends this HEAD, which S3 answers."""
    with patch.object(bucket, "_by_boto3", side_effect=bucket._by_boto3) as by_boto3:
        bucket.head(key)
    return bool(by_boto3.called)


def learned(bucket: Bucket) -> Bucket:
    assert is_by_boto3(bucket)
    return bucket


def by_botocore(url: str, headers: Headers, secret: str = "secret") -> str:
    """How botocore signs the request that came, at its own time."""
    scope = headers["authorization"].partition("Credential=")[2].partition(",")[0].split("/")
    signed = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    request = AWSRequest("HEAD", url, {name: headers[name] for name in signed if name != "host"})
    credentials = Credentials(scope[0], secret, headers.get("x-amz-security-token"))
    moment = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
    with patch("botocore.auth.get_current_datetime", return_value=moment, create=True):
        S3SigV4Auth(credentials, "s3", scope[2]).add_auth(request)
    return str(request.headers["authorization"])
