"""Forms that are posted at once, on PostgreSQL: the second one waits, and gets a form error.

The admin saves in a transaction. So does a host's view under ``atomic()``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from s3direct_uploads.models import Upload
from s3direct_uploads.testing import completed_upload
from tests.conftest import Bucket
from tests.field_models import Snap

from .conftest import LEADS, two_at_once

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]

ADD = "/admin/photos/photo/add/"


@pytest.fixture
def users(settings: Any, s3: Bucket, make_user: Any) -> tuple[User, list[Client]]:
    """Staff, in two tabs. Each is asked by a thread of its own."""
    settings.ROOT_URLCONF = "tests.host.fields.test_views"
    [engine] = settings.TEMPLATES
    page = ("django.template.loaders.locmem.Loader", {"snap.html": "{{ form }}"})
    loaders = [page, "django.template.loaders.app_directories.Loader"]
    options = {**engine["OPTIONS"], "loaders": loaders}
    settings.TEMPLATES = [{**engine, "APP_DIRS": False, "OPTIONS": options}]
    user = make_user()
    User.objects.filter(pk=user.pk).update(is_staff=True, is_superuser=True)
    tabs = [Client(), Client()]
    for tab in tabs:
        tab.force_login(user)
    return user, tabs


def uploaded(user: User) -> Upload:
    return completed_upload(destination="photos", filename="beach.jpg", owner=user)


def error_of(answer: Any) -> list[str]:
    context = answer.context
    form = context["adminform"].form if "adminform" in context else context["form"]
    return [str(each.code) for each in form.errors.as_data()["image"]]


@pytest.mark.parametrize("where", ["the admin", "a view under atomic()"])
def test_of_a_form_that_is_posted_twice_at_once_the_second_is_refused(
    users: tuple[User, list[Client]], where: str
) -> None:
    user, tabs = users
    for number, lead in enumerate(LEADS):
        upload = uploaded(user)
        data = {"owner": user.pk, "filename": "beach.jpg", "title": "", "image": upload.form_value}
        url = ADD if where == "the admin" else "/add/"
        first, second = (
            partial(tab.post, url, {**data, "title": f"{number} {name}"})
            for tab, name in zip(tabs, "ab", strict=True)
        )
        answers = sorted(two_at_once(first, second, lead), key=lambda each: each.status_code)
        assert [each.status_code for each in answers] == [200, 302]
        assert error_of(answers[0]) == ["already_attached"]
        upload.refresh_from_db()
        assert upload.attached_at


def test_two_tabs_that_save_one_row_at_once_both_save_and_the_last_file_stays(
    users: tuple[User, list[Client]],
) -> None:
    user, tabs = users
    snap = Snap.objects.create(title="Beach", image=uploaded(user))
    for lead in LEADS:
        news = [uploaded(user) for _ in tabs]
        first, second = (
            partial(tab.post, f"/{snap.pk}/", {"title": "Beach", "image": each.form_value})
            for tab, each in zip(tabs, news, strict=True)
        )
        answers = two_at_once(first, second, lead)
        assert [each.status_code for each in answers] == [302, 302]
        attached = Upload.objects.exclude(attached_at=None)
        snap.refresh_from_db()
        assert [each.name for each in attached] == [snap.image.name]
        assert not Upload.objects.filter(attached_at=None).exclude(status="deleted").exists()
