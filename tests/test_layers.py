"""Arrows point down only. A module may import what stands in a lower row than itself.

This holds between the modules of the app, and again between the modules of each package in it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = "s3direct_uploads"
ROOT = Path(__file__).parent.parent / PACKAGE

# The top row first. Modules in one row do not know of each other.
ROWS = """
apps
urls openapi
views
serializers admin management tasks migrations
fields
events forms testing
diagnosis
lifecycle provisioning
content
models s3 checks cors visitors
destinations signals storage
conf content_types disowning exceptions form_values inserting keys reasons times
partitions
__init__
"""
# The same for the modules of each package. What others import stands in its __init__.
INSIDE = {
    "admin": """
__init__
uploads
holding losses owners summary
filters
""",
    "content": """
__init__
images sniffing
headers reading
""",
    "destinations": """
__init__
registry
problems
rules
hooks
filenames image_rules sizes storable
""",
    "diagnosis": """
__init__
report
access browser downloads leftovers parts uploads
enforcement
permissions reach
probe
answers findings traces
""",
    "events": """
__init__
webhook
settling
dialects
sns
""",
    "fields": """
__init__
model_fields
files statements
""",
    "lifecycle": """
__init__
batches erasing
adopting operations reconciling sweeping
beginning holding
presigning settling
multipart holders bucket_failures
rows
quotas
connection
""",
    "models": """
__init__
upload
querying
usage
""",
    "openapi": """
__init__
operations
errors
components examples
answers
""",
    "s3": """
__init__
buckets
bucket
configuration heading queue reading signing
client failures values
signer
""",
    "management": """
commands.adopt_files commands.check_bucket
commands.consume_s3_events commands.erase_uploads commands.recount_usage commands.run_s3
commands.setup_bucket commands.sweep_uploads
printing
commands.__init__
__init__
""",
    "views": """
__init__
viewset
errors
parsing
""",
    "serializers": """
__init__
attaching
batches
answers requests upload_field
building
""",
}
UNORDERED = {"migrations"}  # Django orders them


def ranks(rows: str) -> dict[str, int]:
    """How high each module stands."""
    return {module: -row for row, line in enumerate(rows.split("\n")) for module in line.split()}


RANK = ranks(ROWS)
RANK_INSIDE = {package: ranks(rows) for package, rows in INSIDE.items()}

# Who may say these names at all.
ONLY_IN = {
    "boto3": {"s3"},
    "botocore": {"s3"},
    "rest_framework": {"serializers", "views", "urls", "openapi"},
    "drf_spectacular": {"openapi"},
}
BANNED_NAMES = {"utils", "helpers", "services", "enums", "constants"}


class Imports(ast.NodeVisitor):
    """The full name of whatever a source imports; not what only type checkers read."""

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
        # With its member: "from . import conf" imports a module by it.
        self.found |= {f"{module}.{each.name}" for each in node.names}


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
    ours = {name[1:] for name in names if name[0] == PACKAGE and len(name) > 1}
    for target in sorted({name[0] for name in ours}):
        if target != module and target in RANK and RANK[target] >= RANK[module]:
            yield f"{path} imports {target}, which does not stand below it"
    if folders and module not in UNORDERED:
        yield from complaints_inside(path, {name[1:] for name in ours if name[0] == module})
    for library in sorted({name[0] for name in names} & set(ONLY_IN)):
        if module not in ONLY_IN[library]:
            yield f"{path} imports {library}: only {', '.join(sorted(ONLY_IN[library]))} may"


def complaints_inside(path: str, names: set[tuple[str, ...]]) -> Iterator[str]:
    """What is wrong with what this module of a package imports of the same package.

    ``names`` begin below the package: ("rows", "move").
    """
    package, *inner = path.removesuffix(".py").split("/")
    rank, module = RANK_INSIDE.get(package, {}), ".".join(inner)
    if module not in rank:
        yield f"{path}: give it a row in INSIDE"
        return
    for target in sorted({module_of(name, rank) for name in names} - {module}):
        if rank[target] >= rank[module]:
            yield f"{path} imports {package}.{target}, which does not stand below it"


def module_of(name: tuple[str, ...], rank: Mapping[str, int]) -> str:
    """The module that has this name, or is it; what no module has, the package itself has."""
    for length in range(len(name), 0, -1):
        for module in (name[:length], (*name[:length], "__init__")):
            if ".".join(module) in rank:
                return ".".join(module)
    return "__init__"


def test_every_row_is_of_a_module_that_exists() -> None:
    paths = [file.relative_to(ROOT).with_suffix("") for file in ROOT.rglob("*.py")]
    assert {path.parts[0] for path in paths} >= set(RANK)
    for package, rank in RANK_INSIDE.items():
        inner = {".".join(path.parts[1:]) for path in paths if path.parts[0] == package}
        assert set(rank) == inner - {""}


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
        ("lifecycle.py", "from .s3 import Bucket\nfrom . import conf, models, signals"),
        ("lifecycle.py", "from . import __version__\nimport s3direct_uploads"),
        ("views.py", "from rest_framework import viewsets\nfrom . import lifecycle, serializers"),
        ("s3/signing.py", "import boto3\nfrom botocore.client import Config\nfrom . import signer"),
        ("models.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import boto3"),
        (
            "conf.py",
            "import typing\nif typing.TYPE_CHECKING:\n    from .views import UploadViewSet",
        ),
        ("apps.py", "def ready():\n    from . import checks"),
        (
            "management/commands/check_bucket.py",
            "from ...lifecycle import confirm\nfrom .setup_bucket import x",
        ),
        ("management/commands/sweep_uploads.py", "from s3direct_uploads.lifecycle import confirm"),
        ("management/commands/run_s3.py", "from s3direct_uploads.management.printing import x"),
        ("lifecycle/sweeping.py", "from . import quotas, rows\nfrom .settling import settle"),
        ("lifecycle/rows.py", "from s3direct_uploads.lifecycle import quotas"),
        ("lifecycle/rows.py", "from s3direct_uploads import conf\nfrom ..s3 import Bucket"),
        ("lifecycle/__init__.py", "from .operations import begin\nfrom . import sweeping"),
        ("diagnosis/uploads.py", "from .reach import clock\nfrom .findings import Finding"),
        ("migrations/0003_more.py", "from .x import y"),
        ("admin.py", "from rest_framework_extras import nothing"),
    ],
)
def test_a_source_with_allowed_imports_has_no_complaint(path: str, source: str) -> None:
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
        ("models.py", "from .s3 import Bucket", "imports s3"),
        ("s3/bucket.py", "from ..models import Upload", "imports models"),
        ("keys.py", "from . import conf", "imports conf"),
        ("conf.py", "from .destinations import get", "imports destinations"),
        ("checks.py", "from .s3 import get_bucket", "imports s3"),
        ("checks.py", "from . import lifecycle", "imports lifecycle"),
        ("lifecycle.py", "from .apps import S3DirectUploadsConfig", "imports apps"),
        ("serializers.py", "from .views import UploadViewSet", "imports views"),
        ("admin.py", "from .serializers import UploadSerializer", "imports serializers"),
        ("__init__.py", "from .conf import raw", "imports conf"),
        ("management/commands/sweep_uploads.py", "from ...views import x", "imports views"),
        (
            "conf.py",
            "if TYPE_CHECKING:\n    x = 1\nelse:\n    from .views import x",
            "imports views",
        ),
        ("lifecycle.py", "import boto3", "imports boto3"),
        ("storage.py", "def f():\n    from botocore.config import Config", "imports botocore"),
        ("admin.py", "from rest_framework import status", "imports rest_framework"),
        ("management/commands/sweep_uploads.py", "import boto3.session", "imports boto3"),
        ("queue.py", "", "give it a row"),
        # Inside packages.
        ("lifecycle/rows.py", "from .settling import settle", "imports lifecycle.settling"),
        ("lifecycle/rows.py", "from . import settling", "imports lifecycle.settling"),
        ("lifecycle/rows.py", "import s3direct_uploads.lifecycle.settling", "lifecycle.settling"),
        ("lifecycle/rows.py", "def f():\n    from ..lifecycle.settling import x", "e.settling"),
        ("lifecycle/rows.py", "from . import begin", "imports lifecycle.__init__"),
        ("lifecycle/rows.py", "from s3direct_uploads import lifecycle", "lifecycle.__init__"),
        ("lifecycle/rows.py", "import s3direct_uploads.lifecycle", "lifecycle.__init__"),
        ("lifecycle/sweeping.py", "from .operations import begin", "imports lifecycle.operations"),
        ("diagnosis/probe.py", "from .reach import clock", "imports diagnosis.reach"),
        ("diagnosis/parts.py", "from .uploads import presigned", "imports diagnosis.uploads"),
        ("destinations/rules.py", "from .problems import problems", "destinations.problems"),
        ("destinations/problems.py", "from .registry import get", "destinations.registry"),
        ("events/dialects.py", "from .settling import Tally", "imports events.settling"),
        ("events/sns.py", "from .webhook import webhook", "imports events.webhook"),
        ("management/printing.py", "from .commands.run_s3 import x", "imports management.commands"),
        (
            "management/commands/setup_bucket.py",
            "from .check_bucket import x",
            "imports management.commands.check_bucket",
        ),
        ("lifecycle/queue.py", "", "give it a row in INSIDE"),
        ("management/commands/queue.py", "", "give it a row in INSIDE"),
        ("views/upload.py", "", "give it a row in INSIDE"),
    ],
)
def test_a_source_with_a_wrong_import_has_one_complaint(path: str, source: str, wrong: str) -> None:
    [complaint] = complaints(path, source)
    assert wrong in complaint


def test_a_file_has_at_most_500_lines() -> None:
    """A longer one has two ideas: give each a file."""
    assert [
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if len(path.read_text().splitlines()) > 500
    ] == []
