"""The HTTP contract as OpenAPI. A host's drf-spectacular finds it by itself."""
# mypy: untyped-calls-exclude="drf_spectacular"

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from drf_spectacular.drainage import isolate_view_method
from drf_spectacular.extensions import (
    OpenApiSerializerExtension,
    OpenApiSerializerFieldExtension,
    OpenApiViewExtension,
)
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import append_meta
from drf_spectacular.settings import spectacular_settings
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    Direction,
    OpenApiExample,
    OpenApiParameter,
    OpenApiRequest,
    OpenApiResponse,
    extend_schema,
    extend_schema_serializer,
)

from . import conf, content_types, lifecycle
from .destinations import (
    MAX_CONTEXT_BYTES,
    MAX_FILENAME_LENGTH,
    MAX_OBJECT_SIZE,
    MAX_PART_SIZE,
    MAX_PARTS,
    MAX_PUT_SIZE,
    MIN_PART_SIZE,
)
from .exceptions import raised_by
from .lifecycle import FIRST_PARTS
from .models import Upload
from .serializers import MOST_PARTS_SIGNED

JSON = dict[str, Any]

# What the rules say, for clients that check before they ask. Whoever makes up data by them is slow
# at lookaheads; \w and \d are other characters in Python than in ECMA 262.
_NOT_IN_NAMES = r"/\\\u0000-\u001f\u007f-\u009f"
_UNSEEN = r"\s\u061c\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff"
FILENAME = rf"^[^{_NOT_IN_NAMES}]*[^{_NOT_IN_NAMES}{_UNSEEN}][^{_NOT_IN_NAMES}]*$"
_WORD = r"[A-Za-z0-9!#$&^_.+-]+"
_PARAMETER = r' *; *[A-Za-z0-9_.+-]+=([A-Za-z0-9_.,+-]+|"[A-Za-z0-9_.+, =-]*")'
CONTENT_TYPE = rf"^({_WORD}/{_WORD}({_PARAMETER})*)?$"
# Base64 in its one canonical form: the last letter has bits to spare, which must be zero.
CHECKSUMS = {
    "SHA256": "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$",
    "CRC32": "^[A-Za-z0-9+/]{5}[AQgw]==$",
    "CRC64NVME": "^[A-Za-z0-9+/]{10}[AEIMQUYcgkosw048]=$",
}
IDEMPOTENCY_KEY = "^[!-~]([ -~]{0,62}[!-~])?$"
NO_NUL = r"^[^\u0000]*$"
NO_NUL_NOR_BLANK = r"^([^\u0000]*[^\u0000\s][^\u0000]*)?$"


# The components. Their names are ours alone: a host may well have an UploadSerializer of its own.


@extend_schema_serializer(many=False)  # else the answer to a list would be a list of pages
@dataclass(frozen=True)
class Component:
    """A schema under a name; ``build`` is handed a function that refers to another one."""

    name: str
    build: Callable[[Callable[[Component], JSON]], JSON]


class ComponentDescription(OpenApiSerializerExtension):
    target_class = Component

    def get_name(self, auto_schema: AutoSchema, direction: Direction) -> str:
        name: str = self.target.name
        return name

    def map_serializer(self, auto_schema: AutoSchema, direction: Direction) -> JSON:
        return _build(self.target, auto_schema, direction)


def _build(component: Component, auto_schema: AutoSchema, direction: Direction) -> JSON:
    def refer(other: Component) -> JSON:
        reference: JSON = auto_schema.resolve_serializer(other, direction).ref  # type: ignore[arg-type]
        return reference

    return component.build(refer)


def _object(properties: JSON, *, optional: tuple[str, ...] = (), **more: Any) -> JSON:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, **more}


def _string(description: str, **more: Any) -> JSON:
    return {"type": "string", "description": description, **more}


def _integer(description: str, **more: Any) -> JSON:
    return {"type": "integer", "description": description, **more}


def _nullable(schema: JSON) -> JSON:
    nullable: JSON = append_meta(schema, {"nullable": True})  # as OpenAPI 3.0 or 3.1 has it
    return nullable


def _described(reference: JSON, description: str) -> JSON:
    return {"allOf": [reference], "description": description}


SECONDS = _integer("Seconds.", minimum=1)
SECRET_URL = _string("Whoever has it may send: it is a secret.", format="uri")
EXACT_HEADERS: JSON = {
    "type": "object",
    "additionalProperties": {"type": "string"},
    "description": "All of these, and none beside them.",
}
PART_NUMBER = _integer("From 1.", minimum=1, maximum=MAX_PARTS)


def _build_status(_: Any) -> JSON:
    return {
        "type": "string",
        "enum": Upload.Status.values,
        "description": "One that you do not know is not final.",
    }


def _build_destination(_: Any) -> JSON:
    names = sorted(map(str, conf.destinations()))
    description = "The rules to upload by: how large, which types, who."
    return _string(description, **({"enum": names} if names else {}))


def _build_declaration(ref: Callable[[Component], JSON]) -> JSON:
    checksum = {
        "type": "object",
        "description": "Signed and compared: nothing else can be sent. Of what is sent in parts "
        "S3 knows no SHA256.",
        "properties": {
            "algorithm": {"type": "string", "enum": list(CHECKSUMS)},
            "value": _string("In base64."),
        },
        "required": ["algorithm", "value"],
        "anyOf": [
            {"properties": {"algorithm": {"enum": [algorithm]}, "value": {"pattern": pattern}}}
            for algorithm, pattern in CHECKSUMS.items()
        ],
    }
    return _object(
        {
            "destination": ref(DESTINATION),
            "filename": _string(
                "A name, not a path; it is kept as it is.",
                minLength=1,
                maxLength=MAX_FILENAME_LENGTH,
                pattern=FILENAME,
                **{"not": {"enum": [".", ".."]}},
            ),
            "size": _integer(
                "In bytes. S3 refuses any other number of them, and takes more than 5 GiB in parts "
                "alone.",
                format="int64",
                minimum=0,
                maximum=MAX_OBJECT_SIZE,
            ),
            "content_type": _nullable(
                _string(
                    "Absent, null or empty: guessed from the filename.",
                    maxLength=content_types.MAX_LENGTH,
                    pattern=CONTENT_TYPE,
                )
            ),
            "checksum": _nullable(checksum),
            "context": _nullable(
                {
                    "type": "object",
                    "additionalProperties": True,
                    "description": "A note to the server, where the destination takes one: "
                    f"at most {MAX_CONTEXT_BYTES} bytes as JSON.",
                }
            ),
            "multipart": _nullable(
                {
                    "type": "boolean",
                    "description": "Whether it may be sent in parts. It then is, where it is "
                    "larger than one of them; and always where S3 has no conditional writes.",
                }
            ),
        },
        optional=("content_type", "checksum", "context", "multipart"),
        description="What is to be uploaded. Fields it does not know are ignored.",
        anyOf=[
            {"properties": {"size": {"maximum": MAX_PUT_SIZE}}},
            {
                # allOf, for drf-spectacular makes a component of an enum that it sees.
                "properties": {"multipart": {"allOf": [{"enum": [True]}]}},
                "required": ["multipart"],
            },
        ],
    )


def _build_part(_: Any) -> JSON:
    return _object(
        {
            "part_number": PART_NUMBER,
            "size": _integer(
                "In bytes. S3 refuses any other number of them.",
                format="int64",
                minimum=0,
                maximum=MAX_PART_SIZE,
            ),
            "url": SECRET_URL,
            "headers": EXACT_HEADERS,
        },
        description="What is to be sent to S3, by PUT: this part of the file, and nothing else.",
    )


def _build_upload(ref: Callable[[Component], JSON]) -> JSON:
    moment = {"type": "string", "format": "date-time"}
    request = _object(
        {
            "method": {"type": "string", "enum": ["PUT"]},
            "url": SECRET_URL,
            "headers": EXACT_HEADERS,
            "expires_in": SECONDS,
        },
        description="What is to be sent to S3, exactly; null where there is nothing to send, and "
        "where it is sent in parts.",
    )
    multipart = _object(
        {
            "part_size": _integer(
                "In bytes. The last part may be smaller.",
                format="int64",
                minimum=MIN_PART_SIZE,
                maximum=MAX_PART_SIZE,
            ),
            "part_count": _integer(
                "All of them must be sent, in any order.", minimum=1, maximum=MAX_PARTS
            ),
            "parts": {
                "type": "array",
                "items": ref(PART),
                "minItems": 1,
                "maxItems": FIRST_PARTS,
                "description": "The first of them; what follows is signed when one asks.",
            },
            "expires_in": SECONDS,
        },
        description="How it is to be sent to S3 in parts; null where there is nothing to send, and "
        "where it is one PUT.",
    )
    return _object(
        {
            "id": _string("The only handle.", format="uuid"),
            "status": ref(STATUS),
            "destination": {"type": "string"},
            "filename": _string("As it was declared."),
            "content_type": _string("As it was declared, or guessed."),
            "size": _integer("In bytes.", format="int64", minimum=0),
            "context": {
                "type": "object",
                "additionalProperties": True,
                "description": "As the destination kept it.",
            },
            "created_at": moment,
            "expires_at": {**moment, "description": "The deadline, never extended."},
            "completed_at": _nullable(moment),
            "reason": _nullable(_string("Why it was rejected.")),
            "request": _nullable(request),
            "multipart": _nullable(multipart),
        }
    )


def _build_part_numbers(_: Any) -> JSON:
    return _object(
        {
            "part_numbers": {
                "type": "array",
                "items": PART_NUMBER,
                "minItems": 1,
                "maxItems": MOST_PARTS_SIGNED,
                "description": "Up to the upload's last.",
            }
        }
    )


def _build_signed_parts(ref: Callable[[Component], JSON]) -> JSON:
    parts = {"type": "array", "items": ref(PART), "minItems": 1, "maxItems": MOST_PARTS_SIGNED}
    return _object({"parts": parts, "expires_in": SECONDS})


def _build_stored_parts(_: Any) -> JSON:
    size = _integer("In bytes.", format="int64", minimum=0)
    stored = _object({"part_number": PART_NUMBER, "size": size})
    return {"type": "array", "items": stored, "maxItems": MAX_PARTS}


def _build_page(ref: Callable[[Component], JSON]) -> JSON:
    link = {"type": "string", "format": "uri"}
    return _object(
        {
            "next": _nullable(link),
            "previous": _nullable(link),
            "results": {"type": "array", "items": ref(UPLOAD), "maxItems": 50},
        }
    )


def _build_url(_: Any) -> JSON:
    return _object(
        {
            "url": _string("Whoever has it may read: it is a secret.", format="uri"),
            "expires_in": SECONDS,
        }
    )


def _build_error(ref: Callable[[Component], JSON]) -> JSON:
    each = _object(
        {
            "field": _nullable(_string("Dotted where it is nested: `checksum.value`.")),
            "code": _string("Such as `too_large`; a destination may have codes of its own."),
            "detail": _string("For people."),
            "params": {
                "type": "object",
                "additionalProperties": True,
                "description": 'What would be right: `{"max_size": 20971520}`.',
            },
        }
    )
    return _object(
        {
            "code": _string("For programs; it stays as it is."),
            "detail": _string("For people."),
            "errors": {
                "type": "array",
                "items": each,
                "description": "Of an `invalid` request; of `parts_incomplete`, with the codes "
                "`missing`, `wrong_size` and `replaced`, each with its `part_numbers`; of "
                "`quota_exceeded` and `too_many_pending`, with what is `left`.",
            },
            "upload": _described(ref(UPLOAD), "As it is after the error."),
            "retry_after": SECONDS,
        },
        optional=("upload", "retry_after"),
    )


STATUS = Component("DirectUploadStatus", _build_status)
DESTINATION = Component("DirectUploadDestination", _build_destination)
DECLARATION = Component("DirectUploadDeclaration", _build_declaration)
PART = Component("DirectUploadPart", _build_part)
UPLOAD = Component("DirectUpload", _build_upload)
PART_NUMBERS = Component("DirectUploadPartNumbers", _build_part_numbers)
SIGNED_PARTS = Component("DirectUploadSignedParts", _build_signed_parts)
STORED_PARTS = Component("DirectUploadStoredParts", _build_stored_parts)
PAGE = Component("DirectUploadPage", _build_page)
URL = Component("DirectUploadUrl", _build_url)
ERROR = Component("DirectUploadError", _build_error)


# What an answer looks like.

PUT_URL = (
    "https://media.s3.eu-central-1.amazonaws.com/photos/h5sN...Xw/beach.jpg"
    "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=3600&X-Amz-Signature=3f1c..."
)
GET_URL = f"{PUT_URL}&response-content-disposition=attachment..."
PENDING_EXAMPLE: JSON = {
    "id": "01930c4e-7b1a-7c3e-9d5f-2a8b6c4e1f70",
    "status": "pending",
    "destination": "photos",
    "filename": "beach.jpg",
    "content_type": "image/jpeg",
    "size": 482133,
    "context": {},
    "created_at": "2026-05-04T10:00:00.000000Z",
    "expires_at": "2026-05-05T10:00:00.000000Z",
    "completed_at": None,
    "reason": None,
    "request": None,
    "multipart": None,
}
BEGUN_EXAMPLE: JSON = {
    **PENDING_EXAMPLE,
    "request": {
        "method": "PUT",
        "url": PUT_URL,
        "headers": {"Content-Type": "image/jpeg", "If-None-Match": "*"},
        "expires_in": 3600,
    },
}
PART_SIZE = 16 * 1024**2
PENDING_IN_PARTS_EXAMPLE: JSON = {
    **PENDING_EXAMPLE,
    "destination": "documents",
    "filename": "beach.mp4",
    "content_type": "video/mp4",
    "size": 41 * 1024**2,
    "expires_at": "2026-05-11T10:00:00.000000Z",
}
PARTS_EXAMPLE: list[JSON] = [
    {
        "part_number": number,
        "size": size,
        "url": "https://media.s3.eu-central-1.amazonaws.com/documents/Rk2d...9A/beach.mp4"
        f"?uploadId=VXBs...aWQ&partNumber={number}&X-Amz-Expires=3600&X-Amz-Signature=3f1c...",
        "headers": {},
    }
    for number, size in enumerate((PART_SIZE, PART_SIZE, 9 * 1024**2), start=1)
]
BEGUN_IN_PARTS_EXAMPLE: JSON = {
    **PENDING_IN_PARTS_EXAMPLE,
    "multipart": {
        "part_size": PART_SIZE,
        "part_count": 3,
        "parts": PARTS_EXAMPLE,
        "expires_in": 3600,
    },
}
COMPLETED_EXAMPLE: JSON = {
    **PENDING_EXAMPLE,
    "status": "completed",
    "completed_at": "2026-05-04T10:00:07.000000Z",
}
REASON = "482133 bytes were declared, 482000 were sent."
TOO_LARGE: JSON = {
    "field": "size",
    "code": "too_large",
    "detail": "At most 20 MiB.",
    "params": {"max_size": 20971520},
}
MULTIPART_REQUIRED: JSON = {
    "field": "size",
    "code": "multipart_required",
    "detail": "More than 5 GiB takes a multipart upload.",
    "params": {"max_size": MAX_PUT_SIZE},
}
NOT_FOR_MULTIPART: JSON = {
    "field": "checksum",
    "code": "not_for_multipart",
    "detail": "Of a multipart upload S3 knows only CRC32 or CRC64NVME.",
    "params": {"algorithms": ["CRC32", "CRC64NVME"]},
}
NO_SUCH_PART: JSON = {
    "field": "part_numbers",
    "code": "out_of_range",
    "detail": "This upload has the parts 1 to 3.",
    "params": {"max_part_number": 3},
}
NOT_INLINE: JSON = {
    "field": "disposition",
    "code": "not_inline",
    "detail": "Files of this type are only downloaded.",
    "params": {},
}
NO_CHOICE: JSON = {
    "field": "status",
    "code": "invalid_choice",
    "detail": '"ready" is not a valid choice.',
    "params": {},
}
# The detail of an example, and what is in it beside that.
ERROR_EXAMPLES: dict[str, tuple[str, JSON]] = {
    "parse_error": ("JSON parse error - Expecting value: line 1 column 1 (char 0)", {}),
    "not_found": ("You have no such upload.", {}),
    "request_too_large": ("This request is too large.", {}),
    "unsupported_media_type": ('Unsupported media type "text/plain" in request.', {}),
    "throttled": ("Request was throttled. Expected available in 41 seconds.", {"retry_after": 41}),
    "idempotency_key_reused": (
        "This Idempotency-Key was used for another upload.",
        {"upload": PENDING_EXAMPLE},
    ),
    "object_missing": ("Nothing has been uploaded yet.", {"upload": PENDING_EXAMPLE}),
    "parts_incomplete": (
        "Some parts are not there yet, or not as they were signed.",
        {
            "errors": [
                {
                    "field": "parts",
                    "code": "missing",
                    "detail": "2 parts.",
                    "params": {"part_numbers": [2, 3]},
                }
            ],
            "upload": PENDING_IN_PARTS_EXAMPLE,
        },
    ),
    "not_multipart": ("This upload has no parts.", {"upload": PENDING_EXAMPLE}),
    "multipart_gone": (
        "S3 has neither the object nor the parts any more.",
        {"upload": PENDING_IN_PARTS_EXAMPLE},
    ),
    "object_mismatch": (
        REASON,
        {"upload": {**PENDING_EXAMPLE, "status": "rejected", "reason": REASON}},
    ),
    "not_pending": (
        "This upload is expired.",
        {"upload": {**PENDING_EXAMPLE, "status": "expired"}},
    ),
    "not_completed": ("This upload is pending.", {"upload": PENDING_EXAMPLE}),
    "already_attached": ("This upload is in use.", {"upload": COMPLETED_EXAMPLE}),
    "quota_exceeded": (
        "256 KiB of 1 GiB are left.",
        {
            "errors": [
                {
                    "field": "destination",
                    "code": "quota_exceeded",
                    "detail": "256 KiB of 1 GiB are left.",
                    "params": {
                        "max_total_size": 1024**3,
                        "total_size": 1024**3 - 256 * 1024,
                        "left": 256 * 1024,
                    },
                }
            ]
        },
    ),
    "too_many_pending": (
        "At most 20 uploads at once: finish or cancel one.",
        {
            "errors": [
                {
                    "field": "destination",
                    "code": "too_many_pending",
                    "detail": "At most 20 uploads at once: finish or cancel one.",
                    "params": {"max_pending": 20, "pending": 20, "left": 0},
                }
            ],
            "retry_after": 5,
        },
    ),
    "bucket_unavailable": ("S3 cannot be reached; try again later.", {"retry_after": 5}),
    "storage_not_s3": ("The storage 'default' is not on S3.", {"retry_after": 5}),
    "hook_failed": ("A check on this server failed; try again later.", {"retry_after": 5}),
    "misconfigured": ("Uploads are not set up correctly here.", {"retry_after": 5}),
}


WITH_ERRORS = {"invalid", "parse_error", "parts_incomplete", "quota_exceeded", "too_many_pending"}


OPERATIONS = (
    lifecycle.begin,
    lifecycle.confirm,
    lifecycle.renew,
    lifecycle.list_parts,
    lifecycle.sign_parts,
    lifecycle.cancel,
    lifecycle.presign_download,
)
MEANINGS = {
    "invalid": "Something that was said is not right: `errors` says what, and what would be.",
    "parse_error": "The body is no JSON.",
    "not_authenticated": "Nobody is signed in.",
    "authentication_failed": "Whoever it is cannot prove it.",
    "permission_denied": "Not allowed; by session, a missing CSRF token too.",
    "not_found": "One has no such upload, for another's is not found either; or no such page.",
    "request_too_large": "The body, or the query, is larger than this call has any use for.",
    "unsupported_media_type": "The body is not said to be `application/json`.",
    "throttled": "Too many requests.",
    "misconfigured": "The settings are wrong; the system checks say how.",
    **{
        error.code: (error.__doc__ or "").partition("\n")[0]
        for operation in OPERATIONS
        for error in raised_by(operation)
    },
}


def _error(status: int, codes: tuple[str, ...], invalid: tuple[JSON, ...]) -> OpenApiResponse:
    description = "\n".join(f"- `{code}`: {MEANINGS[code]}" for code in codes)
    if status == 401:  # an authentication class of the host's has codes of its own
        return OpenApiResponse(ERROR, description)
    narrow: JSON = {
        "type": "object",
        "properties": {"code": {"type": "string", "enum": list(codes)}},
    }
    if status in (409, 410, 422):
        narrow["required"] = ["upload"]
    if status in (429, 503):
        narrow["required"] = ["retry_after"]
    if not WITH_ERRORS & set(codes):
        narrow["properties"]["errors"] = {"type": "array", "maxItems": 0}
    return OpenApiResponse(
        {"allOf": [{"$ref": f"#/components/schemas/{ERROR.name}"}, narrow]},
        description,
        [each for code in codes for each in _error_examples(code, invalid)],
    )


def _error_examples(code: str, invalid: tuple[JSON, ...]) -> Iterator[OpenApiExample]:
    if code == "invalid":
        for each in invalid:
            detail = f"{each['field']}: {each['detail']}"
            value: JSON = {"code": code, "detail": detail, "errors": [each]}
            yield OpenApiExample(each["code"], value)
    elif code in ERROR_EXAMPLES:
        detail, more = ERROR_EXAMPLES[code]
        yield OpenApiExample(code, {"code": code, "detail": detail, "errors": [], **more})


# Who may call at all, and how often, is the host's. Any call may be answered so.
ANY_CALL = {
    401: ("not_authenticated", "authentication_failed"),
    403: ("permission_denied", "not_authenticated", "authentication_failed", "owner_unknown"),
    413: ("request_too_large",),
    429: ("throttled",),
}


# What the HTTP layer refuses by itself, before an operation is called.
HTTP_STATUS = {"invalid": 400, "parse_error": 400, "not_found": 404, "unsupported_media_type": 415}
# Where a session authenticates, REST Framework looks for a CSRF token in the body as well.
ANY_BODY = ("parse_error", "unsupported_media_type")


def _wrong(*codes: str, operation: Callable[..., Any] | None = None) -> dict[int, tuple[str, ...]]:
    """The codes of the errors by status: these, and what the operation declares that it raises."""
    raised = raised_by(operation) if operation else ()
    found = [(HTTP_STATUS[code], code) for code in codes]
    found += [(error.status, error.code) for error in raised]
    if any(error.status == 503 for error in raised):
        found.append((503, "misconfigured"))
    by_status: dict[int, list[str]] = {status: [*codes] for status, codes in ANY_CALL.items()}
    for status, code in found:
        if code not in by_status.setdefault(status, []):
            by_status[status].append(code)
    return {status: tuple(codes) for status, codes in by_status.items()}


def _answers(
    right: Mapping[int, OpenApiResponse],
    wrong: Mapping[int, tuple[str, ...]],
    *invalid: JSON,
) -> dict[int, OpenApiResponse]:
    errors = {status: _error(status, codes, invalid) for status, codes in wrong.items()}
    return dict(sorted({**right, **errors}.items()))


def _answer(
    component: Component | None, description: str, *examples: tuple[str, Any]
) -> OpenApiResponse:
    return OpenApiResponse(
        component, description, [OpenApiExample(name, value) for name, value in examples]
    )


# The operations.

HEADERS = [
    OpenApiParameter(
        "Cache-Control",
        {"type": "string", "enum": ["no-store"]},
        OpenApiParameter.HEADER,
        required=True,
        response=True,
    ),
    OpenApiParameter(
        "Retry-After",
        {"type": "integer", "minimum": 1},
        OpenApiParameter.HEADER,
        required=True,
        response=[429, 503],
    ),
]
NO_BODY = "There is no body: what one says is ignored."
DISPOSITION = OpenApiParameter(
    "disposition",
    {"type": "string", "enum": ["attachment", "inline"], "default": "attachment"},
    description="`inline`, to be shown and not saved: common images, no SVG, video, audio and PDF.",
)


def _operations() -> dict[str, Callable[[Any], Any]]:
    return {
        "create": extend_schema(
            operation_id="begin_upload",
            summary="Begin an upload",
            description="Declare a file. The answer has the request, or the parts, by which it is "
            "then to be sent to S3, never through here; confirm when it was. What else is refused, "
            "as too large or of a type that is not wanted, is the destination's matter.",
            parameters=[
                OpenApiParameter(
                    "Idempotency-Key",
                    {
                        "type": "string",
                        "minLength": 1,
                        "maxLength": 64,
                        "pattern": IDEMPOTENCY_KEY,
                    },
                    OpenApiParameter.HEADER,
                    description="Makes it safe to begin again: the same key and the same body "
                    "answer with the same upload, freshly signed.",
                ),
                *HEADERS,
            ],
            request={
                "application/json": OpenApiRequest(
                    DECLARATION,
                    examples=[
                        OpenApiExample(
                            "photo",
                            {
                                "destination": "photos",
                                "filename": "beach.jpg",
                                "content_type": "image/jpeg",
                                "size": 482133,
                            },
                        ),
                        OpenApiExample(
                            "with_checksum",
                            {
                                "destination": "photos",
                                "filename": "IMG_0001.HEIC",
                                "content_type": "",
                                "size": 5,
                                "checksum": {"algorithm": "CRC32", "value": "NhCmhg=="},
                            },
                        ),
                        OpenApiExample(
                            "in_parts",
                            {
                                "destination": "documents",
                                "filename": "beach.mp4",
                                "content_type": "video/mp4",
                                "size": 41 * 1024**2,
                                "multipart": True,
                            },
                        ),
                    ],
                )
            },
            responses=_answers(
                {
                    201: _answer(
                        UPLOAD,
                        "Begun, with a `request` or with `multipart`. Both are null only where an "
                        "earlier begin with this Idempotency-Key led to an end already.",
                        ("begun", BEGUN_EXAMPLE),
                        ("begun_in_parts", BEGUN_IN_PARTS_EXAMPLE),
                    )
                },
                _wrong("invalid", *ANY_BODY, operation=lifecycle.begin),
                TOO_LARGE,
                MULTIPART_REQUIRED,
                NOT_FOR_MULTIPART,
            ),
        ),
        "list": extend_schema(
            operation_id="list_uploads",
            summary="List one's own uploads",
            description="The newest first, 50 to a page: follow `next`.",
            parameters=[
                OpenApiParameter("status", {"type": "string", "enum": Upload.Status.values}),
                OpenApiParameter(
                    "destination",
                    {"type": "string", "pattern": NO_NUL_NOR_BLANK},
                ),
                OpenApiParameter("filename", {"type": "string", "pattern": NO_NUL}),
                OpenApiParameter(
                    "size",
                    {"type": "integer", "format": "int64", "minimum": 0, "maximum": 2**63 - 1},
                ),
                OpenApiParameter("cursor", str, description="Made by us: follow `next`."),
                *HEADERS,
            ],
            request=None,
            responses=_answers(
                {
                    200: _answer(
                        PAGE,
                        "A page of them, none with a `request` or `multipart`.",
                        ("page", {"next": None, "previous": None, "results": [COMPLETED_EXAMPLE]}),
                    )
                },
                _wrong("invalid", "not_found"),
                NO_CHOICE,
            ),
        ),
        "retrieve": extend_schema(
            operation_id="retrieve_upload",
            summary="Look at an upload",
            description="What is known of it here; S3 is not asked.",
            parameters=HEADERS,
            responses=_answers(
                {
                    200: _answer(
                        UPLOAD,
                        "Without a `request` or `multipart`.",
                        ("completed", COMPLETED_EXAMPLE),
                    )
                },
                _wrong("not_found"),
            ),
        ),
        "confirm": extend_schema(
            operation_id="confirm_upload",
            summary="Confirm that it was sent",
            description="S3 is asked what it has, which is held against the declaration; parts are "
            "put together first, which may take minutes where there are many. "
            "It may be repeated: a settled upload answers as it did the first time. "
            f"{NO_BODY}",
            parameters=HEADERS,
            request=None,
            responses=_answers(
                {
                    200: _answer(UPLOAD, "Completed.", ("completed", COMPLETED_EXAMPLE)),
                    202: _answer(
                        UPLOAD,
                        "It is being verified or, `pending` still, completed by another request: "
                        "ask again.",
                        ("verifying", {**PENDING_EXAMPLE, "status": "verifying"}),
                        ("completed_by_another_request", PENDING_IN_PARTS_EXAMPLE),
                    ),
                },
                _wrong("not_found", *ANY_BODY, operation=lifecycle.confirm),
            ),
        ),
        "renew": extend_schema(
            operation_id="renew_upload",
            summary="Get a fresh request",
            description="The same declaration, signed anew, until the upload's deadline. "
            f"{NO_BODY}",
            parameters=HEADERS,
            request=None,
            responses=_answers(
                {
                    200: _answer(
                        UPLOAD,
                        "With a `request` or with `multipart`.",
                        ("renewed", BEGUN_EXAMPLE),
                        ("renewed_in_parts", BEGUN_IN_PARTS_EXAMPLE),
                    )
                },
                _wrong("not_found", *ANY_BODY, operation=lifecycle.renew),
            ),
        ),
        "parts": extend_schema(
            operation_id="list_upload_parts",
            summary="List the parts that S3 has",
            description="Of a pending upload, to resume it: what is not among them is still to be "
            "sent. Where S3 knows them no more it may have been completed: confirm tells.",
            parameters=HEADERS,
            responses=_answers(
                {
                    200: _answer(
                        STORED_PARTS,
                        "As S3 says, in order.",
                        ("parts", [{"part_number": 1, "size": PART_SIZE}]),
                    )
                },
                _wrong("not_found", operation=lifecycle.list_parts),
            ),
        ),
        "sign_parts": extend_schema(
            operation_id="sign_upload_parts",
            summary="Get the URLs of more parts",
            description="In advance, or again where they have expired; until the upload's "
            "deadline.",
            parameters=HEADERS,
            request={
                "application/json": OpenApiRequest(
                    PART_NUMBERS, examples=[OpenApiExample("parts", {"part_numbers": [1, 2, 3]})]
                )
            },
            responses=_answers(
                {
                    200: _answer(
                        SIGNED_PARTS,
                        "Each once, in the order in which they were asked for.",
                        ("signed", {"parts": PARTS_EXAMPLE, "expires_in": 3600}),
                    )
                },
                _wrong("invalid", "not_found", *ANY_BODY, operation=lifecycle.sign_parts),
                NO_SUCH_PART,
            ),
        ),
        "destroy": extend_schema(
            operation_id="delete_upload",
            summary="Give it up, or delete it",
            description="A pending upload is cancelled, a completed one deleted, once no URL can "
            "bring it back. It may be repeated. The upload itself can still be looked at.",
            parameters=HEADERS,
            request=None,
            responses=_answers(
                {204: _answer(None, "Cancelled or deleted, now or before.")},
                _wrong("not_found", operation=lifecycle.cancel),
            ),
        ),
        "url": extend_schema(
            operation_id="get_upload_url",
            summary="Get a URL to download it by",
            description="For a completed upload.",
            parameters=[DISPOSITION, *HEADERS],
            responses=_answers(
                {200: _answer(URL, "Signed.", ("url", {"url": GET_URL, "expires_in": 3600}))},
                _wrong("invalid", "not_found", operation=lifecycle.presign_download),
                NOT_INLINE,
            ),
        ),
        "download": extend_schema(
            operation_id="download_upload",
            summary="Download it",
            description="For a completed upload: what an `<a>` or `<img>` may point to.",
            parameters=[
                DISPOSITION,
                OpenApiParameter(
                    "Location",
                    OpenApiTypes.URI,
                    OpenApiParameter.HEADER,
                    required=True,
                    response=[302],
                ),
                *HEADERS,
            ],
            responses=_answers(
                {302: _answer(None, "To S3.")},
                _wrong("invalid", "not_found", operation=lifecycle.presign_download),
                NOT_INLINE,
            ),
        ),
    }


class UploadViewSetDescription(OpenApiViewExtension):
    target_class = "s3direct_uploads.views.UploadViewSet"
    match_subclasses = True

    def view_replacement(self) -> Any:
        target: Any = self.target
        view = type(target.__name__, (target,), {})
        for name, describe in _operations().items():
            method: Any = isolate_view_method(view, name)
            hosts = getattr(method, "kwargs", {}).pop("schema", None)
            describe(method)
            if hosts:  # what a host's subclass says of its own methods comes first
                ours = method.kwargs["schema"]
                method.kwargs["schema"] = type(hosts.__name__, (hosts, ours), {})
        return view


class UploadSerializerDescription(OpenApiSerializerExtension):
    """For a host that shows uploads in endpoints of its own."""

    target_class = "s3direct_uploads.serializers.UploadSerializer"

    def get_name(self, auto_schema: AutoSchema, direction: Direction) -> str:
        return UPLOAD.name

    def get_identity(self, auto_schema: AutoSchema, direction: Direction) -> Component:
        return UPLOAD

    def map_serializer(self, auto_schema: AutoSchema, direction: Direction) -> JSON:
        return _build(UPLOAD, auto_schema, direction)


class UploadFieldDescription(OpenApiSerializerFieldExtension):
    target_class = "s3direct_uploads.serializers.UploadField"
    match_subclasses = True

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> JSON:
        destination: str = self.target.destination
        written = _string(
            f"The id of a completed upload of one's own, to `{destination}`, that nothing holds. "
            "An update takes what was read as well, if that is the file that is there.",
            format="uuid",
        )
        read = _object(
            {
                "name": _string("Where it lies in the storage."),
                "url": _string("To read it by.", format="uri"),
                "size": _nullable(_integer("In bytes, where known.", format="int64", minimum=0)),
                "content_type": _string("As uploaded, or guessed."),
                "filename": _string("As its owner named it, where known."),
            }
        )
        if not self.target.required:
            read = _nullable(read)
        if not spectacular_settings.COMPONENT_SPLIT_REQUEST:
            # One component must do for both directions.
            return {"oneOf": [written, read], "description": "Written as an id, read as an object."}
        return written if direction == "request" else read
