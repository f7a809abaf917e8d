"""A destination: the named rules that an upload must obey."""

from __future__ import annotations

import base64
import binascii
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured, PermissionDenied, ValidationError
from django.http import HttpRequest
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from s3direct_uploads import content_types

from .filenames import JOINERS, MAX_FILENAME_LENGTH, strip_invisible
from .hooks import ask
from .image_rules import ImageRules, image_rules
from .sizes import MAX_PARTS, MAX_PUT_SIZE, MIB, format_size
from .storable import NOT_STORABLE, as_kept

if TYPE_CHECKING:
    from s3direct_uploads.models import Upload
    from s3direct_uploads.s3 import StoredObject

FULL_OBJECT_CHECKSUMS = ("CRC32", "CRC64NVME")  # S3 has no SHA256 of a whole multipart upload
SECRET_LENGTH = 22  # characters: 128 random bits in base64
MAX_CONTEXT_BYTES = 1024  # of the context as JSON
CHECKSUM_BYTES = {"SHA256": 32, "CRC32": 4, "CRC64NVME": 8}  # the length of each


class Destination:
    """What may be uploaded, by whom, and to where.

    A dict in the settings is enough unless you need a hook: then subclass this. The attributes of a
    class are the keys of a dict, in lower case. A hook's ``request`` is None if a script calls.
    """

    max_size: int  # bytes
    content_types: Sequence[str]  # "image/png", "image/*" (but no SVG), or "*/*"
    storage: str = "default"  # an alias in STORAGES
    prefix: str | None = None  # "<name>/" unless given
    min_size: int = 0  # bytes
    permission: str | None = None  # "app.codename"
    anonymous: bool = False  # whether visitors who are not logged in may upload
    require_checksum: bool = False
    acl: str | None = None  # as S3 names them: "public-read"
    part_size: int = 16 * 1024**2  # bytes, of a multipart upload's parts; see part_size_of
    hold: bool = False  # what is confirmed waits for lifecycle.accept or reject
    max_pending: int | None = None  # pending uploads of one owner at once
    max_total_size: int | None = None  # bytes that one owner may keep here
    sniff: bool = False  # whether the first bytes must be of the declared type
    image: Mapping[str, Any] | None = None  # what an image must be like: see ImageRules

    def __init__(self, name: str) -> None:
        self.name = name

    # The hooks.

    def has_permission(self, upload: Upload, request: HttpRequest | None) -> bool:
        """Whether this upload may begin. It is validated, and not saved yet. Falsy refuses it."""
        return True

    def get_prefix(self, upload: Upload, request: HttpRequest | None) -> str:
        """The folder of the key. An unguessable segment and the end of the filename follow it."""
        return self.default_prefix

    def clean_context(self, context: dict[str, Any], request: HttpRequest | None) -> dict[str, Any]:
        """The client's context as the row keeps it. By default a client may send none.

        It must return the same for the same context, because a repeated begin compares them.
        Raises ValidationError to refuse the context.
        """
        if context:
            raise ValidationError(_("This destination takes no context."), code="not_allowed")
        return {}

    def verify(self, upload: Upload, stored: StoredObject) -> None:
        """Look at the object while the upload is confirmed. Raise ObjectMismatch to reject it.

        Any other exception leaves the upload pending, also after its deadline. The sweep then
        calls this again and again.
        """

    def completed(self, upload: Upload) -> None:
        """Act on a completed upload: start a thumbnail, say. Called before ``upload_completed``.

        It runs after the row was committed, outside of any transaction, whoever noticed the
        completion. An exception is logged, and the upload stays completed. Like a handler of the
        signal it may run twice for one upload, if its process dies: see ``signals``.
        """

    # What begin asks.

    def clean(self, upload: Upload, request: HttpRequest | None) -> None:
        """Validate what ``upload`` declares, and bring it into its final form.

        Raises ValidationError with a list for each field, PermissionDenied, HookFailed, and
        ImproperlyConfigured if a hook's answer cannot be kept.
        """
        if upload.visitor:
            self._clean_visitor(upload)
        errors: dict[str, ValidationError] = {}
        for field, rule in (
            ("filename", self._clean_filename),
            ("content_type", self._clean_content_type),
            ("size", self._clean_size),
            ("checksum", self._clean_checksum),
        ):
            try:
                rule(upload)
            except ValidationError as error:
                errors[field] = error
        if errors:
            raise ValidationError(errors)
        # A script has no request, so it has no user whose permission could be asked.
        if self.permission and request is not None and not request.user.has_perm(self.permission):
            raise PermissionDenied
        upload.context = self._clean_context(upload.context, request)
        if not ask(f"has_permission of {self.name!r}", self.has_permission, upload, request):
            raise PermissionDenied

    @property
    def limits(self) -> bool:
        """Whether this destination limits how much one owner may have in it."""
        return self.max_pending is not None or self.max_total_size is not None

    @property
    def hears_completed(self) -> bool:
        """Whether a host wrote the hook ``completed``."""
        return getattr(self.completed, "__func__", None) is not Destination.completed

    @property
    def takes_pages(self) -> bool:
        """Whether a type that can run scripts in a browser may be uploaded."""
        return any(each == "*/*" or content_types.is_page(each) for each in self.content_types)

    @property
    def image_rules(self) -> ImageRules | None:
        """What its images must be like; None if they are not measured."""
        return None if self.image is None else image_rules(self.image)

    @property
    def default_prefix(self) -> str:
        """The folder of its keys, unless a hook names another; "" if there is no folder."""
        return f"{self.name}/" if self.prefix is None else self.prefix

    @property
    def common_prefix(self) -> str:
        """The folder that all of its keys are in; "" if a hook may put them anywhere."""
        hooked = type(self).get_prefix is not Destination.get_prefix
        return "" if hooked else self.default_prefix

    def part_size_of(self, size: int) -> int | None:
        """The size in bytes of the parts of an object of ``size`` bytes; None if one PUT is enough.

        This is ``part_size``, or the next whole MiB at which 10,000 parts can hold the object.
        """
        if size <= self.part_size:
            return None
        needed = -(-size // MAX_PARTS)
        return max(self.part_size, -(-needed // MIB) * MIB)

    def _clean_visitor(self, upload: Upload) -> None:
        if not self.anonymous:
            raise PermissionDenied
        # Whoever sends this key again gets the upload and its form_value, so nobody may guess it.
        key = upload.idempotency_key
        if key is not None and len(key) < SECRET_LENGTH:
            error = ValidationError(
                _("Without a login, send a random key of at least %(min_length)d characters."),
                code="min_length",
                params={"min_length": SECRET_LENGTH},
            )
            raise ValidationError({"Idempotency-Key": error})

    def _clean_filename(self, upload: Upload) -> None:
        filename = upload.filename = strip_invisible(upload.filename)
        if len(filename) > MAX_FILENAME_LENGTH:
            raise ValidationError(
                _("At most %(max_length)d characters."),
                code="max_length",
                params={"max_length": MAX_FILENAME_LENGTH},
            )
        if not re.sub(f"[{JOINERS}]", "", filename).strip():
            raise ValidationError(_("A file needs a name."), code="blank")
        if filename in (".", "..") or re.search(r"[/\\]", filename):
            raise ValidationError(_("Send the file's name without its path."), code="path")
        # Cc: control characters. Cs: lone surrogates, which no database stores.
        if not filename.isprintable() and any(
            unicodedata.category(character) in ("Cc", "Cs") for character in filename
        ):
            raise ValidationError(_("This name has control characters."), code="characters")

    def _clean_content_type(self, upload: Upload) -> None:
        filename, declared = upload.filename, upload.content_type
        try:
            essence, parameters = content_types.split(declared or content_types.guess(filename))
        except ValueError:
            raise ValidationError(_("Not a content type."), code="malformed") from None
        if content_types.usual_name(essence) == content_types.UNKNOWN:
            essence = content_types.UNKNOWN  # a browser takes "application/unknown" for a page
        meant = content_types.meaning(essence, filename)
        # What is meant is compared first, then what was declared. So a destination that lists
        # application/octet-stream also accepts a file whose guessed type it does not list.
        for each in (meant, essence):
            if any(content_types.matches(each, allowed) for allowed in self.content_types):
                same = each in (essence, content_types.usual_name(essence))
                upload.content_type = each + (parameters if same else "")
                return
        wildcard = any(allowed.endswith("/*") for allowed in self.content_types)
        told = _("Not %(content_type)s; allowed: %(allowed)s.")
        if wildcard and content_types.is_page(meant):
            told += " " + _("A type that can run scripts must be named itself.")
        raise ValidationError(
            told % {"content_type": meant, "allowed": ", ".join(self.content_types)},
            code="not_allowed",
            params={"content_types": list(self.content_types)},
        )

    def _clean_size(self, upload: Upload) -> None:
        if upload.size > self.max_size:
            raise ValidationError(
                _("At most %(size)s.") % {"size": format_size(self.max_size, beside=upload.size)},
                code="too_large",
                params={"max_size": self.max_size},
            )
        if upload.size < self.min_size:
            raise ValidationError(
                _("At least %(size)s.") % {"size": format_size(self.min_size, beside=upload.size)},
                code="too_small",
                params={"min_size": self.min_size},
            )
        if upload.size > MAX_PUT_SIZE and not upload.is_multipart:
            raise ValidationError(
                _("A file of more than %(size)s needs a multipart upload.")
                % {"size": format_size(MAX_PUT_SIZE, beside=upload.size)},
                code="multipart_required",
                params={"max_size": MAX_PUT_SIZE},
            )

    def _clean_checksum(self, upload: Upload) -> None:
        if not upload.checksum_algorithm:
            if self.require_checksum:
                raise ValidationError(_("A checksum is required."), code="required")
            return
        if upload.checksum_algorithm not in CHECKSUM_BYTES:
            raise ValidationError(
                _("One of %(names)s.") % {"names": ", ".join(CHECKSUM_BYTES)},
                code="unknown_algorithm",
                params={"algorithms": list(CHECKSUM_BYTES)},
            )
        if upload.is_multipart and upload.checksum_algorithm not in FULL_OBJECT_CHECKSUMS:
            raise ValidationError(
                _("A multipart upload needs one of %(names)s.")
                % {"names": ", ".join(FULL_OBJECT_CHECKSUMS)},
                code="not_for_multipart",
                params={"algorithms": list(FULL_OBJECT_CHECKSUMS)},
            )
        length = CHECKSUM_BYTES[upload.checksum_algorithm]
        try:
            raw = base64.b64decode(upload.checksum, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        # Compared after encoding it again: base64 may have spare bits at its end, and S3 always
        # answers with zeros there.
        if len(raw) != length or base64.b64encode(raw).decode() != upload.checksum:
            raise ValidationError(
                _("%(algorithm)s is %(count)d bytes in base64.")
                % {"algorithm": upload.checksum_algorithm, "count": length},
                code="malformed",
            )

    def _clean_context(
        self, context: dict[str, Any], request: HttpRequest | None
    ) -> dict[str, Any]:
        try:
            try:
                said = as_kept(context)
            except NOT_STORABLE:
                raise ValidationError(
                    _("The context must be plain JSON."), code="invalid"
                ) from None
            if said and len(json.dumps(said).encode()) > MAX_CONTEXT_BYTES:
                raise ValidationError(
                    _("At most %(max_bytes)d bytes as JSON."),
                    code="too_large",
                    params={"max_bytes": MAX_CONTEXT_BYTES},
                )
            hook = f"clean_context of {self.name!r}"
            kept = ask(hook, self.clean_context, said, request)
            try:
                if isinstance(kept, dict):
                    return as_kept(kept)  # type: ignore[no-any-return]
            except NOT_STORABLE:
                pass
            raise ImproperlyConfigured(f"{hook} must return a dict of plain JSON, not {kept!r}")
        except ValidationError as error:
            if hasattr(error, "error_dict"):
                raise
            raise ValidationError({"context": error}) from None


def build(name: str, spec: Any) -> Destination:
    """Make the destination from its value in DESTINATIONS, in which ``problems`` found nothing.

    Raises whatever the import or the class raises.
    """
    if isinstance(spec, Mapping):
        destination = Destination(name)
        for key, value in spec.items():
            setattr(destination, key.lower(), value)
        return destination
    destination_class: type[Destination] = import_string(spec) if isinstance(spec, str) else spec
    return destination_class(name)
