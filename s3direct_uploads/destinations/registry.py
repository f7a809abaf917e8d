"""The destination that a name stands for in the settings."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.utils.translation import gettext as _

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
            {"destination": ValidationError(_("No such destination."), code="unknown")}
        ) from None
    written = f"{spec!r} {conf.max_name_length()}"
    if _sound.get(name) != written:
        for problem in problems(name, spec):
            if problem.is_error:
                raise ImproperlyConfigured(problem.message)
        if isinstance(spec, dict):  # a class may change at any time
            _sound[name] = written
    return build(name, spec)


# The dicts in which no problem was found, as they were written then.
_sound: dict[str, str] = {}


def usable() -> dict[str, Destination]:
    """The destinations whose settings have no error, by name."""
    return {
        name: build(name, spec)
        for name, spec in conf.destinations().items()
        if not any(problem.is_error for problem in problems(name, spec))
    }


def takes_visitors(name: str | None = None) -> bool:
    """Whether this destination has ANONYMOUS; without a name, whether any has."""
    return any(each.anonymous and name in (None, each.name) for each in usable().values())


def find(name: str) -> Destination | None:
    """The destination of this name, or None: a row may be older than the settings.

    Raises ImproperlyConfigured if its settings are wrong.
    """
    try:
        return get(name)
    except ValidationError:
        return None
