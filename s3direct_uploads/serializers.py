"""What the client may say and is told; ``UploadField`` for the host's own serializers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import Storage, storages
from django.db import router, transaction
from django.db.models import QuerySet
from django.db.models.fields.files import FieldFile
from rest_framework import serializers
from rest_framework.fields import SkipField

from . import destinations, keys
from .bucket import PresignedMultipart, PresignedRequest
from .exceptions import AlreadyAttached, NotCompleted
from .models import Upload

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


class ChecksumSerializer(serializers.Serializer[Any]):
    algorithm = serializers.CharField()
    value = serializers.CharField()


class BeginSerializer(serializers.Serializer[Any]):
    """The form of a declaration. What it may say is the destination's matter."""

    destination = serializers.CharField()
    filename = TextField(trim_whitespace=False)
    size = WholeNumberField()
    content_type = serializers.CharField(required=False, allow_blank=True, allow_null=True)
    checksum = ChecksumSerializer(required=False, allow_null=True)
    context = serializers.DictField(required=False, allow_null=True)  # type: ignore[assignment]
    multipart = TrueOrFalseField(required=False, allow_null=True)

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
        child=WholeNumberField(), allow_empty=False, max_length=MOST_PARTS_SIGNED
    )


class ListQuerySerializer(serializers.Serializer[Any]):
    """Which of one's uploads to list; all are exact."""

    status = serializers.ChoiceField(choices=Upload.Status.choices, required=False)
    destination = serializers.CharField(required=False)
    filename = serializers.CharField(required=False, trim_whitespace=False)
    size = serializers.IntegerField(required=False, min_value=0, max_value=2**63 - 1)


class DownloadQuerySerializer(serializers.Serializer[Any]):
    disposition = serializers.ChoiceField(choices=["attachment", "inline"], default="attachment")


class UploadSerializer(serializers.ModelSerializer[Upload]):
    """An upload; with ``request`` or ``multipart``, as ``context["presigned"]`` has it."""

    # Said in full, for a host's settings would change them: COERCE_…_TO_STRING, DATETIME_FORMAT.
    size = serializers.IntegerField(read_only=True)
    created_at = serializers.DateTimeField(format="iso-8601", read_only=True)
    expires_at = serializers.DateTimeField(format="iso-8601", read_only=True)
    completed_at = serializers.DateTimeField(format="iso-8601", read_only=True, allow_null=True)
    request = serializers.SerializerMethodField()
    multipart = serializers.SerializerMethodField()
    reason = serializers.SerializerMethodField()

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

    def get_request(self, upload: Upload) -> dict[str, Any] | None:
        return self._presigned(PresignedRequest)

    def get_multipart(self, upload: Upload) -> dict[str, Any] | None:
        return self._presigned(PresignedMultipart)

    def _presigned(
        self, kind: type[PresignedRequest | PresignedMultipart]
    ) -> dict[str, Any] | None:
        presigned = self.context.get("presigned")
        return asdict(presigned) if isinstance(presigned, kind) else None

    def get_reason(self, upload: Upload) -> str | None:
        return upload.reason or None


class UploadField(serializers.Field[Any, Any, Any, Any]):
    """A completed upload, for a model's FileField.

    In: the id of an upload of the request's user, to this destination, that nothing holds yet;
    it becomes an Upload, which ``AttachUploadsMixin`` attaches.
    Out: ``{name, url, size, content_type}``.
    """

    default_error_messages = {
        "invalid": "An upload's id, please.",
        "does_not_exist": "You have no such upload.",
        "wrong_destination": "This was uploaded for something else.",
        "not_completed": "This upload is not completed.",
        "already_attached": "This upload is in use already.",
    }

    def __init__(self, *, destination: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self._uploads: dict[str, Upload | None] = {}

    def to_internal_value(self, data: Any) -> Upload:
        try:
            upload_id = UUID(data)
        except (ValueError, TypeError, AttributeError):
            self.fail("invalid")
        owner = self.context["request"].user
        # Not from a replica: it may have been confirmed a moment ago.
        mine = Upload.objects.using(router.db_for_write(Upload)).owned_by(owner)
        upload = mine.filter(pk=upload_id).first()
        if upload is None:
            self.fail("does_not_exist")
        if upload.destination != self.destination:
            self.fail("wrong_destination")
        if upload.status != Upload.Status.COMPLETED:
            self.fail("not_completed")
        if upload.attached_at:
            self.fail("already_attached")
        return upload

    def to_representation(self, file: FieldFile) -> dict[str, Any] | None:
        if not file:
            return None
        upload = self._upload_of(file)
        return {
            "name": file.name,
            "url": file.url,
            # A file that came in another way: its size would cost a request to S3 for each.
            "size": upload.size if upload else None,
            "content_type": upload.content_type
            if upload
            else destinations.guess_content_type(file.name or ""),
        }

    def _upload_of(self, file: FieldFile) -> Upload | None:
        key = _key(file)
        if key not in self._uploads:
            wanted = {key, *(_key(each) for each in self._files_in_list() if each)}
            found = {each.key: each for each in Upload.objects.filter(key__in=wanted)}
            self._uploads |= {each: found.get(each) for each in wanted}
        return self._uploads[key]

    def _files_in_list(self) -> list[Any]:
        """The files of all the rows that are being rendered, so that one query serves them all."""
        listing = self.parent and self.parent.parent
        if not isinstance(listing, serializers.ListSerializer):
            return []
        rows: Any = listing.instance
        if not isinstance(rows, list | tuple | QuerySet):
            return []
        files = []
        for each in rows:
            try:
                files.append(self.get_attribute(each))
            except (SkipField, AttributeError, KeyError):
                pass  # its own turn will tell
        return files


class AttachUploadsMixin(serializers.Serializer[Any]):
    # For a serializer with an UploadField: save() attaches in one transaction with the row. What a
    # nested serializer has validated is its host's to attach, as it is its host's to save.
    # (A docstring would describe the host's own serializer in its OpenAPI schema.)

    def save(self, **kwargs: Any) -> Any:
        with transaction.atomic(using=router.db_for_write(Upload)):
            said = {name: each for name, each in self.validated_data.items() if name not in kwargs}
            # validated_data itself keeps the uploads: a save that failed may be tried again.
            return super().save(**self._attached(said), **kwargs)

    def create(self, validated_data: dict[str, Any]) -> Any:
        with transaction.atomic(using=router.db_for_write(Upload)):
            return super().create(self._attached(validated_data))  # many=True comes here alone

    def _attached(self, said: dict[str, Any]) -> dict[str, Any]:
        return {
            name: self._attach(name, each) if isinstance(each, Upload) else each
            for name, each in said.items()
        }

    def _attach(self, source: str, upload: Upload) -> str:
        self._require_same_storage(source, upload)
        try:
            return upload.attach()
        except (AlreadyAttached, NotCompleted) as error:
            # Another request came first, after this one was found valid.
            field = next(name for name, each in self.fields.items() if each.source == source)
            raise serializers.ValidationError({field: [error.detail]}, code=error.code) from None

    def _require_same_storage(self, source: str, upload: Upload) -> None:
        """Else the name would mean another object, or none, to the model's field."""
        model = getattr(getattr(self, "Meta", None), "model", None)
        field = getattr(getattr(model, source, None), "field", None)  # a FileField's descriptor
        storage = getattr(field, "storage", None)
        if storage is not None and _folder(storage) != _folder(storages[upload.storage]):
            raise ImproperlyConfigured(
                f"{model}.{source} has another storage than {upload.destination!r}: write "
                f"storage=storages[{upload.storage!r}] there, or STORAGE in the destination."
            )


def _folder(storage: Storage) -> tuple[str, str]:
    return getattr(storage, "bucket_name", ""), keys.location_of(storage)


def _key(file: FieldFile) -> str:
    return keys.join(keys.location_of(file.storage), file.name or "")
