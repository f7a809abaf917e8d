"""Look into files: whether the content fits the declared type. See docs/content.md.

Confirm calls ``check``, for a destination with ``SNIFF`` or ``IMAGE``. A project calls the other
functions in its own ``verify`` hook.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .images import Measured, check_image, measure_image
from .reading import StoredFile, open_stored
from .sniffing import sniff, sniff_file

if TYPE_CHECKING:
    from s3direct_uploads.destinations import Destination
    from s3direct_uploads.models import Upload
    from s3direct_uploads.s3 import Bucket, StoredObject

__all__ = ["Measured", "StoredFile", "check", "measure_image", "open_stored", "sniff"]


def check(
    rules: Destination, upload: Upload, stored: StoredObject, bucket: Bucket | None = None
) -> None:
    """Apply ``SNIFF`` and ``IMAGE`` of the destination. Without them, S3 is not asked.

    Raises ObjectMismatch to reject, ObjectMissing, BucketUnavailable.
    """
    image = rules.image_rules
    if not rules.sniff and image is None:
        return
    file = open_stored(upload, stored, bucket=bucket)
    if rules.sniff:
        sniff_file(file, upload.content_type)
    if image is not None:
        check_image(file, upload.content_type, image)
