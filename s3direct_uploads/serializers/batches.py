"""The form of batches: many declarations, or many ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from .building import BuiltOnce
from .requests import BeginSerializer, BoundedListField, TextField, plain

MOST_IN_BATCH = 100  # uploads


class DeclarationsField(serializers.ListSerializer[Any]):
    """Declarations, each validated on its own: an error stays in its place."""

    max_length: int | None  # REST Framework sets it

    def to_internal_value(self, data: Any) -> list[Mapping[str, Any] | Exception]:
        if not isinstance(data, list):
            self.fail("not_a_list", input_type=type(data).__name__)
        if not data:
            self.fail("empty")
        if self.max_length is not None and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        return [self._declared(each) for each in data]

    def _declared(self, data: Any) -> Mapping[str, Any] | Exception:
        form = self.child
        assert isinstance(form, BeginSerializer)
        said = plain(data) if type(form) is BeginSerializer else None
        try:
            return form.declared(form.run_validation(data) if said is None else said)
        except serializers.ValidationError as error:
            return error


class BeginBatchSerializer(BuiltOnce):
    """The files to upload. Each of them is sent by one PUT."""

    uploads = DeclarationsField(
        child=BeginSerializer(),
        allow_empty=False,
        max_length=MOST_IN_BATCH,
        help_text="Each is what begin takes.",
    )


class ConfirmBatchSerializer(BuiltOnce):
    ids = BoundedListField(
        child=TextField(),
        allow_empty=False,
        max_length=MOST_IN_BATCH,
        help_text="The ids of your uploads. You may name one twice: it is confirmed once.",
    )
