"""The one door to S3: all of boto3 that this package uses, and nothing of the database."""

from __future__ import annotations

import http.client
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple
from urllib.parse import parse_qs

import boto3
from botocore.client import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.parsers import ResponseParserError
from botocore.serialize import create_serializer
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import storages
from django.utils.http import content_disposition_header
from storages.backends.s3 import S3StaticStorage, S3Storage

from . import keys, signer
from .exceptions import (
    AnswerLost,
    BucketMisconfigured,
    BucketUnavailable,
    MultipartGone,
    ObjectMismatch,
    ObjectMissing,
    PartsIncomplete,
    QueueUnavailable,
    StorageNotS3,
)
from .partitions import region_of_queue
from .storage import (
    OVERWRITE_GUARDS,
    addressed,
    answered_with,
    as_stored,
    connection_facts,
    find_endpoint,
    forces_attachment,
    is_asked_anew,
    parameter_problems,
    signs_urls,
    takes,
)

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sqs.client import SQSClient

logger = logging.getLogger("s3direct_uploads")

# A worker that waits for S3 is a worker lost: two tries and a pause make 11 s at the very most.
CONNECT_TIMEOUT = 2  # seconds
READ_TIMEOUT = 3  # seconds; a HEAD takes milliseconds
MAX_ATTEMPTS = 2
PUT_READ_TIMEOUT = 60  # seconds; for scripts: after gigabytes S3 takes its time to answer
# To put an object's parts together can take minutes. Tried once: S3 takes a second request beside
# the first for a conflict, and then may want all the parts anew.
COMPLETE_READ_TIMEOUT = 180  # seconds
# What SQS allows at the most: seconds to wait for a message, and messages at once.
POLL, BATCH = 20, 10
# How long a message is ours: to complete one upload's parts and, of nine, to ask S3 in vain, 11 s
# each. What takes longer comes twice, and does no harm.
VISIBILITY = COMPLETE_READ_TIMEOUT + 120  # seconds

# What botocore raises once a request has left (where no connection is made it is another), and what
# a gateway says that could not wait for S3. It matters where something must not be done twice.
ANSWER_LOST = (HTTPClientError, ResponseParserError)
ANSWER_LOST_STATUS = {
    "CreateMultipartUpload": (500, 502, 504),  # of a 500 nobody knows; the next one has a new key
    "CompleteMultipartUpload": (502, 504),  # after a 500 S3 wants to be asked again
}
MULTIPART_GONE = ("NoSuchUpload", "NoSuchKey")  # the latter is Ceph's word once it is completed
# What passes by itself is tried again, by botocore too; the rest wants somebody to mend it.
_MEND_KEYS = "Mend access_key and secret_key of the storage, or the role that it runs under."
_MEND_REGION = "Mend region_name (and endpoint_url) of the storage: the bucket is elsewhere."
HINTS = {
    "AccessDenied": "Grant the server what the README lists, s3:ListBucket too: without that S3 "
    "answers 403 for what is merely missing.",
    "InvalidAccessKeyId": _MEND_KEYS,
    "SignatureDoesNotMatch": _MEND_KEYS,
    "ExpiredToken": _MEND_KEYS,
    "InvalidToken": _MEND_KEYS,
    "RequestTimeTooSkewed": "Set this machine's clock: it is minutes away from S3's.",
    "PermanentRedirect": _MEND_REGION,
    "AuthorizationHeaderMalformed": _MEND_REGION,
    "NoSuchBucket": "Mend bucket_name of the storage, or make the bucket.",
}
# A HEAD's answer has no body, and so no code but its status.
BARE_STATUS = {"301": "PermanentRedirect", "307": "PermanentRedirect", "403": "AccessDenied"}
MAX_CLOCK_SKEW = timedelta(seconds=60)  # by more, URLs end too early or begin too late
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
# Of the storage's object parameters, what goes with every request that takes it, not with a PUT
# alone.
SHARED_HEADERS = {
    "RequestPayer": "x-amz-request-payer",
    "ExpectedBucketOwner": "x-amz-expected-bucket-owner",
}
# A tenant may have an S3 of its own. A session has some 10 MiB, so no more are kept than this.
MAX_CONNECTIONS = 32
MAX_BUCKETS = 10_000  # small ones: a tenant has one of its own
ALIASES = ("-s3alias", "--ol-s3")  # how an access point's alias ends, and no bucket's name


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


class Refusal(Exception):
    """Why S3 did not do what it was asked, for who sets a bucket up or explains one.

    ``status`` is 0 where no answer came, and ``code`` then what failed: "ConnectTimeoutError".
    """

    def __init__(self, status: int, code: str, headers: Mapping[str, str], detail: str) -> None:
        super().__init__(f"{status} {code}" if status else code)
        self.status = status
        self.code = code
        self.headers = headers  # in lower case
        self.detail = detail

    @property
    def is_unknown_operation(self) -> bool:
        """Whether this server lacks the operation, if it is one on a bucket's configuration."""
        # rclone and others overlook "?cors", and would make the bucket.
        overlooked = ("BucketAlreadyExists", "BucketAlreadyOwnedByYou")
        lacking = ("NotImplemented", "MethodNotAllowed", *overlooked)
        return self.status in (405, 501) or self.code in lacking


class _AnswerUnreadable(BucketUnavailable):
    """S3 answered, and its answer to a well-formed HEAD is nothing that can be used."""


class Bucket:
    """One S3 bucket, as one of STORAGES describes it.

    Every method raises BucketUnavailable where S3 is down, slow, or refuses us.
    """

    def __init__(self, storage: S3Storage, name: str = "") -> None:
        """``name`` is another bucket than the storage has now: a row's of another tenant.

        Whatever else the storage says is asked here, once, in the thread of the request.
        """
        self.name: str = name or storage.bucket_name
        self.location: str = storage.location
        guard = getattr(storage, "overwrite_guard", OVERWRITE_GUARDS[0])
        if guard not in OVERWRITE_GUARDS:
            raise ImproperlyConfigured(f"{guard!r} is no overwrite_guard.")
        self.takes_parts_only = guard == "multipart"
        self._condition = {} if self.takes_parts_only else {"IfNoneMatch": "*"}
        self._storage = storage
        facts = _connection_facts(storage)
        self._shared = dict(facts.shared)
        self._connection = connection = _connect(storage, facts)
        self.endpoint_url: str | None = connection.endpoint_url
        self._client = connection.client
        self._signer = connection.signer
        self._deletes_many = True  # until the server says otherwise

    @cached_property
    def _credentials(self) -> Any:
        return self._connection.session.get_credentials()

    @property
    def _creator(self) -> S3Client:
        return self._connection.creator

    @property
    def _completer(self) -> S3Client:
        return self._connection.completer

    @property
    def _sender(self) -> S3Client:
        return self._connection.sender

    # What clients are handed.

    def presign_put(
        self, key: str, *, size: int, parameters: Mapping[str, Any], expires: timedelta
    ) -> PresignedRequest:
        """A PUT of ``size`` bytes that S3 refuses in any other form, and a second time.

        ``parameters`` are boto3's, beside length and condition; ``expires`` is 7 days at most.
        """
        url = self._presign(
            "put_object", key, {"ContentLength": size, **self._condition, **parameters}, expires
        )
        headers = self.headers_of({**self._condition, **parameters})
        return PresignedRequest("PUT", url, headers, int(expires.total_seconds()))

    def presign_get(
        self,
        key: str,
        *,
        filename: str,
        inline: bool,
        version_id: str,
        expires: timedelta,
        stored: Mapping[str, Any] | None = None,
    ) -> PresignedRequest:
        """A download under its human name, of this version where the bucket has versions.

        Where the storage's own ``url()`` names a domain, or is not signed, so does this, as long as
        the file is then shown or saved as is asked for. ``stored`` are the object's parameters.
        """
        url = self._url_by_storage(key, filename, inline, expires, stored or {})
        if url is None:
            parameters = {
                "ResponseContentDisposition": content_disposition_header(not inline, filename)
            }
            if version_id:
                parameters["VersionId"] = version_id
            url = self._presign("get_object", key, parameters, expires)
        return PresignedRequest("GET", url, {}, int(expires.total_seconds()))

    def _url_by_storage(
        self,
        key: str,
        filename: str,
        inline: bool,
        expires: timedelta,
        stored: Mapping[str, Any],
    ) -> str | None:
        """None where S3 itself must sign."""
        storage, folder = self._storage, keys.join(self.location, "")
        signs = signs_urls(storage)
        if signs and not (storage.custom_domain and takes(storage, "parameters", "expire")):
            return None
        if not key.startswith(folder) or self.name != storage.bucket_name:
            return None  # the domain, as the storage has it now, has no such file
        # What nobody signed can be left out by whoever has the URL, and S3 refuses it from others.
        # Then the file is shown, unless it is stored as an attachment.
        if not signs and inline == forces_attachment(stored):
            return None
        options: dict[str, Any] = {}
        if signs:
            options = {
                "parameters": answered_with(storage, inline=inline, filename=filename),
                "expire": int(expires.total_seconds()),
            }
        with _failures("signing a URL"):
            url: str = storage.url(key.removeprefix(folder), **options)
        return url

    def presign_parts(
        self, key: str, upload_id: str, sizes: Mapping[int, int], *, expires: timedelta
    ) -> list[PresignedPart]:
        """A PUT for each part, of exactly its size; ``sizes`` has bytes by part number."""
        with _failures("presigning parts"):
            credentials = self._credentials and self._credentials.get_frozen_credentials()
        if not credentials or not credentials.access_key or not credentials.secret_key:
            raise ImproperlyConfigured("There are no credentials to sign with.")
        # Of botocore's own URL we take what it alone knows: the host, the path, and the region.
        example = self._presign(
            "upload_part", key, {"UploadId": upload_id, "PartNumber": 1}, expires
        )
        url, _, query = example.partition("?")
        region, service = parse_qs(query)["X-Amz-Credential"][0].split("/")[-3:-1]
        shared = {SHARED_HEADERS[name]: value for name, value in self._shared.items()}
        signature = signer.signature_of(
            signer.Credentials(
                credentials.access_key, credentials.secret_key, credentials.token or ""
            ),
            region=region,
            service=service,
            expires=int(expires.total_seconds()),
            now=datetime.now(UTC),
        )
        return [
            PresignedPart(
                number,
                size,
                signer.presign(
                    signature,
                    "PUT",
                    url,
                    query={"uploadId": upload_id, "partNumber": str(number)},
                    headers={"content-length": str(size), **shared},
                ),
                shared,  # who sends a body says its length by itself
            )
            for number, size in sizes.items()
        ]

    def object_parameters(self, key: str, acl: str | None) -> dict[str, Any]:
        """What the storage, and the destination's ACL, add to a PUT: JSON, {"CacheControl": …}."""
        try:
            said = self._storage.get_object_parameters(key)
        except Exception as error:  # whatever a host's own raises
            raise ImproperlyConfigured(
                f"The bucket {self.name!r}: get_object_parameters raised {error!r}"
            ) from error
        for _, problem, _ in parameter_problems(said):
            raise ImproperlyConfigured(f"The bucket {self.name!r}: {problem}")
        parameters = as_stored(said)
        return {**parameters, "ACL": acl} if acl else parameters

    # What the server asks of S3 itself.

    def head(self, key: str) -> StoredObject:
        """Raises ObjectMissing if nothing is there.

        Raises ObjectMismatch if S3's answer about this object cannot be read, although its answer
        about another key can.
        """
        try:
            return self._head(key)
        except _AnswerUnreadable:
            self.probe()  # the bucket, or a proxy before it, may be what is wrong
        try:
            return self._head(key)
        except _AnswerUnreadable:
            raise ObjectMismatch("S3's answer about this object cannot be read.") from None

    def _head(self, key: str) -> StoredObject:
        with _failures("HeadObject"):
            try:
                found: Mapping[str, Any] = self._client.head_object(
                    Bucket=self.name, Key=key, ChecksumMode="ENABLED"
                )
            except (ValueError, TypeError, KeyError) as error:  # botocore's parser has no own class
                raise ResponseParserError(type(error).__name__) from error
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

    def put(self, key: str, body: BinaryIO, *, size: int, parameters: Mapping[str, Any]) -> None:
        """What a client's PUT does, by the server itself; ``body`` must be seekable."""
        request = {"Bucket": self.name, "Key": key, "ContentLength": size, **self._condition}
        with _failures("PutObject"):
            try:
                self._sender.put_object(Body=body, **request, **parameters)  # type: ignore[arg-type]
            except ClientError as error:
                # 412: it is there. The first try arrived and its answer was lost.
                if _status(error) != 412:
                    raise

    def create_multipart(
        self, key: str, *, parameters: Mapping[str, Any], checksum_algorithm: str
    ) -> str:
        """S3's id of a new multipart upload; ``parameters`` are those of the object."""
        request: dict[str, Any] = {"Bucket": self.name, "Key": key, **parameters}
        if checksum_algorithm:
            # Of the whole object: S3 makes it of the parts' own, which nobody need send.
            request |= {"ChecksumAlgorithm": checksum_algorithm, "ChecksumType": "FULL_OBJECT"}
        with _failures("CreateMultipartUpload"):
            created: Mapping[str, Any] = self._creator.create_multipart_upload(**request)
            if not created.get("UploadId"):
                raise ResponseParserError("Whoever answered was not S3.")
        upload_id: str = created["UploadId"]
        return upload_id

    def list_parts(self, key: str, upload_id: str) -> list[StoredPart]:
        """All that S3 has, in order. Raises MultipartGone."""
        pages = self._client.get_paginator("list_parts")
        with _failures("ListParts"):
            return [
                StoredPart(part["PartNumber"], part["Size"], part["ETag"])
                for page in pages.paginate(Bucket=self.name, Key=key, UploadId=upload_id)
                for part in page.get("Parts", ())
            ]

    def complete_multipart(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[StoredPart],
        *,
        size: int,
        checksum: Mapping[str, str],
    ) -> None:
        """Make an object of these parts, of ``size`` bytes in all, or find that there is one.

        ``checksum`` is ``{algorithm: base64}``, or empty. Takes minutes where there are many parts.
        Raises MultipartGone, PartsIncomplete if one of them was replaced since, and ObjectMismatch
        if their checksum is another.
        """
        request: dict[str, Any] = {
            "Bucket": self.name,
            "Key": key,
            "UploadId": upload_id,
            **self._condition,
            "MpuObjectSize": size,
            "MultipartUpload": {
                "Parts": [{"PartNumber": part.part_number, "ETag": part.etag} for part in parts]
            },
        }
        for algorithm, value in checksum.items():
            request |= {f"Checksum{algorithm}": value, "ChecksumType": "FULL_OBJECT"}
        with _failures("CompleteMultipartUpload"):
            try:
                self._completer.complete_multipart_upload(**request)
            except ClientError as error:
                # 412: there is an object. We made it, and the answer was lost.
                if _status(error) != 412:
                    raise
                self.abort_multipart(key, upload_id)  # if another did, its parts are there still

    def abort_multiparts(self, key: str) -> None:
        """Abort every multipart upload that is open at this very key, whoever knows of it."""
        pages = self._client.get_paginator("list_multipart_uploads")
        with _failures("AbortMultipartUpload"):
            for page in pages.paginate(Bucket=self.name, Prefix=key):
                for each in page.get("Uploads", ()):
                    if each["Key"] == key:
                        self.abort_multipart(key, each["UploadId"])

    def abort_multipart(self, key: str, upload_id: str) -> None:
        """It is no error if it is gone."""
        with _failures("AbortMultipartUpload"):
            try:
                self._client.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=upload_id)
            except ClientError as error:
                if error.response["Error"].get("Code") not in MULTIPART_GONE:
                    raise

    def delete(self, key: str) -> None:
        """Delete every version at this very key. It is no error if nothing is there."""
        with _failures("DeleteObject"):
            if _has_versions(self._client.delete_object(Bucket=self.name, Key=key)):
                self._delete_versions(key)

    def delete_all(self, keys: Sequence[str]) -> dict[str, str]:
        """As ``delete``, of 1,000 keys at most. Returns S3's error code by key, of those it kept.

        Each key is its own matter: a version under a legal hold keeps no other key.
        """
        if self._deletes_many:
            try:
                return self._delete_many(keys)
            except NotImplementedError:
                self._deletes_many = False
        refused: dict[str, str] = {}
        for number, key in enumerate(keys):
            try:
                self.delete(key)
            except BucketUnavailable as error:
                if self.is_away():
                    return refused | dict.fromkeys(keys[number:], error.code)
                refused[key] = error.code
        return refused

    def _delete_many(self, keys: Sequence[str]) -> dict[str, str]:
        """Raises NotImplementedError where the server has no DeleteObjects, or another than AWS."""
        with _failures("DeleteObjects"):
            try:
                answer = self._client.delete_objects(
                    Bucket=self.name, Delete={"Objects": [{"Key": key} for key in keys]}
                )
            except ClientError as error:
                if _status(error) in (400, 405, 411, 501) and _code(error) not in HINTS:
                    raise NotImplementedError from error
                raise
        refused = {each["Key"]: each["Code"] for each in answer.get("Errors", ())}
        for deleted in answer.get("Deleted", ()):
            if _has_versions(deleted):
                try:
                    with _failures("DeleteObject"):
                        self._delete_versions(deleted["Key"])
                except BucketUnavailable as error:
                    if not isinstance(error, BucketMisconfigured) and self.is_away():
                        raise
                    refused[deleted["Key"]] = error.code
        return refused

    def _delete_versions(self, key: str) -> None:
        """All of them, as far as S3 lets us; raises the last ClientError."""
        refused: ClientError | None = None
        for version_id in self._versions(key):
            try:
                self._client.delete_object(Bucket=self.name, Key=key, VersionId=version_id)
            except ClientError as error:
                refused = error
        if refused:
            raise refused

    def _versions(self, key: str) -> list[str]:
        pages = self._client.get_paginator("list_object_versions")
        return [
            version["VersionId"]
            for page in pages.paginate(Bucket=self.name, Prefix=key)
            for version in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            if version["Key"] == key
        ]

    def probe(self) -> None:
        """Ask for a key that nobody made. Raises BucketUnavailable unless S3 says it is missing.

        Raises BucketMisconfigured where a 404 for a key is not to be believed: a bucket that is
        missing answers 404 for all keys; without s3:ListBucket a key that is missing is a 403.
        """
        try:
            self._head(keys.join(self.location, secrets.token_urlsafe(16)))
        except ObjectMissing:
            pass
        with _failures("HeadBucket"):
            self._client.head_bucket(Bucket=self.name)

    def is_away(self) -> bool:
        """Whether S3 fails for keys that nobody made, too: then no one key is to blame."""
        try:
            self.probe()
        except BucketUnavailable:
            return True
        return False

    def list_objects(self, prefix: str) -> Iterator[list[Listed]]:
        """Pages of at most 1,000."""
        pages = self._client.get_paginator("list_objects_v2")
        with _failures("ListObjectsV2"):
            for page in pages.paginate(Bucket=self.name, Prefix=prefix):
                yield [
                    Listed(each["Key"], each["LastModified"], size=each["Size"])
                    for each in page.get("Contents", ())
                ]

    def list_multiparts(self, prefix: str) -> Iterator[list[Listed]]:
        """Pages of at most 1,000 multipart uploads that are open."""
        pages = self._client.get_paginator("list_multipart_uploads")
        with _failures("ListMultipartUploads"):
            for page in pages.paginate(Bucket=self.name, Prefix=prefix):
                yield [
                    Listed(each["Key"], each["Initiated"], upload_id=each["UploadId"])
                    for each in page.get("Uploads", ())
                ]

    # What set-up and diagnosis ask. They raise Refusal, as S3 says it.

    @property
    def region(self) -> str:
        """That which is signed."""
        named = self._client.meta.region_name
        return "us-east-1" if named == "aws-global" else named  # older botocores' word for none

    @property
    def partition(self) -> str:
        """Of AWS, in which the region is: "aws-cn"."""
        return self._client.meta.partition

    @property
    def access_key(self) -> str:
        """Of the credentials; "" where there are none."""
        try:
            return self._credentials.get_frozen_credentials().access_key or ""
        except (AttributeError, BotoCoreError):  # none at all, or whoever lends them is away
            return ""

    @property
    def is_lent(self) -> bool:
        """Whether the credentials are a role's: what they sign dies with them, in hours."""
        return bool(self._credentials.get_frozen_credentials().token)

    @property
    def endpoints(self) -> tuple[str, str]:
        """The URLs of the bucket: the server's, and that which clients see."""
        server, clients = (
            each.generate_presigned_url("list_objects_v2", Params={"Bucket": self.name})
            for each in (self._client, self._signer)
        )
        return server.partition("?")[0], clients.partition("?")[0]

    @property
    def verify(self) -> bool | str | None:
        """Whose certificates are believed, as botocore takes it."""
        return self._storage.verify  # type: ignore[no-any-return]

    def ask(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """One of boto3's operations on this bucket, such as "get_bucket_cors"."""
        try:
            answer: dict[str, Any] = getattr(self._client, operation)(
                Bucket=self.name, **parameters
            )
        except ClientError as error:
            said = error.response["ResponseMetadata"]
            told: Mapping[str, Any] = error.response["Error"]
            raise Refusal(
                _status(error),
                told.get("Code", ""),
                said.get("HTTPHeaders", {}),
                str(told.get("Region") or told.get("Message") or ""),
            ) from None
        except (BotoCoreError, ResponseParserError) as error:
            raise Refusal(0, type(error).__name__, {}, "") from None
        return answer

    def create(self) -> None:
        """Make the bucket. It may exist already."""
        # us-east-1 is the one region that must not be named.
        where = {} if self.region == "us-east-1" else {"LocationConstraint": self.region}
        try:
            self.ask("create_bucket", **({"CreateBucketConfiguration": where} if where else {}))
        except Refusal as refusal:
            if refusal.code != "BucketAlreadyOwnedByYou":  # so do all regions but us-east-1 say it
                raise

    def is_missing(self) -> bool:
        try:
            self.ask("head_bucket")
        except Refusal as refusal:
            if refusal.status != 404:
                raise
            return True
        return False

    def knows_us(self) -> bool:
        """Whether S3 knows these credentials at all, whatever they may do here."""
        try:
            self._client.list_buckets()
        except (ClientError, BotoCoreError):
            return False
        return True

    def cors_rules(self) -> list[dict[str, Any]]:
        return self._configuration("get_bucket_cors", "CORSRules", "NoSuchCORSConfiguration")

    def set_cors_rules(self, rules: list[dict[str, Any]]) -> None:
        self.ask("put_bucket_cors", CORSConfiguration={"CORSRules": rules})

    def lifecycle_rules(self) -> list[dict[str, Any]]:
        return self._configuration(
            "get_bucket_lifecycle_configuration", "Rules", "NoSuchLifecycleConfiguration"
        )

    def set_lifecycle_rules(self, rules: list[dict[str, Any]]) -> None:
        # Said beside the rules, and back to its default if it is not said again.
        name = "TransitionDefaultMinimumObjectSize"
        try:
            there = self.ask("get_bucket_lifecycle_configuration")
        except Refusal:
            there = {}
        kept = {name: there[name]} if name in there else {}
        self.ask(
            "put_bucket_lifecycle_configuration", LifecycleConfiguration={"Rules": rules}, **kept
        )

    def _configuration(self, operation: str, member: str, missing: str) -> list[dict[str, Any]]:
        try:
            rules: list[dict[str, Any]] = self.ask(operation).get(member, [])
        except Refusal as refusal:
            if refusal.code != missing:
                raise
            return []
        return rules

    def _presign(
        self, operation: str, key: str, parameters: Mapping[str, Any], expires: timedelta
    ) -> str:
        with _failures(f"presigning {operation}"):
            url: str = self._signer.generate_presigned_url(
                operation,
                Params={"Bucket": self.name, "Key": key, **parameters},
                ExpiresIn=int(expires.total_seconds()),
            )
        return url

    def headers_of(self, parameters: Mapping[str, Any]) -> dict[str, str]:
        """boto3's parameters of a PUT as it sends them itself."""
        model = self._client.meta.service_model
        serializer = create_serializer(model.resolved_protocol, include_validation=False)
        request = {"Bucket": self.name, "Key": "-", **self._shared, **parameters}
        sent = serializer.serialize_to_request(request, model.operation_model("PutObject"))
        headers: dict[str, str] = {**sent["headers"]}
        return headers


@dataclass(frozen=True)
class Message:
    """Of an SQS queue."""

    id: str
    body: str = field(repr=False)
    receipt: str = field(repr=False)


class Queue:
    """An SQS queue, with the credentials that boto3 finds; every method raises QueueUnavailable."""

    def __init__(self, url: str, *, region: str | None = None, endpoint_url: str | None = None):
        self.url = url
        with _queue_failures("make a client"):
            self._client: SQSClient = boto3.Session().client(
                "sqs",
                region_name=region or region_of_queue(url),
                endpoint_url=endpoint_url,
                config=Config(
                    connect_timeout=CONNECT_TIMEOUT,
                    read_timeout=POLL + READ_TIMEOUT,
                    retries={"mode": "standard", "total_max_attempts": MAX_ATTEMPTS},
                ),
            )

    def receive(self) -> list[Message]:
        """Wait for messages; nobody else is given them for VISIBILITY seconds."""
        with _queue_failures("receive"):
            answer = self._client.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=BATCH,
                WaitTimeSeconds=POLL,
                VisibilityTimeout=VISIBILITY,
            )
        return [
            Message(each["MessageId"], each["Body"], each["ReceiptHandle"])
            for each in answer.get("Messages", ())
        ]

    def delete(self, messages: Sequence[Message]) -> list[str]:
        """At most BATCH; the ids of those that SQS would not delete."""
        if not messages:
            return []
        with _queue_failures("delete"):
            answer = self._client.delete_message_batch(
                QueueUrl=self.url,
                # Numbered, for SQS may give out a message twice in one batch.
                Entries=[
                    {"Id": str(number), "ReceiptHandle": message.receipt}
                    for number, message in enumerate(messages)
                ],
            )
        return [messages[int(each["Id"])].id for each in answer.get("Failed", ())]


class _Connection:
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
        self.buckets: dict[tuple[Any, ...], Bucket] = {}
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
        client.meta.events.register("after-call.s3", _watch_clock)
        if self._shared:
            client.meta.events.register("provide-client-params.s3", self._share)
            client.meta.events.register("before-sign.s3.GetObject", _say_it_in_the_url)
        return client

    def _share(self, params: Any, model: Any, **_: Any) -> Any:
        takes = model.input_shape.members if model.input_shape else ()
        return {name: value for name, value in self._shared.items() if name in takes} | params


class _Facts(NamedTuple):
    """What a storage says that makes other clients."""

    options: tuple[Any, ...]
    shared: tuple[tuple[str, str], ...]  # of SHARED_HEADERS


def _connection_facts(storage: S3Storage) -> _Facts:
    said = storage.object_parameters
    said = said if isinstance(said, Mapping) else {}  # begin says that it is wrong
    return _Facts(
        connection_facts(storage),
        tuple((name, said[name]) for name in SHARED_HEADERS if isinstance(said.get(name), str)),
    )


@lru_cache(MAX_CONNECTIONS)
def _connect(storage: S3Storage, facts: _Facts) -> _Connection:
    return _Connection(storage, dict(facts.shared))


# A client's connections must not be shared with the parent's.
os.register_at_fork(after_in_child=_connect.cache_clear)


def _say_it_in_the_url(request: Any, signature_version: str, **_: Any) -> None:
    """Of a presigned GET: whoever follows a link sends no headers of ours, and S3 reads both."""
    if signature_version.endswith("-query"):
        for header in SHARED_HEADERS.values():
            if header in request.headers:
                request.params[header] = request.headers[header]
                del request.headers[header]


def get_bucket(alias: str) -> Bucket:
    """The bucket of a storage in STORAGES, as that is described now: to the current tenant.

    Raises StorageNotS3, ImproperlyConfigured.
    """
    storage = _get_storage(alias)
    try:
        name = storage.bucket_name
    except Exception as error:  # whatever a property of the host's own raises
        raise ImproperlyConfigured(f"The storage {alias!r} cannot be asked: {error!r}") from error
    if not name:
        raise ImproperlyConfigured(f"The storage {alias!r} has no bucket_name.")
    return _bucket_of(storage, name)


def _bucket_of(storage: S3Storage, name: str) -> Bucket:
    """The same one for as long as the storage says the same of itself."""
    try:
        buckets = _connect(storage, _connection_facts(storage)).buckets
        said = name, storage.location, getattr(storage, "overwrite_guard", None)
        if len(buckets) > MAX_BUCKETS:
            buckets.clear()
        return buckets.get(said) or buckets.setdefault(said, Bucket(storage, name))
    except ImproperlyConfigured:
        raise
    except Exception as error:  # as above
        raise ImproperlyConfigured(f"The bucket {name!r} cannot be described: {error!r}") from error


def _get_storage(alias: str) -> S3Storage:
    try:
        storage = storages[alias]
    except Exception as error:  # whatever the import or the constructor of a storage raises
        raise ImproperlyConfigured(f"The storage {alias!r} cannot be made: {error}") from error
    if not isinstance(storage, S3Storage) or isinstance(storage, S3StaticStorage):
        raise StorageNotS3(f"The storage {alias!r} is not on S3.")
    return storage


def is_access_point(name: str) -> bool:
    """Whether this bucket_name is an access point's, by its ARN or its alias."""
    return name.startswith("arn:") or is_access_point_alias(name)


def is_access_point_alias(name: str) -> bool:
    return name.endswith(ALIASES)


def takes_parts_only(alias: str) -> bool:
    """Whether all uploads to this storage go in parts, be they ever so small."""
    try:
        return get_bucket(alias).takes_parts_only
    except (StorageNotS3, ImproperlyConfigured):
        return False  # begin says so, once what is declared is found to be well


def find_bucket(alias: str, name: str) -> Bucket:
    """The bucket that a row remembers, by its alias or, where that was renamed, by its own name.

    Where tenants have buckets of their own, what the row says counts, whoever's turn it is.
    Raises BucketUnavailable if it is configured no more.
    """
    for candidate in dict.fromkeys((alias, *settings.STORAGES)):
        try:
            bucket = get_bucket(candidate)
        except (ImproperlyConfigured, StorageNotS3):
            continue
        if bucket.name == name:
            return bucket
    try:
        storage = _get_storage(alias)
        if is_asked_anew(storage, "bucket_name"):
            return _bucket_of(storage, name)
    except (ImproperlyConfigured, StorageNotS3):
        pass
    logger.error("No storage has the bucket %r any more (it was that of %r)", name, alias)
    raise BucketUnavailable("The bucket of this upload is not configured.")


@contextmanager
def _failures(operation: str) -> Iterator[None]:
    """A 404 is an answer, as is what S3 says of parts; everything else is a failure."""
    try:
        yield
    except ClientError as error:
        code = _code(error)
        if operation == "HeadObject" and _status(error) == 404:
            raise ObjectMissing("Nothing has been uploaded yet.") from None
        if operation in ("ListParts", "CompleteMultipartUpload"):
            if code in MULTIPART_GONE:
                raise MultipartGone("S3 knows this multipart upload no more.") from None
            if code in ("InvalidPart", "InvalidPartOrder"):
                raise PartsIncomplete({}) from None
            if code == "BadDigest":
                raise ObjectMismatch("The checksum is not the one declared.") from None
        if operation == "HeadBucket" and _status(error) == 404:
            code = "NoSuchBucket"
        if operation == "HeadObject" and _status(error) == 400:
            # Its uploader encrypted the object by a key of their own; or our credentials expired.
            raise _AnswerUnreadable("S3 does not answer as it should; try again later.") from error
        if code in HINTS or _status(error) in (401, 403):
            hint = HINTS.get(code, HINTS["AccessDenied"])
            logger.error("S3 refuses %s: %s %s. %s", operation, _status(error), code, hint)
            raise BucketMisconfigured("S3 is not set up correctly here.") from error
        logger.error("S3 answered %s %s to %s", _status(error), code, operation)
        lost = _status(error) in ANSWER_LOST_STATUS.get(operation, ())
        failure = AnswerLost if lost else BucketUnavailable
        raise failure("S3 does not answer as it should; try again later.") from error
    except RecursionError as error:
        # Redirected to a region that is not named: botocore asks where it is, and is redirected.
        logger.error("S3 redirects %s. %s", operation, _MEND_REGION)
        raise BucketMisconfigured("S3 is not set up correctly here.") from error
    except ParamValidationError as error:
        raise ImproperlyConfigured(f"{operation} as the storage has it: {error}") from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        # It may pass: an instance's come from a server, too.
        logger.error("No credentials for S3: set access_key and secret_key of the storage")
        raise BucketMisconfigured("The server has no credentials for S3.") from error
    except (BotoCoreError, ResponseParserError) as error:
        if operation == "HeadObject" and _is_unreadable(error):
            raise _AnswerUnreadable("S3 does not answer as it should; try again later.") from error
        # The class says enough, and a message may quote a URL.
        logger.error("S3 failed at %s: %s", operation, type(error).__name__)
        lost = operation in ANSWER_LOST_STATUS and isinstance(error, ANSWER_LOST)
        failure = AnswerLost if lost else BucketUnavailable
        raise failure("S3 cannot be reached; try again later.") from error


def _is_unreadable(error: BaseException) -> bool:
    """Whether an answer came, and neither http.client nor botocore can read it."""
    # urllib3 wraps what http.client raises, and botocore wraps that. HTTPException itself means
    # "got more than 100 headers"; its other subclasses mean that the connection broke.
    inner = getattr(error, "kwargs", {}).get("error")
    causes = [error, inner, *getattr(inner, "args", ())]
    return any(
        isinstance(each, ResponseParserError | http.client.LineTooLong)
        or type(each) is http.client.HTTPException
        for each in causes
    )


@contextmanager
def _queue_failures(operation: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error.response["Error"].get("Code", "")
        raise QueueUnavailable(f"SQS answered {_status(error)} {code} to {operation}.") from None
    except (BotoCoreError, ResponseParserError, ValueError) as error:
        raise QueueUnavailable(f"SQS failed at {operation}: {type(error).__name__}.") from None


def _status(error: ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def _code(error: ClientError) -> str:
    code = error.response["Error"].get("Code", "")
    return BARE_STATUS.get(code, code)


def _has_versions(deleted: Mapping[str, Any]) -> bool:
    # Only a bucket with versions says either; another needs no leave to list them.
    return bool(deleted.get("DeleteMarker") or deleted.get("VersionId"))


_skew_was_logged = float("-inf")


def _watch_clock(http_response: Any, **_: Any) -> None:
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
