"""A megabyte of nonsense costs little CPU and memory, and its answer is short."""

from __future__ import annotations

import json
import logging
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.test import Client
from rest_framework import serializers

from s3direct_uploads.models import Upload
from s3direct_uploads.views import UploadViewSet
from tests.conftest import PART_SIZE, URL, App, row
from tests.host_app import Albums, PhotoSerializer
from tests.http.conftest import begin_in_parts
from tests.models import Photo

KIB, MIB = 1024, 1024**2
MOST_CPU = 0.5  # seconds
MOST_MEMORY = 20 * MIB
MOST_ANSWER = 64 * KIB
JSON = "application/json"
TOKEN = "t" * 32  # of CSRF; REST Framework looks for it in the body first
SECRET = "s3cret-s3cret-s3cret"
Ask = Callable[[], Any]


@dataclass
class Cost:
    cpu: float  # seconds
    memory: int  # bytes at the peak, without what was in use before
    answer: int  # bytes


def measure(ask: Ask) -> tuple[Any, Cost]:
    """What one request costs. Only where it seems too much is it sent again without tracemalloc,
    which itself takes CPU.
    """
    tracemalloc.start()
    try:
        answer, cpu = timed(ask)
        memory = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    if cpu > MOST_CPU:
        _, cpu = timed(ask)
    return answer, Cost(cpu, memory, len(answer.content))


def timed(ask: Ask) -> tuple[Any, float]:
    start = time.process_time()
    answer = ask()
    return answer, time.process_time() - start


def assert_cheap(ask: Ask) -> Any:
    answer, cost = measure(ask)
    assert answer.status_code < 500
    assert cost.answer <= MOST_ANSWER
    assert cost.memory <= MOST_MEMORY
    assert cost.cpu <= MOST_CPU
    return answer


def filled(before: str, unit: str, after: str, length: int) -> str:
    """``before``, as many units as fit in ``length`` characters, ``after``."""
    room = length - len(before) - len(after)
    return f"{before}{unit * (room // len(unit))}{after}"


def distinct_keys(length: int) -> str:
    names = [f'"{number:06d}":0' for number in range(length // 11 - 1)]
    return "{" + ",".join(names) + "}"


# Each makes a body of so many characters.
BODIES: dict[str, Callable[[int], str]] = {
    "part numbers that are lists": lambda n: filled('{"part_numbers":[', "[],", "[]]}", n),
    "part numbers that are objects": lambda n: filled('{"part_numbers":[', '{"a":0},', "0]}", n),
    "part numbers that are text": lambda n: filled('{"part_numbers":[', '"",', "0]}", n),
    "part numbers that are null": lambda n: filled('{"part_numbers":[', "null,", "0]}", n),
    "one part again and again": lambda n: filled('{"part_numbers":[', "1,", "1]}", n),
    "parts that are not there": lambda n: filled('{"part_numbers":[', "70000,", "1]}", n),
    "part numbers as text": lambda n: filled('{"part_numbers":"', "1", '"}', n),
    "part numbers in one object": lambda n: f'{{"part_numbers":{distinct_keys(n - 20)}}}',
    "long numbers": lambda n: filled('{"part_numbers":[', "9" * 4000 + ",", "1]}", n),
    "one number": lambda n: filled('{"size":', "9", "}", n),
    "one fraction": lambda n: filled('{"size":0.', "1", "}", n),
    "one exponent": lambda n: filled('{"size":1e', "9", "}", n),
    "a long destination": lambda n: filled('{"destination":"', "x", '"}', n),
    "a long filename": lambda n: filled('{"filename":"', "\U0001f3d6", '"}', n // 4),
    "a long content type": lambda n: filled('{"content_type":"a/b', ";a=b", '"}', n),
    "a long checksum": lambda n: filled('{"checksum":{"algorithm":"', "A", '","value":"A"}}', n),
    "a size as text": lambda n: filled('{"size":"', "9", '"}', n),
    "a long context": lambda n: filled('{"context":{"a":"', "\\u0041", '"}}', n),
    "a context of lists": lambda n: filled('{"context":{"a":[', "[],", "0]}}", n),
    "a context of keys": lambda n: f'{{"context":{distinct_keys(n - 20)}}}',
    "declarations that are lists": lambda n: filled('{"uploads":[', "[],", "[]]}", n),
    "declarations that are empty": lambda n: filled('{"uploads":[', "{},", "{}]}", n),
    "a declaration that is long": lambda n: filled('{"uploads":["', "x", '"]}', n),
    "ids that are lists": lambda n: filled('{"ids":[', "[],", "[]]}", n),
    "ids that are short": lambda n: filled('{"ids":[', '"a",', '"a"]}', n),
    "an id that is long": lambda n: filled('{"ids":["', "-", '"]}', n),
    "nested lists": lambda n: filled("", "[", "", n),
    "nested objects": lambda n: filled("", '{"a":', "", n),
    "nested lists that end": lambda n: "[" * (n // 2) + "]" * (n // 2),
    "keys nobody knows": distinct_keys,
    "one key again and again": lambda n: filled("{", '"size":1,', '"size":1}', n),
    "a long key": lambda n: filled('{"', "x", '":0}', n),
    "spaces": lambda n: filled("", " ", "{}", n),
    "a list": lambda n: filled("[", "{},", "{}]", n),
}
CALLS = {
    "begin": ("post", URL),
    "begin_batch": ("post", f"{URL}batch/"),
    "confirm_batch": ("post", f"{URL}batch/confirm/"),
    "list": ("get", URL),
    "retrieve": ("get", f"{URL}{{id}}/"),
    "confirm": ("post", f"{URL}{{id}}/confirm/"),
    "renew": ("post", f"{URL}{{id}}/renew/"),
    "sign_parts": ("post", f"{URL}{{id}}/parts/"),
    "list_parts": ("get", f"{URL}{{id}}/parts/"),
    "delete": ("delete", f"{URL}{{id}}/"),
    "url": ("get", f"{URL}{{id}}/url/"),
    "download": ("get", f"{URL}{{id}}/download/"),
}
QUERIES: dict[str, str] = {
    "status": filled("status=", "x", "", MIB),
    "destination": filled("destination=", "x", "", MIB),
    "filename": filled("filename=", "%F0%9F%8F%96", "", MIB),
    "size": filled("size=", "9", "", MIB),
    "cursor": filled("cursor=", "cD0x", "", MIB),
    "disposition": filled("disposition=", "x", "", MIB),
    "what nobody knows": filled("unknown=", "x", "", MIB),
    "one field again and again": filled("", "status=pending&", "", MIB),
    "fields without a value": filled("", "&a=", "", MIB),
    "percent signs": filled("status=", "%25", "", MIB),
}


def send(app: App, call: str, id: str, body: str = "", query: str = "", **headers: str) -> Ask:
    method, path = CALLS[call]
    app.client.handler.enforce_csrf_checks = True
    app.client.cookies["csrftoken"] = TOKEN
    generic: Any = app.client.generic
    octets = body.encode()
    url = path.format(id=id)

    def ask() -> Any:
        return generic(
            method.upper(),
            url,
            octets,
            content_type=JSON,
            QUERY_STRING=query,
            HTTP_X_CSRFTOKEN=TOKEN,
            **headers,
        )

    return ask


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_costs_little(alice: App, kind: str) -> None:
    id = begin_in_parts(alice)
    for call in (name for name, (method, _) in CALLS.items() if method == "post"):
        send(alice, call, id, "{}")()  # what is made only once is not measured
        # The largest that somebody can send, and the largest that each call accepts.
        for length in (MIB, 16 * KIB, KIB):
            body = BODIES[kind](length)
            assert len(body.encode()) <= length
            answer = assert_cheap(send(alice, call, id, body))
            assert len(answer.json().get("errors", [])) <= 20
            assert length < MIB or answer.json()["code"] == "request_too_large"
    assert Upload.objects.get().status == "pending"


# As many declarations as a batch takes, each as long as the body allows.
DECLARATIONS: dict[str, Callable[[int], str]] = {
    "empty": lambda n: "{}",
    "lists": lambda n: filled("[", "[],", "[]]", n),
    "long filenames": lambda n: filled('{"filename":"', "\\ud83c", '"}', n),
    "long destinations": lambda n: filled('{"destination":"', "x", '"}', n),
    "long contexts": lambda n: filled('{"context":{"a":["', "\\u0041", '"]}}', n),
    "keys nobody knows": distinct_keys,
    "types that are not allowed": lambda n: '{"destination":"photos","filename":"a","size":1}',
    "good ones": lambda n: '{"destination":"photos","filename":"a.jpg","size":1}',
}


@pytest.mark.parametrize("kind", DECLARATIONS)
def test_a_batch_costs_little(alice: App, kind: str) -> None:
    send(alice, "begin_batch", "", "{}")()
    each = DECLARATIONS[kind](6 * KIB - 3)
    body = '{"uploads":[' + ",".join([each] * 100) + "]}"
    answer, cost = measure(send(alice, "begin_batch", "", body))
    assert answer.status_code == 200, answer.content[:300]
    assert len(answer.json()["results"]) == 100
    assert cost.answer <= 2.5 * KIB * 100
    # JSON's two characters for an empty list become 80 bytes or more, by the version of Python.
    assert cost.memory <= 1.5 * MOST_MEMORY
    assert cost.cpu <= MOST_CPU


def test_a_batch_of_one_id_again_and_again_costs_little(alice: App) -> None:
    id = str(row(alice.begin()).pk)
    body = json.dumps({"ids": [id] * 100})
    answer, cost = measure(send(alice, "confirm_batch", "", body))
    assert answer.status_code == 200
    assert cost.answer <= 2 * KIB * 100
    assert (cost.memory <= MOST_MEMORY, cost.cpu <= MOST_CPU) == (True, True)


@pytest.mark.parametrize("kind", QUERIES)
def test_a_query_costs_little(alice: App, kind: str) -> None:
    id = str(row(alice.upload()).pk)
    for call in CALLS:
        answer = assert_cheap(send(alice, call, id, "{}", QUERIES[kind]))
        assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")


HEADERS = {
    "an idempotency key": {"HTTP_IDEMPOTENCY_KEY": "k" * 8 * KIB},
    "a content type": {"CONTENT_TYPE": filled("application/json", ";a=b", "", 8 * KIB)},
    "a content type that is none": {"CONTENT_TYPE": "x" * 8 * KIB},
    "accept": {"HTTP_ACCEPT": filled("", "a/b;q=0.1,", "", 8 * KIB)},
    "an X-Forwarded-For": {"HTTP_X_FORWARDED_FOR": filled("", "1.1.1.1,", "", 8 * KIB)},
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_costs_little(alice: App, kind: str) -> None:
    """Servers accept about 8 KiB of each header, as gunicorn does."""
    id = begin_in_parts(alice)
    for call in ("begin", "begin_batch", "list", "confirm", "sign_parts"):
        assert_cheap(send(alice, call, id, '{"filename": 1}', **HEADERS[kind]))


@pytest.mark.parametrize("id", ["x" * MIB, "-" * MIB, "0" * MIB], ids=["x", "dashes", "zeros"])
def test_an_id_costs_little(alice: App, id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Django logs the path of a 404. pytest keeps copies of what is logged, at 4 bytes a character.
    monkeypatch.setattr(logging.getLogger("django.request"), "propagate", False)
    for call, (_, path) in CALLS.items():
        if "{id}" in path:
            answer = assert_cheap(send(alice, call, id, '{"part_numbers": [1]}'))
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "value",
    ["x" * MIB, "-" * MIB, [[]] * 300_000, {str(key): 0 for key in range(100_000)}, 10**4000],
    ids=["text", "dashes", "a list", "an object", "a number"],
)
def test_what_is_said_to_be_an_upload_costs_little(alice: App, value: Any) -> None:
    request = SimpleNamespace(user=alice.user)

    def ask() -> HttpResponse:
        serializer = PhotoSerializer(data={"image": value}, context={"request": request})
        assert not serializer.is_valid()
        return HttpResponse(json.dumps(serializer.errors), status=400)

    assert_cheap(ask)


# What our errors quote.


def clean_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def clean_context(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Albums, "clean_context", clean_context)


def test_of_many_errors_the_first_are_said(alice: App, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [ValidationError(f"{number} is wrong.", code=f"c{number}") for number in range(1000)]
    clean_with(monkeypatch, ValidationError({"context": many}))
    errors = alice.begin(destination="albums").json()["errors"]
    assert [error["code"] for error in errors] == [f"c{number}" for number in range(20)]


@pytest.mark.parametrize("kind", [ValidationError, serializers.ValidationError])
def test_an_error_is_not_longer_than_anybody_reads(
    alice: App, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    long = "\U0001f3d6" * 10_000
    clean_with(monkeypatch, kind({long: [long] * 100}))
    answer = alice.begin(destination="albums")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert len(answer.content) <= MOST_ANSWER
    assert len(answer.json()["errors"]) == 20
    assert answer.json()["errors"][0]["detail"] == "\U0001f3d6" * 499 + "…"


def test_what_an_error_has_that_is_no_json_is_left_out(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django's own ValidationErrors have models and functions in their params."""
    wrong = ValidationError("Taken: %(title)s", "unique", {"model": Photo(), "title": "Beach"})
    clean_with(monkeypatch, wrong)
    (error,) = alice.begin(destination="albums").json()["errors"]
    assert error == {
        "field": "context",
        "code": "unique",
        "detail": "Taken: Beach",
        "params": {"title": "Beach"},
    }


def test_a_body_of_any_size_may_be_the_hosts_own(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = {"create": 20 * KIB}
    padded = f'{{"destination": "photos", "filename": "a.jpg", "size": 5{" " * 17 * KIB}}}'
    assert alice.client.post(URL, padded, content_type=JSON).status_code == 413
    monkeypatch.setattr(UploadViewSet, "body_limits", longer)
    assert alice.client.post(URL, padded, content_type=JSON).status_code == 201


def test_the_longest_honest_bodies_pass(alice: App, films: None) -> None:
    declaration = {
        "destination": "albums",
        "filename": "\U0001f3d6" * 251 + ".jpg",
        "content_type": "image/jpeg" + ";a=" + "b" * 240,
        "size": 5,
        "checksum": {"algorithm": "SHA256", "value": f"{'A' * 43}="},
        "context": {"album": 1, "tags": ["\u00fc" * 160]},
    }
    assert len(json.dumps(declaration["context"])) > 980
    body = json.dumps(declaration, indent=8)
    assert "\\ud83c" in body
    begun = alice.client.post(URL, body, content_type=JSON)
    assert (begun.status_code, begun.json()["filename"]) == (201, declaration["filename"])

    id = alice.begin_film(size=10_000 * PART_SIZE).json()["id"]
    body = json.dumps({"part_numbers": list(range(9_001, 10_001))}, indent=4)
    answer = alice.client.post(f"{URL}{id}/parts/", body, content_type=JSON)
    assert (answer.status_code, len(answer.json()["parts"])) == (200, 1000)


# The webhook: what a sender who knows the secret may send.


def record(key: str) -> str:
    s3 = {"bucket": {"name": "b"}, "object": {"key": key}}
    return json.dumps({"eventName": "s3:ObjectCreated:Put", "s3": s3})


EVENTS: dict[str, Callable[[int], str]] = {
    **{kind: BODIES[kind] for kind in BODIES},
    "no records": lambda n: filled('{"Records":[', "0,", "0]}", n),
    "records that are lists": lambda n: filled('{"Records":[', "[],", "0]}", n),
    "records that are objects": lambda n: filled('{"Records":[', '{"a":0},', "0]}", n),
    "a long key": lambda n: '{"Records":[' + record("k" * (n - 200)) + "]}",
    "a long escaped key": lambda n: '{"Records":[' + record("%41" * ((n - 200) // 3)) + "]}",
    "a hundred keys": lambda n: '{"Records":[' + ",".join([record("%F0" * 3300)] * 100) + "]}",
    "records beside another": lambda n: filled('{"Records":[],"x":[', '"ab",', "0]}", n),
    "a message in a message": lambda n: filled(
        '{"Type":"Notification","TopicArn":"x","Message":"[', "[],", '0]"}', n
    ),
}


@pytest.mark.parametrize("kind", EVENTS)
def test_an_event_costs_little(client: Client, db: None, settings: Any, kind: str) -> None:
    settings.S3DIRECT_UPLOADS = {**settings.S3DIRECT_UPLOADS, "EVENT_SECRET": SECRET}
    body = EVENTS[kind](MIB).encode()
    assert len(body) <= MIB

    def ask() -> Any:
        return client.post(
            "/s3-events/", body, content_type=JSON, headers={"Authorization": f"Bearer {SECRET}"}
        )

    answer = assert_cheap(ask)
    assert answer.status_code in (200, 400, 403)
    assert len(answer.content) < KIB


# The admin.


@pytest.mark.parametrize(
    "query", ["q=", "p=", "status__exact=", "destination=", "_popup=1&q=", "e=1&", "a&" * 2000]
)
@pytest.mark.parametrize("path", ["upload", "usage"])
def test_a_search_costs_little(alice: App, client: Client, path: str, query: str) -> None:
    alice.begin()
    User.objects.create_superuser("root", password="secret")
    client.login(username="root", password="secret")

    def ask() -> Any:
        return client.get(f"/admin/s3direct_uploads/{path}/", QUERY_STRING=query + "x" * MIB)

    client.get(f"/admin/s3direct_uploads/{path}/")
    answer = assert_cheap(ask)
    assert answer.status_code == 302
