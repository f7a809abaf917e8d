"""The serializers of the answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from rest_framework import serializers

from s3direct_uploads import destinations, times
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import PresignedMultipart, PresignedRequest

from .building import BuiltOnce, represented


class MomentField(serializers.DateTimeField):
    """A time in UTC with a "Z", whatever a host's USE_TZ, TIME_ZONE and DATETIME_FORMAT are."""

    def to_representation(self, value: datetime) -> str:
        return times.utc(value).isoformat().replace("+00:00", "Z")


# The docstrings and help_texts of these serializers are in the OpenAPI schema.


URL_HELP = "It is a secret: anyone who has it can send the file."
HEADERS_HELP = "Send all of these headers, and add no others."


class PresignedSerializer(BuiltOnce):
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


class PresignedPartSerializer(BuiltOnce):
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


PRESIGNED = {"request": PresignedRequestSerializer, "multipart": PresignedMultipartSerializer}


class UploadSerializer(BuiltOnce, serializers.ModelSerializer[Upload]):
    """An upload. `request` or `multipart` says how to send the file, if it is to be sent now."""

    # `request` and `multipart` come from context["presigned"].

    # Declared here, because a host's settings (COERCE_…_TO_STRING) could change the default field.
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
    form_value = serializers.SerializerMethodField(
        help_text="What a form posts for this upload. It is a secret of the owner: anyone who has "
        "it can attach the upload to a model. For a visitor's upload, send it in the header "
        "Upload-Token too: anyone who has it can make every call. Null for a script's upload."
    )

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
            "form_value",
            "visitor",
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
            "visitor": {
                "help_text": "Whether it was begun without a login, so that it has no owner."
            },
        }

    def to_representation(self, upload: Upload) -> Any:
        answer = super().to_representation(upload)
        presigned = self.context.get("presigned")
        if presigned is not None and self.built() is not self:  # which knows no context
            for name, serializer in PRESIGNED.items():
                if isinstance(presigned, serializer.kind):
                    answer[name] = represented(serializer, presigned)
        return answer

    def get_reason(self, upload: Upload) -> str | None:
        return upload.localized_reason or None

    def get_form_value(self, upload: Upload) -> str | None:
        return upload.form_value


class StoredPartSerializer(BuiltOnce):
    part_number = serializers.IntegerField(min_value=1, max_value=destinations.MAX_PARTS)
    size = serializers.IntegerField(
        min_value=0, max_value=destinations.MAX_PART_SIZE, help_text="In bytes."
    )


class SignedPartsSerializer(BuiltOnce):
    parts = PresignedPartSerializer(many=True)
    expires_in = serializers.IntegerField(min_value=1, help_text="In seconds.")


class DownloadUrlSerializer(BuiltOnce):
    url = serializers.URLField(help_text="It is a secret: anyone who has it can read the file.")
    expires_in = serializers.IntegerField(min_value=1, help_text="In seconds.")
