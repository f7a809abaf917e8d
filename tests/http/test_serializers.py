"""The app's serializers build their fields once. What a host makes of them works as before."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import include, path
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rest_framework import serializers
from rest_framework.routers import SimpleRouter

from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import PresignedMultipart, PresignedPart, PresignedRequest
from s3direct_uploads.serializers import (
    BeginSerializer,
    ListQuerySerializer,
    UploadSerializer,
    building,
)
from s3direct_uploads.serializers.requests import plain
from s3direct_uploads.views import UploadViewSet
from tests.conftest import App, row

PUT = PresignedRequest("PUT", "https://s3/a?b", {"Content-Type": "image/jpeg"}, 60)
PARTS = PresignedMultipart(5, 2, [PresignedPart(1, 5, "https://s3/a?1", {})], 60)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The classes of the serializers that built their fields."""
    made: list[str] = []

    def note(method: Any) -> Any:
        def get_fields(self: Any) -> Any:
            made.append(type(self).__name__)
            return method(self)

        return get_fields

    for base in (serializers.Serializer, serializers.ModelSerializer):
        monkeypatch.setattr(base, "get_fields", note(base.get_fields))
    building._built.cache_clear()
    building._steps.cache_clear()
    yield made
    building._built.cache_clear()
    building._steps.cache_clear()


@pytest.mark.usefixtures("films")
def test_fields_are_built_once_whatever_is_asked(alice: App, made: list[str]) -> None:
    def ask_all() -> None:
        begun = alice.begin().json()
        assert alice.begin(size="1").status_code == 400
        assert alice.send(begun["request"]) == 200
        assert alice.confirm(begun["id"]).status_code == 200
        url = f"/api/uploads/{begun['id']}/"
        for each in (url, f"{url}url/", "/api/uploads/", "/api/uploads/?status=completed"):
            assert alice.client.get(each).status_code == 200
        film = alice.begin_film().json()
        alice.send_parts(film["multipart"]["parts"][:1])
        assert len(alice.parts(film["id"]).json()) == 1
        assert len(alice.sign_parts(film["id"], [1, 2]).json()["parts"]) == 2

    ask_all()
    assert {"UploadSerializer", "BeginSerializer", "ListQuerySerializer"} <= set(made)
    made.clear()
    ask_all()
    assert made == []


@pytest.mark.parametrize("presigned", [None, PUT, PARTS])
def test_an_answer_is_what_rest_frameworks_own_way_makes(alice: App, presigned: Any) -> None:
    for upload in (row(alice.upload()), row(alice.begin())):
        context = {"presigned": presigned}
        ours = UploadSerializer(upload, context=context)
        theirs = UploadSerializer(upload, context=context)
        assert len(theirs.fields) == 15  # now it has fields of its own
        assert ours.data == theirs.data
        assert list(ours.data) == list(theirs.data) == UploadSerializer.Meta.fields
        assert "fields" not in vars(ours)


def test_no_request_gets_the_signature_of_another(alice: App) -> None:
    """Threads share the fields, and nothing else."""
    uploads = [row(alice.begin(filename=f"{number}.jpg")) for number in range(4)]
    wrong: list[Any] = []

    def ask(number: int) -> None:
        upload = uploads[number]
        put = PresignedRequest("PUT", f"https://s3/{number}", {}, 60) if number % 2 else None
        for _ in range(300):
            data = UploadSerializer(upload, context={"presigned": put}).data
            url = data["request"] and data["request"]["url"]
            if (data["filename"], url) != (upload.filename, put and put.url):
                wrong.append(data)

    threads = [threading.Thread(target=ask, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# What a host may write.


class MoodSerializer(UploadSerializer):
    mood = serializers.SerializerMethodField()
    status = serializers.SerializerMethodField()

    class Meta(UploadSerializer.Meta):
        fields = ["id", "status", "mood", "request"]
        read_only_fields = fields

    def get_mood(self, upload: Upload) -> str:
        return f"{self.context['mood']} of {self.context['request'].user.username}"

    def get_status(self, upload: Upload) -> str:
        return upload.status.upper()


class MoodViewSet(UploadViewSet):
    serializer_class = MoodSerializer

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "mood": "good"}


class HiddenViewSet(UploadViewSet):
    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        serializer: Any = super().get_serializer(*args, **kwargs)
        getattr(serializer, "child", serializer).fields.pop("form_value")
        return serializer


router = SimpleRouter()
router.register("mood", MoodViewSet, "mood")
router.register("hidden", HiddenViewSet, "hidden")
urlpatterns = [path("", include(router.urls)), path("", include("tests.urls"))]


@pytest.mark.urls(__name__)
def test_a_hosts_serializer_has_its_fields_and_its_context(alice: App) -> None:
    declared = {"destination": "photos", "filename": "a.jpg", "size": 5}
    begun = alice.client.post("/mood/", declared, format="json").json()
    assert list(begun) == ["id", "status", "mood", "request"]
    assert (begun["status"], begun["mood"]) == ("PENDING", "good of alice")
    assert begun["request"]["method"] == "PUT"

    kept = {**begun, "request": None}
    assert alice.client.get(f"/mood/{begun['id']}/").json() == kept
    assert alice.client.get("/mood/").json()["results"] == [kept]


@pytest.mark.urls(__name__)
def test_a_field_that_a_host_removes_from_an_instance_is_gone(alice: App) -> None:
    alice.begin()
    [hidden] = alice.client.get("/hidden/").json()["results"]
    [whole] = alice.client.get("/api/uploads/").json()["results"]
    assert set(whole) - set(hidden) == {"form_value"}


def test_our_serializers_in_a_hosts_own(alice: App) -> None:
    class OrderSerializer(serializers.Serializer[Any]):
        upload = UploadSerializer(read_only=True)
        file = BeginSerializer(required=False, allow_null=True)

    upload = row(alice.begin())
    said = OrderSerializer({"upload": upload, "file": None}).data
    assert said["upload"] == UploadSerializer(upload).data
    for data, valid in (({}, True), ({"file": None}, True), ({"file": {}}, False)):
        assert OrderSerializer(data=data).is_valid() is valid, data


def test_the_arguments_of_a_serializer_count() -> None:
    assert not BeginSerializer(data={}).is_valid()
    assert BeginSerializer(data={}, partial=True).is_valid()
    assert not BeginSerializer(data=None).is_valid()
    assert BeginSerializer(data=None, allow_null=True).is_valid()
    assert not ListQuerySerializer(data={"status": "no"}).is_valid()


# A batch does not validate a plain declaration.

texts = st.one_of(
    st.text(), st.sampled_from(["a.jpg", " a", "a ", "\x00", "\ud800", "사진", "", "\xa0"])
)
values: st.SearchStrategy[Any] = st.one_of(
    texts, st.integers(), st.sampled_from([5, -1, True, 5.0, 2**63, 10**5000, None, "5", [], {}])
)
declarations = st.one_of(
    values,
    st.fixed_dictionaries(
        {"destination": texts, "filename": texts, "size": values},
        optional={"content_type": values, "checksum": values, "multipart": values, "other": values},
    ),
    st.dictionaries(st.sampled_from(["destination", "filename", "size", "content_type"]), values),
)


@hypothesis_settings(max_examples=500, database=None, deadline=None)
@given(declarations)
@example({"destination": "photos", "filename": "사진.jpg", "size": 5, "content_type": "image/jpeg"})
@example({"destination": "photos", "filename": "a.jpg", "size": 0})
def test_a_plain_declaration_is_what_the_serializer_makes_of_it(data: Any) -> None:
    said = plain(data)
    if said is not None:
        assert said == dict(BeginSerializer().run_validation(data))


@pytest.mark.parametrize("filename", ["a.jpg", "사진.jpg", "a b (1).jpg"])
def test_usual_declarations_are_plain(filename: str) -> None:
    data = {"destination": "photos", "filename": filename, "size": 5}
    assert plain(data) == data
    assert plain({**data, "content_type": "image/jpeg"}) is not None
