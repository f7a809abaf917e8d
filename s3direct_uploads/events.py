"""S3 event notifications, in all their dialects, to confirm: uploads complete without the client.

An event is a hint and no more. It is sent at least once, in any order, and in most dialects
unsigned; what it says of an object is not even read, for ``lifecycle.notice`` asks S3 itself.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote_plus

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, JsonResponse, UnreadablePostError
from django.utils.crypto import constant_time_compare
from django.views.decorators.csrf import csrf_exempt

from . import conf, lifecycle, sns
from .destinations import is_storable
from .exceptions import BucketUnavailable, EventError, MalformedEvent
from .models import Upload

logger = logging.getLogger("s3direct_uploads")

MAX_BODY_BYTES = 1024**2  # SQS's and EventBridge's own limit; SNS's is a quarter of it
MAX_RECORDS = 100  # in one body; AWS and Ceph send one in each
# In one body: S3's own records have some thirty each. As a value, three bytes take up to 200.
MAX_VALUES = 20_000
RETRY_AFTER = 5  # seconds: S3's bad moments pass as quickly

Kind = Literal["created", "removed", "other"]


@dataclass(frozen=True)
class Event:
    """Something happened to an object, it is said."""

    bucket: str
    key: str  # as it was sent: URL-encoded or not
    kind: Kind

    @property
    def possible_keys(self) -> Iterator[str]:
        """AWS's own format URL-encodes, Ceph and EventBridge do not; a location may hold a "+"."""
        if len(self.key) > LONGEST_ENCODED_KEY:
            return
        for key in dict.fromkeys((self.key, unquote_plus(self.key))):
            # No row has another, and PostgreSQL takes no NUL even in a question.
            if len(key) <= KEY_LENGTH and is_storable([self.bucket, key]):
                yield key


@dataclass(frozen=True)
class Tally:
    """What became of some events: of ``again`` S3 could not be asked, so they must come again."""

    settled: int
    ignored: int
    again: int


KEY_LENGTH: int = Upload._meta.get_field("key").max_length or 0
LONGEST_ENCODED_KEY = KEY_LENGTH * 12  # four octets of UTF-8, as "%F0" each


# The parser: pure functions, from a body to events.


def parse(body: bytes | str | Mapping[str, Any]) -> list[Event]:
    """The events in the body of a webhook's request, or of an SQS message. Raises MalformedEvent.

    They may be S3's own records (AWS, Ceph, MinIO), as such or in an SNS envelope, or
    EventBridge's. A test event is none at all. No signature is verified here.
    """
    said = read(body)
    if sns.is_from_sns(said) and said["Type"] == "Notification":
        said = read(_text(said, "Message"))
    if said.get("Event") == "s3:TestEvent":
        return []
    if "detail-type" in said:
        return [_from_eventbridge(said)]
    records = said.get("Records")
    if not isinstance(records, list):
        raise MalformedEvent("These are no S3 events.")
    if len(records) > MAX_RECORDS:
        raise MalformedEvent(f"At most {MAX_RECORDS} records in one body.")
    return [_from_record(record) for record in records]


def read(body: bytes | str | Mapping[str, Any]) -> Mapping[str, Any]:
    """A JSON object. Raises MalformedEvent."""
    if isinstance(body, bytes | str) and _count_values(body) > MAX_VALUES:
        raise MalformedEvent("These are no S3 events: there is too much in them.")
    try:
        said = json.loads(body) if isinstance(body, bytes | str) else body
    except (ValueError, RecursionError):
        raise MalformedEvent("This is no JSON.") from None
    if not isinstance(said, Mapping):
        raise MalformedEvent("This is no JSON object.")
    return said


def _count_values(body: bytes | str) -> int:
    """As many as JSON has in it, or more: each but the outermost follows one of these."""
    if isinstance(body, str):
        return sum(map(body.count, "[{,"))
    return sum(map(body.count, (b"[", b"{", b",")))


def _from_record(record: Any) -> Event:
    s3 = _part(record, "s3")
    name = _text(record, "eventName").removeprefix("s3:")  # MinIO has it
    kind: Kind = "other"
    if name.startswith("ObjectCreated:"):
        kind = "created"
    elif name.startswith("ObjectRemoved:"):
        kind = "removed"
    return Event(_text(_part(s3, "bucket"), "name"), _text(_part(s3, "object"), "key"), kind)


def _from_eventbridge(said: Mapping[str, Any]) -> Event:
    kinds: dict[str, Kind] = {"Object Created": "created", "Object Deleted": "removed"}
    detail = _part(said, "detail")
    bucket, key = _text(_part(detail, "bucket"), "name"), _text(_part(detail, "object"), "key")
    return Event(bucket, key, kinds.get(_text(said, "detail-type"), "other"))


def _part(said: Any, name: str) -> Mapping[str, Any]:
    part = said.get(name) if isinstance(said, Mapping) else None
    if not isinstance(part, Mapping):
        raise MalformedEvent(f"{name!r} is missing.")
    return part


def _text(said: Any, name: str) -> str:
    text = said.get(name) if isinstance(said, Mapping) else None
    if not isinstance(text, str):
        raise MalformedEvent(f"{name!r} is missing.")
    return text


# What the events are for.


def settle(events: Iterable[Event]) -> Tally:
    """Look after every row that an event speaks of. Never raises: one bad row stops no other."""
    settled = ignored = again = 0
    away: set[str] = set()  # buckets: to ask S3 a hundred times while it is away takes minutes
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


# The webhook.


@csrf_exempt
@login_not_required
@lifecycle.never_atomic
def webhook(request: HttpRequest) -> JsonResponse:
    """``path("s3-events/", webhook)``: for Ceph, MinIO, EventBridge and SNS to POST to.

    404 unless ``EVENT_SECRET`` is set, which the sender says as ``Authorization: Bearer …`` or as
    the password of HTTP basic authentication. 200: done with; 503: send it again.
    """
    secret = conf.event_secret()
    if not secret:
        return _refuse(404, "not_found", "Not found.")
    if request.method != "POST":
        return _refuse(405, "method_not_allowed", "POST, please.", {"Allow": "POST"})
    if not constant_time_compare(_said_secret(request), secret):
        # SNS sends what its URL has only when it is asked for it.
        ask = {"WWW-Authenticate": 'Basic realm="s3-events"'}
        return _refuse(401, "not_authenticated", "The secret is missing or wrong.", ask)
    try:
        body = request.read(MAX_BODY_BYTES + 1)
        if len(body) > MAX_BODY_BYTES:
            raise RequestDataTooBig
        said = read(body)
        if sns.is_from_sns(said) and not sns.accept(said):
            return JsonResponse(_counts(Tally(settled=0, ignored=1, again=0)))
        tally = settle(parse(said))
    except RequestDataTooBig:
        return _refuse(413, "request_too_large", "This body is too large.")
    except UnreadablePostError:
        return _refuse(400, MalformedEvent.code, "The body did not arrive.")
    except EventError as error:
        if error.status == 503:
            return _again(error.code, error.detail)
        logger.warning("A request to the webhook was refused: %s", error.detail)
        return _refuse(error.status, error.code, error.detail)
    if tally.again:
        detail = "S3 does not answer as it should; send it again."
        return _again(BucketUnavailable.code, detail, **_counts(tally))
    return JsonResponse(_counts(tally))


def _said_secret(request: HttpRequest) -> bytes:
    """From the header alone: a URL is in every log."""
    scheme, _, said = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return said.strip().encode()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(said, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            pass
    return b""


def _counts(tally: Tally) -> dict[str, int]:
    return {"settled": tally.settled, "ignored": tally.ignored}


def _refuse(
    status: int, code: str, detail: str, headers: dict[str, str] | None = None, **more: int
) -> JsonResponse:
    body = {"code": code, "detail": detail, "errors": [], **more}
    return JsonResponse(body, status=status, headers=headers)


def _again(code: str, detail: str, **more: int) -> JsonResponse:
    headers = {"Retry-After": str(RETRY_AFTER)}
    return _refuse(503, code, detail, headers, retry_after=RETRY_AFTER, **more)
