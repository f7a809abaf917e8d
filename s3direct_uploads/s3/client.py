"""boto3's clients: one set for what a storage says of its S3, shared by threads."""

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

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

logger = logging.getLogger("s3direct_uploads")

# A worker that waits for S3 is a worker lost: two tries and a pause make 11 s at the very most.
CONNECT_TIMEOUT = 2  # seconds
READ_TIMEOUT = 3  # seconds; a HEAD takes milliseconds
MAX_ATTEMPTS = 2
PUT_READ_TIMEOUT = 60  # seconds; for scripts: after gigabytes S3 takes its time to answer
# To put an object's parts together can take minutes. Tried once: S3 takes a second request beside
# the first for a conflict, and then may want all the parts anew.
COMPLETE_READ_TIMEOUT = 180  # seconds
MAX_CLOCK_SKEW = timedelta(seconds=60)  # by more, URLs end too early or begin too late
# Of the storage's object parameters, what goes with every request that takes it, not with a PUT
# alone.
SHARED_HEADERS = {
    "RequestPayer": "x-amz-request-payer",
    "ExpectedBucketOwner": "x-amz-expected-bucket-owner",
}
# A tenant may have an S3 of its own. A session has some 10 MiB, so no more are kept than this.
MAX_CONNECTIONS = 32


class Connection:
    """The clients of a storage, as it described its S3 when it was asked. Threads share them."""

    def __init__(self, storage: S3Storage, shared: Mapping[str, str]) -> None:
        self._options = {
            "region_name": storage.region_name,
            "use_ssl": storage.use_ssl,
            "verify": storage.verify,
        }
        self._shared = shared
        self._config: Config = storage.client_config
        self._making = threading.Lock()  # clients: a session is not safe for threads
        self.buckets: dict[tuple[Any, ...], Any] = {}  # those that use it, kept by get_bucket
        public: str | None = getattr(storage, "public_endpoint_url", None)
        try:
            self.session = storage._create_session()
            self._endpoint = find_endpoint(storage, self.session)
        except (BotoCoreError, ValueError) as error:
            raise ImproperlyConfigured(f"No S3 client can be made: {error}") from error
        self.endpoint_url = self._endpoint.url
        self.client = self._make(self.endpoint_url)
        # The host that clients see is a part of what is signed. This client never sends.
        self.signer = self._make(public) if public else self.client

    @cached_property
    def creator(self) -> S3Client:
        # Tried once: where the first answer was lost, the second would hide an upload for good.
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
                # botocore's default for presigned URLs, SigV2 in two regions, signs no length or
                # type.
                signature_version="s3v4",
                connect_timeout=CONNECT_TIMEOUT,
                read_timeout=read_timeout,
                retries={"mode": "standard", "total_max_attempts": attempts},
                max_pool_connections=50,  # threads of one process that wait for S3 at once
                # Other servers than AWS's stumble over the trailers that boto3 adds by default.
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
        if self._shared:
            client.meta.events.register("provide-client-params.s3", self._share)
            client.meta.events.register("before-sign.s3.GetObject", _say_it_in_the_url)
        return client

    def _share(self, params: Any, model: Any, **_: Any) -> Any:
        takes = model.input_shape.members if model.input_shape else ()
        return {name: value for name, value in self._shared.items() if name in takes} | params


class Facts(NamedTuple):
    """What a storage says that makes other clients."""

    options: tuple[Any, ...]
    shared: tuple[tuple[str, str], ...]  # of SHARED_HEADERS


def connection_facts(storage: S3Storage) -> Facts:
    said = storage.object_parameters
    said = said if isinstance(said, Mapping) else {}  # begin says that it is wrong
    return Facts(
        facts_of(storage),
        tuple((name, said[name]) for name in SHARED_HEADERS if isinstance(said.get(name), str)),
    )


@lru_cache(MAX_CONNECTIONS)
def connect(storage: S3Storage, facts: Facts) -> Connection:
    return Connection(storage, dict(facts.shared))


# A client's connections must not be shared with the parent's.
os.register_at_fork(after_in_child=connect.cache_clear)


def _say_it_in_the_url(request: Any, signature_version: str, **_: Any) -> None:
    """Of a presigned GET: whoever follows a link sends no headers of ours, and S3 reads both."""
    if signature_version.endswith("-query"):
        for header in SHARED_HEADERS.values():
            if header in request.headers:
                request.params[header] = request.headers[header]
                del request.headers[header]


_skew_was_logged = float("-inf")


def watch_clock(http_response: Any, **_: Any) -> None:
    """A clock that is wrong makes URLs that end too early, or are not valid yet."""
    global _skew_was_logged
    try:
        theirs = parsedate_to_datetime(http_response.headers["Date"])
        skew = datetime.now(UTC) - theirs
    except (KeyError, TypeError, ValueError):  # none, or none that can be read
        return
    if abs(skew) > MAX_CLOCK_SKEW and time.monotonic() - _skew_was_logged > 3600:
        _skew_was_logged = time.monotonic()
        logger.warning(
            "This machine's clock is %d s %s S3's: presigned URLs suffer. Set it by NTP.",
            abs(skew.total_seconds()),
            "ahead of" if skew > timedelta(0) else "behind",
        )
