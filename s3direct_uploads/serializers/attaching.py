"""``AttachUploadsMixin``: who saves a serializer attaches the uploads of its fields."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache, partial
from typing import Any, NamedTuple

from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.core.files.storage import Storage, storages
from django.db import router, transaction
from django.db.models.manager import BaseManager
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail
from rest_framework.fields import empty

from s3direct_uploads import keys
from s3direct_uploads.exceptions import AlreadyAttached, NotCompleted, UploadError
from s3direct_uploads.fields import UploadFileField
from s3direct_uploads.models import Upload

from .upload_field import SentUploads, UploadField


class AttachUploadsMixin(serializers.BaseSerializer[Any]):
    # The outermost serializer around an UploadField needs this. save() attaches the uploads in the
    # same transaction as the rows. create() and update() get names instead of uploads, also in
    # nested data. Of a ModelSerializer, each UploadFileField of the model becomes an UploadField.
    # (This is no docstring, because a host's OpenAPI schema would show it.)

    attaches_uploads = True
    sent_uploads: SentUploads
    rows_shown: Any  # of a list

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        before = cls.__mro__[: cls.__mro__.index(AttachUploadsMixin)]
        for each in (serializers.ListSerializer, serializers.Serializer):
            if each in before:  # its methods would be called instead of ours
                raise ImproperlyConfigured(
                    f"AttachUploadsMixin must stand before the other bases: write class "
                    f"{cls.__name__}(AttachUploadsMixin, …)."
                )

    @classmethod
    def many_init(cls, *args: Any, **kwargs: Any) -> Any:
        listing = super().many_init(*args, **kwargs)
        if not isinstance(listing, AttachUploadsMixin):
            kind: Any = type(listing)
            listing.__class__ = _attaching(kind)
        return listing

    def build_standard_field(self, field_name: str, model_field: Any) -> Any:
        build: Any = super()
        kind, kwargs = build.build_standard_field(field_name, model_field)
        if not isinstance(model_field, UploadFileField):
            return kind, kwargs
        return (kind if issubclass(kind, UploadField) else UploadField), _as_in(model_field, kwargs)

    def build_nested_field(self, *args: Any) -> Any:
        build: Any = super()
        kind, kwargs = build.build_nested_field(*args)
        return type(kind.__name__, (AttachUploadsMixin, kind), {}), kwargs

    def run_validation(self, data: Any = empty) -> Any:
        self.sent_uploads = SentUploads(data)
        return super().run_validation(data)

    def to_representation(self, instance: Any) -> Any:
        if isinstance(self, serializers.ListSerializer):
            # Our UploadFields look at these rows once they are read.
            instance = instance.all() if isinstance(instance, BaseManager) else instance
            self.rows_shown = instance
        return super().to_representation(instance)

    def save(self, **kwargs: Any) -> Any:
        said = self.validated_data
        one = getattr(self, "child", self)  # with many=True
        given = {
            name: each
            for name, each in kwargs.items()
            if isinstance(_field_of(one, name), UploadField)
        }
        with transaction.atomic(using=router.db_for_write(Upload)):
            # A keyword of save() replaces the upload of a field, which then stays unattached.
            self._validated_data = _attached(said, self, leave=kwargs)
            kwargs |= _attached(given, one)
            try:
                return super().save(**kwargs)
            except UploadError as error:  # of an UploadFileField, which attaches by itself
                found = error.upload and (
                    _errors_at(said, self, error) or _errors_at(given, one, error)
                )
                if not found:
                    raise
                raise serializers.ValidationError(found) from None
            finally:
                self._validated_data = said  # so that a failed save can be repeated


@cache
def _attaching(list_serializer: Any) -> type:
    return type(list_serializer.__name__, (AttachUploadsMixin, list_serializer), {})


def _as_in(field: UploadFileField, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an UploadField, from those that REST Framework found for a FileField."""
    kwargs = {**kwargs, "destination": field.destination}
    kwargs.pop("max_length", None)  # of the name, which is ours
    if field.blank:
        kwargs["allow_null"] = True  # the field shows null if it is empty
    if "validators" in kwargs:
        kwargs["validators"] = [
            partial(_validate_file, field, each) if each in field.validators else each
            for each in kwargs["validators"]
        ]
    return kwargs


def _validate_file(field: UploadFileField, validate: Callable[[Any], None], upload: Any) -> None:
    validate(field.attr_class(None, field, upload))  # as full_clean() does


def _attached(value: Any, field: Any, leave: Collection[str] = ()) -> Any:
    """Attach the uploads in ``value``, and return it with their names instead.

    Keys in ``leave`` are left as they are. ``field`` validated the value; None if it is not known.
    Raises rest_framework's ValidationError, in the shape of the data.
    """
    if isinstance(value, Upload):
        # A foreign key to Upload needs the row itself.
        return value if isinstance(field, serializers.RelatedField) else _attach(value)
    if isinstance(value, dict):
        attached = {}
        for key, each in value.items():
            inner, column = _field_of(field, key), _model_field(field, key)
            left = key in leave or isinstance(column, UploadFileField)
            if isinstance(each, Upload) and not left:
                _require_same_storage(each, column)
            attached[key] = each if left else _attached_at(_name_of(inner, key), each, inner)
        return attached
    if isinstance(value, list) or type(value) is tuple:
        child = getattr(field, "child", None) or getattr(field, "child_relation", None)
        names = [_attached_at(at, each, child, leave) for at, each in enumerate(value)]
        return names if isinstance(value, list) else tuple(names)
    return value


def _attached_at(at: Any, value: Any, field: Any, leave: Collection[str] = ()) -> Any:
    try:
        return _attached(value, field, leave)
    except serializers.ValidationError as error:
        raise serializers.ValidationError(_nested(at, error.detail)) from None


def _errors_at(value: Any, field: Any, error: UploadError) -> Any:
    """The error in the shape of the data, where its upload stands; None if it is not there.

    If the upload stands there twice, the last one failed: the first one could be attached.
    """
    if isinstance(value, Upload):
        is_it = error.upload is not None and value.pk == error.upload.pk
        return [ErrorDetail(error.detail, error.code)] if is_it else None
    if isinstance(value, dict):
        for key, each in reversed(value.items()):
            inner = _field_of(field, key)
            if found := _errors_at(each, inner, error):
                return _nested(_name_of(inner, key), found)
    if isinstance(value, list):
        for at, each in reversed(list(enumerate(value))):
            if found := _errors_at(each, getattr(field, "child", None), error):
                return {at: found}
    return None


class _Dotted(NamedTuple):
    """In place of a field, for the dict that REST Framework makes of a source such as "a.b"."""

    serializer: Any
    source: str


def _field_of(field: Any, key: Any) -> Any:
    """The field for the value at ``key`` in the data that ``field`` validated."""
    if isinstance(field, serializers.Serializer):
        field = _Dotted(field, "")
    if not isinstance(field, _Dotted):
        return getattr(field, "child", None)  # a DictField's
    source = f"{field.source}{key}"
    fields = list(field.serializer.fields.values())
    is_dotted = any(each.source.startswith(f"{source}.") for each in fields)
    dotted = _Dotted(field.serializer, f"{source}.") if is_dotted else None
    return next((each for each in fields if each.source == source), dotted)


def _name_of(field: Any, key: Any) -> Any:
    """Under which the client finds the errors of this field; None if it has no name of its own."""
    return None if isinstance(field, _Dotted) else getattr(field, "field_name", "") or key


def _nested(name: Any, errors: Any) -> Any:
    return errors if name is None else {name: errors}


def _attach(upload: Upload) -> str:
    try:
        return upload.attach()
    except (AlreadyAttached, NotCompleted) as error:
        # Another request was faster, after this one was validated.
        raise serializers.ValidationError([error.detail], code=error.code) from None


def _require_same_storage(upload: Upload, column: Any) -> None:
    """Raises ImproperlyConfigured if the model's field would look for the name elsewhere."""
    storage = getattr(column, "storage", None)
    if storage is not None and _folder(storage) != _folder(storages[upload.storage]):
        raise ImproperlyConfigured(
            f"{column.model}.{column.name} has another storage than {upload.destination!r}: write "
            f"storage=storages[{upload.storage!r}] there, or STORAGE in the destination."
        )


def _model_field(field: Any, key: Any) -> Any:
    """The model's field for the value at ``key`` in the data that ``field`` validated, if any."""
    serializer, before = field if isinstance(field, _Dotted) else (field, "")
    model = getattr(getattr(serializer, "Meta", None), "model", None)
    found = None
    for step in f"{before}{key}".split("."):
        try:
            found = model._meta.get_field(step) if model else None
        except FieldDoesNotExist:
            return None
        model = getattr(found, "related_model", None)
    return found


def _folder(storage: Storage) -> tuple[str, str]:
    return getattr(storage, "bucket_name", ""), keys.location_of(storage)
