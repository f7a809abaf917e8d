"""A scan holds what was confirmed: nobody has it, until the host accepts or rejects it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.transaction import TransactionManagementError
from django.utils import timezone

from s3direct_uploads import lifecycle, signals
from s3direct_uploads.exceptions import (
    BucketUnavailable,
    NotCompleted,
    NotHeld,
    ObjectMismatch,
    ObjectMissing,
)
from s3direct_uploads.models import Upload, Usage
from s3direct_uploads.s3 import get_bucket
from tests.conftest import (
    DAY,
    FILM,
    FILMS,
    HOUR,
    JPEG,
    LAST,
    App,
    Bucket,
    Connect,
    age,
    begin_last_part,
    row,
    sweep,
)
from tests.host_app import PhotoSerializer

MINUTE = timedelta(minutes=1)
Status = Upload.Status


@pytest.fixture(autouse=True)
def holding(settings: Any) -> None:
    """Photos and films are held for a scan."""
    ours = settings.S3DIRECT_UPLOADS
    photos = {**ours["DESTINATIONS"]["photos"], "HOLD": True}
    films = {**FILMS, "HOLD": True}
    known = {**ours["DESTINATIONS"], "photos": photos, "films": films}
    settings.S3DIRECT_UPLOADS = {**ours, "DESTINATIONS": known}


@pytest.fixture
def heard(connect: Connect) -> list[str]:
    """What the host is told: ["held by client", "completed by scan"]."""
    told: list[str] = []
    sent = {
        "held": signals.upload_held,
        "completed": signals.upload_completed,
        "rejected": signals.upload_rejected,
        "cancelled": signals.upload_cancelled,
    }

    def note(signal: Any, cause: str | None = None, **_: Any) -> None:
        name = next(name for name in sent if sent[name] is signal)
        told.append(f"{name} by {cause}" if cause else name)

    for each in sent.values():
        connect(each, note)
    return told


@pytest.fixture
def held(alice: App, heard: list[str]) -> Upload:
    """A photo of alice's, which a scan holds."""
    upload = row(alice.upload())
    assert upload.status == "verifying"
    heard.clear()
    return upload


# Confirm holds it.


def test_confirm_answers_202_now_and_every_time(
    alice: App, heard: list[str], s3_calls: list[str]
) -> None:
    answer = alice.upload()
    assert (answer.status_code, answer.json()["status"]) == (202, "verifying")
    assert heard == ["held by client"]
    assert s3_calls == ["HeadObject"]
    again = alice.confirm(answer.json()["id"])
    assert (again.status_code, again.json()) == (202, answer.json())
    assert heard == ["held by client"]
    assert s3_calls == ["HeadObject"]
    upload = row(answer)
    assert upload.held_at is not None
    assert upload.due_at == upload.held_at + 15 * MINUTE
    assert upload.etag
    assert (upload.completed_at, upload.announced_at) == (None, None)


def test_what_is_not_as_declared_is_rejected_before_any_scan(
    alice: App, s3: Bucket, heard: list[str]
) -> None:
    upload = row(alice.begin())
    s3.write(upload, b"something else")
    assert alice.confirm(str(upload.pk)).json()["code"] == "object_mismatch"
    assert heard == ["rejected"]


def test_verify_comes_before_the_hold(alice: App, settings: Any, monkeypatch: Any) -> None:
    from tests.host_app import Albums

    monkeypatch.setattr(Albums, "hold", True)
    album = {"destination": "albums", "context": {"album": 1}}
    assert alice.upload(b"x" * 13, **album).json()["code"] == "object_mismatch"
    assert alice.upload(b"x" * 12, **album).json()["status"] == "verifying"


def test_nobody_can_use_a_held_upload(alice: App, held: Upload) -> None:
    id = str(held.pk)
    for path in ("url/", "download/", "url/?disposition=inline"):
        answer = alice.client.get(f"/api/uploads/{id}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (409, "not_completed")
    assert alice.renew(id).json()["code"] == "not_pending"
    with pytest.raises(NotCompleted):
        held.attach()

    class Request:
        user = alice.user

    serializer = PhotoSerializer(data={"image": id}, context={"request": Request()})
    assert not serializer.is_valid()
    assert serializer.errors["image"][0].code == "not_completed"
    held.refresh_from_db()
    assert (held.status, held.attached_at) == ("verifying", None)


def test_the_owner_sees_that_it_is_held(alice: App, bob: App, held: Upload) -> None:
    assert alice.get(f"{held.pk}/").json()["status"] == "verifying"
    [listed] = alice.get(status="verifying").json()["results"]
    assert listed["id"] == str(held.pk)
    assert bob.get(f"{held.pk}/").status_code == 404


def test_a_repeated_begin_answers_with_the_held_upload(alice: App) -> None:
    key = {"Idempotency-Key": "once"}
    begun = alice.begin(key).json()
    alice.send(begun["request"])
    assert alice.confirm(begun["id"]).status_code == 202
    again = alice.begin(key).json()
    assert (again["id"], again["status"], again["request"]) == (begun["id"], "verifying", None)


def test_what_is_sent_in_parts_is_held_too(alice: App, heard: list[str]) -> None:
    upload, part = begin_last_part(alice)
    assert alice.send(part, LAST) == 200
    assert alice.confirm(str(upload.pk)).json()["status"] == "verifying"
    upload.refresh_from_db()
    with lifecycle.open_held(upload) as file:
        assert file.read() == LAST
    assert lifecycle.accept(upload).status == "completed"
    assert heard == ["held by client", "completed by scan"]


def test_what_a_script_stores_is_held_too(db: None, s3: Bucket, heard: list[str]) -> None:
    import io

    upload = lifecycle.store(io.BytesIO(JPEG), destination="photos", filename="a.jpg")
    assert (upload.status, heard) == ("verifying", ["held by store"])


def test_an_event_holds_and_does_not_complete(alice: App, s3: Bucket, heard: list[str]) -> None:
    begun = alice.begin().json()
    alice.send(begun["request"])
    upload = Upload.objects.get()
    noticed = lifecycle.notice(s3.name, upload.key)
    assert noticed is not None
    assert (noticed.status, heard) == ("verifying", ["held by event"])
    lifecycle.notice(s3.name, upload.key)  # it comes twice
    assert heard == ["held by event"]


def test_a_sweep_that_finds_a_lost_confirm_holds_it(alice: App, heard: list[str]) -> None:
    begun = alice.begin().json()
    alice.send(begun["request"])
    age(2 * HOUR)
    assert sweep() == {"verifying": 1}
    assert heard == ["held by sweep"]
    assert alice.confirm(begun["id"]).status_code == 202


def test_the_rules_of_the_moment_decide(alice: App, settings: Any) -> None:
    begun = [alice.begin().json() for _ in range(2)]
    for each in begun:
        alice.send(each["request"])
    with_hold = settings.S3DIRECT_UPLOADS
    photos = {**with_hold["DESTINATIONS"]["photos"], "HOLD": False}
    known = {**with_hold["DESTINATIONS"], "photos": photos}
    settings.S3DIRECT_UPLOADS = {**with_hold, "DESTINATIONS": known}
    assert alice.confirm(begun[0]["id"]).status_code == 200
    # A destination that was renamed loses no scan: the row remembers.
    known = {name: rules for name, rules in known.items() if name != "photos"}
    settings.S3DIRECT_UPLOADS = {**with_hold, "DESTINATIONS": known}
    assert alice.confirm(begun[1]["id"]).json()["status"] == "verifying"


# Reading it, for the scan.


def test_a_scan_reads_what_was_held(held: Upload, s3_calls: list[str]) -> None:
    with lifecycle.open_held(held) as file:
        assert file.read(4) == JPEG[:4]
        assert file.read() == JPEG[4:]
        assert file.read() == b""
        assert file.seek(-5, 2) == len(JPEG) - 5
        assert file.read() == JPEG[-5:]
    assert s3_calls == ["GetObject"] * 2


def test_a_large_object_is_read_in_pieces(alice: App, s3_calls: list[str]) -> None:
    upload = row(alice.begin_film())
    parts = alice.sign_parts(str(upload.pk), [1, 2]).json()["parts"]
    assert alice.send_parts(parts) == [200, 200]
    alice.confirm(str(upload.pk))
    upload.refresh_from_db()
    s3_calls.clear()
    with lifecycle.open_held(upload) as file:
        assert file.read(10) == FILM[:10]
        file.seek(-len(LAST), 2)  # as a ZIP's reader does
        assert file.read() == LAST
        file.seek(0)
        assert file.read() == FILM
    assert s3_calls == ["GetObject"] * 3
    s3_calls.clear()


def test_an_empty_object_is_read_without_asking(alice: App, s3_calls: list[str]) -> None:
    upload = row(alice.upload(b""))
    s3_calls.clear()
    with lifecycle.open_held(upload) as file:
        assert file.read() == b""
    assert s3_calls == []


def test_a_connection_that_breaks_is_opened_where_it_broke(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import ReadTimeoutError
    from botocore.response import StreamingBody

    upload = row(alice.upload(body := bytes(range(256)) * 8192))  # 2 MiB
    read, broken = StreamingBody.read, iter([False, True, True, False, True])

    def break_often(self: Any, amt: int | None = None) -> bytes:
        if next(broken, False):
            raise ReadTimeoutError(endpoint_url="https://s3")
        found: bytes = read(self, amt)
        return found

    monkeypatch.setattr(StreamingBody, "read", break_often)
    with lifecycle.open_held(upload) as file:
        assert file.read() == body
    monkeypatch.setattr(StreamingBody, "read", lambda *_: 1 / 0)
    broken = iter([True] * 5)
    monkeypatch.setattr(StreamingBody, "read", break_often)
    with lifecycle.open_held(upload) as file, pytest.raises(BucketUnavailable):
        file.read()


def test_another_object_is_never_read_for_it(held: Upload, s3: Bucket) -> None:
    s3.write(held, b"y" * len(JPEG))
    with lifecycle.open_held(held) as file, pytest.raises(ObjectMismatch):
        file.read()
    s3.client.delete_object(Bucket=s3.name, Key=held.key)
    with lifecycle.open_held(held) as file, pytest.raises(ObjectMissing):
        file.read()


def test_only_what_is_held_is_opened(alice: App, held: Upload) -> None:
    pending = row(alice.begin())
    with pytest.raises(NotHeld):
        lifecycle.open_held(pending)
    lifecycle.accept(held)
    with pytest.raises(NotHeld):
        lifecycle.open_held(held)


@pytest.mark.django_db(transaction=True)
def test_nothing_waits_for_s3_in_a_transaction(held: Upload) -> None:
    for operation in (
        lifecycle.open_held,
        lifecycle.accept,
        lambda upload: lifecycle.reject(upload, "no"),
    ):
        with transaction.atomic(), pytest.raises(TransactionManagementError):
            operation(held)
    held.refresh_from_db()
    assert held.status == "verifying"


# Accept.


def test_accept_completes_and_announces_once(alice: App, held: Upload, heard: list[str]) -> None:
    assert lifecycle.accept(held).status == "completed"
    assert heard == ["completed by scan"]
    again = Upload.objects.get()
    assert lifecycle.accept(again).status == "completed"
    assert heard == ["completed by scan"]
    assert again.announced_at is not None
    assert (again.due_at, again.held_at) == (None, held.held_at)
    answer = alice.confirm(str(held.pk))
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")
    assert alice.get(f"{held.pk}/url/").status_code == 200
    assert again.attach()


def test_accept_that_died_before_its_handlers_is_announced_by_the_sweep(
    held: Upload, heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(signals.upload_completed, "send_robust", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            lifecycle.accept(held)
    assert heard == []
    age(HOUR)
    assert sweep() == {"announced": 1}
    assert heard == ["completed by sweep"]


def test_accept_is_not_fooled_by_an_object_that_was_replaced(
    alice: App, held: Upload, s3: Bucket, heard: list[str]
) -> None:
    s3.write(held, b"y" * len(JPEG))
    with pytest.raises(ObjectMismatch):
        lifecycle.accept(held)
    assert (held.status, heard) == ("rejected", ["rejected"])
    answer = alice.confirm(str(held.pk))
    assert (answer.status_code, answer.json()["code"]) == (422, "object_mismatch")
    with pytest.raises(NotHeld):
        lifecycle.accept(held)


def test_accept_of_an_object_that_is_gone_rejects(held: Upload, s3: Bucket) -> None:
    s3.client.delete_object(Bucket=s3.name, Key=held.key)
    with pytest.raises(ObjectMismatch):
        lifecycle.accept(held)
    assert held.status == "rejected"


def test_a_bucket_that_is_gone_rejects_nothing(
    make_user: Callable[..., Any], s3: Bucket, storage_options: Callable[..., None]
) -> None:
    """It answers 404 for every key, so that this says nothing about one of them."""
    s3.name = f"gone-{uuid.uuid4().hex}"
    s3.client.create_bucket(Bucket=s3.name)
    storage_options(bucket_name=s3.name)
    upload = row(App(make_user()).upload())
    s3.client.delete_object(Bucket=s3.name, Key=upload.key)
    s3.client.delete_bucket(Bucket=s3.name)
    with lifecycle.open_held(upload) as file, pytest.raises(BucketUnavailable):
        file.read()
    with pytest.raises(BucketUnavailable):
        lifecycle.accept(upload)
    upload.refresh_from_db()
    assert upload.status == "verifying"


def test_while_s3_is_away_accept_changes_nothing(held: Upload, s3_away: Callable[[], None]) -> None:
    s3_away()
    with pytest.raises(BucketUnavailable):
        lifecycle.accept(held)
    held.refresh_from_db()
    assert held.status == "verifying"
    assert lifecycle.reject(held, "no").status == "rejected"


def test_only_what_is_held_is_accepted_or_rejected(alice: App, held: Upload) -> None:
    pending = row(alice.begin())
    for operation in (lifecycle.accept, lambda upload: lifecycle.reject(upload, "no")):
        with pytest.raises(NotHeld) as refusal:
            operation(pending)
        assert refusal.value.upload == pending
    alice.delete(str(held.pk))
    with pytest.raises(NotHeld):
        lifecycle.accept(held)
    with pytest.raises(NotHeld):
        lifecycle.reject(held, "no")
    pending.refresh_from_db()
    assert pending.status == "pending"


# Reject.


def test_reject_tells_the_client_why(alice: App, held: Upload, heard: list[str]) -> None:
    assert lifecycle.reject(held, "Eicar-Test-Signature was found.").status == "rejected"
    assert heard == ["rejected"]
    for _ in range(2):
        answer = alice.confirm(str(held.pk))
        assert (answer.status_code, answer.json()["code"]) == (422, "object_mismatch")
        assert answer.json()["upload"]["reason"] == "Eicar-Test-Signature was found."
    lifecycle.reject(held, "Another reason.")
    with pytest.raises(NotHeld):
        lifecycle.accept(held)
    assert Upload.objects.get().reason == "Eicar-Test-Signature was found."
    assert heard == ["rejected"]


def test_what_was_rejected_is_deleted_when_no_url_can_write_it_again(
    alice: App, held: Upload, s3: Bucket
) -> None:
    lifecycle.reject(held, "Infected.")
    held.refresh_from_db()
    assert held.due_at == held.key_closes_at
    assert sweep() == {}
    assert s3.read(held) == JPEG
    age(3 * HOUR)
    assert sweep() == {"cleaned": 1}
    assert s3.read(held) is None
    age(DAY)
    assert sweep() == {"cleaned": 1}
    age(8 * DAY)
    assert sweep() == {"pruned": 1}


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ("", "Refused."),
        ("\0", "Refused."),
        ("a\0b\ud800", "ab?"),
        ("x" * 300, "x" * 255),
    ],
)
def test_any_reason_can_be_kept(held: Upload, reason: str, kept: str) -> None:
    lifecycle.reject(held, reason)
    assert Upload.objects.get().reason == kept


# Between the two.


def test_whoever_comes_second_is_told(held: Upload, heard: list[str]) -> None:
    slow = Upload.objects.get()
    lifecycle.reject(held, "Infected.")
    with pytest.raises(NotHeld):
        lifecycle.accept(slow)
    assert slow.status == "rejected"
    assert heard == ["rejected"]


def test_reject_after_accept_is_refused(held: Upload, heard: list[str]) -> None:
    slow = Upload.objects.get()
    lifecycle.accept(held)
    with pytest.raises(NotHeld):
        lifecycle.reject(slow, "Infected.")
    assert Upload.objects.get().status == "completed"
    assert heard == ["completed by scan"]


def test_a_reject_while_accept_asks_s3_wins(
    held: Upload, heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from s3direct_uploads.s3 import Bucket as BucketOfOurs

    head = BucketOfOurs.head

    def reject_meanwhile(self: BucketOfOurs, key: str) -> Any:
        lifecycle.reject(Upload.objects.get(), "Infected.")
        return head(self, key)

    monkeypatch.setattr(BucketOfOurs, "head", reject_meanwhile)
    with pytest.raises(NotHeld):
        lifecycle.accept(held)
    assert (Upload.objects.get().status, heard) == ("rejected", ["rejected"])


def test_a_held_upload_can_be_given_up(alice: App, held: Upload, heard: list[str]) -> None:
    assert alice.delete(str(held.pk)).status_code == 204
    assert alice.delete(str(held.pk)).status_code == 204
    upload = Upload.objects.get()
    assert (upload.status, upload.due_at) == ("cancelled", upload.key_closes_at)
    assert heard == ["cancelled"]
    assert alice.confirm(str(held.pk)).json()["code"] == "not_pending"


def test_a_cancel_that_finds_it_just_accepted_deletes_it(
    alice: App, held: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Upload.objects.get()
    lifecycle.accept(held)
    lifecycle.cancel(slow)
    assert Upload.objects.get().status == "deleted"


def test_the_scan_has_nothing_to_decide_when_its_owner_is_deleted(alice: App, held: Upload) -> None:
    assert alice.user is not None
    alice.user.delete()
    for decide in (lifecycle.accept, lambda upload: lifecycle.reject(upload, "Eicar.")):
        with pytest.raises(NotHeld):
            decide(held)
    upload = Upload.objects.get()
    assert (upload.status, upload.owner) == ("cancelled", None)


def test_a_handler_may_scan_at_once(alice: App, connect: Connect, heard: list[str]) -> None:
    def scan(upload: Upload, **_: Any) -> None:
        with lifecycle.open_held(upload) as file:
            assert file.read() == JPEG
        lifecycle.accept(upload)

    connect(signals.upload_held, scan)
    answer = alice.upload()
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")
    assert heard == ["held by client", "completed by scan"]


def test_a_handler_that_fails_is_made_good_by_the_sweep(
    alice: App, connect: Connect, heard: list[str]
) -> None:
    def fail(**_: Any) -> None:
        raise OSError("The broker is down.")

    connect(signals.upload_held, fail)
    assert alice.upload().status_code == 202
    age(HOUR)
    heard.clear()
    assert sweep() == {"reminded": 1}
    assert heard == ["held by sweep"]


# When no answer comes.


def test_the_scan_is_asked_for_again_and_again_less_and_less_often(
    held: Upload, heard: list[str]
) -> None:
    age(14 * MINUTE)
    assert sweep() == {}
    pauses = []
    for _ in range(6):
        held.refresh_from_db()
        assert held.due_at is not None
        pause = held.due_at - timezone.now()
        pauses.append(round(pause / MINUTE))
        age(pause + timedelta(milliseconds=1))
        heard.clear()
        assert sweep() == {"reminded": 1}
        assert heard == ["held by sweep"]
    assert pauses == [1, 15, 30, 60, 60, 60]


def test_what_is_not_scanned_in_time_is_rejected(
    alice: App, held: Upload, s3: Bucket, heard: list[str]
) -> None:
    age(DAY)
    assert sweep() == {"rejected": 1, "cleaned": 1}
    assert heard == ["rejected"]
    upload = Upload.objects.get()
    assert (upload.status, upload.reason) == ("rejected", "It was not scanned in time.")
    assert s3.read(upload) is None
    answer = alice.confirm(str(held.pk))
    assert (answer.status_code, answer.json()["upload"]["reason"]) == (
        422,
        "It was not scanned in time.",
    )
    with pytest.raises(NotHeld):
        lifecycle.accept(held)


def test_the_last_look_is_when_the_hold_ends(held: Upload, settings: Any) -> None:
    settings.S3DIRECT_UPLOADS = {**settings.S3DIRECT_UPLOADS, "HOLD_EXPIRES": 20 * 60}
    age(16 * MINUTE)
    assert sweep() == {"reminded": 1}
    held.refresh_from_db()
    assert held.held_at is not None
    assert held.due_at == held.held_at + 20 * MINUTE
    age(4 * MINUTE)
    assert sweep()["rejected"] == 1


def test_its_deadline_does_not_matter_while_it_is_held(held: Upload, settings: Any) -> None:
    settings.S3DIRECT_UPLOADS = {**settings.S3DIRECT_UPLOADS, "HOLD_EXPIRES": 10 * DAY}
    age(3 * DAY)
    assert sweep() == {"reminded": 1}
    assert lifecycle.accept(held).status == "completed"


def test_it_ends_although_its_bucket_is_away(held: Upload, s3_away: Callable[[], None]) -> None:
    s3_away()
    age(2 * HOUR)
    assert sweep() == {"reminded": 1}
    age(2 * DAY)
    assert sweep()["rejected"] == 1


def test_a_sweep_overwrites_no_answer(
    held: Upload, heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from s3direct_uploads.lifecycle import sweeping

    run = sweeping._Sweep.run

    def accept_first(self: Any) -> Any:
        for each in self.batch:
            if each.status == Status.VERIFYING:
                lifecycle.accept(Upload.objects.get())
        return run(self)

    monkeypatch.setattr(sweeping._Sweep, "run", accept_first)
    age(2 * DAY)
    assert sweep() == {}
    assert (Upload.objects.get().status, heard) == ("completed", ["completed by scan"])


def test_what_is_due_is_counted(held: Upload) -> None:
    assert +lifecycle.due() == {}
    age(HOUR)
    assert +lifecycle.due() == {"unscanned": 1}


def test_what_is_held_is_no_stray(own_bucket: Bucket, held: Upload) -> None:
    assert not [each for each in lifecycle.reconcile() if each.key == held.key]


# Quotas.


@pytest.fixture
def limited(settings: Any) -> None:
    ours = settings.S3DIRECT_UPLOADS
    limits = {"MAX_PENDING": 1, "MAX_TOTAL_SIZE": 2 * len(JPEG)}
    photos = {**ours["DESTINATIONS"]["photos"], **limits}
    known = {**ours["DESTINATIONS"], "photos": photos}
    settings.S3DIRECT_UPLOADS = {**ours, "DESTINATIONS": known}


def test_a_held_upload_counts_until_its_object_is_gone(alice: App, limited: None) -> None:
    def usage() -> tuple[int, int]:
        mine = Usage.objects.get()
        return mine.pending, mine.total_size

    first = row(alice.upload())
    assert (first.status, usage()) == ("verifying", (0, len(JPEG)))
    second = row(alice.upload())  # which is not one too many at once
    assert usage() == (0, 2 * len(JPEG))
    assert alice.begin().json()["code"] == "quota_exceeded"
    lifecycle.accept(first)
    lifecycle.reject(second, "Infected.")
    assert usage() == (0, 2 * len(JPEG))
    [(_, changed)] = lifecycle.recount("photos")
    assert not changed
    age(3 * HOUR)
    assert sweep() == {"cleaned": 1}
    assert usage() == (0, len(JPEG))
    assert alice.begin().status_code == 201


def test_of_a_bucket_with_versions_the_held_one_is_scanned_and_no_other_completed(
    alice: App, versioned: Bucket
) -> None:
    s3 = versioned
    clean, replaced = row(alice.upload()), row(alice.upload())
    assert clean.version_id
    s3.write(replaced, JPEG)  # the same bytes, but not what was held
    assert s3.read(replaced) == JPEG
    for upload in (clean, replaced):
        with lifecycle.open_held(upload) as file:
            assert file.read() == JPEG
    assert lifecycle.accept(clean).status == "completed"
    with pytest.raises(ObjectMismatch):
        lifecycle.accept(replaced)
    assert replaced.status == "rejected"


@pytest.mark.django_db(transaction=True)
def test_a_pooled_connection_is_given_back_before_s3_is_asked(
    held: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    connection = connections["default"]
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"pool": True})
    monkeypatch.setattr(connection, "close", lambda: done.append("closed"))
    events = get_bucket("default")._client.meta.events
    events.register_first("before-call.s3", lambda **_: done.append("asked"), unique_id="asked")
    with lifecycle.open_held(held) as file:
        file.read()
    lifecycle.accept(held)
    events.unregister("before-call.s3", unique_id="asked")
    assert done == ["closed", "asked", "closed", "asked"]
