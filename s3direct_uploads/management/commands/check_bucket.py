"""manage.py check_bucket: report what is wrong with a bucket, line by line."""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser

from s3direct_uploads import diagnosis, provisioning
from s3direct_uploads.diagnosis import Finding
from s3direct_uploads.management.printing import PrintingCommand
from s3direct_uploads.s3 import get_bucket

from .setup_bucket import add_bucket_arguments, find_aliases


class Command(PrintingCommand):
    help = (
        "Test everything in the destinations' buckets that direct uploads rely on, and print what "
        "is wrong and what to do. The command puts small objects there and deletes them again. The "
        "exit code is 1 if a test fails; warnings do not count."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_bucket_arguments(parser)
        parser.add_argument(
            "--origin",
            action="append",
            default=[],
            help="The origin of your pages, such as https://app.example.com. You may repeat it. "
            "Default: the origins in the bucket's CORS rules.",
        )
        parser.add_argument("--json", action="store_true", help="Print JSON, for scripts.")

    def handle(self, *args: Any, **options: Any) -> None:
        for origin in options["origin"]:
            wrong = provisioning.wrong_origin(origin, any_origin=True)
            if wrong is None and provisioning.lets_strangers_in(origin):
                wrong = f"{origin}: write one origin without a *, as a browser sends it."
            if wrong:
                raise CommandError(wrong)
        every: list[dict[str, str]] = []
        with stopped_gently(), quiet():
            for alias in find_aliases(options):
                bucket = get_bucket(alias).name
                if not options["json"]:
                    self.stdout.write(self.style.MIGRATE_HEADING(f"{bucket} (storage {alias})"))
                try:
                    with closing(diagnosis.diagnose(alias, options["origin"])) as findings:
                        for finding in findings:
                            every.append({"storage": alias, "bucket": bucket, **finding.as_json()})
                            if not options["json"]:
                                self.show(finding)
                except ImproperlyConfigured as error:
                    raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(every, indent=2))
        failed = sum(each["level"] == diagnosis.FAIL for each in every)
        warned = sum(each["level"] == diagnosis.WARN for each in every)
        if not options["json"]:
            self.stdout.write(f"{failed} failed, {warned} warnings.")
        if failed:
            sys.exit(1)

    def show(self, finding: Finding) -> None:
        styles = {"pass": self.style.SUCCESS, "warn": self.style.WARNING, "fail": self.style.ERROR}
        cure = f" To do: {finding.cure}" if finding.cure else ""
        level = styles[finding.level](finding.level)
        self.stdout.write(f"{level}  {finding.code}: {finding.detail}{cure}")


@contextmanager
def stopped_gently() -> Iterator[None]:
    """Clean up after SIGTERM, as after Ctrl-C."""
    before = signal.getsignal(signal.SIGTERM)

    def stop(*_: Any) -> None:
        sys.exit(143)  # a shell's exit code for SIGTERM

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def quiet() -> Iterator[None]:
    """Turn the log off. S3's refusals are part of the test, and the report has them."""
    logger = logging.getLogger("s3direct_uploads")
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False
