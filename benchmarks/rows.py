"""The same requests beside many rows and beside none: two databases, turn about."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import psycopg
from django.contrib.auth import get_user_model
from django.db import connections
from django.test import Client, override_settings

from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import get_bucket
from tests.real.site import _drop_database, _make_database

from .goals import guarded
from .report import Benchmark, Line, middle, say
from .served import BenchSite

PAIRS, BLOCK = 15, 4  # and requests of a kind that follow each other
OWNERS = 1000
MINE = 100  # rows of the user who asks, where there are no others
DUE = 1000
URL, ADMIN_URL = "/api/uploads/", "/admin/s3direct_uploads/upload/"
FILE = {"destination": "films", "filename": "film.mp4", "content_type": "video/mp4", "size": 5}
USERS = """
INSERT INTO auth_user (username, password, is_superuser, is_staff, is_active, first_name,
                       last_name, email, date_joined)
SELECT 'user' || n, '', false, false, true, '', '', '', now() FROM generate_series(1, %s) AS n
"""
# Of completed uploads; %(first)s is the number of the first one.
FILL = """
INSERT INTO s3direct_uploads_upload (
    id, owner_id, visitor, destination, storage, bucket, key, object_parameters, filename,
    content_type, size, checksum_algorithm, checksum, context, etag, version_id,
    multipart_upload_id, counted, hold, attached_to, status, reason, created_at, url_expires_at,
    expires_at, completed_at, announced_at, due_at, object_deleted_at
)
SELECT
    ('01900000-' || lpad(to_hex(n / 65536), 4, '0') || '-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
    owners[1 + n %% array_length(owners, 1)], false, 'films', 'default', %(bucket)s,
    'films/' || translate(encode(sha256(n::text::bytea), 'base64'), '+/=', '-_') || '/film.mp4',
    '{}', 'IMG_' || n || '.mp4', 'video/mp4', 5, '', '', '{}', '', '', '', false, false, '',
    %(status)s::text, '', day, day + interval '1 hour', day + interval '1 day',
    CASE WHEN %(status)s::text = 'completed' THEN day END, CASE WHEN %(status)s::text = 'completed' THEN day END,
    CASE WHEN %(status)s::text = 'completed' THEN NULL ELSE day END,
    CASE WHEN %(status)s::text = 'completed' THEN NULL ELSE day END
FROM generate_series(%(first)s::bigint, %(first)s + %(rows)s - 1) AS n,
    (SELECT now() - interval '10 days' AS day, %(owners)s::int[] AS owners) AS all_rows
"""
Call = Callable[[], Any]


def run(site: BenchSite, rows: int) -> Benchmark:
    database, url = _make_database()
    try:
        took = fill(database, site.bucket, rows)
        fill(site.database, site.bucket, 0)
        with override_settings(DEBUG=False, ALLOWED_HOSTS=["localhost"]):
            lines = list(compared(site, database, url, rows))
    finally:
        connections["default"].close()
        database.close()
        _drop_database(url)
        site.database.execute("TRUNCATE s3direct_uploads_upload CASCADE")
        site.database.execute("DELETE FROM auth_user WHERE NOT is_superuser")
        site.empty_all()
    return Benchmark(
        f"{rows:,} rows against none",
        f"Two databases: one with {rows:,} completed uploads of {OWNERS:,} users (they were made in {took:.0f} s), "
        f"the other with {MINE} of the one user who asks. One process asks both in turn, by Django's test client: "
        f"{PAIRS} pairs of blocks of {BLOCK} requests. Elapsed time, with PostgreSQL, Ceph, session and middleware. The "
        f"sweep prunes {DUE:,} rows. `python -m benchmarks rows --rows 1000000` takes fewer.",
        lines,
    )


def fill(database: psycopg.Connection[Any], bucket: str, rows: int) -> float:
    """So many rows, and a hundred of the user who asks. Returns the seconds that it took."""
    start = time.monotonic()
    [(asking,)] = database.execute("SELECT id FROM auth_user").fetchall()
    database.execute(USERS, [OWNERS])
    others = "SELECT id FROM auth_user WHERE NOT is_superuser"
    users = [each for (each,) in database.execute(others).fetchall()]
    common = {"bucket": bucket, "status": "completed"}
    for first in range(0, rows, 1_000_000):
        many = min(1_000_000, rows - first)
        database.execute(FILL, {**common, "first": first, "rows": many, "owners": users})
        say(f"rows: {first + many:,} after {time.monotonic() - start:.0f} s")
    mine = {**common, "first": rows, "rows": MINE, "owners": [asking]}
    database.execute(FILL, mine)
    database.execute("VACUUM ANALYZE s3direct_uploads_upload")
    return time.monotonic() - start


class Asking:
    """Of one of the two databases."""

    def __init__(self, site: BenchSite, database: psycopg.Connection[Any], url: str) -> None:
        self.site, self.database = site, database
        self.connection = connections.create_connection("default")
        self.connection.settings_dict = {
            **connections.settings["default"],
            "NAME": urlsplit(url).path[1:],
        }
        self.first = 100_000_000  # the number of the next row that is due
        with self.asked():
            self.user = get_user_model().objects.get(is_superuser=True)
            self.client = Client(headers={"host": "localhost"})
            self.client.force_login(self.user)
            self.upload = Upload.objects.filter(owner=self.user).newest_first()[0]

    @contextmanager
    def asked(self) -> Iterator[None]:
        before = connections["default"]
        connections["default"] = self.connection
        try:
            yield
        finally:
            connections["default"] = before

    def get(self, url: str) -> None:
        answer = self.client.get(url)
        assert answer.status_code == 200, (url, answer.status_code)

    def post(self, url: str, body: Any) -> Any:
        answer = self.client.post(url, body, content_type="application/json")
        assert answer.status_code in (200, 201), (url, answer.content[:500])
        return answer.json()

    def search(self, text: str) -> list[Call]:
        return [partial(self.get, f"{ADMIN_URL}?q={text}")] * BLOCK

    def calls(self) -> dict[str, Callable[[], list[Call]]]:
        """What is compared: what prepares a block of calls, which is not measured."""
        return {
            "begin": lambda: [partial(self.post, URL, FILE)] * BLOCK,
            "confirm": self.confirms,
            "list of 50": lambda: [partial(self.get, URL)] * BLOCK,
            "admin: list": lambda: [partial(self.get, ADMIN_URL)] * BLOCK,
            "admin: search for an id": lambda: self.search(str(self.upload.pk)),
            "admin: search for a key": lambda: self.search(self.upload.key),
            "admin: search for a filename": lambda: self.search(self.upload.filename),
            "admin: search for a username": lambda: self.search(self.user.get_username()),
            f"sweep of {DUE:,}": self.sweeps,
        }

    def confirms(self) -> list[Call]:
        bucket = get_bucket("default")
        calls: list[Call] = []
        for _ in range(BLOCK):
            begun = self.post(URL, FILE)
            key = Upload.objects.get(pk=begun["id"]).key
            bucket._client.put_object(
                Bucket=bucket.name, Key=key, Body=b"hello", ContentType="video/mp4"
            )
            calls.append(partial(self.post, f"{URL}{begun['id']}/confirm/", {}))
        return calls

    def sweeps(self) -> list[Call]:
        common = {"bucket": self.site.bucket, "status": "expired", "owners": [self.user.pk]}
        self.database.execute(FILL, {**common, "first": self.first, "rows": DUE})
        self.first += DUE

        def sweep() -> None:
            assert +lifecycle.sweep(limit=DUE) == {"pruned": DUE}

        return [sweep]


def compared(
    site: BenchSite, database: psycopg.Connection[Any], url: str, rows: int
) -> Iterator[Line]:
    many, none = Asking(site, database, url), Asking(site, site.database, site.database_url)
    for what in many.calls():
        yield from guarded(9, what, partial(beside, what, many, none, rows))


def beside(what: str, many: Asking, none: Asking, rows: int) -> Iterator[Line]:
    pairs = []
    for number in range(PAIRS + 1):  # the first one makes caches
        took: dict[Asking, float] = {}
        for each in (many, none) if number % 2 else (none, many):
            with each.asked():
                took[each] = seconds(each.calls()[what]())
        pairs.append((took[many], took[none]))
    ratios = [mine / other for mine, other in pairs[1:]]
    mine, other = (median(each) * 1000 for each in zip(*pairs[1:], strict=True))
    yield Line(
        f"{what}: {rows:,} rows ÷ none",
        f"{middle(ratios)}, {PAIRS} pairs; {mine:.1f} and {other:.1f} ms",
        "≤ 1.2",
        median(ratios) <= 1.2,
        9,
        "no rows",
        "" if median(ratios) <= 1.2 else in_postgres(what, many, none),
    )


def in_postgres(what: str, *asking: Asking) -> str:
    """How much of a call's time its statements took, and which one took most in the first."""
    said, slowest = [], ("", 0.0)
    for each in asking:
        took: list[tuple[str, float]] = []

        def note(execute: Any, sql: str, *rest: Any, took: Any = took) -> Any:
            start = time.perf_counter()
            try:
                return execute(sql, *rest)
            finally:
                took.append((sql, (time.perf_counter() - start) * 1000))

        with each.asked():
            calls = each.calls()[what]()
            with each.connection.execute_wrapper(note):
                whole = seconds(calls) * 1000
        statements = sum(ms for _, ms in took) / len(calls)
        said.append(f"{statements:.1f} of {whole:.1f} ms")
        slowest = slowest if slowest[0] else max(took, key=lambda each: each[1])
    return (
        f"statements took {said[0]}, with no rows {said[1]}; "
        f"the slowest, {slowest[1]:.1f} ms: `{slowest[0][:80]}`".replace("|", "/")
    )


def seconds(calls: list[Call]) -> float:
    start = time.perf_counter()
    for call in calls:
        call()
    return (time.perf_counter() - start) / len(calls)
