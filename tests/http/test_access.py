"""Who may call: the owner, signed in, and with the permissions that the destination asks for."""

from __future__ import annotations

from typing import Any

import pytest

from s3direct_uploads.models import Upload
from tests.conftest import URL, App, assert_error, row
from tests.http.conftest import NO_SUCH_ID

ANY_CALL = [
    ("get", ""),
    ("delete", ""),
    ("post", "confirm/"),
    ("post", "renew/"),
    ("get", "parts/"),
    ("post", "parts/"),
    ("get", "url/"),
    ("get", "download/"),
]


def call(app: App, method: str, url: str) -> Any:
    """Send the call. Only the signing of parts needs a body."""
    body = {"part_numbers": [1]} if method == "post" else None
    return getattr(app.client, method)(url, body, format="json")


@pytest.mark.parametrize(("method", "path"), ANY_CALL)
@pytest.mark.parametrize("id", ["theirs", NO_SUCH_ID, "1", "x" * 5000, "a\0b", "%00"])
def test_anothers_upload_is_not_found(
    alice: App, bob: App, method: str, path: str, id: str
) -> None:
    begun = alice.begin().json()
    url = f"{URL}{begun['id'] if id == 'theirs' else id}/{path}"
    assert_error(call(bob, method, url), 404, "not_found")
    assert Upload.objects.get().status == "pending"


@pytest.mark.parametrize(("method", "path"), [("get", ""), ("post", ""), *ANY_CALL])
def test_without_a_login_every_call_is_refused(
    alice: App, nobody: App, method: str, path: str
) -> None:
    id = alice.begin().json()["id"]
    url = f"{URL}{id}/{path}" if path else URL
    assert_error(call(nobody, method, url), 403, "not_authenticated")


@pytest.mark.parametrize("method", ["put", "patch", "options", "trace"])
def test_other_methods_are_not_allowed(alice: App, method: str) -> None:
    id = alice.begin().json()["id"]
    others = [f"{id}/", f"{id}/confirm/", f"{id}/parts/", "batch/", "batch/confirm/"]
    for url in (URL, *(f"{URL}{path}" for path in others)):
        assert_error(getattr(alice.client, method)(url), 405, "method_not_allowed")


def test_csrf_is_checked_where_a_session_authenticates(alice: App) -> None:
    begun = alice.begin().json()
    alice.client.handler.enforce_csrf_checks = True
    answers = [
        alice.begin(),
        alice.confirm(begun["id"]),
        alice.renew(begun["id"]),
        alice.sign_parts(begun["id"], [1]),
        alice.delete(begun["id"]),
    ]
    for answer in answers:
        assert "CSRF" in assert_error(answer, 403, "permission_denied")["detail"]
    assert row(alice.get(f"{begun['id']}/")).status == "pending"


def test_a_destination_may_ask_for_a_permission(alice: App, settings: Any) -> None:
    destinations = settings.S3DIRECT_UPLOADS["DESTINATIONS"]
    rules = {**destinations["photos"], "PERMISSION": "tests.add_photo"}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": rules}}
    assert_error(alice.begin(), 403, "permission_denied")
    assert not Upload.objects.exists()


def test_a_hook_may_refuse(alice: App) -> None:
    answer = alice.begin(destination="albums", filename="forbidden.jpg", context={"album": 1})
    assert_error(answer, 403, "permission_denied")
    assert not Upload.objects.exists()
