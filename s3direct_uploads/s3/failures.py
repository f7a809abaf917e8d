"""The errors that boto3 raises, and which of our errors each of them means."""

from __future__ import annotations

import http.client
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.parsers import ResponseParserError
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_noop as _

from s3direct_uploads.exceptions import (
    AnswerLost,
    BucketMisconfigured,
    BucketUnavailable,
    MultipartGone,
    ObjectMismatch,
    ObjectMissing,
    PartsIncomplete,
    UploadError,
)
from s3direct_uploads.reasons import Reason

logger = logging.getLogger("s3direct_uploads")

# botocore raises these after a request was sent. (If there is no connection, it raises others.) The
# statuses come from a gateway that did not wait for S3. For these operations it matters, because
# they must not be done twice.
ANSWER_LOST = (HTTPClientError, ResponseParserError)
ANSWER_LOST_STATUS = {
    "CreateMultipartUpload": (500, 502, 504),  # after a 500 it is not known; a retry has a new key
    "CompleteMultipartUpload": (502, 504),  # after a 500 S3's documentation says: try again
}
MULTIPART_GONE = ("NoSuchUpload", "NoSuchKey")  # Ceph answers the second one after Complete
OBJECT_GONE = ("NoSuchKey", "NoSuchVersion")  # any other 404 comes from the bucket or a proxy
# Somebody must correct these errors. botocore itself tries again after errors that end by
# themselves.
_MEND_KEYS = "Correct access_key and secret_key of the storage, or the role of the server."
_MEND_REGION = "Correct region_name (and endpoint_url) of the storage: the bucket is elsewhere."
_MEND_READING = (
    "Grant the server s3:GetObject, and s3:GetObjectVersion if the bucket has versions. If objects "
    "are encrypted with aws:kms, grant it kms:Decrypt on the key too."
)
_MEND_KMS = "Enable the KMS key of the bucket, and grant the server kms:Decrypt on it."
HINTS = {
    "AccessDenied": "Grant the server the permissions that docs/settings.md lists, s3:GetObject "
    "and s3:ListBucket included. Without s3:ListBucket, S3 answers 403 for a missing object. If "
    "objects are encrypted with aws:kms, grant it kms:Decrypt on the key too.",
    "InvalidObjectState": "Objects are archived: correct the lifecycle rules of the bucket.",
    "InvalidAccessKeyId": _MEND_KEYS,
    "SignatureDoesNotMatch": _MEND_KEYS,
    "ExpiredToken": _MEND_KEYS,
    "InvalidToken": _MEND_KEYS,
    "RequestTimeTooSkewed": "Set this machine's clock: it differs from S3's by minutes.",
    "PermanentRedirect": _MEND_REGION,
    "AuthorizationHeaderMalformed": _MEND_REGION,
    "NoSuchBucket": "Correct bucket_name of the storage, or create the bucket.",
}
LOG_AGAIN_AFTER = 60  # seconds: one mistake may refuse the requests for a thousand keys
_logged: dict[tuple[str, int, str], float] = {}
# The answer to a HEAD has no body, and so no code except its status.
BARE_STATUS = {"301": "PermanentRedirect", "307": "PermanentRedirect", "403": "AccessDenied"}


class Refusal(Exception):
    """S3 refused a request of setup_bucket or check_bucket.

    If no answer came, ``status`` is 0, and ``code`` says what failed: "ConnectTimeoutError".
    """

    def __init__(self, status: int, code: str, headers: Mapping[str, str], detail: str) -> None:
        super().__init__(f"{status} {code}" if status else code)
        self.status = status
        self.code = code
        self.headers = headers  # in lower case
        self.detail = detail

    @property
    def is_unknown_operation(self) -> bool:
        """Whether this server does not have the operation, which is on a bucket's configuration."""
        # rclone and others ignore "?cors", and try to create the bucket.
        overlooked = ("BucketAlreadyExists", "BucketAlreadyOwnedByYou")
        lacking = ("NotImplemented", "MethodNotAllowed", *overlooked)
        return self.status in (405, 501) or self.code in lacking


class AnswerUnreadable(BucketUnavailable):
    """S3 answered a valid HEAD, and the answer cannot be read."""


@contextmanager
def failures(operation: str) -> Iterator[None]:
    """Turn any error that boto3 raises during this operation into one of our errors."""
    try:
        yield
    except ClientError as error:
        raise _meaning(operation, error) from error
    except RecursionError as error:
        # S3 redirects without naming the region. botocore asks for it, and is redirected again.
        logger.error("S3 redirects %s. %s", operation, _MEND_REGION)
        raise BucketMisconfigured(_("S3 is not set up correctly here.")) from error
    except ParamValidationError as error:
        raise ImproperlyConfigured(f"{operation} with the storage's options: {error}") from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        # This may end by itself: an instance gets its credentials from a server.
        logger.error("No credentials for S3: set access_key and secret_key of the storage")
        raise BucketMisconfigured(_("The server has no credentials for S3.")) from error
    except (BotoCoreError, ResponseParserError) as error:
        if operation in ("HeadObject", "GetObject") and _is_unreadable(error):
            raise AnswerUnreadable(
                _("S3 does not answer as it should; try again later.")
            ) from error
        # Only the class, because a message may quote a URL.
        logger.error("S3 failed at %s: %s", operation, type(error).__name__)
        lost = operation in ANSWER_LOST_STATUS and isinstance(error, ANSWER_LOST)
        failure = AnswerLost if lost else BucketUnavailable
        raise failure(_("S3 cannot be reached; try again later.")) from error
    except (ValueError, TypeError, KeyError) as error:
        if operation not in ("HeadObject", "GetObject"):
            raise
        # botocore's parser raises these for a header that it cannot read.
        raise AnswerUnreadable(_("S3 does not answer as it should; try again later.")) from error


def _meaning(operation: str, error: ClientError) -> UploadError:
    """Which of our errors S3's refusal means."""
    code = code_of(error)
    if operation == "HeadObject" and status_of(error) == 404:
        return ObjectMissing(_("Nothing has been uploaded yet."))
    if operation == "GetObject" and code in OBJECT_GONE:
        return ObjectMissing(_("The object is not there any more."))
    if operation == "GetObject" and status_of(error) in (412, 416):
        return BucketUnavailable(_("The object changed while it was read; try again."))
    if operation in ("ListParts", "CompleteMultipartUpload"):
        if code in MULTIPART_GONE:
            return MultipartGone(_("S3 no longer has this multipart upload."))
        if code in ("InvalidPart", "InvalidPartOrder"):
            return PartsIncomplete({})
        if code == "BadDigest":
            return ObjectMismatch(Reason.BAD_DIGEST)
    if operation == "HeadBucket" and status_of(error) == 404:
        code = "NoSuchBucket"
    if operation == "HeadObject" and status_of(error) == 400:
        # Either the uploader encrypted the object with their own key, or our credentials expired.
        return AnswerUnreadable(_("S3 does not answer as it should; try again later."))
    hint = _hint(operation, status_of(error), code)
    if hint:
        _log_refusal(operation, status_of(error), code, hint)
        return BucketMisconfigured(_("S3 is not set up correctly here."))
    logger.error("S3 answered %s %s to %s", status_of(error), code, operation)
    lost = status_of(error) in ANSWER_LOST_STATUS.get(operation, ())
    failure = AnswerLost if lost else BucketUnavailable
    return failure(_("S3 does not answer as it should; try again later."))


def _hint(operation: str, status: int, code: str) -> str:
    """What somebody must correct; "" if this error may end by itself."""
    if code.startswith("KMS.") and "Throttling" not in code:
        return _MEND_KMS
    if operation == "GetObject" and (code == "AccessDenied" or code not in HINTS):
        return _MEND_READING if status in (401, 403) else ""
    return HINTS.get(code, HINTS["AccessDenied"] if status in (401, 403) else "")


def _log_refusal(operation: str, status: int, code: str, hint: str) -> None:
    refusal, now = (operation, status, code), time.monotonic()
    if now - _logged.get(refusal, -LOG_AGAIN_AFTER) >= LOG_AGAIN_AFTER:
        _logged[refusal] = now
        logger.error("S3 refuses %s: %s %s. %s", operation, status, code, hint)


def _is_unreadable(error: BaseException) -> bool:
    """Whether an answer came that http.client or botocore cannot read."""
    # urllib3 wraps what http.client raises, and botocore wraps that. HTTPException itself means
    # "got more than 100 headers"; its other subclasses mean that the connection broke.
    inner = getattr(error, "kwargs", {}).get("error")
    causes = [error, inner, *getattr(inner, "args", ())]
    return any(
        isinstance(each, ResponseParserError | http.client.LineTooLong)
        or type(each) is http.client.HTTPException
        for each in causes
    )


def status_of(error: ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def code_of(error: ClientError) -> str:
    code = error.response["Error"].get("Code", "")
    return BARE_STATUS.get(code, code)
