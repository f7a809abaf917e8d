"""The components of the OpenAPI document: our serializers, with names and more limits.

All names begin with DirectUpload, because a host may have an UploadSerializer of its own. The
limits are those that a serializer does not validate.
"""
# mypy: untyped-calls-exclude="drf_spectacular"

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerExtension, OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent, append_meta
from drf_spectacular.settings import spectacular_settings
from drf_spectacular.utils import Direction

from s3direct_uploads import conf, content_types, serializers
from s3direct_uploads.destinations import (
    CHECKSUM_BYTES,
    MAX_FILENAME_LENGTH,
    MAX_OBJECT_SIZE,
    MAX_PARTS,
)
from s3direct_uploads.lifecycle import FIRST_PARTS
from s3direct_uploads.views import NewestFirst

from . import answers

JSON = dict[str, Any]

# The rules of the destinations as patterns, so that a client can validate before it calls. Without
# lookaheads, because tools that generate data from patterns are slow with them. Without \w and \d,
# because Python and ECMA 262 mean other characters by them.
_NOT_IN_NAMES = r"/\\\u0000-\u001f\u007f-\u009f"
_UNSEEN = r"\s\u061c\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff"
FILENAME = rf"^[^{_NOT_IN_NAMES}]*[^{_NOT_IN_NAMES}{_UNSEEN}][^{_NOT_IN_NAMES}]*$"
_WORD = r"[A-Za-z0-9!#$&^_.+-]+"
_PARAMETER = r' *; *[A-Za-z0-9_.+-]+=([A-Za-z0-9_.,+-]+|"[A-Za-z0-9_.+, =-]*")'
CONTENT_TYPE = rf"^({_WORD}/{_WORD}({_PARAMETER})*)?$"
# 32, 4 or 8 bytes in base64. The last letter has unused bits, which must be zero.
CHECKSUM = (
    "^([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=|[A-Za-z0-9+/]{5}[AQgw]==|"
    "[A-Za-z0-9+/]{10}[AEIMQUYcgkosw048]=)$"
)
NO_NUL = r"^[^\u0000]*$"
NO_NUL_NOR_BLANK = r"^([^\u0000]*[^\u0000\s][^\u0000]*)?$"


def _destination() -> JSON:
    names = sorted(map(str, conf.destinations()))
    return {"minLength": 1, **({"enum": names} if names else {})}


# drf-spectacular would name an enum only by its field, and a host may have a StatusEnum.
ENUMS = {
    "algorithm": "DirectUploadChecksumAlgorithm",
    "destination": "DirectUploadDestination",
    "method": "DirectUploadMethod",
    "status": "DirectUploadStatus",
}


class Description(OpenApiSerializerExtension):
    name: str
    limits: Mapping[str, JSON | Callable[[], JSON]]  # by field

    def get_name(self, auto_schema: AutoSchema, direction: Direction) -> str:
        return self.name

    def map_serializer(self, auto_schema: AutoSchema, direction: Direction) -> JSON:
        schema: JSON = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        fields = self.target.fields
        properties = schema.get("properties", {})
        for name, property in properties.items():
            property.pop("readOnly", None)  # no client sends an answer back
            limits = self.limits.get(name, {})
            property.update(limits() if callable(limits) else limits)
            if "enum" in property:
                properties[name] = _named_enum(auto_schema, fields[name], property)
        if properties:
            needed = [name for name in properties if _is_required(fields[name])]
            schema["required"] = needed
            if not needed:  # OpenAPI 3.0 allows no empty list
                del schema["required"]
        return schema


def _is_required(field: Any) -> bool:
    return bool(field.required or field.read_only)


def _named_enum(auto_schema: AutoSchema, field: Any, schema: JSON) -> JSON:
    schema.pop("x-spec-enum-id", None)
    schema.pop("description", None)  # it only repeats the choices
    described = {"description": str(field.help_text)} if field.help_text else {}
    if field.field_name not in ENUMS:
        return {**schema, **described}
    component = ResolvedComponent(ENUMS[field.field_name], ResolvedComponent.SCHEMA, schema)
    component.object = component.name
    auto_schema.registry.register_on_missing(component)
    reference: JSON = append_meta(component.ref, described)
    return reference


def _describe(serializer: type, name: str, **limits: Any) -> None:
    """Describe this class only. A host's subclass of it gets a name of its own."""
    about = {"target_class": serializer, "name": name, "limits": limits}
    type(f"{name}Description", (Description,), about)  # drf-spectacular keeps all subclasses


_describe(
    serializers.BeginSerializer,
    "DirectUploadDeclaration",
    destination=_destination,
    filename={
        "minLength": 1,
        "maxLength": MAX_FILENAME_LENGTH,
        "pattern": FILENAME,
        "not": {"enum": [".", ".."]},
    },
    size={"format": "int64", "minimum": 0, "maximum": MAX_OBJECT_SIZE},
    content_type={"maxLength": content_types.MAX_LENGTH, "pattern": CONTENT_TYPE},
)
_describe(
    serializers.ChecksumSerializer,
    "DirectUploadChecksum",
    algorithm={"enum": list(CHECKSUM_BYTES)},
    value={"pattern": CHECKSUM},
)
_describe(
    serializers.PartNumbersSerializer,
    "DirectUploadPartNumbers",
    part_numbers={
        "minItems": 1,
        "items": {"type": "integer", "minimum": 1, "maximum": MAX_PARTS},
    },
)
_describe(
    serializers.ListQuerySerializer,
    "DirectUploadListQuery",
    # An empty parameter is the same as none, but drf-spectacular would write that it is refused.
    destination={"minLength": 0, "pattern": NO_NUL_NOR_BLANK},
    filename={"minLength": 0, "pattern": NO_NUL},
)
_describe(serializers.DownloadQuerySerializer, "DirectUploadDownloadQuery")
_describe(
    serializers.UploadSerializer,
    "DirectUpload",
    context={"type": "object", "additionalProperties": {}},
)
_describe(serializers.PresignedRequestSerializer, "DirectUploadPresignedRequest")
_describe(serializers.PresignedPartSerializer, "DirectUploadPart")
_describe(
    serializers.PresignedMultipartSerializer,
    "DirectUploadPresignedMultipart",
    parts={"minItems": 1, "maxItems": FIRST_PARTS},
)
_describe(
    serializers.SignedPartsSerializer,
    "DirectUploadSignedParts",
    parts={"minItems": 1, "maxItems": serializers.MOST_PARTS_SIGNED},
)
_describe(serializers.StoredPartSerializer, "DirectUploadStoredPart")
_describe(serializers.BeginBatchSerializer, "DirectUploadDeclarations", uploads={"minItems": 1})
_describe(
    serializers.ConfirmBatchSerializer,
    "DirectUploadIds",
    # Any text is an id: if there is no such upload, its result says so.
    ids={"minItems": 1, "items": {"type": "string", "minLength": 1, "pattern": NO_NUL_NOR_BLANK}},
)
_describe(answers.ResultSerializer, "DirectUploadResult")
_describe(
    answers.BatchSerializer,
    "DirectUploadBatch",
    results={"minItems": 1, "maxItems": serializers.MOST_IN_BATCH},
)
_describe(answers.PageSerializer, "DirectUploadPage", results={"maxItems": NewestFirst.page_size})
_describe(serializers.DownloadUrlSerializer, "DirectUploadUrl")
_describe(answers.ErrorSerializer, "DirectUploadError")
_describe(answers.ErrorItemSerializer, "DirectUploadErrorItem")
_describe(answers.FileSerializer, "DirectUploadFile")


class UploadFieldDescription(OpenApiSerializerFieldExtension):
    target_class = "s3direct_uploads.serializers.UploadField"
    match_subclasses = True

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> JSON:
        written = {
            "type": "string",
            "format": "uuid",
            "description": "The id of a completed upload of your own, to "
            f"`{self.target.destination}`, that nothing uses. An update also takes what was read, "
            "if the field still has that file.",
        }
        read: JSON = auto_schema._map_serializer(answers.FileSerializer, direction)
        if not self.target.required:
            read = append_meta(read, {"nullable": True})  # as OpenAPI 3.0 or 3.1 has it
        if not spectacular_settings.COMPONENT_SPLIT_REQUEST:
            # One component must do for both directions.
            return {"oneOf": [written, read], "description": "Written as an id, read as an object."}
        return written if direction == "request" else read
