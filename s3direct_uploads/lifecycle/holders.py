"""Which rows of the project name an upload's file, and what happens when a row stops to name it.

Code that writes such a name, or removes one, locks the upload first. Suppose that one process
copies a row while another one deletes the original. The second one waits for the first one, and
sees what it did.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from django.apps import apps
from django.core.files.storage import Storage
from django.db import models, router

from s3direct_uploads import keys
from s3direct_uploads.exceptions import NotCompleted
from s3direct_uploads.models import Upload, UploadQuerySet

from .connection import database
from .rows import Status

GONE = (Status.REJECTED, Status.EXPIRED, Status.CANCELLED, Status.DELETED)


def uploads_of(storage: Storage, names: Collection[str]) -> UploadQuerySet:
    """The uploads whose objects have these names in this storage."""
    location = keys.location_of(storage)
    its_keys = [keys.join(location, name) for name in names]
    uploads = Upload.objects.using(database())
    return uploads.filter(bucket=_bucket(storage), key__in=its_keys)


def share(storage: Storage, name: str) -> None:
    """Lock the upload of a file that a row will name. Another row may name it already.

    Call it in the transaction that writes the row.

    Raises NotCompleted if the file was released: it will be deleted.
    """
    for upload in uploads_of(storage, [name]).select_for_update():
        if upload.status in GONE:
            raise NotCompleted(
                "This file was released, and it will be deleted: assign another upload.",
                upload=upload,
            )


def let_go(
    storage: Storage, name: str, *, keep: bool = False, but: models.Model | None = None
) -> None:
    """In the transaction of a row that names this file no more: release it, unless another does.

    With ``keep`` it stays attached, and nothing says any more which field holds it. ``but`` is the
    row itself, if it still has the name in the database. S3 is not asked.
    """
    held = uploads_of(storage, [name]).filter(attached_at__isnull=False)
    for upload in held.select_for_update().filter(status=Status.COMPLETED):
        if named([upload], but=but):
            continue
        if keep:
            Upload.objects.using(database()).filter(pk=upload.pk).update(attached_to="")
        else:
            upload.release()


def named(uploads: Collection[Upload], *, but: models.Model | None = None) -> set[Any]:
    """The primary keys of those uploads that some row names, in any FileField of the project.

    **Warning:** a name in a JSONField or in a text is not seen.
    """
    questions: dict[str, list[Any]] = {}  # by database: each is asked once
    asked: list[dict[str, Any]] = []  # by field: the names there, and whose they are
    for field in file_fields():
        places = [(name_of(field, upload), upload.pk) for upload in uploads]
        names = {name: pk for name, pk in places if name is not None}
        if not names:
            continue
        model, alias = field.model, router.db_for_write(field.model)
        rows = model._base_manager.using(alias).order_by()
        if but is not None and isinstance(but, model):
            rows = rows.exclude(pk=getattr(but, model._meta.pk.attname))
        rows = rows.filter(**{f"{field.name}__in": list(names)})
        number = models.Value(len(asked), output_field=models.IntegerField())
        questions.setdefault(alias, []).append(rows.values_list(number, field.name))
        asked.append(names)
    return {
        asked[number][name]
        for first, *others in questions.values()
        for number, name in first.union(*others)
    }


def file_fields() -> Iterator[Any]:
    """Every FileField that has a column which we may ask."""
    for model in apps.get_models():
        if model._meta.managed and not model._meta.proxy and not model._meta.swapped:
            for field in model._meta.local_fields:
                if isinstance(field, models.FileField):
                    yield field


def holder_of(label: str) -> Any:
    """The field that ``attached_to`` names, "photos.Photo.image"; None if there is none now."""
    model_label, _, name = label.rpartition(".")
    for field in file_fields():
        if field.model._meta.label == model_label and field.name == name:
            return field
    return None


def name_of(field: Any, upload: Upload) -> str | None:
    """The name that this field would have for the upload's object; None if it cannot have it."""
    if _bucket(field.storage) != upload.bucket:
        return None
    return keys.name_in(field.storage, upload.bucket, upload.key)


def _bucket(storage: Storage) -> str:
    return getattr(storage, "bucket_name", "")
