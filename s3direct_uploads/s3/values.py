"""What is signed for clients, and what S3 is found to have: plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

CHECKSUMS = ("SHA256", "CRC32", "CRC64NVME")


@dataclass(frozen=True)
class PresignedRequest:
    """What a client is to send, exactly. Never stored, logged or shown in the admin."""

    method: str
    url: str = field(repr=False)
    headers: dict[str, str]
    expires_in: int  # seconds


@dataclass(frozen=True)
class PresignedPart:
    """A PUT of one part, of exactly this size."""

    part_number: int  # from 1
    size: int  # bytes
    url: str = field(repr=False)
    headers: dict[str, str]


@dataclass(frozen=True)
class PresignedMultipart:
    """What a client needs to begin to send in parts; more are signed when it asks."""

    part_size: int  # bytes; the last part may be smaller
    part_count: int
    parts: list[PresignedPart]  # the first ones
    expires_in: int  # seconds


@dataclass(frozen=True)
class StoredPart:
    """A part that S3 has."""

    part_number: int
    size: int  # bytes
    etag: str


@dataclass(frozen=True)
class StoredObject:
    """What a HEAD found."""

    size: int  # bytes
    content_type: str
    etag: str
    version_id: str  # "" where the bucket has no versions
    checksums: dict[str, str]  # {"SHA256": base64}: those that S3 returned, of the whole object
    parameters: dict[str, Any]  # {"CacheControl": "no-cache"}: those of STORED_UNSIGNED it has


@dataclass(frozen=True)
class Listed:
    """An object, or a multipart upload that is open, as S3 lists it."""

    key: str
    since: datetime
    size: int = 0  # bytes, of an object
    upload_id: str = ""  # of a multipart upload
