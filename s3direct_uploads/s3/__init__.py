"""The one door to S3: all of boto3 that this package uses, and nothing of the database."""

from .bucket import STORED_UNSIGNED, Bucket
from .buckets import (
    find_bucket,
    get_bucket,
    is_access_point,
    is_access_point_alias,
    takes_parts_only,
)
from .client import COMPLETE_READ_TIMEOUT
from .failures import Refusal
from .queue import Message, Queue
from .values import (
    CHECKSUMS,
    Listed,
    PresignedMultipart,
    PresignedPart,
    PresignedRequest,
    StoredObject,
    StoredPart,
)

__all__ = [
    "CHECKSUMS",
    "COMPLETE_READ_TIMEOUT",
    "STORED_UNSIGNED",
    "Bucket",
    "Listed",
    "Message",
    "PresignedMultipart",
    "PresignedPart",
    "PresignedRequest",
    "Queue",
    "Refusal",
    "StoredObject",
    "StoredPart",
    "find_bucket",
    "get_bucket",
    "is_access_point",
    "is_access_point_alias",
    "takes_parts_only",
]
