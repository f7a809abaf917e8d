"""A model's field in a ModelForm and in the admin: the form's field is ours too."""

from __future__ import annotations

from typing import Any

import pytest
from django import forms as djangos
from django.contrib.auth.models import User
from django.urls import reverse

from example_project.photos.models import Photo as WallPhoto
from s3direct_uploads import forms
from s3direct_uploads.models import Upload
from s3direct_uploads.testing import completed_upload
from tests.conftest import Bucket
from tests.field_models import Portrait, Snap
from tests.host.fields.test_fields import held
from tests.host.fields.test_release import is_released

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def there_is_s3(s3: Bucket) -> None:
    pass


class SnapForm(djangos.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Snap
        fields = ["title", "image"]


class OwnField(forms.UploadField):
    pass


def owned(user: User) -> Upload:
    return completed_upload(destination="photos", filename="beach.jpg", owner=user)


def posted(instance: Snap | None = None, **data: Any) -> SnapForm:
    """The form, as it is sent for the row that the database has now."""
    if instance is not None:
        instance = Snap.objects.get(pk=instance.pk)
    return SnapForm({"title": "Beach", **data}, instance=instance)


def test_a_form_creates_keeps_replaces_and_clears(make_user: Any) -> None:
    user = make_user()
    first, second = owned(user), owned(user)
    snap = posted(image=first.form_value).save()
    assert held(first) == "tests.Snap.image"
    posted(snap, title="Sea").save()
    assert Snap.objects.get().title == "Sea"
    assert held(first) == "tests.Snap.image"
    posted(snap, image=second.form_value).save()
    assert (is_released(first), held(second)) == (True, "tests.Snap.image")
    posted(snap, **{"image-clear": "on"}).save()
    assert is_released(second)
    assert Snap.objects.get().image.name == ""


def test_an_error_of_the_form_claims_and_releases_nothing(make_user: Any) -> None:
    user = make_user()
    old, new = owned(user), owned(user)
    snap = posted(image=old.form_value).save()
    form = posted(snap, title="", image=new.form_value)
    assert list(form.errors) == ["title"]
    assert (held(old), held(new)) == ("tests.Snap.image", "")
    form = posted(title="Other", image=old.form_value)
    assert list(form.errors) == ["image"], "another row has it"


def test_the_forms_field_is_ours_unless_the_host_names_one() -> None:
    field: Any = Snap._meta.get_field("image")
    made = field.formfield()
    assert (type(made), made.destination, made.required) == (forms.UploadField, "photos", False)
    own = field.formfield(form_class=OwnField)
    assert (type(own), own.destination) == (OwnField, "photos")
    assert type(field.formfield(form_class=djangos.CharField)) is djangos.CharField
    image: Any = Portrait._meta.get_field("image")
    assert type(image.formfield()) is forms.UploadField


def test_the_admin_takes_uploads_and_needs_no_configuration(admin_client: Any) -> None:
    add = reverse("admin:photos_photo_add")
    page = admin_client.get(add)
    field = page.context["adminform"].form.fields["image"]
    assert type(field) is forms.UploadField
    assert isinstance(field.widget, forms.UploadWidget), "not the one that sends it through Django"
    html = page.content.decode()
    assert '<s3-upload endpoint="/api/uploads/" destination="photos" accept="image/*"' in html
    assert 'src="/static/s3direct_uploads/element.js" type="module"' in html
    assert "multipart/form-data" not in html
    owner = page.context["user"]
    first, second = owned(owner), owned(owner)

    said = {"owner": owner.pk, "filename": "beach.jpg"}
    assert admin_client.post(add, {**said, "image": first.form_value}).status_code == 302
    assert held(first) == "photos.Photo.image"
    change = reverse("admin:photos_photo_change", args=[WallPhoto.objects.get().pk])
    html = admin_client.get(change).content.decode()
    assert "Currently:" in html
    assert "image-clear" not in html, "it is required"
    assert admin_client.post(change, {**said, "image": second.form_value}).status_code == 302
    assert (is_released(first), held(second)) == (True, "photos.Photo.image")
