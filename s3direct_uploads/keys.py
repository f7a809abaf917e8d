"""Keys: the names of objects in the bucket. We make them, nobody can guess them, we can prove them.

<location>/<prefix>/<random><mac>/<tail>
 storage    rules     22     11    the filename, in [A-Za-z0-9._-]
           └───────────── name ─────────────┘   what a FileField stores

The tail is ASCII. S3 compares keys byte for byte, so "é" of macOS and "é" of Windows would be two
keys, and some clients, proxies and CDNs change one into the other. Each sender of events encodes
such characters in its own way. People see the filename in its column, and in downloads.

The MAC covers the whole key, the bucket and the site. ``site`` is a text that differs for each
site, tenant and database that share a bucket and SECRET_KEY (``lifecycle.site()``). So a key proves
that its object belongs to this database, whose rows say whether the object is still needed.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import unicodedata

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation
from django.core.files.storage import Storage
from django.utils.crypto import constant_time_compare, salted_hmac
from storages.backends.s3 import S3Storage
from storages.utils import clean_name

RANDOM_LENGTH = 22  # 128 bits in base64url
MAC_LENGTH = 11  # 66 bits in base64url: to forge one takes 2^65 PUTs
MAX_EXTENSION_LENGTH = 10
MIN_TAIL_LENGTH = len("file.") + MAX_EXTENSION_LENGTH
# A prefix may have the rest of a name's length.
RESERVED_LENGTH = RANDOM_LENGTH + MAC_LENGTH + len("/") + MIN_TAIL_LENGTH

EXTENSION = re.compile(rf"[A-Za-z0-9]{{1,{MAX_EXTENSION_LENGTH}}}")
PREFIX = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9._-]*/)*")
KEY = re.compile(
    rf"(.*/|)([A-Za-z0-9_-]{{{RANDOM_LENGTH}}})([A-Za-z0-9_-]{{{MAC_LENGTH}}})/([A-Za-z0-9._-]+)"
)


def new_name(
    site: str, bucket: str, location: str, prefix: str, filename: str, max_length: int
) -> str:
    """Make a new name of at most ``max_length`` characters. ``join(location, name)`` is its key.

    Raises ImproperlyConfigured if the prefix is malformed, or too long for ``max_length``.
    """
    if not isinstance(prefix, str) or not PREFIX.fullmatch(prefix):
        raise ImproperlyConfigured(f"An upload's prefix must look like 'some/folder/': {prefix!r}")
    if len(prefix) > max_length - RESERVED_LENGTH:
        raise ImproperlyConfigured(
            f"The prefix {prefix!r} is too long for names of {max_length} characters."
        )
    random = secrets.token_urlsafe(16)
    tail = _tail(filename, max_length - len(prefix) - RESERVED_LENGTH + MIN_TAIL_LENGTH)
    mac = _mac(settings.SECRET_KEY, site, bucket, join(location, f"{prefix}{random}/{tail}"))
    return f"{prefix}{random}{mac}/{tail}"


def join(location: str, name: str) -> str:
    """The key of ``name`` in a storage with this location."""
    location = location.strip("/")
    return f"{location}/{name}" if location else name


def location_of(storage: Storage) -> str:
    """The storage's folder in the bucket; "" if the storage is not on S3."""
    return storage.location if isinstance(storage, S3Storage) else ""


def key_of(storage: Storage, name: str) -> str:
    """The key that the storage uses for this name. "a/../b" and "./b" are the same key as "b"."""
    name = clean_name(name)
    if isinstance(storage, S3Storage):
        try:
            return str(storage._normalize_name(name))
        except SuspiciousOperation:
            pass  # it is outside of the storage, which refuses to use it
    return join(location_of(storage), name)


def possible_names(key: str) -> list[str]:
    """The names that a storage may have for this key, if its location is not known.

    A key of ours is never only its tail: other files have the same.
    """
    parts = key.split("/")
    shortest = 2 if KEY.fullmatch(key) else 1
    return ["/".join(parts[start:]) for start in range(max(1, len(parts) - shortest + 1))]


def name_in(storage: Storage, bucket: str, key: str) -> str | None:
    """The name by which this storage knows the key of a bucket; None if it is not in it."""
    folder = join(location_of(storage), "")
    if getattr(storage, "bucket_name", bucket) != bucket or not key.startswith(folder):
        return None
    return key.removeprefix(folder)


def is_ours(site: str, bucket: str, key: str) -> bool:
    """Whether this site made this key for this bucket. If not, we must not delete its object."""
    match = KEY.fullmatch(key)
    if match is None:
        return False
    before, random, mac, tail = match.groups()
    return any(
        constant_time_compare(mac, _mac(secret, site, bucket, f"{before}{random}/{tail}"))
        for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    )


def _mac(secret: str | bytes, site: str, bucket: str, unsigned_key: str) -> str:
    # The bucket is included, so that a copy in a backup bucket is not taken for ours. JSON, because
    # two different sites and keys could be the same text if they were only joined.
    signed = json.dumps([site, bucket, unsigned_key])
    mac = salted_hmac("s3direct_uploads.key", signed, secret=secret, algorithm="sha256")
    return base64.urlsafe_b64encode(mac.digest())[:MAC_LENGTH].decode()


def _tail(filename: str, room: int) -> str:
    """The filename in safe characters. If it is too long, its stem is cut, never its extension."""
    legible = unicodedata.normalize("NFKD", filename).encode("ascii", "ignore").decode()
    # No dot at either end: software that normalises URLs would remove a tail of "..".
    legible = re.sub(r"[^A-Za-z0-9._-]+", "-", legible).rstrip("-.")
    stem, dot, extension = legible.rpartition(".")
    if not dot or not EXTENSION.fullmatch(extension):
        stem, extension = legible, ""
    suffix = f".{extension}" if extension else ""
    return (stem.strip("-.")[: room - len(suffix)].rstrip("-.") or "file") + suffix
