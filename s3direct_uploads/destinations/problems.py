"""What can be wrong with a destination in the settings. The system checks report it."""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from django.utils.module_loading import import_string

from s3direct_uploads import conf, content_types, keys

from .image_rules import IMAGE_FORMATS, IMAGE_KEYS, image_problem
from .rules import Destination, build
from .sizes import MAX_OBJECT_SIZE, MAX_PART_SIZE, MIN_PART_SIZE

ACLS = ("private", "public-read", "authenticated-read", "bucket-owner-full-control")
READABLE_ACLS = ("public-read", "authenticated-read")  # the latter: by any AWS account
ALLOWED_TYPE = re.compile(rf"\*/\*|{content_types.WORD}/(\*|{content_types.WORD})")
HOOKS = ("has_permission", "get_prefix", "clean_context", "verify", "completed")
KEYS = {attribute.upper() for attribute in Destination.__annotations__}


class Problem(NamedTuple):
    """One thing that is wrong, as a system check reports it."""

    id: str  # of the check, without the app: E for an error, or W for a warning, and three digits
    message: str
    hint: str  # what to write instead

    @property
    def is_error(self) -> bool:
        """Whether the destination cannot be used, so that begin answers 503."""
        return self.id.startswith("E")


def _is_bytes(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_OBJECT_SIZE


def problems(name: str, spec: object) -> Iterator[Problem]:
    """What is wrong with a destination in the settings, the most serious problem first.

    ``spec`` is its value in DESTINATIONS: a dict, a class, or a class's dotted path.
    """
    where = f"S3DIRECT_UPLOADS['DESTINATIONS'][{name!r}]"
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9_-]{1,63}", name):
        yield Problem(
            "E004",
            f"{where}: {name!r} is not a valid name of a destination.",
            "Write 1 to 63 characters of a-z, 0-9, '-' and '_'. Clients send this name.",
        )
        return
    spec_problem = _spec_problem(where, name, spec)
    if spec_problem:
        yield spec_problem
        return
    it = build(name, spec)
    yield from _type_problems(where, it)
    if _is_bytes(getattr(it, "max_size", None)):
        yield from _size_problems(where, it)
        yield from _value_problems(where, it)
    yield from _content_problems(where, it)


def _spec_problem(where: str, name: str, spec: object) -> Problem | None:
    """Why no Destination can be made of it."""
    if isinstance(spec, Mapping):
        unknown = sorted(str(key) for key in spec if key not in KEYS)
        if unknown:
            return Problem(
                "E007",
                f"{where} has unknown keys: {', '.join(unknown)}.",
                f"Write one of {', '.join(sorted(KEYS))}. For a hook, write a class, not a dict.",
            )
    else:
        try:
            found: Any = import_string(spec) if isinstance(spec, str) else spec
            is_destination = isinstance(found, type) and issubclass(found, Destination)
            if is_destination:
                found(name)
        except Exception as error:
            return Problem(
                "E005",
                f"{where}: {spec!r} cannot be imported, or its class cannot be called: {error}.",
                "Write the dotted path of a Destination subclass, such as 'photos.uploads.Photos'.",
            )
        if not is_destination:
            return Problem(
                "E006",
                f"{where} is neither a dict nor a Destination.",
                "Write a dict, or the dotted path of a subclass of "
                "s3direct_uploads.destinations.Destination.",
            )
        for hook in HOOKS:
            method = getattr(found, hook)
            if not callable(method) or inspect.iscoroutinefunction(method):
                return Problem(
                    "E060",
                    f"{where}: {hook} must be a method, and not async; it is {method!r}.",
                    f"Write 'def {hook}(self, …)'. Nobody would await a coroutine.",
                )
    return None


def _type_problems(where: str, it: Destination) -> Iterator[Problem]:
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


def _size_problems(where: str, it: Destination) -> Iterator[Problem]:
    if not _is_bytes(it.min_size) or it.min_size > it.max_size:
        yield Problem(
            "E010",
            f"{where}: MIN_SIZE must be bytes, MAX_SIZE at most; it is {it.min_size!r}.",
            "Write 1 to refuse empty files, or leave it out.",
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


def _value_problems(where: str, it: Destination) -> Iterator[Problem]:
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
    if not isinstance(it.anonymous, bool):
        yield Problem(
            "E090",
            f"{where}: ANONYMOUS must be True or False; it is {it.anonymous!r}.",
            "Write True if visitors who are not logged in may upload.",
        )
    if not isinstance(it.require_checksum, bool):
        yield Problem(
            "E014",
            f"{where}: REQUIRE_CHECKSUM must be True or False; it is {it.require_checksum!r}.",
            "Write True to refuse an upload that declares no checksum.",
        )
    if it.acl is not None and it.acl not in ACLS:
        yield Problem(
            "E015",
            f"{where}: ACL must be one of S3's canned ACLs; it is {it.acl!r}.",
            f"Write one of {', '.join(ACLS)}. Leave ACL out for private objects.",
        )
    yield from _hold_problems(where, it)


def _hold_problems(where: str, it: Destination) -> Iterator[Problem]:
    if not isinstance(it.hold, bool):
        yield Problem(
            "E070",
            f"{where}: HOLD must be True or False; it is {it.hold!r}.",
            "Write True if a scan decides about each upload before it is completed.",
        )
    elif it.hold and it.acl in READABLE_ACLS:
        yield Problem(
            "E071",
            f"{where}: HOLD and ACL {it.acl!r}: everybody could read an object that no scan has "
            "accepted yet.",
            "Leave out one of the two. S3 has one ACL for an object from the moment it is sent.",
        )


def _content_problems(where: str, it: Destination) -> Iterator[Problem]:
    """Also says which library is missing: without it nothing could ever be confirmed."""
    if not isinstance(it.sniff, bool):
        yield Problem(
            "E080",
            f"{where}: SNIFF must be True or False; it is {it.sniff!r}.",
            "Write True to compare the first bytes of each file with its declared type.",
        )
    elif it.sniff and not _is_installed("puremagic"):
        yield Problem(
            "E081",
            f"{where}: SNIFF needs puremagic, which is not installed.",
            "Run: pip install 's3direct-uploads[sniff]'. Or leave SNIFF out.",
        )
    if it.image is None:
        return
    problem = image_problem(it.image)
    if problem:
        yield Problem(
            "E082",
            f"{where}: IMAGE is wrong: {problem}.",
            f"Write some of {', '.join(IMAGE_KEYS)}; FORMATS may have {', '.join(IMAGE_FORMATS)}.",
        )
    elif not _is_installed("PIL"):
        yield Problem(
            "E083",
            f"{where}: IMAGE needs Pillow, which is not installed.",
            "Run: pip install 's3direct-uploads[images]'. Or leave IMAGE out.",
        )


def _is_installed(library: str) -> bool:
    return importlib.util.find_spec(library) is not None
