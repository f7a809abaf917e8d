"""The form of what a client sends. The destination validates its meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from s3direct_uploads import destinations
from s3direct_uploads.models import Upload

from .building import BuiltOnce

MOST_PARTS_SIGNED = 1_000  # in one answer, which then has about half a megabyte


class TextField(serializers.CharField):
    """A string. REST Framework's own field would also accept a number."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class WholeNumberField(serializers.IntegerField):
    """A whole number. REST Framework's own field would also accept a string."""

    def to_internal_value(self, data: Any) -> int:
        # REST Framework would call str() first, however long and deep the value is.
        if not isinstance(data, int | float | str):
            self.fail("invalid")
        number = super().to_internal_value(data)
        if isinstance(data, str):
            self.fail("invalid")
        return number


class TrueOrFalseField(serializers.BooleanField):
    """true or false. REST Framework's own field would also accept "yes" and 1."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class ChecksumSerializer(BuiltOnce):
    """A checksum of the whole file. S3 refuses a file that has another one.

    A SHA256 is 32 bytes long, a CRC32 4 bytes, a CRC64NVME 8 bytes. A file that is sent in parts
    takes CRC32 or CRC64NVME: S3 does not know the SHA256 of such a file.
    """

    algorithm = serializers.CharField(help_text="How the value was calculated.")
    value = serializers.CharField(help_text="The bytes of the checksum, in base64.")


class BeginSerializer(BuiltOnce):
    """A file to upload. The server ignores fields that it does not know.

    A file of more than 5 GiB needs `"multipart": true`: S3 takes it only in parts. The destination
    has more rules: how large a file may be, which types it takes, and who may upload.
    """

    # It validates only the form. The destination validates the rest.

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
        return self.declared(self.validated_data)

    @staticmethod
    def declared(said: Mapping[str, Any]) -> dict[str, Any]:
        """As ``declaration``, of data that is validated."""
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


USUAL = {"destination", "filename", "size", "content_type"}


def plain(data: Any) -> Mapping[str, Any] | None:
    """``data``, if BeginSerializer would return it unchanged; None if only the serializer can tell.

    To validate a hundred plain declarations takes a fifth of a batch's time.
    """
    if type(data) is not dict or not data.keys() <= USUAL:
        return None
    size = data.get("size")
    if type(size) is not int or not 0 <= size < 2**63:
        return None
    type_said = data.get("content_type", "any text")  # a client may leave it out
    for text in (data.get("destination"), data.get("filename"), type_said):
        # What is printable has no control characters and no lone surrogates.
        if type(text) is not str or not text or not text.isprintable() or text != text.strip():
            return None
    return data


class BoundedListField(serializers.ListField):
    """A list whose length is checked before its items. REST Framework does it the other way."""

    def to_internal_value(self, data: Any) -> list[Any]:
        if isinstance(data, list) and self.max_length is not None and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        return super().to_internal_value(data)


class PartNumbersSerializer(BuiltOnce):
    part_numbers = BoundedListField(
        child=WholeNumberField(),
        allow_empty=False,
        max_length=MOST_PARTS_SIGNED,
        help_text="From 1 to the upload's `part_count`.",
    )


class ListQuerySerializer(BuiltOnce):
    """Which of the user's uploads to list. Every value must match exactly."""

    status = serializers.ChoiceField(choices=Upload.Status.choices, required=False)
    destination = serializers.CharField(required=False)
    filename = serializers.CharField(required=False, trim_whitespace=False)
    size = serializers.IntegerField(required=False, min_value=0, max_value=2**63 - 1)

    def validate_filename(self, filename: str) -> str:
        return destinations.strip_invisible(filename)  # as begin keeps it


class DownloadQuerySerializer(BuiltOnce):
    disposition = serializers.ChoiceField(
        choices=["attachment", "inline"],
        default="attachment",
        help_text="`attachment` saves the file, `inline` shows it. Only common images (no SVG), "
        "video, audio and PDF can be shown.",
    )
