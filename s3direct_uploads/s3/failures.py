"""What S3 answers when it does not do what it was asked, and what that means here."""

from __future__ import annotations

import http.client
import logging
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

logger = logging.getLogger("s3direct_uploads")

# What botocore raises once a request has left (where no connection is made it is another), and what
# a gateway says that could not wait for S3. It matters where something must not be done twice.
ANSWER_LOST = (HTTPClientError, ResponseParserError)
ANSWER_LOST_STATUS = {
    "CreateMultipartUpload": (500, 502, 504),  # of a 500 nobody knows; the next one has a new key
    "CompleteMultipartUpload": (502, 504),  # after a 500 S3 wants to be asked again
}
MULTIPART_GONE = ("NoSuchUpload", "NoSuchKey")  # the latter is Ceph's word once it is completed
OBJECT_GONE = ("NoSuchKey", "NoSuchVersion")  # a 404 of another code is the bucket's or a proxy's
# What passes by itself is tried again, by botocore too; the rest wants somebody to mend it.
_MEND_KEYS = "Mend access_key and secret_key of the storage, or the role that it runs under."
_MEND_REGION = "Mend region_name (and endpoint_url) of the storage: the bucket is elsewhere."
HINTS = {
    "AccessDenied": "Grant the server what the README lists, s3:ListBucket too: without that S3 "
    "answers 403 for what is merely missing.",
    "InvalidAccessKeyId": _MEND_KEYS,
    "SignatureDoesNotMatch": _MEND_KEYS,
    "ExpiredToken": _MEND_KEYS,
    "InvalidToken": _MEND_KEYS,
    "RequestTimeTooSkewed": "Set this machine's clock: it is minutes away from S3's.",
    "PermanentRedirect": _MEND_REGION,
    "AuthorizationHeaderMalformed": _MEND_REGION,
    "NoSuchBucket": "Mend bucket_name of the storage, or make the bucket.",
}
# A HEAD's answer has no body, and so no code but its status.
BARE_STATUS = {"301": "PermanentRedirect", "307": "PermanentRedirect", "403": "AccessDenied"}


class Refusal(Exception):
    """Why S3 did not do what it was asked, for who sets a bucket up or explains one.

    ``status`` is 0 where no answer came, and ``code`` then what failed: "ConnectTimeoutError".
    """

    def __init__(self, status: int, code: str, headers: Mapping[str, str], detail: str) -> None:
        super().__init__(f"{status} {code}" if status else code)
        self.status = status
        self.code = code
        self.headers = headers  # in lower case
        self.detail = detail

    @property
    def is_unknown_operation(self) -> bool:
        """Whether this server lacks the operation, if it is one on a bucket's configuration."""
        # rclone and others overlook "?cors", and would make the bucket.
        overlooked = ("BucketAlreadyExists", "BucketAlreadyOwnedByYou")
        lacking = ("NotImplemented", "MethodNotAllowed", *overlooked)
        return self.status in (405, 501) or self.code in lacking


class AnswerUnreadable(BucketUnavailable):
    """S3 answered, and its answer to a well-formed HEAD is nothing that can be used."""


@contextmanager
def failures(operation: str) -> Iterator[None]:
    """Turn whatever boto3 raises at this operation into one of our errors."""
    try:
        yield
    except ClientError as error:
        raise _meaning(operation, error) from error
    except RecursionError as error:
        # Redirected to a region that is not named: botocore asks where it is, and is redirected.
        logger.error("S3 redirects %s. %s", operation, _MEND_REGION)
        raise BucketMisconfigured("S3 is not set up correctly here.") from error
    except ParamValidationError as error:
        raise ImproperlyConfigured(f"{operation} as the storage has it: {error}") from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        # It may pass: an instance's come from a server, too.
        logger.error("No credentials for S3: set access_key and secret_key of the storage")
        raise BucketMisconfigured("The server has no credentials for S3.") from error
    except (BotoCoreError, ResponseParserError) as error:
        if operation in ("HeadObject", "GetObject") and _is_unreadable(error):
            raise AnswerUnreadable("S3 does not answer as it should; try again later.") from error
        # The class says enough, and a message may quote a URL.
        logger.error("S3 failed at %s: %s", operation, type(error).__name__)
        lost = operation in ANSWER_LOST_STATUS and isinstance(error, ANSWER_LOST)
        failure = AnswerLost if lost else BucketUnavailable
        raise failure("S3 cannot be reached; try again later.") from error
    except (ValueError, TypeError, KeyError) as error:
        if operation not in ("HeadObject", "GetObject"):
            raise
        # botocore's parser has no class of its own for a header that it cannot read.
        raise AnswerUnreadable("S3 does not answer as it should; try again later.") from error


def _meaning(operation: str, error: ClientError) -> UploadError:
    """What S3's refusal means. A 404 is an answer, as is what S3 says of parts."""
    code = code_of(error)
    if operation == "HeadObject" and status_of(error) == 404:
        return ObjectMissing("Nothing has been uploaded yet.")
    if operation == "GetObject" and code in OBJECT_GONE:
        return ObjectMissing("The object is not there any more.")
    if operation == "GetObject" and status_of(error) in (412, 416):
        return BucketUnavailable("The object changed while it was read; try again.")
    if operation in ("ListParts", "CompleteMultipartUpload"):
        if code in MULTIPART_GONE:
            return MultipartGone("S3 knows this multipart upload no more.")
        if code in ("InvalidPart", "InvalidPartOrder"):
            return PartsIncomplete({})
        if code == "BadDigest":
            return ObjectMismatch("The checksum is not the one declared.")
    if operation == "HeadBucket" and status_of(error) == 404:
        code = "NoSuchBucket"
    if operation == "HeadObject" and status_of(error) == 400:
        # Its uploader encrypted the object by a key of their own; or our credentials expired.
        return AnswerUnreadable("S3 does not answer as it should; try again later.")
    if code in HINTS or status_of(error) in (401, 403):
        hint = HINTS.get(code, HINTS["AccessDenied"])
        logger.error("S3 refuses %s: %s %s. %s", operation, status_of(error), code, hint)
        return BucketMisconfigured("S3 is not set up correctly here.")
    logger.error("S3 answered %s %s to %s", status_of(error), code, operation)
    lost = status_of(error) in ANSWER_LOST_STATUS.get(operation, ())
    failure = AnswerLost if lost else BucketUnavailable
    return failure("S3 does not answer as it should; try again later.")


def _is_unreadable(error: BaseException) -> bool:
    """Whether an answer came, and neither http.client nor botocore can read it."""
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
