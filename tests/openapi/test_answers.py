"""Each answer of the server is as its schema says. OpenAPI 3.1 has the schemas of JSON Schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone
from rest_framework.throttling import UserRateThrottle

from s3direct_uploads.exceptions import PartsIncomplete
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import Bucket, get_bucket
from s3direct_uploads.views import UploadViewSet
from tests.conftest import JPEG, URL, App, row
from tests.host_app import Albums
from tests.openapi.conftest import assert_as_described, operations, validator


def contents(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every request and answer body, with schema and examples."""
    for operation in operations(document).values():
        for body in (operation.get("requestBody", {}), *operation["responses"].values()):
            yield from body.get("content", {}).values()


def test_every_example_is_as_its_schema_says(document: dict[str, Any]) -> None:
    count = 0
    for content in contents(document):
        for example in content.get("examples", {}).values():
            validator(document, content["schema"]).validate(example["value"])
            count += 1
    assert count > 40


def provoke_too_large(app: App) -> Any:
    body = f'{{"context": "{"x" * 1024**2}"}}'
    return app.client.post(URL, body, content_type="application/json")


def provoke_mismatch(app: App) -> Any:
    begun = app.begin().json()
    app.send(begun["request"], JPEG, **{"Content-Encoding": "gzip"})
    return app.confirm(begun["id"])


def provoke_hook_failed(app: App, hook: str = "has_permission") -> Any:
    album: dict[str, Any] = {"destination": "albums", "context": {"album": 1}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Albums, hook, lambda *_: 1 / 0)
        begun = app.begin(**album)
        if hook != "verify":
            return begun
        app.send(begun.json()["request"])
        return app.confirm(begun.json()["id"])


def provoke_verifying(app: App) -> Any:
    upload = row(app.begin())
    Upload.objects.update(status="verifying", held_at=timezone.now())
    return app.confirm(str(upload.pk))


def provoke_cancelled(app: App) -> Any:
    id = app.begin().json()["id"]
    app.delete(id)
    return app.renew(id)


def provoke_attached(app: App) -> Any:
    upload = row(app.upload())
    upload.attach()
    return app.delete(str(upload.pk))


def provoke_reused(app: App) -> Any:
    app.begin(headers={"Idempotency-Key": "one"})
    return app.begin(headers={"Idempotency-Key": "one"}, size=1)


def begin_within(app: App, **limit: int) -> Any:
    photos = {"MAX_SIZE": 1024, "CONTENT_TYPES": ["image/*"], **limit}
    with override_settings(S3DIRECT_UPLOADS={"DESTINATIONS": {"photos": photos}}):
        app.begin()
        return app.begin()


def provoke_full(app: App) -> Any:
    return begin_within(app, MAX_TOTAL_SIZE=len(JPEG) + 1)


def provoke_too_many(app: App) -> Any:
    return begin_within(app, MAX_PENDING=1)


def begin_in_parts(app: App) -> str:
    """Of two parts."""
    id: str = app.begin(size=16 * 1024**2 + 1, multipart=True).json()["id"]
    return id


def provoke_cancelled_meanwhile(app: App) -> Any:
    create = Bucket.create_multipart

    def cancel_first(*args: Any, **kwargs: Any) -> str:
        app.delete(str(Upload.objects.get().pk))
        return create(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bucket, "create_multipart", cancel_first)
        return app.begin(size=16 * 1024**2 + 1, multipart=True)


def send_in_parts(app: App, *part_numbers: int) -> str:
    begun = app.begin(size=16 * 1024**2 + 1, multipart=True).json()
    for part in begun["multipart"]["parts"]:
        if part["part_number"] in part_numbers:
            assert app.send({"method": "PUT", **part}, b"\0" * part["size"]) == 200
    id: str = begun["id"]
    return id


def provoke_completing(app: App) -> Any:
    id = begin_in_parts(app)
    Upload.objects.update(busy_until=timezone.now() + timedelta(minutes=1))
    return app.confirm(id)


def provoke_replaced(app: App) -> Any:
    id = send_in_parts(app, 1, 2)

    def replace(self: Bucket, key: str, upload_id: str, *_: Any, **__: Any) -> None:
        again: Any = {"Bucket": self.name, "Key": key, "UploadId": upload_id, "PartNumber": 2}
        self._client.upload_part(**again, Body=b"x")
        raise PartsIncomplete({})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bucket, "complete_multipart", replace)  # moto does not look at ETags
        return app.confirm(id)


def abort_behind(app: App) -> str:
    """S3 aborts a multipart upload, as by a lifecycle rule."""
    id = begin_in_parts(app)
    upload = Upload.objects.get(pk=id)
    get_bucket("default").abort_multipart(upload.key, upload.multipart_upload_id)
    return id


def give_up_parts(app: App) -> str:
    id = begin_in_parts(app)
    app.delete(id)
    return id


@pytest.mark.parametrize(
    ("provoke", "operation", "status", "code"),
    [
        (lambda app: app.begin(), "begin_upload", 201, None),
        (lambda app: app.begin(size=-1), "begin_upload", 400, "invalid"),
        (lambda app: app.begin(checksum={"algorithm": "X"}), "begin_upload", 400, "invalid"),
        (lambda app: app.begin(size=10**8, multipart=1), "begin_upload", 400, "invalid"),
        (provoke_full, "begin_upload", 403, "quota_exceeded"),
        (provoke_too_many, "begin_upload", 429, "too_many_pending"),
        (provoke_reused, "begin_upload", 409, "idempotency_key_reused"),
        (provoke_cancelled_meanwhile, "begin_upload", 410, "not_pending"),
        (provoke_too_large, "begin_upload", 413, "request_too_large"),
        (lambda app: app.client.post(URL, {}), "begin_upload", 415, "unsupported_media_type"),
        (provoke_hook_failed, "begin_upload", 503, "hook_failed"),
        (
            lambda app: provoke_hook_failed(app, "verify"),
            "confirm_upload",
            503,
            "hook_failed",
        ),
        (lambda app: app.upload() and app.get(), "list_uploads", 200, None),
        (lambda app: app.get(size="x"), "list_uploads", 400, "invalid"),
        (lambda app: app.get(cursor="x"), "list_uploads", 404, "not_found"),
        (lambda app: app.get("1/"), "retrieve_upload", 404, "not_found"),
        (lambda app: app.upload(), "confirm_upload", 200, None),
        (provoke_verifying, "confirm_upload", 202, None),
        (
            lambda app: app.confirm(app.begin().json()["id"]),
            "confirm_upload",
            409,
            "object_missing",
        ),
        (lambda app: app.confirm(send_in_parts(app, 1, 2)), "confirm_upload", 200, None),
        (provoke_completing, "confirm_upload", 202, None),
        (
            lambda app: app.confirm(send_in_parts(app, 2)),
            "confirm_upload",
            409,
            "parts_incomplete",
        ),
        (provoke_replaced, "confirm_upload", 409, "parts_incomplete"),
        (lambda app: app.confirm(abort_behind(app)), "confirm_upload", 410, "multipart_gone"),
        (provoke_mismatch, "confirm_upload", 422, "object_mismatch"),
        (lambda app: app.renew(app.begin().json()["id"]), "renew_upload", 200, None),
        (lambda app: app.renew(begin_in_parts(app)), "renew_upload", 200, None),
        (provoke_cancelled, "renew_upload", 410, "not_pending"),
        (
            lambda app: app.parts(send_in_parts(app, 2)),
            "list_upload_parts",
            200,
            None,
        ),
        (lambda app: app.parts("1"), "list_upload_parts", 404, "not_found"),
        (
            lambda app: app.parts(app.begin().json()["id"]),
            "list_upload_parts",
            409,
            "not_multipart",
        ),
        (
            lambda app: app.parts(give_up_parts(app)),
            "list_upload_parts",
            410,
            "not_pending",
        ),
        (
            lambda app: app.parts(abort_behind(app)),
            "list_upload_parts",
            410,
            "multipart_gone",
        ),
        (lambda app: app.sign_parts(begin_in_parts(app), [2, 1]), "sign_upload_parts", 200, None),
        (
            lambda app: app.sign_parts(begin_in_parts(app), [3]),
            "sign_upload_parts",
            400,
            "invalid",
        ),
        (lambda app: app.sign_parts("1", [1]), "sign_upload_parts", 404, "not_found"),
        (
            lambda app: app.sign_parts(app.begin().json()["id"], [1]),
            "sign_upload_parts",
            409,
            "not_multipart",
        ),
        (
            lambda app: app.sign_parts(give_up_parts(app), [1]),
            "sign_upload_parts",
            410,
            "not_pending",
        ),
        (
            lambda app: app.client.post(f"{URL}{begin_in_parts(app)}/parts/", {"part_numbers": 1}),
            "sign_upload_parts",
            415,
            "unsupported_media_type",
        ),
        (provoke_attached, "delete_upload", 409, "already_attached"),
        (
            lambda app: app.get(f"{app.upload().json()['id']}/url/"),
            "get_upload_url",
            200,
            None,
        ),
        (
            lambda app: app.get(f"{app.begin().json()['id']}/download/"),
            "download_upload",
            409,
            "not_completed",
        ),
        (
            lambda app: app.get(f"{app.upload().json()['id']}/download/"),
            "download_upload",
            302,
            None,
        ),
    ],
)
def test_a_real_answer_is_as_its_schema_says(
    alice: App,
    settings: Any,
    document: dict[str, Any],
    provoke: Callable[[App], Any],
    operation: str,
    status: int,
    code: str | None,
) -> None:
    answer = provoke(alice)
    assert_as_described(document, operation, answer)
    assert answer.status_code == status
    if code:
        assert answer.json()["code"] == code


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        ("{", "application/json", 400),
        ("0" * 1024**2 + "0", "application/json", 413),
        ("a=b", "application/x-www-form-urlencoded", 415),
        ("[1]", "application/json", 409),
    ],
)
def test_a_body_where_confirm_has_none_is_as_described(
    alice: App, document: dict[str, Any], body: str, content_type: str, status: int
) -> None:
    id = alice.begin().json()["id"]
    alice.client.handler.enforce_csrf_checks = True
    token = "x" * 32
    alice.client.cookies["csrftoken"] = token
    answer = alice.client.post(
        f"{URL}{id}/confirm/", body, content_type=content_type, headers={"X-CSRFToken": token}
    )
    assert_as_described(document, "confirm_upload", answer)
    assert answer.status_code == status


def test_the_503s_are_as_their_schema_says(
    alice: App, s3_away: Callable[[], None], settings: Any, document: dict[str, Any]
) -> None:
    id, in_parts = alice.begin().json()["id"], begin_in_parts(alice)
    s3_away()
    answers = [
        ("confirm_upload", alice.confirm(id)),
        ("confirm_upload", alice.confirm(in_parts)),
        ("list_upload_parts", alice.parts(in_parts)),
        ("begin_upload", alice.begin(size=16 * 1024**2 + 1, multipart=True)),
    ]
    memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
    settings.STORAGES = {**settings.STORAGES, "default": memory}
    answers += [
        ("begin_upload", alice.begin()),
        ("renew_upload", alice.renew(id)),
        ("sign_upload_parts", alice.sign_parts(in_parts, [1])),
    ]
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": {"MAX_SIZE": "huge"}}}
    answers += [("begin_upload", alice.begin())]
    for operation, answer in answers:
        assert_as_described(document, operation, answer)
    assert [answer.json()["code"] for _, answer in answers] == [
        *["bucket_unavailable"] * 4,
        "storage_not_s3",
        *["bucket_unavailable"] * 2,
        "misconfigured",
    ]


@pytest.mark.parametrize(
    ("call", "operation"),
    [
        (lambda app: app.begin(), "begin_upload"),
        (lambda app: app.get(), "list_uploads"),
        (lambda app: app.delete("1"), "delete_upload"),
    ],
)
def test_the_401s_403s_and_429s_are_as_their_schema_says(
    nobody: App,
    alice: App,
    document: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[App], Any],
    operation: str,
) -> None:
    class OnceADay(UserRateThrottle):
        scope = "once_a_day"
        rate = "1/day"

    assert_as_described(document, operation, call(nobody))
    monkeypatch.setattr(UploadViewSet, "throttle_classes", [OnceADay])
    answers = [call(alice) for _ in range(2)]
    assert answers[1].status_code == 429
    assert_as_described(document, operation, answers[1])
