"""What is inside a file, as far as its first bytes tell: docs/content.md.

``check`` is what ``SNIFF`` and ``IMAGE`` of a destination do. The other functions are for a host's
``verify`` hook.
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
    """What the destination wants to be known of the content. Asks S3 only if it wants anything.

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
