"""A million rows that are due, on PostgreSQL and Ceph: what a sweep costs, and that it shares.

One of 100 is pending and its object is missing, one of 100 is a tombstone with an object to delete,
the others wait to be pruned; as they fall due, a thousand of a kind follow each other.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone

from s3direct_uploads import lifecycle
from s3direct_uploads.admin import summary
from s3direct_uploads.models import Upload
from tests.conftest import JPEG, App, Bucket
from tests.host.conftest import LIST
from tests.real.settings import environment
from tests.real.site import ROOT

pytestmark = [pytest.mark.scale, pytest.mark.django_db(transaction=True)]

MIB = 1024**2
ROWS = 1_000_000
BLOCK = 1000  # rows of a kind in a row: the sweep claims as many at once
PATTERN = 100  # blocks, of which the first is pending and the second to be cleaned
OWNERS = 1000
FIRST = 100_000
FILL = """
INSERT INTO s3direct_uploads_upload (
    id, owner_id, destination, storage, bucket, key, object_parameters, filename, content_type,
    size, checksum_algorithm, checksum, context, etag, version_id, multipart_upload_id, counted,
    hold, visitor, attached_to, status, reason, created_at, url_expires_at, expires_at, due_at,
    object_deleted_at
)
SELECT
    ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
    %(owner)s + n %% %(owners)s, 'photos', 'default', %(bucket)s,
    'site/photos/' || translate(encode(sha256(n::text::bytea), 'base64'), '+/=', '-_') || '/a.jpg',
    '{}', 'IMG_' || n || '.jpg', 'image/jpeg', %(size)s, '', '', '{}', '', '', '', false,
    false, false, '',
    CASE WHEN kind = 0 THEN 'pending' ELSE 'expired' END, '',
    day10, day10 + interval '1 hour', day10 + interval '1 day', day10 + n * interval '1 ms',
    CASE WHEN kind < 2 THEN NULL ELSE day10 + interval '2 days' END
FROM generate_series(0, %(rows)s - 1) AS n,
    LATERAL (SELECT n / %(block)s %% %(pattern)s AS kind, now() - interval '10 days' AS day10) AS of
"""
# One row for each statement that moves due_at or deletes, by whom and of which uploads.
AUDIT = """
CREATE TABLE taken (backend int, how text, uploads uuid[]);
CREATE FUNCTION note_taken() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO taken SELECT pg_backend_pid(), 'pruned', array_agg(id) FROM before;
    ELSE
        INSERT INTO taken SELECT pg_backend_pid(),
            CASE WHEN before.due_at <= now() AND after.status = before.status THEN 'claimed'
            ELSE before.status || ' -> ' || after.status END, array_agg(id)
        FROM before JOIN after USING (id) GROUP BY 2;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_pruned AFTER DELETE ON s3direct_uploads_upload
    REFERENCING OLD TABLE AS before FOR EACH STATEMENT EXECUTE FUNCTION note_taken();
CREATE TRIGGER note_claimed AFTER UPDATE ON s3direct_uploads_upload
    REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION note_taken();
"""
NO_AUDIT = "DROP TABLE IF EXISTS taken; DROP FUNCTION IF EXISTS note_taken CASCADE"


class Sweep:
    """`manage.py sweep_uploads`, a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.start = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "sweep_uploads", *arguments],
            cwd=ROOT,
            env=environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.memory = 0  # bytes, the most it had so far
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self) -> None:
        status = Path(f"/proc/{self.process.pid}/status")
        try:
            while peak := re.search(r"VmHWM:\s*(\d+)", status.read_text()):
                self.memory = int(peak[1]) * 1024
                time.sleep(0.02)
        except OSError:
            pass  # it has ended

    def end(self) -> Counter[str]:
        """What it says it did."""
        said, errors = self.process.communicate(timeout=900)
        self.seconds = time.monotonic() - self.start
        self.thread.join()
        assert (self.process.returncode, errors) == (0, "")
        return Counter({kind: int(count) for count, kind in re.findall(r"(\d+) (\w+)", said)})

    @property
    def peak(self) -> str:
        return f"{self.memory / MIB:.0f} MiB"


class Explained:
    """Runs what Django runs meanwhile, and keeps how PostgreSQL would: [(SQL, plan)]."""

    def __enter__(self) -> list[tuple[str, str]]:
        self.found: list[tuple[str, str]] = []
        self.wrapper = connection.execute_wrapper(self.explain)
        self.wrapper.__enter__()
        return self.found

    def __exit__(self, *error: Any) -> None:
        self.wrapper.__exit__(*error)

    def explain(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "s3direct_uploads_upload" in sql and not sql.startswith("INSERT"):
            cursor = context["cursor"].cursor  # the driver's own, which nothing wraps
            cursor.execute(f"EXPLAIN {sql}", params)
            self.found.append((sql, "\n".join(line for (line,) in cursor.fetchall())))
        return execute(sql, params, many, context)


def sql(statement: str, **values: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


def ask_the_admin(staff: Client) -> None:
    """The list, its summary and each filter, and the page of an owner."""
    for query in ("", "begun=today", "attached=yes", "attached=no", "by=visitor", "by=script"):
        assert staff.get(f"{LIST}?{query}").status_code == 200
    assert staff.get(f"{LIST}?destination=photos&status__exact=expired&p=200").status_code == 200
    assert staff.get(f"{LIST}owner/{User.objects.get(username='alice').pk}/").status_code == 200


@pytest.fixture
def million(alice: App, s3: Bucket) -> Iterator[None]:
    assert alice.user
    sql("SET session_replication_role = replica")  # nobody looks whether there are such owners
    values = {"owner": alice.user.pk, "bucket": s3.name, "size": len(JPEG), "rows": ROWS}
    sql(FILL, block=BLOCK, pattern=PATTERN, owners=OWNERS, **values)
    sql("SET session_replication_role = DEFAULT")
    sql("ANALYZE s3direct_uploads_upload")
    yield
    sql(NO_AUDIT)


@pytest.mark.usefixtures("million")
def test_a_million_rows_that_are_due(
    alice: App,
    admin_client: Client,
    s3: Bucket,
    s3_calls: list[str],
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    # Of some there is an object, after all.
    last = Upload.objects.filter(object_deleted_at=None).order_by("-due_at")
    lost, unwanted = (
        list(last.filter(status="pending")[:10]),
        list(last.filter(status="expired")[:10]),
    )
    for upload in (*lost, *unwanted):
        s3.write(upload, JPEG)

    # One block of each kind: how PostgreSQL finds them among a million, and what each asks for.
    costs = {}
    with Explained() as explained:
        for kind in ("expired", "cleaned", "pruned"):
            explained.clear()
            s3_calls.clear()
            assert lifecycle.sweep(limit=BLOCK) == {kind: BLOCK}
            plans = [plan for _, plan in explained]
            assert "Index Scan using s3direct_due" in plans[0]
            assert "Sort" not in plans[0]
            assert not [plan for plan in plans if "Seq Scan" in plan]
            costs[kind] = f"{len(plans)} queries, {dict(Counter(s3_calls))}"
        # What clients ask, and how much is due where that is a hundredth.
        explained.clear()
        begun = alice.begin({"Idempotency-Key": "one"}).json()
        alice.begin({"Idempotency-Key": "one"})
        assert alice.confirm(begun["id"]).status_code == 409
        assert len(alice.get().json()["results"]) == 50
        alice.get(status="pending", destination="photos")
        asked = list(explained)
        explained.clear()
        ask_the_admin(admin_client)
        with monkeypatch.context() as long_ago:  # the rows' ids are of 2024
            then = datetime(2024, 1, 1, tzinfo=UTC)
            spans = dict.fromkeys(("today", "week"), then)
            long_ago.setattr(summary, "beginnings", lambda: spans)
            figures = [each.value for each in summary.figures(Upload.objects.all())]
            assert figures[0] == figures[2] == "1,000+"
        staff_asked = list(explained)
        early = Upload.objects.earliest("due_at").due_at
        assert early
        explained.clear()
        with monkeypatch.context() as clock:
            clock.setattr(timezone, "now", lambda: early + timedelta(seconds=ROWS / 100 / 1000))
            assert lifecycle.due().total() == ROWS / 100 + 1
        [(_, plan)] = explained
        assert "s3direct_due" in plan
        # Of a list without a filter, the paginator may count any ten thousand rows.
        filtered = [each for each in staff_asked if " WHERE " in each[0] or "ORDER" in each[0]]
        for statement, plan in asked + filtered:
            assert "Seq Scan on s3direct_uploads_upload" not in plan, (statement, plan)
        lists = [plan for statement, plan in asked if "DESC" in statement]
        assert len(lists) == 2
        assert all("s3direct_mine_newest" in plan for plan in lists), lists
        assert any("s3direct_begun_once" in plan for _, plan in asked), asked

    start = time.monotonic()
    list(summary.figures(Upload.objects.all()))
    costs["admin"] = f"the summary in {1000 * (time.monotonic() - start):.1f} ms"

    # One alone, which tells how much memory it takes; then two at once, with all the others.
    sql(AUDIT)
    first = Sweep("--limit", str(FIRST))
    assert first.end().total() == FIRST
    two = Sweep(), Sweep()
    swept = two[0].end() + two[1].end()
    s3_rows = ROWS // PATTERN  # of each of two kinds
    seconds = max(each.seconds for each in two)
    measured = [
        costs.pop("admin"),
        *(f"{BLOCK:,} {kind}: {cost}" for kind, cost in costs.items()),
        f"{FIRST:,} rows by one: {FIRST / first.seconds:,.0f} a second, {first.peak}",
        f"{swept.total():,} by two at once: {swept.total() / seconds:,.0f} a second, "
        f"{two[0].peak} and {two[1].peak}: {dict(swept)}",
    ]
    record_property("measured", "\n".join(measured))
    for each in two:
        assert each.memory <= first.memory + 8 * MIB
    assert swept["completed"] == 10

    # Nobody took what another had. What expired is due once more, to be cleaned.
    assert sql(
        """SELECT count(*) FROM (
            SELECT id, count(*) FILTER (WHERE how = 'claimed') AS claims,
                count(*) FILTER (WHERE how = 'pruned') AS prunes,
                count(*) FILTER (WHERE how = 'pending -> expired') AS ends,
                count(DISTINCT backend) AS sweeps
            FROM taken, unnest(uploads) AS id GROUP BY id
        ) AS each WHERE claims > 1 + ends OR prunes > 1 OR prunes = 1 AND claims > 0
            OR ends = 0 AND sweeps > 1"""
    ) == [(0,)]
    shares = sql(
        "SELECT coalesce(sum(cardinality(uploads)), 0) FROM taken"
        " WHERE how = 'pruned' GROUP BY backend"
    )
    assert len(shares) == 3
    assert min(share for (share,) in shares) > FIRST / 2

    # A week later nothing is left but what is somebody's.
    left = Upload.objects.exclude(object_deleted_at=None)
    assert left.count() == 2 * s3_rows - 10
    left.update(due_at=timezone.now())
    assert Sweep().end() == {"pruned": 2 * s3_rows - 10}
    assert Counter(Upload.objects.values_list("status", flat=True)) == {
        "completed": 10,
        "pending": 1,
    }
    assert {s3.read(upload) for upload in lost} == {JPEG}
    assert {s3.read(upload) for upload in unwanted} == {None}
