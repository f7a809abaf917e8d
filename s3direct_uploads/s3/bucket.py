"""One bucket: the requests that the server sends to it. signing.py signs those of clients."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO

from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from django.core.exceptions import ImproperlyConfigured
from storages.backends.s3 import S3Storage

from s3direct_uploads import keys
from s3direct_uploads.exceptions import (
    BucketMisconfigured,
    BucketUnavailable,
    ObjectMismatch,
    ObjectMissing,
)
from s3direct_uploads.reasons import Reason
from s3direct_uploads.storage import (
    OVERWRITE_GUARDS,
)

from .client import connect, connection_facts
from .configuration import BucketConfiguration
from .failures import (
    HINTS,
    MULTIPART_GONE,
    AnswerUnreadable,
    code_of,
    failures,
    status_of,
)
from .heading import Heading
from .reading import Reading
from .signing import Signing, parameters_of
from .values import (
    Declared,
    Listed,
    StoredObject,
    StoredPart,
)

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

logger = logging.getLogger("s3direct_uploads")

# The answer to a GET if the uploader encrypted the object with a key of their own: AWS, Ceph.
NEEDS_CUSTOMERS_KEY = ("InvalidRequest", "InvalidArgument")


class Bucket(Signing, Heading, Reading, BucketConfiguration):
    """One S3 bucket, as a storage in STORAGES describes it.

    Every method raises BucketUnavailable if S3 is down, slow, or refuses the server.
    """

    def __init__(self, storage: S3Storage, name: str = "") -> None:
        """``name`` is given if the storage has another bucket now: the row is another tenant's.

        All other values of the storage are read here, once, in the thread of the request.
        """
        self.name: str = name or storage.bucket_name
        self.location: str = storage.location
        guard = getattr(storage, "overwrite_guard", OVERWRITE_GUARDS[0])
        if guard not in OVERWRITE_GUARDS:
            raise ImproperlyConfigured(f"The storage has an unknown overwrite_guard: {guard!r}.")
        self.takes_parts_only = guard == "multipart"
        self._condition = {} if self.takes_parts_only else {"IfNoneMatch": "*"}
        self._storage = storage
        facts = connection_facts(storage)
        self._shared = dict(facts.shared)
        self._connection = connection = connect(storage, facts)
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

    # Requests of the server.

    def head(self, key: str) -> StoredObject:
        """HEAD the object. Raises ObjectMissing if there is none.

        Raises ObjectMismatch if S3's answer about this object cannot be read, although its answer
        about another key can.
        """
        try:
            return self._head(key)
        except AnswerUnreadable:
            self.probe()  # perhaps the bucket is wrong, or a proxy in front of it
        try:
            return self._head(key)
        except AnswerUnreadable:
            if not self._is_unreadable(key):
                raise
            raise ObjectMismatch(Reason.UNREADABLE) from None

    def _is_unreadable(self, key: str) -> bool:
        """Whether the object causes the error. A refused HEAD has no body, and so no error code.

        The object causes it if its uploader encrypted it with a key of their own. Another 400, such
        as KMS.DisabledException, concerns the whole bucket, and so also honest objects. Raises
        BucketMisconfigured if the GET is denied.
        """
        try:
            with failures("GetObject"):
                self._client.get_object(Bucket=self.name, Key=key, Range="bytes=0-0")[
                    "Body"
                ].close()
        except AnswerUnreadable:
            return True
        except BucketMisconfigured:
            raise
        except BucketUnavailable as error:
            cause = error.__cause__
            return isinstance(cause, ClientError) and code_of(cause) in NEEDS_CUSTOMERS_KEY
        return False

    def put(self, key: str, body: BinaryIO, declared: Declared) -> None:
        """PUT an object as a client does, but from the server. ``body`` must be seekable."""
        request: dict[str, Any] = {"Bucket": self.name, "Key": key, **self._condition}
        request |= {"ContentLength": declared.size, **parameters_of(declared)}
        with failures("PutObject"):
            try:
                self._sender.put_object(Body=body, **request)
            except ClientError as error:
                # 412: the object is there. The first try arrived, and its answer was lost.
                if status_of(error) != 412:
                    raise

    def create_multipart(self, key: str, declared: Declared) -> str:
        """Create a multipart upload, and return S3's id for it.

        Raises AnswerLost if S3 may have created one whose id nobody knows.
        """
        request: dict[str, Any] = {"Bucket": self.name, "Key": key, **declared.parameters}
        request["ContentType"] = declared.content_type
        if declared.checksum:
            # The checksum of the whole object, which S3 computes from the parts.
            request["ChecksumAlgorithm"] = declared.checksum_algorithm
            request["ChecksumType"] = "FULL_OBJECT"
        with failures("CreateMultipartUpload"):
            created: Mapping[str, Any] = self._creator.create_multipart_upload(**request)
            if not created.get("UploadId"):
                raise ResponseParserError("The answer did not come from S3.")
        upload_id: str = created["UploadId"]
        return upload_id

    def list_parts(self, key: str, upload_id: str) -> list[StoredPart]:
        """All parts that S3 has, in order. Raises MultipartGone."""
        pages = self._client.get_paginator("list_parts")
        with failures("ListParts"):
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
        declared: Declared,
    ) -> None:
        """Make an object of these parts, unless there is one. With many parts it takes minutes.

        Raises MultipartGone, PartsIncomplete if a part was replaced since it was listed, and
        ObjectMismatch if the checksum differs.
        """
        request: dict[str, Any] = {
            "Bucket": self.name,
            "Key": key,
            "UploadId": upload_id,
            **self._condition,
            "MpuObjectSize": declared.size,
            "MultipartUpload": {
                "Parts": [{"PartNumber": part.part_number, "ETag": part.etag} for part in parts]
            },
        }
        if declared.checksum:
            request[f"Checksum{declared.checksum_algorithm}"] = declared.checksum
            request["ChecksumType"] = "FULL_OBJECT"
        with failures("CompleteMultipartUpload"):
            try:
                self._completer.complete_multipart_upload(**request)
            except ClientError as error:
                # 412: there is an object. We made it, and the answer was lost.
                if status_of(error) != 412:
                    raise
                # If another multipart upload made it, the parts of this one are still there.
                self.abort_multipart(key, upload_id)

    def abort_multiparts(self, key: str) -> None:
        """Abort every open multipart upload with exactly this key, also those that no row knows."""
        pages = self._client.get_paginator("list_multipart_uploads")
        with failures("AbortMultipartUpload"):
            for page in pages.paginate(Bucket=self.name, Prefix=key):
                for each in page.get("Uploads", ()):
                    if each["Key"] == key:
                        self.abort_multipart(key, each["UploadId"])

    def abort_multipart(self, key: str, upload_id: str) -> None:
        """Abort this multipart upload. It is no error if it does not exist."""
        with failures("AbortMultipartUpload"):
            try:
                self._client.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=upload_id)
            except ClientError as error:
                if error.response["Error"].get("Code") not in MULTIPART_GONE:
                    raise

    def delete(self, key: str) -> None:
        """Delete every version at exactly this key. It is no error if nothing is there."""
        with failures("DeleteObject"):
            if _has_versions(self._client.delete_object(Bucket=self.name, Key=key)):
                self._delete_versions(key)

    def delete_all(self, keys: Sequence[str]) -> dict[str, str]:
        """As ``delete``, for at most 1,000 keys. Returns the error codes of keys that S3 refused.

        A failure with one key, such as a legal hold, does not stop the deletion of the others.
        """
        if self._deletes_many:
            try:
                return self._delete_many(keys)
            except NotImplementedError:
                self._deletes_many = False
            except BucketMisconfigured:
                raise
            except BucketUnavailable:
                if self.is_away():
                    raise
                # S3 fails with one of these keys, or is too slow for all of them together.
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
        """Raises NotImplementedError if the server has no DeleteObjects, or a different one."""
        with failures("DeleteObjects"):
            try:
                answer = self._client.delete_objects(
                    Bucket=self.name, Delete={"Objects": [{"Key": key} for key in keys]}
                )
            except ClientError as error:
                if status_of(error) in (400, 405, 411, 501) and code_of(error) not in HINTS:
                    raise NotImplementedError from error
                raise
        refused = {each["Key"]: each["Code"] for each in answer.get("Errors", ())}
        for deleted in answer.get("Deleted", ()):
            if _has_versions(deleted):
                try:
                    with failures("DeleteObject"):
                        self._delete_versions(deleted["Key"])
                except BucketUnavailable as error:
                    if not isinstance(error, BucketMisconfigured) and self.is_away():
                        raise
                    refused[deleted["Key"]] = error.code
        return refused

    def _delete_versions(self, key: str) -> None:
        """Delete all versions that S3 lets us delete. Raises the last ClientError."""
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
        """HEAD a key that does not exist. Raises BucketUnavailable unless S3 says it is missing.

        Raises BucketMisconfigured if S3's answers do not show whether a key exists. If the bucket
        is missing, S3 answers 404 for every key. Without s3:ListBucket, it answers 403 for a
        missing key.
        """
        try:
            self._head(keys.join(self.location, secrets.token_urlsafe(16)))
        except ObjectMissing:
            pass
        with failures("HeadBucket"):
            self._client.head_bucket(Bucket=self.name)

    def is_away(self) -> bool:
        """Whether S3 also fails for a key that does not exist. Then no single key is the cause."""
        try:
            self.probe()
        except BucketUnavailable:
            return True
        return False

    def list_objects(self, prefix: str) -> Iterator[list[Listed]]:
        """Yield pages of at most 1,000 objects."""
        pages = self._client.get_paginator("list_objects_v2")
        with failures("ListObjectsV2"):
            for page in pages.paginate(Bucket=self.name, Prefix=prefix):
                yield [
                    Listed(each["Key"], each["LastModified"], size=each["Size"])
                    for each in page.get("Contents", ())
                ]

    def list_multiparts(self, prefix: str) -> Iterator[list[Listed]]:
        """Yield pages of at most 1,000 open multipart uploads."""
        pages = self._client.get_paginator("list_multipart_uploads")
        with failures("ListMultipartUploads"):
            for page in pages.paginate(Bucket=self.name, Prefix=prefix):
                yield [
                    Listed(each["Key"], each["Initiated"], upload_id=each["UploadId"])
                    for each in page.get("Uploads", ())
                ]


def _has_versions(deleted: Mapping[str, Any]) -> bool:
    # Only a bucket with versions returns one of these. Other buckets need no permission to list
    # versions.
    return bool(deleted.get("DeleteMarker") or deleted.get("VersionId"))
