"""JSON that every database keeps, and gives back as it was."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

NOT_STORABLE = (ValueError, TypeError, RecursionError)


def as_kept(value: object) -> Any:
    """The JSON value as every database gives it back, so that two equal requests compare as equal.

    PostgreSQL reads 1e23 as an integer and has no -0.0. So a whole number becomes an int, however
    it was written. Raises one of NOT_STORABLE for a value that some database cannot keep, such as
    a NUL, a surrogate or an infinity.
    """
    if value == {}:
        return {}
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    text.encode()
    if "\\u0000" in text:
        raise ValueError("PostgreSQL takes no NUL.")
    return json.loads(text, parse_float=_number)


def _number(text: str) -> int | float:
    number = float(text)
    return int(Decimal(text)) if number.is_integer() else number


def as_storable(text: object) -> str:
    """A text that may quote a file, without what PostgreSQL refuses: NULs and lone surrogates."""
    return str(text or "").replace("\0", "").encode(errors="replace").decode()


def is_storable(value: object) -> bool:
    """Whether every database can keep this JSON value."""
    try:
        as_kept(value)
    except NOT_STORABLE:
        return False
    return True
