"""Destinations: the named rules that an upload must obey, as the settings have them."""

from .filenames import MAX_FILENAME_LENGTH, strip_invisible
from .hooks import ask, completed, is_refusal, verify
from .image_rules import IMAGE_FORMATS, ImageRules
from .problems import Problem, problems
from .registry import find, get, takes_visitors, usable
from .rules import CHECKSUM_BYTES, MAX_CONTEXT_BYTES, Destination
from .sizes import (
    MAX_OBJECT_SIZE,
    MAX_PART_SIZE,
    MAX_PARTS,
    MAX_PUT_SIZE,
    MIN_PART_SIZE,
    format_size,
    lazy_size,
)
from .storable import as_kept, as_storable, is_storable

__all__ = [
    "CHECKSUM_BYTES",
    "IMAGE_FORMATS",
    "MAX_CONTEXT_BYTES",
    "MAX_FILENAME_LENGTH",
    "MAX_OBJECT_SIZE",
    "MAX_PARTS",
    "MAX_PART_SIZE",
    "MAX_PUT_SIZE",
    "MIN_PART_SIZE",
    "Destination",
    "ImageRules",
    "Problem",
    "as_kept",
    "as_storable",
    "ask",
    "completed",
    "find",
    "format_size",
    "get",
    "is_refusal",
    "is_storable",
    "lazy_size",
    "problems",
    "strip_invisible",
    "takes_visitors",
    "usable",
    "verify",
]
