"""The one door to S3: all of boto3 that this package uses, and nothing of the database."""

from .bucket import Bucket
from .buckets import (
    find_bucket,
    get_bucket,
    is_access_point,
    is_access_point_alias,
)
from .client import COMPLETE_READ_TIMEOUT
from .failures import Refusal
from .queue import Message, Queue
from .values import (
    CHECKSUMS,
    Declared,
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
    "Bucket",
    "Declared",
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
]
