"""The private files of a team, by the code of docs/private.md as it stands."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import requests

from tests.conftest import CV, App, Bucket, row
from tests.documents import block
from tests.host.conftest import Install

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def teams(install: Install, settings: Any) -> Any:
    models = install(
        "teams",
        block("docs/private.md", "# teams/models.py"),
        block("docs/private.md", "# teams/views.py"),
        block("docs/private.md", "# teams/urls.py"),
        block("docs/private.md", "{# teams/templates/teams/document_form.html #}", "html"),
    )
    settings.ROOT_URLCONF = "teams.urls"
    settings.LOGIN_URL = "/login/"
    import_module("teams.urls")
    return models


def test_members_add_and_get_a_file_that_nobody_else_gets(
    teams: Any, alice: App, bob: App, visitor: Any, s3: Bucket
) -> None:
    team = teams.Team.objects.create(name="Editors")
    team.members.add(alice.user)
    upload = row(alice.upload(CV, destination="documents", filename="Lebenslauf – Ä.pdf"))
    assert alice.client.get(f"/teams/{team.pk}/add/").status_code == 200

    added = alice.client.post(f"/teams/{team.pk}/add/", {"file": upload.form_value})

    assert (added.status_code, added["Location"]) == (302, "/")
    document = teams.Document.objects.get()
    upload.refresh_from_db()
    assert upload.attached_to == "teams.Document.file"

    answer = alice.client.get(f"/documents/{document.pk}/")
    assert answer.status_code == 302
    assert "no-store" in answer["Cache-Control"]
    assert "X-Amz-Signature" in answer["Location"]
    got = requests.get(answer["Location"], timeout=10)
    assert got.content == CV
    assert got.headers["Content-Disposition"].startswith("attachment")

    # Another user, a visitor, and a document that does not exist.
    assert bob.client.get(f"/documents/{document.pk}/").status_code == 404
    assert alice.client.get("/documents/999999/").status_code == 404
    sent_away = visitor.client.get(f"/documents/{document.pk}/")
    assert (sent_away.status_code, sent_away["Location"]) == (
        302,
        f"/login/?next=/documents/{document.pk}/",
    )


def test_nobody_adds_a_file_to_a_team_of_others(
    teams: Any, alice: App, bob: App, s3: Bucket
) -> None:
    team = teams.Team.objects.create(name="Editors")
    team.members.add(alice.user)
    upload = row(bob.upload(CV, destination="documents", filename="cv.pdf"))

    answer = bob.client.post(f"/teams/{team.pk}/add/", {"file": upload.form_value})

    assert answer.status_code == 404
    assert not teams.Document.objects.exists()
    upload.refresh_from_db()
    assert upload.attached_at is None
