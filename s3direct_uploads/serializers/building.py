"""Build the fields of our own serializers once. REST Framework copies them for each serializer.

That takes longer than all that a serializer then does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any, Self, cast

from django.utils.text import format_lazy
from rest_framework import serializers
from rest_framework.fields import empty
from rest_framework.utils.formatting import lazy_format

Reader = Callable[[Any], Any]
OWN = "s3direct_uploads."
PLAIN = {"instance", "data", "context"}  # the arguments that change no rule


class BuiltOnce(serializers.Serializer[Any]):
    # Of our own classes only: their fields need neither the context nor what is serialized. A
    # host's subclass builds its own fields as usual, and so does a serializer whose ``fields``
    # somebody has read, and perhaps changed.

    def built(self) -> Self:
        """The serializer whose fields do the work."""
        if "fields" in vars(self) or not type(self).__module__.startswith(OWN):
            return self
        return cast(Self, _built(type(self)))

    def to_representation(self, instance: Any) -> Any:
        if self.built() is self or isinstance(instance, dict):
            return super(BuiltOnce, self.built()).to_representation(instance)
        return represented(type(self), instance)

    def run_validation(self, data: Any = empty) -> Any:
        # A serializer in another one may be optional.
        plain = self.parent is None and self._kwargs.keys() <= PLAIN
        return super(BuiltOnce, self.built() if plain else self).run_validation(data)


def represented(serializer_class: type[BuiltOnce], instance: Any) -> dict[str, Any]:
    """An object with attributes, as this serializer of ours represents it."""
    return {
        name: None if (value := read(instance)) is None else represent(value)
        for name, read, represent in _steps(serializer_class)
    }


@cache
def _built(serializer_class: type[BuiltOnce]) -> BuiltOnce:
    """All threads share it. Its fields do not change any more."""
    built = serializer_class()
    _speak_each_language(built)
    return built


def _speak_each_language(field: Any) -> None:
    """Let the texts of validators follow the active language.

    REST Framework's ``lazy_format`` keeps the language in which it is read first.
    """
    for validator in field.validators:
        message = getattr(validator, "message", None)
        if isinstance(message, lazy_format) and message.format_string is not None:
            validator.message = format_lazy(message.format_string, *message.args, **message.kwargs)
    inner = getattr(field, "fields", {}).values()
    for each in (*inner, *filter(None, [getattr(field, "child", None)])):
        _speak_each_language(each)


@cache
def _steps(serializer_class: type[BuiltOnce]) -> list[tuple[str, Reader, Reader]]:
    """How each field of an object with attributes is read, and then written in an answer."""
    steps: list[tuple[str, Reader, Reader]] = []
    for name, field in _built(serializer_class).fields.items():
        reads_as_usual = type(field).get_attribute is serializers.Field.get_attribute
        read: Reader = field.get_attribute
        if reads_as_usual and len(field.source_attrs) == 1:
            read = attrgetter(field.source_attrs[0])
        if not field.write_only:
            steps.append((name, read, field.to_representation))
    return steps
