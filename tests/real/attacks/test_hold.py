"""What is held, attacked by its own uploader, who knows its key: on Ceph, which enforces."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from s3direct_uploads import lifecycle
from tests.conftest import FILM, FILMS, JPEG, App, Bucket, row

pytestmark = [pytest.mark.attack, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def holding(settings: Any) -> None:
    ours = settings.S3DIRECT_UPLOADS
    photos = {**ours["DESTINATIONS"]["photos"], "HOLD": True}
    known = {**ours["DESTINATIONS"], "photos": photos, "films": {**FILMS, "HOLD": True}}
    settings.S3DIRECT_UPLOADS = {**ours, "DESTINATIONS": known}


def test_nobody_reads_what_is_held(alice: App) -> None:
    begun = alice.begin().json()
    assert alice.send(begun["request"]) == 200
    assert alice.confirm(begun["id"]).status_code == 202
    url, query = begun["request"]["url"].split("?")
    assert requests.get(url, timeout=10).status_code == 403
    # Nor by the signature of the PUT.
    assert requests.get(f"{url}?{query}", timeout=10).status_code == 403
    assert alice.get(f"{begun['id']}/url/").status_code == 409


def test_nobody_makes_it_public_while_it_is_sent(alice: App, s3: Bucket) -> None:
    begun = alice.begin().json()
    acl: dict[str, Any] = {"x-amz-acl": "public-read"}
    assert alice.send(begun["request"], **acl) == 403
    assert alice.confirm(begun["id"]).json()["code"] == "object_missing"


def test_what_was_scanned_is_not_replaced_by_the_url_that_still_lives(
    alice: App, s3: Bucket
) -> None:
    begun = alice.begin().json()
    assert alice.send(begun["request"]) == 200
    assert alice.confirm(begun["id"]).status_code == 202
    upload = row(alice.get(f"{begun['id']}/"))
    with lifecycle.open_held(upload) as file:
        assert file.read() == JPEG
        assert alice.send(begun["request"], JPEG[::-1]) == 412
    assert lifecycle.accept(upload).status == "completed"
    assert s3.read(upload) == JPEG
    assert alice.send(begun["request"], JPEG[::-1]) == 412


def test_parts_that_are_sent_after_the_hold_change_nothing(alice: App, s3: Bucket) -> None:
    begun = alice.begin_film().json()
    parts = begun["multipart"]["parts"]
    assert alice.send_parts(parts) == [200, 200]
    assert alice.confirm(begun["id"]).status_code == 202
    assert alice.send_parts(parts, FILM[::-1]) == [404, 404]
    upload = row(alice.get(f"{begun['id']}/"))
    with lifecycle.open_held(upload) as file:
        assert file.read() == FILM
    assert lifecycle.accept(upload).status == "completed"
    s3.client.delete_object(Bucket=s3.name, Key=upload.key)
