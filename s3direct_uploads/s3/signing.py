"""Sign the requests that clients send. S3 refuses each of them in any other form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from botocore import xform_name
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
from .client import SHARED_HEADERS, Connection, has_foreign_handlers
from .failures import failures
from .values import Declared, PresignedPart, PresignedRequest

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


# No request of a client's decides who signs the next ones.
EXAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "PutObject": ("a b/c", {"ContentLength": 1, "ContentType": "image/png", "IfNoneMatch": "*"}),
    "UploadPart": ("a b/c", {"UploadId": "a+b", "PartNumber": 1, "ContentLength": 1}),
    "GetObject": ("a b/c", {"ResponseContentDisposition": "inline; a=b", "VersionId": "a+b"}),
}
METHODS = {"PutObject": "PUT", "UploadPart": "PUT", "GetObject": "GET"}
MAX_PLACES = 30_000  # each tenant may have a bucket of its own
UNKNOWN: Any = object()


class Signing:
    """The part of a bucket that signs. It does not call S3."""

    name: str
    location: str
    _storage: S3Storage
    _condition: Mapping[str, str]
    _shared: Mapping[str, str]
    _client: S3Client
    _signer: S3Client
    _connection: Connection
    _credentials: Any

    def presign_put(self, key: str, declared: Declared, *, expires: timedelta) -> PresignedRequest:
        """Sign a PUT. S3 refuses it in any other form, and a second time.

        ``expires`` is 7 days at most.
        """
        parameters = parameters_of(declared)
        signed = {"ContentLength": declared.size, **self._condition, **parameters}
        url = self._presign("PutObject", key, signed, expires)
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
            url = self._presign("GetObject", key, parameters, expires)
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
            if self._frozen_credentials() is None:
                raise ImproperlyConfigured("There are no credentials to sign with.")
        shared = {SHARED_HEADERS[name]: value for name, value in self._shared.items()}
        requests = [
            {"UploadId": upload_id, "PartNumber": number, "ContentLength": size}
            for number, size in sizes.items()
        ]
        urls = self._presign_all("UploadPart", key, requests, expires)
        return [
            # Without the length: every HTTP client sends it by itself.
            PresignedPart(number, size, url, shared)
            for (number, size), url in zip(sizes.items(), urls, strict=True)
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
        [url] = self._presign_all(operation, key, [parameters], expires)
        return url

    def _presign_all(
        self,
        operation: str,
        key: str,
        requests: Sequence[Mapping[str, Any]],
        expires: timedelta,
    ) -> list[str]:
        """Sign them with one set of credentials, by our own signer if it can. This decides it.

        Before the first request of an operation, both sign an example. If the two URLs are the
        same, ours signs from then on. They differ with another version of the signature, or with
        buckets that need sessions of their own (S3 Express).
        """
        seconds = int(expires.total_seconds())
        with failures(f"presigning {operation}"):
            credentials = self._frozen_credentials()
            known = self._connection.places.get((self.name, operation), UNKNOWN)
            if known is UNKNOWN:
                known = self._find_place(operation, credentials)
            if not known or not credentials:
                return [self._by_botocore(operation, key, each, seconds) for each in requests]
        signature = signer.signature_of(
            credentials,
            region=known.region,
            service=known.service,
            expires=seconds,
            now=datetime.now(UTC),
        )
        url, method = known.url_of(key), METHODS[operation]
        sent = [self._sent(operation, each) for each in requests]
        return [
            signer.presign(signature, method, url, query=query, headers=headers)
            for query, headers in sent
        ]

    def _find_place(
        self, operation: str, credentials: signer.Credentials | None
    ) -> signer.Place | None:
        """Where this operation's URLs lead; None if only botocore can sign them."""
        key, parameters = EXAMPLES[operation]
        example = self._by_botocore(operation, key, parameters, 60)
        if credentials is None or credentials != self._frozen_credentials():
            return None  # they were changed meanwhile, so the next request compares again
        place = None
        if not has_foreign_handlers(self._signer, operation):
            query, headers = self._sent(operation, parameters)
            place = signer.place_in(
                example,
                METHODS[operation],
                key,
                query=query,
                headers=headers,
                credentials=credentials,
            )
        places = self._connection.places
        if len(places) > MAX_PLACES:
            places.clear()
        places[self.name, operation] = place
        return place

    def _frozen_credentials(self) -> signer.Credentials | None:
        """The credentials of this moment: those of a role change every few hours."""
        found = self._credentials and self._credentials.get_frozen_credentials()
        if not found or not found.access_key or not found.secret_key:
            return None
        return signer.Credentials(found.access_key, found.secret_key, found.token or "")

    def _by_botocore(
        self, operation: str, key: str, parameters: Mapping[str, Any], seconds: int
    ) -> str:
        url: str = self._signer.generate_presigned_url(
            xform_name(operation),
            Params={"Bucket": self.name, "Key": key, **parameters},
            ExpiresIn=seconds,
        )
        return url

    def _sent(
        self, operation: str, parameters: Mapping[str, Any]
    ) -> tuple[dict[str, str], dict[str, str]]:
        """The query and the headers that boto3 sends for these parameters and the shared ones."""
        model = self._client.meta.service_model
        if operation != "GetObject":
            return _serialized(model, operation, {**self._shared, **parameters})
        # A browser sends no headers for a link, so they are in its query.
        query, headers = _serialized(model, operation, parameters)
        shared = {SHARED_HEADERS[name]: value for name, value in self._shared.items()}
        return {**query, **shared}, headers

    def headers_of(self, parameters: Mapping[str, Any]) -> dict[str, str]:
        """The headers that boto3 sends for these parameters of a PUT."""
        return self._sent("PutObject", parameters)[1]


def _serialized(
    model: Any, operation: str, parameters: Mapping[str, Any]
) -> tuple[dict[str, str], dict[str, str]]:
    """The query and the headers of a request, as botocore's serializer makes them."""
    locations = _locations(model, operation)
    query: dict[str, str] = {}
    headers: dict[str, str] = {}
    for member, value in parameters.items():
        location, name = locations.get(member, ("", ""))
        if type(value) not in (str, int) or location not in ("querystring", "header"):
            break  # dates, dicts and booleans have forms of their own
        (query if location == "querystring" else headers)[name] = str(value)
    else:
        return query, headers
    serializer = create_serializer(model.resolved_protocol, include_validation=False)
    sent = serializer.serialize_to_request(
        {"Bucket": "-", "Key": "-", **parameters}, model.operation_model(operation)
    )
    query, headers = (
        {name: str(value) for name, value in sent[part].items()}
        for part in ("query_string", "headers")
    )
    return query, headers


@lru_cache(maxsize=64)
def _locations(model: Any, operation: str) -> dict[str, tuple[str, str]]:
    """Where a request has each parameter that is text or a number, and under which name."""
    members = model.operation_model(operation).input_shape.members
    return {
        member: (shape.serialization["location"], shape.serialization["name"])
        for member, shape in members.items()
        if shape.type_name in ("string", "integer", "long") and "location" in shape.serialization
    }


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
