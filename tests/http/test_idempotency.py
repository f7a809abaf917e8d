"""Begin may be repeated: the same body finds the same upload, on every database."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from s3direct_uploads import lifecycle
from s3direct_uploads.destinations import as_kept
from s3direct_uploads.lifecycle import beginning
from s3direct_uploads.models import Upload
from tests.conftest import URL, App, Bucket, assert_error, past_the_deadline, row

# A context as a client writes it, and the same context in other words.
SAME = {
    "an exponent": ('{"a": 1e23}', '{"a": 1E+23}'),
    "the largest exponent": ('{"a": 1.7976931348623157e308}', '{"a": 17976931348623157e292}'),
    "a negative exponent": ('{"a": -1e23}', '{"a": -10e22}'),
    "a small number": ('{"a": 5e-324}', '{"a": 4.9e-324}'),
    "a fraction": ('{"a": 0.1}', '{"a": 1e-1}'),
    "a fraction of many digits": ('{"a": 0.30000000000000004}', '{"a": 0.3000000000000000444}'),
    "an integer above 2**53": ('{"a": 9007199254740993}', '{"a":9007199254740993}'),
    "a fraction above 2**53": ('{"a": 9007199254740993.0}', '{"a": 9007199254740992.0}'),
    "an integer of 400 digits": (f'{{"a": {"7" * 400}}}', f'{{"a":{"7" * 400}}}'),
    "minus zero": ('{"a": -0.0}', '{"a": 0}'),
    "a whole number": ('{"a": 1.0}', '{"a": 1}'),
    "a whole number in a list": ('{"a": [[1.0, {"b": 2e0}]]}', '{"a": [[1, {"b": 2}]]}'),
    "another order": ('{"a": 1, "b": {"c": 2, "d": 3}}', '{"b": {"d": 3, "c": 2}, "a": 1}'),
    "escapes": ('{"\u00fc": "\U0001f3d6/"}', '{"\\u00fc": "\\ud83c\\udfd6\\/"}'),
    "one key twice": ('{"a": 1, "a": 2}', '{"a": 2}'),
}
OTHER = {
    "true and 1": ('{"a": true}', '{"a": 1}'),
    "false and 0": ('{"a": [false]}', '{"a": [0.0]}'),
    "a number and text": ('{"a": 1}', '{"a": "1"}'),
    "null and nothing": ('{"a": null}', "{}"),
    "a number and its neighbour": ('{"a": 9007199254740993}', '{"a": 9007199254740992}'),
    "1e23 and its nearest float": ('{"a": 1e23}', '{"a": 99999999999999991611392}'),
    "another order of a list": ('{"a": [1, 2]}', '{"a": [2, 1]}'),
    "a composed letter and two": ('{"a": "\u00fc"}', '{"a": "u\u0308"}'),
}


def begin_with(app: App, context: str) -> Any:
    declaration = '{"destination": "albums", "filename": "a.jpg", "size": 5, "context": %s}'
    headers = {"Idempotency-Key": "one"}
    body = declaration % context
    return app.client.post(URL, body, content_type="application/json", headers=headers)


@pytest.mark.usefixtures("any_context")
@pytest.mark.parametrize("kind", SAME)
def test_a_begin_that_is_repeated_finds_its_upload(alice: App, kind: str) -> None:
    first, in_other_words = SAME[kind]
    begun = begin_with(alice, first)
    assert begun.status_code == 201
    for context in (first, in_other_words):
        again = begin_with(alice, context)
        assert (again.status_code, again.json()["id"]) == (201, begun.json()["id"])
    assert Upload.objects.count() == 1

    # Every answer has the context as the row has it, the first one too.
    stored = alice.get(f"{begun.json()['id']}/").content
    assert json.dumps(begun.json()["context"]) == json.dumps(json.loads(stored)["context"])


@pytest.mark.usefixtures("any_context")
@pytest.mark.parametrize("kind", OTHER)
def test_another_context_is_another_body(alice: App, kind: str) -> None:
    first, other = OTHER[kind]
    assert begin_with(alice, first).status_code == 201
    again = begin_with(alice, other)
    assert (again.status_code, again.json()["code"]) == (409, "idempotency_key_reused")
    assert Upload.objects.count() == 1


@pytest.mark.usefixtures("any_context")
def test_a_context_is_measured_as_it_is_kept(alice: App) -> None:
    """PostgreSQL would return 309 digits for each of these five characters."""
    numbers = ", ".join(["1e308"] * 100)
    refused = begin_with(alice, f'{{"a": [{numbers}]}}')
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, "too_large")
    assert not Upload.objects.exists()


def jsonb(value: Any) -> Any:
    """As PostgreSQL's jsonb returns it: numbers are decimals, without an exponent or a -0."""

    def write(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ",".join(f"{json.dumps(k)}:{write(v)}" for k, v in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ",".join(map(write, value)) + "]"
        if isinstance(value, float):
            return format(Decimal(repr(value)) or abs(Decimal(repr(value))), "f")
        return json.dumps(value)

    return json.loads(write(value))


numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
contexts = st.recursive(
    st.none() | st.booleans() | numbers | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)


@hypothesis_settings(max_examples=200, database=None, deadline=None)
@given(contexts)
def test_a_kept_context_is_read_back_unchanged(context: Any) -> None:
    try:
        kept = as_kept(context)
    except ValueError:  # a NUL
        assert "\\u0000" in json.dumps(context)
        return
    # It is unchanged for a reader of doubles, such as JavaScript.
    doubles = [json.loads(json.dumps(each), parse_int=float) for each in (kept, context)]
    assert doubles[0] == doubles[1]
    for given_back in (jsonb(kept), json.loads(json.dumps(kept))):
        assert json.dumps(given_back, sort_keys=True) == json.dumps(kept, sort_keys=True)
        assert as_kept(given_back) == kept


def test_a_begin_that_is_repeated_past_the_deadline_leaves_only_a_confirm(
    alice: App, s3: Bucket
) -> None:
    key = {"Idempotency-Key": "one"}
    begun = alice.begin(headers=key)
    s3.write(row(begun), b"short")
    past_the_deadline(begun.json()["id"])
    again = alice.begin(headers=key)
    assert again.status_code == 201
    assert (again.json()["status"], again.json()["request"]) == ("pending", None)
    assert alice.confirm(begun.json()["id"]).status_code == 422
    again = alice.begin(headers=key)
    assert (again.json()["status"], again.json()["request"]) == ("rejected", None)


def test_a_begin_whose_first_upload_vanishes_meanwhile_answers_503(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It makes the INSERT fail, and is gone when begin looks for it."""
    look = beginning._begun_before

    def vanishes(upload: Upload) -> Upload | None:
        Upload.objects.update(idempotency_key=None)
        return look(upload)

    monkeypatch.setattr(beginning, "_begun_before", vanishes)
    key = {"Idempotency-Key": "9d7e"}
    assert alice.begin(headers=key).status_code == 201
    answer = alice.begin(headers=key)
    assert (answer.status_code, answer.json()["code"]) == (503, "bucket_unavailable")
    assert alice.begin(headers=key).status_code == 201


def test_a_repeated_begin_answers_with_the_same_upload(alice: App, bob: App) -> None:
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


@pytest.mark.parametrize("key", ["", "x" * 65, "é", "a\tb"])
def test_a_malformed_idempotency_key_is_a_400(alice: App, key: str) -> None:
    answer = alice.client.post(URL, {}, format="json", headers={"Idempotency-Key": key})
    assert answer.status_code == 400
    answer = alice.begin(headers={"Idempotency-Key": key})
    assert assert_error(answer, 400, "invalid")["errors"][0]["field"] == "Idempotency-Key"
    assert not Upload.objects.exists()


def test_a_key_without_an_owner_is_a_value_error(alice: App) -> None:
    with pytest.raises(ValueError, match="owner"):
        lifecycle.begin(
            owner=None, destination="photos", filename="a.jpg", size=1, idempotency_key="k"
        )
