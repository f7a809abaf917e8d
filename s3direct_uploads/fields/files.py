"""The value of ``photo.image``, and what an instance remembers of the file in its row."""

from __future__ import annotations

from typing import Any

from django.db import router
from django.db.models.fields.files import (
    FieldFile,
    FileDescriptor,
    ImageFieldFile,
    ImageFileDescriptor,
)

from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload


class UploadFieldFile(FieldFile):
    """The value of ``photo.image``: Django's FieldFile. It knows the upload that was assigned."""

    field: Any
    instance: Any

    def __init__(self, instance: Any, field: Any, name: Any) -> None:
        self.upload: Upload | None = name if isinstance(name, Upload) else None
        # True until the transaction that writes the file was committed.
        self.is_pending = self.upload is not None
        self.is_new_row = False
        self._claimed_at: Any = None
        super().__init__(instance, field, field.name_of(name) if self.upload else name)

    @property
    def size(self) -> int:
        # Confirm compared it with the object. To ask S3 would take a request.
        return self.upload.size if self.upload else super().size

    @property
    def filename(self) -> str:
        """The name that people know the file by, as its owner declared it. One query.

        It is the end of ``name`` if the file is no upload, or if its owner's files were erased.
        """
        if not self:
            return ""
        name = str(self.name)
        upload = self.upload or lifecycle.uploads_of(self.storage, [name]).first()
        return (upload.filename if upload else "") or name.rpartition("/")[2]

    @property
    def is_claimed(self) -> bool:
        """Whether this FieldFile has claimed its upload, in a transaction that was not undone."""
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
        """Empty the field. Saving the row releases the upload. A sweep deletes the object later.

        If the file is not an upload, it is deleted at once, as in Django.
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
    """It also remembers the name that the instance was loaded with. Only another name is written.

    So, if an instance is older than its row, ``save()`` does not change the row's newer file.
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
                return  # full_clean() assigns the same file again: the dimensions stay as they are
            other = value.instance
            if other is not instance and _are_one_row(other, instance):  # refresh_from_db()
                self.field.set_stored(instance, self.field.get_stored(other))
        # Model.__init__ assigns it: from the database, or to a new instance, which has no row yet.
        elif is_first and instance._state.adding and not isinstance(value, Upload):
            self.field.set_stored(instance, value or "" if isinstance(value, str | None) else None)
        super().__set__(instance, value)


class UploadImageDescriptor(UploadDescriptor, ImageFileDescriptor):
    pass


def _are_one_row(one: Any, other: Any) -> bool:
    return one is not None and one == other and not one._state.adding
