"""The fields. ``_write`` does all that happens to uploads when a row is written."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.files.storage import Storage, default_storage, storages
from django.db import models, router
from django.db.models.signals import class_prepared, post_delete, pre_delete
from django.dispatch import receiver
from django.utils.translation import gettext_noop as _

from s3direct_uploads import checks, destinations, keys, lifecycle
from s3direct_uploads.exceptions import (
    AlreadyAttached,
    NameTooLong,
    NotCompleted,
    UploadError,
    WrongDatabase,
    WrongDestination,
)
from s3direct_uploads.models import Upload

from .files import (
    UploadDescriptor,
    UploadFieldFile,
    UploadImageDescriptor,
    UploadImageFieldFile,
)
from .statements import AsItIs, Name, Written, on_its_way, write_first_in

RELEASE, KEEP = "release", "keep"


class UploadFileField(models.FileField):
    """Django's FileField, for uploads to ``destination``. It releases the upload with the row.

    Assign a completed upload: ``photo.image = upload``. Saving the row claims it in the same
    transaction, or raises NotCompleted, AlreadyAttached, WrongDestination, NameTooLong or
    WrongDatabase; ``full_clean()`` raises them as a ValidationError with the same code. When the
    file is replaced or cleared, or the row is deleted, the upload is released, unless another row
    names the same file. ``on_replace="keep"`` and ``on_delete="keep"`` leave it attached.

    **Warning:** the file of a released upload is lost.

    In migrations it is Django's own field, so you can switch to it and back without a migration.
    The storage is the destination's, unless ``storage`` gives another one with the same bucket and
    location. A file that is not an upload is saved, read and deleted as in Django.
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
        # If no storage was given, FileField fills in the default storage. We ask the destination
        # for its storage later: its class may import the models that Python is importing now.
        if self._storage is default_storage:
            self._storage = None

    @property
    def storage(self) -> Storage:
        """Read again for each use, because the settings may have changed."""
        if self._storage is not None:
            return self._storage
        rules = _find(self.destination)
        return storages[rules.storage] if rules else default_storage

    @storage.setter
    def storage(self, storage: Storage) -> None:
        self._storage = storage

    @property
    def label(self) -> str:
        """The value of ``Upload.attached_to`` for this field: "photos.Photo.image"."""
        return f"{self.model._meta.label}.{self.name}"

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        if self._storage is None:
            kwargs.pop("storage", None)
        return name, self.django_class, args, kwargs

    def clone(self) -> Any:
        # Migrations clone fields, and must get Django's own.
        django_field: Any = getattr(models, self.django_class.rpartition(".")[2])
        _, _, args, kwargs = self.deconstruct()
        return django_field(*args, **kwargs)

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        return [*super().check(**kwargs), *checks.upload_field(self)]

    def formfield(self, **kwargs: Any) -> Any:
        from s3direct_uploads import forms

        if _is_admins(kwargs.get("widget")):
            del kwargs["widget"]  # The admin's widget would send the file through Django.
        kwargs.setdefault("form_class", forms.UploadField)
        if issubclass(kwargs["form_class"], forms.UploadField):
            kwargs["destination"] = self.destination
        return models.Field.formfield(self, **kwargs)

    # How an upload becomes a name in the column.

    def name_of(self, upload: Upload) -> str:
        """The name that the column gets. ``require`` may refuse the upload later."""
        return keys.name_in(self.storage, upload.bucket, upload.key) or upload.key

    def get_prep_value(self, value: Any) -> Any:
        if isinstance(value, Upload):  # filter(image=upload)
            value = self.name_of(value)
        return super().get_prep_value(value)

    def require(self, upload: Upload) -> None:
        """Raises WrongDestination or NameTooLong. It does not ask the database."""
        if upload.destination != self.destination:
            raise WrongDestination(
                _(
                    "This upload has the destination “%(found)s”. %(field)s takes only uploads "
                    "to “%(wanted)s”."
                ),
                {
                    "found": upload.destination,
                    "field": self.label,
                    "wanted": self.destination,
                },
                upload=upload,
            )
        name = keys.name_in(self.storage, upload.bucket, upload.key)
        if name is None:
            raise WrongDestination(
                _("This upload is in another bucket or location than the storage of %(field)s."),
                {"field": self.label},
                upload=upload,
            )
        if self.max_length is not None and len(name) > self.max_length:
            raise NameTooLong(
                _(
                    "The upload's name has %(count)s characters, but %(field)s has the "
                    "max_length %(most)s. Raise its max_length, or lower MAX_NAME_LENGTH."
                ),
                {"count": len(name), "field": self.label, "most": self.max_length},
                upload=upload,
            )

    def validate(self, value: Any, model_instance: Any) -> None:
        super().validate(value, model_instance)
        if not isinstance(value, UploadFieldFile) or value.upload is None or not value.is_pending:
            return
        try:
            self.require(value.upload)
            if not value.is_claimed and not self.has(model_instance, value.upload):
                _require_free(value.upload)
                _require_once(value.upload, model_instance)
        except UploadError as error:
            raise ValidationError(error.detail, code=error.code) from error

    def has(self, instance: Any, upload: Upload) -> bool:
        """Whether the row has this file already. Then assigning it again changes nothing."""
        pk = getattr(instance, self.model._meta.pk.attname)
        rows = lifecycle.rows_of(self.model, router.db_for_write(self.model, instance=instance))
        return rows.filter(pk=pk, **{self.name: upload}).exists()

    # The name in the row, as this instance last read or wrote it. It is an attribute of the
    # instance, so that copies and pickles of the instance have it too.

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
        """Called after the commit. After a rollback the instance must still write the file."""
        if instance.__dict__.get(self.attname) is file:
            file.is_pending = False
            self.set_stored(instance, name)

    # Saving.

    def pre_save(self, model_instance: Any, add: bool) -> Any:
        super().pre_save(model_instance, add)  # It sends a file that is not an upload to S3.
        file = getattr(model_instance, self.attname)
        if not add and self.is_stored(model_instance, file):
            return AsItIs(str(self.column))
        file.is_new_row = add
        return file

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        if not isinstance(value, UploadFieldFile) or value.instance is None:
            return super().get_db_prep_save(value, connection)
        is_new_row, value.is_new_row = value.is_new_row, False
        name = Name(value.name or "")
        if name or not is_new_row:
            instance = value.instance  # read now, because copies of it may share the file
            name.write = partial(self._write, value, instance, is_new_row)
            on_its_way(name, connection)
        return name

    def _write(self, file: UploadFieldFile, instance: Any, is_new_row: bool, using: str) -> Written:
        """In the transaction of the statement, before it."""
        name = file.name or ""
        current = "" if is_new_row else self.lock(instance, using)
        if not is_new_row and self.is_stored(instance, file):
            # bulk_update() of an instance that may be older than the row
            return Written(current, None, partial(self._remember, instance, file, name))
        if file.upload is not None and file.is_pending:
            self._claim(file, file.upload, using, is_there=name == current)
        elif name and name != current:
            is_with_uploads = using == router.db_for_write(Upload)
            share = lifecycle.share if is_with_uploads else lifecycle.share_elsewhere
            share(self.storage, name)
        self.set_stored(instance, None)
        is_replaced = current and current != name
        let_go = partial(self.let_go, current, self.on_replace, using) if is_replaced else None
        return Written(name, let_go, partial(self._remember, instance, file, name))

    def _claim(self, file: UploadFieldFile, upload: Upload, using: str, *, is_there: bool) -> None:
        self.require(upload)
        if using != router.db_for_write(Upload):
            raise WrongDatabase(
                _(
                    "%(field)s is saved to the database “%(using)s”, but uploads are in "
                    "“%(uploads)s”. Both must be in one database."
                ),
                {
                    "field": self.label,
                    "using": using,
                    "uploads": router.db_for_write(Upload),
                },
                upload=upload,
            )
        try:
            file.claim(self.label)
        except AlreadyAttached:
            if not is_there:  # If it is there, this row itself claimed the upload before.
                raise

    def lock(self, instance: Any, using: str) -> str:
        """The name in the row now. Nobody else can change it until the transaction ends."""
        rows = lifecycle.rows_of(self.model, using).select_for_update()
        pk = getattr(instance, self.model._meta.pk.attname)
        return rows.filter(pk=pk).values_list(self.attname, flat=True).first() or ""

    def let_go(self, name: str, what: str, using: str) -> None:
        # In another database the release could not roll back with the row. A system check
        # (E054) warns of this.
        if using == router.db_for_write(Upload):
            lifecycle.let_go(self.storage, name, keep=what == KEEP)


class UploadImageField(UploadFileField, models.ImageField):
    """``UploadFileField``, as Django's ImageField.

    When you assign an upload, ``width_field`` and ``height_field`` become None, because the file
    is not read from S3. If you know them, set them afterwards: ``photo.width = 640``.
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
        return None  # A system check reports it.


def _is_admins(widget: Any) -> bool:
    from django.contrib.admin.widgets import AdminFileWidget

    kind = widget if isinstance(widget, type) else type(widget)
    return issubclass(kind, AdminFileWidget)


def _require_free(upload: Upload) -> None:
    uploads = Upload.objects.using(router.db_for_write(Upload))
    now = uploads.filter(pk=upload.pk).first()
    if now is None or now.status != Upload.Status.COMPLETED:
        raise NotCompleted(_("This upload is not completed."), upload=now)
    if now.attached_at:
        raise AlreadyAttached(_("This upload is in use already."), upload=now)


def _require_once(upload: Upload, instance: Any) -> None:
    """Raises AlreadyAttached if several fields of one row were given the same upload."""
    files = [instance.__dict__.get(each.attname) for each in instance._meta.concrete_fields]
    uploads = [getattr(each, "upload", each) for each in files]
    if sum(isinstance(each, Upload) and each.pk == upload.pk for each in uploads) > 1:
        raise AlreadyAttached(_("Another field of this row has this upload."), upload=upload)


# Django's signals, when a row is deleted.


def upload_fields(model: Any) -> Iterator[UploadFileField]:
    """The upload fields whose columns are in the table of this model, not of a parent."""
    for field in model._meta.concrete_model._meta.local_fields:
        if isinstance(field, UploadFileField):
            yield field


@receiver(class_prepared)
def _prepare(sender: Any, **_: Any) -> None:
    if any(upload_fields(sender)):
        # Only for these models: Django deletes rows one by one if a signal has a receiver.
        pre_delete.connect(_before_delete, sender=sender)
        post_delete.connect(_after_delete, sender=sender)


def _before_delete(instance: Any, using: str, **_: Any) -> None:
    """Read which file the row has. The instance may be older than the row."""
    write_first_in(using)
    for field in upload_fields(type(instance)):
        instance.__dict__[f"_{field.attname}_deleted"] = field.lock(instance, using)


def _after_delete(instance: Any, using: str, **_: Any) -> None:
    for field in upload_fields(type(instance)):
        name = instance.__dict__.pop(f"_{field.attname}_deleted", "")
        if name:
            field.let_go(name, field.on_delete, using)
