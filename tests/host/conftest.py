"""What the tests of the system checks share."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.db.models import Field

RIGHT: dict[str, Any] = {"MAX_SIZE": 1024, "CONTENT_TYPES": ["image/*"]}
Find = Callable[[], list[CheckMessage]]


@pytest.fixture
def find(monkeypatch: pytest.MonkeyPatch) -> Find:
    """Run every check as ``manage.py check`` does, without network. Returns the app's messages."""
    asked = []

    def refuse(*args: Any, **_: Any) -> None:
        asked.append(args)
        raise OSError("no network in a check")

    def find() -> list[CheckMessage]:
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "connect", refuse)
            patch.setattr(socket, "getaddrinfo", refuse)
            found = run_checks()
        assert asked == []
        # tests/host/fields has the checks of the model's field.
        found = [each for each in found if not isinstance(each.obj, Field)]
        return [each for each in found if (each.id or "").startswith("s3direct_uploads.")]

    return find


def assert_found(found: list[CheckMessage], id: str) -> None:
    assert [each.id for each in found] == [f"s3direct_uploads.{id}"], found
    [problem] = found
    assert problem.msg
    assert problem.hint
    # An E stops ``manage.py``, a W does not.
    assert problem.is_serious() is id.startswith("E")
