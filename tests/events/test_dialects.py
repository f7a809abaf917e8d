"""Events are read in each dialect; any other body is an error with a code."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from s3direct_uploads import events
from s3direct_uploads.events import Event, Tally, parse
from s3direct_uploads.exceptions import MalformedEvent
from tests.events.conftest import (
    DIALECTS,
    MALFORMED,
    RECORD,
    TEST_EVENT,
    Dialect,
    aws,
    eventbridge,
    sns_message,
)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_dialect_is_read(dialect: Dialect) -> None:
    key = "site/photos/a b+c%2Fd/é.jpg"
    body = dialect("media", key)

    [event] = parse(body)
    assert (event.bucket, event.kind) == ("media", "created")
    assert key in event.possible_keys
    assert parse(json.dumps(body)) == parse(json.dumps(body).encode()) == [event]

    deleted = "Object Deleted" if dialect is eventbridge else "ObjectRemoved:Delete"
    assert [each.kind for each in parse(dialect("media", key, deleted))] == ["removed"]
    tagged = "Object Tags Added" if dialect is eventbridge else "ObjectTagging:Put"
    assert [each.kind for each in parse(dialect("media", key, tagged))] == ["other"]


def test_a_plain_key_is_looked_up_once() -> None:
    [event] = parse(aws("media", "site/photos/A-b_c/beach.jpg"))
    assert list(event.possible_keys) == ["site/photos/A-b_c/beach.jpg"]


@pytest.mark.parametrize("body", [TEST_EVENT, sns_message(TEST_EVENT), {"Records": []}])
def test_a_body_without_events_is_no_error(body: dict[str, Any]) -> None:
    assert parse(body) == []


@pytest.mark.parametrize("body", MALFORMED)
def test_a_malformed_body_has_a_code(body: Any) -> None:
    with pytest.raises(MalformedEvent) as caught:
        parse(body)
    assert caught.value.code == "malformed"


def test_a_hundred_records_are_read() -> None:
    assert len(parse({"Records": [RECORD] * 100})) == 100


TEXT = st.text(st.characters(codec=None), max_size=9) | st.sampled_from(["\0", "%00", "\ud800"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def nearly(draw: st.DrawFn) -> Any:
    """A right body in which one value is replaced."""
    body = json.loads(json.dumps(draw(st.sampled_from(DIALECTS))("media", "site/photos/k.jpg")))
    node = body
    while True:
        name = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if not node[name] or not isinstance(node[name], dict | list) or draw(st.booleans()):
            node[name] = draw(JSON)
            return body
        node = node[name]


thorough = hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


@pytest.mark.django_db
def test_no_body_causes_an_exception(caplog: pytest.LogCaptureFixture) -> None:
    heard: set[str] = set()

    @thorough
    @given(JSON | nearly())
    def say(body: Any) -> None:
        try:
            tally = events.settle(parse(json.dumps(body)))
        except MalformedEvent:
            heard.add("malformed")
        else:
            heard.add("read")
            assert (tally.settled, tally.again) == (0, 0), caplog.text

    say()
    assert heard == {"malformed", "read"}


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["a\0b", "a%00b", "\ud800", "%", "%FF", "k" * 5000, "", "'; --"])
def test_a_key_that_no_row_can_have_is_ignored(key: str) -> None:
    assert events.settle([Event("media", key, "created")]) == Tally(0, 1, 0)
    assert events.settle([Event(key, "k", "created")]) == Tally(0, 1, 0)
