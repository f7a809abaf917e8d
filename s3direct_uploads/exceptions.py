"""What can go wrong with an upload.

Each class has all that an HTTP answer needs: a stable ``code`` for clients, the ``status``, and
``errors()``. Each operation declares by ``@raises`` which of them it may raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from django.core.exceptions import BadRequest
from django.utils.translation import gettext, ngettext, override
from django.utils.translation import gettext_noop as _

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

    from .models import Upload

# What an error says of an upload in this status. A whole sentence each, for other languages.
IS_NOW = {
    "pending": _("This upload is pending."),
    "verifying": _("This upload is verifying."),
    "completed": _("This upload is completed."),
    "rejected": _("This upload is rejected."),
    "expired": _("This upload is expired."),
    "cancelled": _("This upload is cancelled."),
    "deleted": _("This upload is deleted."),
}

_Operation = TypeVar("_Operation", bound=Callable[..., Any])
_raised: dict[Callable[..., Any], tuple[type[UploadError], ...]] = {}


def raises(*errors: type[UploadError]) -> Callable[[_Operation], _Operation]:
    """Declare what an operation may raise. Its OpenAPI description is made from this."""

    def declare(operation: _Operation) -> _Operation:
        _raised[operation] = errors
        return operation

    return declare


def raised_by(operation: Callable[..., Any]) -> tuple[type[UploadError], ...]:
    """What this operation declares by ``@raises``. Raises KeyError if it declares nothing."""
    return _raised[operation]


class UploadError(Exception):
    """An operation on an upload failed. The base class of these errors.

    ``message`` is in English, with the names of ``params`` in it, as "%(size)s". ``upload`` is the
    row as it is after the error; None if there is no row. ``status`` is the status of the HTTP
    answer.
    """

    code = "upload_error"
    status = 400

    def __init__(
        self,
        message: _StrOrPromise,
        params: Mapping[str, object] | None = None,
        *,
        upload: Upload | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.params = params
        self.upload = upload

    @property
    def detail(self) -> str:
        """The text in the active language: that of the request which is answered."""
        said = gettext(str(self.message or ""))
        return said % self.params if self.params else said

    def __str__(self) -> str:
        """The text in English, for logs, commands and the row."""
        with override("en"):
            return self.detail

    def errors(self) -> list[dict[str, Any]]:
        """The items of ``errors`` in the HTTP answer: ``{field, code, detail, params}`` each."""
        return []


class ObjectMissing(UploadError):
    """S3 has no object at the key: nothing was sent yet. The upload is still pending."""

    code = "object_missing"
    status = 409


class PartsIncomplete(ObjectMissing):
    """Parts are missing, have another size than was signed, or were replaced meanwhile.

    ``parts`` has their numbers by what is wrong: {"missing": [3, 4], "wrong_size": [7]}. The upload
    is still pending: send them, and confirm again.
    """

    code = "parts_incomplete"

    def __init__(self, parts: Mapping[str, Sequence[int]]) -> None:
        super().__init__(_("Some parts are missing, or differ from what was signed."))
        self.parts = parts

    def errors(self) -> list[dict[str, Any]]:
        return [
            {
                "field": "parts",
                "code": what,
                "detail": ngettext("%(count)d part.", "%(count)d parts.", len(numbers))
                % {"count": len(numbers)},
                "params": {"part_numbers": list(numbers)},
            }
            for what, numbers in self.parts.items()
        ]


class MultipartGone(UploadError):
    """S3 no longer has the multipart upload, and there is no object: begin another upload."""

    code = "multipart_gone"
    status = 410


class NotMultipart(UploadError):
    """The upload is sent by one PUT, and has no parts."""

    code = "not_multipart"
    status = 409


class ObjectMismatch(UploadError):
    """S3 has something else than was declared, or ``verify`` or a scan refused it.

    The upload stays rejected.
    """

    code = "object_mismatch"
    status = 422


class NotPending(UploadError):
    """The upload was settled already: expired, cancelled or deleted, or nothing is left to send."""

    code = "not_pending"
    status = 410


# A client can post one upload for two rows of a formset, or twice at the same time. Where a view
# does not catch these two, Django answers 400, and not 500.


class NotCompleted(UploadError, BadRequest):
    """Only a completed upload can be read or attached."""

    code = "not_completed"
    status = 409


class NotHeld(UploadError):
    """No scan holds the upload: it is not confirmed yet, or it was settled before."""

    code = "not_held"
    status = 409


class AlreadyAttached(UploadError, BadRequest):
    """A model already uses the upload as its file."""

    code = "already_attached"
    status = 409


class NotAttached(UploadError):
    """No model uses the upload, so there is nothing to release. To delete it, cancel it."""

    code = "not_attached"
    status = 409


class WrongDestination(UploadError):
    """The upload was made for another destination than the field's, or its object lies elsewhere.

    Elsewhere is another bucket or location than the field's storage has.
    """

    code = "wrong_destination"
    status = 409


class NameTooLong(UploadError):
    """The name is longer than the column of the field: raise its ``max_length``."""

    code = "name_too_long"
    status = 409


class WrongDatabase(UploadError):
    """The row is saved to another database than uploads are. They could not roll back together."""

    code = "wrong_database"
    status = 409


class OwnerUnknown(UploadError, ValueError):
    """The caller is not a saved user of this database, and only such a user can own an upload."""

    code = "owner_unknown"
    status = 403


class IdempotencyKeyReused(UploadError):
    """The Idempotency-Key was used before, by the same owner, for another declaration."""

    code = "idempotency_key_reused"
    status = 409


class NotInBatch(UploadError):
    """A batch takes only files that are sent by one PUT: call begin or confirm for this one alone.

    Nothing has changed.
    """

    code = "not_in_batch"
    status = 409


class QuotaExceeded(UploadError):
    """The owner has no room left in this destination, and must delete uploads to get room.

    ``limits`` has numbers of bytes: {"max_total_size": …, "total_size": …, "left": …}.
    """

    code = "quota_exceeded"
    status = 403

    def __init__(
        self,
        message: _StrOrPromise,
        limits: Mapping[str, int],
        params: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, params)
        self.limits = limits

    def errors(self) -> list[dict[str, Any]]:
        limit = {"field": "destination", "code": self.code, "detail": self.detail}
        return [{**limit, "params": self.limits}]


class TooManyPending(QuotaExceeded):
    """The owner has too many pending uploads in this destination: finish or cancel one, or wait.

    ``limits`` is {"max_pending": number, "pending": number, "left": number}.
    """

    code = "too_many_pending"
    status = 429


class BucketUnavailable(UploadError):
    """S3 is down, slow, or refuses the server. The upload is unchanged: try again later."""

    code = "bucket_unavailable"
    status = 503


class BucketMisconfigured(BucketUnavailable):
    """S3 refuses the server until somebody corrects credentials, policy, region or bucket."""


class ContentUnavailable(BucketUnavailable):
    """S3 has the object, and does not give its bytes. No upload ends because of this."""


class AnswerLost(BucketUnavailable):
    """S3's answer was lost. S3 may have done what it was asked to do."""


class StorageNotS3(BucketUnavailable):
    """The destination's storage is not on S3 (such as a FileSystemStorage in development)."""

    code = "storage_not_s3"


class HookFailed(UploadError):
    """A check on this server failed. Nothing has changed: try again later.

    A hook of the host raised an error that it may not raise. That error is the ``__cause__``, and
    its traceback is in the log.
    """

    code = "hook_failed"
    status = 503


class EventError(Exception):
    """An S3 event could not be handled. The base class of these errors."""

    code = "event_error"
    status = 403

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class MalformedEvent(EventError):
    """The body has no S3 event in any known format. Sending it again does not help."""

    code = "malformed"
    status = 400


class SNSTopicNotAllowed(EventError):
    """The SNS message is from a topic that is not in SNS_TOPICS."""

    code = "sns_topic_not_allowed"


class SNSSignatureWrong(EventError):
    """SNS did not sign this SNS message."""

    code = "sns_signature_wrong"


class SNSUnavailable(EventError):
    """SNS's certificate could not be fetched, or cryptography is not installed."""

    code = "sns_unavailable"
    status = 503


class QueueUnavailable(EventError):
    """SQS is down, slow, or refuses the server."""

    code = "queue_unavailable"
    status = 503
