"""A model's field whose file is an upload: it claims the upload, and gives it up with the row.

Everything happens where a value goes to the database (``get_db_prep_save``), so ``save()``,
``bulk_create`` and ``bulk_update`` do the same. The order is always: lock the row and read which
file it has now, claim the new upload, let the old file go, write. All in one transaction.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any

from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.files.storage import Storage, default_storage, storages
from django.db import connections, models, router, transaction
from django.db.models.fields.files import (
    FieldFile,
    FileDescriptor,
    ImageFieldFile,
    ImageFileDescriptor,
)
from django.db.models.signals import class_prepared, post_delete, pre_delete
from django.db.transaction import TransactionManagementError
from django.dispatch import receiver

from . import checks, destinations, keys, lifecycle
from .exceptions import (
    AlreadyAttached,
    NameTooLong,
    NotCompleted,
    UploadError,
    WrongDatabase,
    WrongDestination,
)
from .models import Upload, write_first

RELEASE, KEEP = "release", "keep"


class UploadFieldFile(FieldFile):
    """What ``photo.image`` is: Django's FieldFile, which may be of an upload that was assigned."""

    field: Any
    instance: Any

    def __init__(self, instance: Any, field: Any, name: Any) -> None:
        self.upload: Upload | None = name if isinstance(name, Upload) else None
        # Until the transaction that writes it has ended.
        self.is_pending = self.upload is not None
        self.is_new_row = False
        self._claimed_at: Any = None
        super().__init__(instance, field, field.name_of(name) if self.upload else name)

    @property
    def size(self) -> int:
        # Declared, and compared at confirm. To ask S3 takes a request.
        return self.upload.size if self.upload else super().size

    @property
    def is_claimed(self) -> bool:
        """Whether this very file has claimed its upload, by a transaction that did not fail."""
        if self.upload is None or self._claimed_at is None:
            return False
        uploads = Upload.objects.using(router.db_for_write(Upload))
        return uploads.filter(pk=self.upload.pk, attached_at=self._claimed_at).exists()

    def claim(self, to: str) -> None:
        assert self.upload is not None
        if not self.is_claimed:
            self.upload.claim(to)
            self._claimed_at = self.upload.attached_at

    def save(self, name: str, content: Any, save: bool = True) -> None:
        self.upload, self.is_pending = None, False
        super().save(name, content, save)

    save.alters_data = True  # type: ignore[attr-defined]

    def delete(self, save: bool = True) -> None:
        """Empty the field. The row's save releases the upload; a sweep deletes the object later.

        A file that is not of an upload is deleted at once, as in Django.
        """
        if not self:
            return
        if not self.upload and not lifecycle.uploads_of(self.storage, [str(self.name)]).exists():
            super().delete(save)
            return
        self.close()
        self.__dict__.pop("_dimensions_cache", None)  # an image's
        self.name, self.upload, self.is_pending = None, None, False
        setattr(self.instance, self.field.attname, None)
        if save:
            self.instance.save()

    delete.alters_data = True  # type: ignore[attr-defined]

    def __getstate__(self) -> dict[str, Any]:
        mine = ("upload", "is_pending", "is_new_row", "_claimed_at")
        return {**super().__getstate__(), **{name: self.__dict__[name] for name in mine}}


class UploadImageFieldFile(UploadFieldFile, ImageFieldFile):
    pass


class UploadDescriptor(FileDescriptor):
    """Also knows which name the instance was loaded with: only another one is written.

    So a ``save()`` of an instance that is older than the row leaves the row's newer file alone.
    """

    field: Any

    def __get__(self, instance: Any, cls: Any = None) -> Any:
        if instance is not None:
            value = instance.__dict__.get(self.field.attname)
            if isinstance(value, Upload):
                instance.__dict__[self.field.attname] = self.field.attr_class(
                    instance, self.field, value
                )
        return super().__get__(instance, cls)

    def __set__(self, instance: Any, value: Any) -> None:
        is_first = self.field.attname not in instance.__dict__
        if isinstance(value, FieldFile):
            if value is instance.__dict__.get(self.field.attname):
                return  # by full_clean(): an image's dimensions are still its own
            other = value.instance
            if other is not instance and _are_one_row(other, instance):  # refresh_from_db()
                self.field.set_stored(instance, self.field.get_stored(other))
        # By Model.__init__: from the database, or else the row is still to be added.
        elif is_first and instance._state.adding and not isinstance(value, Upload):
            self.field.set_stored(instance, value or "" if isinstance(value, str | None) else None)
        super().__set__(instance, value)


class UploadImageDescriptor(UploadDescriptor, ImageFileDescriptor):
    pass


def _are_one_row(one: Any, other: Any) -> bool:
    return one is not None and one == other and not one._state.adding


class UploadFileField(models.FileField):
    """Django's FileField, for uploads to ``destination``. The file lives and dies with its row.

    Assign a completed upload: ``photo.image = upload``. Saving the row claims it in the same
    transaction, or raises NotCompleted, AlreadyAttached, WrongDestination, NameTooLong or
    WrongDatabase; ``full_clean()`` raises them as a ValidationError with the same code. When the
    file is replaced or cleared, or the row is deleted, the upload is released, unless another row
    names the same file. ``on_replace="keep"`` and ``on_delete="keep"`` leave it attached.

    **Warning:** the file of a released upload is lost.

    Migrations know this field as Django's own, so it comes and goes without a migration. The
    storage is the destination's, unless ``storage`` gives another one of the same bucket and
    location. What is not from an upload is saved, read and deleted as in Django.
    """

    attr_class: Any = UploadFieldFile
    descriptor_class: Any = UploadDescriptor
    django_class = "django.db.models.FileField"

    def __init__(
        self,
        verbose_name: Any = None,
        name: str | None = None,
        *args: Any,
        destination: str,
        on_replace: str = RELEASE,
        on_delete: str = RELEASE,
        **kwargs: Any,
    ) -> None:
        self.destination = destination
        self.on_replace, self.on_delete = on_replace, on_delete
        self._storage: Storage | None = default_storage
        super().__init__(verbose_name, name, *args, **kwargs)
        # FileField fills in the default one where none was given. Ours is not asked for earlier:
        # a destination's class may need the models that are being made now.
        if self._storage is default_storage:
            self._storage = None

    @property
    def storage(self) -> Storage:
        """Asked for each use: the settings may name another one by then."""
        if self._storage is not None:
            return self._storage
        rules = _find(self.destination)
        return storages[rules.storage] if rules else default_storage

    @storage.setter
    def storage(self, storage: Storage) -> None:
        self._storage = storage

    @property
    def label(self) -> str:
        """By which an upload says what holds it: "photos.Photo.image"."""
        return f"{self.model._meta.label}.{self.name}"

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        if self._storage is None:
            kwargs.pop("storage", None)
        return name, self.django_class, args, kwargs

    def clone(self) -> Any:
        # What migrations keep of a field.
        django_field: Any = getattr(models, self.django_class.rpartition(".")[2])
        _, _, args, kwargs = self.deconstruct()
        return django_field(*args, **kwargs)

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        return [*super().check(**kwargs), *checks.upload_field(self)]

    def formfield(self, **kwargs: Any) -> Any:
        from . import forms

        if _is_admins(kwargs.get("widget")):
            del kwargs["widget"]  # which would send the file through Django
        kwargs.setdefault("form_class", forms.UploadField)
        if issubclass(kwargs["form_class"], forms.UploadField):
            kwargs["destination"] = self.destination
        return models.Field.formfield(self, **kwargs)

    # The name of an upload.

    def name_of(self, upload: Upload) -> str:
        """What the column has for it. It may be refused later, by ``require``."""
        return keys.name_in(self.storage, upload.bucket, upload.key) or upload.key

    def get_prep_value(self, value: Any) -> Any:
        if isinstance(value, Upload):  # filter(image=upload)
            value = self.name_of(value)
        return super().get_prep_value(value)

    def require(self, upload: Upload) -> None:
        """Raises WrongDestination, NameTooLong: what no database needs to be asked for."""
        if upload.destination != self.destination:
            raise WrongDestination(
                f"This was uploaded to {upload.destination!r}, not to {self.destination!r}.",
                upload=upload,
            )
        name = keys.name_in(self.storage, upload.bucket, upload.key)
        if name is None:
            raise WrongDestination(
                f"This upload is in another bucket or location than {self.label} is.",
                upload=upload,
            )
        if self.max_length is not None and len(name) > self.max_length:
            raise NameTooLong(
                f"The upload's name has {len(name)} characters, and {self.label} holds "
                f"{self.max_length}.",
                upload=upload,
            )

    def validate(self, value: Any, model_instance: Any) -> None:
        super().validate(value, model_instance)
        if not isinstance(value, UploadFieldFile) or value.upload is None or not value.is_pending:
            return
        try:
            self.require(value.upload)
            if not value.is_claimed and not self._has(model_instance, value):
                _require_free(value.upload)
        except UploadError as error:
            raise ValidationError(error.detail, code=error.code) from error

    def _has(self, instance: Any, file: UploadFieldFile) -> bool:
        """Whether the row has this file already: to assign it again changes nothing."""
        pk = getattr(instance, self.model._meta.pk.attname)
        rows = self.model._base_manager.using(router.db_for_write(self.model, instance=instance))
        return rows.filter(pk=pk, **{self.name: file.name}).exists()

    # Which name the row has, as far as this instance knows. A flat attribute, so that copies and
    # pickles of the instance have it.

    def get_stored(self, instance: Any) -> str | None:
        stored: str | None = instance.__dict__.get(f"_{self.attname}_stored")
        return stored

    def set_stored(self, instance: Any, name: str | None) -> None:
        instance.__dict__[f"_{self.attname}_stored"] = name

    def is_stored(self, instance: Any, file: UploadFieldFile) -> bool:
        if instance._state.adding or file.is_pending:
            return False
        return self.get_stored(instance) == (file.name or "")

    def _remember(self, instance: Any, file: UploadFieldFile, name: str) -> None:
        """Once it is committed. If it rolls back, the instance still has it to write."""
        if instance.__dict__.get(self.attname) is file:
            file.is_pending = False
            self.set_stored(instance, name)

    # Saving.

    def commit(self, instance: Any) -> bool:
        """Before the transaction: send a file of Django's own to S3. Whether one is needed."""
        file = getattr(instance, self.attname)
        if file and not file._committed:
            file.save(file.name, file.file, save=False)
            file = getattr(instance, self.attname)
        if not file and instance._is_pk_set() is False:
            return False
        return not self.is_stored(instance, file)

    def pre_save(self, model_instance: Any, add: bool) -> Any:
        file = super().pre_save(model_instance, add)
        if not add and self.is_stored(model_instance, file):
            return models.F(self.name)
        file.is_new_row = add
        return file

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        if isinstance(value, UploadFieldFile) and value.instance is not None:
            value = self._write(value, connection.alias)
        return super().get_db_prep_save(value, connection)

    def _write(self, file: UploadFieldFile, using: str) -> Any:
        instance, is_new_row, file.is_new_row = file.instance, file.is_new_row, False
        name = file.name or ""
        if is_new_row and not name:
            return file
        if not connections[using].in_atomic_block:
            raise TransactionManagementError(f"{self.label} is only written in a transaction.")
        current = "" if is_new_row else self.lock(instance, using)
        if not is_new_row and self.is_stored(instance, file):
            return current  # bulk_update() of an instance that may be older than the row
        if file.upload is not None and file.is_pending:
            self.require(file.upload)
            if using != router.db_for_write(Upload):
                raise WrongDatabase(
                    f"Uploads are not in the database {using!r}, to which {self.label} is saved.",
                    upload=file.upload,
                )
            try:
                file.claim(self.label)
            except AlreadyAttached:
                if name != current:  # else this row has it already
                    raise
        elif name and name != current:
            self._share(name, using)
        if current and current != name:
            self.let_go(current, self.on_replace, using, but=instance)
        self.set_stored(instance, None)
        transaction.on_commit(partial(self._remember, instance, file, name), using=using)
        return file

    def lock(self, instance: Any, using: str) -> str:
        """The name that the row has now, and nobody changes until the transaction's end."""
        rows = self.model._base_manager.using(using).select_for_update().order_by()
        pk = getattr(instance, self.model._meta.pk.attname)
        return rows.filter(pk=pk).values_list(self.attname, flat=True).first() or ""

    def _share(self, name: str, using: str) -> None:
        if using == router.db_for_write(Upload):
            lifecycle.share(self.storage, name)

    def let_go(self, name: str, what: str, using: str, but: Any = None) -> None:
        # In another database it could not roll back with the row; a system check says so.
        if using == router.db_for_write(Upload):
            lifecycle.let_go(self.storage, name, keep=what == KEEP, but=but)


class UploadImageField(UploadFileField, models.ImageField):
    """``UploadFileField``, as Django's ImageField.

    ``width_field`` and ``height_field`` are emptied when an upload is assigned, because nobody
    opens S3 for them. Set them after it, if you know them: ``photo.width = 640``.
    """

    attr_class = UploadImageFieldFile
    descriptor_class = UploadImageDescriptor
    django_class = "django.db.models.ImageField"
    width_field: str | None
    height_field: str | None

    def update_dimension_fields(
        self, instance: Any, force: bool = False, *args: Any, **kwargs: Any
    ) -> None:
        if self.attname not in instance.__dict__:
            return
        file = getattr(instance, self.attname)
        if file.is_pending and force:
            for field in (self.width_field, self.height_field):
                if field:
                    setattr(instance, field, None)
            return
        is_loaded = self.get_stored(instance) == (file.name or "") or not force
        if file and file._committed and is_loaded:
            return
        super().update_dimension_fields(instance, force, *args, **kwargs)


def _find(destination: str) -> destinations.Destination | None:
    try:
        return destinations.find(destination)
    except ImproperlyConfigured:
        return None  # a system check has said so


def _is_admins(widget: Any) -> bool:
    from django.contrib.admin.widgets import AdminFileWidget

    kind = widget if isinstance(widget, type) else type(widget)
    return issubclass(kind, AdminFileWidget)


def _require_free(upload: Upload) -> None:
    uploads = Upload.objects.using(router.db_for_write(Upload))
    now = uploads.filter(pk=upload.pk).first()
    if now is None or now.status != Upload.Status.COMPLETED:
        raise NotCompleted("This upload is not completed.", upload=now)
    if now.attached_at:
        raise AlreadyAttached("This upload is in use already.", upload=now)


# What Django tells of a row.


def upload_fields(model: Any) -> Iterator[UploadFileField]:
    """Those whose columns are in the table of this very model."""
    for field in model._meta.concrete_model._meta.local_fields:
        if isinstance(field, UploadFileField):
            yield field


@receiver(class_prepared)
def _prepare(sender: Any, **_: Any) -> None:
    if any(upload_fields(sender)):
        # Not of every sender: Django deletes rows one by one where somebody listens.
        pre_delete.connect(_before_delete, sender=sender)
        post_delete.connect(_after_delete, sender=sender)
        if not sender._meta.proxy:
            sender._save_table = _in_one_transaction(sender._save_table)


def _in_one_transaction(save_table: Callable[..., Any]) -> Callable[..., Any]:
    """One table's UPDATE or INSERT, with what it does to uploads.

    Django saves a row in a transaction only where it needs several tables. Signals are sent
    outside, as always.
    """
    signature = inspect.signature(save_table)

    @wraps(save_table)
    def _save_table(self: Any, *args: Any, **kwargs: Any) -> Any:
        said = signature.bind(self, *args, **kwargs).arguments
        only, using = said.get("update_fields"), said.get("using")
        written = [
            field
            for field in upload_fields(said.get("cls") or type(self))
            if field.attname in self.__dict__ and (not only or {field.name, field.attname} & only)
        ]
        if not [field for field in written if field.commit(self)]:
            return save_table(self, *args, **kwargs)
        with transaction.atomic(using=using, savepoint=False):
            _write_first(using or router.db_for_write(type(self), instance=self))
            return save_table(self, *args, **kwargs)

    return _save_table


def _write_first(using: str) -> None:
    if using == router.db_for_write(Upload):
        write_first(using)


def _before_delete(instance: Any, using: str, **_: Any) -> None:
    """Whatever the instance says: which file has the row that is deleted?"""
    _write_first(using)
    for field in upload_fields(type(instance)):
        instance.__dict__[f"_{field.attname}_deleted"] = field.lock(instance, using)


def _after_delete(instance: Any, using: str, **_: Any) -> None:
    for field in upload_fields(type(instance)):
        name = instance.__dict__.pop(f"_{field.attname}_deleted", "")
        if name:
            field.let_go(name, field.on_delete, using)
