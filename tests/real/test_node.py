"""upload.js where there is no XMLHttpRequest: Node.js, from the site's point of view a client."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.real.waiting import wait_until

from .site import PASSWORD, ROOT, Row, Site

pytestmark = pytest.mark.journey

MIB = 1024**2
PART_SIZE = 16 * MIB


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site().serving(tmp_path_factory.mktemp("site") / "log") as site:
        site.make_user("node")
        yield site


def start(site: Site, path: Path, **options: Any) -> subprocess.Popen[str]:
    command = ["scripts/node", "node", "tests/real/upload.mjs", site.url, "node", PASSWORD]
    return subprocess.Popen(
        [*command, str(path), json.dumps(options)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    answer: dict[str, Any] = json.loads(output)
    assert answer["isForward"]
    assert not answer["isOpen"]
    return answer


def upload(site: Site, path: Path, **options: Any) -> dict[str, Any]:
    return answer(start(site, path, **options))


def make_film(folder: Path, size: int) -> Path:
    path = folder / "film.png"
    path.write_bytes(os.urandom(size))
    return path


def assert_same(site: Site, row: Row, path: Path) -> None:
    body = site.read(row)
    assert body is not None
    assert hashlib.sha256(body).digest() == hashlib.sha256(path.read_bytes()).digest()


def newest(site: Site) -> Row:
    return site.rows("node")[-1]


BOTH = pytest.mark.parametrize("kind", ["openFile", "Blob"])


@BOTH
@pytest.mark.parametrize("size", [0, 5, 100 * MIB + 1])
def test_a_file(site: Site, tmp_path: Path, size: int, kind: str) -> None:
    site.s3.mend()
    path = make_film(tmp_path, size)

    completed = upload(site, path, **{"as": kind})

    row = newest(site)
    assert (completed["id"], completed["status"]) == (str(row.id), "completed")
    assert (row.status, row.content_type, row.size) == ("completed", "image/png", size)
    assert (row.filename, row.part_size is None) == ("film.png", size < PART_SIZE)
    assert_same(site, row, path)
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


@BOTH
def test_connections_that_break(site: Site, tmp_path: Path, kind: str) -> None:
    site.s3.mend()
    path = make_film(tmp_path, 64 * MIB)
    faults = [site.s3.cut("PUT", after=MIB) for _ in range(2)]

    completed = upload(site, path, checksum="CRC32", **{"as": kind})

    row = newest(site)
    assert all(fault.held.is_set() for fault in faults)
    assert (completed["status"], row.checksum_algorithm) == ("completed", "CRC32")
    assert site.head(row)["ChecksumCRC32"] == row.checksum
    assert_same(site, row, path)
    assert Counter(site.s3.statuses("PUT")) == {200: 4, 0: 2}
    assert site.open_multiparts(row) == []


def test_a_sha256_and_a_url(site: Site, tmp_path: Path) -> None:
    site.s3.mend()
    path = make_film(tmp_path, 20 * MIB + 1)

    completed = upload(site, path, checksum="SHA256", **{"as": "URL"})

    row = newest(site)
    assert (completed["status"], row.filename, row.part_size) == ("completed", "film.png", None)
    assert row.checksum == b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()
    assert site.head(row)["ChecksumSHA256"] == row.checksum
    assert_same(site, row, path)


def test_another_process_goes_on_if_it_is_told_to(site: Site, tmp_path: Path) -> None:
    site.s3.mend()
    path = make_film(tmp_path, 100 * MIB + 1)
    held = site.s3.hold("PUT", after=MIB)
    killed = start(site, path)
    wait_until(lambda: site.s3.statuses("PUT").count(200) == 6)
    killed.kill()
    killed.communicate()
    held.released.set()
    [unsent] = [put.part for put in site.s3.seen("PUT") if put.status != 200]
    begun = newest(site)
    assert begun.status == "pending"

    site.s3.mend()
    completed = upload(site, path, resume=True)

    assert [put.part for put in site.s3.seen("PUT")] == [unsent]
    row = newest(site)
    assert completed["id"] == str(begun.id) == str(row.id)
    assert row.status == "completed"
    assert_same(site, row, path)


@pytest.mark.parametrize(("changes", "options"), [(True, {"resume": True}), (False, {})])
def test_another_process_does_not_go_on_with_what_may_be_another_file(
    site: Site, tmp_path: Path, changes: bool, options: dict[str, bool]
) -> None:
    """Alike in name, size and type: the parts of both would make a third."""
    site.s3.mend()
    path = make_film(tmp_path, 2 * PART_SIZE)
    held = site.s3.hold("PUT", after=MIB)
    killed = start(site, path)
    wait_until(lambda: 200 in site.s3.statuses("PUT"))
    killed.kill()
    killed.communicate()
    held.released.set()
    begun = newest(site)
    times = path.stat()
    make_film(tmp_path, 2 * PART_SIZE)
    if not changes:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    completed = upload(site, path, **options)

    row = newest(site)
    assert completed["id"] == str(row.id) != str(begun.id)
    assert_same(site, row, path)


def shorten(path: Path) -> None:
    os.truncate(path, 8 * MIB)


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")


def replace(path: Path) -> None:
    times = path.stat()
    other = path.with_suffix(".other")
    other.write_bytes(os.urandom(times.st_size))
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def assert_unreadable(error: dict[str, Any], step: str, cause: str) -> None:
    """Of this kind is the error of the file system, or of the Blob, that the UploadError has."""
    assert (error["name"], error["code"]) == ("UploadError", "file_unreadable"), error
    assert (error["step"], error["status"], error["cause"]["name"]) == (step, 0, cause)


@pytest.mark.parametrize(
    ("change", "cause", "sent"),
    [
        (shorten, "NotReadableError", [[0]]),
        (rewrite, "NotReadableError", [[0]]),
        (grow, "NotReadableError", [[0]]),
        # The first part has the old file open. The second is given up before S3 sees it, or after.
        (replace, "NotReadableError", [[200], [200, 0]]),
        (Path.unlink, "NotFoundError", [[200]]),
    ],
)
def test_a_file_that_changes_under_way(
    site: Site, tmp_path: Path, change: Callable[[Path], None], cause: str, sent: list[list[int]]
) -> None:
    site.s3.mend()
    path = make_film(tmp_path, 2 * PART_SIZE)
    held = site.s3.hold("PUT", after=MIB)
    uploading = start(site, path, parallel=1)
    assert held.held.wait(60)

    change(path)
    held.released.set()

    failed = answer(uploading)["error"]
    assert_unreadable(failed, "send", cause)
    assert str(path) in failed["cause"]["message"]
    assert site.s3.statuses("PUT") in sent, "and not again"
    row = newest(site)
    assert (row.status, site.read(row)) == ("pending", None)


@pytest.mark.parametrize("change", [shorten, rewrite, grow])
def test_a_blob_that_changes_under_way(
    site: Site, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """What fs.openAsBlob opened is looked at as each piece of it is begun."""
    site.s3.mend()
    path = make_film(tmp_path, 2 * PART_SIZE)
    held = site.s3.hold("PUT", after=MIB)
    uploading = start(site, path, parallel=1, **{"as": "Blob"})
    assert held.held.wait(60)

    change(path)
    held.released.set()

    assert_unreadable(answer(uploading)["error"], "send", "NotReadableError")
    assert len(site.s3.seen("PUT")) <= 2, "and not again"
    row = newest(site)
    assert (row.status, site.read(row)) == ("pending", None)


@BOTH
@pytest.mark.parametrize("checksum", [None, "CRC32", "SHA256"])
@pytest.mark.parametrize("change", ["shorten", "rewrite", "grow", "delete"])
def test_a_file_that_changed_before_it_is_uploaded(
    site: Site, tmp_path: Path, checksum: str | None, change: str, kind: str
) -> None:
    site.web.mend()
    path = make_film(tmp_path, MIB)
    before = site.rows("node")

    error = upload(site, path, checksum=checksum, change=change, **{"as": kind})["error"]

    is_gone = change == "delete" and kind == "openFile"
    assert_unreadable(error, "begin", "NotFoundError" if is_gone else "NotReadableError")
    assert site.web.seen("POST") == []
    assert site.rows("node") == before


def test_a_file_that_is_deleted_when_it_has_been_read_is_completed(
    site: Site, tmp_path: Path
) -> None:
    site.s3.mend()
    path = make_film(tmp_path, 8 * MIB)
    body = path.read_bytes()
    held = site.s3.hold("PUT", after=MIB)
    uploading = start(site, path)
    assert held.held.wait(60)

    path.unlink()
    held.released.set()

    assert answer(uploading)["status"] == "completed"
    assert site.read(newest(site)) == body


def test_aborting(site: Site, tmp_path: Path) -> None:
    site.s3.mend()
    path = make_film(tmp_path, 64 * MIB)

    aborted = upload(site, path, abortAt=20 * MIB)

    assert aborted["error"]["name"] == "AbortError"
    row = newest(site)
    assert (row.status, site.read(row)) == ("cancelled", None)
    assert site.open_multiparts(row) == []


# What one owner may have.


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    limited = Site()
    limited.env["DJANGO_SETTINGS_MODULE"] = "tests.real.limited_settings"
    with limited.serving(tmp_path_factory.mktemp("limited") / "log") as site:
        site.make_user("node")
        yield site


def test_there_is_no_room(limited: Site, tmp_path: Path) -> None:
    path = tmp_path / "film.png"
    path.write_bytes(bytes(1025))

    error = upload(limited, path)["error"]

    assert (error["step"], error["status"], error["code"]) == ("begin", 403, "quota_exceeded")
    [told] = error["body"]["errors"]
    assert told["params"] == {"max_total_size": 1024, "total_size": 0, "left": 1024}
    assert limited.web.statuses("POST") == [403], "not tried again"
    assert limited.rows("node") == []


def test_too_many_at_once_are_waited_for(limited: Site, tmp_path: Path) -> None:
    limited.web.mend()
    path = tmp_path / "film.png"
    path.write_bytes(bytes(5))
    api, auth = f"{limited.url}/api/uploads/", ("node", PASSWORD)
    declared = {"destination": "photos", "filename": "first.png", "size": 5}
    first = requests.post(api, json=declared, auth=auth, timeout=10).json()["id"]

    with ThreadPoolExecutor() as pool:
        uploading = pool.submit(upload, limited, path)
        while limited.web.statuses("POST") != [201, 429]:
            assert not uploading.done(), uploading.result()
            time.sleep(0.05)
        assert requests.delete(f"{api}{first}/", auth=auth, timeout=10).status_code == 204
        completed = uploading.result()

    assert completed["status"] == "completed"
    assert [row.status for row in limited.rows("node")] == ["cancelled", "completed"]
    assert limited.web.statuses("POST") == [201, 429, 201, 200]
