"""Find the bucket that a storage has now, or the bucket of a row."""

from __future__ import annotations

import logging

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import storages
from django.utils.translation import gettext_noop as _
from storages.backends.s3 import S3StaticStorage, S3Storage

from s3direct_uploads.exceptions import BucketUnavailable, StorageNotS3
from s3direct_uploads.storage import is_asked_anew

from .bucket import Bucket
from .client import connect, connection_facts

logger = logging.getLogger("s3direct_uploads")

MAX_BUCKETS = 10_000  # small objects in memory; each tenant may have a bucket of its own
ALIASES = ("-s3alias", "--ol-s3")  # the alias of an access point ends so, a bucket's name never


def get_bucket(alias: str) -> Bucket:
    """The bucket that a storage in STORAGES has now, for the current tenant.

    Raises StorageNotS3, ImproperlyConfigured.
    """
    storage = _get_storage(alias)
    try:
        name = storage.bucket_name
    except Exception as error:  # a property of the host may raise anything
        raise ImproperlyConfigured(f"The storage {alias!r} failed: {error!r}") from error
    if not name:
        raise ImproperlyConfigured(f"The storage {alias!r} has no bucket_name.")
    return _bucket_of(storage, name)


def _bucket_of(storage: S3Storage, name: str) -> Bucket:
    """The same Bucket as before, as long as the storage has the same values."""
    try:
        buckets = connect(storage, connection_facts(storage)).buckets
        said = name, storage.location, getattr(storage, "overwrite_guard", None)
        if len(buckets) > MAX_BUCKETS:
            buckets.clear()
        bucket: Bucket = buckets.get(said) or buckets.setdefault(said, Bucket(storage, name))
        return bucket
    except ImproperlyConfigured:
        raise
    except Exception as error:  # as above
        raise ImproperlyConfigured(f"The storage of bucket {name!r} failed: {error!r}") from error


def _get_storage(alias: str) -> S3Storage:
    try:
        storage = storages[alias]
    except Exception as error:  # the import or the constructor of a storage may raise anything
        raise ImproperlyConfigured(f"The storage {alias!r} cannot be created: {error}") from error
    if not isinstance(storage, S3Storage) or isinstance(storage, S3StaticStorage):
        raise StorageNotS3(_("The storage “%(alias)s” is not on S3."), {"alias": alias})
    return storage


def is_access_point(name: str) -> bool:
    """Whether this bucket_name is the ARN or the alias of an access point."""
    return name.startswith("arn:") or is_access_point_alias(name)


def is_access_point_alias(name: str) -> bool:
    return name.endswith(ALIASES)


def find_bucket(alias: str, name: str) -> Bucket:
    """The bucket of a row: by the storage's alias, or by its name if the alias was changed.

    If each tenant has its own bucket, this is the row's bucket, not that of the current tenant.
    Raises BucketUnavailable if no storage has this bucket any more.
    """
    for candidate in (alias, *settings.STORAGES):
        try:
            bucket = get_bucket(candidate)
        except (ImproperlyConfigured, StorageNotS3):
            continue
        if bucket.name == name:
            return bucket
    try:
        storage = _get_storage(alias)
        if is_asked_anew(storage, "bucket_name"):
            return _bucket_of(storage, name)
    except (ImproperlyConfigured, StorageNotS3):
        pass
    logger.error("No storage has the bucket %r any more. The storage %r had it.", name, alias)
    raise BucketUnavailable(_("The bucket of this upload is not configured."))
