"""upload.js where there is no XMLHttpRequest: Node.js, from the site's point of view a client."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .site import PASSWORD, ROOT, Row, Site

pytestmark = pytest.mark.journey

MIB = 1024**2
PART_SIZE = 16 * MIB


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site().serving(tmp_path_factory.mktemp("site") / "log") as site:
        site.make_user("node")
        yield site


def upload(site: Site, path: Path, **options: Any) -> dict[str, Any]:
    command = ["scripts/node", "node", "tests/real/upload.mjs", site.url, "node", PASSWORD]
    ran = subprocess.run(
        [*command, str(path), json.dumps(options)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def newest(site: Site) -> Row:
    return site.rows("node")[-1]


@pytest.mark.parametrize("size", [0, 5, 100 * MIB + 1])
def test_a_file(site: Site, tmp_path: Path, size: int) -> None:
    site.s3.mend()
    path = tmp_path / "film.png"
    path.write_bytes(os.urandom(size))

    completed = upload(site, path)

    row = newest(site)
    assert (completed["id"], completed["status"]) == (str(row.id), "completed")
    assert completed["isForward"]
    assert (row.status, row.content_type, row.size) == ("completed", "image/png", size)
    assert (row.part_size is None) == (size < PART_SIZE)
    assert site.read(row) == path.read_bytes()
    puts = site.s3.seen("PUT")
    assert sum(put.received for put in puts) == size
    assert len(puts) == max(1, -(-size // PART_SIZE))


def test_files_on_a_server_that_takes_parts_only(tmp_path: Path) -> None:
    """overwrite_guard = "multipart": asked for or not, of any size."""
    site = Site()
    site.bucket = site.env["S3_BUCKET"] = f"{site.bucket}-parts"
    site.env["DJANGO_SETTINGS_MODULE"] = "tests.real.parts_only_settings"
    with site.serving(tmp_path / "log"):
        site.make_user("node")
        for size, multipart in ((0, True), (5, False), (PART_SIZE + 1, True)):
            site.s3.mend()
            path = tmp_path / f"{size}.png"
            path.write_bytes(os.urandom(size))

            completed = upload(site, path, multipart=multipart)

            row = newest(site)
            assert (completed["id"], completed["status"]) == (str(row.id), "completed")
            assert (row.size, row.part_size) == (size, PART_SIZE)
            assert site.read(row) == path.read_bytes()
            parts = sorted(put.part for put in site.s3.seen("PUT"))
            assert parts == list(range(1, size // PART_SIZE + 2))
            assert site.open_multiparts(row) == []


def test_connections_that_break(site: Site, tmp_path: Path) -> None:
    site.s3.mend()
    path = tmp_path / "film.png"
    path.write_bytes(os.urandom(64 * MIB))
    faults = [site.s3.cut("PUT", after=MIB) for _ in range(2)]

    completed = upload(site, path, checksum="CRC32")

    row = newest(site)
    assert all(fault.held.is_set() for fault in faults)
    assert (completed["status"], row.checksum_algorithm) == ("completed", "CRC32")
    assert site.head(row)["ChecksumCRC32"] == row.checksum
    body = site.read(row)
    assert body is not None
    assert hashlib.sha256(body).digest() == hashlib.sha256(path.read_bytes()).digest()
    assert Counter(site.s3.statuses("PUT")) == {200: 4, 0: 2}
    assert site.open_multiparts(row) == []
