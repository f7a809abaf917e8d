"""From begin to download: what was asked, what S3 was told, what came back, what the row says."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
import requests
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from s3direct_uploads import lifecycle, signals
from s3direct_uploads.lifecycle import operations
from s3direct_uploads.models import Upload

from .conftest import JPEG, URL, App, Bucket, Connect, row


def test_a_file_goes_straight_to_s3_and_is_confirmed(alice: App, s3: Bucket) -> None:
    begun = alice.begin(filename="Mein Strand.jpg")

    assert begun.status_code == 201
    assert begun["Cache-Control"] == "no-store"
    body = dict(begun.json())
    request = body.pop("request")
    assert body.pop("created_at") < body.pop("expires_at")
    assert UUID(body.pop("id")).version == 7
    assert body.pop("form_value") == row(begun).form_value
    assert body == {
        "status": "pending",
        "destination": "photos",
        "filename": "Mein Strand.jpg",
        "content_type": "image/jpeg",
        "size": len(JPEG),
        "context": {},
        "completed_at": None,
        "reason": None,
        "multipart": None,
    }
    assert request["method"] == "PUT"
    assert request["headers"] == {"Content-Type": "image/jpeg", "If-None-Match": "*"}
    assert request["expires_in"] == 3600
    upload = row(begun)
    assert upload.owner == alice.user
    assert (upload.status, upload.etag, upload.due_at) == (
        "pending",
        "",
        upload.url_expires_at + timedelta(hours=1),
    )
    assert s3.read(upload) is None

    assert alice.send(request) == 200

    confirmed = alice.confirm(begun.json()["id"])
    assert confirmed.status_code == 200
    assert confirmed.json()["status"] == "completed"
    assert confirmed.json()["request"] is None
    assert parse_datetime(confirmed.json()["completed_at"]) is not None
    upload = row(confirmed)
    assert upload.etag == f'"{hashlib.md5(JPEG).hexdigest()}"'
    assert upload.announced_at is not None
    assert upload.due_at is None
    assert s3.read(upload) == JPEG

    assert alice.confirm(str(upload.pk)).json() == confirmed.json()


def test_the_signature_pins_what_was_declared(alice: App) -> None:
    request = alice.begin().json()["request"]
    query = parse_qs(urlsplit(request["url"]).query)
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-SignedHeaders"] == ["content-length;content-type;host;if-none-match"]


def test_the_key_is_ours_and_says_nothing_of_the_row(alice: App) -> None:
    one, two = (row(alice.begin(filename="../x y.jpg".replace("/", "_"))) for _ in range(2))
    location, prefix, segment, tail = one.key.split("/")
    assert (location, prefix, len(segment), tail) == ("site", "photos", 33, "_x-y.jpg")
    assert one.name == f"photos/{segment}/{tail}"
    assert one.key != two.key
    assert str(one.pk) not in one.key
    assert one.pk < two.pk, "ids are ordered by time"


def test_a_second_put_is_refused_by_s3_and_leads_to_the_same_confirm(
    alice: App, s3: Bucket
) -> None:
    begun = alice.begin().json()
    assert alice.send(begun["request"]) == 200
    assert alice.send(begun["request"], JPEG[::-1]) == 412
    upload = row(alice.confirm(begun["id"]))
    assert upload.status == "completed"
    assert alice.send(begun["request"], JPEG[::-1]) == 412
    assert s3.read(upload) == JPEG


def test_begin_is_one_insert_and_asks_s3_nothing(
    alice: App, s3_calls: list[str], django_assert_num_queries: Any
) -> None:
    alice.begin()
    s3_calls.clear()
    with django_assert_num_queries(3) as queries:
        assert alice.begin().status_code == 201
    session, user, insert = (query["sql"] for query in queries.captured_queries)
    assert "django_session" in session
    assert "auth_user" in user
    assert insert.startswith("INSERT")
    assert s3_calls == []


def test_confirm_is_one_head_and_three_queries(
    alice: App, s3_calls: list[str], django_assert_num_queries: Any
) -> None:
    begun = alice.begin().json()
    alice.send(begun["request"])
    with django_assert_num_queries(5) as queries:
        assert alice.confirm(begun["id"]).status_code == 200
    verbs = [query["sql"].split()[0] for query in queries.captured_queries]
    assert verbs == ["SELECT", "SELECT", "SELECT", "UPDATE", "UPDATE"]  # two authenticate
    assert s3_calls == ["HeadObject"]

    with django_assert_num_queries(3):
        assert alice.confirm(begun["id"]).status_code == 200
    assert s3_calls == ["HeadObject"], "a second confirm is answered from the row"


@pytest.mark.parametrize(
    ("algorithm", "value"),
    [
        ("SHA256", base64.b64encode(hashlib.sha256(JPEG).digest()).decode()),
        ("CRC32", base64.b64encode(zlib.crc32(JPEG).to_bytes(4)).decode()),
    ],
)
def test_a_declared_checksum_is_signed_and_compared(
    alice: App, s3: Bucket, algorithm: str, value: str
) -> None:
    begun = alice.begin(checksum={"algorithm": algorithm, "value": value}).json()
    assert begun["request"]["headers"][f"x-amz-checksum-{algorithm.lower()}"] == value
    signed = parse_qs(urlsplit(begun["request"]["url"]).query)["X-Amz-SignedHeaders"][0]
    assert f"x-amz-checksum-{algorithm.lower()}" in signed.split(";")
    assert alice.send(begun["request"]) == 200
    assert row(alice.confirm(begun["id"])).status == "completed"


def test_a_crc64nvme_is_signed(alice: App) -> None:
    begun = alice.begin(checksum={"algorithm": "CRC64NVME", "value": "AAAAAAAAAAA="}).json()
    assert begun["request"]["headers"]["x-amz-checksum-crc64nvme"] == "AAAAAAAAAAA="


def test_an_empty_file(alice: App, s3: Bucket) -> None:
    upload = row(alice.upload(b""))
    assert (upload.status, upload.size, s3.read(upload)) == ("completed", 0, b"")


@pytest.mark.parametrize(
    ("filename", "content_type", "kept"),
    [
        ("IMG_1.HEIC", "", "image/heic"),
        ("IMG_1.HEIC", None, "image/heic"),
        ("a.webp", "", "image/webp"),
        ("a.jpg", "IMAGE/JPEG", "image/jpeg"),
        ("a.png", "image/png; charset=binary", "image/png; charset=binary"),
    ],
)
def test_a_content_type_is_guessed_or_normalised(
    alice: App, filename: str, content_type: str | None, kept: str
) -> None:
    begun = alice.begin(filename=filename, content_type=content_type)
    assert begun.json()["content_type"] == kept
    assert begun.json()["request"]["headers"]["Content-Type"] == kept


def test_a_recorders_type_with_parameters_arrives_as_declared(alice: App) -> None:
    confirmed = alice.upload(
        destination="documents", filename="a.webm", content_type="video/webm;codecs=vp8,opus"
    )
    assert confirmed.json()["content_type"] == "video/webm;codecs=vp8,opus"


def test_own_uploads_newest_first(alice: App, bob: App) -> None:
    theirs = alice.begin(filename="theirs.jpg").json()["id"]
    mine = [bob.begin(filename=f"{n}.jpg").json()["id"] for n in range(52)]

    page = bob.get().json()
    assert [each["id"] for each in page["results"]] == mine[:1:-1]
    assert all(each["request"] is None for each in page["results"])
    rest = bob.client.get(page["next"]).json()
    assert [each["id"] for each in rest["results"]] == mine[1::-1]
    assert rest["next"] is None
    assert theirs not in str(page) + str(rest)


def test_the_list_can_be_narrowed(alice: App) -> None:
    pending = alice.begin(filename="a.jpg").json()["id"]
    completed = alice.upload(filename="b.jpg").json()["id"]
    larger = alice.begin(filename="a.jpg", size=99, destination="documents").json()["id"]

    def ids(**query: Any) -> list[str]:
        return [each["id"] for each in alice.get(**query).json()["results"]]

    assert ids(status="completed") == [completed]
    assert ids(status="pending") == [larger, pending]
    assert ids(destination="documents") == [larger]
    assert ids(filename="a.jpg", size=len(JPEG)) == [pending]
    assert ids(filename="none.jpg") == []


def test_retrieve(alice: App) -> None:
    begun = alice.begin().json()
    assert alice.get(f"{begun['id']}/").json() == {**begun, "request": None}


def test_renew_signs_the_same_declaration_anew(alice: App, s3: Bucket) -> None:
    begun = alice.begin().json()
    Upload.objects.update(url_expires_at=timezone.now() - timedelta(seconds=1))

    renewed = alice.renew(begun["id"])

    assert renewed.status_code == 200
    assert renewed["Cache-Control"] == "no-store"
    assert renewed.json()["request"]["headers"] == begun["request"]["headers"]
    upload = row(renewed)
    assert upload.url_expires_at > timezone.now() + timedelta(minutes=59)
    assert upload.due_at == upload.url_expires_at + timedelta(hours=1)
    assert upload.expires_at == parse_datetime(begun["expires_at"]), "its deadline stays"
    assert alice.send(renewed.json()["request"]) == 200
    assert row(alice.confirm(begun["id"])).status == "completed"


def test_no_signature_outlives_the_deadline(alice: App) -> None:
    id = alice.begin().json()["id"]
    Upload.objects.update(expires_at=timezone.now() + timedelta(minutes=10))
    assert 590 <= alice.renew(id).json()["request"]["expires_in"] <= 600


def test_an_older_signature_that_lives_longer_is_not_forgotten(alice: App, settings: Any) -> None:
    id = alice.begin().json()["id"]
    before = Upload.objects.get().url_expires_at
    settings.S3DIRECT_UPLOADS = {**settings.S3DIRECT_UPLOADS, "URL_EXPIRES": 60}
    assert alice.renew(id).json()["request"]["expires_in"] == 60
    assert Upload.objects.get().url_expires_at == before


def test_url_and_download_under_the_human_name(alice: App) -> None:
    id = alice.upload(filename="Füße 🦶.jpg").json()["id"]

    answer = alice.get(f"{id}/url/")
    assert answer["Cache-Control"] == "no-store"
    assert answer.json()["expires_in"] == 3600
    found = requests.get(answer.json()["url"], timeout=10)
    assert found.content == JPEG
    assert found.headers["Content-Type"] == "image/jpeg"
    assert found.headers["Content-Disposition"] == (
        "attachment; filename*=utf-8''F%C3%BC%C3%9Fe%20%F0%9F%A6%B6.jpg"
    )

    redirect = alice.client.get(
        f"{URL}{id}/download/?disposition=inline", headers={"Accept": "image/*"}
    )
    assert redirect.status_code == 302
    assert redirect["Cache-Control"] == "no-store"
    found = requests.get(redirect["Location"], timeout=10)
    assert found.content == JPEG
    assert found.headers["Content-Disposition"].startswith("inline;")


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("image/png", 200),
        ("video/mp4", 200),
        ("audio/mpeg", 200),
        ("application/pdf", 200),
        ("image/svg+xml", 400),
        ("text/html", 400),
        ("application/pdfx", 400),
        ("application/octet-stream", 400),
    ],
)
def test_only_harmless_types_are_shown_inline(alice: App, content_type: str, status: int) -> None:
    upload = alice.upload(destination="documents", filename="a", content_type=content_type)
    id = upload.json()["id"]
    answer = alice.get(f"{id}/url/", disposition="inline")
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["errors"][0]["code"] == "not_inline"
    assert alice.get(f"{id}/url/").status_code == 200


def test_delete_gives_up_a_pending_upload(alice: App, s3: Bucket, connect: Connect) -> None:
    cancelled = []
    begun = alice.begin().json()

    def on_cancel(upload: Upload, **_: Any) -> None:
        cancelled.append(upload)

    connect(signals.upload_cancelled, on_cancel)

    assert [alice.delete(begun["id"]).status_code for _ in range(2)] == [204, 204]

    upload = row(alice.get(f"{begun['id']}/"))
    assert cancelled == [upload], "once"
    assert upload.status == "cancelled"
    assert upload.due_at == upload.url_expires_at + timedelta(hours=1)
    answer = alice.confirm(begun["id"])
    assert (answer.status_code, answer.json()["code"]) == (410, "not_pending")


def test_delete_of_a_completed_upload_waits_until_its_key_is_closed(alice: App, s3: Bucket) -> None:
    begun = alice.begin().json()
    alice.send(begun["request"])
    alice.confirm(begun["id"])

    assert alice.delete(begun["id"]).status_code == 204

    upload = Upload.objects.get()
    assert upload.status == "deleted"
    assert upload.object_deleted_at is None
    assert upload.due_at == upload.key_closes_at
    # Deleted now, its key would be open to whoever holds the URL.
    assert s3.read(upload) == JPEG
    assert alice.send(begun["request"], JPEG[::-1]) == 412
    assert alice.get(f"{begun['id']}/url/").json()["code"] == "not_completed"


@pytest.mark.parametrize("age", [timedelta(hours=5), timedelta(days=3)])
def test_delete_of_an_old_upload_deletes_its_object_at_once(
    alice: App, s3: Bucket, age: timedelta
) -> None:
    id = alice.upload().json()["id"]
    Upload.objects.update(url_expires_at=timezone.now() - age)

    assert alice.delete(id).status_code == 204

    upload = Upload.objects.get()
    assert upload.status == "deleted"
    assert s3.read(upload) is None
    if age > timedelta(days=1):
        assert upload.object_deleted_at is not None
        assert upload.due_at == upload.object_deleted_at + timedelta(days=7)  # to be pruned
    else:  # a PUT may yet have been under way: somebody looks once more
        assert upload.object_deleted_at is None
        assert upload.due_at is not None
        assert timedelta(hours=23) < upload.due_at - timezone.now() < timedelta(hours=25)


def test_delete_while_s3_is_away_leaves_it_to_the_sweep(
    alice: App, s3: Bucket, s3_away: Callable[[], None]
) -> None:
    upload = row(alice.begin())
    s3_away()
    past = timezone.now() - timedelta(days=3)
    Upload.objects.update(status="completed", completed_at=past, url_expires_at=past)
    assert alice.delete(str(upload.pk)).status_code == 204
    upload.refresh_from_db()
    assert (upload.status, upload.object_deleted_at) == ("deleted", None)
    assert upload.due_at == upload.key_closes_at


def test_a_begin_whose_elder_vanishes_that_moment_is_to_be_repeated(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood in the way of the INSERT, and is gone when it is looked for."""
    look = operations._begun_before

    def vanishes(upload: Upload) -> Upload | None:
        Upload.objects.update(idempotency_key=None)
        return look(upload)

    monkeypatch.setattr(operations, "_begun_before", vanishes)
    key = {"Idempotency-Key": "9d7e"}
    assert alice.begin(headers=key).status_code == 201
    answer = alice.begin(headers=key)
    assert (answer.status_code, answer.json()["code"]) == (503, "bucket_unavailable")
    assert alice.begin(headers=key).status_code == 201


def test_a_begin_may_be_repeated(alice: App, bob: App) -> None:
    key = {"Idempotency-Key": "9d7f"}
    first = alice.begin(headers=key)
    again = alice.begin(headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"]
    assert again.json()["request"]["headers"] == first.json()["request"]["headers"]
    assert Upload.objects.count() == 1

    assert alice.send(again.json()["request"]) == 200
    alice.confirm(first.json()["id"])
    settled = alice.begin(headers=key)
    assert settled.status_code == 201
    assert (settled.json()["status"], settled.json()["request"]) == ("completed", None)

    other = alice.begin(headers=key, size=1)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    assert other.json()["upload"]["id"] == first.json()["id"]

    assert bob.begin(headers=key).json()["id"] != first.json()["id"], "the key is the owner's"


def test_a_completion_is_announced_once_and_its_handlers_cannot_break_it(
    alice: App, caplog: pytest.LogCaptureFixture, connect: Connect
) -> None:
    heard: list[tuple[Any, ...]] = []

    def listen(sender: Any, upload: Upload, cause: str, **_: Any) -> None:
        heard.append((sender, upload.pk, upload.status, cause, Upload.objects.get().status))
        raise RuntimeError("a handler's bug")

    connect(signals.upload_completed, listen)
    confirmed = alice.upload()
    alice.confirm(confirmed.json()["id"])

    upload = row(confirmed)
    assert heard == [(Upload, upload.pk, "completed", "client", "completed")]
    assert upload.announced_at is not None
    assert "a handler's bug" in caplog.text


def test_a_handler_may_attach(alice: App, connect: Connect) -> None:
    names = []

    def attach(upload: Upload, **_: Any) -> None:
        names.append(Upload.objects.get(pk=upload.pk).attach())

    connect(signals.upload_completed, attach)
    upload = row(alice.upload())
    assert names == [upload.name]
    assert upload.attached_at is not None
    assert upload.announced_at is not None
    assert upload.due_at is None


def test_a_handler_may_delete(alice: App, connect: Connect) -> None:
    def scan(upload: Upload, **_: Any) -> None:
        lifecycle.cancel(upload)

    connect(signals.upload_completed, scan)
    upload = row(alice.upload())
    assert upload.status == "deleted"
    assert upload.due_at == upload.key_closes_at, "its object is not forgotten"


def test_a_scanners_tag_is_no_clients(alice: App, s3: Bucket) -> None:
    begun = alice.begin()
    alice.send(begun.json()["request"])
    tags = {"TagSet": [{"Key": "GuardDutyMalwareScanStatus", "Value": "NO_THREATS_FOUND"}]}
    s3.client.put_object_tagging(Bucket=s3.name, Key=row(begun).key, Tagging=tags)
    assert alice.confirm(begun.json()["id"]).status_code == 200


def test_a_projects_formats_do_not_change_the_contract(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rest_framework.settings.api_settings.DATETIME_FORMAT", "%d.%m.%Y")
    begun = alice.begin().json()
    assert parse_datetime(begun["created_at"]) == Upload.objects.get().created_at
    assert begun["size"] == len(JPEG)
