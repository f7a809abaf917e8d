"""The view to which S3, SNS and EventBridge POST their events."""

from __future__ import annotations

import base64
import binascii
import logging

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, JsonResponse, UnreadablePostError
from django.utils.crypto import constant_time_compare
from django.views.decorators.csrf import csrf_exempt

from s3direct_uploads import conf, lifecycle
from s3direct_uploads.exceptions import BucketUnavailable, EventError, MalformedEvent

from . import sns
from .dialects import parse, read
from .settling import Tally, settle

logger = logging.getLogger("s3direct_uploads")

MAX_BODY_BYTES = 1024**2  # SQS's and EventBridge's own limit; SNS's is a quarter of it
RETRY_AFTER = 5  # seconds: most failures of S3 are as short


@csrf_exempt
@login_not_required
@lifecycle.never_atomic
def webhook(request: HttpRequest) -> JsonResponse:
    """``path("s3-events/", webhook)``: Ceph, MinIO, EventBridge and SNS POST their events here.

    It answers 404 unless ``EVENT_SECRET`` is set. The sender sends the secret as ``Authorization:
    Bearer …``, or as the password of HTTP basic authentication. 200 means that the events need not
    be sent again; 503 means that they must be.
    """
    secret = conf.event_secret()
    if not secret:
        return _refuse(404, "not_found", "Not found.")
    if request.method != "POST":
        return _refuse(405, "method_not_allowed", "Use the method POST.", {"Allow": "POST"})
    if not constant_time_compare(_said_secret(request), secret):
        # SNS sends the password in its URL only after this header asked for it.
        ask = {"WWW-Authenticate": 'Basic realm="s3-events"'}
        return _refuse(401, "not_authenticated", "The secret is missing or wrong.", ask)
    try:
        body = request.read(MAX_BODY_BYTES + 1)
        if len(body) > MAX_BODY_BYTES:
            raise RequestDataTooBig
        said = read(body)
        if sns.is_from_sns(said) and not sns.accept(said):
            return JsonResponse(_counts(Tally(settled=0, ignored=1, again=0)))
        tally = settle(parse(said))
    except RequestDataTooBig:
        return _refuse(413, "request_too_large", "This body is too large.")
    except UnreadablePostError:
        return _refuse(400, MalformedEvent.code, "The body did not arrive.")
    except EventError as error:
        if error.status == 503:
            return _again(error.code, error.detail)
        logger.warning("A request to the webhook was refused: %s", error.detail)
        return _refuse(error.status, error.code, error.detail)
    if tally.again:
        detail = "S3 does not answer as it should; send it again."
        return _again(BucketUnavailable.code, detail, **_counts(tally))
    return JsonResponse(_counts(tally))


def _said_secret(request: HttpRequest) -> bytes:
    """The secret in the header. A secret in the URL is not read, because logs record URLs."""
    scheme, _, said = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return said.strip().encode()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(said, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            pass
    return b""


def _counts(tally: Tally) -> dict[str, int]:
    return {"settled": tally.settled, "ignored": tally.ignored}


def _refuse(
    status: int, code: str, detail: str, headers: dict[str, str] | None = None, **more: int
) -> JsonResponse:
    body = {"code": code, "detail": detail, "errors": [], **more}
    return JsonResponse(body, status=status, headers=headers)


def _again(code: str, detail: str, **more: int) -> JsonResponse:
    headers = {"Retry-After": str(RETRY_AFTER)}
    return _refuse(503, code, detail, headers, retry_after=RETRY_AFTER, **more)
