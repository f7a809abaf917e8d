"""The errors of each operation by status: those that it declares, and those of every call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiResponse

from s3direct_uploads.exceptions import OwnerUnknown, UploadError, raised_by

from .answers import ErrorSerializer
from .examples import Examples

# The meaning of an UploadError is the first line of its docstring. These are the other codes.
MEANINGS = {
    "invalid": "The request is wrong. `errors` says what is wrong, and what would be right.",
    "parse_error": "The body is not JSON.",
    "not_authenticated": "Nobody is signed in.",
    "authentication_failed": "The credentials are wrong.",
    "permission_denied": "This is not allowed. With a session, the CSRF token may be missing.",
    "not_found": "You have no such upload (another user's upload is not found either, nor a "
    "visitor's without its token), or there is no such page.",
    "request_too_large": "The body or the query is too large for this call.",
    "unsupported_media_type": "The `Content-Type` of the body is not `application/json`.",
    "throttled": "There were too many requests.",
    "misconfigured": "The settings of the server are wrong. Its system checks say what is wrong.",
}
# The host decides who may call, and how often. So every call may have these answers.
ANY_CALL = {
    401: ("not_authenticated", "authentication_failed"),
    403: ("permission_denied", "not_authenticated", "authentication_failed"),
    413: ("request_too_large",),
    429: ("throttled",),
}
# The HTTP layer refuses these itself, before it calls an operation.
HTTP_STATUS = {"invalid": 400, "parse_error": 400, "not_found": 404, "unsupported_media_type": 415}
# With session authentication, REST Framework also reads the body, to find a CSRF token.
ANY_BODY = ("parse_error", "unsupported_media_type")


def describe_errors(
    examples: Examples,
    *codes: str,
    operation: Callable[..., Any] | None = None,
    invalid: tuple[str, ...] = (),
) -> dict[int, OpenApiResponse]:
    """The answers for these codes, those of every call, and those that the operation declares."""
    raised: tuple[type[UploadError], ...] = (OwnerUnknown,)  # every call may raise it
    if operation:
        raised += raised_by(operation)
    found = [(status, code, MEANINGS[code]) for status, each in ANY_CALL.items() for code in each]
    found += [(HTTP_STATUS[code], code, MEANINGS[code]) for code in codes]
    found += [
        (error.status, error.code, (error.__doc__ or "").partition("\n")[0]) for error in raised
    ]
    if any(error.status == 503 for error in raised):
        found.append((503, "misconfigured", MEANINGS["misconfigured"]))
    by_status: dict[int, dict[str, str]] = {}
    for status, code, meaning in found:
        by_status.setdefault(status, {})[code] = meaning
    return {
        status: _describe(each, _examples(examples, each, invalid))
        for status, each in by_status.items()
    }


def _describe(meanings: dict[str, str], examples: Iterator[OpenApiExample]) -> OpenApiResponse:
    """All errors have one schema: from a schema for each status, generators make sixty classes."""
    description = "\n".join(f"- `{code}`: {meaning}" for code, meaning in meanings.items())
    return OpenApiResponse(ErrorSerializer, description, list(examples))


def _examples(
    examples: Examples, codes: Iterable[str], invalid: tuple[str, ...]
) -> Iterator[OpenApiExample]:
    for code in codes:
        if code == "invalid":
            yield from (OpenApiExample(name, examples.invalid[name]) for name in invalid)
        elif code in examples.errors:
            yield OpenApiExample(code, examples.errors[code])
