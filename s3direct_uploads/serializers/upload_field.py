"""``UploadField`` for the host's own serializers, and the mixin that attaches its uploads."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import Storage, storages
from django.db import router, transaction
from django.db.models import Manager, QuerySet
from django.db.models.fields.files import FieldFile
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail
from rest_framework.fields import SkipField, empty
from storages.backends.s3 import S3Storage

from s3direct_uploads import content_types, destinations, keys
from s3direct_uploads.exceptions import AlreadyAttached, NotCompleted, UploadError
from s3direct_uploads.fields import UploadFileField
from s3direct_uploads.models import Upload
from s3direct_uploads.storage import answered_with, is_asked_anew, signs_urls, takes


class UploadField(serializers.Field[Any, Any, Any, Any]):
    """A completed upload, for a model's FileField, or for a JSONField (ListField, DictField).

    Input: the id of an upload that the request's user owns, that has this destination, and that no
    model has attached. ``validated_data`` has the Upload. ``AttachUploadsMixin`` attaches it, and
    replaces it by its name; an ``UploadFileField`` of the model takes the Upload itself. The
    outermost serializer must have this mixin, even if the field is in a nested one. An update also
    accepts the file that the row already has, by its id or in the form that was read, and leaves it
    unchanged. In a list of serializers the field does not know which row is meant, unless the list
    sets ``child.instance``.

    Output: ``{name, url, size, content_type, filename}``. The URL shows types that are safe in a
    browser, and downloads the others. Without a signature it cannot do this: with a
    ``custom_domain`` that CloudFront does not sign, with ``querystring_auth=False``, or if the
    storage is not on S3. The URL is None if the upload is not completed.

    Raises ImproperlyConfigured if the mixin or the request is missing. Example::

        class PhotoSerializer(AttachUploadsMixin, serializers.ModelSerializer):
            image = UploadField(destination="photos")
    """

    default_error_messages = {
        "invalid": "Send the id of an upload.",
        "does_not_exist": "You have no such upload.",
        "wrong_destination": "This upload is for another destination.",
        "not_completed": "This upload is not completed.",
        "already_attached": "This upload is in use already.",
        "not_current": "This is not the current file. Send the id of an upload.",
    }

    def __init__(self, *, destination: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self._uploads: dict[str, Upload | None] = {}
        self._current: Any = None  # the row's value, and its files by name and by key
        self._current_names: dict[str, _File] = {}
        self._current_keys: dict[str, _File] = {}

    def run_validation(self, data: Any = empty) -> Any:
        _require_attaching(self.root)
        return super().run_validation(data)

    def to_internal_value(self, data: Any) -> Upload | str:
        if isinstance(data, Mapping):
            return self._as_it_was_read(data)
        try:
            upload_id = UUID(data)
        except (ValueError, TypeError, AttributeError):
            self.fail("invalid")
        # From the primary, because the upload may have been confirmed a moment ago.
        uploads = Upload.objects.using(router.db_for_write(Upload))
        self._look_at_current()
        if self._current_keys:
            # The owner is not checked here: this row already has the file, so nothing changes.
            here = uploads.filter(pk=upload_id, attached_at__isnull=False).first()
            if here and here.key in self._current_keys:
                return self._unchanged(self._current_keys[here.key])
        if "request" not in self.context:
            raise ImproperlyConfigured(
                "An UploadField needs the request's user: write context={'request': request}."
            )
        upload = uploads.owned_by(self.context["request"].user).filter(pk=upload_id).first()
        if upload is None:
            self.fail("does_not_exist")
        if upload.destination != self.destination or not _is_here(upload):
            self.fail("wrong_destination")
        if upload.status != Upload.Status.COMPLETED:
            self.fail("not_completed")
        if upload.attached_at:
            self.fail("already_attached")
        return upload

    def to_representation(self, value: FieldFile | Upload | str) -> dict[str, Any] | None:
        if not value:
            return None
        file = self._file(value)
        upload = value if isinstance(value, Upload) else self._upload_of(file)
        # Without an upload the size is unknown. To find it, each file would need a request to S3.
        size = upload.size if upload else None
        content_type = upload.content_type if upload else content_types.guess(file.name)
        filename = upload.filename if upload else file.name.rpartition("/")[2]
        # What a scan holds, or has refused, nobody may read.
        is_closed = upload is not None and upload.status != Upload.Status.COMPLETED
        return {
            "name": file.name,
            "url": None
            if is_closed
            else _url(file, filename, content_type, confirmed=upload is not None),
            "size": size,
            "content_type": content_type,
            "filename": filename,
        }

    # The current file of the row.

    def _as_it_was_read(self, data: Mapping[Any, Any]) -> str:
        self._look_at_current()
        name = data.get("name")
        if not isinstance(name, str) or name not in self._current_names:
            is_new = getattr(self.root, "instance", None) is None
            self.fail("invalid" if is_new else "not_current")
        return self._unchanged(self._current_names[name])

    def _unchanged(self, file: _File) -> str:
        if isinstance(self.parent, serializers.BaseSerializer):
            raise SkipField  # if it were assigned, an ImageField would read its dimensions from S3
        return file.name

    def _look_at_current(self) -> None:
        value = self._current_value()
        if value is self._current:
            return  # done already, for another item of the same list
        files = [self._file(each) for each in _flat(value)]
        self._current = value
        self._current_names = {each.name: each for each in files}
        self._current_keys = {each.key: each for each in files}

    def _current_value(self) -> Any:
        """The value of this field in the row that is updated; None if there is none."""
        path: list[Any] = []
        field: Any = self
        while (parent := field.parent) is not None:
            if isinstance(parent, serializers.ListSerializer):
                return None  # it is not known which row is meant
            if isinstance(parent, serializers.BaseSerializer):
                path.append(field)
                if parent.instance is not None:
                    break
            field = parent
        # With many=True, REST Framework gives the child all rows.
        if parent is None or isinstance(parent.instance, list | tuple | QuerySet | Manager):
            return None
        value = parent.instance
        try:
            for step in reversed(path):
                value = step.get_attribute(value)
        except (SkipField, AttributeError, KeyError):
            return None
        return value

    # The output.

    def _file(self, value: FieldFile | Upload | str) -> _File:
        if isinstance(value, Upload):
            return _File(storages[value.storage], value.name)
        if isinstance(value, FieldFile):
            return _File(value.storage, value.name or "")
        rules = destinations.find(self.destination)  # a name, in a JSONField
        if rules is None:
            raise ImproperlyConfigured(
                f"There is no destination {self.destination!r} for an UploadField."
            )
        return _File(storages[rules.storage], value)

    def _upload_of(self, file: _File) -> Upload | None:
        if file.key not in self._uploads:
            wanted = {file.key, *(each.key for each in self._files_in_list())}
            found = {each.key: each for each in Upload.objects.filter(key__in=wanted)}
            self._uploads |= {each: found.get(each) for each in wanted}
        return self._uploads[file.key]

    def _files_in_list(self) -> list[_File]:
        """The files of all rows that are being rendered, so that one query finds their uploads."""
        field: Any = self
        while isinstance(field.parent, serializers.ListField | serializers.DictField):
            field = field.parent
        serializer = field.parent
        listing = serializer and serializer.parent
        rows: Any = [serializer and serializer.instance]
        if isinstance(listing, serializers.ListSerializer):
            rows = listing.instance
        if not isinstance(rows, list | tuple | QuerySet):
            return []
        values = []
        for each in rows:
            try:
                values.append(field.get_attribute(each))
            except (SkipField, AttributeError, KeyError):
                pass  # it is reported when this row itself is rendered
        return [self._file(each) for each in _flat(values)]


class AttachUploadsMixin(serializers.BaseSerializer[Any]):
    # The outermost serializer around an UploadField needs this. save() attaches the uploads in the
    # same transaction as the rows. create() and update() get names instead of uploads, also in
    # nested data. (This is no docstring, because a host's OpenAPI schema would show it.)

    @classmethod
    def many_init(cls, *args: Any, **kwargs: Any) -> Any:
        listing = super().many_init(*args, **kwargs)
        if not isinstance(listing, AttachUploadsMixin):
            kind: Any = type(listing)
            listing.__class__ = _attaching(kind)
        return listing

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


def _attaches(serializer: object) -> bool:
    order = type(serializer).__mro__
    if AttachUploadsMixin not in order:
        return False
    late = order[: order.index(AttachUploadsMixin)]
    return serializers.ListSerializer not in late  # it has a save() of its own


def _require_attaching(root: Any) -> None:
    if _attaches(root):
        return
    child = getattr(root, "child", None)
    if type(root) is not serializers.ListSerializer:
        cure = f"class {type(root).__name__}(AttachUploadsMixin, …)"
    elif _attaches(child):
        cure = f"{type(child).__name__}(many=True)"
    else:
        cure = f"class {type(child).__name__}(AttachUploadsMixin, …)"
    raise ImproperlyConfigured(
        f"{type(root).__name__} has an UploadField, and does not attach its uploads. Their owners "
        f"could delete them while they are in use. AttachUploadsMixin attaches them: write {cure}."
    )


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
            inner = _field_of(field, key)
            name = getattr(inner, "field_name", "") or key
            left = key in leave or isinstance(_model_field(field, key), UploadFileField)
            if isinstance(each, Upload) and not left:
                _require_same_storage(each, field, key)
            attached[key] = each if left else _attached_at(name, each, inner)
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
        raise serializers.ValidationError({at: error.detail}) from None


def _errors_at(value: Any, field: Any, error: UploadError) -> Any:
    """The error in the shape of the data, where its upload stands; None if it is not there."""
    if isinstance(value, Upload):
        is_it = error.upload is not None and value.pk == error.upload.pk
        return [ErrorDetail(error.detail, error.code)] if is_it else None
    if isinstance(value, dict):
        for key, each in value.items():
            inner = _field_of(field, key)
            if found := _errors_at(each, inner, error):
                return {getattr(inner, "field_name", "") or key: found}
    if isinstance(value, list):
        for at, each in enumerate(value):
            if found := _errors_at(each, getattr(field, "child", None), error):
                return {at: found}
    return None


def _field_of(field: Any, key: Any) -> Any:
    """The field for the value at ``key`` in the data that ``field`` validated."""
    if isinstance(field, serializers.Serializer):
        return next((each for each in field.fields.values() if each.source == key), None)
    return getattr(field, "child", None)  # a DictField's


def _is_here(upload: Upload) -> bool:
    """Whether the current tenant's storage has this upload.

    True if the storage is the same for all tenants: then ``attach`` reports what is wrong.
    """
    storage = storages[upload.storage]
    if not any(is_asked_anew(storage, name) for name in ("location", "bucket_name")):
        return True
    try:
        return bool(upload.name)
    except ImproperlyConfigured:
        return False


def _attach(upload: Upload) -> str:
    try:
        return upload.attach()
    except (AlreadyAttached, NotCompleted) as error:
        # Another request was faster, after this one was validated.
        raise serializers.ValidationError([error.detail], code=error.code) from None


def _require_same_storage(upload: Upload, serializer: Any, source: str) -> None:
    """Raises ImproperlyConfigured if the model's field would look for the name elsewhere."""
    field = _model_field(serializer, source)
    storage = getattr(field, "storage", None)
    if storage is not None and _folder(storage) != _folder(storages[upload.storage]):
        raise ImproperlyConfigured(
            f"{field.model}.{source} has another storage than {upload.destination!r}: write "
            f"storage=storages[{upload.storage!r}] there, or STORAGE in the destination."
        )


def _model_field(serializer: Any, source: str) -> Any:
    model = getattr(getattr(serializer, "Meta", None), "model", None)
    return getattr(getattr(model, str(source), None), "field", None)  # a FileField's descriptor


def _folder(storage: Storage) -> tuple[str, str]:
    return getattr(storage, "bucket_name", ""), keys.location_of(storage)


class _File(NamedTuple):
    """A file in a storage."""

    storage: Storage
    name: str

    @property
    def key(self) -> str:
        return keys.join(keys.location_of(self.storage), self.name)


def _flat(value: Any) -> Iterator[FieldFile | str]:
    """The files in a value, which may be one file, or a list or dict of files."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _flat(each)
    elif isinstance(value, FieldFile | str) and value:
        yield value


def _url(file: _File, filename: str, content_type: str, *, confirmed: bool) -> str:
    """The URL of the file for a browser. A page is downloaded, so that its scripts do not run."""
    storage = file.storage
    if not (
        isinstance(storage, S3Storage) and signs_urls(storage) and takes(storage, "parameters")
    ):
        return storage.url(file.name)
    inline = content_types.is_safe_inline(content_type)
    # If the type was only guessed from the name, S3 may have another type, such as a page's.
    guessed = content_type if inline and not confirmed else ""
    parameters = answered_with(storage, inline=inline, filename=filename, content_type=guessed)
    url: str = storage.url(file.name, parameters=parameters)
    return url
