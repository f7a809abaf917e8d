"""django-storages' S3Storage, and what direct uploads want to know of a storage beside."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import quote

from django.utils.http import content_disposition_header, http_date
from storages.backends import s3
from storages.utils import setting

# How a key is kept from a second write: by a condition on the PUT, or, where a server has no such
# conditions, by parts alone.
OVERWRITE_GUARDS = ("if-none-match", "multipart")

# What object_parameters may have, by the type that boto3 takes: what S3 knows for every object
# that is uploaded, in one PUT or in parts.
TEXTS = {
    *("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage"),
    *("GrantFullControl", "GrantRead", "GrantReadACP", "GrantWriteACP"),
    *("ServerSideEncryption", "SSEKMSKeyId", "SSEKMSEncryptionContext", "StorageClass"),
    *("ObjectLockLegalHoldStatus", "ObjectLockMode", "Tagging", "WebsiteRedirectLocation"),
    *("ExpectedBucketOwner", "RequestPayer"),
}
BOOLEANS = {"BucketKeyEnabled"}
DATES = {"Expires", "ObjectLockRetainUntilDate"}
# The declaration or the destination says these of an upload, not the storage.
IGNORED = {"ACL", "ContentType", "ChecksumAlgorithm", "IfNoneMatch"}
# What a header carries from a browser to S3 and back as it is: printable ASCII, no space at an end.
HEADER_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")
METADATA_NAME = re.compile(r"[A-Za-z0-9_-]+")
MAX_METADATA_BYTES = 2048  # the names and the values of one object, as S3 counts them
# What a storage may answer differently by tenant, and that makes other clients.
CONNECTION_FACTS = (
    *("access_key", "secret_key", "security_token", "session_profile", "region_name"),
    *("endpoint_url", "public_endpoint_url", "use_ssl", "verify"),
)
MAX_CONNECTIONS = 4  # of one thread: a session has some 10 MiB


class S3Storage(s3.S3Storage):  # type: ignore[misc]
    """Adds the option ``public_endpoint_url``: the endpoint that clients see, "https://host[:port]".

    Every URL that leaves the server names it, ``photo.image.url`` included. Under Docker, say,
    the server talks to ``http://minio:9000`` and browsers to ``http://localhost:9000``.

    And ``overwrite_guard``: "if-none-match", or "multipart" for a server that has no conditional
    writes. Then every upload goes in parts, whose URLs die when they become an object.

    What it says of itself may be properties that answer for the current tenant: ``location``,
    ``bucket_name``, and where and as whom it asks S3. They are asked for each request.
    """

    public_endpoint_url: str | None
    overwrite_guard: str
    client_config: Any
    _connections: Any
    _unsigned_connections: Any

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._is_public = False

    def get_default_settings(self) -> dict[str, Any]:
        defaults = super().get_default_settings()
        return {
            **defaults,
            "public_endpoint_url": setting("AWS_S3_PUBLIC_ENDPOINT_URL"),
            "overwrite_guard": setting("AWS_S3_OVERWRITE_GUARD", OVERWRITE_GUARDS[0]),
            # botocore's default for a presigned URL is the old SigV2 in two regions.
            "signature_version": defaults["signature_version"] or "s3v4",
        }

    # django-storages keeps the first connection and bucket that it makes.

    @property
    def connection(self) -> Any:
        return self._connected(self._connections, self.client_config)

    @property
    def unsigned_connection(self) -> Any:
        unsigned = s3.Config(signature_version=s3.botocore.UNSIGNED)
        return self._connected(self._unsigned_connections, self.client_config.merge(unsigned))

    def _connected(self, local: Any, config: Any) -> Any:
        """The thread's connection to where S3 is now, for the current tenant."""
        kept = local.__dict__.setdefault("kept", {})
        facts = connection_facts(self)
        if facts not in kept:
            session = self._create_session()
            endpoint = find_endpoint(self, session)
            public = self.public_endpoint_url if self._is_public else None
            if len(kept) >= MAX_CONNECTIONS:
                kept.clear()
            kept[facts] = session.resource(
                "s3",
                region_name=self.region_name,
                use_ssl=self.use_ssl,
                endpoint_url=public or self.endpoint_url,
                config=addressed(config, endpoint.addressing_style(public or endpoint.url)),
                verify=self.verify,
            )
        return kept[facts]

    @property
    def bucket(self) -> Any:
        return self.connection.Bucket(self.bucket_name)

    @cached_property
    def _public(self) -> S3Storage:
        public = copy.copy(self)
        public._is_public = True
        return public

    def url(self, name: str, *args: Any, **options: Any) -> str:
        # The host is a part of the signature, so it cannot be exchanged afterwards.
        if self.public_endpoint_url and not self.custom_domain and not self._is_public:
            return self._public.url(name, *args, **options)
        return str(super().url(name, *args, **options))


def connection_facts(storage: s3.S3Storage) -> tuple[Any, ...]:
    """What makes other clients, as the storage has it now: another tenant may be at another S3."""
    return (*(getattr(storage, name, None) for name in CONNECTION_FACTS), storage.client_config)


def is_asked_anew(storage: s3.S3Storage, name: str) -> bool:
    """Whether a property answers, which may say something else to the next request: a tenant's."""
    return hasattr(getattr(type(storage), name, None), "__get__")


def forces_attachment(parameters: Mapping[str, Any]) -> bool:
    """Whether an object that is stored so is saved and never shown, whoever serves it."""
    disposition = parameters.get("ContentDisposition")
    return isinstance(disposition, str) and disposition.lower().startswith("attachment")


def signs_urls(storage: s3.S3Storage) -> bool:
    """Whether the URLs of ``storage.url()`` are signed: by S3, or by CloudFront for its domain."""
    return bool(
        storage.querystring_auth and (storage.cloudfront_signer or not storage.custom_domain)
    )


def takes(storage: s3.S3Storage, *names: str) -> bool:
    """Whether its ``url()`` has these parameters: a host's own may take a name alone."""
    there = inspect.signature(storage.url).parameters
    has_others = any(each.kind == each.VAR_KEYWORD for each in there.values())
    return has_others or set(names) <= set(there)


def answered_with(
    storage: s3.S3Storage, *, inline: bool, filename: str, content_type: str = ""
) -> dict[str, str]:
    """``parameters`` of a signed ``storage.url()``, by which S3 shows the file or has it saved.

    A ``custom_domain`` has to pass them on to S3.
    """
    if storage.custom_domain:
        # They become its query. Without a space: Python writes "+" for it in a URL, which not every
        # CDN reads as one.
        disposition = "inline" if inline else "attachment"
        said = {
            "response-content-disposition": f"{disposition};filename*=utf-8''{quote(filename, '')}",
            "response-content-type": content_type,
        }
    else:
        said = {
            "ResponseContentDisposition": content_disposition_header(not inline, filename) or "",
            "ResponseContentType": content_type,
        }
    return {name: value for name, value in said.items() if value}


# Where S3 is.


class Endpoint(NamedTuple):
    url: str | None  # None: AWS's own
    said_style: str | None  # "path", "virtual" or "auto", where an option or a profile says it

    def addressing_style(self, url: str | None) -> str:
        """How a bucket is named at this URL, or at AWS's."""
        # A host name of the bucket's own is what AWS wants; others' endpoints rarely have one.
        # botocore's own default names the global host, which the newer regions do not answer.
        return self.said_style or ("path" if url else "virtual")


def find_endpoint(storage: s3.S3Storage, session: Any) -> Endpoint:
    """As boto3 sees it: by the options, else the environment, else a profile of ~/.aws/config.

    ``session`` is the storage's. Asks nobody. Raises what boto3 raises: BotoCoreError, ValueError.
    """
    config = storage.client_config
    given = storage.endpoint_url or None

    def make(**more: Any) -> Any:
        return session.client(
            "s3",
            region_name=storage.region_name,
            use_ssl=storage.use_ssl,
            endpoint_url=given,
            # Never used, but without some boto3 asks the machine's role for its own.
            aws_access_key_id="-",
            aws_secret_access_key="-",  # noqa: S106
            config=addressed(config, None, **more),
        )

    client = make()
    url: str | None = client.meta.endpoint_url
    if given is None and url == make(ignore_configured_endpoint_urls=True).meta.endpoint_url:
        url = None
    return Endpoint(url, (client.meta.config.s3 or {}).get("addressing_style"))


def addressed(config: Any, style: str | None, **more: Any) -> Any:
    """This botocore Config with that addressing style, unless it has one."""
    said = {name: value for name, value in (config.s3 or {}).items() if value is not None}
    s3_config = {"addressing_style": style, **said} if style else said
    return config.merge(type(config)(s3=s3_config, **more))


# What object_parameters may be.


def as_stored(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Those without problems, as a row keeps them and a HEAD returns them: as JSON."""
    stored = {name: value for name, value in parameters.items() if name not in IGNORED}
    for name in DATES & stored.keys():
        date = parse_date(stored[name])
        assert date is not None
        stored[name] = http_date(date.timestamp()) if name == "Expires" else date.isoformat()
    if "Metadata" in stored:
        stored["Metadata"] = {name.lower(): text for name, text in stored["Metadata"].items()}
    return stored


def parameter_problems(parameters: object) -> Iterator[tuple[str, str, str]]:
    """What is wrong with a storage's object_parameters: a check's id, what it says, and a hint."""
    if not isinstance(parameters, Mapping):
        yield (
            "E039",
            f"object_parameters must be a dict; they are {parameters!r}.",
            "Write for example {'CacheControl': 'max-age=86400'}.",
        )
        return
    if any(str(name).startswith("SSECustomer") for name in parameters):
        yield (
            "E042",
            "object_parameters have a key of SSE-C, which every browser would be handed.",
            "Write 'ServerSideEncryption': 'aws:kms' instead, with the key in SSEKMSKeyId.",
        )
        return
    known = {*TEXTS, *BOOLEANS, *DATES, *IGNORED, "Metadata"}
    unknown = [name for name in parameters if name not in known]
    if unknown:
        yield (
            "E039",
            f"object_parameters have what S3 does not know, or not for every object: "
            f"{', '.join(map(str, unknown))}.",
            f"Write one of {', '.join(sorted(known - IGNORED))}.",
        )
    for name, value in parameters.items():
        if name in known:
            yield from _value_problems(name, value)


def _value_problems(name: str, value: Any) -> Iterator[tuple[str, str, str]]:
    wanted = _wanted_instead(name, value)
    if wanted:
        yield (
            "E040",
            f"{name} in object_parameters must be {wanted}; it is {value!r}.",
            f"Write {wanted}, or leave {name} out.",
        )
        return
    metadata = value if name == "Metadata" else {}
    texts = [*metadata.values(), *([value] if isinstance(value, str) and name not in DATES else [])]
    broken = [text for text in texts if not HEADER_VALUE.fullmatch(text)]
    broken += [each for each in metadata if not METADATA_NAME.fullmatch(each)]
    if name == "ContentEncoding" and "aws-chunked" in value.lower():
        broken.append(value)  # which S3 takes out
    if broken:
        yield (
            "E041",
            f"{name} in object_parameters would not come back from S3 as it is: {broken[0]!r}.",
            "Write ASCII without line breaks, and without spaces at its ends; percent-encode the "
            "rest: filename*=utf-8''%C3%A9.jpg. Metadata's names are letters, digits, '-' and '_'.",
        )
    if len({each.lower() for each in metadata}) < len(metadata):
        yield (
            "E041",
            "Metadata in object_parameters has two names that differ in their case alone.",
            "Write one of them: S3 knows only lower case.",
        )
    if sum(len(each) + len(text) for each, text in metadata.items()) > MAX_METADATA_BYTES:
        yield (
            "E041",
            f"Metadata in object_parameters has more than {MAX_METADATA_BYTES} bytes.",
            "Write less: S3 refuses it.",
        )


def _wanted_instead(name: str, value: object) -> str | None:
    if name in BOOLEANS:
        return None if isinstance(value, bool) else "True or False"
    if name in DATES:
        return None if parse_date(value) else "a datetime, or its text in HTTP's or ISO's format"
    if name == "Metadata":
        right = isinstance(value, Mapping) and all(
            isinstance(text, str) for pair in value.items() for text in pair
        )
        return None if right else "a dict of text by text"
    return None if isinstance(value, str) else "text"


def parse_date(value: object) -> datetime | None:
    """A datetime, or its text in HTTP's or ISO's format, in UTC; None if it is neither.

    One without a time zone is this machine's, as boto3 takes it.
    """
    parsers: list[Callable[[Any], datetime]] = [datetime.fromisoformat, parsedate_to_datetime]
    if not isinstance(value, str):
        parsers = [lambda it: it] if isinstance(value, datetime) else []
    for parse in parsers:
        try:
            return parse(value).astimezone(UTC)
        except (ValueError, OverflowError):
            continue
    return None
