"""The tests that docs/testing.md shows are run by pytest, in a host's project."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.content.files import image
from tests.documents import block, write
from tests.host.test_completed import RECIPE

TESTS = {
    "test_posted": block(
        "docs/testing.md", "def test_a_photo_is_posted(uploads_in_memory, client, admin_user):"
    ),
    "test_added": block(
        "docs/testing.md", "def test_a_photo_is_added(uploads_in_memory, client, admin_user):"
    ),
    "test_hooks": block("docs/testing.md", "import pytest"),
    "test_scan": block("docs/testing.md", "from documents.scanning import scan"),
}
SCAN = block("docs/scanning.md", '# scanning.py in your app, here "documents"')

SETTINGS = """from tests.settings import *
INSTALLED_APPS = [*INSTALLED_APPS, "documents"]
ROOT_URLCONF = "host_urls"
S3DIRECT_UPLOADS = {
    "DESTINATIONS": {
        "photos": "gallery.uploads.Photos",
        "avatars": {"MAX_SIZE": 2 * 1024**2, "CONTENT_TYPES": ["image/png"], "SNIFF": True},
        "documents": {"MAX_SIZE": 1024, "CONTENT_TYPES": ["*/*"], "HOLD": True},
    }
}
"""
URLS = """from django.urls import path
from django.views.generic import CreateView

from tests import urls
from tests.field_models import Snap

shown = {"fields": ["title", "image"], "template_name": "host_form.html"}
add = CreateView.as_view(model=Snap, success_url="/", **shown)
urlpatterns = [*urls.urlpatterns, path("photos/add/", add)]
"""


def test_they_pass(tmp_path: Path) -> None:
    write(
        tmp_path,
        *RECIPE.values(),
        block("docs/scanning.md", "# documents/apps.py"),
        f"# documents/scanning.py\n{SCAN}",
    )
    (tmp_path / "host_settings.py").write_text(SETTINGS)
    (tmp_path / "host_urls.py").write_text(URLS)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "beach.jpg").write_bytes(image("JPEG"))
    for name, code in TESTS.items():
        (tmp_path / f"{name}.py").write_text(code)

    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *(*[f"{name}.py" for name in TESTS], f"--rootdir={tmp_path}"),
        ],
        cwd=tmp_path,
        env={
            **{name: value for name, value in os.environ.items() if "PYTEST" not in name},
            "DJANGO_SETTINGS_MODULE": "host_settings",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)]),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "5 passed" in ran.stdout
