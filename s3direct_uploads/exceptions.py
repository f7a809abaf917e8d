"""What can go wrong with an upload.

Each class says all that its answer over HTTP needs: one stable ``code``, on which clients may rely,
the ``status``, and ``errors()``. Each operation says by ``@raises`` which of them it may raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .models import Upload

_Operation = TypeVar("_Operation", bound=Callable[..., Any])
_raised: dict[Callable[..., Any], tuple[type[UploadError], ...]] = {}


def raises(*errors: type[UploadError]) -> Callable[[_Operation], _Operation]:
    """Declare what an operation may raise. Its OpenAPI description follows from it."""

    def declare(operation: _Operation) -> _Operation:
        _raised[operation] = errors
        return operation

    return declare


def raised_by(operation: Callable[..., Any]) -> tuple[type[UploadError], ...]:
    return _raised[operation]


class UploadError(Exception):
    """Something about an upload that its client, or the host, must know.

    ``upload`` is the row as it stands after the error, where there is one. ``status`` is that of
    the answer over HTTP.
    """

    code = "upload_error"
    status = 400

    def __init__(self, detail: str, *, upload: Upload | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.upload = upload

    def errors(self) -> list[dict[str, Any]]:
        """What the answer says in ``errors``: ``{field, code, detail, params}`` each."""
        return []


class ObjectMissing(UploadError):
    """S3 has no object at the key: nothing was sent yet. The upload is still pending."""

    code = "object_missing"
    status = 409


class PartsIncomplete(ObjectMissing):
    """Parts are missing, have another size than was signed, or were replaced meanwhile.

    ``parts`` says which, by what is wrong: {"missing": [3, 4], "wrong_size": [7]}. The upload is
    still pending: send them, and confirm again.
    """

    code = "parts_incomplete"

    def __init__(self, parts: Mapping[str, Sequence[int]]) -> None:
        super().__init__("Some parts are not there yet, or not as they were signed.")
        self.parts = parts

    def errors(self) -> list[dict[str, Any]]:
        return [
            {
                "field": "parts",
                "code": what,
                "detail": "1 part." if len(numbers) == 1 else f"{len(numbers)} parts.",
                "params": {"part_numbers": list(numbers)},
            }
            for what, numbers in self.parts.items()
        ]


class MultipartGone(UploadError):
    """S3 knows the multipart upload no more, and there is no object: begin another upload."""

    code = "multipart_gone"
    status = 410


class NotMultipart(UploadError):
    """The upload is one PUT, and has no parts."""

    code = "not_multipart"
    status = 409


class ObjectMismatch(UploadError):
    """S3 holds something else than was declared, or ``verify`` refused it: rejected, for good."""

    code = "object_mismatch"
    status = 422


class NotPending(UploadError):
    """The upload was settled already: expired, cancelled or deleted, or nothing is left to send."""

    code = "not_pending"
    status = 410


class NotCompleted(UploadError):
    """Only a completed upload can be read or attached."""

    code = "not_completed"
    status = 409


class AlreadyAttached(UploadError):
    """The upload has become a file of some model, which owns it from then on."""

    code = "already_attached"
    status = 409


class NotAttached(UploadError):
    """No model holds the upload, so there is nothing to release. To delete it, cancel it."""

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


class QuotaExceeded(UploadError):
    """The owner has no room left in this destination, and gets it by deleting.

    ``limits`` says what there is, in bytes: {"max_total_size": …, "total_size": …, "left": …}.
    """

    code = "quota_exceeded"
    status = 403

    def __init__(self, detail: str, limits: Mapping[str, int]) -> None:
        super().__init__(detail)
        self.limits = limits

    def errors(self) -> list[dict[str, Any]]:
        limit = {"field": "destination", "code": self.code, "detail": self.detail}
        return [{**limit, "params": self.limits}]


class TooManyPending(QuotaExceeded):
    """The owner has as many uploads under way as the destination allows; it passes by itself.

    ``limits`` is {"max_pending": number, "pending": number, "left": number}.
    """

    code = "too_many_pending"
    status = 429


class BucketUnavailable(UploadError):
    """S3 is down, slow or refuses us. Says nothing about the object, so the row is untouched."""

    code = "bucket_unavailable"
    status = 503


class BucketMisconfigured(BucketUnavailable):
    """S3 answers, and will answer so until somebody mends credentials, policy, region or bucket."""


class AnswerLost(BucketUnavailable):
    """S3 was asked and its answer never came: what was asked for may have been done."""


class StorageNotS3(BucketUnavailable):
    """The destination's storage is not on S3 (a FileSystemStorage in development, say)."""

    code = "storage_not_s3"


class HookFailed(UploadError):
    """A check of this server's own failed. Nothing has changed, so it may be tried again.

    It is a hook of the host's that raised what it may not raise: the ``__cause__``, and in the log.
    """

    code = "hook_failed"
    status = 503


class EventError(Exception):
    """Something about an S3 event that its sender, or who reads the log, must know."""

    code = "event_error"
    status = 403

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class MalformedEvent(EventError):
    """The body has no S3 event of any dialect: to send it again is of no use."""

    code = "malformed"
    status = 400


class SNSTopicNotAllowed(EventError):
    """An SNS message of a topic that SNS_TOPICS does not have."""

    code = "sns_topic_not_allowed"


class SNSSignatureWrong(EventError):
    """An SNS message that SNS did not sign."""

    code = "sns_signature_wrong"


class SNSUnavailable(EventError):
    """SNS could not be asked for its certificate, or cryptography is not installed."""

    code = "sns_unavailable"
    status = 503


class QueueUnavailable(EventError):
    """SQS is down, slow, or refuses us."""

    code = "queue_unavailable"
    status = 503
