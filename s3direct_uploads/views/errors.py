"""The answer for each error. All of them have one shape: ``{code, detail, errors}``."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from django.core.exceptions import (
    ImproperlyConfigured,
    RequestDataTooBig,
    TooManyFieldsSent,
    ValidationError,
)
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.http import Http404
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.settings import api_settings

from s3direct_uploads.destinations import is_storable
from s3direct_uploads.exceptions import UploadError
from s3direct_uploads.models import Upload
from s3direct_uploads.serializers import UploadSerializer

from .parsing import RequestTooLarge

logger = logging.getLogger("s3direct_uploads")

RETRY_AFTER = 5  # seconds: most failures of S3 are as short
# Django's words, which REST Framework quotes. Django does not translate them.
CSRF_REASONS = (
    gettext_noop("CSRF token missing."),
    gettext_noop("CSRF cookie not set."),
    gettext_noop("CSRF token from the 'X-Csrftoken' HTTP header incorrect."),
    gettext_noop("CSRF token from the 'X-Csrftoken' HTTP header has incorrect length."),
)
# The limits of the errors in one answer, so that it has at most 64 KiB.
MOST_ERRORS = 20
LONGEST_DETAIL = 500  # characters
LONGEST_FIELD = 100


def handle_exception(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """The answer for an error: ``{code, detail, errors}``. None for a bug, which becomes a 500."""
    if isinstance(error, UploadError):
        body: dict[str, Any] = {
            "code": error.code,
            "detail": error.detail,
            "errors": error.errors(),
        }
        if error.upload is not None:
            body["upload"] = UploadSerializer(error.upload).data
        return _answer(error.status, body)
    if isinstance(error, ImproperlyConfigured):
        logger.error("Misconfigured: %s", error)
        detail = _("Uploads are not set up correctly on this server.")
        body = {"code": "misconfigured", "detail": detail, "errors": []}
        return _answer(503, body)
    if isinstance(error, ValidationError):
        return _invalid(_django_errors(error))
    if isinstance(error, exceptions.ValidationError):
        return _invalid(_rest_errors(error.get_full_details()))
    if isinstance(error, RequestDataTooBig | TooManyFieldsSent):
        error = RequestTooLarge()
    if isinstance(error, Http404 | Upload.DoesNotExist):
        error = exceptions.NotFound(_("You have no such upload."))
    elif isinstance(error, DjangoPermissionDenied):
        error = exceptions.PermissionDenied(*error.args)
    if isinstance(error, exceptions.APIException):
        said: Any = error.detail
        if isinstance(said, Mapping):  # simplejwt adds the code of the token
            said = said.get("detail", said)
        code = getattr(said, "code", error.default_code)
        if str(said).startswith("CSRF Failed: "):  # REST Framework's, with Django's reason
            reason = str(said).removeprefix("CSRF Failed: ")
            said = _("CSRF Failed: %(reason)s") % {"reason": _(reason)}
        body = {"code": str(code), "detail": str(said), "errors": []}
        retry_after = getattr(error, "wait", None)
        response = _answer(error.status_code, body, retry_after)
        if hasattr(error, "auth_header"):
            response["WWW-Authenticate"] = error.auth_header
        return response
    return None


def _answer(status: int, body: dict[str, Any], retry_after: float | None = None) -> Response:
    body["detail"] = _brief(body["detail"])
    if status in (429, 503):
        body["retry_after"] = max(1, round(retry_after or RETRY_AFTER))
    headers = {"Retry-After": str(body["retry_after"])} if "retry_after" in body else None
    return Response(body, status=status, headers=headers)


def _brief(text: object, longest: int = LONGEST_DETAIL) -> str:
    """Cut the text if it is too long: much of it may be what the client sent."""
    said = str(text)
    return said if len(said) <= longest else f"{said[: longest - 1]}…"


def _invalid(found: Iterator[dict[str, Any]]) -> Response:
    errors = [
        {
            **each,
            "field": each["field"] and _brief(each["field"], LONGEST_FIELD),
            "detail": _brief(each["detail"]),
            # The params of Django's own ValidationError may contain a model.
            "params": {name: value for name, value in each["params"].items() if is_storable(value)},
        }
        for each in islice(found, MOST_ERRORS)
    ]
    first = errors[0]
    detail = f"{first['field']}: {first['detail']}" if first["field"] else first["detail"]
    return _answer(400, {"code": "invalid", "detail": detail, "errors": errors})


def _django_errors(error: ValidationError) -> Iterator[dict[str, Any]]:
    by_field = getattr(error, "error_dict", None) or {None: error.error_list}
    for field, errors in by_field.items():
        for each in errors:
            yield {
                "field": field,
                "code": each.code or "invalid",
                "detail": each.messages[0],
                "params": each.params or {},
            }


def _rest_errors(details: Any, field: str | None = None) -> Iterator[dict[str, Any]]:
    """Flatten them. {"checksum": {"value": […]}} becomes an error of the field "checksum.value"."""
    if isinstance(details, Mapping) and isinstance(details.get("code"), str):
        yield {"field": field, "code": details["code"], "detail": details["message"], "params": {}}
    elif isinstance(details, Mapping):
        for name, each in details.items():
            inner = name if field is None else f"{field}.{name}"
            yield from _rest_errors(
                each, field if name == api_settings.NON_FIELD_ERRORS_KEY else inner
            )
    else:
        for each in details:
            yield from _rest_errors(each, field)
