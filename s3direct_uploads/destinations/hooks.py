"""How a host's hooks are called, and what happens if one of them fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from django.core.exceptions import ImproperlyConfigured, PermissionDenied, ValidationError
from django.http import Http404
from django.utils.translation import gettext_noop as _

from s3direct_uploads.exceptions import HookFailed, ObjectMismatch, UploadError

from .storable import as_storable

if TYPE_CHECKING:
    from s3direct_uploads.models import Upload
    from s3direct_uploads.s3 import StoredObject

    from .rules import Destination

logger = logging.getLogger("s3direct_uploads")

_Answer = TypeVar("_Answer")

# A hook may raise these while there is no row yet. REST Framework has its own for some of them.
REFUSALS = (ValidationError, PermissionDenied, Http404, UploadError, ImproperlyConfigured)


def ask(
    name: str,
    hook: Callable[..., _Answer],
    *args: Any,
    refusals: tuple[type[Exception], ...] = REFUSALS,
) -> _Answer:
    """Call a hook of the host, and return its answer. ``name`` is for the log.

    Raises the exceptions in ``refusals`` as the hook raised them. Any other exception is a fault of
    the hook: its traceback is logged, and HookFailed is raised.
    """
    try:
        try:
            return hook(*args)
        except ValidationError as error:
            str(error)  # fails if the params do not fit the message
            raise
    except refusals:
        raise
    except Exception as error:
        if refusals is REFUSALS and is_refusal(error):
            raise
        logger.exception("The hook %s failed", name)
        raise HookFailed(_("A check on this server failed; try again later.")) from error


def is_refusal(error: Any) -> bool:
    """Whether a hook, or begin itself, refuses an upload by this error. If not, it is a bug."""
    if isinstance(error, REFUSALS):
        return True
    # By name, because only serializers and views import REST Framework.
    modules = {each.__module__ for each in type(error).__mro__}
    return "rest_framework.exceptions" in modules and error.status_code < 500


def completed(rules: Destination, upload: Upload) -> None:
    """Call the host's own ``completed``. Its exceptions are logged."""
    try:
        rules.completed(upload)
    except Exception:
        logger.exception("The hook completed of %r failed", rules.name)


def verify(rules: Destination, upload: Upload, stored: StoredObject) -> None:
    """Call the host's own ``verify``.

    Raises ObjectMismatch if it rejects the upload, HookFailed if it fails.
    """

    def call() -> None:
        answer: object = rules.verify(upload, stored)  # type: ignore[func-returns-value]
        if answer is not None:  # such as False, which cannot mean "accept"
            raise TypeError(f"It must raise ObjectMismatch to reject: it answered {answer!r}")

    try:
        ask(f"verify of {rules.name!r}", call, refusals=(ObjectMismatch,))
    except ObjectMismatch as error:
        raise ObjectMismatch(as_storable(error)) from error
