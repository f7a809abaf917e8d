"""Make uploads of the files that a model's field had before. They are completed and attached.

The keys of such files have no MAC, so only the project's rows prove that they belong to this site.
So an upload is made only if S3 has the object, and if a row names it at that moment.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import IntegrityError, router, transaction
from django.db.models import Q
from django.db.models.functions import Coalesce
from django.utils import timezone

from s3direct_uploads import destinations, keys
from s3direct_uploads.destinations import Destination
from s3direct_uploads.exceptions import BucketUnavailable, ObjectMissing, UploadError
from s3direct_uploads.models import Upload, write_first
from s3direct_uploads.s3 import Bucket, StoredObject, get_bucket

from . import quotas
from .connection import database, refuse_transaction, release_connection
from .holders import rows_of
from .rows import Status

BATCH = 500  # rows of the project that are handled together
THREADS = 16  # that ask S3
MAX_KEY_LENGTH = 1024  # S3's
DONE = ("adopted", "claimed", "known")


@dataclass(frozen=True)
class Adoption:
    """What happened to one row's file.

    ``what`` is "adopted" (it is an upload now), "claimed" (it was an upload that no field had
    claimed), or "known" (the field had claimed it before). Otherwise the file was not adopted:
    "missing" (S3 has no object), "outside" (the name is not a key of the storage), "gone" (its
    upload is not completed, or was released: a sweep will delete the file), "conflict" (an upload
    in another bucket has the same key, or the upload has another owner and no model uses it),
    "changed" (the row has another file now), "failed" (S3 did not answer for this file).
    """

    pk: Any
    name: str
    what: str

    @property
    def is_done(self) -> bool:
        return self.what in DONE


@dataclass(frozen=True)
class _File:
    pk: Any
    name: str
    key: str
    owner_id: Any


def adopt(
    field: Any, *, destination: str, owner: str = "", dry_run: bool = False
) -> Iterator[list[Adoption]]:
    """Make a completed upload, attached to ``field``, of each of its files. Idempotent.

    ``field`` is a FileField of a model, ``owner`` the path from its rows to their user: "author",
    "album__owner", or "pk" on the user model itself. Yields batches of at most 500 rows; the caller
    may stop between two batches and begin again later. With ``dry_run`` S3 is asked, and nothing
    is written. The limits of the destination refuse no file, but the files count against them.

    Raises ValidationError if there is no such destination, ImproperlyConfigured if the field cannot
    have uploads of this destination or ``owner`` is wrong, and BucketUnavailable if S3 is down.
    """
    refuse_transaction("adopt")
    rules = destinations.get(destination)
    bucket = get_bucket(rules.storage)
    _require_same_place(field, rules, bucket)
    columns = ["pk", field.name, *([_owner_path(field.model, owner)] if owner else [])]
    rows = rows_of(field.model, database()).order_by("pk")
    rows = rows.exclude(Q(**{field.name: ""}) | Q(**{f"{field.name}__isnull": True}))
    last = None
    with ThreadPoolExecutor(THREADS, "s3direct-adopt") as pool:
        while True:
            next_rows = rows if last is None else rows.filter(pk__gt=last)
            files = [
                _File(pk, name, keys.join(bucket.location, name), rest[0] if rest else None)
                for pk, name, *rest in next_rows.values_list(*columns)[:BATCH]
            ]
            if not files:
                return
            last = files[-1].pk
            yield _Batch(field, rules, bucket, pool, dry_run).adopt(files)


def _require_same_place(field: Any, rules: Destination, bucket: Bucket) -> None:
    if router.db_for_write(field.model) != database():
        raise ImproperlyConfigured(
            f"{field.model._meta.label} is in another database than uploads. Both must be in one."
        )
    if getattr(field, "destination", rules.name) != rules.name:
        raise ImproperlyConfigured(f"{field} has the destination {field.destination!r}.")
    name, location = getattr(field.storage, "bucket_name", ""), keys.location_of(field.storage)
    if (name, location) != (bucket.name, bucket.location):
        raise ImproperlyConfigured(
            f"The storage of {field} has the bucket {name!r} and the location {location!r}; that "
            f"of the destination {rules.name!r} has {bucket.name!r} and {bucket.location!r}."
        )


def _owner_path(model: Any, path: str) -> str:
    """Raises ImproperlyConfigured if the path does not lead from a row to one user."""
    users, of = get_user_model(), model._meta.label
    if path == "pk" and model._meta.concrete_model is users._meta.concrete_model:
        return "pk"
    for step in path.split("__"):
        try:
            relation = model._meta.get_field(step)
        except (FieldDoesNotExist, AttributeError):
            relation = None
        if relation is None or not (relation.many_to_one or relation.one_to_one):
            raise ImproperlyConfigured(
                f"The path {path!r} does not lead from {of} to its user ({users._meta.label}). "
                "Write the names of foreign keys, joined by __, such as owner or album__owner."
            )
        model = relation.related_model
    if model is not users:
        raise ImproperlyConfigured(
            f"The path {path!r} leads from {of} to {model._meta.label}. It must lead to "
            f"{users._meta.label}."
        )
    return f"{path}__pk"


class _Batch:
    def __init__(
        self, field: Any, rules: Destination, bucket: Bucket, pool: ThreadPoolExecutor, dry: bool
    ) -> None:
        self.field, self.rules, self.bucket, self.pool, self.dry = field, rules, bucket, pool, dry
        self.label = f"{field.model._meta.label}.{field.name}"

    def adopt(self, files: Sequence[_File]) -> list[Adoption]:
        what = {file.pk: "outside" for file in files}
        inside = {file.key: file for file in reversed(files) if _is_inside(file)}
        known = self._known(inside)
        new = [inside[key] for key in inside.keys() - known.keys()]
        answers = self._ask(new)
        found = {file: each for file, each in answers.items() if isinstance(each, StoredObject)}
        outcomes = {key: self._claim(known[key], inside[key]) for key in known}
        outcomes |= {file.key: str(each) for file, each in answers.items() if file not in found}
        outcomes |= self._insert(found)
        for file in files:
            if file.key in outcomes and _is_inside(file):
                is_first = inside[file.key] is file
                outcome = outcomes[file.key]
                what[file.pk] = "known" if outcome == "adopted" and not is_first else outcome
        return [Adoption(file.pk, file.name, what[file.pk]) for file in files]

    def _known(self, files: Any) -> dict[str, Upload]:
        uploads = Upload.objects.using(database()).filter(key__in=list(files))
        return {upload.key: upload for upload in uploads}

    def _claim(self, upload: Upload, file: _File) -> str:
        """The file is an upload already, but no field claimed it. Now this field claims it."""
        if upload.bucket != self.bucket.name:
            return "conflict"
        if upload.status != Status.COMPLETED:
            return "gone"
        owners = {upload.owner_id, file.owner_id} - {None}
        if upload.attached_at is None and len(owners) > 1:
            return "conflict"  # a client may have chosen the name of another's file
        if upload.attached_to or self.dry:
            return "known" if upload.attached_to else "claimed"
        free = Upload.objects.using(database()).filter(
            pk=upload.pk, status=Status.COMPLETED, attached_to=""
        )
        with transaction.atomic(using=database()):
            write_first(database())
            if self._names_now([file]).get(file.pk) != file.name:
                return "changed"
            attached_at = Coalesce("attached_at", timezone.now())
            claimed = free.update(attached_at=attached_at, attached_to=self.label)
        return "claimed" if claimed else "changed"

    def _names_now(self, files: Collection[_File]) -> dict[Any, str]:
        """Nobody replaces a file or deletes a row, until the transaction's end."""
        rows = rows_of(self.field.model, database()).select_for_update()
        rows = rows.filter(pk__in=[file.pk for file in files])
        return dict(rows.values_list("pk", self.field.attname))

    def _ask(self, files: Sequence[_File]) -> dict[_File, StoredObject | str]:
        """The threads do not use the database, so its connection goes back to the pool."""
        release_connection()
        return dict(zip(files, self.pool.map(self._head, files), strict=True))

    def _head(self, file: _File) -> StoredObject | str:
        try:
            return self.bucket.head(file.key)
        except ObjectMissing:
            return "missing"
        except BucketUnavailable:
            if self.bucket.is_away():
                raise
            return "failed"
        except UploadError:  # S3's answer about this object cannot be read
            return "failed"

    def _insert(self, found: dict[_File, StoredObject]) -> dict[str, str]:
        if self.dry or not found:
            return {file.key: "adopted" for file in found}
        try:
            return self._insert_all(found)
        except IntegrityError:
            # Another process adopted one of these files, or an owner was deleted meanwhile.
            if len(found) == 1:
                [file] = found
                known = self._known([file.key])
                outcomes = {key: self._claim(known[key], file) for key in known}
                return outcomes or {file.key: "failed"}
        outcomes = {}
        for file, stored in found.items():
            outcomes |= self._insert({file: stored})
        return outcomes

    def _insert_all(self, found: dict[_File, StoredObject]) -> dict[str, str]:
        with transaction.atomic(using=database()):
            write_first(database())
            names = self._names_now(found)
            still = {file: each for file, each in found.items() if names.get(file.pk) == file.name}
            uploads = [self._upload(file, stored) for file, stored in still.items()]
            quotas.charge_adopted(uploads, self.rules)
            Upload.objects.using(database()).bulk_create(uploads)
        return {file.key: "adopted" if file in still else "changed" for file in found}

    def _upload(self, file: _File, stored: StoredObject) -> Upload:
        now = timezone.now()
        filename = destinations.strip_invisible(posixpath.basename(file.name))
        return Upload(
            owner_id=file.owner_id,
            destination=self.rules.name,
            storage=self.rules.storage,
            bucket=self.bucket.name,
            key=file.key,
            filename=filename[: destinations.MAX_FILENAME_LENGTH],
            content_type=stored.content_type[:255],
            size=stored.size,
            etag=stored.etag,
            version_id=stored.version_id,
            status=Status.COMPLETED,
            created_at=now,
            # No URL was ever signed that could write to it.
            url_expires_at=now,
            expires_at=now,
            completed_at=now,
            announced_at=now,
            attached_at=now,
            attached_to=self.label,
        )


def _is_inside(file: _File) -> bool:
    """Whether the storage makes exactly this key of the name. For "../x" and "//x" it does not."""
    name = file.name
    return (
        posixpath.normpath(name) == name
        and not name.startswith(("/", "../"))
        and name not in (".", "..")
        and "\\" not in name
        and "\0" not in name
        and len(file.key.encode()) <= MAX_KEY_LENGTH
    )
