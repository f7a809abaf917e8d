"""From events to uploads: each event makes lifecycle ask S3 about one object."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from s3direct_uploads import lifecycle
from s3direct_uploads.exceptions import BucketUnavailable

from .dialects import Event

logger = logging.getLogger("s3direct_uploads")


@dataclass(frozen=True)
class Tally:
    """How many events were settled, how many ignored, and how many must be sent ``again``.

    An event must be sent again if S3 could not be asked about its object.
    """

    settled: int
    ignored: int
    again: int


def settle(events: Iterable[Event]) -> Tally:
    """Confirm the upload of each event that says that an object was created.

    It never raises: a failure with one event does not stop the others.
    """
    settled = ignored = again = 0
    away: set[str] = set()  # buckets that are down: to ask each a hundred times takes minutes
    for event in dict.fromkeys(events):
        if event.kind != "created":
            ignored += 1
        elif event.bucket in away:
            again += 1
        else:
            try:
                if _settle(event):
                    settled += 1
                else:
                    ignored += 1
            except BucketUnavailable:
                away.add(event.bucket)
                again += 1
            except Exception:  # a host's verify(), a wrong setting, the database
                logger.exception("An S3 event could not be handled")
                again += 1
    return Tally(settled, ignored, again)


def _settle(event: Event) -> bool:
    for key in event.possible_keys:
        upload = lifecycle.notice(event.bucket, key)
        if upload is not None:
            logger.info("S3 sent an event for upload %s: it is %s", upload.pk, upload.status)
            return True
    return False
