"""``forms.UploadField``: what a form takes, what it refuses, and what it shows again."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django import forms
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage
from django.core.exceptions import BadRequest, ImproperlyConfigured, ValidationError
from django.core.management import call_command
from django.db import transaction
from django.http import QueryDict
from django.test import RequestFactory
from django.test.utils import isolate_apps
from django.utils import timezone

from example_project.photos.models import Photo as WallPhoto
from s3direct_uploads.exceptions import UploadError
from s3direct_uploads.forms import UploadField
from s3direct_uploads.models import Upload
from s3direct_uploads.storage import S3Storage
from tests.conftest import JPEG, App, Bucket, row
from tests.documents import block
from tests.field_models import Snap, Trashed
from tests.models import Photo

MAC = "A" * 43


class PhotoForm(forms.Form):
    title = forms.CharField()
    image = UploadField(destination="photos")


class AlbumForm(forms.Form):
    title = forms.CharField()
    images = UploadField(destination="photos", multiple=True, required=False)


def posted(**fields: str | list[str]) -> QueryDict:
    """What a browser posts: each name may come several times."""
    data = QueryDict(mutable=True)
    for name, value in fields.items():
        data.setlist(name, value if isinstance(value, list) else [value])
    return data


def value(upload: Upload) -> str:
    assert upload.form_value
    return upload.form_value


@pytest.fixture
def beach(alice: App) -> Upload:
    """Completed, and in no use."""
    return row(alice.upload(filename="beach.jpg"))


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [
            each for name, each in self.found if name == tag and attributes.items() <= each.items()
        ]


# The value.


def test_only_the_owner_is_told_the_form_value(alice: App, bob: App, beach: Upload) -> None:
    told = alice.get(f"{beach.pk}/").json()["form_value"]

    assert told == beach.form_value
    assert told.startswith(f"{beach.pk}:")
    assert alice.confirm(str(beach.pk)).json()["form_value"] == told
    begun = alice.begin()
    assert begun.json()["form_value"] == row(begun).form_value
    assert bob.get(f"{beach.pk}/").status_code == 404


def test_an_upload_without_an_owner_has_no_form_value(beach: Upload) -> None:
    old = value(beach)
    beach.owner = None
    beach.save()

    assert beach.form_value is None
    assert Upload.objects.of_form_values([old]) == {}


def test_the_form_value_ends_when_the_owner_changes(bob: App, beach: Upload) -> None:
    old = value(beach)
    beach.owner = bob.user
    beach.save()

    assert Upload.objects.of_form_values([old]) == {}
    assert Upload.objects.of_form_values([value(beach)]) == {value(beach): beach}


def test_the_form_value_outlives_a_change_of_the_secret_key(beach: Upload, settings: Any) -> None:
    old = value(beach)
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "another"

    assert value(beach) != old
    assert Upload.objects.of_form_values([old]) == {old: beach}


# What is taken.


def test_a_form_takes_an_upload(beach: Upload) -> None:
    form = PhotoForm(posted(title="Beach", image=value(beach)))

    assert form.is_valid()
    assert form.cleaned_data["image"] == beach
    assert form.changed_data == ["title", "image"]


def test_a_form_takes_several_uploads_in_their_order_with_one_query(
    alice: App, django_assert_num_queries: Any
) -> None:
    uploads = [row(alice.upload(filename=f"{number}.jpg")) for number in (2, 1, 3)]
    values = [value(each) for each in uploads]

    with django_assert_num_queries(1):
        form = AlbumForm(posted(title="All", images=[*values, values[0]]))
        assert form.is_valid()
        assert form.cleaned_data["images"] == uploads
        form.as_p()


def test_a_test_may_post_a_plain_dict(beach: Upload) -> None:
    form = PhotoForm({"title": "Beach", "image": value(beach)})
    assert form.is_valid()
    assert form.cleaned_data["image"] == beach
    several = AlbumForm({"title": "Beach", "images": [value(beach)]})
    assert several.is_valid()
    assert several.cleaned_data["images"] == [beach]


def test_nothing_posted_is_an_error_only_if_the_field_is_required() -> None:
    assert PhotoForm(posted(title="x")).errors.as_data()["image"][0].code == "required"
    assert PhotoForm(posted(title="x", image="")).errors.as_data()["image"][0].code == "required"
    form = AlbumForm(posted(title="x"))
    assert form.is_valid()
    assert form.cleaned_data["images"] is None
    assert form.changed_data == ["title"]


def test_nothing_posted_leaves_the_file_that_is_there() -> None:
    photo = Photo(image="photos/old.jpg")
    form = PhotoForm(posted(title="x"), initial={"image": photo.image})

    assert form.is_valid()
    assert form.cleaned_data["image"] is photo.image
    assert "image" not in form.changed_data


def test_the_clear_checkbox_answers_false() -> None:
    photo = Photo(image="photos/old.jpg")
    data = {"title": "x", "images-clear": "on"}
    form = AlbumForm(posted(**data), initial={"images": photo.image})
    assert form.is_valid()
    assert form.cleaned_data["images"] is False
    assert "images" in form.changed_data

    # A required file cannot be cleared.
    data = {"title": "x", "image-clear": "on"}
    required = PhotoForm(posted(**data), initial={"image": photo.image})
    assert required.is_valid()
    assert required.cleaned_data["image"] is photo.image


def test_a_file_and_the_clear_checkbox_contradict_each_other(beach: Upload) -> None:
    data = posted(title="x", images=value(beach), **{"images-clear": "on"})
    form = AlbumForm(data, initial={"images": Photo(image="photos/old.jpg").image})

    assert [each.code for each in form.errors.as_data()["images"]] == ["contradiction"]
    tags = Tags(form.as_p())
    assert [each["value"] for each in tags.named("input", name="images")] == [value(beach)]
    assert "checked" in tags.named("input", type="checkbox")[0]


def test_a_disabled_field_takes_nothing(beach: Upload) -> None:
    class DisabledForm(forms.Form):
        image = UploadField(destination="photos", disabled=True)

    photo = Photo(image="photos/old.jpg")
    form = DisabledForm(posted(image=value(beach)), initial={"image": photo.image})

    assert form.is_valid()
    assert form.cleaned_data["image"] is photo.image
    assert form.changed_data == []
    [element] = Tags(form.as_p()).named("s3-upload")
    assert "disabled" in element


def test_validators_get_the_upload(beach: Upload) -> None:
    def small(upload: Upload) -> None:
        raise ValidationError(f"{upload.size} bytes", code="not_small")

    field = UploadField(destination="photos", validators=[small])
    with pytest.raises(ValidationError, match=f"{len(JPEG)} bytes"):
        field.clean(value(beach))


# What is refused.


def codes(form: forms.BaseForm, field: str = "image") -> list[str]:
    return [str(each.code) for each in form.errors.as_data()[field]]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ("no uuid", "invalid"),
        ("no uuid:" + MAC, "invalid"),
        ("photos/AAAA/beach.jpg", "invalid"),
        ("{id}:" + MAC + "/../x", "invalid"),
        ("{id}:" + MAC * 100, "invalid"),
        ("{key}", "invalid"),
        ("{ID}:{mac}", "invalid"),
        (" {id}:{mac}", "invalid"),
        ("{id}:{mac}\n", "invalid"),
        ("\x00", "invalid"),
        ("\ud800", "invalid"),
        ("{id}", "does_not_exist"),
        ("{id}:", "does_not_exist"),
        ("{id}:" + MAC, "does_not_exist"),
        (f"{uuid.UUID(int=1)}:{{mac}}", "does_not_exist"),
        (f"{uuid.UUID(int=1)}", "does_not_exist"),
    ],
)
def test_what_proves_nothing_is_refused(beach: Upload, wrong: str, code: str) -> None:
    id, mac = value(beach).split(":")
    data = wrong.format(id=id, ID=id.upper(), mac=mac, key=beach.key)

    form = PhotoForm(posted(title="x", image=data))

    assert codes(form) == [code]
    assert "beach.jpg" not in str(form.errors)
    beach.refresh_from_db()
    assert beach.attached_at is None


def test_anothers_signature_proves_nothing(bob: App, beach: Upload) -> None:
    _, bobs = value(row(bob.upload())).split(":")
    assert codes(PhotoForm(posted(title="x", image=f"{beach.pk}:{bobs}"))) == ["does_not_exist"]


@pytest.mark.parametrize("status", ["pending", "verifying", "rejected", "expired", "cancelled"])
def test_what_is_not_completed_is_refused_by_its_status(alice: App, status: str) -> None:
    upload = row(alice.begin(filename="beach.jpg"))
    held_at = timezone.now() if status == "verifying" else None
    Upload.objects.filter(pk=upload.pk).update(status=status, reason="A reason.", held_at=held_at)

    form = PhotoForm(posted(title="x", image=value(upload)))

    assert codes(form) == [status]
    assert "“beach.jpg”" in str(form.errors)


def test_a_deleted_upload_is_refused(alice: App, beach: Upload) -> None:
    assert alice.delete(str(beach.pk)).status_code == 204
    assert codes(PhotoForm(posted(title="x", image=value(beach)))) == ["deleted"]


def test_an_upload_to_another_destination_is_refused(alice: App) -> None:
    upload = row(alice.upload(destination="documents"))
    assert codes(PhotoForm(posted(title="x", image=value(upload)))) == ["wrong_destination"]


def test_a_form_that_is_posted_twice_is_refused_the_second_time(beach: Upload) -> None:
    data = posted(title="x", image=value(beach))
    first = PhotoForm(data)
    assert first.is_valid()
    first.cleaned_data["image"].attach()

    again = PhotoForm(data)

    assert codes(again) == ["already_attached"]
    # It is of no more use, so it is not shown again.
    assert [each["value"] for each in Tags(again.as_p()).named("input", name="image")] == [""]


def test_several_values_where_one_is_wanted_are_refused(
    beach: Upload, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(0):
        form = PhotoForm(posted(title="x", image=[value(beach)] * 2))
        assert codes(form) == ["one_only"]
        assert codes(PhotoForm({"title": "x", "image": ["a", "b"]})) == ["one_only"]


def test_a_thousand_values_are_refused_before_the_database_is_asked(
    beach: Upload, django_assert_num_queries: Any
) -> None:
    many = [f"{uuid.uuid4()}:{MAC}" for _ in range(1000)]
    with django_assert_num_queries(0):
        assert codes(PhotoForm(posted(title="x", image=many))) == ["one_only"]
        form = AlbumForm(posted(title="x", images=many))
        assert codes(form, "images") == ["too_many"]
        assert len(form.as_p()) < 5_000
    with django_assert_num_queries(1):
        form = AlbumForm(posted(title="x", images=many[:100]))
        assert codes(form, "images") == ["does_not_exist"]


@pytest.mark.parametrize("wrong", [7, 1.5, True, {"a": 1}, ["a"], ("a", 1), b"x", object()])
def test_what_is_no_text_is_refused(wrong: object) -> None:
    field = UploadField(destination="photos", multiple=True)
    with pytest.raises(ValidationError) as refused:
        field.clean([wrong])
    assert refused.value.code == "invalid"


def test_of_several_each_that_is_refused_is_named(alice: App, beach: Upload) -> None:
    pending = [row(alice.begin(filename=f"{number}.jpg")) for number in range(2)]
    values = [value(each) for each in (pending[0], beach, pending[1])]

    form = AlbumForm(posted(title="x", images=values))

    assert codes(form, "images") == ["pending", "pending"]
    assert "“0.jpg”" in str(form.errors)
    assert "“1.jpg”" in str(form.errors)
    assert [each["value"] for each in Tags(form.as_p()).named("input", name="images")] == [
        value(beach)
    ]


class TenantStorage(S3Storage):
    """The tenant whose turn it is has a folder of its own."""

    @property
    def location(self) -> str:
        return "another-tenant"


def test_a_tenants_upload_is_refused_in_anothers_turn(beach: Upload, settings: Any) -> None:
    storage = settings.STORAGES["default"]
    options = {name: each for name, each in storage["OPTIONS"].items() if name != "location"}
    tenants = {"BACKEND": f"{__name__}.TenantStorage", "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "default": tenants}

    assert codes(PhotoForm(posted(title="x", image=value(beach)))) == ["wrong_destination"]


# What is shown.


def test_an_empty_form() -> None:
    html = PhotoForm().as_p()
    tags = Tags(html)

    [element] = tags.named("s3-upload")
    assert element == {
        "endpoint": "/api/uploads/",
        "destination": "photos",
        "accept": "image/*",
        "max-size": "20971520",
        "required": None,
        "csrf-cookie": "csrftoken",
        "csrf-header": "X-CSRFTOKEN",
    }
    assert tags.named("label", **{"for": "id_image"})
    [file] = tags.named("input", type="file")
    assert file["id"] == "id_image"
    assert {"hidden", "disabled"} <= set(file)
    assert "name" not in file, "or the browser would post a file to Django"
    assert tags.named("input", name="image") == [{"type": "hidden", "name": "image", "value": ""}]
    assert "Turn on JavaScript" in html
    assert not PhotoForm().is_multipart()
    for forbidden in ("<script", "<style", "style=", "onclick", "javascript:"):
        assert forbidden not in html


def test_the_media_is_a_module_and_a_style_sheet() -> None:
    assert str(PhotoForm().media).splitlines() == [
        '<link href="/static/s3direct_uploads/element.css" media="all" rel="stylesheet">',
        '<script src="/static/s3direct_uploads/element.js" type="module"></script>',
    ]


def test_a_field_for_several_files() -> None:
    [element] = Tags(AlbumForm().as_p()).named("s3-upload")
    assert "multiple" in element
    assert element["max-files"] == "100"
    assert "required" not in element


def test_an_error_elsewhere_keeps_the_upload(beach: Upload) -> None:
    Upload.objects.filter(pk=beach.pk).update(filename='a"b<c>.jpg')
    form = PhotoForm(posted(title="", image=value(beach)))

    assert set(form.errors) == {"title"}
    assert Tags(form.as_p()).named("input", name="image") == [
        {
            "type": "hidden",
            "name": "image",
            "value": value(beach),
            "data-filename": 'a"b<c>.jpg',
            "data-size": str(len(JPEG)),
            "data-status": "completed",
        }
    ]


def test_what_a_scan_holds_is_kept_as_well(beach: Upload) -> None:
    Upload.objects.filter(pk=beach.pk).update(
        status="verifying", held_at=timezone.now(), completed_at=None, announced_at=None
    )
    form = PhotoForm(posted(title="x", image=value(beach)))

    assert codes(form) == ["verifying"]
    [kept] = Tags(form.as_p()).named("input", name="image")
    assert (kept["value"], kept["data-status"]) == (value(beach), "verifying")


def test_an_error_of_the_field_is_told_to_screen_readers() -> None:
    form = PhotoForm(posted(title="x"))
    [file] = Tags(form.as_p()).named("input", type="file")
    assert file["aria-invalid"] == "true"
    assert file["aria-describedby"] == "id_image_error"


def test_the_file_that_is_there_is_linked_and_can_be_cleared(s3: Bucket) -> None:
    photo = Photo(image="photos/old<b>.jpg")
    html = AlbumForm(initial={"images": photo.image}).as_p()
    tags = Tags(html)

    assert "Currently:" in html
    assert "old&lt;b&gt;.jpg" in html
    [link] = tags.named("a")
    assert "/photos/old" in str(link["href"])
    [box] = tags.named("input", type="checkbox")
    assert (box["name"], box["id"]) == ("images-clear", "images-clear_id")
    # A required file cannot be cleared, only replaced; and need not be chosen again.
    tags = Tags(PhotoForm(initial={"image": photo.image}).as_p())
    assert tags.named("input", type="checkbox") == []
    assert "required" not in tags.named("s3-upload")[0]


def test_an_upload_as_the_initial_value_is_shown_by_its_own_filename(beach: Upload) -> None:
    Upload.objects.filter(pk=beach.pk).update(filename="한라산.jpg")
    beach.refresh_from_db()
    form = AlbumForm(initial={"images": [beach, beach]})
    assert form.as_p().count("한라산.jpg") == 2


def test_a_formset_has_a_name_for_each_form_and_an_empty_form(beach: Upload) -> None:
    formset_class = forms.formset_factory(PhotoForm, extra=1)
    formset = formset_class(prefix="photos")
    tags = Tags(str(formset.empty_form["image"]))
    assert tags.named("input", name="photos-__prefix__-image")
    assert tags.named("input", id="id_photos-__prefix__-image")

    data = {
        "photos-TOTAL_FORMS": "2",
        "photos-INITIAL_FORMS": "0",
        "photos-0-title": "x",
        "photos-0-image": value(beach),
        "photos-1-title": "",
        "photos-1-image": "",
    }
    bound = formset_class(posted(**data), prefix="photos")
    assert bound.is_valid(), "an extra form that was left empty is no error"
    assert [form.cleaned_data.get("image") for form in bound] == [beach, None]


def test_each_form_has_its_own_uploads(beach: Upload) -> None:
    failed = PhotoForm(posted(title="", image=value(beach)))
    assert value(beach) in failed.as_p()
    assert value(beach) not in PhotoForm().as_p()
    assert value(beach) not in PhotoForm(posted(title="")).as_p()


def test_the_endpoint_may_be_named() -> None:
    class ElsewhereForm(forms.Form):
        image = UploadField(destination="photos", endpoint="/files/")

    assert Tags(ElsewhereForm().as_p()).named("s3-upload", endpoint="/files/")


def test_without_an_endpoint_the_error_says_what_to_write(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.urls_without_uploads"
    with pytest.raises(ImproperlyConfigured, match="endpoint="):
        PhotoForm().as_p()


def test_an_unknown_destination_is_named() -> None:
    class WrongForm(forms.Form):
        image = UploadField(destination="nowhere")

    with pytest.raises(ImproperlyConfigured, match="nowhere"):
        WrongForm().as_p()


@pytest.mark.parametrize(
    ("setting", "given", "attribute", "expected"),
    [
        ("CSRF_COOKIE_NAME", "token", "csrf-cookie", "token"),
        ("CSRF_USE_SESSIONS", True, "csrf-cookie", ""),
        ("CSRF_COOKIE_HTTPONLY", True, "csrf-cookie", ""),
        ("CSRF_HEADER_NAME", "HTTP_X_XSRF_TOKEN", "csrf-header", "X-XSRF-TOKEN"),
    ],
)
def test_the_element_is_told_where_the_csrf_token_is(
    settings: Any, setting: str, given: object, attribute: str, expected: str
) -> None:
    setattr(settings, setting, given)
    [element] = Tags(PhotoForm().as_p()).named("s3-upload")
    assert element[attribute] == expected


def test_a_destination_that_requires_a_checksum_gets_one(settings: Any) -> None:
    ours = settings.S3DIRECT_UPLOADS["DESTINATIONS"]
    photos = {**ours["photos"], "REQUIRE_CHECKSUM": True, "CONTENT_TYPES": ["*/*"]}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {**ours, "photos": photos}}
    [element] = Tags(PhotoForm().as_p()).named("s3-upload")
    assert element["checksum"] == "CRC32"
    assert "accept" not in element


class HashedStorage(ManifestStaticFilesStorage):
    support_js_module_import_aggregation = True


def test_with_hashed_names_the_modules_find_each_other(settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path
    hashed = {"BACKEND": f"{__name__}.HashedStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": hashed}
    others = ["admin", "rest_framework", "photos"]
    call_command("collectstatic", "--no-input", verbosity=0, ignore_patterns=others)

    paths = re.findall(r'(?:href|src)="/static/([^"]+)"', str(PhotoForm().media))
    sheet, module = [(tmp_path / path).read_text() for path in paths]

    assert "s3-upload {" in sheet
    imported = re.findall(r'^import \{.*\} from "\./(.*)";$', module, re.MULTILINE)
    assert len(imported) == 4
    for name in imported:
        assert re.search(r"\.[0-9a-f]{12}\.js$", name)
        assert (tmp_path / "s3direct_uploads" / name).exists()


# With a model.


def test_a_model_form_saves_the_upload_as_its_file(beach: Upload, s3: Bucket) -> None:
    class ModelPhotoForm(forms.ModelForm):  # type: ignore[type-arg]
        image = UploadField(destination="photos")

        class Meta:
            model = Photo
            fields = ["title", "image"]

        def clean_image(self) -> Any:
            image = self.cleaned_data["image"]
            return image.attach() if isinstance(image, Upload) else image

    form = ModelPhotoForm(posted(title="Beach", image=value(beach)))
    assert form.is_valid()
    photo = form.save()
    with photo.image.open() as file:
        assert file.read() == JPEG
    beach.refresh_from_db()
    assert beach.attached_at

    # Saved again without a new file, it stays.
    again = ModelPhotoForm(posted(title="Sea"), instance=photo)
    assert again.is_valid()
    assert again.save().image.name == beach.name


# The forms that the documentation shows.


def serve(settings: Any, **templates: str) -> None:
    """A host with these templates, and with no others."""
    [engine] = settings.TEMPLATES
    files = {f"{name.replace('__', '/')}.html": each for name, each in templates.items()}
    loaders = [("django.template.loaders.locmem.Loader", files)]
    options = {**engine["OPTIONS"], "loaders": loaders}
    settings.TEMPLATES = [{**engine, "APP_DIRS": False, "OPTIONS": options}]


@isolate_apps("tests")
def test_the_documented_page_needs_at_most_ten_lines_and_saves_a_photo_once(
    beach: Upload, alice: App, settings: Any
) -> None:
    models, urls = (
        block("docs/forms.md", "# models.py: a model with a file"),
        block("docs/forms.md", "# urls.py: a page with its form"),
    )
    page = block("docs/forms.md", "{# templates/photos/photo_form.html #}", "html")
    lines = [each for each in f"{models}{urls}".splitlines() if each]
    assert len([each for each in lines if not re.match("from |import |#", each)]) <= 10
    # The table of tests.models.Photo is as if Django's own field had been there before.
    names: dict[str, Any] = {"__name__": "tests.readme", "urlpatterns": []}
    exec(models + urls.replace("from photos.models import Photo\n", ""), names)
    assert names["Photo"]._meta.db_table == Photo._meta.db_table
    serve(settings, tests__photo_form=page)
    [view] = [each.callback for each in names["urlpatterns"]]

    def ask(method: str = "POST", **fields: str) -> Any:
        request = RequestFactory().generic(
            method, "/", urlencode(fields), "application/x-www-form-urlencoded"
        )
        request.user = alice.user or AnonymousUser()
        answer = view(request)
        return answer.render() if hasattr(answer, "render") else answer

    shown = Tags(ask("GET").content.decode())
    assert shown.named("s3-upload", destination="photos")
    assert shown.named("script", type="module")
    failed = ask(title="", image=value(beach))
    assert value(beach) in failed.content.decode()

    assert ask(title="Beach", image=value(beach)).status_code == 302

    photo = names["Photo"].objects.get()
    assert (photo.title, photo.image.name) == ("Beach", beach.name)
    beach.refresh_from_db()
    assert beach.attached_to == "tests.Photo.image"
    again = ask(title="Beach", image=value(beach))
    assert "has been saved already" in again.content.decode()
    assert Photo.objects.count() == 1


def test_the_form_of_the_documentation_saves_a_photo_once(
    beach: Upload, alice: App, settings: Any
) -> None:
    names: dict[str, Any] = {"__name__": "views"}
    code = block("docs/forms.md", "# views.py: a form with a file")
    exec(code.replace("from photos.models", "from tests.models"), names)
    serve(settings, add_photo="{{ form.media }}{{ form }}")

    def post(**fields: str) -> Any:
        request = RequestFactory().post("/", fields)
        request.user = alice.user or AnonymousUser()
        return names["add_photo"](request)

    failed = post(title="", image=value(beach))
    assert value(beach) in failed.content.decode()

    assert post(title="Beach", image=value(beach)).status_code == 302

    photo = Photo.objects.get()
    assert (photo.title, photo.image.name) == ("Beach", beach.name)
    again = post(title="Beach", image=value(beach))
    assert "has been saved already" in again.content.decode()
    assert Photo.objects.count() == 1


def test_that_form_posted_twice_at_once_is_an_error_of_the_form(
    beach: Upload,
) -> None:
    """The other request attaches it after this one has found it valid."""
    form = PhotoForm(posted(title="x", image=value(beach)))
    assert form.is_valid()
    Upload.objects.get(pk=beach.pk).attach()

    try:
        form.cleaned_data["image"].attach()
    except UploadError as error:
        form.add_error("image", error.detail)

    assert "This upload is in use already." in str(form.errors)


def test_a_host_tests_its_form_without_s3(
    uploads_in_memory: Any, make_user: Callable[..., User]
) -> None:
    upload = uploads_in_memory(owner=make_user(), destination="photos", filename="beach.jpg")
    form = PhotoForm(posted(title="Beach", image=upload.form_value))
    assert form.is_valid()
    assert form.cleaned_data["image"] == upload


# One upload for several files.


def test_one_upload_in_two_fields_of_a_row_is_a_form_error(beach: Upload) -> None:
    Form = forms.modelform_factory(Trashed, fields=["image", "cover"])
    form = Form(posted(image=value(beach), cover=value(beach)))

    assert codes(form, "cover") == ["repeated"]
    assert "image" not in form.errors
    assert not form.is_valid()
    beach.refresh_from_db()
    assert beach.attached_at is None


@pytest.mark.urls("example_project.urls")
@pytest.mark.parametrize("cause", ["two tabs at once", "deleted meanwhile"])
def test_who_is_too_late_to_save_gets_a_400_from_any_view(
    admin_client: Any, beach: Upload, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    claim = Upload.claim

    def too_late(self: Upload, to: str) -> None:
        if cause == "two tabs at once":
            claim(Upload.objects.get(pk=beach.pk), "tests.Snap.image")
        else:
            Upload.objects.filter(pk=beach.pk).update(status="deleted")
        claim(self, to)

    monkeypatch.setattr(Upload, "claim", too_late)
    owner = User.objects.get(username="admin")
    data = {"owner": owner.pk, "image": value(beach), "filename": "beach.jpg"}
    answer = admin_client.post("/admin/photos/photo/add/", data)

    assert answer.status_code == 400
    assert not WallPhoto.objects.exists()


def save_two(upload: Upload) -> None:
    with transaction.atomic():
        for title in "01":
            Snap.objects.create(title=title, image=upload)


def test_one_upload_in_two_forms_of_a_formset_is_an_error_of_the_second(beach: Upload) -> None:
    FormSet = forms.modelformset_factory(Snap, fields=["title", "image"], extra=2)
    data = {"form-TOTAL_FORMS": "2", "form-INITIAL_FORMS": "0"}
    for number in "01":
        data |= {f"form-{number}-title": number, f"form-{number}-image": value(beach)}
    formset = FormSet(posted(**data))

    assert not formset.is_valid()
    first, second = formset.forms
    assert first.is_valid()
    assert codes(second, "image") == ["repeated"]
    # A host that does not ask is_valid() still saves neither.
    with pytest.raises(BadRequest):
        save_two(beach)
    assert not Snap.objects.exists()
    beach.refresh_from_db()
    assert beach.attached_at is None


@pytest.mark.urls("example_project.urls")
def test_a_link_to_the_admin_writes_no_text_into_its_page(admin_client: Any) -> None:
    page = admin_client.get("/admin/photos/photo/add/?image=Call+this+number").content.decode()
    assert "<s3-upload" in page
    assert "Call this number" not in page
