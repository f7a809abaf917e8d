"""What a host sees of visitors' uploads: checks, forms, the admin, its own tests and jobs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django import forms
from django.apps import apps
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection
from django.http import QueryDict
from django.urls import include, path
from django.utils import timezone
from rest_framework.throttling import AnonRateThrottle

from s3direct_uploads import lifecycle
from s3direct_uploads.forms import UploadField
from s3direct_uploads.models import Upload, Usage
from s3direct_uploads.testing import completed_upload
from s3direct_uploads.views import UploadViewSet
from tests.conftest import APPLICATIONS, CV, App, Bucket, Visitor, row
from tests.documents import block, write
from tests.host.conftest import RIGHT, Cells, Find, Staff, assert_found

LIMITS = {"MAX_PENDING": 50, "MAX_TOTAL_SIZE": 1024**3}
OPEN = {**RIGHT, **LIMITS, "ANONYMOUS": True}


class Throttled(UploadViewSet):
    throttle_classes = [AnonRateThrottle]


class Unthrottled(Throttled):
    throttle_classes = []


@pytest.fixture
def throttled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UploadViewSet, "throttle_classes", [AnonRateThrottle])


# The checks.


def take(settings: Any, **spec: Any) -> None:
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"applications": spec, "photos": RIGHT}}


@pytest.mark.usefixtures("throttled")
@pytest.mark.parametrize("missing", [["MAX_PENDING"], ["MAX_TOTAL_SIZE"], [*LIMITS]])
def test_visitors_without_a_limit_are_a_warning(
    find: Find, settings: Any, missing: list[str]
) -> None:
    take(settings, **OPEN)
    assert find() == []
    take(settings, **{key: each for key, each in OPEN.items() if key not in missing})
    found = find()
    assert_found(found, "W091")
    assert [key for key in LIMITS if key in found[0].msg] == missing


@pytest.mark.usefixtures("throttled")
def test_a_permission_that_no_visitor_has_is_a_warning(find: Find, settings: Any) -> None:
    take(settings, **OPEN, PERMISSION="photos.add_photo")
    assert_found(find(), "W092")
    take(settings, **{**OPEN, "ANONYMOUS": False}, PERMISSION="photos.add_photo")
    assert find() == []


def test_visitors_without_a_throttle_are_a_warning(find: Find, settings: Any) -> None:
    take(settings, **OPEN)
    assert_found(find(), "W093")
    assert "applications" in find()[0].msg
    assert "photos" not in find()[0].msg


@pytest.mark.parametrize(
    ("views", "ids"),
    [
        ([Throttled], []),
        ([Unthrottled], ["s3direct_uploads.W093"]),
        ([Throttled, Unthrottled], ["s3direct_uploads.W093"]),
        ([], []),
    ],
)
def test_the_throttle_may_be_the_subclasss(
    find: Find, settings: Any, views: list[Any], ids: list[str]
) -> None:
    take(settings, **OPEN)

    class Urls:
        urlpatterns = [
            path("api/", include([path(f"{number}/", each.as_view({"post": "create"}))]))
            for number, each in enumerate(views)
        ]

    settings.ROOT_URLCONF = Urls
    # Without the admin's URLs, the admin has a message of its own; it is not ours.
    assert [each.id for each in find()] == ids


def test_urls_that_cannot_be_imported_are_another_checks_matter(settings: Any) -> None:
    from s3direct_uploads.visitors import check_visitors

    take(settings, **OPEN)
    settings.ROOT_URLCONF = "no.such.module"
    assert check_visitors() == []


# A form shows the visitor's upload again, so that the page can look at it and remove it.


class Application(forms.Form):
    name = forms.CharField()
    cv = UploadField(destination="applications")


def test_a_form_with_an_error_keeps_the_visitors_upload(visitor: Visitor) -> None:
    upload = row(visitor.upload())
    data = QueryDict(mutable=True)
    data.update({"name": "", "cv": upload.form_value or ""})
    form = Application(data)
    assert not form.is_valid()
    html = str(form["cv"])
    assert f'value="{upload.form_value}"' in html
    assert 'data-visitor="true"' in html


def test_an_owners_upload_is_not_marked(alice: App, applications: None) -> None:
    cv: Any = {"destination": "applications", "filename": "cv.pdf", "content_type": ""}
    upload = row(alice.upload(**cv))
    data = QueryDict(mutable=True)
    data.update({"name": "", "cv": upload.form_value or ""})
    assert "data-visitor" not in str(Application(data)["cv"])


# The admin.


def test_the_admin_names_a_visitor(visitor: Visitor, root: Staff) -> None:
    upload = row(visitor.begin())
    [cells] = Cells(root.list()).rows
    assert (cells["whose"], cells["filename"]) == ("visitor", "cv.pdf")
    page = root.detail(upload).content.decode()
    assert "yes, by a visitor" in page
    assert (upload.form_value or "").split(":")[1] not in page, "staff need no token"
    usage = root.client.get("/admin/s3direct_uploads/usage/")
    assert Cells(usage).rows[0]["whose"] == "visitors"


def test_staff_confirm_and_delete_a_visitors_upload(visitor: Visitor, root: Staff) -> None:
    begun = visitor.begin()
    assert visitor.send(begun.json()["request"], CV) == 200
    root.act("confirm_again", row(begun))
    assert row(begun).status == "completed"
    root.act_surely("cancel", row(begun))
    assert row(begun).status == "deleted"


# Scans, and the tests and jobs of the host.


def test_a_scan_holds_a_visitors_upload(visitor: Visitor, settings: Any) -> None:
    ours = settings.S3DIRECT_UPLOADS
    held = {**ours["DESTINATIONS"], "applications": {**APPLICATIONS, "HOLD": True}}
    settings.S3DIRECT_UPLOADS = {**ours, "DESTINATIONS": held}
    answer = visitor.upload()
    assert (answer.status_code, answer.json()["status"]) == (202, "verifying")
    lifecycle.accept(row(answer))
    assert visitor.get(f"{answer.json()['id']}/").json()["status"] == "completed"


def test_a_hosts_test_makes_a_visitors_upload(
    uploads_in_memory: Callable[..., Upload], applications: None
) -> None:
    upload = uploads_in_memory(visitor=True, destination="applications", filename="cv.pdf")
    data = QueryDict(mutable=True)
    data.update({"name": "Ada", "cv": upload.form_value or ""})
    form = Application(data)
    assert form.is_valid(), form.errors
    assert form.cleaned_data["cv"] == upload
    assert upload.form_value
    assert completed_upload(destination="applications", filename="a.pdf").form_value is None


def test_what_visitors_left_can_be_deleted_by_a_job(visitor: Visitor, s3: Bucket) -> None:
    """docs/recipes.md has the job."""
    left, used = row(visitor.upload()), row(visitor.upload())
    used.attach()
    Upload.objects.update(completed_at=timezone.now() - timedelta(days=8))
    for upload in lifecycle.unattached("applications").filter(visitor=True):
        lifecycle.cancel(upload)
    left.refresh_from_db()
    used.refresh_from_db()
    assert (left.status, used.status) == ("deleted", "completed")
    assert s3.read(used) is not None
    assert Usage.objects.get().pending == 0


# The recipe of docs/recipes.md, as it stands. tests/real/browser/forms has it with a browser.


def write_job_application(folder: Path) -> None:
    """The app ``jobs`` that the recipe makes, in this folder."""
    write(
        folder,
        block("docs/recipes.md", "# jobs/settings.py: add this to the settings of your project"),
        block("docs/recipes.md", "# jobs/models.py"),
        block("docs/recipes.md", "# jobs/urls.py"),
        block("docs/recipes.md", "{# jobs/templates/jobs/application_form.html #}", "html"),
        block("docs/recipes.md", "{# jobs/templates/jobs/thanks.html #}", "html"),
        block("docs/recipes.md", "# jobs/management/commands/delete_left_uploads.py"),
    )


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Any]:
    write_job_application(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    recipe = import_module("jobs.settings")
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "jobs"]
    settings.S3DIRECT_UPLOADS = recipe.S3DIRECT_UPLOADS
    monkeypatch.setattr(UploadViewSet, "throttle_classes", [AnonRateThrottle])
    monkeypatch.setattr(AnonRateThrottle, "THROTTLE_RATES", {"anon": "60/hour"})
    settings.ROOT_URLCONF = "jobs.urls"
    model = import_module("jobs.models").Application
    with connection.schema_editor() as editor:
        editor.create_model(model)
    yield model
    with connection.schema_editor() as editor:
        editor.delete_model(model)
    cache.clear()
    apps.all_models.pop("jobs")
    for name in [each for each in sys.modules if each.split(".")[0] == "jobs"]:
        del sys.modules[name]


@pytest.mark.django_db(transaction=True)
def test_the_job_application_of_the_recipes(jobs: Any, s3: Bucket) -> None:
    visitor = Visitor()
    answer = visitor.upload()
    token = answer.json()["form_value"]
    left = row(visitor.upload())
    assert visitor.client.get("/apply/").status_code == 200

    posted = visitor.client.post("/apply/", {"name": "Ada", "cv": token})
    assert (posted.status_code, posted["Location"]) == (302, "/thanks/")
    with jobs.objects.get().cv.open() as file:
        assert file.read() == CV
    assert row(answer).attached_to == "jobs.Application.cv"
    again = visitor.client.post("/apply/", {"name": "Eve", "cv": token})
    assert again.context["form"].errors.as_data()["cv"][0].code == "already_attached"

    Upload.objects.update(completed_at=timezone.now() - timedelta(days=8))
    call_command("delete_left_uploads")
    left.refresh_from_db()
    assert (left.status, row(answer).status) == ("deleted", "completed")


@pytest.mark.django_db(transaction=True)
def test_the_throttle_of_the_recipe_stops_one_address(jobs: Any, s3: Bucket) -> None:
    answers = [Visitor().begin().status_code for _ in range(61)]
    assert Counter(answers) == {201: 60, 429: 1}
    assert Visitor().client.get("/api/uploads/", REMOTE_ADDR="192.0.2.1").status_code == 403
