"""Find objects in the buckets that no row needs. It lists the whole folders of all destinations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from s3direct_uploads import conf, destinations, keys, times
from s3direct_uploads.exceptions import BucketUnavailable
from s3direct_uploads.models import Upload, UploadQuerySet
from s3direct_uploads.s3 import Bucket, Listed, get_bucket

from .connection import database, refuse_transaction, schema_name, schemas, site
from .rows import Status

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
    touched. With ``delete``, an object is deleted in every version before it is yielded.

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
    if delete and schema_name() is None and len(there := schemas()) > 1:
        raise ImproperlyConfigured(
            f"Uploads are in several schemas ({', '.join(there)}), so it is not known which keys "
            "belong to which. Set connection.schema_name for each tenant, as django-tenants does."
        )
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
    return [each for each in ours if not _wants(known.get(each.key), each)]


def _wants(upload: Upload | None, found: Listed) -> bool:
    if upload is None:
        return False
    if found.upload_id:
        return upload.status == Status.PENDING and upload.multipart_upload_id == found.upload_id
    # A tombstone whose object was deleted does not need it. For any other tombstone, the sweep
    # deletes the object.
    return upload.object_deleted_at is None
