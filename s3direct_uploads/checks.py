"""System checks: each mistake in the settings has an id, a message, and a hint what to write.

No check uses the network or the database, because they run with every command.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.staticfiles.storage import ManifestFilesMixin, StaticFilesStorage
from django.core.checks import CheckMessage, Error, Warning
from django.core.files.storage import storages
from django.db import connections, router
from django.utils.module_loading import import_string
from storages.backends.s3 import S3StaticStorage, S3Storage

from . import conf, content_types, destinations, keys, signals, times
from .destinations import Destination
from .storage import (
    OVERWRITE_GUARDS,
    forces_attachment,
    is_asked_anew,
    parameter_problems,
    signs_urls,
)

STATIC = (S3StaticStorage, StaticFilesStorage, ManifestFilesMixin)


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    return list(_settings())


def check_destinations(**kwargs: Any) -> list[CheckMessage]:
    return [
        *(
            (Error if problem.is_error else Warning)(
                problem.message, hint=problem.hint, id=f"s3direct_uploads.{problem.id}"
            )
            for name, spec in conf.destinations().items()
            for problem in destinations.problems(name, spec)
        ),
        *_unmeasured(),
    ]


def check_storages(**kwargs: Any) -> list[CheckMessage]:
    usable = destinations.usable().values()
    return [
        message
        for alias in sorted({str(destination.storage) for destination in usable})
        for message in _storage(alias, [each for each in usable if each.storage == alias])
    ]


def check_holds(**kwargs: Any) -> list[CheckMessage]:
    return list(_holds())


def check_database(**kwargs: Any) -> list[CheckMessage]:
    return list(_database())


def _unmeasured() -> Iterator[CheckMessage]:
    for name, destination in destinations.usable().items():
        rules = destination.image_rules
        if rules is None:
            continue
        possible = {destinations.IMAGE_FORMATS[each] for each in rules.formats}
        in_vain = [
            each
            for each in destination.content_types
            if not each.endswith("*")
            and content_types.usual_name(each) not in {*possible, content_types.UNKNOWN}
            and not (each == "image/apng" and "PNG" in rules.formats)
        ]
        if in_vain:
            yield Warning(
                f"The destination {name!r} takes {', '.join(in_vain)}, and its IMAGE rejects every "
                "such file once it was sent.",
                hint="Remove these types from CONTENT_TYPES, or add their format to IMAGE's "
                f"FORMATS, which may have {', '.join(destinations.IMAGE_FORMATS)}.",
                id="s3direct_uploads.W084",
            )


def _settings() -> Iterator[CheckMessage]:
    value = getattr(settings, "S3DIRECT_UPLOADS", None)
    if not conf.raw() and value != {}:
        yield Error(
            "S3DIRECT_UPLOADS must be a dict."
            if value is not None
            else "S3DIRECT_UPLOADS is missing.",
            hint="Write S3DIRECT_UPLOADS = {'DESTINATIONS': {'photos': {'MAX_SIZE': 20 * 1024**2, "
            "'CONTENT_TYPES': ['image/*']}}}.",
            id="s3direct_uploads.E001",
        )
        return
    unknown = sorted(str(key) for key in conf.raw() if key not in conf.KNOWN_KEYS)
    if unknown:
        yield Error(
            f"S3DIRECT_UPLOADS has unknown keys: {', '.join(unknown)}.",
            hint=f"Write one of {', '.join(sorted(conf.KNOWN_KEYS))}.",
            id="s3direct_uploads.E002",
        )
    if not conf.destinations():
        yield Error(
            "S3DIRECT_UPLOADS['DESTINATIONS'] must be a dict with at least one destination.",
            hint="Write {'photos': {'MAX_SIZE': 20 * 1024**2, 'CONTENT_TYPES': ['image/*']}}.",
            id="s3direct_uploads.E003",
        )
    yield from _durations()
    yield from _names_and_events()


def _durations() -> Iterator[CheckMessage]:
    for key in conf.DURATIONS:
        duration = conf.raw().get(key)
        if duration is not None and conf.parse_duration(duration) is None:
            yield Error(
                f"S3DIRECT_UPLOADS[{key!r}] must be a timedelta, or a whole number of seconds, "
                f"above zero; it is {duration!r}.",
                hint="Write for example timedelta(hours=1) or 3600.",
                id="s3direct_uploads.E016",
            )
    url_expires = conf.parse_duration(conf.raw().get("URL_EXPIRES"))
    if url_expires and url_expires > conf.MAX_URL_EXPIRES:
        yield Error(
            f"URL_EXPIRES is too long: S3 allows at most {conf.MAX_URL_EXPIRES.days} days.",
            hint="Write a shorter URL_EXPIRES. Clients renew their URLs when they need to.",
            id="s3direct_uploads.E017",
        )


def _holds() -> Iterator[CheckMessage]:
    """Of the destinations whose uploads wait for a scan."""
    holding = {name: each for name, each in destinations.usable().items() if each.hold}
    if not holding:
        return
    if not signals.upload_held.has_listeners(apps.get_model("s3direct_uploads.Upload")):
        yield Warning(
            f"No scan is started, so no upload is ever completed: nothing receives upload_held, "
            f"and these destinations have HOLD: {', '.join(sorted(holding))}.",
            hint="Connect a receiver to s3direct_uploads.signals.upload_held, in a module that "
            "your AppConfig.ready() imports; or leave HOLD out.",
            id="s3direct_uploads.W072",
        )
    for alias in sorted({each.storage for each in holding.values()}):
        storage = _s3_storage(alias)
        if storage is not None and not signs_urls(storage):
            its = sorted(name for name, each in holding.items() if each.storage == alias)
            yield Warning(
                f"The URLs of the storage {alias!r} have no signature. If its bucket is public, "
                f"everybody can read the uploads to {', '.join(its)} before a scan accepts them.",
                hint="Give destinations with HOLD a storage with a private bucket; or silence "
                "this warning if this bucket is private.",
                id="s3direct_uploads.W073",
            )
    if conf.hold_retry() >= conf.hold_expires():
        yield Warning(
            f"HOLD_RETRY ({conf.hold_retry()}) is not shorter than HOLD_EXPIRES "
            f"({conf.hold_expires()}): a scan that fails once is never started again.",
            hint="Write a shorter HOLD_RETRY or a longer HOLD_EXPIRES.",
            id="s3direct_uploads.W074",
        )


def _s3_storage(alias: str) -> S3Storage | None:
    """None if it is another, or cannot be made: a check of its own says so."""
    try:
        backend = import_string(settings.STORAGES[alias]["BACKEND"])
        if isinstance(backend, type) and issubclass(backend, STATIC):
            return None
        storage = storages[alias]
    except Exception:
        return None
    return storage if isinstance(storage, S3Storage) else None


def _names_and_events() -> Iterator[CheckMessage]:
    length = conf.raw().get("MAX_NAME_LENGTH", conf.DEFAULT_MAX_NAME_LENGTH)
    if length != conf.max_name_length():
        yield Error(
            f"S3DIRECT_UPLOADS['MAX_NAME_LENGTH'] must be a number from {conf.MIN_NAME_LENGTH} to "
            f"{conf.MAX_NAME_LENGTH}; it is {length!r}.",
            hint="Write the max_length of the FileFields that store your uploads.",
            id="s3direct_uploads.E018",
        )
    secret = conf.raw().get("EVENT_SECRET")
    if secret not in (None, "") and not conf.is_secret(secret):
        yield Error(  # without the value, because it is a secret
            "S3DIRECT_UPLOADS['EVENT_SECRET'] must be text of at least "
            f"{conf.MIN_SECRET_LENGTH} characters of A-Za-z0-9._~-.",
            hint="Write the output of secrets.token_urlsafe(32). Leave EVENT_SECRET out if nothing "
            "sends you S3 events.",
            id="s3direct_uploads.E027",
        )
    site = conf.raw().get("SITE")
    if site not in (None, "") and not conf.is_site(site):
        yield Error(
            f"S3DIRECT_UPLOADS['SITE'] must be up to 64 characters of A-Za-z0-9._-; it is "
            f"{site!r}.",
            hint="Write for example 'production'. No two sites with one bucket may have the same.",
            id="s3direct_uploads.E038",
        )
    topics = conf.raw().get("SNS_TOPICS")
    if topics is not None and not conf.are_topics(topics):
        yield Error(
            f"S3DIRECT_UPLOADS['SNS_TOPICS'] must be a list of SNS topic ARNs; it is {topics!r}.",
            hint="Write for example ['arn:aws:sns:eu-central-1:123456789012:uploads'].",
            id="s3direct_uploads.E028",
        )


def _database() -> Iterator[CheckMessage]:
    alias, *others = (
        router.db_for_write(apps.get_model(label))
        for label in ("s3direct_uploads.Upload", "s3direct_uploads.Usage", settings.AUTH_USER_MODEL)
    )
    if {alias, *others} != {alias}:
        # A row has a foreign key to its owner, and that cannot lead to another database.
        usage, users = others
        yield Error(
            f"Uploads are written to the database {alias!r}, their owners' usage to {usage!r}, and "
            f"their owners ({settings.AUTH_USER_MODEL}) to {users!r}.",
            hint="Change your DATABASE_ROUTERS so that all of them are written to one database. "
            "Reads may go to a replica of it.",
            id="s3direct_uploads.E048",
        )
        return
    database: Any = connections[alias]
    if database.vendor not in ("postgresql", "sqlite"):
        # MySQL and MariaDB silently ignore the conditions of unique constraints, and cannot index a
        # key of 1,024 characters. None of the three was tested.
        yield Error(
            f"Uploads cannot be stored in {database.display_name}.",
            hint="Use PostgreSQL (or SQLite) for the project: uploads and their owners are in one "
            "database.",
            id="s3direct_uploads.E025",
        )

    counting = sorted(
        name for name, destination in destinations.usable().items() if destination.limits
    )
    mode = str(database.settings_dict["OPTIONS"].get("transaction_mode"))
    shared = database.vendor == "sqlite" and not database.is_in_memory_db()
    if counting and shared and mode.upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        yield Warning(
            "SQLite may fail your transactions with 'database is locked' if they change an upload; "
            f"these destinations have limits: {', '.join(counting)}.",
            hint=f"Write 'OPTIONS': {{'transaction_mode': 'IMMEDIATE'}} in DATABASES[{alias!r}].",
            id="s3direct_uploads.W047",
        )
    if not settings.USE_TZ and times.clock_changes():
        yield Warning(
            f"USE_TZ is False, and the clock of TIME_ZONE {settings.TIME_ZONE!r} changes. Around "
            "that hour, deadlines of uploads may be an hour late.",
            hint="Write USE_TZ = True, or a TIME_ZONE without clock changes, such as 'UTC'.",
            id="s3direct_uploads.W046",
        )


def _storage(alias: str, its: Sequence[Destination]) -> Iterator[CheckMessage]:
    if alias not in settings.STORAGES:
        yield Error(
            f"A destination has the STORAGE {alias!r}, but STORAGES has no such alias.",
            hint=f"Write one of {', '.join(sorted(settings.STORAGES))}.",
            id="s3direct_uploads.E019",
        )
        return
    try:
        backend = import_string(settings.STORAGES[alias]["BACKEND"])
        # It is not created, because S3ManifestStaticStorage would read its manifest from S3.
        is_static = isinstance(backend, type) and issubclass(backend, STATIC)
        storage = None if is_static else storages[alias]
    except Exception as error:  # the import or the constructor of a storage may raise anything
        yield Error(
            f"The storage {alias!r} of a destination cannot be created: {error}",
            hint="Correct its BACKEND and OPTIONS in STORAGES.",
            id="s3direct_uploads.E020",
        )
        return
    if is_static:
        yield Error(
            f"The storage {alias!r} of a destination is for static files.",
            hint="Add a storage for uploads to STORAGES, with storages.backends.s3.S3Storage.",
            id="s3direct_uploads.E021",
        )
        return
    if not isinstance(storage, S3Storage):
        yield Warning(
            f"The storage {alias!r} of a destination is not on S3: begin answers 503.",
            hint="Use storages.backends.s3.S3Storage; 'manage.py run_s3' serves it locally.",
            id="s3direct_uploads.W022",
        )
        return
    yield from _options(alias, storage, its)


def _options(alias: str, storage: S3Storage, its: Sequence[Destination]) -> Iterator[CheckMessage]:
    if not is_asked_anew(storage, "bucket_name") and not storage.bucket_name:
        yield Error(
            f"The storage {alias!r} of a destination has no bucket.",
            hint="Write OPTIONS = {'bucket_name': …} in STORAGES.",
            id="s3direct_uploads.E023",
        )
    if getattr(storage, "overwrite_guard", OVERWRITE_GUARDS[0]) not in OVERWRITE_GUARDS:
        yield Error(
            f"The storage {alias!r} has an unknown overwrite_guard: {storage.overwrite_guard!r}.",
            hint=f"Write one of {', '.join(OVERWRITE_GUARDS)}, or leave it out.",
            id="s3direct_uploads.E029",
        )
    problems = list(parameter_problems(storage.object_parameters))
    for id, problem, hint in problems:
        yield Error(
            f"The storage {alias!r} of a destination: {problem}",
            hint=hint,
            id=f"s3direct_uploads.{id}",
        )
    if problems:
        return
    if storage.default_acl or storage.object_parameters.get("ACL"):
        yield Warning(
            f"The ACL of the storage {alias!r} does not apply to uploads. A destination's does.",
            hint="Write 'ACL' in each destination whose files should be public.",
            id="s3direct_uploads.W024",
        )
    if not signs_urls(storage) and not forces_attachment(storage.object_parameters):
        yield _unsigned(alias, sorted(each.name for each in its if each.takes_pages))


def _unsigned(alias: str, taking_pages: Sequence[str]) -> CheckMessage:
    """The warning about URLs without a signature: they cannot ask S3 to send an attachment."""
    if taking_pages:
        return Warning(
            f"The URLs of the storage {alias!r} have no signature, and uploads to "
            f"{', '.join(taking_pages)} may be HTML pages, whose scripts would run there.",
            hint="Write 'object_parameters': {'ContentDisposition': 'attachment'} in its OPTIONS, "
            "or CONTENT_TYPES without '*/*', HTML, SVG and other XML.",
            id="s3direct_uploads.W066",
        )
    return Warning(
        f"The URLs of the storage {alias!r} have no signature, so they cannot make a browser save "
        "a file. Downloads therefore come from S3, not from a custom_domain.",
        hint="Set cloudfront_key_id and cloudfront_key; or write 'ContentDisposition': "
        "'attachment' in its object_parameters; or silence this warning.",
        id="s3direct_uploads.W045",
    )


def upload_field(field: Any) -> Iterator[CheckMessage]:
    """What is wrong with an UploadFileField, which asks here in its own ``check()``."""
    for name in ("on_replace", "on_delete"):
        if getattr(field, name) not in ("release", "keep"):
            yield Error(
                f"{name} must be 'release' or 'keep'; it is {getattr(field, name)!r}.",
                hint="Leave it out to release the upload whose file the row had.",
                obj=field,
                id="s3direct_uploads.E051",
            )
    if field.max_length is not None and field.max_length < conf.max_name_length():
        yield Error(
            f"Names of uploads have up to {conf.max_name_length()} characters, but this field has "
            f"the max_length {field.max_length}.",
            hint="Raise max_length, or write a lower S3DIRECT_UPLOADS['MAX_NAME_LENGTH'].",
            obj=field,
            id="s3direct_uploads.E053",
        )
    here = router.db_for_write(field.model)
    there = router.db_for_write(apps.get_model("s3direct_uploads.Upload"))
    if here != there:
        yield Error(
            f"{field.model._meta.label} is written to the database {here!r}, uploads to {there!r}.",
            hint="Change your DATABASE_ROUTERS: the row and its upload must roll back together.",
            obj=field,
            id="s3direct_uploads.E054",
        )
    yield from _dimensions(field)
    if not isinstance(field.destination, str) or field.destination not in conf.destinations():
        yield Error(
            f"The destination {field.destination!r} is not in S3DIRECT_UPLOADS['DESTINATIONS'].",
            hint=f"Write one of {', '.join(sorted(map(str, conf.destinations())))}.",
            obj=field,
            id="s3direct_uploads.E050",
        )
    elif field.destination in destinations.usable():
        yield from _field_storage(field)


def _dimensions(field: Any) -> Iterator[CheckMessage]:
    for option in ("width_field", "height_field"):
        name = getattr(field, option, None)
        column = {each.name: each for each in field.model._meta.get_fields()}.get(name)
        if column is not None and not column.null:
            yield Warning(
                f"{option} {name!r} is not null=True, and is emptied when an upload is assigned.",
                hint="Write null=True, or set it after each assignment.",
                obj=field,
                id="s3direct_uploads.W055",
            )


def _field_storage(field: Any) -> Iterator[CheckMessage]:
    alias = destinations.get(field.destination).storage
    if any(each.is_serious() for each in _storage(alias, [])):  # which says so itself
        return
    there = storages[alias]
    both = field.storage, there
    # What a tenant's storage would answer here is nobody's answer.
    if any(
        isinstance(each, S3Storage) and is_asked_anew(each, name)
        for each in both
        for name in ("bucket_name", "location")
    ):
        return
    mine, its = ((getattr(each, "bucket_name", ""), keys.location_of(each)) for each in both)
    if mine != its:
        yield Error(
            f"The storage of this field has the bucket {mine[0]!r} and the location {mine[1]!r}; "
            f"that of the destination {field.destination!r} has {its[0]!r} and {its[1]!r}.",
            hint=f"Leave storage out, or write storages[{alias!r}]; or change the destination's "
            "STORAGE.",
            obj=field,
            id="s3direct_uploads.E052",
        )
