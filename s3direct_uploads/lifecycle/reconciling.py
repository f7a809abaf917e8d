"""Find objects in the buckets that no row needs. It lists the whole folders of all destinations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils import timezone

from s3direct_uploads import conf, destinations, keys, times
from s3direct_uploads.exceptions import BucketUnavailable
from s3direct_uploads.models import Upload, UploadQuerySet, write_first
from s3direct_uploads.s3 import Bucket, Listed, get_bucket

from .connection import database, refuse_transaction, schema_name, schemas, site
from .holders import file_fields, holder_of, let_go, name_of, named
from .rows import Status

BATCH = 250  # rows of one query: it has several names of each, for each FileField
# A younger object may belong to a row that is just being written or settled.
OLD_ENOUGH = timedelta(days=1)


@dataclass(frozen=True)
class Stray:
    """An object, or an open multipart upload, that this site made and no row needs."""

    bucket: str
    key: str
    size: int  # bytes, of an object
    upload_id: str  # of a multipart upload, else ""
    deleted: bool

    @property
    def kind(self) -> str:
        return "multipart" if self.upload_id else "object"


def reconcile(*, destination: str = "", delete: bool = False) -> Iterator[Stray]:
    """Find objects and open multipart uploads that are older than a day, ours, and not needed.

    A key is ours if its MAC proves that this site made it, for the current tenant. No other key is
    touched, and no object that a FileField of the project names. With ``delete``, an object is
    deleted in every version before it is yielded.

    **Warning:** ``delete`` deletes every object of this site that has no row in *this* database.
    Files in use are lost if the database was restored from an old backup.

    Raises BucketUnavailable. With ``delete``, raises ImproperlyConfigured if the site has no name,
    because another site with the same bucket and settings would make the same keys, and if there
    are several schemas and the connection has no ``schema_name``.
    """
    refuse_transaction("reconcile")
    if delete and not conf.site():
        raise ImproperlyConfigured(
            "Only a site with a name may delete objects that have no row. Write for example "
            "S3DIRECT_UPLOADS['SITE'] = 'production'. No other site with the same bucket may have "
            "this name. Objects from before are then never deleted."
        )
    if delete:
        _refuse_unknown_schema()
    for bucket, prefix in _places(destination):
        for page in bucket.list_objects(prefix):
            strays = _strays(bucket, page)
            refused = bucket.delete_all([each.key for each in strays]) if delete and strays else {}
            for each in strays:
                deleted = delete and each.key not in refused
                yield Stray(bucket.name, each.key, each.size, "", deleted)
        for page in bucket.list_multiparts(prefix):
            for each in _strays(bucket, page):
                deleted = delete and _abort(bucket, each)
                yield Stray(bucket.name, each.key, 0, each.upload_id, deleted)


def _refuse_unknown_schema() -> None:
    if schema_name() is None and len(there := schemas()) > 1:
        raise ImproperlyConfigured(
            f"Uploads are in several schemas ({', '.join(there)}), so it is not known which keys "
            "belong to which. Set connection.schema_name for each tenant, as django-tenants does."
        )


def _refuse_unseen_rows() -> None:
    """The rows of other tenants may name a file, where uploads are in a schema for all of them."""
    for model in {field.model for field in file_fields()}:
        there = schemas(model._meta.db_table)
        if len(there) > 1 and not set(there) <= set(schemas()):
            raise ImproperlyConfigured(
                f"{model._meta.label} is in several schemas ({', '.join(there)}), and uploads are "
                "not in each of them. So it is not known which files their rows name, and no "
                "upload may be released."
            )


def _abort(bucket: Bucket, each: Listed) -> bool:
    try:
        bucket.abort_multipart(each.key, each.upload_id)
    except BucketUnavailable:
        if bucket.is_away():
            raise
        return False
    return True


def unattached(destination: str = "") -> UploadQuerySet:
    """Uploads that were completed more than a day ago, and that no model has attached."""
    rows = Upload.objects.using(database()).in_status(Status.COMPLETED).unattached()
    rows = rows.filter(completed_at__lt=timezone.now() - OLD_ENOUGH)
    return rows.filter(destination=destination) if destination else rows


@dataclass(frozen=True)
class Unnamed:
    """An attached upload whose field names it in no row."""

    upload: Upload
    # False: its model or field is gone, or has another storage now. Then nobody can say whether
    # its file is wanted, and it is never released.
    is_known: bool
    released: bool


def unnamed(*, destination: str = "", delete: bool = False) -> Iterator[Unnamed]:
    """Find what a model's field let go where nobody told us: ``queryset.update()``, raw SQL.

    It looks at uploads that a field claimed more than a day ago, and that no row names now, in any
    FileField. With ``delete`` they are released before they are yielded: a sweep deletes their
    objects. S3 is not asked.

    With ``delete``, raises ImproperlyConfigured where schemas hide rows that may name the files.
    """
    refuse_transaction("unnamed")
    if delete:
        _refuse_unknown_schema()
        _refuse_unseen_rows()
    rows = Upload.objects.using(database()).in_status(Status.COMPLETED).exclude(attached_to="")
    rows = rows.filter(attached_at__lt=timezone.now() - OLD_ENOUGH).order_by("pk")
    rows = rows.filter(destination=destination) if destination else rows
    batch = list(rows[:BATCH])
    while batch:
        fields = {label: holder_of(label) for label in {each.attached_to for each in batch}}
        asked: list[Upload] = []
        unknown: list[Upload] = []
        for upload in batch:
            field = fields[upload.attached_to]
            known = field is not None and name_of(field, upload) is not None
            (asked if known else unknown).append(upload)
        yield from (Unnamed(each, is_known=False, released=False) for each in unknown)
        there = named(asked, in_any_location=True)
        for upload in asked:
            if upload.pk not in there:
                released = delete and _release(upload, fields[upload.attached_to])
                yield Unnamed(upload, is_known=True, released=released)
        batch = list(rows.filter(pk__gt=batch[-1].pk)[:BATCH])


def _release(upload: Upload, field: Any) -> bool:
    """Look again, now that nobody else can name it or let it go."""
    with transaction.atomic(using=database()):
        write_first(database())
        let_go(field.storage, name_of(field, upload) or "")
    status = Upload.objects.using(database()).filter(pk=upload.pk).values_list("status", flat=True)
    return list(status) == [Status.DELETED]


def _places(destination: str) -> list[tuple[Bucket, str]]:
    """Each bucket with the prefixes of its destinations' keys. No prefix contains another."""
    buckets: dict[str, Bucket] = {}
    prefixes: dict[str, set[str]] = {}
    for name in [destination] if destination else conf.destinations():
        rules = destinations.get(name)
        bucket = buckets[rules.storage] = get_bucket(rules.storage)
        prefix = keys.join(bucket.location, rules.common_prefix)
        prefixes.setdefault(rules.storage, set()).add(prefix)
    return [
        (buckets[alias], prefix)
        for alias, theirs in prefixes.items()
        for prefix in sorted(theirs)
        if not any(prefix.startswith(other) for other in theirs - {prefix})
    ]


def _strays(bucket: Bucket, page: Sequence[Listed]) -> list[Listed]:
    old = times.utc(timezone.now()) - OLD_ENOUGH  # S3's times are in UTC
    mine = site()  # read here, with the rows, because both belong to the current tenant
    ours = [each for each in page if each.since < old and keys.is_ours(mine, bucket.name, each.key)]
    if not ours:
        return []
    rows = Upload.objects.using(database()).filter(
        bucket=bucket.name, key__in=[each.key for each in ours]
    )
    known = {upload.key: upload for upload in rows}
    strays = [each for each in ours if not _wants(known.get(each.key), each)]
    # Somebody may have deleted the upload's row, and not the row that names the file.
    rowless = {each.key for each in strays if not each.upload_id} - known.keys()
    as_uploads = [Upload(bucket=bucket.name, key=key) for key in rowless]
    there: set[Any] = set()
    for start in range(0, len(as_uploads), BATCH):
        there |= named(as_uploads[start : start + BATCH], in_any_location=True)
    wanted = {upload.key for upload in as_uploads if upload.pk in there}
    return [each for each in strays if each.upload_id or each.key not in wanted]


def _wants(upload: Upload | None, found: Listed) -> bool:
    if upload is None:
        return False
    if found.upload_id:
        return upload.status == Status.PENDING and upload.multipart_upload_id == found.upload_id
    # A tombstone whose object was deleted does not need it. For any other tombstone, the sweep
    # deletes the object.
    return upload.object_deleted_at is None
