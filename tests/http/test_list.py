"""List and retrieve: own uploads only, newest first, in pages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import JPEG, App, assert_error


def test_the_list_has_own_uploads_newest_first(alice: App, bob: App) -> None:
    theirs = alice.begin(filename="theirs.jpg").json()["id"]
    mine = [bob.begin(filename=f"{n}.jpg").json()["id"] for n in range(52)]

    page = bob.get().json()
    assert [each["id"] for each in page["results"]] == mine[:1:-1]
    assert all(each["request"] is None for each in page["results"])
    rest = bob.client.get(page["next"]).json()
    assert [each["id"] for each in rest["results"]] == mine[1::-1]
    assert rest["next"] is None
    assert theirs not in str(page) + str(rest)


def test_the_list_can_be_filtered(alice: App) -> None:
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


def test_retrieve_answers_as_begin_did_without_a_signature(alice: App) -> None:
    begun = alice.begin().json()
    assert alice.get(f"{begun['id']}/").json() == {**begun, "request": None}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"status": "ready"}, "status"),
        ({"size": "x"}, "size"),
        ({"size": 2**63}, "size"),
        ({"size": -1}, "size"),
        ({"filename": "a\0"}, "filename"),
    ],
)
def test_a_malformed_filter_is_a_400(alice: App, query: dict[str, Any], field: str) -> None:
    assert assert_error(alice.get(**query), 400, "invalid")["errors"][0]["field"] == field


@pytest.mark.parametrize("cursor", ["x", "🏖️", "cD0x", "bz0tMQ=="])
def test_a_made_up_cursor_is_never_a_500(alice: App, cursor: str) -> None:
    alice.begin()
    assert alice.get(cursor=cursor).status_code in (200, 400, 404)
