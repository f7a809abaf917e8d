"""django-storages' S3Storage, and what direct uploads want to know of a storage beside."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from storages.backends import s3
from storages.utils import setting

# How a key is kept from a second write: by a condition on the PUT, or, where a server has no such
# conditions, by parts alone.
OVERWRITE_GUARDS = ("if-none-match", "multipart")


class S3Storage(s3.S3Storage):  # type: ignore[misc]
    """Adds the option ``public_endpoint_url``: the endpoint that clients see, "https://host[:port]".

    Every URL that leaves the server names it, ``photo.image.url`` included. Under Docker, say,
    the server talks to ``http://minio:9000`` and browsers to ``http://localhost:9000``.

    And ``overwrite_guard``: "if-none-match", or "multipart" for a server that has no conditional
    writes. Then every upload goes in parts, whose URLs die when they become an object.
    """

    public_endpoint_url: str | None
    overwrite_guard: str

    def __init__(self, **options: Any) -> None:
        style = options.get("addressing_style") or setting("AWS_S3_ADDRESSING_STYLE")
        endpoint_url = options.get("endpoint_url") or setting("AWS_S3_ENDPOINT_URL")
        if not style and not endpoint_url:
            # botocore's default names the global host, which the newer regions do not answer.
            options["addressing_style"] = "virtual"
        super().__init__(**options)

    def get_default_settings(self) -> dict[str, Any]:
        defaults = super().get_default_settings()
        return {
            **defaults,
            "public_endpoint_url": setting("AWS_S3_PUBLIC_ENDPOINT_URL"),
            "overwrite_guard": setting("AWS_S3_OVERWRITE_GUARD", OVERWRITE_GUARDS[0]),
            # botocore's default for a presigned URL is the old SigV2 in two regions.
            "signature_version": defaults["signature_version"] or "s3v4",
        }

    @cached_property
    def _public(self) -> S3Storage:
        _, args, options = self.deconstruct()
        return type(self)(
            *args,
            **options | {"endpoint_url": self.public_endpoint_url, "public_endpoint_url": None},
        )

    def url(self, name: str, *args: Any, **options: Any) -> str:
        # The host is a part of the signature, so it cannot be exchanged afterwards.
        if self.public_endpoint_url and not self.custom_domain:
            return self._public.url(name, *args, **options)
        return str(super().url(name, *args, **options))
