"""Build the fields of our own serializers once. REST Framework copies them for each serializer.

That takes longer than all that a serializer then does.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Self, cast

from rest_framework import serializers
from rest_framework.fields import empty


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
        return super(BuiltOnce, self.built()).to_representation(instance)

    def run_validation(self, data: Any = empty) -> Any:
        # A serializer in another one may be optional.
        plain = self.parent is None and self._kwargs.keys() <= PLAIN
        return super(BuiltOnce, self.built() if plain else self).run_validation(data)


@cache
def _built(serializer_class: type[BuiltOnce]) -> BuiltOnce:
    """All threads share it. Its fields do not change any more."""
    built = serializer_class()
    built.fields  # noqa: B018
    return built
