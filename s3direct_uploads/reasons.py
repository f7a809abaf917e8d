"""Why an upload is rejected.

The row keeps the English text, and whoever reads it gets it in their language. A reason that a host
wrote is kept as it was written. If it is in the host's own catalogue, it is translated, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import cache

from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _


class Reason(StrEnum):
    """Our own reasons. ``read`` takes the first one that fits."""

    OTHER_SIZE = _("%(declared)s bytes were declared, %(sent)s were sent.")
    NO_TYPE = _("%(declared)s was declared, nothing was sent.")
    OTHER_TYPE = _("%(declared)s was declared, %(sent)s was sent.")
    NO_CHECKSUM = _("S3 has no %(algorithm)s of the object to compare.")
    BAD_DIGEST = _("The checksum is not the one declared.")  # before the next, which fits it, too
    OTHER_CHECKSUM = _("The %(algorithm)s is not the one declared.")
    UNSIGNED = _("A header was sent that nobody signed: %(name)s.")
    UNREADABLE = _("S3's answer about this object cannot be read.")
    REPLACED = _("Another object is there now.")
    OTHER_FORMAT = _("The content is not of the type %(declared)s: it is %(found)s.")
    OTHER_CONTENT = _("The content is not of the type %(declared)s.")
    NO_IMAGE = _("This is not an image in one of the formats %(formats)s.")
    LONG_HEADER = _("The file's header is too long.")
    BAD_HEADER = _("The header of this %(format)s image cannot be read.")
    TOO_MANY_PIXELS = _(
        "The image has %(width)s x %(height)s pixels; at most %(most)s are allowed."
    )
    TOO_SMALL = _(
        "The image has %(width)s x %(height)s pixels; it needs at least "
        "%(min_width)s x %(min_height)s."
    )
    TOO_WIDE = _("The image has %(width)s x %(height)s pixels; at most %(most)s wide is allowed.")
    TOO_HIGH = _("The image has %(width)s x %(height)s pixels; at most %(most)s high is allowed.")
    CHANGED = _("The object is not the one that was held for a scan.")
    NOT_SCANNED = _("It was not scanned in time.")
    BY_STAFF = _("It was rejected by this site's staff.")
    REFUSED = _("Refused.")


def read(text: str) -> tuple[str, Mapping[str, str]]:
    """The reason that a row's text is, and its parameters. A host's own text is its own reason."""
    for reason in Reason:
        if found := _pattern(reason).fullmatch(text):
            return reason, found.groupdict()
    return text, {}


def localized(text: str) -> str:
    """A row's reason in the active language."""
    if not text:
        return ""
    reason, params = read(text)
    said = gettext(reason)
    return said % params if params else said


@cache
def _pattern(reason: Reason) -> re.Pattern[str]:
    return re.compile(re.sub(r"%\\\((\w+)\\\)s", r"(?P<\1>.+)", re.escape(reason)), re.DOTALL)
