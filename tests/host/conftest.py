"""What the tests of the system checks share."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.checks import CheckMessage, run_checks
from django.db import connection
from django.db.models import Field

from tests.documents import write

RIGHT: dict[str, Any] = {"MAX_SIZE": 1024, "CONTENT_TYPES": ["image/*"]}
Find = Callable[[], list[CheckMessage]]
Install = Callable[..., Any]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Install]:
    """Make an app of blocks of a document, with the tables of its models. Returns the models.

    Each block names its path in its first line, and ``name`` is the app's.
    """
    made: list[Any] = []
    names: list[str] = []

    def install(name: str, *codes: str) -> Any:
        write(tmp_path, *codes)
        monkeypatch.syspath_prepend(tmp_path)
        names.append(name)
        settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, name]
        models = import_module(f"{name}.models")
        for model in apps.get_app_config(name).get_models():
            with connection.schema_editor() as editor:
                editor.create_model(model)
            made.append(model)
        return models

    yield install
    for model in reversed(made):
        with connection.schema_editor() as editor:
            editor.delete_model(model)
    for name in names:
        apps.all_models.pop(name, None)
    for module in [each for each in sys.modules if each.split(".")[0] in names]:
        del sys.modules[module]


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
