"""Renew, sign parts and list parts: how an interrupted upload goes on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import get_bucket
from tests.conftest import FILM, HOUR, PART_SIZE, App, Bucket, row
from tests.lifecycle.multipart.conftest import CRC32, KEY, MIB, Line, code, sent


def test_renew_signs_the_first_parts_anew(
    alice: App, s3: Bucket, s3_calls: list[str], django_assert_num_queries: Any
) -> None:
    begun = alice.begin_film().json()
    Upload.objects.update(url_expires_at=timezone.now() - timedelta(seconds=1))
    s3_calls.clear()

    with django_assert_num_queries(4):  # two authenticate
        renewed = alice.renew(begun["id"])

    assert (renewed.status_code, renewed["Cache-Control"]) == (200, "no-store")
    assert s3_calls == []
    assert renewed.json()["request"] is None
    first, again = begun["multipart"], renewed.json()["multipart"]
    for each in (*first["parts"], *again["parts"]):
        each["url"] = each["url"].partition("&X-Amz")[0]
    assert again == first
    upload = row(renewed)
    assert upload.url_expires_at > timezone.now() + timedelta(minutes=59)
    assert upload.due_at == upload.url_expires_at + HOUR
    assert upload.expires_at == parse_datetime(begun["expires_at"]), "its deadline stays"
    assert alice.send_parts(alice.renew(begun["id"]).json()["multipart"]["parts"]) == [200, 200]
    assert alice.confirm(begun["id"]).status_code == 200
    assert s3.read(upload) == FILM


def test_a_change_of_part_size_changes_no_upload_that_is_begun(
    alice: App, s3: Bucket, settings: Any
) -> None:
    body = 2 * FILM
    begun = alice.begin_film(headers=KEY, size=len(body)).json()
    ours = settings.S3DIRECT_UPLOADS["DESTINATIONS"]
    larger = {**ours["films"], "PART_SIZE": 10 * MIB}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {**ours, "films": larger}}
    for again in (alice.renew(begun["id"]), alice.begin_film(headers=KEY, size=len(body))):
        assert (again.json()["multipart"]["part_size"], row(again).part_size) == (PART_SIZE,) * 2
    assert alice.send_parts(again.json()["multipart"]["parts"], body) == [200, 200, 200]
    assert alice.confirm(begun["id"]).status_code == 200
    assert s3.read(Upload.objects.get()) == body


def test_a_thousand_parts_are_signed_by_one_update(
    alice: App, s3_calls: list[str], django_assert_num_queries: Any
) -> None:
    begun = alice.begin_film(size=2000 * PART_SIZE + 1).json()
    past = timezone.now() - timedelta(seconds=1)
    Upload.objects.update(url_expires_at=past)
    s3_calls.clear()

    with django_assert_num_queries(4) as queries:  # two authenticate
        answer = alice.sign_parts(begun["id"], range(1002, 2002))

    assert (answer.status_code, answer["Cache-Control"]) == (200, "no-store")
    assert [query["sql"].split()[0] for query in queries.captured_queries][2:] == [
        "SELECT",
        "UPDATE",
    ]
    assert s3_calls == []
    assert answer.json()["expires_in"] == 3600
    parts = answer.json()["parts"]
    assert [part["part_number"] for part in parts] == list(range(1002, 2002))
    assert [part["size"] for part in parts] == [PART_SIZE] * 999 + [1]
    assert len({part["url"] for part in parts}) == 1000
    assert {tuple(part) for part in parts} == {("part_number", "size", "url", "headers")}
    upload = Upload.objects.get()
    assert upload.url_expires_at > timezone.now() + timedelta(minutes=59), "before it signs"
    assert upload.due_at == upload.url_expires_at + HOUR


def test_parts_that_are_named_twice_are_signed_once_in_the_order_of_the_names(alice: App) -> None:
    id = alice.begin_film().json()["id"]
    parts = alice.sign_parts(id, [2, 1, 2]).json()["parts"]
    assert [part["part_number"] for part in parts] == [2, 1]


def test_at_most_a_thousand_are_signed_at_once(alice: App) -> None:
    id = alice.begin_film(size=2000 * PART_SIZE).json()["id"]
    assert alice.sign_parts(id, range(1, 1001)).status_code == 200
    for count in (0, 1001):
        assert (
            alice.sign_parts(id, range(1, count + 1)).json()["errors"][0]["field"] == "part_numbers"
        )


def test_an_interrupted_upload_is_resumed(alice: App, s3: Bucket, s3_calls: list[str]) -> None:
    begun = alice.begin_film().json()
    _, last = begun["multipart"]["parts"]
    s3_calls.clear()
    assert alice.parts(begun["id"]).json() == []
    assert alice.send_parts([last]) == [200]

    there = [part["part_number"] for part in alice.parts(begun["id"]).json()]
    assert there == [2]
    assert s3_calls == ["ListParts", "ListParts"]
    missing = alice.sign_parts(begun["id"], {1, 2} - {*there}).json()["parts"]
    assert alice.send_parts(missing) == [200]
    assert alice.confirm(begun["id"]).status_code == 200
    assert s3.read(Upload.objects.get()) == FILM


def test_all_parts_are_listed_though_s3_lists_one_at_a_time(
    alice: App, s3: Bucket, line: Line, told: dict[str, dict[str, Any]]
) -> None:
    def one_at_a_time(params: dict[str, Any], **_: Any) -> None:
        params["MaxParts"] = 1

    upload = sent(alice)
    events = get_bucket("default")._client.meta.events
    events.register("provide-client-params.s3.ListParts", one_at_a_time, unique_id="one")
    there = alice.parts(str(upload.pk)).json()
    assert [part["part_number"] for part in there] == [1, 2]
    assert told["ListParts"]["PartNumberMarker"] == 1
    assert alice.confirm(str(upload.pk)).status_code == 200
    events.unregister("provide-client-params.s3.ListParts", unique_id="one")
    assert s3.read(upload) == FILM


@pytest.mark.parametrize("end", ["completed", "cancelled", "rejected"])
def test_a_settled_upload_has_no_parts(
    alice: App, s3: Bucket, s3_calls: list[str], end: str
) -> None:
    upload = sent(alice, checksum=None if end != "rejected" else {**CRC32, "value": "AAAAAA=="})
    id = str(upload.pk)
    settled = alice.delete(id) if end == "cancelled" else alice.confirm(id)
    assert settled.status_code == {"completed": 200, "cancelled": 204, "rejected": 422}[end]
    s3_calls.clear()
    for answer in (alice.parts(id), alice.sign_parts(id, [1]), alice.renew(id)):
        assert code(answer) == (410, "not_pending")
        assert answer.json()["upload"]["status"] == end
        assert "X-Amz" not in answer.text
    assert s3_calls == []
    assert s3.open_multiparts(upload) == []
