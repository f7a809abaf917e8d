"""Serializers of the answers that REST Framework or the views render without a serializer."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from s3direct_uploads.destinations import MAX_OBJECT_SIZE
from s3direct_uploads.serializers import UploadSerializer


@extend_schema_serializer(many=False)  # else the answer to a list would be a list of pages
class PageSerializer(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = UploadSerializer(many=True)


class ErrorItemSerializer(serializers.Serializer[Any]):
    field = serializers.CharField(
        allow_null=True, help_text="A nested field has dots in its name: `checksum.value`."
    )
    code = serializers.CharField(
        help_text="Such as `too_large`. A destination may have codes of its own."
    )
    detail = serializers.CharField(help_text="A text for people.")
    params = serializers.DictField(help_text='What would be right: `{"max_size": 20971520}`.')


class ErrorSerializer(serializers.Serializer[Any]):
    code = serializers.CharField(help_text="A code for programs. It never changes.")
    detail = serializers.CharField(help_text="A text for people.")
    errors = ErrorItemSerializer(  # type: ignore[assignment]
        many=True,
        help_text="Each thing that is wrong with an `invalid` request. For `parts_incomplete`, the "
        "codes `missing`, `wrong_size` and `replaced`, each with its `part_numbers`. For "
        "`quota_exceeded` and `too_many_pending`, what is `left`.",
    )
    upload = UploadSerializer(
        required=False,
        help_text="The upload as it is after the error. 409, 410 and 422 always have it, except "
        "`not_in_batch` of a file that did not begin.",
    )
    retry_after = serializers.IntegerField(
        required=False, min_value=1, help_text="In seconds. 429 and 503 always have it."
    )


class ResultSerializer(serializers.Serializer[Any]):
    """What the call for this upload alone would answer."""

    status = serializers.IntegerField(help_text="The HTTP status: below 300 if there is an upload.")
    upload = UploadSerializer(allow_null=True, help_text="Null if there is an error.")
    error = ErrorSerializer(allow_null=True, help_text="Null if there is none.")


class BatchSerializer(serializers.Serializer[Any]):
    results = ResultSerializer(many=True)


class FileSerializer(serializers.Serializer[Any]):
    """What an ``UploadField`` shows."""

    name = serializers.CharField(help_text="Where the file lies in the storage.")
    url = serializers.URLField(
        allow_null=True, help_text="The file can be read there; null if it is not completed."
    )
    size = serializers.IntegerField(
        allow_null=True, min_value=0, max_value=MAX_OBJECT_SIZE, help_text="In bytes, if known."
    )
    content_type = serializers.CharField(help_text="As uploaded, or as the server guessed.")
    filename = serializers.CharField(help_text="As its owner named it, if known.")
