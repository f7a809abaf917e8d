"""A destination: the named rules that an upload must obey."""

from __future__ import annotations

import base64
import binascii
import inspect
import json
import logging
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from django.core.exceptions import ImproperlyConfigured, PermissionDenied, ValidationError
from django.http import Http404, HttpRequest
from django.utils.module_loading import import_string

from . import conf, content_types, keys
from .exceptions import HookFailed, ObjectMismatch, UploadError

if TYPE_CHECKING:
    from .models import Upload
    from .s3 import StoredObject

logger = logging.getLogger("s3direct_uploads")

_Answer = TypeVar("_Answer")

MIB = 1024**2
MAX_PUT_SIZE = 5 * 1024**3  # the largest object that S3 takes in one PUT
MIN_PART_SIZE, MAX_PART_SIZE = 5 * 1024**2, MAX_PUT_SIZE  # of all parts but the last
MAX_PARTS = 10_000  # of one object
MAX_OBJECT_SIZE = MAX_PARTS * MAX_PART_SIZE  # "48.8 TiB" in S3's documentation
FULL_OBJECT_CHECKSUMS = ("CRC32", "CRC64NVME")  # of SHA256 S3 makes one of the parts' own
MAX_CONTEXT_BYTES = 1024
MAX_FILENAME_LENGTH = 255  # what file systems hold
CHECKSUM_BYTES = {"SHA256": 32, "CRC32": 4, "CRC64NVME": 8}
ACLS = ("private", "public-read", "authenticated-read", "bucket-owner-full-control")

ALLOWED_TYPE = re.compile(rf"\*/\*|{content_types.WORD}/(\*|{content_types.WORD})")
# Text from right to left is marked by these in Hebrew and Arabic names; nobody sees them. They also
# turn text around: "photo\u202egpj.exe" reads "photoexe.jpg".
DIRECTION_MARKS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# Without a width. Inside a name they have a meaning, in Persian words and in emoji.
JOINERS = "\u200b\u200c\u200d\u2060\ufeff"


class Destination:
    """What may be uploaded, by whom, and to where. Subclass it for a hook; else a dict will do.

    A class's attributes are a dict's keys in lower case. ``request`` is None where a script calls.
    """

    max_size: int  # bytes
    content_types: Sequence[str]  # "image/png", "image/*" (but no SVG), or "*/*"
    storage: str = "default"  # an alias in STORAGES
    prefix: str | None = None  # "<name>/" unless given
    min_size: int = 0  # bytes
    permission: str | None = None  # "app.codename"
    require_checksum: bool = False
    acl: str | None = None  # as S3 names them: "public-read"
    part_size: int = 16 * 1024**2  # bytes, of a multipart upload's parts; larger where need be
    max_pending: int | None = None  # uploads of one owner under way at once
    max_total_size: int | None = None  # bytes that one owner may keep here

    def __init__(self, name: str) -> None:
        self.name = name

    # The hooks.

    def has_permission(self, upload: Upload, request: HttpRequest | None) -> bool:
        """Whether this upload, cleaned but not saved yet, may begin. Falsy denies."""
        return True

    def get_prefix(self, upload: Upload, request: HttpRequest | None) -> str:
        """The folder of the key. An unguessable segment and the filename's tail always follow."""
        return self.default_prefix

    def clean_context(self, context: dict[str, Any], request: HttpRequest | None) -> dict[str, Any]:
        """The client's note as it is to be kept; raises ValidationError. By default none may be.

        The same note must become the same: a begin that is repeated compares them.
        """
        if context:
            raise ValidationError("This destination takes no context.", code="not_allowed")
        return {}

    def verify(self, upload: Upload, stored: StoredObject) -> None:
        """A last look, while the upload is confirmed: raise ObjectMismatch to reject it.

        Whatever else it raises leaves the upload pending, past its deadline as well: the sweep
        calls it again and again.
        """

    # What begin asks.

    def clean(self, upload: Upload, request: HttpRequest | None) -> None:
        """Hold what ``upload`` declares against the rules, and bring it into its final form.

        Raises ValidationError, by field, or PermissionDenied.
        """
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
        # A script acts for itself; it has no request whose user could be asked.
        if self.permission and request is not None and not request.user.has_perm(self.permission):
            raise PermissionDenied
        upload.context = self._clean_context(upload.context, request)
        if not ask(f"has_permission of {self.name!r}", self.has_permission, upload, request):
            raise PermissionDenied

    @property
    def limits(self) -> bool:
        """Whether there is a limit to what one owner may have here."""
        return self.max_pending is not None or self.max_total_size is not None

    @property
    def takes_pages(self) -> bool:
        """Whether a type that can run scripts in a browser may be uploaded."""
        return any(each == "*/*" or content_types.is_page(each) for each in self.content_types)

    @property
    def default_prefix(self) -> str:
        """The folder of its keys, where no hook says another: "" for none."""
        return f"{self.name}/" if self.prefix is None else self.prefix

    @property
    def common_prefix(self) -> str:
        """Below which all of its keys lie: "" where a hook may put them anywhere."""
        hooked = type(self).get_prefix is not Destination.get_prefix
        return "" if hooked else self.default_prefix

    def part_size_of(self, size: int) -> int | None:
        """How many bytes the parts of an object of ``size`` have, or None where one PUT will do.

        As ``part_size`` has it, or by the MiB as much larger as 10,000 parts must be to hold it.
        """
        if size <= self.part_size:
            return None
        needed = -(-size // MAX_PARTS)
        return max(self.part_size, -(-needed // MIB) * MIB)

    def _clean_filename(self, upload: Upload) -> None:
        filename = upload.filename = strip_invisible(upload.filename)
        if len(filename) > MAX_FILENAME_LENGTH:
            raise ValidationError(
                f"At most {MAX_FILENAME_LENGTH} characters.",
                code="max_length",
                params={"max_length": MAX_FILENAME_LENGTH},
            )
        if not re.sub(f"[{JOINERS}]", "", filename).strip():
            raise ValidationError("A file needs a name.", code="blank")
        if filename in (".", "..") or re.search(r"[/\\]", filename):
            raise ValidationError("A file's name, not its path.", code="path")
        # Cc are control characters, Cs lone surrogates, which no database stores.
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in filename):
            raise ValidationError("This name has control characters.", code="characters")

    def _clean_content_type(self, upload: Upload) -> None:
        filename, declared = upload.filename, upload.content_type
        try:
            essence, parameters = content_types.split(declared or content_types.guess(filename))
        except ValueError:
            raise ValidationError("Not a content type.", code="malformed") from None
        if content_types.usual_name(essence) == content_types.UNKNOWN:
            essence = content_types.UNKNOWN  # a browser takes "application/unknown" for a page
        meant = content_types.meaning(essence, filename)
        # What is meant counts first, then what was declared. So a destination that lists
        # application/octet-stream also takes a file whose guessed type it does not list.
        for each in (meant, essence):
            if any(content_types.matches(each, allowed) for allowed in self.content_types):
                same = each in (essence, content_types.usual_name(essence))
                upload.content_type = each + (parameters if same else "")
                return
        wildcard = any(allowed.endswith("/*") for allowed in self.content_types)
        unless = " A type that can run scripts must be named itself."
        raise ValidationError(
            f"Not {meant}; allowed: {', '.join(self.content_types)}."
            f"{unless if wildcard and content_types.is_page(meant) else ''}",
            code="not_allowed",
            params={"content_types": list(self.content_types)},
        )

    def _clean_size(self, upload: Upload) -> None:
        if upload.size > self.max_size:
            raise ValidationError(
                f"At most {format_size(self.max_size)}.",
                code="too_large",
                params={"max_size": self.max_size},
            )
        if upload.size < self.min_size:
            raise ValidationError(
                f"At least {format_size(self.min_size)}.",
                code="too_small",
                params={"min_size": self.min_size},
            )
        if upload.size > MAX_PUT_SIZE and not upload.is_multipart:
            raise ValidationError(
                f"More than {format_size(MAX_PUT_SIZE)} takes a multipart upload.",
                code="multipart_required",
                params={"max_size": MAX_PUT_SIZE},
            )

    def _clean_checksum(self, upload: Upload) -> None:
        if not upload.checksum_algorithm:
            if self.require_checksum:
                raise ValidationError("A checksum is required.", code="required")
            return
        if upload.checksum_algorithm not in CHECKSUM_BYTES:
            raise ValidationError(
                f"One of {', '.join(CHECKSUM_BYTES)}.",
                code="unknown_algorithm",
                params={"algorithms": list(CHECKSUM_BYTES)},
            )
        if upload.is_multipart and upload.checksum_algorithm not in FULL_OBJECT_CHECKSUMS:
            raise ValidationError(
                f"Of a multipart upload S3 knows only {' or '.join(FULL_OBJECT_CHECKSUMS)}.",
                code="not_for_multipart",
                params={"algorithms": list(FULL_OBJECT_CHECKSUMS)},
            )
        length = CHECKSUM_BYTES[upload.checksum_algorithm]
        try:
            raw = base64.b64decode(upload.checksum, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        # Encoded anew, for a value with stray bits at its end would never equal what S3 answers.
        if len(raw) != length or base64.b64encode(raw).decode() != upload.checksum:
            raise ValidationError(
                f"{upload.checksum_algorithm} is {length} bytes in base64.", code="malformed"
            )

    def _clean_context(
        self, context: dict[str, Any], request: HttpRequest | None
    ) -> dict[str, Any]:
        try:
            try:
                said = as_kept(context)
            except NOT_STORABLE:
                raise ValidationError("Plain JSON, please.", code="invalid") from None
            if len(json.dumps(said).encode()) > MAX_CONTEXT_BYTES:
                raise ValidationError(
                    f"At most {MAX_CONTEXT_BYTES} bytes as JSON.",
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
            raise ImproperlyConfigured(f"{hook} must answer a dict of plain JSON: not {kept!r}")
        except ValidationError as error:
            if hasattr(error, "error_dict"):
                raise
            raise ValidationError({"context": error}) from None


# What a hook may raise while there is no row yet; and what REST Framework has for it.
REFUSALS = (ValidationError, PermissionDenied, Http404, UploadError, ImproperlyConfigured)


def ask(
    name: str,
    hook: Callable[..., _Answer],
    *args: Any,
    refusals: tuple[type[Exception], ...] = REFUSALS,
) -> _Answer:
    """What a hook of the host's answers; ``name`` is for the log.

    Raises ``refusals`` as they are. Anything else is the hook's own fault: HookFailed, and its
    traceback is in the log.
    """
    try:
        try:
            return hook(*args)
        except ValidationError as error:
            str(error)  # which fails where its params do not fit its message
            raise
    except refusals:
        raise
    except Exception as error:
        if refusals is REFUSALS and _is_rest_frameworks_refusal(error):
            raise
        logger.exception("The hook %s failed", name)
        raise HookFailed("A check on this server failed; try again later.") from error


def _is_rest_frameworks_refusal(error: Any) -> bool:
    # By name, for only serializers and views import it.
    modules = {each.__module__ for each in type(error).__mro__}
    return "rest_framework.exceptions" in modules and error.status_code < 500


def verify(rules: Destination, upload: Upload, stored: StoredObject) -> None:
    """Ask the host's own ``verify``. Raises ObjectMismatch to reject, and HookFailed."""

    def call() -> None:
        answer: object = rules.verify(upload, stored)  # type: ignore[func-returns-value]
        if answer is not None:  # False, say, by which nobody means to accept
            raise TypeError(f"It must raise ObjectMismatch to reject: it answered {answer!r}")

    try:
        ask(f"verify of {rules.name!r}", call, refusals=(ObjectMismatch,))
    except ObjectMismatch as error:
        # It may quote the file, such as a camera's name with NULs; PostgreSQL keeps none.
        detail = str(error.detail or "").replace("\0", "").encode(errors="replace").decode()
        raise ObjectMismatch(detail) from error


def get(name: str) -> Destination:
    """The destination of this name.

    Raises ValidationError if there is none, ImproperlyConfigured if the settings are wrong.
    """
    try:
        spec = conf.destinations()[name]
    except KeyError:
        raise ValidationError(
            {"destination": ValidationError("No such destination.", code="unknown")}
        ) from None
    for problem in problems(name, spec):
        raise ImproperlyConfigured(problem.message)
    return _build(name, spec)


def find(name: str) -> Destination | None:
    """As ``get``, but None if there is none: a row may outlive its destination."""
    return get(name) if name in conf.destinations() else None


def _build(name: str, spec: Any) -> Destination:
    if isinstance(spec, Mapping):
        destination = Destination(name)
        for key, value in spec.items():
            setattr(destination, key.lower(), value)
        return destination
    destination_class: type[Destination] = import_string(spec) if isinstance(spec, str) else spec
    return destination_class(name)


def strip_invisible(filename: str) -> str:
    """A filename as it is seen.

    Without direction marks, without characters of no width at its ends, and with each letter in one
    character (NFC): macOS writes "ü" in two, and a Korean syllable in three.
    """
    return unicodedata.normalize("NFC", DIRECTION_MARKS.sub("", filename).strip(JOINERS))


def format_size(size: int) -> str:
    """Exact where it can be: "20 MiB", "1.5 KiB", "1 byte"."""
    value, units = float(size), iter(("bytes", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while value >= 1024 and unit != "TiB":
        value, unit = value / 1024, next(units)
    return "1 byte" if size == 1 else f"{value:.4g} {unit}"


NOT_STORABLE = (ValueError, TypeError, RecursionError)


def as_kept(value: object) -> Any:
    """This JSON as every database gives it back, so that what was said twice compares as equal.

    PostgreSQL has 1e23 as an integer and no -0.0: a whole number is an int, however it is written.
    Raises one of NOT_STORABLE for what no database keeps: a NUL, a surrogate, an infinity.
    """
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    text.encode()
    if "\\u0000" in text:
        raise ValueError("PostgreSQL takes no NUL.")
    return json.loads(text, parse_float=_number)


def _number(text: str) -> int | float:
    number = float(text)
    return int(Decimal(text)) if number.is_integer() else number


def is_storable(value: object) -> bool:
    """Whether every database keeps this JSON."""
    try:
        as_kept(value)
    except NOT_STORABLE:
        return False
    return True


# What can be wrong with a destination's settings: the checks show it, begin answers 503.

HOOKS = ("has_permission", "get_prefix", "clean_context", "verify")
KEYS = {attribute.upper() for attribute in Destination.__annotations__}


class Problem(NamedTuple):
    id: str
    message: str
    hint: str


def _is_bytes(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_OBJECT_SIZE


def problems(name: str, spec: object) -> Iterator[Problem]:
    """What is wrong with a destination as it stands in the settings, the gravest first."""
    where = f"S3DIRECT_UPLOADS['DESTINATIONS'][{name!r}]"
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9_-]{1,63}", name):
        yield Problem(
            "E004",
            f"{where}: {name!r} is not a valid name of a destination.",
            "Write 1 to 63 characters of a-z, 0-9, '-' and '_'. Clients send this name.",
        )
        return
    if isinstance(spec, Mapping):
        unknown = sorted(str(key) for key in spec if key not in KEYS)
        if unknown:
            yield Problem(
                "E007",
                f"{where} has unknown keys: {', '.join(unknown)}.",
                f"Write one of {', '.join(sorted(KEYS))}. For a hook, write a class, not a dict.",
            )
            return
    else:
        try:
            found: Any = import_string(spec) if isinstance(spec, str) else spec
            is_destination = isinstance(found, type) and issubclass(found, Destination)
            if is_destination:
                found(name)
        except Exception as error:
            yield Problem(
                "E005",
                f"{where}: {spec!r} cannot be imported, or its class cannot be called: {error}.",
                "Write the dotted path of a Destination subclass, such as 'photos.uploads.Photos'.",
            )
            return
        if not is_destination:
            yield Problem(
                "E006",
                f"{where} is neither a dict nor a Destination.",
                "Write a dict, or the dotted path of a subclass of "
                "s3direct_uploads.destinations.Destination.",
            )
            return
        for hook in HOOKS:
            method = getattr(found, hook)
            if not callable(method) or inspect.iscoroutinefunction(method):
                yield Problem(
                    "E060",
                    f"{where}: {hook} must be a method, and not async; it is {method!r}.",
                    f"Write 'def {hook}(self, …)'. Nobody would await a coroutine.",
                )
                return
    yield from _value_problems(where, _build(name, spec))


def _value_problems(where: str, it: Destination) -> Iterator[Problem]:
    max_size, types = getattr(it, "max_size", None), getattr(it, "content_types", None)
    if not _is_bytes(max_size):
        yield Problem(
            "E008",
            f"{where}: MAX_SIZE must be bytes, 48.8 TiB at most; it is {max_size!r}.",
            "Write for example 'MAX_SIZE': 20 * 1024**2 for 20 MiB.",
        )
        return
    if (
        not isinstance(types, Sequence)
        or isinstance(types, str)
        or not types
        or not all(isinstance(each, str) and ALLOWED_TYPE.fullmatch(each) for each in types)
    ):
        yield Problem(
            "E009",
            f"{where}: CONTENT_TYPES must be a list of types in lower case; it is {types!r}.",
            "Write for example ['image/jpeg', 'image/png'] or ['image/*']; ['*/*'] allows all.",
        )
    if not _is_bytes(it.min_size) or it.min_size > it.max_size:
        yield Problem(
            "E010",
            f"{where}: MIN_SIZE must be bytes, MAX_SIZE at most; it is {it.min_size!r}.",
            "Write 1 to refuse empty files, or leave it out.",
        )
    if it.prefix is not None and not (
        isinstance(it.prefix, str) and keys.PREFIX.fullmatch(it.prefix)
    ):
        yield Problem(
            "E011",
            f"{where}: PREFIX must be folder names of A-Za-z0-9._-; it is {it.prefix!r}.",
            "Write for example 'photos/': a slash at the end, no slash at the beginning.",
        )
    room = conf.max_name_length() - keys.RESERVED_LENGTH
    prefix = it.common_prefix
    if isinstance(prefix, str) and len(prefix) > room:
        yield Problem(
            "E012",
            f"{where}: the prefix is too long. Names have at most {conf.max_name_length()} "
            "characters (MAX_NAME_LENGTH), and the filename needs a part of them.",
            f"Write a PREFIX of at most {room} characters, or raise MAX_NAME_LENGTH and the "
            "max_length of your FileFields.",
        )
    if it.permission is not None and not (
        isinstance(it.permission, str) and re.fullmatch(r"\w+\.\w+", it.permission)
    ):
        yield Problem(
            "E013",
            f"{where}: PERMISSION must be the name of a permission; it is {it.permission!r}.",
            "Write for example 'photos.add_photo'.",
        )
    if not isinstance(it.require_checksum, bool):
        yield Problem(
            "E014",
            f"{where}: REQUIRE_CHECKSUM must be True or False; it is {it.require_checksum!r}.",
            "Write True to refuse an upload that declares no checksum.",
        )
    if not _is_bytes(it.part_size) or not MIN_PART_SIZE <= it.part_size <= MAX_PART_SIZE:
        yield Problem(
            "E026",
            f"{where}: PART_SIZE must be bytes, from 5 MiB to 5 GiB; it is {it.part_size!r}.",
            "Write for example 'PART_SIZE': 16 * 1024**2, or leave it out.",
        )
    for id, key, limit, example in (
        ("E036", "MAX_PENDING", it.max_pending, "20 for 20 pending uploads per owner"),
        ("E037", "MAX_TOTAL_SIZE", it.max_total_size, "10 * 1024**3 for 10 GiB per owner"),
    ):
        whole = isinstance(limit, int) and not isinstance(limit, bool) and 0 < limit < 2**63
        if limit is not None and not whole:
            yield Problem(
                id,
                f"{where}: {key} must be a whole number above zero; it is {limit!r}.",
                f"Write for example {example}, or leave it out.",
            )
    if it.acl is not None and it.acl not in ACLS:
        yield Problem(
            "E015",
            f"{where}: ACL must be one of S3's canned ACLs; it is {it.acl!r}.",
            f"Write one of {', '.join(ACLS)}. Leave ACL out for private objects.",
        )
