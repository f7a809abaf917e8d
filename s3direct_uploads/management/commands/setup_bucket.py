"""From an empty bucket, or none, to one that pages may upload to."""

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
        "Set the buckets of the destinations up for direct uploads: a CORS rule, by which browsers "
        "let your pages write to them, and a lifecycle rule, which throws unfinished uploads away. "
        "It shows what it changes, and keeps every rule that others wrote. Run it again at will."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_bucket_arguments(parser)
        parser.add_argument(
            "--origin",
            action="append",
            required=True,
            help="Where your pages are: https://app.example.com. Say it once for each.",
        )
        parser.add_argument("--create", action="store_true", help="Make a bucket that is missing.")
        parser.add_argument("--dry-run", action="store_true", help="Show it, and change nothing.")
        parser.add_argument(
            "--allow-any-origin",
            action="store_true",
            help="Let --origin '*' be meant, and others whose * stands for strangers' sites, too.",
        )
        parser.add_argument(
            "--format",
            choices=["json", "cloudformation"],
            help="Ask nobody and print it, with the policy that the server's user or role needs.",
        )
        parser.add_argument(
            "--signature-age",
            type=int,
            metavar="SECONDS",
            help="With --format: a bucket policy that refuses older signatures.",
        )
        parser.add_argument(
            "--block-public-access", action="store_true", help="With --format: that, too."
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
            raise CommandError("--signature-age and --block-public-access are for --format.")
        for needs in every:
            if needs.is_access_point:
                raise CommandError(
                    f"{needs.bucket} is an access point, by which no CORS and lifecycle rules can "
                    "be set. Name the bucket behind it in a storage, with the same location, and "
                    "run setup_bucket --storage for that; or set there what --format json prints."
                )
        for alias, needs in zip(aliases, every, strict=True):
            bucket = get_bucket(alias)
            try:
                self.set_up(bucket, needs, origins, options)
            except Refusal as refusal:
                raise CommandError(
                    f"{bucket.name}: S3 answered {refusal}. 'manage.py check_bucket --storage "
                    f"{alias}' says why."
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
            raise CommandError("A destination has an ACL, which Block Public Access would undo.")
        for needs in every:
            if is_access_point_alias(needs.bucket):
                raise CommandError(
                    f"{needs.bucket} is the alias of an access point, which policies cannot name. "
                    "Write the access point's ARN as bucket_name of the storage."
                )
            if needs.is_access_point and age and options["format"] == "cloudformation":
                raise CommandError(
                    f"{needs.bucket} is an access point: its policy is a part of the template that "
                    "makes it. --format json prints it."
                )
            if needs.is_access_point:
                self.stderr.write(
                    f"{needs.bucket} is an access point: the CORS and lifecycle rules are for the "
                    "bucket behind it, and that has to allow what the access point allows.",
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
            raise CommandError(f"There is no bucket {bucket.name}. Add --create to make it.")
        if missing:
            self.stdout.write(f"{bucket.name}: {'would be made' if is_dry else 'made'}.")
            if not is_dry:
                bucket.create()
        is_made = not (missing and is_dry)
        rule = provisioning.cors_rule(needs, origins)
        self.change(
            f"{bucket.name}: CORS",
            bucket.cors_rules if is_made else list,
            lambda there: provisioning.merge_cors(there, rule),
            None if is_dry else bucket.set_cors_rules,
            "CORS rules: allow the origin by its own means, for the whole server",
        )
        self.change(
            f"{bucket.name}: lifecycle",
            bucket.lifecycle_rules if is_made else list,
            lambda there: provisioning.merge_lifecycle(there, needs),
            None if is_dry else bucket.set_lifecycle_rules,
            "lifecycle rules: see how it ends unfinished uploads",
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
        # Refused, or taken without a word and thrown away.
        self.stderr.write(
            f"{what}: this server keeps no {lacking} (docs/providers.md).", self.style.WARNING
        )


def add_bucket_arguments(parser: CommandParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--destination", help="Only the bucket of this destination.")
    which.add_argument("--storage", metavar="ALIAS", help="Only the bucket of this storage.")


def find_aliases(options: dict[str, Any]) -> list[str]:
    try:
        aliases = provisioning.aliases(options["destination"], options["storage"])
        for alias in aliases:
            get_bucket(alias)
    except ValidationError as error:
        raise CommandError(f"There is no destination {options['destination']!r}.") from error
    except (ImproperlyConfigured, StorageNotS3) as error:
        raise CommandError(str(error)) from error
    return aliases
