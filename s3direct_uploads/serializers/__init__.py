"""Serializers for requests and answers, and ``UploadField`` for the host's own serializers."""

from .answers import (
    DownloadUrlSerializer,
    PresignedMultipartSerializer,
    PresignedPartSerializer,
    PresignedRequestSerializer,
    SignedPartsSerializer,
    StoredPartSerializer,
    UploadSerializer,
)
from .attaching import AttachUploadsMixin
from .batches import MOST_IN_BATCH, BeginBatchSerializer, ConfirmBatchSerializer
from .requests import (
    MOST_PARTS_SIGNED,
    BeginSerializer,
    ChecksumSerializer,
    DownloadQuerySerializer,
    ListQuerySerializer,
    PartNumbersSerializer,
)
from .upload_field import UploadField

__all__ = [
    "MOST_IN_BATCH",
    "MOST_PARTS_SIGNED",
    "AttachUploadsMixin",
    "BeginBatchSerializer",
    "BeginSerializer",
    "ChecksumSerializer",
    "ConfirmBatchSerializer",
    "DownloadQuerySerializer",
    "DownloadUrlSerializer",
    "ListQuerySerializer",
    "PartNumbersSerializer",
    "PresignedMultipartSerializer",
    "PresignedPartSerializer",
    "PresignedRequestSerializer",
    "SignedPartsSerializer",
    "StoredPartSerializer",
    "UploadField",
    "UploadSerializer",
]
