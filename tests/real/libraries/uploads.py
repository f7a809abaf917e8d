from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from s3direct_uploads.destinations import Destination


class Photos(Destination):
    max_size = 12 * 1024**2
    content_types = ("image/*",)
    part_size = 5 * 1024**2

    def clean_context(self, context: dict[str, Any], request: HttpRequest | None) -> dict[str, Any]:
        return context
