"""What a form posts for an upload: its id, and a proof that its owner chose it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core import signing

VALUE = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?::([A-Za-z0-9_-]{0,128}))?")


def make(pk: UUID, owner: Any) -> str:
    """The value for this upload. ``owner`` is the primary key of a user; None for a visitor's."""
    return f"{pk}:{_signer().signature(_statement(pk, owner))}"


def id_in(value: str) -> UUID | None:
    """The id that a posted value names, proven or not; None if the value is malformed."""
    found = VALUE.fullmatch(value)
    return UUID(found[1]) if found else None


def visitors_id_in(value: str) -> UUID | None:
    """The id of the visitor's upload that this value proves; None if it proves none.

    The value of an owner's upload proves nothing here.
    """
    pk = id_in(value)
    return pk if pk and is_proof(value, pk, None) else None


def is_proof(value: str, pk: UUID, owner: Any) -> bool:
    """Whether this value was made for this upload and owner."""
    mac = value.removeprefix(f"{pk}:")
    if mac == value:
        return False
    try:
        _signer().unsign(f"{_statement(pk, owner)}:{mac}")
    except signing.BadSignature:
        return False
    return True


def _statement(pk: UUID, owner: Any) -> str:
    # Without an owner there is no colon, so no owner's key, whatever it is, makes the same text.
    return f"{pk}" if owner is None else f"{pk}:{owner}"


def _signer() -> signing.Signer:
    return _signer_of(settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)


@lru_cache(maxsize=8)  # a batch makes a hundred values
def _signer_of(key: str | bytes, *fallback_keys: str | bytes) -> signing.Signer:
    return signing.Signer(
        key=key, fallback_keys=list(fallback_keys), salt="s3direct_uploads.form_value"
    )
