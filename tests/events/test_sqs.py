"""``consume_s3_events``: a queue of SQS, as moto has it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from django.core.management import CommandError, call_command
from moto.server import ThreadedMotoServer

from s3direct_uploads import lifecycle
from s3direct_uploads.exceptions import QueueUnavailable
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import Queue
from tests.conftest import App, child_environment, killed_after
from tests.events.conftest import (
    RECORD,
    TEST_EVENT,
    Dialect,
    aws,
    eventbridge,
    in_sns,
    s3_record,
    sent,
)
from tests.settings import free_port


@pytest.fixture(scope="module")
def sqs_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    yield f"http://127.0.0.1:{server._server.server_port}"  # type: ignore[union-attr]
    server.stop()


class Sqs:
    """A queue, as its sender sees it."""

    def __init__(self, endpoint_url: str) -> None:
        self.client = boto3.client(
            "sqs",
            endpoint_url=endpoint_url,
            region_name="eu-central-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        name = f"events-{time.monotonic_ns()}"
        self.url: str = self.client.create_queue(QueueName=name)["QueueUrl"]
        self.options = {
            "queue_url": self.url,
            "region": "eu-central-1",
            "endpoint_url": endpoint_url,
        }

    def send(self, body: Any) -> str:
        said = body if isinstance(body, str) else json.dumps(body)
        id: str = self.client.send_message(QueueUrl=self.url, MessageBody=said)["MessageId"]
        return id

    def left(self) -> int:
        """How many messages there are, received ones included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        request: Any = {"QueueUrl": self.url, "AttributeNames": names}
        return sum(
            int(n) for n in self.client.get_queue_attributes(**request)["Attributes"].values()
        )

    def consume_until(self, left: int) -> None:
        """Consume several times: SQS delivers as many at once as it likes."""
        for _ in range(3):
            if self.left() > left:
                self.consume()
        assert self.left() == left

    def consume(self) -> None:
        call_command("consume_s3_events", once=True, **self.options)


@pytest.fixture
def sqs(sqs_url: str, db: None, monkeypatch: pytest.MonkeyPatch) -> Sqs:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setattr("s3direct_uploads.management.commands.consume_s3_events.PAUSE", 0)
    return Sqs(sqs_url)


@pytest.mark.parametrize("dialect", [aws, in_sns, eventbridge])
def test_a_message_is_deleted_once_its_rows_are_settled(
    alice: App, sqs: Sqs, causes: list[str], capsys: pytest.CaptureFixture[str], dialect: Dialect
) -> None:
    uploads = [sent(alice) for _ in range(3)]
    for upload in uploads:
        sqs.send(dialect(upload.bucket, upload.key))
    sqs.send(TEST_EVENT)
    sqs.send(aws("another", "k"))
    sqs.send(aws(uploads[0].bucket, uploads[0].key, "ObjectRemoved:Delete"))

    sqs.consume_until(left=0)

    assert set(Upload.objects.values_list("status", flat=True)) == {"completed"}
    assert causes == ["event"] * 3
    assert "done, " in capsys.readouterr().out


def test_a_malformed_message_is_left_for_the_dead_letter_queue_and_logged(
    alice: App, sqs: Sqs, caplog: pytest.LogCaptureFixture
) -> None:
    upload = sent(alice)
    poison = [sqs.send("nonsense"), sqs.send({"Records": [RECORD] * 101}), sqs.send("[" * 100_000)]
    sqs.send(aws(upload.bucket, upload.key))

    sqs.consume_until(left=3)

    upload.refresh_from_db()
    assert upload.status == "completed"
    logged = [each.getMessage() for each in caplog.records if each.name == "s3direct_uploads"]
    for id in poison:
        assert any(f"message {id} stays in the queue" in line for line in logged)
    assert "nonsense" not in "".join(logged)


def test_while_s3_is_away_the_message_stays(
    alice: App, sqs: Sqs, settings: Any, s3_away: Callable[[], None], monkeypatch: Any
) -> None:
    monkeypatch.setattr(
        "s3direct_uploads.s3.queue.VISIBILITY", 0
    )  # a message is visible again at once
    upload = sent(alice)
    sqs.send(aws(upload.bucket, upload.key))
    storages = settings.STORAGES
    s3_away()

    sqs.consume()
    upload.refresh_from_db()
    assert (upload.status, sqs.left()) == ("pending", 1)

    settings.STORAGES = storages
    sqs.consume()
    upload.refresh_from_db()
    assert (upload.status, sqs.left()) == ("completed", 0)


def test_a_message_that_sqs_delivers_twice_is_deleted_twice(
    sqs: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both in one batch: SQS promises delivery at least once."""
    sqs.send(TEST_EVENT)
    receive = Queue.receive
    monkeypatch.setattr(Queue, "receive", lambda self: receive(self) * 2)
    sqs.consume()
    assert sqs.left() == 0


def test_a_received_message_is_hidden_from_others(sqs: Sqs) -> None:
    sqs.send(TEST_EVENT)
    queue = Queue(**{name.removeprefix("queue_"): value for name, value in sqs.options.items()})
    [message] = queue.receive()
    found = sqs.client.receive_message(QueueUrl=sqs.url)
    assert found.get("Messages", []) == []
    assert queue.delete([message]) == []
    assert sqs.left() == 0


def test_a_message_that_sqs_does_not_delete_is_logged(
    sqs: Sqs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    id = sqs.send(TEST_EVENT)
    receive = Queue.receive

    def another_deletes_it(self: Queue) -> Any:
        return [
            type(each)(each.id, each.body, "no receipt of this queue's") for each in receive(self)
        ]

    monkeypatch.setattr(Queue, "receive", another_deletes_it)
    sqs.consume()
    assert f"SQS did not delete the message {id}" in caplog.text
    assert sqs.left() == 1


@pytest.mark.parametrize(
    "changes",
    [{"queue_url": "http://127.0.0.1:9/123456789012/none"}, {"endpoint_url": "http://127.0.0.1:9"}],
)
def test_a_missing_queue_is_an_error_of_the_command(sqs: Sqs, changes: dict[str, str]) -> None:
    for options in ({}, {"once": True}):
        with pytest.raises(CommandError, match="SQS"):
            call_command("consume_s3_events", **{**sqs.options, **changes, **options})


@pytest.mark.django_db
def test_the_region_is_in_the_url_of_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    for url, region in [
        ("https://sqs.eu-west-3.amazonaws.com/123456789012/uploads", "eu-west-3"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/uploads", "cn-north-1"),
        ("https://sqs.us-gov-west-1.amazonaws.com/123456789012/uploads", "us-gov-west-1"),
        ("https://sqs.us-iso-east-1.c2s.ic.gov/123456789012/uploads", "us-iso-east-1"),
        ("https://eu-west-3.queue.amazonaws.com/123456789012/uploads", "eu-west-3"),
    ]:
        assert Queue(url)._client.meta.region_name == region


@pytest.mark.django_db
@pytest.mark.parametrize(
    "url",
    [
        "https://queues.example.com/uploads",
        "https://sqs.s3.amazonaws.com/uploads",
        "https://sqs.s3-eu-west-3.amazonaws.com/uploads",
        "https://sqs.eu-west-3.amazonaws.com.example.com/uploads",
        "https://sqs.eu-west-3.amazonaws.com.cn/123456789012/uploads",
        "https://eu-west-3.example.com/?x=https://sqs.eu-west-3.amazonaws.com/1/uploads",
    ],
)
def test_a_url_of_another_host_names_no_region(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(CommandError, match="NoRegion"):
        call_command("consume_s3_events", queue_url=url)


def test_the_command_goes_on_when_sqs_was_away(
    alice: App, sqs: Sqs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    upload = sent(alice)
    receive, tries = Queue.receive, iter(["empty", "away", "there", "end"])

    def sometimes(self: Queue) -> Any:
        match next(tries):
            case "away":
                raise QueueUnavailable("SQS answered 500 to receive.")
            case "there":
                sqs.send(aws(upload.bucket, upload.key))
                return receive(self)
            case "end":
                signal.raise_signal(signal.SIGTERM)
        return []

    monkeypatch.setattr(Queue, "receive", sometimes)
    call_command("consume_s3_events", **sqs.options)
    upload.refresh_from_db()
    assert (upload.status, sqs.left()) == ("completed", 0)
    assert "SQS answered 500" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_for_messages(sqs: Sqs, number: int, tmp_path: Path) -> None:
    """A process of its own, that waits for a message for 20 seconds."""
    command = [sys.executable, "manage.py", "consume_s3_events", "--region", "eu-central-1"]
    command += ["--queue-url", sqs.url, "--endpoint-url", sqs.options["endpoint_url"]]
    environment = child_environment(
        DJANGO_SETTINGS_MODULE="example_project.settings",
        SQLITE_PATH=str(tmp_path / "db.sqlite3"),
    )
    environment.pop("DATABASE_URL", None)
    poison = sqs.send("nonsense")
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        assert process.stdout
        assert process.stderr
        with killed_after(30, process):
            assert poison in process.stderr.readline()
            line = process.stdout.readline()
        assert line == "1 messages, 0 done, 0 uploads\n", "it is at work, and about to wait"
        time.sleep(0.3)
        started = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == 0
        assert time.monotonic() - started < 5


def test_a_signal_ends_the_command_after_the_current_batch(
    alice: App, sqs: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = [sent(alice) for _ in range(3)]
    records = [s3_record(each.bucket, each.key) for each in uploads]
    sqs.send({"Records": records})
    notice = lifecycle.notice

    def noticed_as_it_is_stopped(*args: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return notice(*args)

    monkeypatch.setattr(lifecycle, "notice", noticed_as_it_is_stopped)
    before = signal.getsignal(signal.SIGTERM)
    call_command("consume_s3_events", **sqs.options)
    assert signal.getsignal(signal.SIGTERM) is before
    assert set(Upload.objects.values_list("status", flat=True)) == {"completed"}
    assert sqs.left() == 0
