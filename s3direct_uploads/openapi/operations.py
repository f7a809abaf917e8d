"""The operations of the viewset: the purpose, the request and the answers of each."""
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
    BeginBatchSerializer,
    BeginSerializer,
    ConfirmBatchSerializer,
    DownloadQuerySerializer,
    DownloadUrlSerializer,
    ListQuerySerializer,
    PartNumbersSerializer,
    SignedPartsSerializer,
    StoredPartSerializer,
    UploadSerializer,
)

from .answers import BatchSerializer, PageSerializer
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
    description="A random key for this upload. If you send the same key and the same body again, "
    "the answer has the same upload, signed again. A visitor's key has at least 22 characters.",
)
UPLOAD_TOKEN = _header(
    "Upload-Token",
    OpenApiTypes.STR,  # any text: a wrong one is a 404
    description="Only for the upload of a visitor, who is not logged in: its `form_value`, as the "
    "answer to begin has it. It is a secret: anyone who has it can make all calls for this upload.",
)
BATCH_KEY = _header(
    "Idempotency-Key",
    IDEMPOTENCY_KEY.type,
    description="A random key for this batch. If you send the same key and the same body again, "
    "the answer has the same uploads, signed again. Those that did not begin are tried again.",
)


LOCATION = _header("Location", OpenApiTypes.URI, required=True, response=[302])
CURSOR = OpenApiParameter("cursor", str, description="Follow `next` instead of writing one.")


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
    items: Callable[..., Any] | None = None  # the operation for one of a batch
    codes: tuple[str, ...] = ()  # of errors that are raised before the operation is called
    invalid: tuple[str, ...] = ()  # names of examples for a 400 "invalid"
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
        "Declare a file. The answer says how to send it to S3: by one request, or in parts. Send "
        "the file, then confirm the upload. The destination has rules that are not in this schema: "
        "for example, how large a file may be, which types it accepts, and whether it accepts them "
        "from visitors who are not logged in.",
        {
            201: Body(
                UploadSerializer,
                "The upload has begun, with a `request` or with `multipart`. Both are null only "
                "if an earlier call with this Idempotency-Key began the upload, and it is already "
                "settled.",
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
        parameters=(UPLOAD_TOKEN,),
    ),
    "confirm": Operation(
        "confirm_upload",
        "Confirm that the file was sent",
        "The server asks S3 what it has, and compares it with the declaration. If the file was "
        "sent in parts, S3 first joins them. With many parts this can take minutes. You may repeat "
        f"the call: for a settled upload, the answer is always the same. {NO_BODY}",
        {
            200: Body(UploadSerializer, "Completed.", ("completed",)),
            202: Body(
                UploadSerializer,
                "Not completed yet: confirm again later. `verifying` means that a scan holds the "
                "upload, which may take long. `pending` means that another request completes it.",
                ("verifying", "completed_by_another_request"),
            ),
        },
        raises=lifecycle.confirm,
        codes=("not_found", *ANY_BODY),
        parameters=(UPLOAD_TOKEN,),
    ),
    "begin_batch": Operation(
        "begin_uploads",
        "Begin many uploads",
        "Declare up to 100 files, each of which is sent by one PUT. What is wrong with one of them "
        "does not affect the others: its result has the status and the error that begin would "
        "answer. A file that must be sent in parts gets 409 `not_in_batch`: begin it alone. If the "
        "quota has not enough room, the files that still fit begin, in this order. The answer is "
        "200 even if none begins.",
        {
            200: Body(
                BatchSerializer, "A result for each file, in the same order.", ("begun_batch",)
            )
        },
        raises=lifecycle.begin_many,
        items=lifecycle.begin,
        codes=("invalid", *ANY_BODY),
        invalid=("max_length",),
        parameters=(BATCH_KEY,),
        request=Body(BeginBatchSerializer, "", ("declarations",)),
    ),
    "confirm_batch": Operation(
        "confirm_uploads",
        "Confirm that many files were sent",
        "As confirm, for up to 100 uploads. Each result has the status and the upload, or the "
        "error, that confirm would answer. S3 does not join parts in this call: an upload in parts "
        "gets 409 `not_in_batch`, unless it is joined already. If S3 is slow, some uploads get 503 "
        "`bucket_unavailable`: confirm these again. The answer is 200 even if none is completed.",
        {
            200: Body(
                BatchSerializer, "A result for each id, in the same order.", ("confirmed_batch",)
            )
        },
        raises=lifecycle.confirm_many,
        items=lifecycle.confirm,
        codes=("invalid", *ANY_BODY),
        invalid=("max_length",),
        request=Body(ConfirmBatchSerializer, "", ("ids",)),
    ),
    "renew": Operation(
        "renew_upload",
        "Get a fresh request",
        "The server signs the same declaration again, unless the upload's deadline has passed. "
        f"{NO_BODY}",
        {
            200: Body(
                UploadSerializer,
                "With a `request` or with `multipart`.",
                ("renewed", "renewed_in_parts"),
            )
        },
        raises=lifecycle.renew,
        codes=("not_found", *ANY_BODY),
        parameters=(UPLOAD_TOKEN,),
    ),
    "parts": Operation(
        "list_upload_parts",
        "List the parts that S3 has",
        "To resume a pending upload, send the parts that are not in this list. If S3 no longer "
        "has the parts, the upload may be completed: confirm it.",
        {200: Body(StoredPartSerializer(many=True), "The parts in order.", ("stored",))},
        raises=lifecycle.list_parts,
        codes=("not_found",),
        parameters=(UPLOAD_TOKEN,),
    ),
    "sign_parts": Operation(
        "sign_upload_parts",
        "Get the URLs of more parts",
        "Ask for URLs before you need them, or again after they have expired. After the upload's "
        "deadline the server signs none.",
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
        parameters=(UPLOAD_TOKEN,),
        request=Body(PartNumbersSerializer, "", ("part_numbers",)),
    ),
    "destroy": Operation(
        "delete_upload",
        "Cancel or delete an upload",
        "The server cancels a pending or verifying upload, and deletes a completed one. It deletes "
        "the file after the last URL has expired. You may repeat the call. You can still look at "
        "the upload.",
        {204: Body(None, "Cancelled or deleted, now or before.")},
        raises=lifecycle.cancel,
        codes=("not_found",),
        parameters=(UPLOAD_TOKEN,),
    ),
    "url": Operation(
        "get_upload_url",
        "Get a URL that downloads the file",
        "The upload must be completed.",
        {200: Body(DownloadUrlSerializer, "The signed URL.", ("url",))},
        raises=lifecycle.presign_download,
        codes=("invalid", "not_found"),
        invalid=("not_inline",),
        parameters=(
            UPLOAD_TOKEN,
            DownloadQuerySerializer,
        ),
    ),
    "download": Operation(
        "download_upload",
        "Download the file",
        "The upload must be completed. An `<a>` or an `<img>` may point here.",
        {302: Body(None, "A redirect to S3.")},
        raises=lifecycle.presign_download,
        codes=("invalid", "not_found"),
        invalid=("not_inline",),
        parameters=(UPLOAD_TOKEN, DownloadQuerySerializer, LOCATION),
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
            if hosts:  # the schema of a host's subclass for its own methods comes first
                ours = method.kwargs["schema"]
                method.kwargs["schema"] = type(hosts.__name__, (hosts, ours), {})
        return view
