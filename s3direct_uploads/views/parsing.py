"""The body of a request: JSON of a limited length."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import IO, Any

from django.http import UnreadablePostError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework import exceptions, status
from rest_framework.parsers import JSONParser

from s3direct_uploads.destinations import format_size
from s3direct_uploads.serializers import MOST_IN_BATCH

# A filename, a context and a content type with every character escaped need a third of this. The
# numbers of 1,000 parts, each on its own line, need all of it.
MAX_BODY_BYTES = 16 * 1024
MAX_EMPTY_BODY_BYTES = 1024  # for a call that needs no body
# A hundred declarations with every character escaped. It is less than 1 MiB, nginx's limit.
MAX_BATCH_BODY_BYTES = MOST_IN_BATCH * 6 * 1024
MAX_QUERY_BYTES = 8 * 1024  # a filename of 255 escaped characters needs a third of it


class RequestTooLarge(exceptions.APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = gettext_lazy("This request is too large.")
    default_code = "request_too_large"


class PlainJSONParser(JSONParser):
    """JSON by RFC 8259. The length of the body is limited."""

    strict = True

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        view: Any = (parser_context or {}).get("view")
        limit = view.max_body_bytes() if hasattr(view, "max_body_bytes") else MAX_BODY_BYTES
        try:
            body = stream.read(limit + 1)
        except UnreadablePostError:
            raise exceptions.ParseError(_("The body did not arrive.")) from None
        if len(body) > limit:
            most = {"size": format_size(limit)}
            raise RequestTooLarge(_("This body is too large: at most %(size)s.") % most)
        try:
            # Always UTF-8: with a codec that the client chooses, such as rot13, it could attack us.
            parsed: dict[str, Any] = super().parse(
                io.BytesIO(body), media_type, {**(parser_context or {}), "encoding": "utf-8"}
            )
        except RecursionError:
            raise exceptions.ParseError(_("This JSON is nested too deeply.")) from None
        except exceptions.ParseError as error:  # it quotes Python, which speaks English
            place = error.__context__
            if isinstance(place, json.JSONDecodeError):
                told = _("This is no JSON: look at line %(line)d, column %(column)d.")
                told %= {"line": place.lineno, "column": place.colno}
            else:
                told = _("This is no JSON.")
            raise exceptions.ParseError(told) from None
        return parsed
