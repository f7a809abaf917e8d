"""An SQS queue, in which S3's events lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import boto3
from botocore.client import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from s3direct_uploads.exceptions import QueueUnavailable
from s3direct_uploads.partitions import region_of_queue

from .client import COMPLETE_READ_TIMEOUT, CONNECT_TIMEOUT, MAX_ATTEMPTS, READ_TIMEOUT
from .failures import status_of

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

# What SQS allows at the most: seconds to wait for a message, and messages at once.
POLL, BATCH = 20, 10
# How long a message is ours: to complete one upload's parts and, of nine, to ask S3 in vain, 11 s
# each. What takes longer comes twice, and does no harm.
VISIBILITY = COMPLETE_READ_TIMEOUT + 120  # seconds


@dataclass(frozen=True)
class Message:
    """Of an SQS queue."""

    id: str
    body: str = field(repr=False)
    receipt: str = field(repr=False)


class Queue:
    """An SQS queue, with the credentials that boto3 finds; every method raises QueueUnavailable."""

    def __init__(self, url: str, *, region: str | None = None, endpoint_url: str | None = None):
        self.url = url
        with _queue_failures("make a client"):
            self._client: SQSClient = boto3.Session().client(
                "sqs",
                region_name=region or region_of_queue(url),
                endpoint_url=endpoint_url,
                config=Config(
                    connect_timeout=CONNECT_TIMEOUT,
                    read_timeout=POLL + READ_TIMEOUT,
                    retries={"mode": "standard", "total_max_attempts": MAX_ATTEMPTS},
                ),
            )

    def receive(self) -> list[Message]:
        """Wait for messages; nobody else is given them for VISIBILITY seconds."""
        with _queue_failures("receive"):
            answer = self._client.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=BATCH,
                WaitTimeSeconds=POLL,
                VisibilityTimeout=VISIBILITY,
            )
        return [
            Message(each["MessageId"], each["Body"], each["ReceiptHandle"])
            for each in answer.get("Messages", ())
        ]

    def delete(self, messages: Sequence[Message]) -> list[str]:
        """At most BATCH; the ids of those that SQS would not delete."""
        if not messages:
            return []
        with _queue_failures("delete"):
            answer = self._client.delete_message_batch(
                QueueUrl=self.url,
                # Numbered, for SQS may give out a message twice in one batch.
                Entries=[
                    {"Id": str(number), "ReceiptHandle": message.receipt}
                    for number, message in enumerate(messages)
                ],
            )
        return [messages[int(each["Id"])].id for each in answer.get("Failed", ())]


@contextmanager
def _queue_failures(operation: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error.response["Error"].get("Code", "")
        raise QueueUnavailable(f"SQS answered {status_of(error)} {code} to {operation}.") from None
    except (BotoCoreError, ResponseParserError, ValueError) as error:
        raise QueueUnavailable(f"SQS failed at {operation}: {type(error).__name__}.") from None
