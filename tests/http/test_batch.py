"""Many uploads begin by one call. Each has the result that its own call would have."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from rest_framework.permissions import BasePermission
from rest_framework.routers import SimpleRouter

from s3direct_uploads import lifecycle
from s3direct_uploads.exceptions import OwnerUnknown
from s3direct_uploads.lifecycle import batches, presigning, quotas
from s3direct_uploads.models import Upload, Usage
from s3direct_uploads.views import UploadViewSet
from tests.conftest import JPEG, URL, App, Bucket, assert_error
from tests.http.conftest import LARGE

Limit = Callable[..., None]
SIZE = len(JPEG)
KEY = {"Idempotency-Key": "one"}


def results(answer: Any) -> list[dict[str, Any]]:
    """What became of each. All of them have one shape."""
    assert answer.status_code == 200, answer.content[:500]
    assert answer["Cache-Control"] == "no-store"
    found: list[dict[str, Any]] = answer.json()["results"]
    for each in found:
        assert set(each) == {"status", "upload", "error"}
        assert (each["upload"] is None) == (each["status"] >= 300) != (each["error"] is None)
    return found


def codes(answer: Any) -> list[tuple[int, str | None]]:
    return [(each["status"], each["error"] and each["error"]["code"]) for each in results(answer)]


def ids(answer: Any) -> list[str | None]:
    return [each["upload"] and each["upload"]["id"] for each in results(answer)]


def statements(captured: CaptureQueriesContext) -> list[str]:
    """The statements about our tables: "INSERT upload"."""
    said = []
    for each in captured.captured_queries:
        verb, _, rest = each["sql"].partition(" ")
        for table in ("upload", "usage"):
            if f'"s3direct_uploads_{table}"' in rest.partition("WHERE")[0]:
                said.append(f"{verb} {table}")
    return said


@pytest.fixture
def limit(settings: Any) -> Limit:
    def limit(**limits: int) -> None:
        photos = {"MAX_SIZE": 1024, "CONTENT_TYPES": ["image/*"], **limits}
        ours = settings.S3DIRECT_UPLOADS
        destinations = {**ours["DESTINATIONS"], "photos": photos}
        settings.S3DIRECT_UPLOADS = {**ours, "DESTINATIONS": destinations}

    return limit


def test_each_begins_as_it_would_alone(alice: App, s3: Bucket, s3_calls: list[str]) -> None:
    alone = alice.begin(filename="alone.jpg").json()
    answer = alice.begin_batch(
        {"filename": "a.jpg"}, {"filename": "b.jpg", "destination": "albums"}
    )
    first, second = results(answer)
    assert first["status"] == 201
    assert set(first["upload"]) == set(alone)
    assert first["upload"]["request"]["headers"] == alone["request"]["headers"]
    assert first["upload"]["filename"] == "a.jpg"
    assert (first["upload"]["status"], first["upload"]["multipart"]) == ("pending", None)
    assert (second["status"], second["error"]["errors"][0]["code"]) == (400, "no_album")
    assert s3_calls == []

    upload = Upload.objects.get(pk=first["upload"]["id"])
    assert (upload.owner, upload.status, upload.idempotency_key) == (alice.user, "pending", None)
    assert upload.due_at is not None
    assert alice.send(first["upload"]["request"]) == 200
    assert alice.confirm(first["upload"]["id"]).status_code == 200
    assert s3.read(upload) == JPEG


def test_each_row_keeps_what_it_declared(alice: App) -> None:
    """PostgreSQL gets a value once if all rows have it: the others must not be mixed up."""
    checksum = {"algorithm": "CRC32", "value": "AAAAAA=="}
    said: list[dict[str, Any]] = [
        {"filename": "a.jpg", "size": 1},
        {"filename": "b.png", "size": 2, "content_type": "image/png", "checksum": checksum},
        {"filename": "c.jpg", "size": 3, "destination": "albums", "context": {"album": 1}},
    ]
    alone = [alice.begin(**each).json()["id"] for each in said]
    together = [str(each) for each in ids(alice.begin_batch(*said))]
    own = {"id", "key", "created_at", "url_expires_at", "expires_at", "due_at"}
    shown = [each.name for each in Upload._meta.fields if each.name not in own]
    for one, other in zip(alone, together, strict=True):
        rows = Upload.objects.filter(pk__in=[one, other]).values(*shown)
        assert rows[0] == rows[1]
    rows = Upload.objects.filter(pk__in=together)
    assert len({each.key for each in rows}) == 3
    assert all(each.created_at < each.url_expires_at < each.expires_at for each in rows)


def test_what_is_refused_refuses_no_other(alice: App) -> None:
    alone = [
        alice.begin(size=-1),
        alice.begin(destination="nowhere"),
        alice.begin(destination="albums", context={"album": 1}, filename="forbidden.jpg"),
        alice.client.post(URL, "nonsense", format="json"),
    ]
    answer = alice.begin_batch(
        {},
        {"size": -1, "content_type": "image/jpeg"},
        {"destination": "nowhere"},
        {"destination": "albums", "context": {"album": 1}, "filename": "forbidden.jpg"},
        "nonsense",
        {},
    )
    first, *refused, last = results(answer)
    assert (first["status"], last["status"]) == (201, 201)
    assert [(each["status"], each["error"]) for each in refused] == [
        (each.status_code, each.json()) for each in alone
    ]
    assert Upload.objects.count() == 2


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({}, "uploads", "required"),
        ({"uploads": None}, "uploads", "null"),
        ({"uploads": []}, "uploads", "empty"),
        ({"uploads": {}}, "uploads", "not_a_list"),
        ({"uploads": "abc"}, "uploads", "not_a_list"),
        ({"uploads": [{}] * 101}, "uploads", "max_length"),
        ([], None, "invalid"),
    ],
)
def test_a_body_that_is_no_batch_is_refused_as_a_whole(
    alice: App, body: Any, field: str | None, code: str
) -> None:
    refused = assert_error(alice.client.post(f"{URL}batch/", body, format="json"), 400, "invalid")
    assert [(each["field"], each["code"]) for each in refused["errors"]] == [(field, code)]


def test_a_hundred_begin_by_one_insert(alice: App, s3_calls: list[str], limit: Limit) -> None:
    names = [{"filename": f"{number}.jpg"} for number in range(100)]
    inserts = -(-100 // (connection.ops.bulk_batch_size(Upload._meta.local_fields, names) or 100))
    with CaptureQueriesContext(connection) as captured:
        answer = alice.begin_batch(*names)
    assert statements(captured) == ["INSERT upload"] * inserts
    assert [each["upload"]["filename"] for each in results(answer)] == [
        each["filename"] for each in names
    ]
    assert len({each["upload"]["request"]["url"] for each in results(answer)}) == 100

    limit(MAX_PENDING=1000)
    alice.begin()  # it counts what was there before
    with CaptureQueriesContext(connection) as captured:
        assert codes(alice.begin_batch(*names)) == [(201, None)] * 100
    assert statements(captured) == ["UPDATE usage", *["INSERT upload"] * inserts]
    usage = Usage.objects.get()
    assert (usage.pending, usage.total_size) == (201, 201 * SIZE)
    assert s3_calls == []


# Quotas.


def test_as_many_begin_as_there_is_room_for(alice: App, limit: Limit) -> None:
    limit(MAX_TOTAL_SIZE=100)
    answer = alice.begin_batch(*({"size": size} for size in (40, 30, 50, 20, 11, 10)))
    assert codes(answer) == [
        (201, None),
        (201, None),
        (403, "quota_exceeded"),
        (201, None),
        (403, "quota_exceeded"),
        (201, None),
    ]
    refused = results(answer)[2]["error"]
    assert refused["errors"][0]["params"] == {"max_total_size": 100, "total_size": 70, "left": 30}
    usage = Usage.objects.get()
    assert (usage.pending, usage.total_size) == (4, 100)
    assert Upload.objects.filter(counted=True).count() == 4

    assert codes(alice.begin_batch({}, {})) == [(403, "quota_exceeded")] * 2
    assert Upload.objects.count() == 4


def test_too_many_pending_are_refused_and_say_when_to_come_back(alice: App, limit: Limit) -> None:
    limit(MAX_PENDING=3)
    alice.begin()
    answer = alice.begin_batch({}, {}, {}, {"destination": "documents"})
    assert codes(answer) == [(201, None), (201, None), (429, "too_many_pending"), (201, None)]
    assert results(answer)[2]["error"]["retry_after"] == 5
    assert answer.get("Retry-After") is None
    assert next(iter(quotas.recount("photos")))[1] is False


def test_the_quotas_of_several_destinations_are_charged_once_each(
    alice: App, settings: Any, limit: Limit
) -> None:
    limit(MAX_PENDING=2)
    ours = settings.S3DIRECT_UPLOADS["DESTINATIONS"]
    more = {"cards": {**ours["photos"], "MAX_PENDING": 1}}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {**ours, **more}}
    mixed = [{}, {"destination": "cards"}] * 2
    alice.begin_batch({}, {"destination": "cards"})
    Upload.objects.all().delete()
    with CaptureQueriesContext(connection) as captured:
        answer = alice.begin_batch(*mixed[:3])
    assert statements(captured) == ["UPDATE usage", "UPDATE usage", "INSERT upload"]
    assert codes(answer) == [(201, None)] * 3
    assert codes(alice.begin_batch(*mixed)) == [(429, "too_many_pending")] * 4


# Repeated batches.


def test_a_repeated_batch_finds_its_uploads(alice: App, bob: App) -> None:
    batch = [{"filename": "a.jpg"}, {"filename": "b.jpg"}, {"size": -1}]
    first = alice.begin_batch(*batch, headers=KEY)
    assert codes(first) == [(201, None), (201, None), (400, "invalid")]
    assert alice.send(results(first)[0]["upload"]["request"]) == 200
    assert alice.confirm(str(ids(first)[0])).status_code == 200

    again = alice.begin_batch(*batch, headers=KEY)
    assert ids(again) == ids(first)
    done, pending, refused = results(again)
    assert (done["status"], done["upload"]["status"]) == (201, "completed")
    assert done["upload"]["request"] is None
    assert (
        pending["upload"]["request"]["headers"]
        == (results(first)[1]["upload"]["request"]["headers"])
    )
    assert refused == results(first)[2]
    assert Upload.objects.count() == 2

    assert ids(bob.begin_batch(*batch, headers=KEY)) != ids(first), "the key is the owner's"


def test_another_body_is_refused_and_nothing_of_it_begins(alice: App) -> None:
    first = alice.begin_batch({"filename": "a.jpg"}, {"filename": "b.jpg"}, headers=KEY)
    for other in (
        [{"filename": "b.jpg"}, {"filename": "a.jpg"}],
        [{"filename": "a.jpg"}, {"filename": "c.jpg"}],
        [{"filename": "a.jpg"}, {"filename": "b.jpg", "size": 1}, {}],
    ):
        refused = assert_error(
            alice.begin_batch(*other, headers=KEY), 409, "idempotency_key_reused"
        )
        assert refused["upload"]["id"] in ids(first)
    assert Upload.objects.count() == 2


def test_the_keys_of_batches_and_of_single_begins_are_different(alice: App) -> None:
    one = alice.begin(headers=KEY).json()["id"]
    assert ids(alice.begin_batch({"content_type": "image/jpeg"}, headers=KEY)) != [one]
    assert alice.begin(headers=KEY).json()["id"] == one


def test_what_was_refused_is_tried_again(alice: App, limit: Limit) -> None:
    limit(MAX_PENDING=2)
    batch = [{"filename": f"{number}.jpg"} for number in range(3)]
    first = alice.begin_batch(*batch, headers=KEY)
    assert codes(first) == [(201, None), (201, None), (429, "too_many_pending")]

    # A repeated begin needs no room.
    again = alice.begin_batch(*batch, headers=KEY)
    assert ids(again) == ids(first)
    assert codes(again) == codes(first)
    assert Usage.objects.get().pending == 2

    assert alice.delete(str(ids(first)[0])).status_code == 204
    third = alice.begin_batch(*batch, headers=KEY)
    assert codes(third) == [(201, None)] * 3
    assert ids(third)[:2] == ids(first)[:2]
    assert results(third)[0]["upload"]["status"] == "cancelled"
    assert (Upload.objects.count(), Usage.objects.get().pending) == (3, 2)


def test_a_repeat_finds_what_was_inserted_before_a_crash(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> None:
        raise SystemExit

    batch = [{"filename": "a.jpg"}, {"filename": "b.jpg"}]
    with monkeypatch.context() as patched:
        patched.setattr(batches, "presign", crash)
        with pytest.raises(SystemExit):
            alice.begin_batch(*batch, headers=KEY)
    inserted = {str(pk) for pk in Upload.objects.values_list("pk", flat=True)}
    assert len(inserted) == 2
    assert set(ids(alice.begin_batch(*batch, headers=KEY))) == inserted


def test_a_batch_whose_first_rows_vanish_meanwhile_answers_503(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = batches._begun_before

    def vanishes(new: Any) -> Any:
        Upload.objects.update(idempotency_key=None)
        return look(new)

    alice.begin_batch({}, headers=KEY)
    with monkeypatch.context() as patched:
        patched.setattr(batches, "_begun_before", vanishes)
        assert_error(alice.begin_batch({}, headers=KEY), 503, "bucket_unavailable")
    assert codes(alice.begin_batch({}, headers=KEY)) == [(201, None)]


@pytest.mark.parametrize("key", ["", "x" * 65, "é", "a\tb"])
def test_a_malformed_key_is_a_400(alice: App, key: str) -> None:
    answer = alice.begin_batch({}, headers={"Idempotency-Key": key})
    assert assert_error(answer, 400, "invalid")["errors"][0]["field"] == "Idempotency-Key"
    assert not Upload.objects.exists()


# Files in parts, and S3.


def test_a_file_in_parts_begins_alone(alice: App, s3_calls: list[str]) -> None:
    answer = alice.begin_batch({}, {"size": LARGE, "multipart": True}, {"multipart": True})
    assert codes(answer) == [(201, None), (409, "not_in_batch"), (201, None)]
    assert s3_calls == []
    assert Upload.objects.count() == 2
    assert alice.begin(size=LARGE, multipart=True).status_code == 201


def test_where_all_files_are_sent_in_parts_each_begins_alone(
    alice: App, storage_options: Callable[..., None]
) -> None:
    storage_options(overwrite_guard="multipart")
    assert codes(alice.begin_batch({}, {})) == [(409, "not_in_batch")] * 2
    assert not Upload.objects.exists()


def test_a_batch_begins_while_s3_is_away(alice: App, s3_away: Callable[[], None]) -> None:
    s3_away()
    assert codes(alice.begin_batch({}, {})) == [(201, None)] * 2


def test_what_cannot_be_signed_leaves_no_row(alice: App, monkeypatch: pytest.MonkeyPatch) -> None:
    sign = presigning.presign

    def fail(upload: Upload, *rest: Any) -> Any:
        if upload.filename == "b.jpg":
            raise ImproperlyConfigured("There are no credentials to sign with.")
        return sign(upload, *rest)

    monkeypatch.setattr(batches, "presign", fail)
    answer = alice.begin_batch({"filename": "a.jpg"}, {"filename": "b.jpg"})
    assert codes(answer) == [(201, None), (503, "misconfigured")]
    assert Upload.objects.get().filename == "a.jpg"


def test_a_hook_that_fails_concerns_its_own_upload(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.host_app import Albums

    def crash(self: Albums, upload: Upload, request: Any) -> bool:
        return bool(1 / (upload.filename != "crash.jpg"))

    monkeypatch.setattr(Albums, "has_permission", crash)
    album = {"destination": "albums", "context": {"album": 1}}
    answer = alice.begin_batch(album, {**album, "filename": "crash.jpg"}, {})
    assert codes(answer) == [(201, None), (503, "hook_failed"), (201, None)]
    assert results(answer)[1]["error"]["retry_after"] == 5


def test_a_wait_for_locks_lets_no_signature_outlive_what_its_row_says(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = Upload.save

    def be_slow(self: Upload, **options: Any) -> None:
        time.sleep(2.1)
        insert(self, **options)

    monkeypatch.setattr(Upload, "save", be_slow)
    assert_signature_ends_in_time(alice.begin().json())


@pytest.mark.parametrize("count", [1, 3])
def test_slow_hooks_let_no_signature_outlive_what_its_row_says(
    alice: App, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    from tests.host_app import Albums

    def be_slow(self: Albums, upload: Upload, request: Any) -> bool:
        time.sleep(1.1)
        return True

    monkeypatch.setattr(Albums, "has_permission", be_slow)
    album: dict[str, Any] = {"destination": "albums", "context": {"album": 1}}
    if count == 1:
        begun = [alice.begin(**album).json()]
    else:
        begun = [each["upload"] for each in results(alice.begin_batch(*[album] * count))]
    for each in begun:
        assert each["request"]["expires_in"] == 3600, "the hooks take nothing of its life"
        assert_signature_ends_in_time(each)


def assert_signature_ends_in_time(begun: Any) -> None:
    said = dict(parse_qsl(urlsplit(begun["request"]["url"]).query))
    signed_at = datetime.strptime(f"{said['X-Amz-Date']}+0000", "%Y%m%dT%H%M%SZ%z")
    ends_at = signed_at + timedelta(seconds=int(said["X-Amz-Expires"]))
    assert int(said["X-Amz-Expires"]) == begun["request"]["expires_in"]
    assert ends_at <= Upload.objects.get(pk=begun["id"]).url_expires_at + timedelta(seconds=1)


# Who may call.


def test_without_a_login_no_batch_begins(nobody: App) -> None:
    assert_error(nobody.begin_batch({}), 403, "not_authenticated")
    assert_error(nobody.confirm_batch(["x"]), 403, "not_authenticated")


def test_a_hosts_view_decides(alice: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its permissions see the names of these calls, and its get_owner names the owner."""
    asked = []

    class Ask(BasePermission):
        def has_permission(self, request: Any, view: Any) -> bool:
            asked.append(view.action)
            return not view.action.startswith("confirm")

    other = User.objects.create_user("other")
    monkeypatch.setattr(UploadViewSet, "permission_classes", [Ask])
    monkeypatch.setattr(UploadViewSet, "get_owner", lambda self: other)
    assert codes(alice.begin_batch({})) == [(201, None)]
    assert Upload.objects.get().owner == other
    assert_error(alice.confirm_batch(["x"]), 403, "permission_denied")
    assert asked == ["begin_batch", "confirm_batch"]


@pytest.mark.parametrize("path", ["batch/", "batch/confirm/"])
@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_other_methods_are_not_allowed(alice: App, path: str, method: str) -> None:
    answer = getattr(alice.client, method)(URL + path)
    assert_error(answer, 405, "method_not_allowed")


# By a script.


def test_a_script_gets_the_errors_themselves(alice: App) -> None:
    photo = {"destination": "photos", "filename": "a.jpg", "size": 5}
    begun, refused = lifecycle.begin_many(
        [photo, {**photo, "destination": "nowhere"}], owner=alice.user
    )
    assert isinstance(begun, tuple)
    assert begun[0].status == "pending"
    assert isinstance(refused, Exception)
    assert "No such destination." in str(refused)
    assert lifecycle.begin_many([], owner=None) == []
    with pytest.raises(OwnerUnknown):
        lifecycle.begin_many([photo], owner=User(username="unsaved"))


def test_a_batch_rolls_back_with_a_scripts_transaction(alice: App) -> None:
    photo = {"destination": "photos", "filename": "a.jpg", "size": 5}
    with transaction.atomic():
        assert len(lifecycle.begin_many([photo, photo], owner=alice.user)) == 2
        assert Upload.objects.count() == 2
        transaction.set_rollback(True)
    assert not Upload.objects.exists()


def test_an_owner_who_was_deleted_meanwhile_is_unknown(alice: App) -> None:
    user = User.objects.get(pk=alice.user.pk)  # type: ignore[union-attr]
    User.objects.all().delete()
    photo = {"destination": "photos", "filename": "a.jpg", "size": 5}
    with transaction.atomic(), pytest.raises(OwnerUnknown):
        lifecycle.begin_many([photo], owner=user)


def test_a_host_can_remove_the_calls(alice: App) -> None:
    class Alone(UploadViewSet):
        begin_batch = None  # type: ignore[assignment]
        confirm_batch = None  # type: ignore[assignment]

    router = SimpleRouter()
    router.register("", Alone, basename="upload")
    names = [getattr(pattern, "name", "") for pattern in router.urls]
    assert "upload-confirm" in names
    assert not [name for name in names if "batch" in name]
