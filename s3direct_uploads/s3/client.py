"""boto3's clients. All storages with the same connection options share one set, in all threads."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.client import Config
from botocore.exceptions import BotoCoreError
from django.core.exceptions import ImproperlyConfigured
from storages.backends.s3 import S3Storage

from s3direct_uploads.storage import addressed, find_endpoint
from s3direct_uploads.storage import connection_facts as facts_of

from .signer import Place

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

logger = logging.getLogger("s3direct_uploads")

# A worker that waits for S3 does nothing else. Two tries and a pause take 11 s at most.
CONNECT_TIMEOUT = 2  # seconds
READ_TIMEOUT = 3  # seconds; a HEAD takes milliseconds
MAX_ATTEMPTS = 2
PUT_READ_TIMEOUT = 60  # seconds; for scripts, because S3 answers slowly after gigabytes
# S3 may take minutes to join parts. We try only once: S3 treats a second request during the first
# as a conflict, and then may need all parts again.
COMPLETE_READ_TIMEOUT = 180  # seconds
MAX_CLOCK_SKEW = timedelta(seconds=60)  # with more, URLs expire too early or are not valid yet
# These object parameters of a storage are sent with every request that takes them, not only with a
# PUT.
SHARED_HEADERS = {
    "RequestPayer": "x-amz-request-payer",
    "ExpectedBucketOwner": "x-amz-expected-bucket-owner",
}
# Each tenant may have an S3 of its own. A session needs about 10 MiB, so only so many are kept.
MAX_CONNECTIONS = 32


class Connection:
    """The clients for a storage's connection options at one moment. Threads share them."""

    def __init__(self, storage: S3Storage, shared: Mapping[str, str]) -> None:
        self._options = {
            "region_name": storage.region_name,
            "use_ssl": storage.use_ssl,
            "verify": storage.verify,
        }
        self._shared = shared
        self._config: Config = storage.client_config
        self._making = threading.Lock()  # a session is not thread-safe while it makes a client
        self.buckets: dict[tuple[Any, ...], Any] = {}  # a cache of get_bucket
        self.places: dict[tuple[str, str], Place | None] = {}  # a cache of Signing
        public: str | None = getattr(storage, "public_endpoint_url", None)
        try:
            self.session = storage._create_session()
            self._endpoint = find_endpoint(storage, self.session)
        except (BotoCoreError, ValueError) as error:
            raise ImproperlyConfigured(f"No S3 client can be made: {error}") from error
        self.endpoint_url = self._endpoint.url
        self.client = self._make(self.endpoint_url)
        # The signature covers the host that clients use. This client only signs, and never sends.
        self.signer = self._make(public) if public else self.client

    @cached_property
    def creator(self) -> S3Client:
        # Only one try: after a lost answer, a second try would leave an upload that nobody knows.
        return self._make(self.endpoint_url, attempts=1)

    @cached_property
    def completer(self) -> S3Client:
        return self._make(self.endpoint_url, read_timeout=COMPLETE_READ_TIMEOUT, attempts=1)

    @cached_property
    def sender(self) -> S3Client:
        return self._make(self.endpoint_url, read_timeout=PUT_READ_TIMEOUT)

    def _make(
        self,
        endpoint_url: str | None,
        *,
        read_timeout: int = READ_TIMEOUT,
        attempts: int = MAX_ATTEMPTS,
    ) -> S3Client:
        style = self._endpoint.addressing_style(endpoint_url)
        config = addressed(self._config, style).merge(
            Config(
                # In two regions, botocore's default for presigned URLs is SigV2, which signs
                # neither length nor type.
                signature_version="s3v4",
                connect_timeout=CONNECT_TIMEOUT,
                read_timeout=read_timeout,
                retries={"mode": "standard", "total_max_attempts": attempts},
                max_pool_connections=50,  # so many threads of one process may wait for S3 at once
                # Some servers fail on the trailers that boto3 adds by default.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            )
        )
        try:
            with self._making:
                client: S3Client = self.session.client(
                    "s3", endpoint_url=endpoint_url, config=config, **self._options
                )
        except (BotoCoreError, ValueError) as error:
            raise ImproperlyConfigured(f"No S3 client can be made: {error}") from error
        client.meta.events.register("after-call.s3", watch_clock)
        client.meta.events.register("needs-retry.s3", self._watch_region)
        if self._shared:
            client.meta.events.register("provide-client-params.s3", self._share)
            client.meta.events.register("before-sign.s3.GetObject", _say_it_in_the_url)
        return client

    def _share(self, params: Any, model: Any, **_: Any) -> Any:
        takes = model.input_shape.members if model.input_shape else ()
        return {name: value for name, value in self._shared.items() if name in takes} | params

    def _watch_region(self, response: Any, **_: Any) -> None:
        # botocore now knows that a bucket is in another region, and signs for that one.
        if response is not None and response[0].status_code in (301, 302, 307, 400):
            self.places.clear()


# What botocore asks its handlers while it presigns.
PRESIGNING = (
    *("provide-client-params", "before-parameter-build", "before-endpoint-resolution"),
    *("choose-signer", "before-sign"),
)


def has_foreign_handlers(client: S3Client, operation: str) -> bool:
    """Whether a host's own code takes part when this client presigns; also if nobody can tell.

    A host registers such handlers on the session that its storage makes.
    """
    try:
        tree = client.meta.events._emitter._handlers  # type: ignore[attr-defined]
        handlers = [
            handler
            for event in PRESIGNING
            for handler in tree.prefix_search(f"{event}.s3.{operation}")
        ]
    except AttributeError:
        return True
    ours = ("botocore.", "boto3.", __name__)
    return not all(getattr(each, "__module__", "").startswith(ours) for each in handlers)


class Facts(NamedTuple):
    """The options of a storage that its clients depend on."""

    options: tuple[Any, ...]
    shared: tuple[tuple[str, str], ...]  # of SHARED_HEADERS


def connection_facts(storage: S3Storage) -> Facts:
    said = storage.object_parameters
    said = said if isinstance(said, Mapping) else {}  # begin reports that it is wrong
    return Facts(
        facts_of(storage),
        tuple((name, said[name]) for name in SHARED_HEADERS if isinstance(said.get(name), str)),
    )


@lru_cache(MAX_CONNECTIONS)
def connect(storage: S3Storage, facts: Facts) -> Connection:
    return Connection(storage, dict(facts.shared))


# After a fork, a child must not use the connections of its parent.
os.register_at_fork(after_in_child=connect.cache_clear)


def _say_it_in_the_url(request: Any, signature_version: str, **_: Any) -> None:
    """Move our headers into the query of a presigned GET: a browser sends none for a link."""
    if signature_version.endswith("-query"):
        for header in SHARED_HEADERS.values():
            if header in request.headers:
                request.params[header] = request.headers[header]
                del request.headers[header]


# The answers of one second have the same date.
_read_date = lru_cache(16)(parsedate_to_datetime)

_skew_was_logged = float("-inf")


def watch_clock(http_response: Any, **_: Any) -> None:
    """Log if this machine's clock is wrong: its URLs expire too early, or are not valid yet."""
    global _skew_was_logged
    try:
        theirs = _read_date(http_response.headers["Date"])
        skew = datetime.now(UTC) - theirs
    except (KeyError, TypeError, ValueError):  # the header is missing, or cannot be read
        return
    if abs(skew) > MAX_CLOCK_SKEW and time.monotonic() - _skew_was_logged > 3600:
        _skew_was_logged = time.monotonic()
        logger.warning(
            "This machine's clock is %d s %s S3's, so presigned URLs may fail. Set it by NTP.",
            abs(skew.total_seconds()),
            "ahead of" if skew > timedelta(0) else "behind",
        )
