"""manage.py recount_usage: count each owner's uploads again, and correct wrong usage."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from s3direct_uploads import conf, lifecycle
from s3direct_uploads.management.printing import PrintingCommand


class Command(PrintingCommand):
    help = (
        "Count again how many uploads and bytes each owner has in the destinations that have a "
        "limit, and correct wrong numbers. Uploads may continue during the count."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--destination", default="", metavar="D", help="Only this destination.")

    def handle(self, *, destination: str, **options: Any) -> None:
        limited = lifecycle.limited()
        known = limited | set(conf.destinations())
        if destination and destination not in known:
            listed = ", ".join(sorted(known))
            raise CommandError(f"There is no destination {destination!r}. Write one of {listed}.")
        for name in [destination] if destination else sorted(limited):
            corrections = [corrected for _, corrected in lifecycle.recount(name)]
            self.stdout.write(
                f"{name}: owners counted: {len(corrections)}, corrected: {sum(corrections)}."
            )
        if not destination and not limited:
            self.stdout.write("No destination has a limit.")
