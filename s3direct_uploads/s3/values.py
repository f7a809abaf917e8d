"""What is signed for clients, and what S3 is found to have: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

CHECKSUMS = ("SHA256", "CRC32", "CRC64NVME")


# A server may keep these when a client merely adds them to a PUT, signed or not: a decompression
# bomb, a poisoned cache. Each with the member of a HEAD that has it. The first five all servers
# keep; the others Ceph does, which takes x-goog-meta-* and the like for x-amz-meta-*.
STORED_UNSIGNED = {
    "CacheControl": "CacheControl",
    "ContentDisposition": "ContentDisposition",
    "ContentEncoding": "ContentEncoding",
    "ContentLanguage": "ContentLanguage",
    "Expires": "ExpiresString",
    "Metadata": "Metadata",
    "WebsiteRedirectLocation": "WebsiteRedirectLocation",
}
# A browser adds one of these to a request that has If-None-Match (Fetch standard): Chromium the
# first, Firefox the second. Neither does harm.
BROWSERS_OWN = {"CacheControl": ("max-age=0", "no-cache")}


@dataclass(frozen=True)
class Declared:
    """An object as it was declared. All of it is signed: S3 refuses anything else."""

    size: int  # bytes
    content_type: str = ""
    checksum_algorithm: str = ""
    checksum: str = ""  # base64, of the whole object
    # What the storage and the destination add: {"CacheControl": "no-cache"}.
    parameters: Mapping[str, Any] = field(default_factory=dict)


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

    def unsigned(self, signed: Mapping[str, Any]) -> list[str]:
        """The names of the parameters that are not as they were ``signed``."""
        wrong = []
        for name in STORED_UNSIGNED:
            found, wanted = self.parameters.get(name), signed.get(name) or None
            if found != wanted and (wanted or found not in BROWSERS_OWN.get(name, ())):
                wrong.append(name)
        return wrong


@dataclass(frozen=True)
class Listed:
    """An object, or a multipart upload that is open, as S3 lists it."""

    key: str
    since: datetime
    size: int = 0  # bytes, of an object
    upload_id: str = ""  # of a multipart upload
