"""Plain values: what is signed for clients, and what S3 has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

CHECKSUMS = ("SHA256", "CRC32", "CRC64NVME")


# If a client adds these headers to a PUT, S3 stores them although nobody signed them. An attacker
# could use this for a decompression bomb, or to poison a cache. The value is the member of a HEAD's
# answer that has it. All servers store the first five. Ceph stores the others: it treats
# x-goog-meta-* and similar headers as x-amz-meta-*.
STORED_UNSIGNED = {
    "CacheControl": "CacheControl",
    "ContentDisposition": "ContentDisposition",
    "ContentEncoding": "ContentEncoding",
    "ContentLanguage": "ContentLanguage",
    "Expires": "ExpiresString",
    "Metadata": "Metadata",
    "WebsiteRedirectLocation": "WebsiteRedirectLocation",
}
# A browser adds one of these to a request with If-None-Match (Fetch standard): Chromium the first,
# Firefox the second. Both are harmless.
BROWSERS_OWN = {"CacheControl": ("max-age=0", "no-cache")}


@dataclass(frozen=True)
class Declared:
    """An object as the client declared it. All of it is signed, so S3 refuses anything else."""

    size: int  # bytes
    content_type: str = ""
    checksum_algorithm: str = ""
    checksum: str = ""  # base64, of the whole object
    # Added by the storage and the destination: {"CacheControl": "no-cache"}.
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PresignedRequest:
    """The request that a client must send, unchanged. It is never stored, logged or shown."""

    method: str
    url: str = field(repr=False)
    headers: dict[str, str]
    expires_in: int  # seconds


@dataclass(frozen=True)
class PresignedPart:
    """The PUT of one part of exactly this size."""

    part_number: int  # from 1
    size: int  # bytes
    url: str = field(repr=False)
    headers: dict[str, str]


@dataclass(frozen=True)
class PresignedMultipart:
    """What a client needs to begin sending parts. It asks for the URLs of later parts."""

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
    version_id: str  # "" if the bucket has no versions
    checksums: dict[str, str]  # {"SHA256": base64}: of the whole object, as S3 returned them
    parameters: dict[str, Any]  # {"CacheControl": "no-cache"}: the names are in STORED_UNSIGNED

    def unsigned(self, signed: Mapping[str, Any]) -> list[str]:
        """The names of the parameters that differ from the ``signed`` ones."""
        wrong = []
        for name in STORED_UNSIGNED:
            found, wanted = self.parameters.get(name), signed.get(name) or None
            if found != wanted and (wanted or found not in BROWSERS_OWN.get(name, ())):
                wrong.append(name)
        return wrong


@dataclass(frozen=True)
class Listed:
    """An object, or an open multipart upload, in a listing of S3."""

    key: str
    since: datetime
    size: int = 0  # bytes, of an object
    upload_id: str = ""  # of a multipart upload
