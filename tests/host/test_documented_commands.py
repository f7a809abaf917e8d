"""The commands that the documentation shows: ours are run, and others are read."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Callable
from contextlib import nullcontext
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command, load_command_class

from example_project.photos.models import Photo
from tests.conftest import REAL, ROOT, App, Bucket, row
from tests.documents import block
from tests.shell import commands

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_pause", "s3")]

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# What is in front of one of our commands where a host runs it elsewhere.
BEFORE = [
    ["docker", "compose", "exec", "web"],
    ["cd", "/srv/site", "&&"],
]
DJANGOS = {"migrate", "makemigrations"}

OURS = [
    block("README.md", "python manage.py migrate", "sh"),
    block("docs/install.md", "python manage.py migrate", "sh"),
    block(
        "docs/install.md",
        "python manage.py setup_bucket --origin https://app.example.com    # --create, --dry-run",
        "sh",
    ),
    block(
        "docs/other-origin.md",
        "python manage.py setup_bucket --origin https://app.example.com",
        "sh",
    ),
    block(
        "docs/fields.md",
        "python manage.py adopt_files photos.Photo.image --destination photos --owner owner "
        "--dry-run",
        "sh",
    ),
    block(
        "docs/recipes.md",
        "python manage.py erase_uploads alice --dry-run    "
        "# a username, or a primary key (--by pk)",
        "sh",
    ),
    block(
        "docs/sweep.md",
        "*/5 * * * * cd /srv/site && python manage.py sweep_uploads    # crontab",
        "sh",
    ),
    # Their first words are commands of django-tenants: the rest is ours, and is run.
    block(
        "docs/tenants.md",
        "python manage.py tenant_command setup_bucket --origin https://ada.example.com "
        "--schema=ada",
        "sh",
    ),
    # The first line needs Docker, and is not run.
    block("docs/docker.md", "docker compose up --detach", "sh"),
]


def ours(code: str) -> list[list[str]]:
    """The words after ``manage.py`` of each command in the block."""
    found: list[list[str]] = []
    for words in commands(code):
        for before in BEFORE:
            if words[: len(before)] == before:
                words = words[len(before) :]
        if words[:2] == ["python", "manage.py"]:
            found.append([each for each in words[2:] if not re.match("--schema=", each)])
        else:
            assert words == ["docker", "compose", "up", "--detach"]
    assert found
    return found


def without_tenant(words: list[str]) -> list[str]:
    return words[1:] if words[0] in ("tenant_command", "all_tenants_command") else words


def is_check(name: str) -> bool:
    return name == "check_bucket" and not REAL


@pytest.fixture
def call(make_user: Callable[..., User], no_bucket_rules: None) -> Callable[..., str]:
    """Run a command as manage.py does, and return what it printed."""

    def call(name: str, *arguments: str) -> str:
        out = StringIO()
        if name in DJANGOS:
            options: dict[str, Any] = {"check": True} if name == "makemigrations" else {}
            call_command(name, *arguments, verbosity=0, stdout=out, **options)
            return ""
        # It refuses an option that the command does not have.
        parser = load_command_class("s3direct_uploads", name).create_parser("manage.py", name)
        parser.parse_args(list(arguments))
        if "--loop" not in arguments:  # tests/lifecycle/sweep has it: it does not end
            # check_bucket finds that moto does not enforce everything.
            fails = pytest.raises(SystemExit, match="1") if is_check(name) else nullcontext()
            with fails:
                call_command(name, *arguments, stdout=out, stderr=out)
        return out.getvalue()

    return call


@pytest.fixture
def no_bucket_rules(s3: Bucket, storage_options: Callable[..., None]) -> Any:
    """A bucket of this test's own, because the commands set it up."""
    name = f"{s3.name}-documented"
    s3.client.create_bucket(Bucket=name)
    storage_options(bucket_name=name)
    yield
    for each in s3.client.list_objects_v2(Bucket=name).get("Contents", []):
        s3.client.delete_object(Bucket=name, Key=each["Key"])
    s3.client.delete_bucket(Bucket=name)


@pytest.mark.parametrize("code", OURS)
def test_our_commands_run(call: Callable[..., str], alice: App, code: str) -> None:
    for words in ours(code):
        call(*without_tenant(words))


def test_the_commands_that_adopt_and_erase_do_so(alice: App, s3: Bucket) -> None:
    """Photos of the example project, whose owner is alice."""
    assert alice.user
    upload = row(alice.upload())
    Photo.objects.create(owner=alice.user, image=upload.attach())
    adopting = block(
        "docs/fields.md",
        "python manage.py adopt_files photos.Photo.image --destination photos --owner owner "
        "--dry-run",
        "sh",
    )
    for words in ours(adopting):
        call_command(*words, stdout=StringIO())
    upload.refresh_from_db()
    assert upload.attached_to == "photos.Photo.image"

    left = row(alice.upload())
    erasing = block(
        "docs/recipes.md",
        "python manage.py erase_uploads alice --dry-run    "
        "# a username, or a primary key (--by pk)",
        "sh",
    )
    for words in ours(erasing):
        call_command(*words, stdout=StringIO())
    left.refresh_from_db()
    assert (left.status, left.filename) == ("deleted", "")


# What would install something.


def test_make_has_the_targets(request: Any) -> None:
    """With -n, make prints what it would do. The photo wall itself is run in tests/real."""
    code = block(
        "README.md",
        "make demo    # the photo wall above, with its own S3 and database; prints its address and "
        "login. PORT=8123 changes the port",
        "sh",
    )
    for words in commands(code):
        printed = subprocess.run(
            [words[0], "--dry-run", *words[1:], "PORT=8123"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        assert {"demo": "scripts/demo 8123", "test": "pytest"}[words[1]] in printed


@pytest.mark.parametrize(
    "code",
    [
        block("README.md", "pip install .    # in a clone: there is no release yet", "sh"),
        block("docs/install.md", "pip install .    # in a clone: there is no release yet", "sh"),
        block(
            "docs/sweep.md",
            "pip install '.[celery]'      # the task is s3direct_uploads.sweep. "
            "Django 6 has tasks, too: docs/recipes.md",
            "sh",
        ),
    ],
)
def test_pip_installs_this_folder_with_extras_that_exist(code: str) -> None:
    """tests/test_readme.py builds the wheel, and uses it in an empty project."""
    for pip, install, what in commands(code):
        assert (pip, install) == ("pip", "install")
        extra = re.fullmatch(r"\.(?:\[(\w+)\])?", what)
        assert extra
        assert extra[1] is None or extra[1] in EXTRAS


# Read, and not run. Each needs a program and a server of somebody else.

READ = {
    "AWS's command line and an account": block(
        "docs/events.md",
        "aws s3api put-bucket-notification-configuration --bucket media "
        "--notification-configuration \\",
        "sh",
    ),
    "the command lines of AWS and MinIO, and four services": block(
        "docs/events.md",
        "# Ceph. It accepts a secret only with HTTPS (or with "
        "rgw_allow_notification_secrets_in_cleartext). Without",
        "sh",
    ),
}


@pytest.mark.parametrize("needs", READ)
def test_the_commands_of_others_can_be_read(needs: str) -> None:
    """bash takes them, and their JSON is JSON. tests/real/test_events.py has what Ceph sends."""
    code = READ[needs]
    subprocess.run(["bash", "-n"], input=code, text=True, check=True, timeout=10)
    read = list(commands(code))
    assert {words[0] for words in read} <= {"aws", "mc"}
    values = [each for words in read for each in words if each.startswith("{")]
    assert values
    for value in values:
        assert isinstance(json.loads(value), dict)
    asked = [
        rule["Events"]
        for value in values
        for name, rules in json.loads(value).items()
        if name.endswith("Configurations")
        for rule in rules
    ]
    assert asked
    assert all(each == ["s3:ObjectCreated:*"] for each in asked)
