"""A subclass of django-storages' S3Storage, and questions about a storage."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from operator import attrgetter
from typing import Any, NamedTuple
from urllib.parse import quote

from django.utils.http import content_disposition_header, http_date
from storages.backends import s3
from storages.utils import setting

# How S3 is told to refuse a second write to a key: by a condition on the PUT. If a server has no
# conditional writes, every upload is sent in parts instead.
OVERWRITE_GUARDS = ("if-none-match", "multipart")

# The names that object_parameters may have, by the type of their values in boto3. S3 accepts these
# for every object, in one PUT or in parts.
TEXTS = {
    *("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage"),
    *("GrantFullControl", "GrantRead", "GrantReadACP", "GrantWriteACP"),
    *("ServerSideEncryption", "SSEKMSKeyId", "SSEKMSEncryptionContext", "StorageClass"),
    *("ObjectLockLegalHoldStatus", "ObjectLockMode", "Tagging", "WebsiteRedirectLocation"),
    *("ExpectedBucketOwner", "RequestPayer"),
}
BOOLEANS = {"BucketKeyEnabled"}
DATES = {"Expires", "ObjectLockRetainUntilDate"}
# These come from the declaration or the destination. Those of the storage are ignored.
IGNORED = {"ACL", "ContentType", "ChecksumAlgorithm", "IfNoneMatch"}
# A header returns from S3 unchanged if it has only printable ASCII and no space at its ends.
HEADER_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")
METADATA_NAME = re.compile(r"[A-Za-z0-9_-]+")
MAX_METADATA_BYTES = 2048  # the names and the values of one object, as S3 counts them
# boto3's clients depend on these attributes of a storage. They may differ for each tenant.
CONNECTION_FACTS = (
    *("access_key", "secret_key", "security_token", "session_profile", "region_name"),
    *("endpoint_url", "public_endpoint_url", "use_ssl", "verify"),
)
MAX_CONNECTIONS = 4  # for each thread: a session needs about 10 MiB


class S3Storage(s3.S3Storage):  # type: ignore[misc]
    """django-storages' S3Storage with two more options.

    ``public_endpoint_url`` is the endpoint that clients use, "https://host[:port]". Every URL for
    clients contains it, ``photo.image.url`` included. For example, with Docker the server connects
    to ``http://minio:9000``, and browsers to ``http://localhost:9000``.

    ``overwrite_guard`` is "if-none-match", or "multipart" for a server without conditional writes.
    With "multipart", every upload is sent in parts, because the URLs of parts end when S3 makes the
    object.

    In a subclass, ``location``, ``bucket_name``, the endpoint and the credentials may be properties
    that return the values for the current tenant. They are read in each request.
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
            # In two regions, botocore's default for a presigned URL is the old SigV2.
            "signature_version": defaults["signature_version"] or "s3v4",
        }

    # django-storages would always use the first connection and bucket that it made.

    @property
    def connection(self) -> Any:
        return self._connected(self._connections, self.client_config)

    @property
    def unsigned_connection(self) -> Any:
        unsigned = s3.Config(signature_version=s3.botocore.UNSIGNED)
        return self._connected(self._unsigned_connections, self.client_config.merge(unsigned))

    def _connected(self, local: Any, config: Any) -> Any:
        """This thread's connection to the current tenant's S3."""
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
        # The signature covers the host, so the host cannot be replaced afterwards.
        if self.public_endpoint_url and not self.custom_domain and not self._is_public:
            return self._public.url(name, *args, **options)
        return str(super().url(name, *args, **options))


def connection_facts(storage: s3.S3Storage) -> tuple[Any, ...]:
    """The current values that boto3's clients depend on. Each tenant may have another S3."""
    try:
        return _facts(storage)
    except AttributeError:  # of django-storages, without our options
        return (*(getattr(storage, name, None) for name in CONNECTION_FACTS), storage.client_config)


_facts: Callable[[s3.S3Storage], tuple[Any, ...]] = attrgetter(*CONNECTION_FACTS, "client_config")


def is_asked_anew(storage: s3.S3Storage, name: str) -> bool:
    """Whether this attribute is a property, so that it may differ in the next request (tenants)."""
    return hasattr(getattr(type(storage), name, None), "__get__")


def forces_attachment(parameters: Mapping[str, Any]) -> bool:
    """Whether a browser always saves an object that was stored with these parameters."""
    disposition = parameters.get("ContentDisposition")
    return isinstance(disposition, str) and disposition.lower().startswith("attachment")


def signs_urls(storage: s3.S3Storage) -> bool:
    """Whether the URLs of ``storage.url()`` are signed, for S3 or for CloudFront."""
    return bool(
        storage.querystring_auth and (storage.cloudfront_signer or not storage.custom_domain)
    )


def takes(storage: s3.S3Storage, *names: str) -> bool:
    """Whether ``storage.url()`` has these parameters. In a host's subclass it may lack them."""
    there = inspect.signature(storage.url).parameters
    has_others = any(each.kind == each.VAR_KEYWORD for each in there.values())
    return has_others or set(names) <= set(there)


def answered_with(
    storage: s3.S3Storage, *, inline: bool, filename: str, content_type: str = ""
) -> dict[str, str]:
    """The ``parameters`` for ``storage.url()`` that make a browser show or save the file.

    The URL must be signed. A ``custom_domain`` must pass its query on to S3.
    """
    if storage.custom_domain:
        # Without spaces: Python writes "+" for a space in a query, and some CDNs do not decode it.
        disposition = "inline" if inline else "attachment"
        if filename:
            disposition += f";filename*=utf-8''{quote(filename, '')}"
        said = {
            "response-content-disposition": disposition,
            "response-content-type": content_type,
        }
    else:
        said = {
            "ResponseContentDisposition": content_disposition_header(not inline, filename)
            or "inline",
            "ResponseContentType": content_type,
        }
    return {name: value for name, value in said.items() if value}


# The endpoint.


class Endpoint(NamedTuple):
    """Where S3 is, and how its URLs name a bucket."""

    url: str | None  # None: AWS's own
    said_style: str | None  # "path", "virtual" or "auto", if an option or a profile sets it

    def addressing_style(self, url: str | None) -> str:
        """How URLs name a bucket at this endpoint; None is AWS's own endpoint."""
        # AWS wants the bucket in the host name. Other servers rarely have a host for each bucket.
        # botocore's default is the global host, which newer regions do not answer.
        return self.said_style or ("path" if url else "virtual")


def find_endpoint(storage: s3.S3Storage, session: Any) -> Endpoint:
    """Find the endpoint as boto3 does: options, then environment, then a profile of ~/.aws/config.

    ``session`` is the storage's session. No request is sent. Raises BotoCoreError, ValueError.
    """
    config = storage.client_config
    given = storage.endpoint_url or None

    def make(**more: Any) -> Any:
        return session.client(
            "s3",
            region_name=storage.region_name,
            use_ssl=storage.use_ssl,
            endpoint_url=given,
            # Never used. But without credentials boto3 would ask the machine's role for some.
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
    """This botocore Config with this addressing style, unless it already has one."""
    said = {name: value for name, value in (config.s3 or {}).items() if value is not None}
    s3_config = {"addressing_style": style, **said} if style else said
    return config.merge(type(config)(s3=s3_config, **more))


# object_parameters.


def as_stored(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters in the form in which a HEAD returns them, as JSON for the row.

    ``parameter_problems`` must have found nothing in them.
    """
    stored = {name: value for name, value in parameters.items() if name not in IGNORED}
    for name in DATES & stored.keys():
        date = parse_date(stored[name])
        assert date is not None
        stored[name] = http_date(date.timestamp()) if name == "Expires" else date.isoformat()
    if "Metadata" in stored:
        stored["Metadata"] = {name.lower(): text for name, text in stored["Metadata"].items()}
    return stored


def parameter_problems(parameters: object) -> Iterator[tuple[str, str, str]]:
    """What is wrong with a storage's object_parameters: id, message and hint of a system check."""
    if not isinstance(parameters, Mapping):
        yield (
            "E039",
            f"object_parameters must be a dict; it is {parameters!r}.",
            "Write for example {'CacheControl': 'max-age=86400'}.",
        )
        return
    if any(str(name).startswith("SSECustomer") for name in parameters):
        yield (
            "E042",
            "object_parameters contain an encryption key (SSE-C). Every browser would get it.",
            "Write 'ServerSideEncryption': 'aws:kms' instead, with the key in SSEKMSKeyId.",
        )
        return
    known = {*TEXTS, *BOOLEANS, *DATES, *IGNORED, "Metadata"}
    unknown = [name for name in parameters if name not in known]
    if unknown:
        yield (
            "E039",
            f"object_parameters have names that S3 does not accept for every object: "
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
        broken.append(value)  # S3 removes it
    if broken:
        yield (
            "E041",
            f"S3 would not return {name} in object_parameters unchanged: {broken[0]!r}.",
            "Write ASCII without line breaks, and without spaces at the ends. Percent-encode other "
            "characters: filename*=utf-8''%C3%A9.jpg. Names in Metadata have letters, digits, '-' "
            "and '_'.",
        )
    if len({each.lower() for each in metadata}) < len(metadata):
        yield (
            "E041",
            "Metadata in object_parameters has two names that differ only in upper and lower case.",
            "Write only one of them: S3 makes all names lower case.",
        )
    if sum(len(each) + len(text) for each, text in metadata.items()) > MAX_METADATA_BYTES:
        yield (
            "E041",
            f"Metadata in object_parameters has more than {MAX_METADATA_BYTES} bytes.",
            "Write less, because S3 refuses it.",
        )


def _wanted_instead(name: str, value: object) -> str | None:
    if name in BOOLEANS:
        return None if isinstance(value, bool) else "True or False"
    if name in DATES:
        return None if parse_date(value) else "a datetime, or text in HTTP's or ISO's date format"
    if name == "Metadata":
        right = isinstance(value, Mapping) and all(
            isinstance(text, str) for pair in value.items() for text in pair
        )
        return None if right else "a dict from text to text"
    return None if isinstance(value, str) else "text"


def parse_date(value: object) -> datetime | None:
    """Read a datetime, or text in HTTP's or ISO's date format, as UTC; None if it is neither.

    Without a time zone it is local time, as in boto3.
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
