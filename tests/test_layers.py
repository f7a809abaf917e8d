"""Arrows point down only. A module may import what stands in a lower row than itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "s3direct_uploads"
ROOT = Path(__file__).parent.parent / PACKAGE

# The top row first. Modules in one row do not know of each other.
ROWS = """
apps
urls openapi
views
serializers admin management tasks fields migrations
events forms testing
diagnosis
lifecycle provisioning
models bucket signals checks
signer sns destinations storage
conf content_types exceptions keys times
partitions
__init__
"""
RANK = {module: -row for row, line in enumerate(ROWS.split("\n")) for module in line.split()}

# Who may say these names at all.
ONLY_IN = {
    "boto3": {"bucket"},
    "botocore": {"bucket"},
    "rest_framework": {"serializers", "views", "urls", "openapi"},
    "drf_spectacular": {"openapi"},
}
BANNED_NAMES = {"utils", "helpers", "services", "enums", "constants"}


class Imports(ast.NodeVisitor):
    """Every module that a source imports, by its full name; not what only type checkers read."""

    def __init__(self, package: list[str]) -> None:
        self.package = package  # where the source lies: ["s3direct_uploads", "management"]
        self.found: set[str] = set()

    def visit_If(self, node: ast.If) -> None:
        only_types = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for each in node.orelse if only_types else ast.iter_child_nodes(node):
            self.visit(each)

    def visit_Import(self, node: ast.Import) -> None:
        self.found |= {each.name for each in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        above = self.package[: len(self.package) - node.level + 1] if node.level else []
        module = ".".join([*above, *([node.module] if node.module else [])])
        # "from . import conf" names a module as its member.
        self.found |= {module, *(f"{module}.{each.name}" for each in node.names)}


def complaints(path: str, source: str) -> Iterator[str]:
    """What is wrong with the imports of the module at this path below the package."""
    *folders, filename = path.split("/")
    module = (folders or [filename.removesuffix(".py")])[0]
    if module not in RANK:
        yield f"{path}: give it a row in ROWS"
        return
    imports = Imports([PACKAGE, *folders])
    imports.visit(ast.parse(source))
    names = {tuple(name.split(".")) for name in imports.found}
    for target in sorted({name[1] for name in names if name[0] == PACKAGE and len(name) > 1}):
        if target != module and target in RANK and RANK[target] >= RANK[module]:
            yield f"{path} imports {target}, which does not stand below it"
    for library in sorted({name[0] for name in names} & set(ONLY_IN)):
        if module not in ONLY_IN[library]:
            yield f"{path} imports {library}: only {', '.join(sorted(ONLY_IN[library]))} may"


def test_arrows_point_down_only() -> None:
    found = [
        complaint
        for file in sorted(ROOT.rglob("*.py"))
        for complaint in complaints(file.relative_to(ROOT).as_posix(), file.read_text())
    ]
    assert found == []


def test_no_module_is_a_drawer_for_this_and_that() -> None:
    names = {file.relative_to(ROOT).with_suffix("") for file in ROOT.rglob("*.py")}
    assert not {part for name in names for part in name.parts} & BANNED_NAMES


# The test itself.


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("lifecycle.py", "from .bucket import Bucket\nfrom . import conf, models, signals"),
        ("lifecycle.py", "from . import __version__\nimport s3direct_uploads"),
        ("views.py", "from rest_framework import viewsets\nfrom . import lifecycle, serializers"),
        ("bucket.py", "import boto3\nfrom botocore.client import Config\nfrom . import signer"),
        ("models.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import boto3"),
        (
            "conf.py",
            "import typing\nif typing.TYPE_CHECKING:\n    from .views import UploadViewSet",
        ),
        ("apps.py", "def ready():\n    from . import checks"),
        ("management/commands/sweep.py", "from ...lifecycle import confirm\nfrom .run_s3 import x"),
        ("management/commands/sweep.py", "from s3direct_uploads.lifecycle import confirm"),
        ("admin.py", "from rest_framework_extras import nothing"),
    ],
)
def test_what_is_allowed(path: str, source: str) -> None:
    assert list(complaints(path, source)) == []


@pytest.mark.parametrize(
    ("path", "source", "wrong"),
    [
        ("models.py", "from .lifecycle import begin", "imports lifecycle"),
        ("models.py", "from . import conf, lifecycle", "imports lifecycle"),
        ("models.py", "from s3direct_uploads import lifecycle", "imports lifecycle"),
        ("models.py", "from s3direct_uploads.lifecycle import begin", "imports lifecycle"),
        ("models.py", "import s3direct_uploads.lifecycle as x", "imports lifecycle"),
        ("models.py", "def f():\n    from .lifecycle import begin", "imports lifecycle"),
        (
            "models.py",
            "try:\n    from .views import x\nexcept ImportError:\n    pass",
            "imports views",
        ),
        ("models.py", "from .bucket import Bucket", "imports bucket"),
        ("bucket.py", "from .models import Upload", "imports models"),
        ("keys.py", "from . import conf", "imports conf"),
        ("conf.py", "from .destinations import get", "imports destinations"),
        ("checks.py", "from .bucket import get_bucket", "imports bucket"),
        ("checks.py", "from . import lifecycle", "imports lifecycle"),
        ("lifecycle.py", "from .apps import S3DirectUploadsConfig", "imports apps"),
        ("serializers.py", "from .views import UploadViewSet", "imports views"),
        ("admin.py", "from .serializers import UploadSerializer", "imports serializers"),
        ("__init__.py", "from .conf import raw", "imports conf"),
        ("management/commands/sweep.py", "from ...views import x", "imports views"),
        (
            "conf.py",
            "if TYPE_CHECKING:\n    x = 1\nelse:\n    from .views import x",
            "imports views",
        ),
        ("lifecycle.py", "import boto3", "imports boto3"),
        ("storage.py", "def f():\n    from botocore.config import Config", "imports botocore"),
        ("admin.py", "from rest_framework import status", "imports rest_framework"),
        ("management/commands/sweep.py", "import boto3.session", "imports boto3"),
        ("queue.py", "", "give it a row"),
    ],
)
def test_what_is_found(path: str, source: str, wrong: str) -> None:
    [complaint] = complaints(path, source)
    assert wrong in complaint
