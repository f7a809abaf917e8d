"""Which bucket a storage means now, and which one a row remembers."""

from __future__ import annotations

import logging

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import storages
from storages.backends.s3 import S3StaticStorage, S3Storage

from s3direct_uploads.exceptions import BucketUnavailable, StorageNotS3
from s3direct_uploads.storage import is_asked_anew

from .bucket import Bucket
from .client import connect, connection_facts

logger = logging.getLogger("s3direct_uploads")

MAX_BUCKETS = 10_000  # small ones: a tenant has one of its own
ALIASES = ("-s3alias", "--ol-s3")  # how an access point's alias ends, and no bucket's name


def get_bucket(alias: str) -> Bucket:
    """The bucket of a storage in STORAGES, as that is described now: to the current tenant.

    Raises StorageNotS3, ImproperlyConfigured.
    """
    storage = _get_storage(alias)
    try:
        name = storage.bucket_name
    except Exception as error:  # whatever a property of the host's own raises
        raise ImproperlyConfigured(f"The storage {alias!r} cannot be asked: {error!r}") from error
    if not name:
        raise ImproperlyConfigured(f"The storage {alias!r} has no bucket_name.")
    return _bucket_of(storage, name)


def _bucket_of(storage: S3Storage, name: str) -> Bucket:
    """The same one for as long as the storage says the same of itself."""
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
        raise ImproperlyConfigured(f"The bucket {name!r} cannot be described: {error!r}") from error


def _get_storage(alias: str) -> S3Storage:
    try:
        storage = storages[alias]
    except Exception as error:  # whatever the import or the constructor of a storage raises
        raise ImproperlyConfigured(f"The storage {alias!r} cannot be made: {error}") from error
    if not isinstance(storage, S3Storage) or isinstance(storage, S3StaticStorage):
        raise StorageNotS3(f"The storage {alias!r} is not on S3.")
    return storage


def is_access_point(name: str) -> bool:
    """Whether this bucket_name is an access point's, by its ARN or its alias."""
    return name.startswith("arn:") or is_access_point_alias(name)


def is_access_point_alias(name: str) -> bool:
    return name.endswith(ALIASES)


def takes_parts_only(alias: str) -> bool:
    """Whether all uploads to this storage go in parts, be they ever so small."""
    try:
        return get_bucket(alias).takes_parts_only
    except (StorageNotS3, ImproperlyConfigured):
        return False  # begin says so, once what is declared is found to be well


def find_bucket(alias: str, name: str) -> Bucket:
    """The bucket that a row remembers, by its alias or, where that was renamed, by its own name.

    Where tenants have buckets of their own, what the row says counts, whoever's turn it is.
    Raises BucketUnavailable if it is configured no more.
    """
    for candidate in dict.fromkeys((alias, *settings.STORAGES)):
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
    logger.error("No storage has the bucket %r any more (it was that of %r)", name, alias)
    raise BucketUnavailable("The bucket of this upload is not configured.")
