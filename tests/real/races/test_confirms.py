"""Many confirms of one upload: it is settled once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload
from tests.conftest import JPEG, App, Bucket, row

from .conftest import at_once, codes, sent

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]


def test_a_hundred_confirms_complete_an_upload_once(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    heard: Counter[tuple[str, Any]],
) -> None:
    id = sent(alice)

    answers = at_once([partial(app.confirm, id) for app in crowd(100)])

    assert codes(answers) == [200] * 100
    assert len({answer.text for answer in answers}) == 1, "a hundred equal answers"
    upload = row(answers[0])
    assert heard == {("completed", upload.pk): 1}
    assert answers[0].json()["completed_at"] == alice.confirm(id).json()["completed_at"]
    assert (upload.status, upload.due_at) == ("completed", None)
    assert upload.announced_at is not None
    assert s3.read(upload) == JPEG


def test_fifty_confirms_reject_an_upload_once(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    heard: Counter[tuple[str, Any]],
) -> None:
    begun = alice.begin()
    s3.write(row(begun), b"short")

    answers = at_once([partial(app.confirm, begun.json()["id"]) for app in crowd(50)])

    assert codes(answers) == [422] * 50
    assert len({answer.text for answer in answers}) == 1
    upload = row(begun)
    assert heard == {("rejected", upload.pk): 1}
    assert (upload.status, upload.due_at) == ("rejected", upload.key_closes_at)
    assert s3.read(upload) == b"short"


def test_client_event_and_sweep_complete_an_upload_once(
    alice: App, s3: Bucket, heard: Counter[tuple[str, Any]]
) -> None:
    for _ in range(8):
        id = sent(alice)
        stale = [Upload.objects.get(pk=id) for _ in range(9)]
        causes = ["client", "event", "sweep"] * 3
        found = at_once(
            [
                partial(lifecycle.confirm, upload, cause=cause)
                for upload, cause in zip(stale, causes, strict=True)
            ]
        )
        upload = Upload.objects.get(pk=id)
        assert heard.pop(("completed", upload.pk)) == 1
        assert {(each.status, each.completed_at, each.etag) for each in found} == {
            ("completed", upload.completed_at, upload.etag)
        }
        assert (upload.due_at, s3.read(upload)) == (None, JPEG)
    assert not heard


def test_confirm_never_completes_half_a_file(
    alice: App,
    s3: Bucket,
    crowd: Callable[[int], list[App]],
    heard: Counter[tuple[str, Any]],
) -> None:
    body = bytes(1024**2)
    for _ in range(4):
        begun = alice.begin(size=len(body)).json()

        def confirm_often(app: App, id: str) -> list[Any]:
            answers: list[Any] = []
            while not answers or (answers[-1].status_code == 409 and len(answers) < 200):
                answers.append(app.confirm(id))
            return answers

        arrived, *confirmed = at_once(
            [
                partial(alice.send, begun["request"], body),
                *(partial(confirm_often, app, begun["id"]) for app in crowd(3)),
            ]
        )
        assert arrived == 200
        for answers in confirmed:
            assert set(codes(answers[:-1])) <= {409}, "half a file is no object"
            assert answers[-1].status_code == 200
        upload = Upload.objects.get(pk=begun["id"])
        assert heard == {("completed", upload.pk): 1}
        heard.clear()
        assert s3.read(upload) == body
