"""HEAD an object as boto3 does, with a third of its CPU time.

boto3 sends the first HEAD of a bucket, and we learn from its request: host, path, region and
headers. We send the next ones by its own HTTP session, so proxies, certificates, timeouts and
connections are the same. Only two answers are read here: 200 with plain headers, and 404. boto3
gets every other answer, as if it had come to its own first try. So it reads all failures, and a
HEAD is never sent more often than boto3 sends it.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from botocore.awsrequest import AWSPreparedRequest, AWSResponse, HeadersDict
from django.utils.translation import gettext_noop as _

from s3direct_uploads.exceptions import BucketUnavailable, ObjectMissing

from . import signer
from .client import MAX_CONNECTIONS, watch_clock
from .failures import failures
from .values import CHECKSUMS, STORED_UNSIGNED, StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

logger = logging.getLogger("s3direct_uploads")

SENDING = "before-send.s3.HeadObject"  # moto and tests answer this event instead of S3
# The other events of a HEAD. If somebody else listens to one of them, boto3 sends every HEAD.
OTHER_EVENTS = (
    *("provide-client-params", "before-parameter-build", "before-endpoint-resolution"),
    *("before-call", "request-created", "choose-signer", "before-sign", "before-parse"),
    *("response-received", "needs-retry", "after-call", "after-call-error"),
)
# We sign these headers again for each request.
OF_EACH = {"authorization", "x-amz-date", "x-amz-security-token"}
# They count the tries of boto3, and S3 does not need them.
OF_RETRIES = {"amz-sdk-invocation-id", "amz-sdk-request"}
# They are the same in each request. With any other header, boto3 sends every HEAD.
OF_ALL = {
    *("user-agent", "x-amz-content-sha256", "x-amz-checksum-mode"),
    *("x-amz-request-payer", "x-amz-expected-bucket-owner"),
}
AUTHORIZATION = re.compile(
    signer.ALGORITHM + r" Credential=.+/\d{8}/([^/]+)/([^/]+)/aws4_request, "
    r"SignedHeaders=([^,]+), Signature=[0-9a-f]{64}"
)
# Within these years, botocore and email.utils read a date alike.
HTTP_DATE = re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} (19[7-9]|20\d)\d \d\d:\d\d:\d\d GMT")


@dataclass(frozen=True)
class Known:
    """What all HEADs to a bucket have in common, as boto3 sent one."""

    root: str  # "https://media.s3.eu-central-1.amazonaws.com/": the key follows
    host: str
    folder: str  # the path of ``root``
    region: str
    service: str
    headers: Mapping[str, str]  # in lower case
    listeners: object  # botocore's cache of handlers: a new one after each change of them
    is_seen: bool  # whether somebody else looks at each request before it is sent


class Heading:
    """The part of a bucket that asks S3 for what it has at a key."""

    name: str
    _client: S3Client
    _credentials: Any
    _known: Known | None = None

    def _head(self, key: str) -> StoredObject:
        first = self._try(key)
        found = _read(self._client, first) if isinstance(first, AWSResponse) else None
        return _stored(self._by_boto3(key, first) if found is None else found)

    def _try(self, key: str) -> AWSResponse | Exception | None:
        """Send the HEAD. Returns what came; None if it was not sent, and boto3 must send it."""
        request = self._signed(key)
        if request is None:
            return None
        client: Any = self._client
        answer = None
        try:
            answered = client.meta.events.emit(SENDING, request=request)
            answer = next((each for _, each in answered if each is not None), None)
            if answer is None:
                answer = client._endpoint.http_session.send(request)
        except Exception as error:  # boto3 gets it, and knows whether to try again
            self._known = None
            return error
        if answer.status_code not in (200, 404):
            self._known = None  # perhaps the bucket or its region changed: learn again
        return answer  # type: ignore[no-any-return]

    def _signed(self, key: str) -> AWSPreparedRequest | None:
        """The request; None if boto3 must send it."""
        known = self._known
        if known is None or not key:
            return None
        handlers = _handlers(self._client)
        if handlers is not known.listeners:
            if _is_watched(self._client):
                return None
            is_seen = _is_seen(self._client)
            self._known = known = replace(known, listeners=handlers, is_seen=is_seen)
        if _is_replaced(self._client):
            return None
        try:
            quoted = quote(key, safe="/~")
            credentials = self._credentials.get_frozen_credentials()
        except Exception:  # boto3 tries the same, and says what is wrong
            self._known = None
            return None
        timestamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        headers = {**known.headers, "x-amz-date": timestamp}
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        headers["authorization"] = signer.authorization(
            signer.Credentials(credentials.access_key, credentials.secret_key),
            region=known.region,
            service=known.service,
            method="HEAD",
            host=known.host,
            path=known.folder + quoted,
            headers=headers,
        )
        # boto3's class of headers takes longer than the signature. Others may rely on it.
        sent: Any = HeadersDict(headers) if known.is_seen else headers
        return AWSPreparedRequest("HEAD", known.root + quoted, sent, None, False)

    def _by_boto3(self, key: str, first: AWSResponse | Exception | None) -> Mapping[str, Any]:
        """boto3's answer. If ``first`` came already, boto3 takes it for that of its first try."""
        events: Any = self._client.meta.events  # its type stub allows no answer
        events.register_first(SENDING, _hand_over, unique_id=__name__)
        _thread.call = call = Call(first)
        try:
            with failures("HeadObject"):
                found: Mapping[str, Any] = self._client.head_object(
                    Bucket=self.name, Key=key, ChecksumMode="ENABLED"
                )
        except ObjectMissing:
            self._known = self._learned(key, call.request)
            raise
        finally:
            _thread.call = None
        self._known = self._learned(key, call.request)
        return found

    def _learned(self, key: str, request: AWSPreparedRequest | None) -> Known | None:
        """What all HEADs have in common. None if we would not sign this one as boto3 did.

        This decides whether a storage's HEADs are ours. boto3 sends those without a signature, with
        another kind of it (S3 Express, SigV4a), with a query, and with headers of the host.
        """
        client: Any = self._client
        try:
            # These are private. Without them, boto3 sends every HEAD.
            handlers = _handlers(client)
            missing = request is None or client._endpoint.http_session is None
            if missing or _is_watched(client):
                return None
            frozen = self._credentials.get_frozen_credentials()
        except Exception:  # the HEAD itself was answered, so this is no failure
            return None
        assert request is not None
        headers = {name.lower(): _text(value) for name, value in request.headers.items()}
        said = AUTHORIZATION.fullmatch(headers.get("authorization", ""))
        quoted = quote(key, safe="/~")
        usual = headers.keys() <= OF_EACH | OF_RETRIES | OF_ALL
        if not said or not usual or "?" in request.url or not request.url.endswith(f"/{quoted}"):
            return None
        region, service, names = said.groups()
        root = request.url.removesuffix(quoted)
        host, folder = signer.host_and_path(root)
        ours = signer.authorization(
            signer.Credentials(frozen.access_key, frozen.secret_key),
            region=region,
            service=service,
            method="HEAD",
            host=host,
            path=folder + quoted,
            headers={name: headers[name] for name in names.split(";") if name != "host"},
        )
        if ours != headers["authorization"]:
            return None
        common = {name: value for name, value in headers.items() if name in OF_ALL}
        return Known(root, host, folder, region, service, common, handlers, _is_seen(client))


@dataclass
class Call:
    """A HEAD by boto3 in this thread."""

    first: AWSResponse | Exception | None  # what came before, until boto3 takes it
    request: AWSPreparedRequest | None = None  # that boto3 made last


class Thread(threading.local):
    call: Call | None = None


_thread = Thread()


def _hand_over(request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
    """botocore calls this before it sends a HEAD, and does not send it if it gets an answer."""
    call = _thread.call
    if call is None:
        return None
    call.request = request
    first, call.first = call.first, None
    if isinstance(first, Exception):
        raise first
    return first


# What came.


class Members(NamedTuple):
    """The headers of an answer, in lower case, as botocore's model describes them."""

    texts: tuple[tuple[str, str], ...]  # the member of boto3's answer, and its header
    numbers: tuple[str, ...]
    dates: tuple[str, ...]
    metadata: str  # the beginning of these headers' names


WANTED = {
    *("ContentType", "ETag", "VersionId", "ChecksumType", *STORED_UNSIGNED),
    *(f"Checksum{algorithm}" for algorithm in CHECKSUMS),
}


@lru_cache(MAX_CONNECTIONS)
def _members(service: Any) -> Members:
    shapes: Mapping[str, Any] = service.operation_model("HeadObject").output_shape.members
    headers = {
        name: (shape.serialization.get("name", name).lower(), shape.type_name)
        for name, shape in shapes.items()
        if shape.serialization.get("location") == "header"
    }
    return Members(
        tuple((name, header) for name, (header, _) in headers.items() if name in WANTED),
        tuple(header for header, kind in headers.values() if kind in ("integer", "long")),
        tuple(header for header, kind in headers.values() if kind == "timestamp"),
        shapes["Metadata"].serialization["name"].lower(),
    )


def _read(client: S3Client, answer: AWSResponse) -> Mapping[str, Any] | None:
    """What boto3 would return of this answer; None if boto3 must look at it.

    Raises ObjectMissing.
    """
    if answer.status_code == 404:
        watch_clock(http_response=answer)
        raise ObjectMissing(_("Nothing has been uploaded yet."))
    if answer.status_code != 200 or answer.content:
        return None
    members = _members(client.meta.service_model)
    sent: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for name, value in answer.headers.items():
        sent[in_lower_case := name.lower()] = value
        if in_lower_case.startswith(members.metadata):
            metadata[name[len(members.metadata) :]] = value
    plain = (
        "content-length" in sent
        and "etag" in sent
        and all(_is_number(sent[name]) for name in members.numbers if name in sent)
        and all(_is_date(sent[name]) for name in members.dates if name in sent)
    )
    if not plain:
        return None
    watch_clock(http_response=answer)
    found: dict[str, Any] = {name: sent[header] for name, header in members.texts if header in sent}
    found["ContentLength"] = int(sent["content-length"])
    found["ExpiresString"] = found.get("Expires")
    found["Metadata"] = metadata
    return found


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdecimal()


@lru_cache(256)  # the objects of a batch were written within a few seconds
def _is_date(value: str) -> bool:
    if not HTTP_DATE.fullmatch(value):
        return False
    try:
        parsedate_to_datetime(value)
    except ValueError:
        return False
    return True


def _stored(found: Mapping[str, Any]) -> StoredObject:
    """What boto3 returned. Raises BucketUnavailable if it does not say how large the object is."""
    if "ContentLength" not in found:  # for example, a proxy compresses answers
        logger.error("The answer to HeadObject does not say how large the object is")
        raise BucketUnavailable(_("S3 does not answer as it should; try again later."))
    return StoredObject(
        size=found["ContentLength"],
        content_type=found.get("ContentType", ""),
        etag=found.get("ETag", ""),
        version_id=found.get("VersionId", ""),
        checksums={
            algorithm: found[f"Checksum{algorithm}"]
            for algorithm in CHECKSUMS
            # A composite one is a checksum of the parts' checksums.
            if f"Checksum{algorithm}" in found and found.get("ChecksumType") != "COMPOSITE"
        },
        parameters={
            name: found[member] for name, member in STORED_UNSIGNED.items() if found.get(member)
        },
    )


# Who else listens to a client, or replaced a part of it.


def _handlers(client: Any) -> object:
    """An object that is another one after a handler was registered or unregistered."""
    return client.meta.events._emitter._lookup_cache


def _is_watched(client: Any) -> bool:
    """Whether somebody else listens to a HEAD, and may change or count it."""
    find = client.meta.events._emitter._handlers.prefix_search
    return not all(
        _is_known(handler)
        for event in OTHER_EVENTS
        for handler in find(f"{event}.s3.HeadObject") or ()
    )


def _is_seen(client: Any) -> bool:
    """Whether somebody else listens before a HEAD is sent: moto, for example."""
    found = client.meta.events._emitter._handlers.prefix_search(SENDING)
    return any(handler is not _hand_over for handler in found or ())


def _is_replaced(client: Any) -> bool:
    """Whether a test or a monitor replaced boto3's call: it wants to see each one."""
    return "head_object" in vars(client) or not _is_known(type(client)._make_api_call)


def _is_known(handler: Any) -> bool:
    """Whether botocore or client.py brings this callable."""
    while isinstance(handler, partial):
        handler = handler.func
    function = getattr(handler, "__func__", handler)
    if not isinstance(function, FunctionType):
        function = type(handler).__call__
    module: str = getattr(function, "__globals__", {}).get("__name__", "")
    # botocore.stub answers instead of S3.
    ours = module == watch_clock.__module__
    return ours or (module.startswith("botocore.") and module != "botocore.stub")


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
