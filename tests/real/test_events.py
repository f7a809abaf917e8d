"""Ceph's own bucket notifications, pushed to Django in a process of its own; nobody confirms.

A topic that is not persistent is told of a PUT before its client is: then no test has to wait.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from django.conf import settings
from django.db import connection
from django.utils import timezone

from s3direct_uploads.models import Upload
from tests.conftest import FILM, FILMS, JPEG, App, Bucket, row
from tests.real.site import ROOT
from tests.real.test_faults import Remote
from tests.real.waiting import wait_until
from tests.settings import free_port

pytestmark = [
    pytest.mark.event,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("films"),
]

SECRET = "s3cret-s3cret-s3cret"
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
    print("announced", upload.pk, cause, flush=True)

signals.upload_completed.connect(tell)
run("127.0.0.1", given["port"], get_wsgi_application(), threading=True)
"""


class Server:
    """Django, on the test's database and a bucket of this module's own, with the webhook."""

    def __init__(self, bucket: str, log: Path) -> None:
        self.log, self.port = log, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        storage = settings.STORAGES["default"]
        storage = {**storage, "OPTIONS": {**storage["OPTIONS"], "bucket_name": bucket}}
        destinations = {"photos": settings.S3DIRECT_UPLOADS["DESTINATIONS"]["photos"]}
        self.given = {
            "port": self.port,
            "database": connection.settings_dict["NAME"],
            "storages": {**settings.STORAGES, "default": storage},
            "uploads": {"DESTINATIONS": {**destinations, "films": FILMS}, "EVENT_SECRET": SECRET},
        }
        self.start()

    def start(self) -> None:
        with self.log.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE, json.dumps(self.given)],
                cwd=ROOT,
                env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_until(self.answers)

    def answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/s3-events/", timeout=10).status_code == 405
        except requests.ConnectionError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def causes(self, upload: Upload) -> list[str]:
        """Of each time that it was announced."""
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return [line[2] for line in lines if line[:2] == ["announced", str(upload.pk)]]

    def webhook_answers(self) -> list[int]:
        lines = self.log.read_text().splitlines()
        return [int(line.split('" ')[1].split()[0]) for line in lines if "POST /s3-events/" in line]


class Topic:
    """One of Ceph's, and the notification of the bucket that has it."""

    def __init__(self, server: Server, bucket: Bucket, user: str, **attributes: str) -> None:
        options = settings.STORAGES["default"]["OPTIONS"]
        self.sns = boto3.client(
            "sns",
            endpoint_url=options["endpoint_url"],
            region_name=options["region_name"],
            aws_access_key_id=options["access_key"],
            aws_secret_access_key=options["secret_key"],
        )
        self.bucket = bucket
        endpoint = f"http://{user}127.0.0.1:{server.port}/s3-events/"
        self.arn = self.sns.create_topic(
            Name=f"{bucket.name}-{time.monotonic_ns()}",
            Attributes={"push-endpoint": endpoint, **attributes},
        )["TopicArn"]
        events = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
        self.configure([{"Id": "uploads", "TopicArn": self.arn, "Events": events}])

    def configure(self, topics: list[dict[str, Any]]) -> None:
        self.bucket.client.put_bucket_notification_configuration(
            Bucket=self.bucket.name, NotificationConfiguration={"TopicConfigurations": topics}
        )

    def delete(self) -> None:
        self.configure([])
        self.sns.delete_topic(TopicArn=self.arn)


@pytest.fixture(scope="module")
def bucket(s3_client: Any) -> Bucket:
    bucket = Bucket(s3_client)
    bucket.name = f"events-{os.getpid()}"
    s3_client.create_bucket(Bucket=bucket.name)
    return bucket


@pytest.fixture(scope="module")
def server(
    django_db_setup: None, bucket: Bucket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    server = Server(bucket.name, tmp_path_factory.mktemp("server") / "log")
    yield server
    server.kill()
    said = server.log.read_text()
    assert "Traceback" not in said, said
    assert "X-Amz" not in said
    assert SECRET not in said


@pytest.fixture
def topic(server: Server, bucket: Bucket) -> Iterator[Callable[..., Topic]]:
    """By default with the secret as the password of its endpoint."""
    topics: list[Topic] = []

    def topic(user: str = f"ceph:{SECRET}@", **attributes: str) -> Topic:
        topics.append(Topic(server, bucket, user, **attributes))
        return topics[-1]

    yield topic
    for each in topics:
        each.delete()


@pytest.fixture
def app(server: Server, alice: App) -> App:
    app = App(None)
    app.client = Remote(server.url, alice.client.cookies["sessionid"].value)  # type: ignore[assignment]
    return app


def test_a_put_that_nobody_confirms(
    app: App, server: Server, topic: Callable[..., Topic], bucket: Bucket
) -> None:
    topic()
    begun = app.begin()
    assert app.send(begun.json()["request"]) == 200
    upload = row(begun)

    assert (upload.bucket, upload.status, upload.due_at) == (bucket.name, "completed", None)
    assert upload.announced_at is not None
    assert server.causes(upload) == ["event"]

    confirmed = app.confirm(str(upload.pk))
    assert (confirmed.status_code, confirmed.json()["status"]) == (200, "completed")
    assert server.causes(upload) == ["event"]
    assert bucket.read(upload) == JPEG


def test_a_header_that_nobody_signed(app: App, server: Server, topic: Callable[..., Topic]) -> None:
    topic()
    begun = app.begin()
    added: Any = {"Content-Encoding": "gzip"}
    assert app.send(begun.json()["request"], **added) == 200
    upload = row(begun)
    assert (upload.status, server.causes(upload)) == ("rejected", [])
    assert upload.reason.endswith("ContentEncoding.")


def test_parts_that_the_server_completes(
    app: App, server: Server, topic: Callable[..., Topic], bucket: Bucket
) -> None:
    """The event comes while Complete still waits for its answer: either may be the first."""
    topic()
    begun = app.begin_film()
    assert app.send_parts(begun.json()["multipart"]["parts"]) == [200, 200]
    assert row(begun).status == "pending"

    confirmed = app.confirm(begun.json()["id"])
    assert (confirmed.status_code, confirmed.json()["status"]) == (200, "completed")
    upload = row(begun)
    assert len(server.causes(upload)) == 1
    assert (upload.due_at, upload.busy_until) == (None, None)
    assert bucket.read(upload) == FILM
    assert server.webhook_answers()[-1] == 200


def test_a_put_on_a_key_that_was_given_up_and_cleaned(
    app: App, server: Server, topic: Callable[..., Topic], bucket: Bucket
) -> None:
    topic()
    begun = app.begin()
    assert app.delete(begun.json()["id"]).status_code == 204
    this = Upload.objects.filter(pk=row(begun).pk)
    this.update(due_at=None, object_deleted_at=timezone.now())

    assert app.send(begun.json()["request"]) == 200  # its URL lives
    upload = row(begun)
    assert (upload.status, upload.object_deleted_at) == ("cancelled", None)
    assert upload.due_at == upload.key_closes_at
    assert server.causes(upload) == []

    # As when it is cleaned: the event of its own deletion is none.
    this.update(due_at=None, object_deleted_at=timezone.now())
    bucket.client.delete_object(Bucket=bucket.name, Key=upload.key)
    upload.refresh_from_db()
    assert upload.due_at is None
    assert server.webhook_answers()[-1] == 200


@pytest.mark.parametrize("user", ["", "ceph:wrong-wrong-wrong-wrong@", f"{SECRET}:ceph@"])
def test_without_the_secret_nobody_is_believed(
    app: App, server: Server, topic: Callable[..., Topic], user: str
) -> None:
    topic(user)
    begun = app.begin()
    assert app.send(begun.json()["request"]) == 200, "Ceph does not hold it against the client"
    upload = row(begun)
    assert (upload.status, upload.completed_at) == ("pending", None)
    assert server.webhook_answers()[-1] == 401
    assert app.confirm(str(upload.pk)).status_code == 200
    assert server.causes(upload) == ["client"]


def test_what_ceph_keeps_comes_when_django_is_back(
    app: App, server: Server, topic: Callable[..., Topic]
) -> None:
    """A persistent topic's: Ceph's worker looks every half a minute for new ones."""
    topic(persistent="true")
    begun = app.begin()
    server.kill()
    try:
        assert app.send(begun.json()["request"]) == 200
        assert row(begun).status == "pending"
    finally:
        server.start()
    wait_until(lambda: row(begun).status == "completed", seconds=120)
    upload = row(begun)
    wait_until(lambda: server.causes(upload) == ["event"])
    assert upload.completed_at is not None
