"""An SQS queue that receives S3's events."""

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

# The most that SQS allows: seconds to wait for a message, and messages at once.
POLL, BATCH = 20, 10
# So long SQS gives a message to nobody else. It is enough to complete the parts of one upload, and
# to wait in vain for S3 for nine others (11 s each). If it takes longer, a message comes twice.
# This does no harm.
VISIBILITY = COMPLETE_READ_TIMEOUT + 120  # seconds


@dataclass(frozen=True)
class Message:
    """A message of an SQS queue."""

    id: str
    body: str = field(repr=False)
    receipt: str = field(repr=False)


class Queue:
    """An SQS queue. boto3 finds the credentials. Every method raises QueueUnavailable."""

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
        """Wait for messages. SQS gives them to nobody else for VISIBILITY seconds."""
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
        """Delete at most BATCH messages. Returns the ids of those that SQS did not delete."""
        if not messages:
            return []
        with _queue_failures("delete"):
            answer = self._client.delete_message_batch(
                QueueUrl=self.url,
                # Numbers, because SQS may return a message twice in one batch.
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
