"""What the tests of the system checks share, and those of the admin."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.core.checks import CheckMessage, run_checks
from django.db import connection
from django.db.models import Field
from django.test import Client

from s3direct_uploads.models import Upload
from tests.documents import write

RIGHT: dict[str, Any] = {"MAX_SIZE": 1024, "CONTENT_TYPES": ["image/*"]}
Find = Callable[[], list[CheckMessage]]
LIST = "/admin/s3direct_uploads/upload/"
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


class Staff:
    """A browser at the admin."""

    def __init__(self, user: User | None) -> None:
        self.client = Client()
        if user:
            self.client.force_login(user)

    def list(self, **query: str) -> Any:
        return self.client.get(LIST, query)

    def detail(self, upload: Upload) -> Any:
        return self.client.get(f"{LIST}{upload.pk}/change/")

    def download(self, upload: Upload, query: str = "") -> Any:
        return self.client.get(f"{LIST}{upload.pk}/download/{query}")

    def act(self, action: str, *uploads: Upload, **form: str) -> Any:
        """Select these rows of the list, choose the action, press "Go"."""
        ticked = {"_selected_action": [str(upload.pk) for upload in uploads]}
        return self.client.post(LIST, {"action": action, "index": "0", **ticked, **form})

    def act_surely(self, action: str, *uploads: Upload, **form: str) -> Any:
        """The same, and press "Yes, I'm sure" on the page that asks."""
        page = self.act(action, *uploads, **form)
        assert page.status_code == 200
        return self.client.post(LIST, hidden(page))


class Cells(HTMLParser):
    """The text of each row of a list: [{"status": "Pending", …}]."""

    def __init__(self, page: Any) -> None:
        super().__init__()
        self.rows: list[dict[str, str]] = []
        self.column = ""
        self.feed(page.content.decode())
        self.rows = [each for each in self.rows if each]  # without the heading

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        classes = (dict(attrs).get("class") or "").split()
        if tag == "tr":
            self.rows.append({})
        elif tag in ("td", "th"):
            field = next((each for each in classes if each.startswith("field-")), "")
            self.column = field.removeprefix("field-")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.column = ""

    def handle_data(self, data: str) -> None:
        if self.column:
            self.rows[-1][self.column] = self.rows[-1].get(self.column, "") + data


def hidden(page: Any) -> dict[str, list[str]]:
    """What the form of a page posts."""
    found: dict[str, list[str]] = {}
    inputs = r'<input type="hidden" name="(\w+)" value="([^"]*)"'
    for name, value in re.findall(inputs, page.content.decode()):
        found.setdefault(name, []).append(value)
    return found


def told(answer: Any) -> list[tuple[str, str]]:
    """What the next page will say to the staff: [("warning", "…")]."""
    return [(each.level_tag, str(each)) for each in get_messages(answer.wsgi_request)]


@pytest.fixture
def make_staff(make_user: Callable[..., User]) -> Callable[..., Staff]:
    def make_staff(*permissions: str) -> Staff:
        user = make_user(is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        return Staff(user)

    return make_staff


@pytest.fixture
def support(make_staff: Callable[..., Staff]) -> Staff:
    return make_staff("view_upload", "change_upload")


@pytest.fixture
def onlooker(make_staff: Callable[..., Staff]) -> Staff:
    return make_staff("view_upload")


@pytest.fixture
def root(make_user: Callable[..., User]) -> Staff:
    return Staff(make_user("root", is_staff=True, is_superuser=True))
