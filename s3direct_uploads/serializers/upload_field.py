"""``UploadField`` for the host's own serializers. ``attaching`` has the mixin that it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import Storage, storages
from django.db import router
from django.db.models import QuerySet
from django.db.models.fields.files import FieldFile
from django.db.models.manager import BaseManager
from django.utils.datastructures import MultiValueDict
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.fields import SkipField, empty
from storages.backends.s3 import S3Storage

from s3direct_uploads import content_types, destinations, form_values, keys
from s3direct_uploads.exceptions import OwnerUnknown
from s3direct_uploads.fields import UploadFileField
from s3direct_uploads.models import Upload, owner_key
from s3direct_uploads.storage import answered_with, signs_urls, takes

IDS_AT_ONCE = 500  # uploads that one query looks for; SQLite had a limit of 999 parameters
MAX_ID_LENGTH = 165  # of a form_value, by its pattern


class UploadField(serializers.Field[Any, Any, Any, Any]):
    """A completed upload, for a model's FileField, or for a JSONField (ListField, DictField).

    Input: the id of an upload that the request's user owns, that has this destination, and that no
    model has attached; or its ``form_value``, as ``<s3-upload>`` posts it. For a visitor's upload
    only the ``form_value``, whoever sends it. ``validated_data`` has the Upload.
    ``AttachUploadsMixin`` attaches it, and replaces it by its name; an ``UploadFileField`` of the
    model takes the Upload itself. The outermost serializer must have this mixin, even if the field
    is in a nested one. An update also accepts the file that the row already has, by its id or in
    the form that was read, and leaves it unchanged. In a list of serializers the field does not
    know which row is meant, unless the list sets ``child.instance``.
    With ``allow_null``, null or "" clears the field.

    Output: ``{name, url, size, content_type, filename}``. The URL shows types that are safe in a
    browser, and downloads the others. Without a signature it cannot do this: with a
    ``custom_domain`` that CloudFront does not sign, with ``querystring_auth=False``, or if the
    storage is not on S3. The URL is None if the upload is not completed.

    Raises ImproperlyConfigured if the mixin or the request is missing. For an ``UploadFileField``
    the mixin makes this field by itself. For another FileField::

        class PhotoSerializer(AttachUploadsMixin, serializers.ModelSerializer):
            image = UploadField(destination="photos")
    """

    default_error_messages = {
        "invalid": _("Send the id of an upload."),
        "does_not_exist": _("You have no such upload."),
        "wrong_destination": _("This upload is for another destination."),
        "not_completed": _("This upload is not completed."),
        "already_attached": _("This upload is in use already."),
        "not_current": _("This is not the current file. Send the id of an upload."),
    }

    def __init__(self, *, destination: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self._uploads: dict[str, Upload | None] = {}
        self._current: Any = None  # the row's value, and its files by name and by key
        self._current_names: dict[str, _File] = {}
        self._current_keys: dict[str, _File] = {}
        self._seen: dict[int, Any] = {}  # the rows whose uploads were looked for, by their list

    def run_validation(self, data: Any = empty) -> Any:
        _require_attaching(self.root)
        if data == "" and self.allow_null:
            data = None  # as DRF's own fields take it from an HTML form
        return super().run_validation(data)

    def to_internal_value(self, data: Any) -> Upload | str:
        if isinstance(data, Mapping):
            return self._as_it_was_read(data)
        upload_id = _id_in(data)
        if upload_id is None:
            self.fail("invalid")
        sent: SentUploads = getattr(self.root, "sent_uploads", SentUploads(data))
        upload = sent.find(upload_id)
        self._look_at_current()
        if upload and upload.attached_at and upload.key in self._current_keys:
            # The owner is not checked here: this row already has the file, so nothing changes.
            return self._unchanged(self._current_keys[upload.key])
        if not self._is_own(upload, data):
            self.fail("does_not_exist")
        if upload.destination != self.destination or not upload.is_here:
            self.fail("wrong_destination")
        if upload.status != Upload.Status.COMPLETED:
            self.fail("not_completed")
        if upload.attached_at and not self._has_it_by_now(upload):
            self.fail("already_attached")
        return upload

    def _is_own(self, upload: Upload | None, data: str) -> TypeGuard[Upload]:
        if "request" not in self.context:
            raise ImproperlyConfigured(
                "An UploadField needs the request's user: write context={'request': request}."
            )
        if upload is not None and upload.visitor:  # whoever has its form_value may use it
            return upload.is_proven_by(data)
        try:
            owner = owner_key(self.context["request"].user)
        except OwnerUnknown:
            return False
        if upload is None or upload.owner_id != owner:
            return False
        form_value = form_values.VALUE.fullmatch(data)
        return not (form_value and form_value[2] is not None) or upload.is_proven_by(data)

    def to_representation(self, value: FieldFile | Upload | str) -> dict[str, Any] | None:
        if not value:
            return None
        file = self._file(value)
        upload = value if isinstance(value, Upload) else self._upload_of(file)
        # Without an upload the size is unknown. To find it, each file would need a request to S3.
        size = upload.size if upload else None
        content_type = upload.content_type if upload else content_types.guess(file.name)
        filename = (upload.filename if upload else "") or file.name.rpartition("/")[2]
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

    def _has_it_by_now(self, upload: Upload) -> bool:
        """Whether the row got this file after its instance was read: by the same request, sent
        twice. The save finds it there, and changes nothing."""
        row = getattr(self.parent, "instance", None)
        column = getattr(getattr(type(row), str(self.source), None), "field", None)
        return isinstance(column, UploadFileField) and column.has(row, upload)

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
        if parent is None or isinstance(parent.instance, list | tuple | QuerySet | BaseManager):
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

    def _files_in_list(self) -> Iterator[_File]:
        """The files of all rows that are being rendered, so that one query finds their uploads."""
        path: list[Any] = []
        field: Any = self
        while field is not None:
            if isinstance(field, serializers.ListSerializer) or field.parent is None:
                rows = getattr(field, "rows_shown", getattr(field, "instance", None))
                if rows is not None and self._seen.get(id(field)) is not rows:
                    self._seen[id(field)] = rows
                    yield from map(self._file, _flat(_values(rows, path)))
            if isinstance(field.parent, serializers.Serializer):
                path.insert(0, field)
            field = field.parent


def _attaches(serializer: Any) -> bool:
    return getattr(serializer, "attaches_uploads", False)


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


class _File(NamedTuple):
    """A file in a storage."""

    storage: Storage
    name: str

    @property
    def key(self) -> str:
        return keys.join(keys.location_of(self.storage), self.name)


class SentUploads:
    """The uploads whose ids a client sent. They are read from the primary, many at once.

    From the primary, because an upload may have been confirmed a moment ago.
    """

    def __init__(self, data: Any) -> None:
        self._data = data
        self._ids: list[UUID] | None = None  # those in the data, in their order
        self._places: dict[UUID, int] = {}
        self._found: dict[UUID, Upload | None] = {}

    def find(self, id: UUID) -> Upload | None:
        if id not in self._found:
            if self._ids is None:
                self._ids = list(dict.fromkeys(_ids_in(self._data)))
                self._places = {each: place for place, each in enumerate(self._ids)}
            # This one, and those that will probably be wanted next.
            place = self._places.get(id, len(self._ids))
            wanted = self._ids[place : place + IDS_AT_ONCE] or [id]
            found = Upload.objects.using(router.db_for_write(Upload)).in_bulk(wanted)
            self._found |= {each: found.get(each) for each in wanted}
        return self._found[id]


def _ids_in(data: Any) -> Iterator[UUID]:
    todo = [data]  # no recursion, because a client chooses the depth
    while todo:
        value = todo.pop()
        if isinstance(value, MultiValueDict):
            todo += [each for _, each in reversed(list(value.lists()))]
        elif isinstance(value, Mapping):
            todo += reversed(list(value.values()))
        elif isinstance(value, list):
            todo += reversed(value)
        elif isinstance(value, str) and len(value) <= MAX_ID_LENGTH and (found := _id_in(value)):
            yield found


def _id_in(value: Any) -> UUID | None:
    """The id that a client sent, alone or in a ``form_value``."""
    said = form_values.VALUE.fullmatch(value) if isinstance(value, str) else None
    try:
        return UUID(said[1] if said else value)
    except (ValueError, TypeError, AttributeError):
        return None


def _values(rows: Any, path: list[Any]) -> list[Any]:
    """What the fields of ``path`` get, one after the other, of the rows that were read already."""
    values = _read(rows)
    for step in path:
        found = []
        for each in values:
            try:
                found += _read(step.get_attribute(each))
            except (SkipField, AttributeError, KeyError):
                pass  # it is reported when this row itself is rendered
        values = found
    return values


def _read(value: Any) -> list[Any]:
    """The rows in a value, if they have been read already; or the value itself."""
    if isinstance(value, BaseManager):
        value = value.all()  # has what prefetch_related() read
    if isinstance(value, QuerySet):
        return value._result_cache or []
    return value if isinstance(value, list) else [value]


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
