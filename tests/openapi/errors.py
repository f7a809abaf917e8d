"""What no schema says of an error, because all errors have one schema. Schemathesis asks it too."""

from __future__ import annotations

import re
from typing import Any

WITH_ERRORS = {"invalid", "parse_error", "parts_incomplete", "quota_exceeded", "too_many_pending"}


def assert_error_as_described(description: str, status: int, body: dict[str, Any]) -> None:
    if status != 401:  # the authentication of a host may have codes of its own
        assert body["code"] in re.findall(r"- `(\w+)`: ", description)
    assert not body["errors"] or body["code"] in WITH_ERRORS
    assert "upload" in body or status not in (409, 410, 422)
    assert "retry_after" in body or status not in (429, 503)
