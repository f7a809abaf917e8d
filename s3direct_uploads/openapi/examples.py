"""Examples, made by the same code that makes the real answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from django.core.exceptions import ValidationError
from django.http import Http404
from rest_framework.exceptions import ParseError, Throttled, UnsupportedMediaType
from rest_framework.exceptions import ValidationError as RestValidationError

from s3direct_uploads import exceptions, lifecycle
from s3direct_uploads.destinations import MAX_OBJECT_SIZE, MAX_PUT_SIZE, Destination
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import PresignedMultipart, PresignedPart, PresignedRequest
from s3direct_uploads.serializers import (
    MOST_IN_BATCH,
    ConfirmBatchSerializer,
    ListQuerySerializer,
    UploadSerializer,
)
from s3direct_uploads.views import RequestTooLarge, handle_exception

JSON = dict[str, Any]

PHOTO: JSON = {
    "destination": "photos",
    "filename": "beach.jpg",
    "content_type": "image/jpeg",
    "size": 482133,
}
PHOTO_WITH_CHECKSUM: JSON = {
    "destination": "photos",
    "filename": "IMG_0001.HEIC",
    "content_type": "",
    "size": 5,
    "checksum": {"algorithm": "CRC32", "value": "NhCmhg=="},
}
VIDEO: JSON = {
    "destination": "documents",
    "filename": "beach.mp4",
    "content_type": "video/mp4",
    "size": 41 * 1024**2,
}
_HOST = "https://media.s3.eu-central-1.amazonaws.com"
_SIGNATURE = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=3600&X-Amz-Signature=3f1c..."
_PHOTO_URL = f"{_HOST}/photos/h5sN...Xw/beach.jpg?{_SIGNATURE}"
_VIDEO_URL = f"{_HOST}/documents/Rk2d...9A/beach.mp4?uploadId=VXBs...aWQ&{_SIGNATURE}"
PART_SIZE = 16 * 1024**2
BEGUN_AT = datetime(2026, 5, 4, 10, 0, 0, 250000, tzinfo=UTC)


def _row(declaration: JSON = PHOTO, **more: Any) -> Upload:
    id = UUID("01930c4e-7b1a-7c3e-9d5f-2a8b6c4e1f70")
    life = timedelta(days=1 if declaration is PHOTO else 7)
    return Upload(id=id, created_at=BEGUN_AT, expires_at=BEGUN_AT + life, **{**declaration, **more})


def _completed() -> Upload:
    return _row(status="completed", completed_at=BEGUN_AT + timedelta(seconds=7))


def _shown(upload: Upload, presigned: Any = None) -> JSON:
    shown = dict(UploadSerializer(upload, context={"presigned": presigned}).data)
    return {**shown, "form_value": f"{upload.pk}:Xq3v...8Kc"}  # not signed by a project's own key


class Examples(NamedTuple):
    """All examples of one document. They are made late: rows need settings, texts a language."""

    bodies: dict[str, Any]  # requests, and answers without an error, by a name
    errors: dict[str, JSON]  # the body of an error's answer, by its code
    invalid: dict[str, JSON]  # the body of a 400 "invalid", by the code in its `errors`


def make_examples() -> Examples:
    return Examples(_bodies(), _errors_by_code(), _invalid())


def _bodies() -> dict[str, Any]:
    headers = {"Content-Type": "image/jpeg", "If-None-Match": "*"}
    begun = _shown(_row(), PresignedRequest("PUT", _PHOTO_URL, headers, 3600))
    parts = [
        PresignedPart(number, size, f"{_VIDEO_URL}&partNumber={number}", {})
        for number, size in enumerate((PART_SIZE, PART_SIZE, 9 * 1024**2), start=1)
    ]
    in_parts = _shown(_row(VIDEO), PresignedMultipart(PART_SIZE, 3, parts, 3600))
    completed = _shown(_completed())
    return {
        "photo": PHOTO,
        "with_checksum": PHOTO_WITH_CHECKSUM,
        "in_parts": {**VIDEO, "multipart": True},
        "declarations": {"uploads": [PHOTO, {**VIDEO, "multipart": True}]},
        "begun": begun,
        "begun_batch": _batch(begun, 201, exceptions.NotInBatch("This file is sent in parts.")),
        "confirmed_batch": _batch(
            completed, 200, exceptions.ObjectMissing("Nothing has been uploaded yet.")
        ),
        "ids": {"ids": [begun["id"], "01930c4e-7b1b-7d02-8a44-6f1e2d3c4b5a"]},
        "begun_in_parts": in_parts,
        "page": {"next": None, "previous": None, "results": [completed]},
        "completed": completed,
        "verifying": _shown(_row(status="verifying")),
        "completed_by_another_request": _shown(_row(VIDEO)),
        "renewed": begun,
        "renewed_in_parts": in_parts,
        "stored": {"part_number": 1, "size": PART_SIZE},
        "part_numbers": {"part_numbers": [1, 2, 3]},
        "signed": {"parts": in_parts["multipart"]["parts"], "expires_in": 3600},
        "url": {"url": f"{_PHOTO_URL}&response-content-disposition=...", "expires_in": 3600},
    }


def _batch(upload: JSON, status: int, error: exceptions.UploadError) -> JSON:
    good = {"status": status, "upload": upload, "error": None}
    return {"results": [good, {"status": error.status, "upload": None, "error": _answer(error)}]}


def _errors() -> list[Exception]:
    reason = "482133 bytes were declared, 482000 were sent."
    rejected = _row(status="rejected", reason=reason)
    incomplete = exceptions.PartsIncomplete({"missing": [2, 3]})
    incomplete.upload = _row(VIDEO)
    return [
        ParseError("This is no JSON: look at line 1, column 1."),
        Http404(),
        RequestTooLarge(),
        UnsupportedMediaType("text/plain"),
        Throttled(wait=41),
        exceptions.IdempotencyKeyReused(
            "This Idempotency-Key was used for another upload.", upload=_row()
        ),
        exceptions.ObjectMissing("Nothing has been uploaded yet.", upload=_row()),
        incomplete,
        exceptions.NotMultipart("This upload has no parts.", upload=_row()),
        exceptions.MultipartGone(
            "S3 has neither the object nor the parts any more.", upload=_row(VIDEO)
        ),
        exceptions.ObjectMismatch(reason, upload=rejected),
        exceptions.NotPending("This upload is expired.", upload=_row(status="expired")),
        exceptions.NotCompleted("This upload is pending.", upload=_row()),
        exceptions.AlreadyAttached("This upload is in use.", upload=_completed()),
        exceptions.QuotaExceeded(
            "256 kB of 1 GB are left.",
            {"max_total_size": 1024**3, "total_size": 1024**3 - 2**18, "left": 2**18},
        ),
        exceptions.TooManyPending(
            "At most 20 uploads at once: finish or cancel one.",
            {"max_pending": 20, "pending": 20, "left": 0},
        ),
        exceptions.BucketUnavailable("S3 cannot be reached; try again later."),
        exceptions.StorageNotS3("The storage “default” is not on S3."),
        exceptions.HookFailed("A check on this server failed; try again later."),
    ]


def _answer(error: Exception) -> JSON:
    answer = handle_exception(error, {})
    assert answer is not None
    return dict(answer.data)


def _errors_by_code() -> dict[str, JSON]:
    found = {body["code"]: body for body in map(_answer, _errors())}
    # Not made from an ImproperlyConfigured, because that would be logged as an error.
    detail = "Uploads are not set up correctly on this server."
    misconfigured = {**found["hook_failed"], "code": "misconfigured", "detail": detail}
    return {**found, "misconfigured": misconfigured}


def _refusals() -> Iterator[Callable[[], Any]]:
    """Calls that raise a ValidationError."""
    photos, documents = Destination("photos"), Destination("documents")
    photos.max_size, photos.content_types = 20 * 1024**2, ["image/*"]
    documents.max_size, documents.content_types = MAX_OBJECT_SIZE, ["video/*"]
    in_parts = _row(VIDEO, part_size=PART_SIZE)
    with_sha256 = _row(VIDEO, part_size=PART_SIZE, checksum_algorithm="SHA256", checksum="-")
    page = _row(status="completed", content_type="text/html")
    yield partial(photos.clean, _row(size=2 * photos.max_size), None)
    yield partial(documents.clean, _row(VIDEO, size=2 * MAX_PUT_SIZE), None)
    yield partial(documents.clean, with_sha256, None)
    yield partial(lifecycle.sign_parts, in_parts, [4])
    yield partial(lifecycle.presign_download, page, inline=True)
    many = ConfirmBatchSerializer(data={"ids": ["-"] * (MOST_IN_BATCH + 1)})
    yield partial(many.is_valid, raise_exception=True)
    yield partial(ListQuerySerializer(data={"status": "ready"}).is_valid, raise_exception=True)


def _invalid() -> dict[str, JSON]:
    found = {}
    for refuse in _refusals():
        try:
            refuse()
        except (ValidationError, RestValidationError) as error:
            body = _answer(error)
            found[body["errors"][0]["code"]] = body
    return found
