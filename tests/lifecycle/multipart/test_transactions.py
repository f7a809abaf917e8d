"""S3 is asked outside of transactions, and with no pooled connection in hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.transaction import TransactionManagementError

from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import get_bucket
from tests.conftest import FILM, JPEG, App, Bucket, row
from tests.lifecycle.multipart.conftest import KEY, Line, clients_of, sent


@pytest.mark.django_db(transaction=True)
def test_atomic_requests_hold_no_transaction(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    begun = alice.begin_film()
    assert begun.status_code == 201
    id, parts = begun.json()["id"], begun.json()["multipart"]["parts"]
    assert alice.confirm(id).status_code == 409
    assert alice.sign_parts(id, [1]).status_code == 200
    assert alice.send_parts(parts) == [200, 200]
    assert len(alice.parts(id).json()) == 2
    assert alice.confirm(id).status_code == 200
    assert s3.read(row(begun)) == FILM
    another = alice.begin_film()
    assert alice.delete(another.json()["id"]).status_code == 204
    assert s3.open_multiparts(row(another)) == []


@pytest.mark.django_db(transaction=True)
def test_no_upload_in_parts_begins_within_a_transaction(alice: App, s3_calls: list[str]) -> None:
    film: dict[str, Any] = {
        "owner": alice.user,
        "destination": "films",
        "filename": "film.mp4",
        "multipart": True,
    }
    with transaction.atomic(), pytest.raises(TransactionManagementError, match=r"begin\(\) waits"):
        lifecycle.begin(size=len(FILM), **film)
    assert not Upload.objects.exists()
    with transaction.atomic():  # one PUT: S3 is not asked
        upload, _ = lifecycle.begin(size=len(JPEG), **film)
    assert (Upload.objects.get(), upload.is_multipart) == (upload, False)
    assert s3_calls == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("operation", [lifecycle.confirm, lifecycle.cancel, lifecycle.list_parts])
def test_no_transaction_is_held_while_s3_is_asked(
    alice: App, s3_calls: list[str], operation: Any
) -> None:
    upload = row(alice.begin_film())
    s3_calls.clear()
    with transaction.atomic(), pytest.raises(TransactionManagementError, match="waits for S3"):
        operation(upload)
    upload.refresh_from_db()
    assert (upload.status, upload.busy_until, s3_calls) == ("pending", None, [])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("call", ["begin", "begin again", "list", "confirm", "cancel"])
def test_a_pooled_connection_is_given_back_before_s3_is_asked(
    alice: App, line: Line, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    assert alice.user is not None
    film: dict[str, Any] = {
        "owner": alice.user,
        "destination": "films",
        "filename": "film.mp4",
        "size": len(FILM),
        "multipart": True,
        "idempotency_key": "one",
    }
    if call == "begin again":
        line.lose("CreateMultipartUpload")
        assert alice.begin_film(headers=KEY, content_type="").status_code == 503
    upload = sent(alice) if call in ("list", "confirm", "cancel") else Upload()
    seen: list[str] = []
    connection = connections["default"]
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"pool": True})
    monkeypatch.setattr(connection, "close", lambda: seen.append("closed"))

    def execute(execute: Any, sql: str, *rest: Any) -> Any:
        seen.append("in use")
        return execute(sql, *rest)

    operations: dict[str, Callable[[], object]] = {
        "begin": lambda: lifecycle.begin(**film),
        "begin again": lambda: lifecycle.begin(**film),
        "list": lambda: lifecycle.list_parts(upload),
        "confirm": lambda: lifecycle.confirm(upload),
        "cancel": lambda: lifecycle.cancel(upload),
    }
    clients = clients_of(get_bucket("default"))
    for client in clients:
        client.meta.events.register_first(
            "before-call.s3", lambda **_: seen.append("asked"), unique_id="asked"
        )
    with connection.execute_wrapper(execute):
        operations[call]()
    for client in clients:
        client.meta.events.unregister("before-call.s3", unique_id="asked")

    assert "asked" in seen
    for before, what in pairwise(["in use", *seen]):
        assert what != "asked" or before in ("closed", "asked"), seen
