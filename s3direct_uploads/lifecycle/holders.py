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
from django.db import connections, models, router
from django.db.models import F
from django.utils.translation import gettext_noop as _

from s3direct_uploads import keys
from s3direct_uploads.exceptions import NotCompleted
from s3direct_uploads.models import TOMBSTONES, Upload, UploadQuerySet

from .connection import database
from .rows import Status


def uploads_of(storage: Storage, names: Collection[str]) -> UploadQuerySet:
    """The uploads whose objects have these names in this storage, however they are spelled."""
    its_keys = [keys.key_of(storage, name) for name in names]
    uploads = Upload.objects.using(database())
    return uploads.filter(bucket=_bucket(storage), key__in=its_keys)


def share(storage: Storage, name: str) -> None:
    """Lock the upload of a file that a row will name. Another row may name it already.

    Call it in the transaction that writes the row.

    Raises NotCompleted if the file was released, or is not completed, or a scan holds it.
    """
    for upload in uploads_of(storage, [name]).select_for_update():
        if upload.status in TOMBSTONES:
            raise NotCompleted(
                _("This file was released, and it will be deleted: assign another upload."),
                upload=upload,
            )
        if upload.status != Status.COMPLETED:
            raise NotCompleted(upload.is_now, upload=upload)
        # A lock is not enough: with REPEATABLE READ, the deletion of the original would lock it
        # later, and not see the new row. After an UPDATE it fails.
        Upload.objects.using(database()).filter(pk=upload.pk).update(attached_at=F("attached_at"))


def share_elsewhere(storage: Storage, name: str) -> None:
    """Call it if a row in another database will name this file. Then no field releases the file.

    The two databases have no common transaction, so no code could know when to release it.
    """
    uploads_of(storage, [name]).exclude(attached_to="").update(attached_to="")


def let_go(storage: Storage, name: str, *, keep: bool = False) -> None:
    """Release the upload of a file that a row named before. S3 is not asked.

    Call it in the transaction that changes or deletes the row, after that. The upload stays if
    another row names the file. It also stays if no FileField claimed it: a client may have chosen
    the name, and the project's own code, or a field that was removed, may need the file. With
    ``keep`` it stays attached, but ``attached_to`` becomes empty.
    """
    held = uploads_of(storage, [name]).exclude(attached_to="")
    for upload in held.select_for_update().filter(status=Status.COMPLETED):
        field = holder_of(upload.attached_to)
        if field is None or name_of(field, upload) is None or named([upload]):
            continue
        if keep:
            Upload.objects.using(database()).filter(pk=upload.pk).update(attached_to="")
        else:
            upload.release()


def named(uploads: Collection[Upload], *, in_any_location: bool = False) -> set[Any]:
    """The primary keys of those uploads that some row names, in any FileField of the project.

    With ``in_any_location``, the storages need not have the bucket and the location of the uploads:
    the settings may be wrong now, or another tenant's.

    **Warning:** this function does not find names in a JSONField or in a text.
    """
    questions: dict[str, list[Any]] = {}  # by database: each is asked once
    asked: list[dict[str, set[Any]]] = []  # by field: the names there, and whose they are
    for field in file_fields():
        names: dict[str, set[Any]] = {}
        for upload in uploads:
            exact = name_of(field, upload)
            its_names = [] if exact is None else [exact]
            for name in keys.possible_names(upload.key) if in_any_location else its_names:
                names.setdefault(name, set()).add(upload.pk)
        alias = router.db_for_write(field.model)
        if not names or not _has_table(field.model, alias):
            continue
        rows = rows_of(field.model, alias).filter(**{f"{field.name}__in": list(names)})
        number = models.Value(len(asked), output_field=models.IntegerField())
        questions.setdefault(alias, []).append(rows.values_list(number, field.name))
        asked.append(names)
    return {
        pk
        for first, *others in questions.values()
        for number, name in first.union(*others, all=True).order_by()  # else by Meta.ordering
        for pk in asked[number][name]
    }


def rows_naming(uploads: Collection[Upload]) -> dict[Any, list[str]]:
    """By primary key of the upload, the rows that name its file: "photos.Photo.image of 12"."""
    found: dict[Any, list[str]] = {}
    for field in file_fields():
        its_names = ((name_of(field, upload), upload.pk) for upload in uploads)
        names = {name: pk for name, pk in its_names if name is not None}
        alias = router.db_for_write(field.model)
        if not names or not _has_table(field.model, alias):
            continue
        rows = rows_of(field.model, alias).filter(**{f"{field.name}__in": list(names)})
        for name, pk in rows.values_list(field.name, "pk"):
            label = f"{field.model._meta.label}.{field.name} of {pk}"
            found.setdefault(names[name], []).append(label)
    return found


def rows_of(model: Any, using: str) -> models.QuerySet[Any]:
    """All rows of the table. A manager may hide some, even the base manager."""
    return models.QuerySet(model, using=using).order_by()


def _has_table(model: Any, using: str) -> bool:
    """A table that Django does not manage may be missing."""
    table = model._meta.db_table
    if model._meta.managed or '"' in table:  # with a schema's name, which is not listed
        return True
    introspection = connections[using].introspection
    there = introspection.table_names(include_views=True)
    return introspection.identifier_converter(table) in there


def file_fields() -> Iterator[Any]:
    """Every FileField that has a column."""
    for model in apps.get_models():
        if not model._meta.proxy and not model._meta.swapped:
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
