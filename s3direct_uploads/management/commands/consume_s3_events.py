"""manage.py consume_s3_events: receive S3's events from an SQS queue."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import connections

from s3direct_uploads import events
from s3direct_uploads.exceptions import MalformedEvent, QueueUnavailable
from s3direct_uploads.management.printing import PrintingCommand
from s3direct_uploads.s3 import Message, Queue

logger = logging.getLogger("s3direct_uploads")

PAUSE = 5  # seconds after S3 or SQS failed: SQS counts each try, for its dead-letter queue


class Command(PrintingCommand):
    help = (
        "Receive S3's events from an SQS queue, and confirm their uploads. The command deletes a "
        "message after it has handled its uploads. It leaves a message that it cannot read to the "
        "queue's redrive policy. Several may run at once. SIGTERM ends it after its batch."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--queue-url", required=True, help="The URL of the SQS queue.")
        parser.add_argument("--once", action="store_true", help="Receive one batch, and end.")
        parser.add_argument("--region", help="Default: the one in the queue's URL, else boto3's.")
        parser.add_argument("--endpoint-url", help="The URL of an SQS server other than AWS.")

    def handle(self, *args: Any, **options: Any) -> None:
        self.stopped = threading.Event()
        self.waiting = False
        before = {each: signal.signal(each, self.stop) for each in (signal.SIGTERM, signal.SIGINT)}
        try:
            queue = Queue(
                options["queue_url"],
                region=options["region"],
                endpoint_url=options["endpoint_url"],
            )
            self.consume(queue)
            while not self.stopped.is_set() and not options["once"]:
                try:
                    self.consume(queue)
                except QueueUnavailable as error:
                    logger.error("%s", error.detail)
                    self.stopped.wait(PAUSE)
        except QueueUnavailable as error:  # the first try failed, so the settings may be wrong
            raise CommandError(error.detail) from error
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self, *args: Any) -> None:
        self.stopped.set()
        if self.waiting:  # perhaps for 20 s, and some supervisors do not wait so long
            raise KeyboardInterrupt

    def consume(self, queue: Queue) -> None:
        """Receive and handle one batch. Raises QueueUnavailable."""
        for connection in connections.all(initialized_only=True):
            if not connection.in_atomic_block:  # as in a host's tests
                connection.close_if_unusable_or_obsolete()
        try:
            self.waiting = True
            messages = queue.receive()
            self.waiting = False
        except KeyboardInterrupt:
            return  # if a message was already sent to us, SQS sends it again
        finally:
            self.waiting = False
        tallies = {message: self.settle(message) for message in messages}
        done = [message for message, tally in tallies.items() if tally and not tally.again]
        for id in queue.delete(done):
            logger.error("SQS did not delete the message %s. SQS will send it again.", id)
        if messages:
            settled = sum(tally.settled for tally in tallies.values() if tally)
            self.stdout.write(f"{len(messages)} messages, {len(done)} done, {settled} uploads")
        if any(tally and tally.again for tally in tallies.values()):
            self.stopped.wait(PAUSE)

    def settle(self, message: Message) -> events.Tally | None:
        """Handle one message; None if it cannot be read."""
        try:
            return events.settle(events.parse(message.body))
        except MalformedEvent as error:
            logger.error("The SQS message %s stays in the queue: %s", message.id, error.detail)
            return None
