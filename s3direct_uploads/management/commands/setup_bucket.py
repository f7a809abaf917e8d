"""manage.py setup_bucket: create or configure a bucket so that pages may upload to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management.base import CommandError, CommandParser

from s3direct_uploads import provisioning
from s3direct_uploads.exceptions import StorageNotS3
from s3direct_uploads.management.printing import PrintingCommand
from s3direct_uploads.provisioning import Needs, Rule
from s3direct_uploads.s3 import Bucket, Refusal, get_bucket, is_access_point_alias


class Command(PrintingCommand):
    help = (
        "Set up the destinations' buckets for direct uploads. The command writes a CORS rule, so "
        "that browsers let your pages send files there, and a lifecycle rule that deletes the "
        "parts of unfinished uploads. It shows each change, and keeps all rules that others wrote. "
        "You can run it again at any time."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_bucket_arguments(parser)
        parser.add_argument(
            "--origin",
            action="append",
            required=True,
            help="The origin of your pages, such as https://app.example.com. You may repeat it.",
        )
        parser.add_argument("--create", action="store_true", help="Create a missing bucket.")
        parser.add_argument("--dry-run", action="store_true", help="Show, but change nothing.")
        parser.add_argument(
            "--allow-any-origin",
            action="store_true",
            help="Allow --origin '*', and origins whose * includes other people's sites.",
        )
        parser.add_argument(
            "--format",
            choices=["json", "cloudformation"],
            help="Do not call S3. Print the rules, and the policy that the server's role needs.",
        )
        parser.add_argument(
            "--signature-age",
            type=int,
            metavar="SECONDS",
            help="With --format: add a bucket policy that refuses older signatures.",
        )
        parser.add_argument(
            "--block-public-access",
            action="store_true",
            help="With --format: add Block Public Access.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        origins = options["origin"]
        for origin in origins:
            wrong = provisioning.wrong_origin(origin, any_origin=options["allow_any_origin"])
            if wrong:
                raise CommandError(wrong)
        aliases = find_aliases(options)
        try:
            every = [provisioning.needs_of(alias) for alias in aliases]
        except ImproperlyConfigured as error:  # a host's get_object_parameters
            raise CommandError(str(error)) from error
        if options["format"]:
            return self.print_only(provisioning.by_bucket(every), origins, options)
        if options["signature_age"] is not None or options["block_public_access"]:
            raise CommandError("--signature-age and --block-public-access need --format.")
        for needs in every:
            if needs.is_access_point:
                raise CommandError(
                    f"{needs.bucket} is an access point. CORS and lifecycle rules belong to the "
                    "bucket behind it. Add a storage with that bucket and the same location, and "
                    "run setup_bucket --storage for it; or set what --format json prints there."
                )
        for alias, needs in zip(aliases, every, strict=True):
            bucket = get_bucket(alias)
            try:
                self.set_up(bucket, needs, origins, options)
            except Refusal as refusal:
                raise CommandError(
                    f"{bucket.name}: S3 answered {refusal}. Run 'manage.py check_bucket --storage "
                    f"{alias}' to find the reason."
                ) from refusal
        return None

    def print_only(
        self, every: Sequence[Needs], origins: Sequence[str], options: dict[str, Any]
    ) -> None:
        seconds = options["signature_age"]
        age = None if seconds is None else timedelta(seconds=seconds)
        wrong = None if age is None else provisioning.wrong_signature_age(age)
        if wrong:
            raise CommandError(wrong)
        if options["block_public_access"] and any(needs.acls for needs in every):
            raise CommandError("A destination has an ACL. Block Public Access would disable it.")
        for needs in every:
            if is_access_point_alias(needs.bucket):
                raise CommandError(
                    f"{needs.bucket} is the alias of an access point. A policy cannot contain an "
                    "alias: write the access point's ARN as bucket_name of the storage."
                )
            if needs.is_access_point and age and options["format"] == "cloudformation":
                raise CommandError(
                    f"{needs.bucket} is an access point. Its policy belongs into the template that "
                    "creates it: --format json prints the policy."
                )
            if needs.is_access_point:
                self.stderr.write(
                    f"{needs.bucket} is an access point. The CORS and lifecycle rules are for the "
                    "bucket behind it. That bucket must allow everything that the access point "
                    "allows.",
                    self.style.WARNING,
                )
        extras: Any = {"age": age, "block": options["block_public_access"]}
        printed: Any = (
            [provisioning.as_json(needs, origins, **extras) for needs in every]
            if options["format"] == "json"
            else provisioning.as_cloudformation(every, origins, **extras)
        )
        self.stdout.write(json.dumps(printed, indent=2))

    def set_up(
        self, bucket: Bucket, needs: Needs, origins: Sequence[str], options: dict[str, Any]
    ) -> None:
        is_dry = options["dry_run"]
        missing = bucket.is_missing()
        if missing and not options["create"]:
            raise CommandError(f"There is no bucket {bucket.name}. Add --create to create it.")
        if missing:
            self.stdout.write(f"{bucket.name}: {'would be created' if is_dry else 'created'}.")
            if not is_dry:
                bucket.create()
        is_made = not (missing and is_dry)
        rule = provisioning.cors_rule(needs, origins)
        self.change(
            f"{bucket.name}: CORS",
            bucket.cors_rules if is_made else list,
            lambda there: provisioning.merge_cors(there, rule),
            None if is_dry else bucket.set_cors_rules,
            "CORS rules. Allow the origin in the server's own settings",
        )
        self.change(
            f"{bucket.name}: lifecycle",
            bucket.lifecycle_rules if is_made else list,
            lambda there: provisioning.merge_lifecycle(there, needs),
            None if is_dry else bucket.set_lifecycle_rules,
            "lifecycle rules. Find out how it deletes unfinished uploads",
        )

    def change(
        self,
        what: str,
        read: Callable[[], list[Rule]],
        merge: Callable[[list[Rule]], list[Rule]],
        write: Callable[[list[Rule]], None] | None,
        lacking: str,
    ) -> None:
        try:
            before = read()
            after = merge(before)
            if before == after:
                self.stdout.write(f"{what}: nothing to do.")
                return
            for line in provisioning.diff(what, before, after):
                style = {"+": self.style.SUCCESS, "-": self.style.ERROR}.get(line[0])
                self.stdout.write(line, style)
            if write is None:
                return
            write(after)
            kept = read()
        except Refusal as refusal:
            if not refusal.is_unknown_operation:
                raise
            kept = []
        if merge(kept) == kept:
            self.stdout.write(f"{what}: written.")
            return
        # The server refused the rules, or silently ignored them.
        self.stderr.write(
            f"{what}: this server keeps no {lacking} (see docs/providers.md).", self.style.WARNING
        )


def add_bucket_arguments(parser: CommandParser) -> None:
    """Add the arguments that select one bucket."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--destination", help="Only the bucket of this destination.")
    which.add_argument("--storage", metavar="ALIAS", help="Only the bucket of this storage.")


def find_aliases(options: dict[str, Any]) -> list[str]:
    """The aliases of the selected storages. Raises CommandError."""
    try:
        aliases = provisioning.aliases(options["destination"], options["storage"])
        for alias in aliases:
            get_bucket(alias)
    except ValidationError as error:
        raise CommandError(f"There is no destination {options['destination']!r}.") from error
    except (ImproperlyConfigured, StorageNotS3) as error:
        raise CommandError(str(error)) from error
    return aliases
