"""A host's hook that fails: the answer is 503, a traceback is logged, and nothing is lost."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from django.core.exceptions import (
    ImproperlyConfigured,
    PermissionDenied,
    SuspiciousOperation,
    ValidationError,
)
from django.db import DatabaseError
from django.http import Http404
from django.utils import timezone
from django.utils.translation import gettext_lazy
from rest_framework import exceptions as rest

from s3direct_uploads import events, lifecycle
from s3direct_uploads.exceptions import (
    BucketUnavailable,
    HookFailed,
    MultipartGone,
    NotPending,
    ObjectMismatch,
    ObjectMissing,
    QuotaExceeded,
)
from s3direct_uploads.models import Upload, Usage
from s3direct_uploads.storage import S3Storage
from tests.conftest import FILM, JPEG, PART_SIZE, App, Bucket, age, assert_error, row, sweep
from tests.events.conftest import s3_record
from tests.host_app import Albums

BEGIN_HOOKS = ("has_permission", "get_prefix", "clean_context")
SECRET = "postgres://admin:hunter2@db"  # what an exception may say


class APIStatusError(Exception):
    """Like an error of another service's client."""

    status_code = 429


CRASHES = [
    APIStatusError(SECRET),
    RuntimeError(SECRET),
    KeyError(SECRET),
    AttributeError(SECRET),
    TypeError(SECRET),
    RecursionError(SECRET),
    TimeoutError(SECRET),
    DatabaseError(SECRET),
    requests.ConnectionError(SECRET),
    Upload.DoesNotExist(SECRET),
    SuspiciousOperation(SECRET),
    StopIteration(SECRET),
    rest.APIException(SECRET),
]
by_type = pytest.mark.parametrize("crash", CRASHES, ids=lambda each: type(each).__name__)


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], None]:
    """From now on this hook of the albums raises this exception, or returns this value."""

    def hook(name: str, answer: Any) -> None:
        def called(*_: Any) -> Any:
            if isinstance(answer, BaseException):
                raise answer
            return answer

        monkeypatch.setattr(Albums, name, called)

    return hook


def begin(app: App, **declaration: Any) -> Any:
    return app.begin(**{"destination": "albums", "context": {"album": 1}, **declaration})


def send(app: App, **declaration: Any) -> Upload:
    """Begun and sent, not confirmed."""
    begun = begin(app, **declaration)
    assert app.send(begun.json()["request"]) == 200
    return row(begun)


def assert_hook_failed(answer: Any, code: str = "hook_failed") -> None:
    body = assert_error(answer, 503, code)
    assert (body["retry_after"], answer["Retry-After"], body["errors"]) == (5, "5", [])
    assert SECRET not in answer.content.decode()


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The messages that were logged with a traceback."""
    return [
        each.getMessage()
        for each in caplog.records
        if each.name == "s3direct_uploads" and each.levelno == logging.ERROR and each.exc_info
    ]


# Begin.


@by_type
@pytest.mark.parametrize("name", BEGIN_HOOKS)
def test_a_hook_that_crashes_lets_nothing_begin(
    alice: App,
    hook: Callable[[str, Any], None],
    s3_calls: list[str],
    settings: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    crash: Exception,
) -> None:
    monkeypatch.setattr(Albums, "max_pending", 5)
    hook(name, crash)
    assert_hook_failed(begin(alice, headers={"Idempotency-Key": "one"}))

    assert (Upload.objects.count(), Usage.objects.count(), s3_calls) == (0, 0, [])
    assert tracebacks(caplog) == [f"The hook {name} of 'albums' failed"]
    assert SECRET in caplog.text

    monkeypatch.undo()
    assert begin(alice, headers={"Idempotency-Key": "one"}).status_code == 201


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        (PermissionDenied(), 403, "permission_denied"),
        (PermissionDenied("Not you."), 403, "permission_denied"),
        (Http404(), 404, "not_found"),
        (ValidationError("No."), 400, "invalid"),
        (ValidationError({"context": ["No.", "Never."]}), 400, "invalid"),
        (QuotaExceeded("Full.", {"left": 0}), 403, "quota_exceeded"),
        (ImproperlyConfigured("No albums."), 503, "misconfigured"),
        (rest.ValidationError({"album": "No."}), 400, "invalid"),
        (rest.PermissionDenied(), 403, "permission_denied"),
        (rest.NotFound(), 404, "not_found"),
        (rest.Throttled(5), 429, "throttled"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("name", BEGIN_HOOKS)
def test_a_hook_may_refuse_in_its_own_way(
    alice: App,
    hook: Callable[[str, Any], None],
    caplog: pytest.LogCaptureFixture,
    name: str,
    refusal: Exception,
    status: int,
    code: str,
) -> None:
    hook(name, refusal)
    assert_error(begin(alice), status, code)
    assert not Upload.objects.exists()
    assert tracebacks(caplog) == []


@pytest.mark.parametrize("name", BEGIN_HOOKS)
def test_a_refusal_that_cannot_be_written_as_json_is_a_failure(
    alice: App, hook: Callable[[str, Any], None], name: str
) -> None:
    hook(name, ValidationError("100% of %(room)s", params={"room": 1}))
    assert_hook_failed(begin(alice))
    assert not Upload.objects.exists()


loop: dict[str, Any] = {}
loop["a"] = loop
WRONG_ANSWERS: list[tuple[str, Any]] = [
    *(
        ("get_prefix", answer)
        for answer in (
            None,
            5,
            b"x/",
            ["x/"],
            "x",
            "/x/",
            "x//",
            "../",
            "x/\n",
            "ü/",
            "x" * 99 + "/",
        )
    ),
    *(
        ("clean_context", answer)
        for answer in (
            None,
            [],
            [1],
            "album",
            5,
            {"a": object()},
            {"a": {1}},
            {"a": timezone.now},
            {"a": datetime(2026, 5, 4, tzinfo=UTC)},
            {"a": float("nan")},
            {"a": float("inf")},
            {"a": "\0"},
            {"a": "\ud800"},
            {(1, 2): 3},
            loop,
        )
    ),
]


@pytest.mark.parametrize(("name", "answer"), WRONG_ANSWERS)
def test_a_hook_that_answers_nonsense_is_misconfigured(
    alice: App,
    hook: Callable[[str, Any], None],
    s3_calls: list[str],
    caplog: pytest.LogCaptureFixture,
    name: str,
    answer: Any,
) -> None:
    hook(name, answer)
    assert_hook_failed(begin(alice), "misconfigured")
    assert (Upload.objects.count(), s3_calls) == (0, [])
    assert "Misconfigured: " in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        RuntimeError(SECRET),
        None,
        {"Tagging": b"a=b"},
        {"Metadata": "by"},
        {"Expires": "tomorrow"},
    ],
)
def test_a_storage_whose_parameters_fail_is_misconfigured(
    alice: App, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    """django-storages lets a subclass decide them for each name."""

    def get_object_parameters(self: S3Storage, name: str) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(S3Storage, "get_object_parameters", get_object_parameters)
    assert_hook_failed(begin(alice), "misconfigured")
    assert not Upload.objects.exists()


def test_a_script_sees_the_hooks_own_exception(
    alice: App, hook: Callable[[str, Any], None]
) -> None:
    crash = RuntimeError(SECRET)
    hook("get_prefix", crash)
    with pytest.raises(HookFailed) as failed:
        lifecycle.begin(
            owner=alice.user, destination="albums", filename="a.jpg", size=5, context={"album": 1}
        )
    assert failed.value.__cause__ is crash


# Verify.


VERIFY_CRASHES = [
    *CRASHES,
    ValidationError(SECRET),
    PermissionDenied(SECRET),
    Http404(SECRET),
    ImproperlyConfigured(SECRET),
    rest.ValidationError(SECRET),
    # Exceptions of the app that say nothing about this object.
    ObjectMissing(SECRET),
    MultipartGone(SECRET),
    NotPending(SECRET),
    BucketUnavailable(SECRET),
]
by_verify = pytest.mark.parametrize("crash", VERIFY_CRASHES, ids=lambda each: type(each).__name__)


@by_verify
def test_a_verify_that_crashes_leaves_the_upload_pending(
    alice: App,
    s3: Bucket,
    hook: Callable[[str, Any], None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    crash: Exception,
) -> None:
    upload = send(alice)
    before = Upload.objects.values().get()
    hook("verify", crash)
    for _ in range(2):
        assert_hook_failed(alice.confirm(str(upload.pk)))
    assert (Upload.objects.values().get(), s3.read(upload)) == (before, JPEG)
    assert tracebacks(caplog) == ["The hook verify of 'albums' failed"] * 2

    monkeypatch.undo()
    confirmed = alice.confirm(str(upload.pk))
    assert (confirmed.status_code, row(confirmed).status) == (200, "completed")


@pytest.mark.parametrize("answer", [False, True, "rejected"])
def test_a_verify_that_answers_has_failed(
    alice: App, hook: Callable[[str, Any], None], caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    """A hook that returns False may mean to reject: nothing is completed by mistake."""
    upload = send(alice)
    hook("verify", answer)
    assert_hook_failed(alice.confirm(str(upload.pk)))
    assert Upload.objects.get().status == "pending"
    assert f"it answered {answer!r}" in caplog.text


@by_verify
def test_the_sweep_puts_off_only_the_rows_whose_hook_fails_and_never_gives_them_up(
    alice: App,
    s3: Bucket,
    hook: Callable[[str, Any], None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    crash: Exception,
) -> None:
    recent, overdue, good = send(alice), send(alice), row(alice.begin())
    s3.write(good, JPEG)
    age(timedelta(hours=3))
    age(timedelta(days=10), pk=overdue.pk)
    hook("verify", crash)
    assert sweep() == {"completed": 1, "failed": 2}

    good.refresh_from_db()
    assert good.status == "completed"
    for bad in (recent, overdue):
        bad.refresh_from_db()
        assert (bad.status, s3.read(bad)) == ("pending", JPEG)
        assert bad.due_at is not None
        assert timedelta(minutes=14) < bad.due_at - timezone.now() <= timedelta(days=1)
    assert tracebacks(caplog) == ["The hook verify of 'albums' failed"] * 2

    age(timedelta(days=1))
    assert sweep()["failed"] == 2, "and again"
    monkeypatch.undo()
    age(timedelta(days=1))
    assert sweep()["completed"] == 2
    for bad in (recent, overdue):
        assert row(alice.get(f"{bad.pk}/")).status == "completed"


def test_past_the_deadline_neither_renew_nor_confirm_gives_it_up(
    alice: App, s3: Bucket, hook: Callable[[str, Any], None]
) -> None:
    upload = send(alice)
    age(timedelta(days=10))
    hook("verify", ObjectMissing(SECRET))
    assert_hook_failed(alice.confirm(str(upload.pk)))
    assert alice.renew(str(upload.pk)).status_code == 410, "only a confirm is left"
    assert (Upload.objects.get().status, s3.read(upload)) == ("pending", JPEG)


def test_an_event_is_acknowledged_and_the_sweep_looks_again(
    alice: App,
    hook: Callable[[str, Any], None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An event that must be sent again would delay the events after it."""
    bad = send(alice)
    good = row(alice.begin())
    records = [s3_record(each.bucket, each.key) for each in (bad, good)]
    hook("verify", RuntimeError(SECRET))
    tally = events.settle(events.parse({"Records": records}))
    assert tally.again == 0
    assert tracebacks(caplog) == ["The hook verify of 'albums' failed"]
    bad.refresh_from_db()
    assert (bad.status, bad.due_at and bad.due_at < timezone.now() + timedelta(minutes=15)) == (
        "pending",
        True,
    )

    monkeypatch.undo()
    Upload.objects.filter(pk=bad.pk).update(due_at=timezone.now())
    assert sweep() == {"completed": 1}


@pytest.mark.usefixtures("films")
def test_an_upload_whose_parts_were_joined_is_verified_again(
    alice: App, hook: Callable[[str, Any], None], monkeypatch: pytest.MonkeyPatch, s3: Bucket
) -> None:
    for name, value in (("part_size", PART_SIZE), ("max_size", 1024**3)):
        monkeypatch.setattr(Albums, name, value)
    begun = begin(alice, size=len(FILM), multipart=True).json()
    assert set(alice.send_parts(begun["multipart"]["parts"])) == {200}
    with monkeypatch.context() as patch:
        patch.setattr(Albums, "verify", lambda *_: 1 / 0)
        for _ in range(2):
            assert_hook_failed(alice.confirm(begun["id"]))
    upload = Upload.objects.get()
    assert (upload.status, s3.read(upload)) == ("pending", FILM)
    assert row(alice.confirm(begun["id"])).status == "completed"


@pytest.mark.parametrize(
    ("detail", "reason"),
    [
        ("", "Refused."),
        (None, "Refused."),
        ("Canon\0\0", "Canon"),
        ("a\ud800b", "a?b"),
        ("x" * 300, "x" * 255),
        (gettext_lazy("Refused by us."), "Refused by us."),
        (ValueError("too dark"), "too dark"),
        ({"code": 5}, "{'code': 5}"),
    ],
)
def test_a_reason_of_any_type_is_kept_as_text(
    alice: App, hook: Callable[[str, Any], None], detail: Any, reason: str
) -> None:
    """A reason may quote the file, with NULs in a camera's name. PostgreSQL stores no NUL."""
    upload = send(alice)
    hook("verify", ObjectMismatch(detail))
    body = assert_error(alice.confirm(str(upload.pk)), 422, "object_mismatch")
    assert (body["detail"], body["upload"]["reason"]) == (reason, reason)
    assert json.dumps(Upload.objects.get().reason) == json.dumps(reason)
