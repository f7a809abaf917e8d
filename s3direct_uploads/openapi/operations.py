"""The operations of the viewset: what each is for, what it takes, and how it answers."""
# mypy: untyped-calls-exclude="drf_spectacular"

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from drf_spectacular.drainage import isolate_view_method
from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiRequest,
    OpenApiResponse,
    extend_schema,
)

from s3direct_uploads import lifecycle
from s3direct_uploads.serializers import (
    BeginSerializer,
    DownloadQuerySerializer,
    ListQuerySerializer,
    PartNumbersSerializer,
    UploadSerializer,
)

from .answers import PageSerializer, SignedPartsSerializer, StoredPartSerializer, UrlSerializer
from .errors import ANY_BODY, describe_errors
from .examples import Examples, make_examples

NO_BODY = "The call needs no body, and ignores one."


def _header(name: str, schema: Any, **more: Any) -> OpenApiParameter:
    return OpenApiParameter(name, schema, OpenApiParameter.HEADER, **more)


HEADERS = [
    _header(
        "Cache-Control", {"type": "string", "enum": ["no-store"]}, required=True, response=True
    ),
    _header("Retry-After", {"type": "integer", "minimum": 1}, required=True, response=[429, 503]),
]
IDEMPOTENCY_KEY = _header(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[!-~]([ -~]{0,62}[!-~])?$"},
    description="A key that you make up for this upload. If you send the same key and the same "
    "body again, the answer has the same upload, signed again.",
)


LOCATION = _header("Location", OpenApiTypes.URI, required=True, response=[302])
CURSOR = OpenApiParameter("cursor", str, description="Do not make one up: follow `next`.")


@dataclass(frozen=True)
class Body:
    serializer: Any
    description: str
    examples: tuple[str, ...] = ()  # by name

    def found_in(self, examples: Examples) -> list[OpenApiExample]:
        return [OpenApiExample(name, examples.bodies[name]) for name in self.examples]


@dataclass(frozen=True)
class Operation:
    id: str
    summary: str
    description: str
    answers: Mapping[int, Body]
    raises: Callable[..., Any] | None = None
    codes: tuple[str, ...] = ()  # of the errors that are raised before the operation is called
    invalid: tuple[str, ...] = ()  # by name, examples of what makes a request invalid
    parameters: tuple[Any, ...] = ()
    request: Body | None = None

    def schema(self, examples: Examples) -> Any:
        errors = describe_errors(examples, *self.codes, operation=self.raises, invalid=self.invalid)
        answers = {
            status: OpenApiResponse(each.serializer, each.description, each.found_in(examples))
            for status, each in self.answers.items()
        }
        return extend_schema(
            operation_id=self.id,
            summary=self.summary,
            description=self.description,
            parameters=[*self.parameters, *HEADERS],
            request=self.request
            and {
                "application/json": OpenApiRequest(
                    self.request.serializer, examples=self.request.found_in(examples)
                )
            },
            responses=dict(sorted({**answers, **errors}.items())),
        )


# By the name of the viewset's method.
OPERATIONS = {
    "create": Operation(
        "begin_upload",
        "Begin an upload",
        "Declare a file. The answer says how to send it to S3: by one request, or in parts. When "
        "it is sent, confirm the upload. The destination may refuse a declaration for other "
        "reasons than this schema says: the file may be too large, or of a wrong type.",
        {
            201: Body(
                UploadSerializer,
                "The upload has begun, with a `request` or with `multipart`. Both are null only "
                "if an earlier call with this Idempotency-Key began an upload that is settled "
                "already.",
                ("begun", "begun_in_parts"),
            )
        },
        raises=lifecycle.begin,
        codes=("invalid", *ANY_BODY),
        invalid=("too_large", "multipart_required", "not_for_multipart"),
        parameters=(IDEMPOTENCY_KEY,),
        request=Body(BeginSerializer, "", ("photo", "with_checksum", "in_parts")),
    ),
    "list": Operation(
        "list_uploads",
        "List your uploads",
        "The newest come first, 50 to a page. Follow `next` for more.",
        {200: Body(PageSerializer, "A page. No upload has `request` or `multipart`.", ("page",))},
        codes=("invalid", "not_found"),
        invalid=("invalid_choice",),
        parameters=(ListQuerySerializer, CURSOR),
    ),
    "retrieve": Operation(
        "retrieve_upload",
        "Look at an upload",
        "The server says what it knows. It does not ask S3.",
        {200: Body(UploadSerializer, "Without `request` or `multipart`.", ("completed",))},
        codes=("not_found",),
    ),
    "confirm": Operation(
        "confirm_upload",
        "Confirm that the file was sent",
        "The server asks S3 what it has, and compares it with the declaration. S3 first puts "
        "parts together, which can take minutes if there are many. You may repeat the call: a "
        f"settled upload is answered as it was the first time. {NO_BODY}",
        {
            200: Body(UploadSerializer, "Completed.", ("completed",)),
            202: Body(
                UploadSerializer,
                "Not completed yet: ask again. `verifying` means that a scan holds the upload, "
                "which may take long; `pending` that another request completes it.",
                ("verifying", "completed_by_another_request"),
            ),
        },
        raises=lifecycle.confirm,
        codes=("not_found", *ANY_BODY),
    ),
    "renew": Operation(
        "renew_upload",
        "Get a fresh request",
        f"The server signs the same declaration again, until the upload's deadline. {NO_BODY}",
        {
            200: Body(
                UploadSerializer,
                "With a `request` or with `multipart`.",
                ("renewed", "renewed_in_parts"),
            )
        },
        raises=lifecycle.renew,
        codes=("not_found", *ANY_BODY),
    ),
    "parts": Operation(
        "list_upload_parts",
        "List the parts that S3 has",
        "To resume a pending upload, send the parts that are not in this list. If S3 no longer "
        "knows the parts, the upload may be completed: confirm says so.",
        {200: Body(StoredPartSerializer, "As S3 says, in order.", ("parts",))},
        raises=lifecycle.list_parts,
        codes=("not_found",),
    ),
    "sign_parts": Operation(
        "sign_upload_parts",
        "Get the URLs of more parts",
        "Ask for parts in advance, or again when their URLs have expired, until the upload's "
        "deadline.",
        {
            200: Body(
                SignedPartsSerializer,
                "Each part once, in the order in which you asked.",
                ("signed",),
            )
        },
        raises=lifecycle.sign_parts,
        codes=("invalid", "not_found", *ANY_BODY),
        invalid=("out_of_range",),
        request=Body(PartNumbersSerializer, "", ("part_numbers",)),
    ),
    "destroy": Operation(
        "delete_upload",
        "Cancel or delete an upload",
        "A pending or verifying upload is cancelled. A completed upload is deleted. The file is "
        "deleted when no URL can send it again. You may repeat the call, and you can still look at "
        "the upload.",
        {204: Body(None, "Cancelled or deleted, now or before.")},
        raises=lifecycle.cancel,
        codes=("not_found",),
    ),
    "url": Operation(
        "get_upload_url",
        "Get a URL that downloads the file",
        "The upload must be completed.",
        {200: Body(UrlSerializer, "Signed.", ("url",))},
        raises=lifecycle.presign_download,
        codes=("invalid", "not_found"),
        invalid=("not_inline",),
        parameters=(DownloadQuerySerializer,),
    ),
    "download": Operation(
        "download_upload",
        "Download the file",
        "The upload must be completed. An `<a>` or an `<img>` may point here.",
        {302: Body(None, "To S3.")},
        raises=lifecycle.presign_download,
        codes=("invalid", "not_found"),
        invalid=("not_inline",),
        parameters=(DownloadQuerySerializer, LOCATION),
    ),
}


class UploadViewSetDescription(OpenApiViewExtension):
    target_class = "s3direct_uploads.views.UploadViewSet"
    match_subclasses = True

    def view_replacement(self) -> Any:
        target: Any = self.target
        view = type(target.__name__, (target,), {})
        examples = make_examples()
        for name, operation in OPERATIONS.items():
            method: Any = isolate_view_method(view, name)
            hosts = getattr(method, "kwargs", {}).pop("schema", None)
            operation.schema(examples)(method)
            if hosts:  # what a host's subclass says of its own methods comes first
                ours = method.kwargs["schema"]
                method.kwargs["schema"] = type(hosts.__name__, (hosts, ours), {})
        return view
