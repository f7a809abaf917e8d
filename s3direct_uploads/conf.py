"""The S3DIRECT_UPLOADS setting with types. It is read at each access, so override_settings works.

A wrong value never raises here: the default is used instead, and a system check reports the value.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any, TypeGuard

from django.conf import settings

from .partitions import TOPIC_ARN

# S3 refuses a presigned URL with a longer life.
MAX_URL_EXPIRES = timedelta(days=7)

MAX_DURATION = timedelta(days=3650)  # so that a date plus a duration is still a date

DURATIONS = {
    "URL_EXPIRES": timedelta(hours=1),
    "PENDING_EXPIRES": timedelta(days=1),
    "MULTIPART_EXPIRES": timedelta(days=7),
    "SWEEP_GRACE": timedelta(hours=1),
    "HOLD_RETRY": timedelta(minutes=15),
    "HOLD_EXPIRES": timedelta(days=1),
}
DEFAULT_MAX_NAME_LENGTH = 100  # the default max_length of a FileField
MIN_NAME_LENGTH, MAX_NAME_LENGTH = 64, 512
MIN_SECRET_LENGTH = 16  # 96 bits in base64; the check's hint makes one of 256 bits
KNOWN_KEYS = {
    *("DESTINATIONS", "MAX_NAME_LENGTH", "EVENT_SECRET", "SNS_TOPICS", "SITE"),
    *DURATIONS,
}


def raw() -> Mapping[str, Any]:
    """The setting as it was written; empty if it is no dict."""
    value = getattr(settings, "S3DIRECT_UPLOADS", None)
    return value if isinstance(value, Mapping) else {}


def parse_duration(value: object) -> timedelta | None:
    """A timedelta, or a whole number of seconds, above zero; None if it is neither."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = timedelta(seconds=value) if 0 < value < 10**9 else None
    if isinstance(value, timedelta) and timedelta(0) < value <= MAX_DURATION:
        return value
    return None


def _duration(key: str) -> timedelta:
    return parse_duration(raw().get(key)) or DURATIONS[key]


def destinations() -> Mapping[str, Any]:
    """The value of each destination by its name; empty if DESTINATIONS is no dict."""
    value = raw().get("DESTINATIONS")
    return value if isinstance(value, Mapping) else {}


def url_expires() -> timedelta:
    """How long a signature is valid."""
    return min(_duration("URL_EXPIRES"), MAX_URL_EXPIRES)


def pending_expires() -> timedelta:
    """How long after begin a client may send an upload: its deadline."""
    return _duration("PENDING_EXPIRES")


def multipart_expires() -> timedelta:
    """As ``pending_expires``, for an upload in parts. A client can resume it until then."""
    return _duration("MULTIPART_EXPIRES")


def sweep_grace() -> timedelta:
    """How long after a URL expired a request may still be running that began before."""
    return _duration("SWEEP_GRACE")


def hold_retry() -> timedelta:
    """How long after an upload was held its scan is asked for again; each pause is longer."""
    return _duration("HOLD_RETRY")


def hold_expires() -> timedelta:
    """How long a scan may hold an upload. After that the upload is rejected."""
    return _duration("HOLD_EXPIRES")


def max_name_length() -> int:
    """The longest name in characters: the max_length of the host's FileFields."""
    value = raw().get("MAX_NAME_LENGTH")
    if isinstance(value, int) and MIN_NAME_LENGTH <= value <= MAX_NAME_LENGTH:
        return value
    return DEFAULT_MAX_NAME_LENGTH


def event_secret() -> str:
    """The secret that a sender of S3 events must know. If it is empty, the webhook is off."""
    value = raw().get("EVENT_SECRET")
    return value if is_secret(value) else ""


def is_secret(value: object) -> TypeGuard[str]:
    """Whether it is long enough, and needs no quoting in a header, a URL and a shell."""
    return isinstance(value, str) and (
        re.fullmatch(rf"[A-Za-z0-9._~-]{{{MIN_SECRET_LENGTH},}}", value) is not None
    )


def site() -> str:
    """The name of this site among those that share a bucket and SECRET_KEY; "" if it has none."""
    value = raw().get("SITE")
    return value if is_site(value) else ""


def is_site(value: object) -> TypeGuard[str]:
    """Whether this is a valid value of SITE."""
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value) is not None


def sns_topics() -> Collection[str]:
    """The ARNs of the SNS topics whose messages the webhook accepts."""
    value = raw().get("SNS_TOPICS")
    return value if are_topics(value) else ()


def are_topics(value: object) -> TypeGuard[Collection[str]]:
    """Whether this is a valid value of SNS_TOPICS."""
    return isinstance(value, list | tuple | set | frozenset) and all(
        isinstance(each, str) and TOPIC_ARN.fullmatch(each) for each in value
    )
