"""Objects about which S3's answer cannot be read: each concerns its own uploader alone.

Whoever has a presigned URL may add headers that nobody signed. S3 here is Ceph, which keeps some of
them and then answers with them. The sweep looks at everybody's uploads, so it must not trip.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User

from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload
from tests.conftest import FILM, HOUR, PART_SIZE, App, Bucket, age, row
from tests.real.attacks.conftest import Sent, keys

pytestmark = pytest.mark.attack

DAY = timedelta(days=1)
CUSTOMER_KEY = b"0123456789abcdef0123456789abcdef"
CUSTOMERS = {
    "algorithm": "AES256",
    "key": base64.b64encode(CUSTOMER_KEY).decode(),
    "key-MD5": base64.b64encode(hashlib.md5(CUSTOMER_KEY).digest()).decode(),
}


def empty_expires(sent: Sent) -> None:
    sent.add("Expires", "")


def many_headers(sent: Sent) -> None:
    for number in range(120):
        sent.add(f"x-goog-meta-{number}", "a")


def encrypted_by_a_key_of_their_own(sent: Sent) -> None:
    for name, value in CUSTOMERS.items():
        sent.add(f"x-goog-server-side-encryption-customer-{name}", value)


POISONS = [empty_expires, many_headers, encrypted_by_a_key_of_their_own]
each_poison = pytest.mark.parametrize("poison", POISONS, ids=lambda poison: poison.__name__)
Poison = Callable[[Sent], None]


def begin_and_poison(app: App, poison: Poison) -> Upload:
    begun = app.begin()
    sent = Sent.of(begun.json()["request"])
    poison(sent)
    assert sent.send() == 200, "S3 keeps it"
    return row(begun)


@each_poison
def test_confirm_rejects_it_and_the_sweep_deletes_it(
    alice: App, s3: Bucket, poison: Poison
) -> None:
    upload = begin_and_poison(alice, poison)
    answer = alice.confirm(str(upload.pk))
    assert (answer.status_code, answer.json()["code"]) == (422, "object_mismatch")
    assert alice.confirm(str(upload.pk)).status_code == 422
    assert (row(answer).status, upload.key in keys(s3)) == ("rejected", True)
    age(3 * HOUR)
    assert lifecycle.sweep() == {"cleaned": 1}
    assert upload.key not in keys(s3)


@each_poison
def test_renew_and_a_repeated_begin_ask_nothing_of_it(
    alice: App, s3: Bucket, poison: Poison
) -> None:
    key = {"Idempotency-Key": "once"}
    begun = alice.begin(headers=key)
    sent = Sent.of(begun.json()["request"])
    poison(sent)
    assert sent.send() == 200
    id = begun.json()["id"]
    assert alice.renew(id).status_code == 200
    assert alice.begin(headers=key).status_code == 201
    age(2 * DAY)
    assert alice.renew(id).status_code == 410
    again = alice.begin(headers=key)
    assert (again.status_code, again.json()["request"]) == (201, None)
    assert alice.confirm(id).status_code == 422


@each_poison
def test_the_admin_says_so(
    alice: App, s3: Bucket, make_user: Callable[..., User], client: Any, poison: Poison
) -> None:
    upload = begin_and_poison(alice, poison)
    client.force_login(make_user("root", is_staff=True, is_superuser=True))
    page = client.post(
        "/admin/s3direct_uploads/upload/",
        {"action": "confirm_again", "_selected_action": [str(upload.pk)]},
        follow=True,
    )
    assert page.status_code == 200
    assert "cannot be read" in page.content.decode() or "nobody signed" in page.content.decode()
    upload.refresh_from_db()
    assert upload.status == "rejected"


@each_poison
@pytest.mark.parametrize("later", [3 * HOUR, 2 * DAY], ids=["URLs are over", "past the deadline"])
def test_forty_of_them_hold_up_no_honest_upload(
    alice: App, bob: App, s3: Bucket, poison: Poison, later: timedelta
) -> None:
    poisoned = [begin_and_poison(bob, poison) for _ in range(20)]
    honest = [alice.begin() for _ in range(5)]
    poisoned += [begin_and_poison(bob, poison) for _ in range(20)]
    for begun in honest:
        assert alice.send(begun.json()["request"]) == 200
    age(later)
    assert lifecycle.sweep() == {"completed": 5, "rejected": 40, "cleaned": 40}
    assert {row(begun).status for begun in honest} == {"completed"}
    assert {row(begun).announced_at is None for begun in honest} == {False}
    assert not {upload.key for upload in poisoned} & set(keys(s3))


def test_in_a_batch_each_concerns_itself_alone(alice: App, s3: Bucket) -> None:
    poisoned = [begin_and_poison(alice, poison) for poison in POISONS]
    honest = [alice.begin() for _ in range(97)]
    for begun in honest:
        assert alice.send(begun.json()["request"]) == 200
    ids = [str(row(begun).pk) for begun in honest]
    ids[50:50] = [str(upload.pk) for upload in poisoned]

    found = alice.confirm_batch(ids).json()["results"]

    assert [each["status"] for each in found[50:53]] == [422] * 3
    assert {each["status"] for each in found[:50] + found[53:]} == {200}
    assert {row(begun).status for begun in honest} == {"completed"}


def test_a_key_of_their_own_does_nothing_to_parts(alice: App, films: None, s3: Bucket) -> None:
    """S3 knows since Create that the parts are not encrypted by their uploader's key."""
    begun = alice.begin_film()
    upload = row(begun)
    for part in begun.json()["multipart"]["parts"]:
        start = (part["part_number"] - 1) * PART_SIZE
        sent = Sent.of({"method": "PUT", **part}, FILM[start : start + part["size"]])
        encrypted_by_a_key_of_their_own(sent)
        assert sent.send() == 200
    assert alice.confirm(str(upload.pk)).json()["status"] == "completed"
    assert s3.read(upload) == FILM
