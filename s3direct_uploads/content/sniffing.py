"""Whether the first bytes of a file fit its declared type."""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

from s3direct_uploads import content_types
from s3direct_uploads.exceptions import ObjectMismatch
from s3direct_uploads.reasons import Reason

from .reading import StoredFile, open_stored

if TYPE_CHECKING:
    from s3direct_uploads.models import Upload
    from s3direct_uploads.s3 import StoredObject

logger = logging.getLogger("s3direct_uploads")

# In each line: a type, then other types whose files begin in the same way.
_BEGIN_ALIKE = """
image/png           image/apng
image/tiff          image/x-adobe-dng image/x-canon-cr2 image/x-nikon-nef image/x-nikon-nrw image/x-pentax-pef
image/tiff          image/x-samsung-srw image/x-sony-arw
video/webm          audio/webm
video/ogg           audio/ogg
font/ttf            font/otf
application/zip     application/vnd.apple.keynote application/vnd.apple.numbers application/vnd.apple.pages
application/zip     application/vnd.google-earth.kmz application/vnd.ms-xpsdocument application/x-fictionbook+xml
application/zip     application/vnd.openxmlformats-officedocument.presentationml.slideshow
application/zip     model/3mf model/vnd.usdz+zip
application/msword  application/vnd.ms-project application/vnd.ms-publisher application/vnd.ms-outlook application/x-msi
"""  # noqa: E501
ALIKE = {
    other: first
    for first, *others in map(str.split, _BEGIN_ALIKE.strip().splitlines())
    for other in others
}

# Signatures that puremagic does not have, has only for some encoders, or cannot tell apart. The
# brands of an MP4 or a similar file say whether it is an image or a film. A film may have no brand.
_HEIF = rb"heic|heix|heim|heis|hev|mif1|msf1"
_FILM = rb"....(ftyp(?!%b|avi[fs]|crx )|styp|moov|mdat|wide|free|skip)" % _HEIF
_IMAGE = rb"....ftyp(%b)" % _HEIF
_PATTERNS = {
    **dict.fromkeys(
        ("video/mp4", "audio/mp4", "video/quicktime", "video/3gpp", "video/3gpp2"), _FILM
    ),
    **dict.fromkeys(
        ("image/heic", "image/heif", "image/heic-sequence", "image/heif-sequence"), _IMAGE
    ),
    "image/webp": rb"RIFF....WEBP",
    "video/x-msvideo": rb"RIFF....AVI ",
    "audio/wav": rb"(RIFF|RF64|BW64)....WAVE",
    "image/avif": rb"....ftyp(avi[fs]|mif1|msf1)",
    "image/x-canon-cr3": rb"....ftypcrx ",
    "video/mp2t": rb"(....)?G.{187}(....)?G.{187}(....)?G",
    "video/mpeg": rb"\x00\x00\x01[\xb0-\xbf]",
    "audio/mpeg": rb"ID3|\0*\xff[\xe2-\xe5\xf2-\xf5\xfa-\xfd]",  # a frame of layer II or III
    "audio/aac": rb"ID3|ADIF|\xff[\xf0\xf1\xf8\xf9]",
    "application/zip": rb"PK(\x03\x04|\x05\x06|\x07\x08)",  # the second: an empty archive
    "application/pdf": rb".{0,1019}%PDF-",  # readers look for it in the first 1,024 bytes
    "application/wasm": rb"\0asm",
}
PATTERNS = {type: re.compile(pattern, re.DOTALL) for type, pattern in _PATTERNS.items()}

TEXT = re.compile(
    r"text/.*|.*\+(json|xml)|message/.*|model/(obj|mtl|step|iges)|image/vnd\.dxf"
    r"|application/(json|xml|yaml|toml|sql|jsonl|x-ndjson|x-sh|x-subrip|x-tex|x-latex|mbox"
    r"|x-pem-file|vnd\.apple\.mpegurl|javascript)|audio/x-mpegurl"
)
XML = re.compile(r".*[+/]xml")
MEDIA = re.compile(r"(image|audio|video|font)/.*")
BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
NOT_IN_TEXT = re.compile(rb"[\0-\x08\x0b\x0e-\x1a\x1c-\x1f]")  # from the standard MIME Sniffing
PAGE = re.compile(r"\s*(<\?xml|<!--|<!doctype|<(html|head|body|script|iframe|svg)\b)", re.I)


def sniff(upload: Upload, stored: StoredObject) -> None:
    """Compare the first bytes of the object with the declared type, for a ``verify`` hook.

    It sends one ranged GET. Raises ObjectMismatch if they are of another type, BucketUnavailable,
    and ImproperlyConfigured if puremagic is not installed. docs/content.md says what this proves.
    """
    sniff_file(open_stored(upload, stored), upload.content_type)


def sniff_file(file: StoredFile, content_type: str) -> None:
    """Do the same as ``sniff``, with a file that is open."""
    essence = content_types.usual_name(content_type.partition(";")[0].strip())
    if essence != content_types.UNKNOWN and not _fits(file.start, essence):
        raise ObjectMismatch(Reason.OTHER_CONTENT, {"declared": essence})


def _fits(start: bytes, essence: str) -> bool:
    if TEXT.fullmatch(essence):
        return _is_text(start, essence)
    if not start:
        return False
    names = {essence, ALIKE.get(essence, essence)}
    patterns = [PATTERNS[name] for name in names if name in PATTERNS]
    if patterns:
        return any(pattern.match(start) for pattern in patterns)
    if names & _known():
        return not names.isdisjoint(_candidates(start))
    # The signature of this type is unknown. But it must not be a page, or a text as an image.
    text = _decode(start)
    return text is None or not (MEDIA.fullmatch(essence) or PAGE.match(text))


def _is_text(start: bytes, essence: str) -> bool:
    text = _decode(start)
    if text is None:
        return False
    if essence == "image/svg+xml":
        return text.lstrip().startswith("<") and re.search(r"<(\w+:)?svg\b", text) is not None
    if XML.fullmatch(essence):
        return text.lstrip().startswith("<")
    return True


def _decode(start: bytes) -> str | None:
    """The text, or None if the bytes are not text."""
    for bom, encoding in BOMS.items():
        if start.startswith(bom):
            return start[len(bom) :].decode(encoding, errors="ignore")
    if NOT_IN_TEXT.search(start):
        return None
    return start.decode(errors="replace")


def _candidates(start: bytes) -> set[str]:
    """The types that puremagic finds. Several are possible: all of Office's files are ZIPs."""
    try:
        matches = _puremagic().magic_string(start)
    except Exception as error:
        # puremagic raises an error of its own if it finds no type. A file causes any other error.
        if type(error).__module__.partition(".")[0] != "puremagic":
            logger.exception("puremagic failed on a file")
        return set()
    # A negative offset counts from the end of the file, which was not read.
    return {name for match in matches if match.offset >= 0 for name in _names(match)}


@cache
def _known() -> frozenset[str]:
    """The types whose signature puremagic knows."""
    tables = _puremagic().main
    rows = [*tables.magic_header_array, *(row for _, row in _parts(tables))]
    return frozenset(name for row in rows if row.offset >= 0 for name in _names(row))


def _parts(tables: Any) -> Iterator[tuple[bytes, Any]]:
    for first, rows in tables.multi_part_dict.items():
        for row in rows:
            yield first, row


def _names(row: Any) -> set[str]:
    """Its types. The extension helps, because puremagic often has no type, or an unusual one."""
    named = content_types.usual_name(row.mime_type.lower())
    return {named, content_types.guess(f"file{row.extension}")} - {"", content_types.UNKNOWN}


def _puremagic() -> Any:
    try:
        import puremagic.main
    except ImportError as error:
        raise ImproperlyConfigured("To sniff content, install puremagic.") from error
    return puremagic
