"""Send requests to a bucket: those of a client, and those of the server."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import urllib3

from s3direct_uploads import conf, destinations, keys, lifecycle, provisioning
from s3direct_uploads.destinations import Destination
from s3direct_uploads.s3 import Declared, PresignedRequest, Refusal, get_bucket

from .answers import Answer, reason
from .traces import Traces

TIMEOUT = urllib3.Timeout(connect=3, read=10)  # seconds
URL_LIFE = timedelta(minutes=5)  # of the URLs that are tried here
BODY = b"check_bucket of s3direct_uploads\n"
CONTENT_TYPE = "image/png"
LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")
NO_UPLOAD = "check-bucket-no-such-upload"  # an id that no server gave


class Probe:
    """The means to ask one bucket. What was put there is remembered in ``traces``.

    Raises StorageNotS3, ImproperlyConfigured.
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.bucket = get_bucket(alias)
        self.needs = provisioning.needs_of(alias)
        self.rules = [
            each
            for name in conf.destinations()
            if (each := destinations.get(name)).storage == alias
        ] or [Destination("check")]
        self.traces = Traces(self.bucket)
        self._http = urllib3.PoolManager(
            retries=False,
            timeout=TIMEOUT,
            **_certificates(self.bucket.verify),
        )

    # As a client.

    def send(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one plain HTTP request. Redirects are not followed. It never raises."""
        try:
            answer = self._http.request(
                method, url, body=body, headers=dict(headers or {}), redirect=False
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return Answer(0, {}, reason(error))
        told = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status, told, answer.data[:4096].decode(errors="replace"))

    def put(
        self, request: PresignedRequest, *, body: bytes = BODY, headers: Mapping[str, str] = {}
    ) -> Answer:
        """Send a presigned request, with more or other headers than it has."""
        return self.send(
            request.method, request.url, body=body, headers={**request.headers, **headers}
        )

    # As the server.

    def sign(
        self,
        key: str,
        *,
        expires: timedelta = URL_LIFE,
        rule: Destination | None = None,
        declared: Mapping[str, str] = {},
    ) -> PresignedRequest:
        """Presign a PUT of BODY, as begin does it. Raises BucketUnavailable."""
        parameters = self.bucket.object_parameters(key, rule.acl if rule else None)
        parameters |= declared
        whole = Declared(len(BODY), CONTENT_TYPE, parameters=parameters)
        return self.bucket.presign_put(key, whole, expires=expires)

    def new_key(self, *, remember: bool = False, rule: Destination | None = None) -> str:
        """Make a key as begin makes it. ``remember`` it if an object may be put there."""
        it = rule or self.rules[0]
        bucket, length, prefix = self.bucket, conf.max_name_length(), it.default_prefix
        site = lifecycle.site()
        name = keys.new_name(site, bucket.name, bucket.location, prefix, "check.jpg", length)
        key = keys.join(bucket.location, name)
        if remember:
            self.traces.keys.append(key)
        return key

    def may(self, operation: str, **parameters: Any) -> bool:
        """Whether the server is permitted to do this.

        The object need not exist: S3 looks at the permission first. Raises Refusal if no answer
        came.
        """
        try:
            self.bucket.ask(operation, **parameters)
        except Refusal as refusal:
            if not refusal.status:
                raise
            return refusal.status not in (401, 403)
        return True


def bare(url: str) -> str:
    """The same URL without its signature."""
    return url.partition("?")[0]


def _certificates(verify: bool | str | None) -> dict[str, Any]:
    if verify is False:
        return {"cert_reqs": "CERT_NONE"}
    return {"ca_certs": verify} if isinstance(verify, str) else {}
