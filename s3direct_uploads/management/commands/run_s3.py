"""manage.py run_s3: serve S3 on this machine, for development."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser

from s3direct_uploads import provisioning
from s3direct_uploads.exceptions import StorageNotS3
from s3direct_uploads.management.printing import PrintingCommand
from s3direct_uploads.s3 import Bucket, Refusal, get_bucket

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LOCAL_ORIGINS = ["http://localhost:*", "http://127.0.0.1:*"]


class Command(PrintingCommand):
    help = (
        "Serve S3 for development on this machine, with moto: for the storages in STORAGES whose "
        "endpoint_url is on loopback. The command creates their buckets and CORS rules. Warning: "
        "all objects are in memory, and are lost when it ends. moto does not enforce signatures, "
        "lengths or types; a real S3 does."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--origin",
            action="append",
            default=[],
            help="One more origin to allow, such as http://192.168.1.20:8000. You may repeat it. "
            "Origins on loopback are always allowed.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        local = dict(_local_buckets())
        buckets = list(local.values())
        ports = {urlsplit(bucket.endpoint_url or "").port or 80 for bucket in buckets}
        if len(ports) != 1:
            raise CommandError(
                "Write 'endpoint_url': 'http://127.0.0.1:9000' in the OPTIONS of each S3 storage "
                "in STORAGES that this command serves. All of them need the same endpoint_url."
            )
        server = _start(ports.pop())
        origins = [*LOCAL_ORIGINS, *options["origin"]]
        try:
            for alias, bucket in local.items():
                bucket.create()
                rule = provisioning.cors_rule(provisioning.needs_of(alias), origins)
                bucket.set_cors_rules(provisioning.merge_cors(bucket.cors_rules(), rule))
        except Refusal as error:
            raise CommandError(
                f"{error}: write any access_key and any secret_key in the storage's OPTIONS."
            ) from error
        names = ", ".join(sorted({bucket.name for bucket in buckets}))
        self.stdout.write(f"S3 at {buckets[0].endpoint_url}, with {names}. Ctrl-C stops it.")
        _wait_for_signal()
        server.stop()


def _local_buckets() -> Iterator[tuple[str, Bucket]]:
    for alias in settings.STORAGES:
        try:
            bucket = get_bucket(alias)
        except (StorageNotS3, ImproperlyConfigured):
            continue
        if urlsplit(bucket.endpoint_url or "").hostname in LOOPBACK:
            yield alias, bucket


def _start(port: int) -> Any:
    try:
        # Otherwise moto allows every origin. With a bucket's CORS rules it is more like S3.
        os.environ.setdefault("MOTO_DISABLE_GLOBAL_CORS", "true")
        from moto.server import ThreadedMotoServer
    except ImportError as error:
        raise CommandError("Install moto first: pip install 's3direct-uploads[dev]'") from error
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CommandError(f"Port {port} is taken by another program: {error}") from error
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # its access log has presigned URLs
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    return server


def _wait_for_signal() -> None:
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    stopped.wait()
