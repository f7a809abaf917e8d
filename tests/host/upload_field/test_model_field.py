"""A ModelSerializer with the mixin: each UploadFileField of the model is an ``UploadField``."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from rest_framework import serializers

from s3direct_uploads.fields import UploadFileField
from s3direct_uploads.models import Upload
from s3direct_uploads.serializers import AttachUploadsMixin, UploadField
from tests.conftest import JPEG, App
from tests.field_models import Album, Novel, Portrait, Record, Snap
from tests.host.upload_field.conftest import assert_kept, is_attached, made, new, save
from tests.host_app import SnapSerializer

SNAPS = "/api/snaps/"


class PortraitSerializer(AttachUploadsMixin, serializers.ModelSerializer[Portrait]):
    class Meta:
        model = Portrait
        fields = "__all__"


def post(app: App, **data: Any) -> Any:
    return app.client.post(SNAPS, {"title": "Beach", **data}, format="json")


def send(app: App, method: str, snap: Snap, data: dict[str, Any], format: str = "json") -> Any:
    return getattr(app.client, method)(f"{SNAPS}{snap.pk}/", data, format=format)


def writes(queries: CaptureQueriesContext) -> list[str]:
    """The statements that change uploads."""
    return [each["sql"] for each in queries if each["sql"].startswith('UPDATE "s3direct_uploads_u')]


@pytest.fixture
def upload(alice: App) -> Upload:
    return new(alice)


@pytest.fixture
def snap(alice: App, upload: Upload) -> Snap:
    answer = post(alice, image=str(upload.pk))
    assert answer.status_code == 201, answer.json()
    return Snap.objects.get(pk=answer.json()["id"])


# The field.


def test_the_serializer_takes_an_id_and_shows_the_file(alice: App, upload: Upload) -> None:
    with CaptureQueriesContext(connection) as queries:
        answer = post(alice, image=str(upload.pk))
    assert answer.status_code == 201
    shown = answer.json()["image"]
    assert (shown["name"], shown["filename"], shown["size"]) == (
        upload.name,
        "beach.jpg",
        len(JPEG),
    )
    assert (shown["content_type"], "X-Amz-Signature" in shown["url"]) == ("image/jpeg", True)
    assert len(writes(queries)) == 1, "it is attached once"
    assert Snap.objects.get().image.name == upload.name
    assert_kept(alice, upload)
    assert upload.attached_to == "tests.Snap.image"


def test_its_arguments_are_those_of_the_models_field() -> None:
    class Changed(SnapSerializer):
        class Meta(SnapSerializer.Meta):
            extra_kwargs = {"image": {"required": True, "allow_null": False, "help_text": "A."}}

    class Read(SnapSerializer):
        class Meta(SnapSerializer.Meta):
            read_only_fields = ["image"]

    class Own(UploadField):
        pass

    class Mapped(SnapSerializer):
        serializer_field_mapping = {**SnapSerializer.serializer_field_mapping, UploadFileField: Own}

    fields: list[Any] = [
        each().fields["image"] for each in (SnapSerializer, PortraitSerializer, Changed, Read)
    ]
    assert [type(each) for each in fields] == [UploadField] * 4
    assert [each.destination for each in fields] == ["photos"] * 4
    assert [each.required for each in fields] == [False, False, True, False]
    assert [each.allow_null for each in fields] == [True, True, False, True]
    assert [each.read_only for each in fields] == [False, False, False, True]
    assert fields[2].help_text == "A."
    assert type(Mapped().fields["image"]) is Own


def test_a_field_that_must_have_a_file_is_required(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_field = Snap._meta.get_field("image")
    monkeypatch.setattr(model_field, "blank", False)
    monkeypatch.setattr(model_field, "help_text", "Of the beach.")
    monkeypatch.setattr(model_field, "verbose_name", "Our picture")
    field = SnapSerializer().fields["image"]
    assert (field.required, field.allow_null) == (True, False)
    assert (field.help_text, field.label) == ("Of the beach.", "Our picture")
    for nothing, code in ((None, "null"), ("", "invalid")):
        it = SnapSerializer(data={"title": "x", "image": nothing})
        assert not it.is_valid()
        detail: Any = it.errors
        assert [each.code for each in detail["image"]] == [code]
    monkeypatch.setattr(model_field, "editable", False)
    assert SnapSerializer().fields["image"].read_only


def test_the_models_validators_get_the_file_as_in_a_form(
    alice: App, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def small(file: Any) -> None:
        seen.append((file.name, file.size, file.field.name))
        if file.size > 5:
            raise ValidationError("At most 5 bytes.", code="too_large")

    model_field = Snap._meta.get_field("image")
    monkeypatch.setattr(model_field, "_validators", [small])
    monkeypatch.delitem(model_field.__dict__, "validators", raising=False)  # it is cached
    answer = post(alice, image=str(upload.pk))
    monkeypatch.undo()
    model_field.__dict__.pop("validators", None)
    assert answer.status_code == 400
    assert answer.data["image"][0].code == "too_large"
    assert seen == [(upload.name, len(JPEG), "image")]
    assert not is_attached(upload)


def test_rows_of_depth_show_their_files_in_the_same_way(alice: App) -> None:
    class Deep(AttachUploadsMixin, serializers.ModelSerializer[Album]):
        class Meta:
            model = Album
            fields = ["snap_set"]
            depth = 1

    album = Album.objects.create()
    upload = new(
        alice, body=b"<script>", destination="documents", filename="evil.html", content_type=""
    )
    Upload.objects.filter(pk=upload.pk).update(destination="photos")
    upload.refresh_from_db()
    Snap.objects.create(title="x", image=upload, album=album)
    [shown] = Deep(album).data["snap_set"]
    assert shown["image"]["filename"] == "evil.html"
    assert "attachment" in shown["image"]["url"]


# Updates.


@pytest.mark.parametrize("method", ["put", "patch"])
def test_what_was_read_may_be_sent_back_and_changes_nothing(
    alice: App, snap: Snap, method: str
) -> None:
    read = alice.client.get(f"{SNAPS}{snap.pk}/").json()
    before = Upload.objects.values().get()
    with CaptureQueriesContext(connection) as queries:
        answer = send(alice, method, snap, {**read, "title": "Sea"})
    assert (answer.status_code, answer.json()["title"]) == (200, "Sea")
    assert writes(queries) == []
    assert Snap.objects.get().image.name == snap.image.name
    assert Upload.objects.values().get() == before


def test_an_empty_field_may_be_sent_back(alice: App) -> None:
    empty = Snap.objects.create(title="empty")
    read = alice.client.get(f"{SNAPS}{empty.pk}/").json()
    assert read["image"] is None
    answer = send(alice, "put", empty, read)
    assert (answer.status_code, answer.json()) == (200, read)


def test_a_save_whose_answer_was_lost_may_be_repeated(
    alice: App, upload: Upload, snap: Snap
) -> None:
    before = Upload.objects.values().get()
    for _ in range(2):
        answer = send(alice, "put", snap, {"title": "Sea", "image": str(upload.pk)})
        assert answer.status_code == 200, answer.json()
    assert Upload.objects.values().get() == before
    other = Snap.objects.create(title="other")
    for again in (
        send(alice, "put", other, {"title": "other", "image": str(upload.pk)}),
        post(alice, title="a third", image=str(upload.pk)),
    ):
        assert again.status_code == 400
        assert again.data["image"][0].code == "already_attached"
    assert list(Snap.objects.exclude(pk=snap.pk).values_list("image", flat=True)) == [""]
    assert Upload.objects.values().get() == before


def test_a_save_that_is_repeated_before_the_first_one_ended_is_no_error(
    alice: App, snap: Snap
) -> None:
    """Two found the upload free. The third one had read the row before it got the upload."""
    upload = new(alice)
    data = {"title": "Sea", "image": str(upload.pk)}
    first, second, third = (
        made(SnapSerializer, alice, data, Snap.objects.get(pk=snap.pk)) for _ in range(3)
    )
    first.is_valid(raise_exception=True)
    second.is_valid(raise_exception=True)
    first.save()
    assert second.save().image.name == upload.name
    third.is_valid(raise_exception=True)
    assert third.save().image.name == upload.name
    assert_kept(alice, upload)


def test_another_file_releases_the_old_one(alice: App, upload: Upload, snap: Snap) -> None:
    other = new(alice)
    answer = send(alice, "patch", snap, {"image": str(other.pk)})
    assert answer.json()["image"]["name"] == other.name
    assert_kept(alice, other)
    upload.refresh_from_db()
    assert (upload.status, upload.attached_at) == ("deleted", None)


@pytest.mark.parametrize(
    ("image", "format"), [(None, "json"), ("", "json"), ("", "multipart")], ids=str
)
def test_null_or_nothing_clears_the_field_and_releases_the_file(
    alice: App, upload: Upload, snap: Snap, image: Any, format: str
) -> None:
    answer = send(alice, "patch", snap, {"image": image}, format)
    assert (answer.status_code, answer.json()["image"]) == (200, None)
    assert Snap.objects.get().image.name == ""
    upload.refresh_from_db()
    assert upload.status == "deleted"


def test_an_image_that_is_replaced_or_cleared_is_never_opened(
    alice: App, s3_calls: list[str]
) -> None:
    one, two = new(alice), new(alice)
    del s3_calls[:]
    portrait = save(PortraitSerializer, alice, {"image": str(one.pk)})
    portrait = save(PortraitSerializer, alice, {"image": str(two.pk)}, portrait)
    shown = PortraitSerializer(portrait).data
    save(PortraitSerializer, alice, shown, portrait)
    assert Portrait.objects.get().image.name == two.name
    save(PortraitSerializer, alice, {"image": None}, portrait)
    assert not Portrait.objects.get().image
    assert s3_calls == []
    assert set(Upload.objects.values_list("status", flat=True)) == {"deleted"}


def test_a_file_that_is_kept_stays(alice: App) -> None:
    class RecordSerializer(AttachUploadsMixin, serializers.ModelSerializer[Record]):
        class Meta:
            model = Record
            fields = ["file"]

    one, two = new(alice), new(alice)
    record = save(RecordSerializer, alice, {"file": str(one.pk)})
    save(RecordSerializer, alice, {"file": str(two.pk)}, record)
    assert_kept(alice, one, two)


# Where the upload is attached.


def test_many_rows_at_once_are_attached(alice: App) -> None:
    one, two = new(alice), new(alice)
    data = [{"title": "1", "image": str(one.pk)}, {"title": "2", "image": str(two.pk)}]
    save(SnapSerializer, alice, data, many=True)
    assert_kept(alice, one, two)
    assert {one.attached_to, two.attached_to} == {"tests.Snap.image"}


def test_one_upload_for_two_rows_is_refused_for_the_second(alice: App, upload: Upload) -> None:
    data = [{"title": each, "image": str(upload.pk)} for each in ("1", "2")]
    it = made(SnapSerializer, alice, data, many=True)
    it.is_valid(raise_exception=True)
    with pytest.raises(serializers.ValidationError) as refused:
        it.save()
    detail: Any = refused.value.detail
    assert list(detail) == [1]
    assert detail[1]["image"][0].code == "already_attached"
    assert not is_attached(upload)
    assert not Snap.objects.exists()


def test_nested_rows_are_attached_by_their_model(alice: App) -> None:
    class AlbumSerializer(AttachUploadsMixin, serializers.ModelSerializer[Album]):
        snaps = SnapSerializer(many=True, source="snap_set")

        class Meta:
            model = Album
            fields = ["title", "snaps"]

        def create(self, validated_data: dict[str, Any]) -> Album:
            snaps = validated_data.pop("snap_set")
            album = Album.objects.create(**validated_data)
            for each in snaps:
                Snap.objects.create(album=album, **each)
            return album

    one, two = new(alice), new(alice)
    snaps = [{"title": "1", "image": str(one.pk)}, {"title": "2", "image": str(two.pk)}]
    with CaptureQueriesContext(connection) as queries:
        album = save(AlbumSerializer, alice, {"title": "Summer", "snaps": snaps})
    assert len(writes(queries)) == 2
    assert_kept(alice, one, two)
    assert {one.attached_to, two.attached_to} == {"tests.Snap.image"}
    with CaptureQueriesContext(connection) as queries:
        shown = AlbumSerializer(album).data["snaps"]
    assert {each["image"]["name"] for each in shown} == {one.name, two.name}
    assert len(queries) == 2, "the snaps, and their uploads"

    three = new(alice)
    it = made(
        AlbumSerializer, alice, {"title": "x", "snaps": [{"title": "3", "image": str(three.pk)}]}
    )
    it.is_valid(raise_exception=True)
    Upload.objects.get(pk=three.pk).attach()
    with pytest.raises(serializers.ValidationError) as refused:
        it.save()
    detail: Any = refused.value.detail
    assert detail["snaps"][0]["image"][0].code == "already_attached"
    assert Album.objects.count() == 1


def test_a_dotted_source_is_attached_by_its_model(alice: App) -> None:
    class NovelSerializer(AttachUploadsMixin, serializers.ModelSerializer[Novel]):
        cover = UploadField(destination="photos", source="book_ptr.picture")

        class Meta:
            model = Novel
            fields = ["cover", "sample"]

        def create(self, validated_data: dict[str, Any]) -> Novel:
            picture = validated_data.pop("book_ptr")["picture"]
            return Novel.objects.create(picture=picture, **validated_data)

    cover, sample = new(alice), new(alice)
    data = {"cover": str(cover.pk), "sample": str(sample.pk)}
    novel = save(NovelSerializer, alice, data)
    assert (novel.picture.name, novel.sample.name) == (cover.name, sample.name)
    assert_kept(alice, cover, sample)
    assert (cover.attached_to, sample.attached_to) == ("tests.Book.picture", "tests.Novel.sample")

    again = new(alice)
    it = made(NovelSerializer, alice, {"cover": str(again.pk)})
    it.is_valid(raise_exception=True)
    Upload.objects.get(pk=again.pk).attach()
    with pytest.raises(serializers.ValidationError) as refused:
        it.save()
    detail: Any = refused.value.detail
    assert detail["cover"][0].code == "already_attached", "by the name that the client knows"


def test_a_save_that_fails_attaches_and_releases_nothing(
    alice: App, upload: Upload, snap: Snap
) -> None:
    other = new(alice)
    for instance in (None, snap):
        it = made(SnapSerializer, alice, {"title": "y", "image": str(other.pk)}, instance)
        it.is_valid(raise_exception=True)
        with pytest.raises(IntegrityError), transaction.atomic():
            it.save(title=None)
        assert not is_attached(other)
        assert_kept(alice, upload)
    assert it.save().image.name == other.name, "it may be tried again"
    assert_kept(alice, other)
