"""Sign the requests that clients send. S3 refuses each of them in any other form."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from botocore.serialize import create_serializer
from django.core.exceptions import ImproperlyConfigured
from django.utils.http import content_disposition_header
from storages.backends.s3 import S3Storage

from s3direct_uploads import keys
from s3direct_uploads.storage import (
    answered_with,
    as_stored,
    forces_attachment,
    parameter_problems,
    signs_urls,
    takes,
)

from . import signer
from .client import SHARED_HEADERS
from .failures import failures
from .values import Declared, PresignedPart, PresignedRequest

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


class Signing:
    """The part of a bucket that signs. It does not call S3."""

    name: str
    location: str
    _storage: S3Storage
    _condition: Mapping[str, str]
    _shared: Mapping[str, str]
    _client: S3Client
    _signer: S3Client
    _credentials: Any

    def presign_put(self, key: str, declared: Declared, *, expires: timedelta) -> PresignedRequest:
        """Sign a PUT. S3 refuses it in any other form, and a second time.

        ``expires`` is 7 days at most.
        """
        parameters = parameters_of(declared)
        signed = {"ContentLength": declared.size, **self._condition, **parameters}
        url = self._presign("put_object", key, signed, expires)
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
        """Sign a download of this version, under the filename that the client declared.

        If the storage's own ``url()`` leads to a domain, or has no signature, this returns that
        URL, as long as a browser then shows or saves the file as requested. ``stored`` are the
        parameters of the object.
        """
        url = self._url_by_storage(key, filename, inline, expires, stored or {})
        if url is None:
            # Without a filename, the browser takes the end of the key.
            disposition = content_disposition_header(not inline, filename) or "inline"
            parameters = {"ResponseContentDisposition": disposition}
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
        """The URL of the storage's own ``url()``; None if the URL must lead to S3 itself."""
        storage, folder = self._storage, keys.join(self.location, "")
        signs = signs_urls(storage)
        if signs and not (storage.custom_domain and takes(storage, "parameters", "expire")):
            return None
        if not key.startswith(folder) or self.name != storage.bucket_name:
            return None  # the domain of the storage does not serve this file
        # In an unsigned URL a disposition has no effect: anybody can remove it, and S3 refuses it.
        # The browser shows the file, unless the object is stored as an attachment.
        if not signs and inline == forces_attachment(stored):
            return None
        options: dict[str, Any] = {}
        if signs:
            options = {
                "parameters": answered_with(storage, inline=inline, filename=filename),
                "expire": int(expires.total_seconds()),
            }
        with failures("signing a URL"):
            url: str = storage.url(key.removeprefix(folder), **options)
        return url

    def presign_parts(
        self, key: str, upload_id: str, sizes: Mapping[int, int], *, expires: timedelta
    ) -> list[PresignedPart]:
        """Sign a PUT for each part, with exactly its size. ``sizes`` has bytes by part number."""
        with failures("presigning parts"):
            credentials = self._credentials and self._credentials.get_frozen_credentials()
        if not credentials or not credentials.access_key or not credentials.secret_key:
            raise ImproperlyConfigured("There are no credentials to sign with.")
        # Only botocore knows the host, the path and the region. They come from a URL that it signs.
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
                shared,  # without the length: every HTTP client sends it by itself
            )
            for number, size in sizes.items()
        ]

    def object_parameters(self, key: str, acl: str | None) -> dict[str, Any]:
        """What the storage and the destination's ACL add to a PUT, as JSON: {"CacheControl": …}.

        Raises ImproperlyConfigured if the storage's parameters are wrong.
        """
        try:
            said = self._storage.get_object_parameters(key)
        except Exception as error:  # a method of the host may raise anything
            raise ImproperlyConfigured(
                f"The bucket {self.name!r}: get_object_parameters raised {error!r}"
            ) from error
        for _, problem, _ in parameter_problems(said):
            raise ImproperlyConfigured(f"The bucket {self.name!r}: {problem}")
        parameters = as_stored(said)
        return {**parameters, "ACL": acl} if acl else parameters

    def _presign(
        self, operation: str, key: str, parameters: Mapping[str, Any], expires: timedelta
    ) -> str:
        with failures(f"presigning {operation}"):
            url: str = self._signer.generate_presigned_url(
                operation,
                Params={"Bucket": self.name, "Key": key, **parameters},
                ExpiresIn=int(expires.total_seconds()),
            )
        return url

    def headers_of(self, parameters: Mapping[str, Any]) -> dict[str, str]:
        """The headers that boto3 sends for these parameters of a PUT."""
        model = self._client.meta.service_model
        serializer = create_serializer(model.resolved_protocol, include_validation=False)
        request = {"Bucket": self.name, "Key": "-", **self._shared, **parameters}
        sent = serializer.serialize_to_request(request, model.operation_model("PutObject"))
        headers: dict[str, str] = {**sent["headers"]}
        return headers


def parameters_of(declared: Declared) -> dict[str, Any]:
    """The parameters that a PUT signs besides its length and its condition, in boto3's form."""
    parameters = {**declared.parameters}
    if declared.content_type:
        parameters["ContentType"] = declared.content_type
    if declared.checksum:
        # Ceph compares the checksum only if the request also names the algorithm.
        parameters["ChecksumAlgorithm"] = declared.checksum_algorithm
        parameters[f"Checksum{declared.checksum_algorithm}"] = declared.checksum
    return parameters
