"""A problem of a destination is an error or a warning. The first letter of its id says which."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
from django.core import checks

from s3direct_uploads.destinations import Problem
from tests.conftest import App

MakeUp = Callable[[str], Problem]


@pytest.fixture
def make_up(monkeypatch: pytest.MonkeyPatch) -> MakeUp:
    """Make up a problem of the destination "photos", as ``destinations/problems.py`` yields it."""

    def make_up(id: str) -> Problem:
        made_up = Problem(id, "The prefix is ugly.", "Write a nicer one.")

        def problems(where: str, it: Any) -> Iterator[Problem]:
            if it.name == "photos":
                yield made_up

        module = import_module("s3direct_uploads.destinations.problems")
        monkeypatch.setattr(module, "_value_problems", problems)
        # What was found sound before, by any test, is not examined again.
        monkeypatch.setattr("s3direct_uploads.destinations.registry._sound", {})
        return made_up

    return make_up


def found() -> list[checks.CheckMessage]:
    return [each for each in checks.run_checks() if (each.id or "").startswith("s3direct_uploads.")]


@pytest.mark.parametrize(("id", "level"), [("E999", checks.ERROR), ("W999", checks.WARNING)])
def test_the_letter_of_the_id_is_the_level_of_the_check(
    make_up: MakeUp, id: str, level: int
) -> None:
    problem = make_up(id)
    [message] = found()
    assert message.id == f"s3direct_uploads.{id}"
    assert (message.level, message.msg, message.hint) == (level, problem.message, problem.hint)


def test_an_error_makes_begin_answer_503(make_up: MakeUp, alice: App) -> None:
    make_up("E999")
    answer = alice.begin()
    assert (answer.status_code, answer.json()["code"]) == (503, "misconfigured")


def test_a_warning_does_not_stop_an_upload(make_up: MakeUp, alice: App) -> None:
    make_up("W999")
    assert alice.upload().json()["status"] == "completed"


def test_the_storage_of_a_destination_with_a_warning_is_still_checked(
    make_up: MakeUp, settings: Any
) -> None:
    make_up("W999")
    photos = settings.S3DIRECT_UPLOADS["DESTINATIONS"]["photos"]
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": photos}}
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": "nowhere.Storage"}}
    assert {message.id for message in found()} == {"s3direct_uploads.W999", "s3direct_uploads.E020"}
