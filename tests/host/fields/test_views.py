"""A model's field on Django's own pages: generic views, model formsets, and ``commit=False``."""

from __future__ import annotations

from typing import Any

import pytest
from django import forms
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import path
from django.views.generic import CreateView, UpdateView

from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload
from s3direct_uploads.testing import completed_upload
from tests.conftest import App, Bucket, row
from tests.field_models import Album, Snap
from tests.host.fields.test_fields import held
from tests.host.fields.test_release import is_released
from tests.urls import urlpatterns as others

pytestmark = pytest.mark.django_db

VIEW: dict[str, Any] = {
    "model": Snap,
    "fields": ["title", "image"],
    "template_name": "snap.html",
    "success_url": "/",
}
urlpatterns = [
    *others,
    path("add/", transaction.atomic(CreateView.as_view(**VIEW))),
    path("<int:pk>/", transaction.atomic(UpdateView.as_view(**VIEW))),
]


class Page:
    """The host's page, as a browser with a login posts it."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.client = Client()
        self.client.force_login(user)

    def upload(self, filename: str = "beach.jpg") -> Upload:
        return completed_upload(destination="photos", filename=filename, owner=self.user)

    def add(self, **data: Any) -> Any:
        return self.client.post("/add/", {"title": "Beach", "image": "", **data})

    def change(self, snap: Snap, **data: Any) -> Any:
        return self.client.post(f"/{snap.pk}/", {"title": snap.title, "image": "", **data})


@pytest.fixture
def page(s3: Bucket, settings: Any, make_user: Any) -> Page:
    settings.ROOT_URLCONF = __name__
    [engine] = settings.TEMPLATES
    templates = {"snap.html": "{{ form.media }}{{ form }}"}
    loaders = [("django.template.loaders.locmem.Loader", templates)]
    options = {**engine["OPTIONS"], "loaders": loaders}
    # The widget's own template comes from Django's renderer, not from here.
    settings.TEMPLATES = [{**engine, "APP_DIRS": False, "OPTIONS": options}]
    return Page(make_user())


def codes(answer: Any) -> dict[str, list[str]]:
    """The errors of the form that is shown again."""
    assert answer.status_code == 200
    errors = answer.context["form"].errors.as_data()
    return {name: [str(each.code) for each in found] for name, found in errors.items()}


def shown(answer: HttpResponse, upload: Upload) -> bool:
    """Whether the page posts this upload again."""
    return str(upload.form_value) in answer.content.decode()


def test_generic_views_create_keep_replace_and_clear(page: Page) -> None:
    first, second = page.upload(), page.upload("sea.jpg")
    assert page.add(image=first.form_value).status_code == 302
    snap = Snap.objects.get()
    assert (snap.image.name, held(first)) == (first.name, "tests.Snap.image")
    assert "beach.jpg</a>" in page.client.get(f"/{snap.pk}/").content.decode()

    assert page.change(snap, title="Sea").status_code == 302
    snap.refresh_from_db()
    assert (snap.title, snap.image.name, is_released(first)) == ("Sea", first.name, False)

    assert page.change(snap, image=second.form_value).status_code == 302
    assert (is_released(first), held(second)) == (True, "tests.Snap.image")
    assert page.change(snap, **{"image-clear": "on"}).status_code == 302
    assert is_released(second)
    snap.refresh_from_db()
    assert snap.image.name == ""


def test_an_error_elsewhere_keeps_the_upload_for_the_next_try(page: Page) -> None:
    first, second = page.upload(), page.upload("sea.jpg")
    refused = page.add(title="", image=first.form_value)
    assert codes(refused) == {"title": ["required"]}
    assert (shown(refused, first), held(first)) == (True, "")
    assert page.add(image=first.form_value).status_code == 302

    snap = Snap.objects.get()
    refused = page.change(snap, title="", image=second.form_value)
    assert codes(refused) == {"title": ["required"]}
    assert shown(refused, second)
    assert "Currently" in refused.content.decode()
    assert (held(first), held(second)) == ("tests.Snap.image", "")
    # An error that only the model finds.
    page.add(title="Sea")
    refused = page.change(snap, title="Sea", image=second.form_value)
    assert codes(refused) == {"title": ["unique"]}
    assert (shown(refused, second), held(second)) == (True, "")
    assert page.change(snap, image=second.form_value).status_code == 302
    assert (is_released(first), held(second)) == (True, "tests.Snap.image")


def test_a_form_that_is_posted_twice_is_an_error_of_its_field(page: Page) -> None:
    upload = page.upload()
    assert page.add(image=upload.form_value).status_code == 302
    again = page.add(title="Again", image=upload.form_value)
    assert codes(again) == {"image": ["already_attached"]}
    assert not shown(again, upload), "it is of no more use"
    [snap] = Snap.objects.all()
    again = page.change(snap, image=upload.form_value)
    assert codes(again) == {"image": ["already_attached"]}
    assert held(upload) == "tests.Snap.image"


def test_anothers_upload_is_an_error_and_leaves_the_file(page: Page, alice: App) -> None:
    mine, alices = page.upload(), row(alice.upload())
    page.add(image=mine.form_value)
    [snap] = Snap.objects.all()
    for value in (str(alices.pk), f"{alices.pk}:{'A' * 43}", alices.key):
        assert set(codes(page.change(snap, image=value))) == {"image"}
    assert codes(page.change(snap, image=[mine.form_value] * 2)) == {"image": ["one_only"]}
    contradiction = {"image": page.upload().form_value, "image-clear": "on"}
    assert codes(page.change(snap, **contradiction)) == {"image": ["contradiction"]}
    snap.refresh_from_db()
    assert (snap.image.name, held(mine), held(alices)) == (mine.name, "tests.Snap.image", "")


def test_of_two_tabs_the_second_changes_only_what_it_was_told(page: Page) -> None:
    first, second, third = page.upload(), page.upload(), page.upload()
    page.add(image=first.form_value)
    snap = Snap.objects.get()  # both tabs show it

    page.change(snap, image=second.form_value)
    page.change(snap, title="Sea")  # the other tab, where no file was chosen

    snap.refresh_from_db()
    assert (snap.title, snap.image.name) == ("Sea", second.name)
    assert (is_released(first), held(second)) == (True, "tests.Snap.image")
    # And where another file was chosen, the last one stays.
    page.change(snap, image=third.form_value)
    assert (is_released(second), held(third)) == (True, "tests.Snap.image")


def test_a_file_is_replaced_while_its_old_one_is_held(
    page: Page, alice: App, settings: Any
) -> None:
    """What a scan holds can be in no row. The form had it, and gets another one instead."""
    ours = settings.S3DIRECT_UPLOADS
    photos = {**ours["DESTINATIONS"]["photos"], "HOLD": True}
    settings.S3DIRECT_UPLOADS = {**ours, "DESTINATIONS": {**ours["DESTINATIONS"], "photos": photos}}
    late, other = row(alice.upload()), row(alice.upload())
    assert lifecycle.accept(other)
    other.refresh_from_db()

    refused = page.add(image=late.form_value)
    assert codes(refused) == {"image": ["verifying"]}
    assert shown(refused, late), "so that the page can wait for the scan"
    assert page.add(image=other.form_value).status_code == 302
    lifecycle.accept(late)

    assert (held(late), late.status, held(other)) == ("", "completed", "tests.Snap.image")
    assert alice.delete(str(late.pk)).status_code == 204, "it is still its owner's"
    assert alice.delete(str(other.pk)).json()["code"] == "already_attached"
    # A row's file stays while a scan holds the one that is to replace it, also if it is rejected.
    snap, new = Snap.objects.get(), row(alice.upload())
    assert codes(page.change(snap, image=new.form_value)) == {"image": ["verifying"]}
    lifecycle.reject(new, "Eicar was found.")
    refused = page.change(snap, image=new.form_value)
    assert codes(refused) == {"image": ["rejected"]}
    assert not shown(refused, new)
    assert held(other) == "tests.Snap.image"


def test_a_form_saves_without_commit(page: Page) -> None:
    class SnapForm(forms.ModelForm):  # type: ignore[type-arg]
        class Meta:
            model = Snap
            fields = ["title", "image"]

    first, second = page.upload(), page.upload()
    form = SnapForm({"title": "Beach", "image": first.form_value})
    snap = form.save(commit=False)
    assert (snap.image.upload, held(first)) == (first, "")
    snap.album = Album.objects.create()
    snap.save()
    form.save_m2m()
    assert (held(first), Snap.objects.get().album) == ("tests.Snap.image", snap.album)

    form = SnapForm({"title": "Beach", "image": second.form_value}, instance=snap)
    changed = form.save(commit=False)
    assert (held(first), held(second)) == ("tests.Snap.image", "")
    changed.save(update_fields=["title"])
    assert (held(first), held(second)) == ("tests.Snap.image", "")
    changed.save()
    assert (is_released(first), held(second)) == (True, "tests.Snap.image")


def test_a_model_formset_attaches_replaces_and_deletes(page: Page) -> None:
    album = Album.objects.create(title="Summer")
    formset_class: Any = forms.inlineformset_factory(Album, Snap, fields=["title", "image"])

    def posted(initial: int, *rows: dict[str, Any]) -> Any:
        data: dict[str, Any] = {
            "snap_set-TOTAL_FORMS": len(rows),
            "snap_set-INITIAL_FORMS": initial,
        }
        for number, each in enumerate(rows):
            data.update({f"snap_set-{number}-{name}": value for name, value in each.items()})
        return formset_class(data, instance=album)

    def save(formset: Any) -> None:
        assert formset.is_valid(), formset.errors
        formset.save()

    uploads = [page.upload() for _ in range(3)]
    new = [{"title": f"{n}", "image": each.form_value} for n, each in enumerate(uploads)]
    wrong = posted(0, new[0], {**new[1], "title": ""}, new[2])
    assert not wrong.is_valid()
    for upload in uploads:
        assert str(upload.form_value) in str(wrong)
        assert held(upload) == ""
    save(posted(0, *new))
    assert [held(each) for each in uploads] == ["tests.Snap.image"] * 3

    ids = list(Snap.objects.order_by("title").values_list("pk", flat=True))
    replacing, unwanted = page.upload(), page.upload()
    rows = [{"id": pk, "title": f"{number}", "image": ""} for number, pk in enumerate(ids)]
    rows[1]["image"] = replacing.form_value
    rows[2].update(image=unwanted.form_value, DELETE="on")
    save(posted(3, *rows))
    assert [is_released(each) for each in uploads] == [False, True, True]
    assert (held(replacing), held(unwanted)) == ("tests.Snap.image", "")
    names = {each.name for each in Upload.objects.exclude(attached_at=None)}
    assert set(Snap.objects.values_list("image", flat=True)) == names


def test_one_upload_in_two_rows_of_a_page_is_an_error_of_the_second(page: Page) -> None:
    upload = page.upload()
    formset_class: Any = forms.modelformset_factory(Snap, fields=["title", "image"])
    data: dict[str, Any] = {"form-TOTAL_FORMS": 2, "form-INITIAL_FORMS": 0}
    for number in range(2):
        data[f"form-{number}-title"] = f"{number}"
        data[f"form-{number}-image"] = upload.form_value
    formset = formset_class(data, queryset=Snap.objects.none())
    first, second = (errors.as_data() for errors in formset.errors)
    assert first == {}
    assert [each.code for each in second["image"]] == ["repeated"]
    assert str(formset).count(str(upload.form_value)) == 1
    assert held(upload) == ""
