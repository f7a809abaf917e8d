"""The dialects of S3's event notifications: from a body to events. Nothing is asked here.

AWS, Ceph and MinIO send S3's own records, some of them in an SNS envelope. EventBridge has a format
of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote_plus

from s3direct_uploads.destinations import is_storable
from s3direct_uploads.exceptions import MalformedEvent
from s3direct_uploads.models import Upload

from . import sns

MAX_RECORDS = 100  # in one body; AWS and Ceph send one per body
# In one body. A record of S3 has about thirty. Three bytes of JSON can take 200 bytes of memory.
MAX_VALUES = 20_000

KEY_LENGTH: int = Upload._meta.get_field("key").max_length or 0
LONGEST_ENCODED_KEY = KEY_LENGTH * 12  # four bytes of UTF-8, each written as "%F0"

Kind = Literal["created", "removed", "other"]


@dataclass(frozen=True)
class Event:
    """Somebody says that something happened to an object."""

    bucket: str
    key: str  # as it was sent: URL-encoded or not
    kind: Kind

    @property
    def possible_keys(self) -> Iterator[str]:
        """The keys that may be meant. AWS URL-encodes them, Ceph and EventBridge do not."""
        if len(self.key) > LONGEST_ENCODED_KEY:
            return
        for key in dict.fromkeys((self.key, unquote_plus(self.key))):
            # No row has any other key, and PostgreSQL accepts no NUL, in a query either.
            if len(key) <= KEY_LENGTH and is_storable([self.bucket, key]):
                yield key


def parse(body: bytes | str | Mapping[str, Any]) -> list[Event]:
    """The events in the body of a webhook's request, or of an SQS message.

    S3's test event is no event: the list is empty then. No signature is verified here. Raises
    MalformedEvent.
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
    """The JSON object in this body. Raises MalformedEvent, also if it has too many values."""
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
    """How many values this JSON has, at most: each but the outermost follows one of these."""
    if isinstance(body, str):
        return sum(map(body.count, "[{,"))
    return sum(map(body.count, (b"[", b"{", b",")))


def _from_record(record: Any) -> Event:
    s3 = _part(record, "s3")
    name = _text(record, "eventName").removeprefix("s3:")  # MinIO sends the prefix
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
