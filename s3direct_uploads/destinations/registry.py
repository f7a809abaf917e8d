"""The destination that a name stands for in the settings."""

from __future__ import annotations

import copy
from typing import Any

from django.core.exceptions import ImproperlyConfigured, ValidationError

from s3direct_uploads import conf

from .problems import problems
from .rules import Destination, build


def get(name: str) -> Destination:
    """The destination of this name.

    Raises ValidationError if there is none, ImproperlyConfigured if its settings are wrong.
    """
    try:
        spec = conf.destinations()[name]
    except KeyError:
        raise ValidationError(
            {"destination": ValidationError("No such destination.", code="unknown")}
        ) from None
    if not _is_sound(name, spec):
        for problem in problems(name, spec):
            if problem.is_error:
                raise ImproperlyConfigured(problem.message)
        _found_sound(name, spec)
    return build(name, spec)


# The dicts in which no problem was found, as they were then. A class may change at any time.
_sound: dict[str, tuple[dict[str, Any], int]] = {}


def _is_sound(name: str, spec: object) -> bool:
    return _sound.get(name) == (spec, conf.max_name_length())


def _found_sound(name: str, spec: object) -> None:
    if isinstance(spec, dict):
        _sound[name] = copy.deepcopy(spec), conf.max_name_length()


def find(name: str) -> Destination | None:
    """The destination of this name, or None: a row may be older than the settings.

    Raises ImproperlyConfigured if its settings are wrong.
    """
    return get(name) if name in conf.destinations() else None
