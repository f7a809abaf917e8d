"""The Python and the templates that the documentation shows, as they stand."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import django
import pytest
from django.contrib.auth.models import AnonymousUser
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage
from django.core.management import call_command
from django.db import models
from django.template import Context, RequestContext, Template
from django.test import Client, RequestFactory
from django.test.utils import isolate_apps
from django.urls import path

from s3direct_uploads import events, signals, tasks
from s3direct_uploads.destinations import Destination
from s3direct_uploads.fields import UploadImageField
from s3direct_uploads.models import Upload
from tests.conftest import JPEG, App, Bucket, assert_error, row
from tests.content.files import image
from tests.content.files import looked_into as looked_into
from tests.documents import block
from tests.field_models import Portrait
from tests.host.conftest import Find, Install
from tests.host.test_forms import Tags, serve

OURS = "from photos.models import Photo"


def read(code: str, **names: Any) -> dict[str, Any]:
    """The names that this block has made."""
    names = {"__name__": "documented", **names}
    exec(code, names)
    return names


def photo_is(model: str, code: str) -> str:
    """For a model of this suite, in the place of the host's."""
    assert OURS in code
    return code.replace(OURS, f"from tests.field_models import {model} as Photo")


@pytest.fixture
def beach(alice: App, s3: Bucket) -> Upload:
    return row(alice.upload(image("PNG"), filename="beach 1.png"))


# The README, and docs/install.md.


def test_the_readmes_page_is_for_users_who_are_logged_in(alice: App, settings: Any) -> None:
    serve(settings, upload=block("README.md", "{% load static %}", "html"))
    [route] = read(
        block("README.md", "from django.contrib.auth.decorators import login_required"),
        urlpatterns=[],
        path=path,
    )["urlpatterns"]

    def get(user: Any) -> Any:
        request = RequestFactory().get("/upload/")
        request.user = user
        return route.callback(request)

    assert get(AnonymousUser()).status_code == 302
    html = get(alice.user).render().content.decode()
    assert "/static/s3direct_uploads/upload.js" in html
    assert re.search(r'"X-CSRFToken": "\w{64}"', html)


@isolate_apps("tests")
def test_the_readmes_model_is_right() -> None:
    code = block("README.md", "from django.db import models")
    model = read(code, __name__="tests.readme")["Photo"]
    assert isinstance(model._meta.get_field("image"), UploadImageField)
    assert model.check(databases=None) == []


def test_the_page_install_shows_what_the_readme_shows() -> None:
    for ours, theirs in (
        (block("docs/install.md", "# settings.py"), block("README.md", "# settings.py")),
        (block("docs/install.md", "# urls.py"), block("README.md", "# urls.py")),
    ):
        assert ours == theirs


# Attach.


def test_a_serializer_of_the_documentation_attaches(alice: App, beach: Upload) -> None:
    names = read(
        photo_is("Portrait", block("docs/attach.md", "from rest_framework import serializers"))
    )
    request = SimpleNamespace(user=alice.user)
    serializer = names["PhotoSerializer"](
        data={"image": str(beach.pk)}, context={"request": request}
    )
    assert serializer.is_valid(), serializer.errors
    serializer.save()
    assert serializer.data["image"]["filename"] == "beach 1.png"
    beach.refresh_from_db()
    assert beach.attached_to == "tests.Portrait.image"


def test_a_view_of_the_documentation_attaches_once_and_only_its_owners(
    alice: App, bob: App, beach: Upload
) -> None:
    from django.http import Http404

    from tests.models import Photo

    code = block("docs/attach.md", "from django.db import transaction")
    body = textwrap.indent(f"{code}return photo\n", "    ")
    view = read(f"def view(request, upload_id):\n{body}", Photo=Photo)["view"]

    with pytest.raises(Http404):
        view(SimpleNamespace(user=bob.user), beach.pk)
    photo = view(SimpleNamespace(user=alice.user), beach.pk)
    assert photo.image.name == beach.name
    again = view(SimpleNamespace(user=alice.user), beach.pk)
    assert (again.status_code, b"already_attached" in again.content) == (409, True)

    released = block("docs/attach.md", "with transaction.atomic():")
    read(f"from django.db import transaction\n{released}", photo=photo, Upload=Upload)
    beach.refresh_from_db()
    assert (beach.status, Photo.objects.count()) == ("deleted", 0)


# Fields.


@isolate_apps("tests")
def test_the_fields_of_the_documentation_are_right() -> None:
    code = block("docs/fields.md", "from django.db import models")
    model = read(code, __name__="tests.documented")["Photo"]
    found = [each.name for each in model._meta.get_fields() if isinstance(each, models.FileField)]
    assert found == ["image", "original"]
    assert model.check(databases=None) == []


def test_a_field_claims_replaces_and_releases(alice: App, beach: Upload) -> None:
    another = row(alice.upload(image("PNG")))
    code = block(
        "docs/fields.md", "photo = Photo.objects.create(image=upload)  # a completed Upload"
    )
    read(code, Photo=Portrait, upload=beach, another=another)
    assert set(Upload.objects.values_list("status", flat=True)) == {"deleted"}


def test_a_template_shows_the_name_that_people_know(beach: Upload) -> None:
    code = block(
        "docs/fields.md", '<a href="{{ photo.image.url }}">{{ photo.image.filename }}</a>', "html"
    )
    photo = Portrait.objects.create(image=beach)
    assert ">beach 1.png</a>" in Template(code).render(Context({"photo": photo}))


# Forms.


def test_the_form_fields_and_the_template_of_the_documentation(settings: Any) -> None:
    fields = block("docs/forms.md", 'image = UploadField(destination="photos")')
    code = "from django import forms\nfrom s3direct_uploads.forms import UploadField\n"
    form = read(f"{code}class Form(forms.Form):\n{textwrap.indent(fields, '    ')}")["Form"]()
    page = Template(block("docs/forms.md", "{{ form.media }}", "html"))
    html = page.render(RequestContext(RequestFactory().get("/"), {"form": form}))
    shown = Tags(html)
    assert shown.named("script", type="module")
    single, several = shown.named("s3-upload", destination="photos")
    assert ("multiple" in single, several["max-files"]) == (False, "20")


def test_the_element_alone_is_served() -> None:
    html = Template(block("docs/forms.md", "{% load static %}", "html")).render(
        RequestContext(RequestFactory().get("/"))
    )
    assert Tags(html).named("s3-upload", name="image", endpoint="/api/uploads/")
    source = Path(import_module("s3direct_uploads").__path__[0]) / "static"
    for file in re.findall(r'"/static/([\w./]+)"', html):
        assert (source / file).is_file()


def test_with_whitenoise_the_imports_have_hashed_names(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its storage is Django's, which also compresses the files."""
    module: Any = ModuleType("whitenoise.storage")
    module.CompressedManifestStaticFilesStorage = ManifestStaticFilesStorage
    monkeypatch.setitem(sys.modules, "whitenoise", ModuleType("whitenoise"))
    monkeypatch.setitem(sys.modules, "whitenoise.storage", module)
    names = read(
        block(
            "docs/clients.md", "from whitenoise.storage import CompressedManifestStaticFilesStorage"
        )
    )
    hashed: Any = ModuleType("hashed_for_a_test")
    hashed.Storage = names["HashedStaticFilesStorage"]
    monkeypatch.setitem(sys.modules, "hashed_for_a_test", hashed)
    settings.STATIC_ROOT = tmp_path
    static = {"BACKEND": "hashed_for_a_test.Storage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": static}

    call_command("collectstatic", "--no-input", verbosity=0)

    [all_js] = (tmp_path / "s3direct_uploads").glob("all.????????????.js")
    assert re.search(r'from "\./upload\.[0-9a-f]{12}\.js"', all_js.read_text())


# Content.


@pytest.mark.usefixtures("looked_into")
def test_the_destination_that_looks_into_files(alice: App, s3: Bucket, settings: Any) -> None:
    code = block("docs/content.md", '"photos": {')
    destinations = read(f"destinations = {{{code}}}")["destinations"]
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": destinations}
    assert alice.upload(image("JPEG")).status_code == 200
    assert_error(alice.upload(JPEG), 422, "object_mismatch")


@pytest.mark.usefixtures("looked_into")
def test_the_hook_that_takes_square_images(
    alice: App, s3: Bucket, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = ModuleType("avatars_for_a_test")
    exec(block("docs/content.md", "from s3direct_uploads import content"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": f"{module.__name__}.Avatars"}}
    assert alice.upload(image("JPEG", (10, 10))).status_code == 200
    oblong = alice.upload(image("JPEG", (10, 20)))
    assert_error(oblong, 422, "object_mismatch")
    assert oblong.json()["detail"] == "Choose a square image."


# Settings.


def test_the_settings_of_the_documentation_are_right(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, find: Find
) -> None:
    (tmp_path / "photos_of_settings").mkdir()
    hooks = block("docs/settings.md", "from s3direct_uploads.destinations import Destination")
    (tmp_path / "photos_of_settings" / "uploads.py").write_text(hooks)
    monkeypatch.syspath_prepend(tmp_path)
    shown = block("docs/settings.md", "S3DIRECT_UPLOADS = {")
    found = read(shown.replace("photos.uploads", "photos_of_settings.uploads"))
    settings.S3DIRECT_UPLOADS = found["S3DIRECT_UPLOADS"]

    assert [each for each in find() if each.is_serious()] == []

    photos = import_module("photos_of_settings.uploads").Photos
    written = [name for name in vars(photos) if callable(getattr(photos, name))]
    assert len(written) == 5
    assert all(hasattr(Destination, name) for name in written)


def test_the_setting_that_names_the_class_of_the_recipe() -> None:
    names = read(
        block(
            "docs/recipes.md",
            'S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": "gallery.uploads.Photos"}}',
        )
    )
    assert names["S3DIRECT_UPLOADS"]["DESTINATIONS"] == {"photos": "gallery.uploads.Photos"}
    assert "class Photos(Destination)" in block("docs/recipes.md", "# gallery/uploads.py")


def test_the_sweep_is_enqueued_in_djangos_tasks(s3: Bucket) -> None:
    code = block("docs/recipes.md", "from s3direct_uploads.tasks import sweep")
    if django.VERSION >= (6, 0):
        read(code)
    else:
        with pytest.raises(ImportError, match="cannot import name 'sweep'"):
            read(code)
        assert not hasattr(tasks, "sweep")


def test_the_webhook_has_a_url() -> None:
    names = read(
        block("docs/events.md", "from s3direct_uploads.events import webhook"),
        urlpatterns=[],
        path=path,
    )
    [route] = names["urlpatterns"]
    assert route.callback is events.webhook


def test_cookies_for_another_site_are_marked(alice: App, settings: Any, client: Client) -> None:
    names = read(
        block("docs/other-origin.md", 'SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "None"')
    )
    for name in [each for each in names if each.isupper()]:
        setattr(settings, name, names[name])
    answer = client.get("/admin/login/")
    cookie = answer.cookies["csrftoken"]
    assert (cookie["samesite"], cookie["secure"]) == ("None", True)


def test_an_error_looks_as_the_documentation_shows(alice: App) -> None:
    import json

    code = block("docs/http.md", '{"code": "invalid", "detail": "size: At most 20 MB.",', "json")
    answer = alice.begin(size=21 * 1024**2)
    assert answer.status_code == 400
    assert answer.json() == json.loads(code)


# Scanning.


@pytest.fixture
def documents(install: Install, settings: Any) -> Iterator[ModuleType]:
    """The app that docs/scanning.md makes; its ``scanning``, which Django imported."""
    names = read(block("docs/scanning.md", "S3DIRECT_UPLOADS = {"))
    settings.S3DIRECT_UPLOADS = names["S3DIRECT_UPLOADS"]
    settings.CLAMD = names["CLAMD"]
    scan = block("docs/scanning.md", '# scanning.py in your app, here "documents"')
    install(
        "documents",
        block("docs/scanning.md", "# documents/apps.py"),
        f"# documents/scanning.py\n{scan}",
        "# documents/models.py\n",
    )
    scanning = sys.modules["documents.scanning"]
    yield scanning
    signals.upload_held.disconnect(scanning.start_scan)


def test_django_imports_the_scan_when_it_starts(documents: ModuleType, find: Find) -> None:
    """Otherwise W072 would say that nobody listens."""
    assert [each for each in find() if each.is_serious() or "W072" in str(each.id)] == []
    assert signals.upload_held.disconnect(documents.start_scan)
    signals.upload_held.connect(documents.start_scan)
