"""What people see in Korean: a form, the admin, the photo wall. Nothing in it is English."""

from __future__ import annotations

from typing import Any

import pytest
from django import forms
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils.translation import override

from s3direct_uploads import lifecycle
from s3direct_uploads.exceptions import BucketUnavailable
from s3direct_uploads.forms import UploadField
from s3direct_uploads.models import Upload, Usage
from tests.conftest import App, Bucket, row, sign_in
from tests.languages.conftest import (
    HANGUL,
    assert_korean,
    english_in,
    read,
    speaks_languages,
)
from tests.openapi.test_answers import provoke_mismatch

ADMIN = "/admin/s3direct_uploads/"
LEFT_BY_DJANGO = {"- Select an option -"}  # Django 6.1 has no Korean for it


class PhotosForm(forms.Form):
    images = UploadField(destination="photos", multiple=True, max_files=2)


@pytest.mark.parametrize("code", sorted(UploadField.default_error_messages))
def test_each_error_of_a_form(code: str) -> None:
    with override("ko"):
        params = {"filename": "beach.jpg", "max_files": 2}
        told = forms.ValidationError(UploadField.default_error_messages[code], code, params)
        assert_korean(told.messages[0], ["beach.jpg"])


def test_a_form_and_its_widget(alice: App) -> None:
    upload = row(alice.upload())
    upload.attach()
    with override("ko"):
        form = PhotosForm({"images": [upload.form_value, "x"]})
        told = form.errors["images"]
        assert len(told) == 2
        for each in told:
            assert_korean(str(each), ["beach.jpg"])
        assert "JavaScript를 켜십시오" in str(form)
        assert_korean(str(PhotosForm({"images": ["x"] * 3}).errors["images"][0]))


@pytest.mark.parametrize("model", [Upload, Usage])
def test_each_name_and_help_of_a_field(model: Any) -> None:
    with override("ko"):
        for field in model._meta.fields:
            if (field.name == "id" and model is Usage) or field.name == "etag":
                continue
            assert HANGUL.search(str(field.verbose_name)) or field.name == "id", field.name
            if field.help_text:
                assert_korean(str(field.help_text))
        assert_korean(str(model._meta.verbose_name))
        assert_korean(str(model._meta.verbose_name_plural))


@pytest.fixture
def root(make_user: Any, settings: Any) -> Client:
    client: Any = Client(headers=speaks_languages(settings))
    sign_in(client, make_user("root", is_staff=True, is_superuser=True))
    return client  # type: ignore[no-any-return]


def assert_no_english(page: Any, sent: list[str]) -> None:
    assert page.status_code == 200
    said = read(page)
    assert HANGUL.search(" ".join(said))
    assert [each for each in said if english_in(each, sent) and each not in LEFT_BY_DJANGO] == []


def test_the_admin(alice: App, visitor: App, root: Client) -> None:
    provoke_mismatch(alice)
    visitor.begin()
    alice.begin(filename="beach.jpg")
    held = row(alice.begin(filename="held.jpg"))
    Upload.objects.filter(pk=held.pk).update(status="verifying", held_at=held.created_at)
    attached = row(alice.upload())
    attached.attach()
    sent = [text for each in Upload.objects.all() for text in (each.key, each.filename)]

    for path in ("", "?q=beach", "?status__exact=pending", "?destination=photos"):
        assert_no_english(root.get(f"{ADMIN}upload/{path}", follow=True), sent)
    for upload in Upload.objects.all():
        page = root.get(f"{ADMIN}upload/{upload.pk}/change/")
        assert_no_english(page, [*sent, str(upload.pk)])
        texts = read(page)
        for label in ("상태:", "소유자:", "업로드 대상:", "기한입니다. 연장되지 않습니다."):
            assert label in texts
        if upload.reason:
            assert "서명되지 않은 헤더가 전송되었습니다: ContentEncoding." in texts
    assert_no_english(root.get(f"{ADMIN}usage/"), sent)
    assert_no_english(root.get("/admin/"), sent)


def test_what_the_admin_says_after_an_action(alice: App, root: Client) -> None:
    for action in ("confirm_again", "accept", "reject", "cancel"):
        begun, sent = row(alice.begin()), row(alice.begin(filename="sent.jpg"))
        Upload.objects.filter(pk=sent.pk).update(status="verifying", held_at=sent.created_at)
        chosen = {"action": action, "_selected_action": [str(begun.pk), str(sent.pk)]}
        page = root.post(f"{ADMIN}upload/", chosen, follow=True)
        if action in ("reject", "cancel"):  # a page asks first
            shown = [f"{begun.pk}:pending", f"{sent.pk}:verifying"]
            assert_korean(str(page.context["title"]))
            page = root.post(
                f"{ADMIN}upload/", {**chosen, "post": "yes", "shown": shown}, follow=True
            )
        messages = [str(each) for each in page.context["messages"]]
        assert messages
        for each in messages:
            assert_korean(each, ["beach.jpg", "sent.jpg"])
        Upload.objects.all().delete()
    page = root.get(f"{ADMIN}upload/?q={'x' * 9000}", follow=True)
    assert [str(each) for each in page.context["messages"]] == ["검색어가 너무 깁니다."]


@pytest.mark.urls("example_project.urls")
def test_the_photo_wall(make_user: Any, settings: Any) -> None:
    headers, user = speaks_languages(settings), make_user("amy")
    settings.DEMO_LOGIN = "amy:demo"
    client: Any = Client(headers=headers)
    for path in ("/accounts/login/", "/"):
        page = client.get(path)
        assert_no_english(page, [])
        assert '<html lang="ko">' in page.content.decode()
        sign_in(client, user)
    catalogue = client.get("/jsi18n/").content.decode()
    assert "모두 일시정지".encode("unicode_escape").decode() in catalogue

    english = Client(headers={"Accept-Language": "en"})
    page = english.get("/accounts/login/")
    assert '<html lang="en">' in page.content.decode()
    assert "Sign in to see your photos." in read(page)
    assert not HANGUL.search(" ".join(read(page)))


def test_the_texts_of_the_test_are_english() -> None:
    """Or the tests above could not fail."""
    assert english_in("This upload is not completed.") == ["This upload is not completed"]
    assert english_in("파일이 beach.jpg 너무 큽니다. 최대 1.5kB입니다.") == []


def test_logs_and_commands_stay_english(alice: App, own_bucket: Bucket, s3_away: Any) -> None:
    upload = row(alice.begin())
    s3_away()
    with override("ko"):
        with pytest.raises(CommandError) as raised:
            call_command("sweep_uploads", reconcile=True, verbosity=0)
        assert not HANGUL.search(str(raised.value))
        with pytest.raises(BucketUnavailable) as refused:
            lifecycle.confirm(upload)
        assert str(refused.value) == "S3 cannot be reached; try again later."
        assert_korean(refused.value.detail)
