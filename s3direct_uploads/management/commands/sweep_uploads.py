"""manage.py sweep_uploads: settle uploads that their clients abandoned, and delete old objects."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser
from collections import Counter
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import close_old_connections

from s3direct_uploads import conf, destinations, lifecycle
from s3direct_uploads.exceptions import BucketUnavailable
from s3direct_uploads.management.printing import PrintingCommand, progress_bar


class Command(PrintingCommand):
    help = (
        "Look at all uploads that are due. The sweep completes uploads whose confirm was lost, "
        "sends lost signals, expires uploads past their deadline, deletes the objects of rejected, "
        "cancelled, expired and deleted uploads, and later their rows. Run it every few minutes."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Count what is due, and change nothing. With --reconcile: delete nothing.",
        )
        parser.add_argument("--limit", type=int, metavar="N", help="Look at N uploads at most.")
        parser.add_argument(
            "--loop",
            type=float,
            metavar="SECONDS",
            help="Do not end: pause for SECONDS after each sweep, and sweep again.",
        )
        parser.add_argument("--destination", default="", metavar="D", help="Only this destination.")
        parser.add_argument(
            "--reconcile",
            action="store_true",
            help="Do not sweep. Report the objects and open multipart uploads in the buckets that "
            "are older than a day, that this site made, and that no row needs; and the uploads "
            "that a model's field claimed, and that no row of the project names.",
        )
        parser.add_argument(
            "--delete",
            action="store_true",
            help="With --reconcile: delete the objects, and release the uploads. Warning: you lose "
            "a file in use if this database has no row for it, for example after an old backup was "
            "restored; or if its name stands only where no FileField is, such as in a JSONField.",
        )

    def handle(
        self, *, destination: str, limit: int | None, loop: float | None, **options: Any
    ) -> None:
        if options["delete"] and not options["reconcile"]:
            raise CommandError("--delete needs --reconcile.")
        if (limit is not None and limit < 1) or (loop is not None and loop <= 0):
            raise CommandError("--limit and --loop need a number above zero.")
        if options["reconcile"]:
            self.reconcile(destination, delete=options["delete"] and not options["dry_run"])
        elif options["dry_run"]:
            self.say("Due", lifecycle.due(destination))
        elif loop is None:
            self.sweep(destination, limit)
        else:
            self.sweep_in_a_loop(destination, limit, loop)

    def sweep_in_a_loop(self, destination: str, limit: int | None, seconds: float) -> None:
        """Sweep until SIGTERM or SIGINT arrives. Then finish the claimed batch first."""
        stopping = threading.Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: stopping.set())
        while not stopping.is_set():
            try:
                self.sweep(destination, limit, stopping)
            except Exception as error:  # for example, the database is down: it may be back later
                self.stderr.write(f"The sweep failed: {type(error).__name__}: {error}")
            close_old_connections()
            stopping.wait(seconds)

    def sweep(
        self, destination: str, limit: int | None, stopping: threading.Event | None = None
    ) -> None:
        swept: Counter[str] = Counter()

        def count_due() -> int:
            return lifecycle.due(destination).total()

        with progress_bar("Sweeping", "uploads", count_due) as advance:
            for batch in lifecycle.sweep_batches(limit=limit, destination=destination):
                swept += batch
                advance(sum(batch.values()))
                if stopping is not None and stopping.is_set():
                    break
        self.say("Swept", swept)

    def reconcile(self, destination: str, *, delete: bool) -> None:
        if destination and destinations.find(destination) is None:
            known = ", ".join(sorted(conf.destinations()))
            raise CommandError(f"There is no destination {destination!r}. Write one of {known}.")
        found: Counter[str] = Counter()
        try:
            for stray in lifecycle.reconcile(destination=destination, delete=delete):
                what = "deleted" if stray.deleted else "stray"
                self.stdout.write(f"{what} {stray.kind} {stray.bucket} {stray.key} {stray.size}")
                found[f"{what} {stray.kind}s"] += 1
            for each in lifecycle.unnamed(destination=destination, delete=delete):
                what = "unnamed" if each.is_known else "unknown-field"
                what = "released" if each.released else what
                upload = each.upload
                where = f"{upload.bucket} {upload.key} {upload.size} {upload.attached_to}"
                self.stdout.write(f"{what} upload {where}")
                found[f"{what} uploads"] += 1
        except BucketUnavailable as error:
            raise CommandError(str(error)) from error
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        found["uploads completed and never attached"] = lifecycle.unattached(destination).count()
        self.say("Reconciled", found)

    def say(self, what: str, counts: Counter[str]) -> None:
        parts = [f"{count} {name}" for name, count in sorted(counts.items()) if count]
        self.stdout.write(f"{what}: {', '.join(parts) or 'nothing'}.")
