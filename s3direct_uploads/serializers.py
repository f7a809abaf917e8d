"""What the client may say and is told; ``UploadField`` for the host's own serializers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import Storage, storages
from django.db import router, transaction
from django.db.models import Manager, QuerySet
from django.db.models.fields.files import FieldFile
from rest_framework import serializers
from rest_framework.fields import SkipField, empty
from storages.backends.s3 import S3Storage

from . import content_types, destinations, keys, times
from .exceptions import AlreadyAttached, NotCompleted
from .models import Upload
from .s3 import PresignedMultipart, PresignedRequest
from .storage import answered_with, is_asked_anew, signs_urls, takes

MOST_PARTS_SIGNED = 1_000  # in one answer, which then has half a megabyte


class TextField(serializers.CharField):
    """A string, where REST Framework would take a number for one."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class WholeNumberField(serializers.IntegerField):
    """A number, where REST Framework would take a string for one."""

    def to_internal_value(self, data: Any) -> int:
        # REST Framework would take str() of it first, however long and deep it is.
        if not isinstance(data, int | float | str):
            self.fail("invalid")
        number = super().to_internal_value(data)
        if isinstance(data, str):
            self.fail("invalid")
        return number


class TrueOrFalseField(serializers.BooleanField):
    """true or false, where REST Framework would take "yes" and 1 for the former."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class MomentField(serializers.DateTimeField):
    """In UTC, and said so, whatever a host's USE_TZ, TIME_ZONE and DATETIME_FORMAT are."""

    def to_representation(self, value: datetime) -> str:
        return times.utc(value).isoformat().replace("+00:00", "Z")


# Of the serializers that follow, each docstring and each help_text stands in the OpenAPI schema.


class ChecksumSerializer(serializers.Serializer[Any]):
    """A checksum of the whole file. S3 refuses a file that has another one.

    A SHA256 is 32 bytes long, a CRC32 4 bytes, a CRC64NVME 8 bytes. A file that is sent in parts
    takes CRC32 or CRC64NVME: S3 does not know the SHA256 of such a file.
    """

    algorithm = serializers.CharField(help_text="How the value was calculated.")
    value = serializers.CharField(help_text="The bytes of the checksum, in base64.")


class BeginSerializer(serializers.Serializer[Any]):
    """A file to upload. The server ignores fields that it does not know.

    A file of more than 5 GiB needs `"multipart": true`: S3 takes it only in parts. The destination
    has more rules: how large a file may be, which types it takes, and who may upload.
    """

    # It checks only the form. What a declaration may say is the destination's matter.

    destination = serializers.CharField(help_text="The name of the rules for this upload.")
    filename = TextField(
        trim_whitespace=False,
        help_text="A name, not a path. The server removes invisible characters and keeps the rest.",
    )
    size = WholeNumberField(help_text="In bytes. S3 refuses a file of any other size.")
    content_type = serializers.CharField(
        required=False,
        allow_blank=True,
        allow_null=True,
        help_text="If it is absent, null or empty, the server guesses it from the filename.",
    )
    checksum = ChecksumSerializer(required=False, allow_null=True)
    context = serializers.DictField(  # type: ignore[assignment]
        required=False,
        allow_null=True,
        help_text="A note to the server, if the destination takes one. As JSON it has at most "
        f"{destinations.MAX_CONTEXT_BYTES} bytes.",
    )
    multipart = TrueOrFalseField(
        required=False,
        allow_null=True,
        help_text="Whether the client can send the file in parts. If it can, a file that is larger "
        "than one part is sent in parts. If S3 has no conditional writes, every file is sent in "
        "parts.",
    )

    def declaration(self) -> dict[str, Any]:
        """The arguments of ``lifecycle.begin``. Raises rest_framework's ValidationError."""
        self.is_valid(raise_exception=True)
        said = self.validated_data
        checksum = said.get("checksum") or {}
        return {
            "destination": said["destination"],
            "filename": said["filename"],
            "size": said["size"],
            "content_type": said.get("content_type") or "",
            "checksum_algorithm": checksum.get("algorithm", ""),
            "checksum": checksum.get("value", ""),
            "context": said.get("context"),
            "multipart": said.get("multipart") or False,
        }


class BoundedListField(serializers.ListField):
    """A list whose length is checked first, where REST Framework validates all its items before."""

    def to_internal_value(self, data: Any) -> list[Any]:
        if isinstance(data, list) and self.max_length is not None and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        return super().to_internal_value(data)


class PartNumbersSerializer(serializers.Serializer[Any]):
    part_numbers = BoundedListField(
        child=WholeNumberField(),
        allow_empty=False,
        max_length=MOST_PARTS_SIGNED,
        help_text="From 1 to the upload's `part_count`.",
    )


class ListQuerySerializer(serializers.Serializer[Any]):
    """Which of one's uploads to list; all are exact."""

    status = serializers.ChoiceField(choices=Upload.Status.choices, required=False)
    destination = serializers.CharField(required=False)
    filename = serializers.CharField(required=False, trim_whitespace=False)
    size = serializers.IntegerField(required=False, min_value=0, max_value=2**63 - 1)

    def validate_filename(self, filename: str) -> str:
        return destinations.strip_invisible(filename)  # as begin keeps it


class DownloadQuerySerializer(serializers.Serializer[Any]):
    disposition = serializers.ChoiceField(
        choices=["attachment", "inline"],
        default="attachment",
        help_text="`attachment` saves the file, `inline` shows it. Only common images (no SVG), "
        "video, audio and PDF can be shown.",
    )


URL_HELP = "It is a secret: anyone who has it can send the file."
HEADERS_HELP = "Send all of these headers, and add no others."


class PresignedSerializer(serializers.Serializer[Any]):
    kind: type[PresignedRequest | PresignedMultipart]

    def get_attribute(self, upload: Upload) -> Any:
        presigned = self.context.get("presigned")
        return presigned if isinstance(presigned, self.kind) else None


class PresignedRequestSerializer(PresignedSerializer):
    """The request to send to S3, exactly as it is written here."""

    kind = PresignedRequest

    method = serializers.ChoiceField(choices=["PUT"])
    url = serializers.URLField(help_text=URL_HELP)
    headers = serializers.DictField(child=serializers.CharField(), help_text=HEADERS_HELP)
    expires_in = serializers.IntegerField(min_value=1, help_text="In seconds.")


class PresignedPartSerializer(serializers.Serializer[Any]):
    """One part of the file. Send exactly this part to S3, by PUT."""

    part_number = serializers.IntegerField(min_value=1, max_value=destinations.MAX_PARTS)
    size = serializers.IntegerField(
        min_value=0,
        max_value=destinations.MAX_PART_SIZE,
        help_text="In bytes. S3 refuses a part of any other size.",
    )
    url = serializers.URLField(help_text=URL_HELP)
    headers = serializers.DictField(child=serializers.CharField(), help_text=HEADERS_HELP)


class PresignedMultipartSerializer(PresignedSerializer):
    """How to send the file to S3 in parts."""

    kind = PresignedMultipart

    part_size = serializers.IntegerField(
        min_value=destinations.MIN_PART_SIZE,
        max_value=destinations.MAX_PART_SIZE,
        help_text="In bytes. The last part may be smaller.",
    )
    part_count = serializers.IntegerField(
        min_value=1,
        max_value=destinations.MAX_PARTS,
        help_text="Send all of the parts, in any order.",
    )
    parts = PresignedPartSerializer(
        many=True, help_text="The first parts. Ask for the others when you need them."
    )
    expires_in = serializers.IntegerField(min_value=1, help_text="In seconds.")


class UploadSerializer(serializers.ModelSerializer[Upload]):
    """An upload. `request` or `multipart` says how to send the file, if it is to be sent now."""

    # They are in context["presigned"].

    # Said in full, for a host's settings would change it: COERCE_…_TO_STRING.
    size = serializers.IntegerField(
        read_only=True, min_value=0, max_value=destinations.MAX_OBJECT_SIZE, help_text="In bytes."
    )
    created_at = MomentField(read_only=True)
    expires_at = MomentField(read_only=True, help_text="The deadline. It is never extended.")
    completed_at = MomentField(read_only=True, allow_null=True)
    request = PresignedRequestSerializer(
        read_only=True,
        allow_null=True,
        help_text="Null if there is nothing to send, or if the file is sent in parts.",
    )
    multipart = PresignedMultipartSerializer(
        read_only=True,
        allow_null=True,
        help_text="Null if there is nothing to send, or if the file is sent by one PUT.",
    )
    reason = serializers.SerializerMethodField(help_text="Why the upload was rejected.")

    class Meta:
        model = Upload
        fields = [
            "id",
            "status",
            "destination",
            "filename",
            "content_type",
            "size",
            "context",
            "created_at",
            "expires_at",
            "completed_at",
            "reason",
            "request",
            "multipart",
        ]
        read_only_fields = fields
        extra_kwargs: ClassVar[dict[str, Any]] = {
            "id": {"help_text": "The other calls name the upload by it."},
            "status": {"help_text": "Treat a status that you do not know as not final."},
            "filename": {"help_text": "As the client declared it."},
            "content_type": {"help_text": "As the client declared it, or as the server guessed."},
            "context": {"help_text": "As the destination kept it."},
        }

    def get_reason(self, upload: Upload) -> str | None:
        return upload.reason or None


class UploadField(serializers.Field[Any, Any, Any, Any]):
    """A completed upload, for a model's FileField, or for a JSONField by ListField or DictField.

    In: the id of an upload of the request's user, to this destination, that nothing holds yet. It
    becomes an Upload in ``validated_data``, and a name when ``AttachUploadsMixin`` has attached it:
    the outermost serializer must have that mixin, wherever in it the field stands. An update also
    takes what is there already, by its id or as it was read, and leaves it as it is. In a list of
    serializers it cannot know which row is meant, unless the list sets ``child.instance``.

    Out: ``{name, url, size, content_type, filename}``. The URL shows what is safe to be shown, and
    downloads the rest; not where it has no signature that could say so (a ``custom_domain`` without
    CloudFront's, ``querystring_auth``, a storage that is not on S3).

    Raises ImproperlyConfigured where the mixin or the request is missing.
    """

    default_error_messages = {
        "invalid": "An upload's id, please.",
        "does_not_exist": "You have no such upload.",
        "wrong_destination": "This was uploaded for something else.",
        "not_completed": "This upload is not completed.",
        "already_attached": "This upload is in use already.",
        "not_current": "This is not the file that is here now: send an upload's id.",
    }

    def __init__(self, *, destination: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self._uploads: dict[str, Upload | None] = {}
        self._current: Any = None  # what the row holds, and its files by their names and keys
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
        # Not from a replica: it may have been confirmed a moment ago.
        uploads = Upload.objects.using(router.db_for_write(Upload))
        self._look_at_current()
        if self._current_keys:
            # Anybody's: this row holds it already, so nothing changes.
            here = uploads.filter(pk=upload_id, attached_at__isnull=False).first()
            if here and here.key in self._current_keys:
                return self._unchanged(self._current_keys[here.key])
        if "request" not in self.context:
            raise ImproperlyConfigured(
                "An UploadField asks whose upload it is: write context={'request': request}."
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
        # A file that came in another way: its size would cost a request to S3 for each.
        size = upload.size if upload else None
        content_type = upload.content_type if upload else content_types.guess(file.name)
        filename = upload.filename if upload else file.name.rpartition("/")[2]
        return {
            "name": file.name,
            "url": _url(file, filename, content_type, confirmed=upload is not None),
            "size": size,
            "content_type": content_type,
            "filename": filename,
        }

    # What is there already.

    def _as_it_was_read(self, data: Mapping[Any, Any]) -> str:
        self._look_at_current()
        name = data.get("name")
        if not isinstance(name, str) or name not in self._current_names:
            is_new = getattr(self.root, "instance", None) is None
            self.fail("invalid" if is_new else "not_current")
        return self._unchanged(self._current_names[name])

    def _unchanged(self, file: _File) -> str:
        if isinstance(self.parent, serializers.BaseSerializer):
            raise SkipField  # assigned anew, an ImageField would read the file for its dimensions
        return file.name

    def _look_at_current(self) -> None:
        value = self._current_value()
        if value is self._current:
            return  # looked at already, for another item of the same list
        files = [self._file(each) for each in _flat(value)]
        self._current = value
        self._current_names = {each.name: each for each in files}
        self._current_keys = {each.key: each for each in files}

    def _current_value(self) -> Any:
        """What the row that is updated holds in this field, and no other row; None if nothing."""
        path: list[Any] = []
        field: Any = self
        while (parent := field.parent) is not None:
            if isinstance(parent, serializers.ListSerializer):
                return None  # nobody says which row is meant
            if isinstance(parent, serializers.BaseSerializer):
                path.append(field)
                if parent.instance is not None:
                    break
            field = parent
        # With many=True REST Framework gives the child all the rows.
        if parent is None or isinstance(parent.instance, list | tuple | QuerySet | Manager):
            return None
        value = parent.instance
        try:
            for step in reversed(path):
                value = step.get_attribute(value)
        except (SkipField, AttributeError, KeyError):
            return None
        return value

    # What is shown.

    def _file(self, value: FieldFile | Upload | str) -> _File:
        if isinstance(value, Upload):
            return _File(storages[value.storage], value.name)
        if isinstance(value, FieldFile):
            return _File(value.storage, value.name or "")
        rules = destinations.find(self.destination)  # a name, in a JSONField
        if rules is None:
            raise ImproperlyConfigured(f"An UploadField names no destination: {self.destination!r}")
        return _File(storages[rules.storage], value)

    def _upload_of(self, file: _File) -> Upload | None:
        if file.key not in self._uploads:
            wanted = {file.key, *(each.key for each in self._files_in_list())}
            found = {each.key: each for each in Upload.objects.filter(key__in=wanted)}
            self._uploads |= {each: found.get(each) for each in wanted}
        return self._uploads[file.key]

    def _files_in_list(self) -> list[_File]:
        """The files of all the rows that are being rendered, so that one query serves them all."""
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
                pass  # its own turn will tell
        return [self._file(each) for each in _flat(values)]


class AttachUploadsMixin(serializers.BaseSerializer[Any]):
    # For the outermost serializer around an UploadField: save() attaches in one transaction with
    # the rows, and create() and update() get names instead of uploads, nested ones included.
    # (A docstring would describe the host's own serializer in its OpenAPI schema.)

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
            # What save() gets by a keyword replaces an upload, which then stays unattached.
            self._validated_data = _attached(said, self, leave=kwargs)
            kwargs |= _attached(given, one)
            try:
                return super().save(**kwargs)
            finally:
                self._validated_data = said  # a save that failed may be tried again


@cache
def _attaching(list_serializer: Any) -> type:
    return type(list_serializer.__name__, (AttachUploadsMixin, list_serializer), {})


def _attaches(serializer: object) -> bool:
    order = type(serializer).__mro__
    if AttachUploadsMixin not in order:
        return False
    late = order[: order.index(AttachUploadsMixin)]
    return serializers.ListSerializer not in late  # which has a save() of its own


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
        f"{type(root).__name__} has an UploadField and would not attach what that takes; its owner "
        f"could delete it while it is in use. AttachUploadsMixin attaches: write {cure}."
    )


def _attached(value: Any, field: Any, leave: Collection[str] = ()) -> Any:
    """``value`` with the names of its uploads, now attached, in their place; but for ``leave``.

    ``field`` is what has validated it, None where nobody knows. Raises rest_framework's
    ValidationError, in the shape of the data.
    """
    if isinstance(value, Upload):
        # A foreign key to Upload wants the row itself.
        return value if isinstance(field, serializers.RelatedField) else _attach(value)
    if isinstance(value, dict):
        attached = {}
        for key, each in value.items():
            if isinstance(each, Upload) and key not in leave:
                _require_same_storage(each, field, key)
            inner = _field_of(field, key)
            name = getattr(inner, "field_name", "") or key
            attached[key] = each if key in leave else _attached_at(name, each, inner)
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


def _field_of(field: Any, key: Any) -> Any:
    """The field whose value stands at ``key`` of what ``field`` has validated."""
    if isinstance(field, serializers.Serializer):
        return next((each for each in field.fields.values() if each.source == key), None)
    return getattr(field, "child", None)  # a DictField's


def _is_here(upload: Upload) -> bool:
    """False for a tenant's in another tenant's turn. Else ``attach`` says what is wrong."""
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
        # Another request came first, after this one was found valid.
        raise serializers.ValidationError([error.detail], code=error.code) from None


def _require_same_storage(upload: Upload, serializer: Any, source: str) -> None:
    """Else the name would mean another object, or none, to the model's field."""
    model = getattr(getattr(serializer, "Meta", None), "model", None)
    field = getattr(getattr(model, source, None), "field", None)  # a FileField's descriptor
    storage = getattr(field, "storage", None)
    if storage is not None and _folder(storage) != _folder(storages[upload.storage]):
        raise ImproperlyConfigured(
            f"{model}.{source} has another storage than {upload.destination!r}: write "
            f"storage=storages[{upload.storage!r}] there, or STORAGE in the destination."
        )


def _folder(storage: Storage) -> tuple[str, str]:
    return getattr(storage, "bucket_name", ""), keys.location_of(storage)


class _File(NamedTuple):
    """A file where it is stored."""

    storage: Storage
    name: str

    @property
    def key(self) -> str:
        return keys.join(keys.location_of(self.storage), self.name)


def _flat(value: Any) -> Iterator[FieldFile | str]:
    """The files in a value: one, or those of a list or dict of them."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _flat(each)
    elif isinstance(value, FieldFile | str) and value:
        yield value


def _url(file: _File, filename: str, content_type: str, *, confirmed: bool) -> str:
    """Where a browser finds the file. A page is downloaded: it would run on S3's host."""
    storage = file.storage
    if not (
        isinstance(storage, S3Storage) and signs_urls(storage) and takes(storage, "parameters")
    ):
        return storage.url(file.name)
    inline = content_types.is_safe_inline(content_type)
    # Where it was guessed from the name, S3 may have the file as something else: as a page.
    guessed = content_type if inline and not confirmed else ""
    parameters = answered_with(storage, inline=inline, filename=filename, content_type=guessed)
    url: str = storage.url(file.name, parameters=parameters)
    return url
