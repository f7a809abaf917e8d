"""The sweep when S3, or one key in it, or a hook of the host's fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from django.utils import timezone

from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import Bucket as BucketOfOurs
from s3direct_uploads.s3 import StoredObject, get_bucket
from tests import host_app
from tests.conftest import DAY, HOUR, JPEG, App, Bucket, age, made_up_answer, row, sweep
from tests.lifecycle.sweep.conftest import rows


def test_a_failure_that_nobody_expected_is_logged_and_holds_up_no_other(
    alice: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = row(alice.begin()), alice.begin()
    assert alice.send(good.json()["request"]) == 200
    head = BucketOfOurs.head

    def fail(self: BucketOfOurs, key: str) -> StoredObject:
        if key == bad.key:
            raise ValueError("unexpected")
        return head(self, key)

    monkeypatch.setattr(BucketOfOurs, "head", fail)
    age(2 * HOUR)
    assert sweep() == {"completed": 1, "failed": 1}
    [record] = [each for each in caplog.records if each.exc_info]
    assert str(bad.pk) in record.getMessage()


def test_while_s3_is_away_nothing_changes_and_it_backs_off(
    alice: App, s3: Bucket, s3_away: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    alice.begin()
    age(3 * HOUR)
    s3_away()
    assert sweep() == {"failed": 1}
    upload = Upload.objects.get()
    assert upload.status == "pending"
    assert upload.due_at is not None
    first = upload.due_at - timezone.now()
    assert sweep() == {}
    assert "leaves out the bucket" in caplog.text
    age(10 * HOUR)
    assert sweep() == {"failed": 1}
    upload.refresh_from_db()
    assert upload.due_at is not None
    assert upload.due_at - timezone.now() > 4 * first
    age(30 * DAY)
    assert sweep() == {"failed": 1}
    upload.refresh_from_db()
    assert upload.status == "pending"
    assert upload.due_at is not None
    assert upload.due_at - timezone.now() <= DAY


@pytest.mark.parametrize("status", [405, 500, 503])
def test_keys_for_which_s3_fails_are_put_off_alone_and_end_with_their_deadline(
    alice: App, bob: App, s3: Bucket, head_answers: dict[str, int], status: int
) -> None:
    failing = [row(bob.begin()) for _ in range(8)]
    honest = [alice.begin() for _ in range(3)]
    failing += [row(bob.begin()) for _ in range(8)]
    for begun in honest:
        assert alice.send(begun.json()["request"]) == 200
    head_answers |= {upload.key: status for upload in failing}
    age(3 * HOUR)
    assert sweep() == {"completed": 3, "failed": 16}
    assert {row(begun).status for begun in honest} == {"completed"}
    assert {upload.status for upload in rows(failing)} == {"pending"}
    answer = bob.confirm(str(failing[0].pk))
    assert (answer.status_code, answer.json()["code"]) == (503, "bucket_unavailable")
    age(2 * DAY)
    assert sweep() == {"failed": 16}, "the first failure after the deadline: it may pass"
    age(2 * DAY)
    assert sweep() == {"expired": 16, "cleaned": 16}
    assert {upload.status for upload in rows(failing)} == {"expired"}


def test_a_failure_that_passes_loses_no_file_whose_deadline_has_passed(
    alice: App, s3: Bucket, head_answers: dict[str, int]
) -> None:
    begun = alice.begin()
    assert alice.send(begun.json()["request"]) == 200
    head_answers[row(begun).key] = 503
    age(30 * DAY)  # no sweep ran
    assert sweep() == {"failed": 1}
    upload = row(begun)
    assert upload.failing_since is not None
    assert (upload.status, timezone.now() - upload.failing_since < HOUR) == ("pending", True)

    head_answers.clear()
    age(2 * DAY)
    assert sweep() == {"completed": 1}
    assert (row(begun).status, s3.read(upload)) == ("completed", JPEG)


def test_keys_that_the_server_is_denied_are_put_off_alone_and_wait_past_their_deadline(
    alice: App,
    bob: App,
    s3: Bucket,
    head_answers: dict[str, int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S3 denies nothing for what a client sent, so a permission of the server is missing.

    Such as kms:Decrypt: a HEAD that asks for the checksum needs it, and one of a key where nothing
    is does not.
    """
    begun = [bob.begin().json() for _ in range(16)]
    honest = [alice.begin().json() for _ in range(3)]
    for each in (*begun, *honest):
        assert alice.send(each["request"]) == 200
    denied = [Upload.objects.get(pk=each["id"]) for each in begun]
    head_answers |= {upload.key: 403 for upload in denied}
    age(3 * HOUR)
    assert sweep() == {"completed": 3, "failed": 16}
    age(30 * DAY)
    assert sweep() == {"failed": 16}
    assert {upload.status for upload in rows(denied)} == {"pending"}
    assert caplog.text.count("S3 refuses HeadObject: 403") == 1
    assert "kms:Decrypt" in caplog.text

    head_answers.clear()
    age(DAY)
    assert sweep() == {"completed": 16}


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("InvalidRequest", "rejected"),  # AWS
        ("InvalidArgument", "rejected"),  # Ceph
        ("KMS.DisabledException", "failed"),
        ("ExpiredToken", "failed"),
    ],
)
def test_a_bad_request_rejects_what_its_uploader_encrypted_and_nothing_else(
    alice: App, s3: Bucket, head_answers: dict[str, int], code: str, outcome: str
) -> None:
    """The answer to a HEAD has no body. Only a GET says why the request is bad."""
    begun = alice.begin()
    assert alice.send(begun.json()["request"]) == 200
    events: Any = get_bucket("default")._client.meta.events

    def answer(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        return made_up_answer(request, 400, f"<Error><Code>{code}</Code></Error>")

    events.register("before-send.s3.GetObject", answer, unique_id="GetObject")
    try:
        head_answers[row(begun).key] = 400
        age(3 * HOUR)
        assert sweep()[outcome] == 1
        age(10 * DAY)
        assert "expired" not in sweep()
    finally:
        events.unregister("before-send.s3.GetObject", unique_id="GetObject")
    if outcome == "rejected":
        assert row(begun).reason == "S3's answer about this object cannot be read."
        assert s3.read(row(begun)) is None
    else:
        assert row(begun).status == "pending"
        head_answers.clear()
        assert alice.confirm(begun.json()["id"]).json()["status"] == "completed"


@pytest.mark.parametrize("status", [400, 403, 500])
def test_where_s3_fails_for_all_keys_none_is_rejected_and_none_expires(
    alice: App, s3: Bucket, head_answers: dict[str, int], status: int
) -> None:
    """With expired credentials a HEAD is a bad request too, and does not say why."""
    begun = [alice.begin() for _ in range(3)]
    head_answers[""] = status
    age(2 * DAY)
    assert sweep() == {"failed": 3}
    assert alice.confirm(begun[0].json()["id"]).status_code == 503
    assert {row(each).status for each in begun} == {"pending"}
    head_answers.clear()
    age(2 * DAY)
    assert sweep()["expired"] == 3


def test_a_bad_request_that_passes_rejects_nothing(
    alice: App, s3: Bucket, head_answers: dict[str, int]
) -> None:
    begun = alice.begin().json()
    assert alice.send(begun["request"]) == 200
    id, events = "once", cast(Any, get_bucket("default")._client.meta.events)

    def once(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        events.unregister("before-send.s3.HeadObject", unique_id=id)
        return made_up_answer(request, 400, "")

    events.register("before-send.s3.HeadObject", once, unique_id=id)
    assert alice.confirm(begun["id"]).json()["status"] == "completed"


def test_a_bucket_that_is_gone_is_no_proof_that_nothing_was_sent(
    alice: App,
    s3: Bucket,
    storage_options: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S3 answers 404 to a HEAD, as if only the object were missing."""
    alice.begin()
    storage_options(bucket_name="gone-bucket")
    Upload.objects.update(bucket="gone-bucket")
    age(3 * DAY)
    assert sweep() == {"failed": 1}
    assert Upload.objects.get().status == "pending"
    assert caplog.text.count("NoSuchBucket") == 1


def test_a_row_whose_bucket_is_not_configured_is_skipped(
    alice: App, caplog: pytest.LogCaptureFixture
) -> None:
    alice.begin(), alice.begin()
    Upload.objects.update(bucket="another")
    age(3 * DAY)
    assert sweep() == {"failed": 2}
    assert {upload.status for upload in Upload.objects.all()} == {"pending"}
    assert caplog.text.count("No storage has the bucket 'another'") == 1


def test_one_bad_row_does_not_hold_up_the_rest(
    alice: App, s3: Bucket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad = row(alice.begin(destination="albums", filename="bad.jpg", context={"album": 12}))
    good = row(alice.begin())
    s3.write(bad, JPEG)
    s3.write(good, JPEG)
    age(2 * HOUR)

    def broken(*_: Any) -> None:
        raise RuntimeError("the host's hook")

    monkeypatch.setattr(host_app.Albums, "verify", broken)
    assert sweep() == {"completed": 1, "failed": 1}
    bad.refresh_from_db()
    good.refresh_from_db()
    assert (bad.status, good.status) == ("pending", "completed")
    assert "the host's hook" in caplog.text


def test_the_sweep_asks_s3_in_no_transaction(alice: App, in_transaction: list[bool]) -> None:
    begun = alice.begin().json()
    alice.send(begun["request"])
    row(alice.upload(body=b"another"))
    age(2 * HOUR)
    in_transaction.clear()
    # The test itself runs in a transaction, so only the number of requests is compared.
    sweep()
    assert len(in_transaction) >= 3
