"""The signatures that a client gets: for the file, again, for its parts, for a download."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from s3direct_uploads import conf, content_types, times
from s3direct_uploads.exceptions import (
    BucketUnavailable,
    NotCompleted,
    NotMultipart,
    NotPending,
    raises,
)
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import (
    Bucket,
    PresignedMultipart,
    PresignedPart,
    PresignedRequest,
)

from .multipart import create_again, require_multipart
from .rows import Status, bucket_of, declared, move

Presigned = PresignedRequest | PresignedMultipart
FIRST_PARTS = 100  # begin signs so many; the client asks for more while it sends them


@raises(NotPending, BucketUnavailable)
def renew(upload: Upload) -> Presigned:
    """Sign the same declaration again. No signature is valid after the upload's deadline.

    Raises BucketUnavailable, and NotPending, also after the deadline: then confirm the upload.
    """
    if not upload.is_multipart and bucket_of(upload).takes_parts_only:
        # It began before overwrite_guard was set, or a script stores it. A client could use a URL
        # of this PUT twice.
        raise NotPending(_("This upload cannot be renewed: begin another."), upload=upload)
    expires = _lengthen(upload)
    if upload.is_multipart and not upload.multipart_upload_id:
        create_again(upload)
    return presign(upload, expires)


@raises(NotMultipart, NotPending, BucketUnavailable)
def sign_parts(
    upload: Upload, part_numbers: Collection[int]
) -> tuple[list[PresignedPart], timedelta]:
    """Sign a PUT for each of these parts. Returns them, and how long they are valid.

    Part numbers begin at 1. Raises NotMultipart, ValidationError, and what renew raises.
    """
    require_multipart(upload)
    beyond = [number for number in part_numbers if not 1 <= number <= upload.part_count]
    if beyond:
        error = ValidationError(
            gettext("This upload has the parts 1 to %(max_part_number)d."),
            code="out_of_range",
            params={"max_part_number": upload.part_count},
        )
        raise ValidationError({"part_numbers": error})
    expires = _lengthen(upload)
    if not upload.multipart_upload_id:
        create_again(upload)
    expires = _left(upload, expires)
    return _presign_parts(upload, part_numbers, expires), expires


@raises(NotCompleted, BucketUnavailable)
def presign_download(upload: Upload, *, inline: bool = False) -> PresignedRequest:
    """Sign a GET of a completed upload. A browser saves the file; with ``inline`` it shows it.

    The URL has the storage's ``custom_domain`` if a browser then shows or saves the file as
    requested. Raises NotCompleted, BucketUnavailable, and ValidationError if ``inline`` is not safe
    for this content type.
    """
    if upload.status != Status.COMPLETED:
        raise NotCompleted(upload.is_now, upload=upload)
    if inline and not content_types.is_safe_inline(upload.content_type):
        error = ValidationError(
            gettext("Files of this type are only downloaded."), code="not_inline"
        )
        raise ValidationError({"disposition": error})
    return bucket_of(upload).presign_get(
        upload.key,
        filename=upload.filename,
        inline=inline,
        version_id=upload.version_id,
        expires=conf.url_expires(),
        stored=upload.object_parameters,
    )


def _lengthen(upload: Upload) -> timedelta:
    """Write the new ``url_expires_at`` before anything is signed. Returns the signature's life.

    Raises NotPending, also after the deadline.
    """
    if upload.status == Status.PENDING and upload.expires_at <= timezone.now():
        raise NotPending(_("The deadline of this upload has passed: confirm it."), upload=upload)
    while upload.status == Status.PENDING:
        as_read = {"url_expires_at": upload.url_expires_at}
        expires = extend_url(upload)
        if move(upload, as_read, url_expires_at=upload.url_expires_at, due_at=upload.due_at):
            return expires
    raise NotPending(upload.is_now, upload=upload)


def extend_url(upload: Upload, now: datetime | None = None) -> timedelta:
    """Set the row's times for a signature made now. Returns its life; the deadline limits it."""
    now = now or timezone.now()
    expires = min(conf.url_expires(), upload.expires_at - now)
    expires = max(timedelta(seconds=int(expires.total_seconds())), timedelta(seconds=1))
    # If URL_EXPIRES was lowered since, an older signature may be valid for longer.
    upload.url_expires_at = max(times.later(now, expires), upload.url_expires_at or now)
    upload.due_at = upload.url_expires_at + conf.sweep_grace()
    return expires


def presign(upload: Upload, expires: timedelta, bucket: Bucket | None = None) -> Presigned:
    """Sign the PUT, or those of the first parts. A batch looks up its ``bucket`` once."""
    expires = _left(upload, expires)
    if upload.part_size is None:
        bucket = bucket or bucket_of(upload)
        return bucket.presign_put(upload.key, declared(upload), expires=expires)
    first = range(1, min(FIRST_PARTS, upload.part_count) + 1)
    return PresignedMultipart(
        part_size=upload.part_size,
        part_count=upload.part_count,
        parts=_presign_parts(upload, first, expires),
        expires_in=int(expires.total_seconds()),
    )


def _left(upload: Upload, expires: timedelta) -> timedelta:
    """How long a signature that is made now may be valid: until the row's ``url_expires_at``.

    This is shorter than ``expires`` if the INSERT waited for a lock, or if S3 was slow to create
    the multipart upload.
    """
    left = math.ceil((upload.url_expires_at - timezone.now()).total_seconds())
    return min(expires, timedelta(seconds=max(left, 1)))


def _presign_parts(
    upload: Upload, part_numbers: Iterable[int], expires: timedelta
) -> list[PresignedPart]:
    return bucket_of(upload).presign_parts(
        upload.key,
        upload.multipart_upload_id,
        {number: upload.size_of_part(number) for number in part_numbers},
        expires=expires,
    )
