"""upload.js, by Node's own test runner: tests/js has a Django and an S3 in memory, and a clock."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

from tests.conftest import ROOT

LEAST_COVERED = 90  # % of the lines of each module; tests/real/browser tries the worker itself


def test_upload_js_passes_its_tests_in_nodejs(
    record_property: Callable[[str, object], None],
) -> None:
    """The test never skips: without Node.js, scripts/node installs one in .venv."""
    tests = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/js/*.test.mjs"))
    assert tests
    node = ["scripts/node", "node", "--test", "--test-reporter=spec", "--test-timeout=60000"]
    ran = subprocess.run(
        [*node, "--experimental-test-coverage", *tests],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = re.search(r"\btests (\d+)", ran.stdout)
    assert found
    covered = dict(re.findall(r"(\w+\.js)\s*\|\s*([\d.]+)", ran.stdout))
    assert set(covered) == {
        "all.js",
        "batches.js",
        "checksum.js",
        "files.js",
        "korean.js",
        "network.js",
        "node.js",
        "texts.js",
        "upload.js",
    }
    lines = ", ".join(f"{percent} % of {name}" for name, percent in sorted(covered.items()))
    record_property("js", f"Node.js: {found[1]} passed; they try {lines}")
    assert min(map(float, covered.values())) >= LEAST_COVERED, lines
