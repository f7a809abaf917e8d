"""The tables: uploads, and how much of its quota each owner uses."""

from .querying import UploadQuerySet, owner_key
from .upload import TOMBSTONES, Upload, log_transition, new_id
from .usage import Usage, write_first

__all__ = [
    "TOMBSTONES",
    "Upload",
    "UploadQuerySet",
    "Usage",
    "log_transition",
    "new_id",
    "owner_key",
    "write_first",
]
