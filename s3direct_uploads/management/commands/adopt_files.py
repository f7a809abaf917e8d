"""manage.py adopt_files: make uploads of the files that a model's field has already."""

from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from typing import Any

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.core.management.base import CommandError
from django.db.models import FileField

from s3direct_uploads import conf, lifecycle
from s3direct_uploads.exceptions import BucketUnavailable
from s3direct_uploads.management.printing import PrintingCommand, progress_bar


class Command(PrintingCommand):
    help = (
        "Make an upload of each file that a model's field has already. The upload is completed and "
        "attached to that field. Quotas, releases, the admin and the sweep then know it. The files "
        "stay where they are. You can interrupt it and run it again; what it did is kept. Warning: "
        "you lose such a file when its row is deleted or gets another file, because the "
        "UploadFileField then releases the upload."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("field", metavar="app.Model.field", help="Such as photos.Photo.image.")
        parser.add_argument(
            "--destination", required=True, metavar="D", help="The destination of the new uploads."
        )
        parser.add_argument(
            "--owner",
            default="",
            metavar="PATH",
            help="From a row to the user who owns its file: author, or album__owner. On the user "
            "model itself: pk. Without it, the files have no owner and count against no quota.",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Ask S3 for each file, and change nothing."
        )

    def handle(
        self, *, field: str, destination: str, owner: str, dry_run: bool, **options: Any
    ) -> None:
        model_field = self.find(field)
        if destination not in conf.destinations():
            known = ", ".join(sorted(conf.destinations()))
            raise CommandError(f"There is no destination {destination!r}. Write one of {known}.")
        batches = lifecycle.adopt(
            model_field, destination=destination, owner=owner, dry_run=dry_run
        )
        counts: Counter[str] = Counter()
        label = model_field.model._meta.label
        try:
            count = model_field.model._base_manager.count
            with progress_bar("Adopting", "rows", count) as advance:
                for batch in batches:
                    for each in batch:
                        counts[each.what] += 1
                        if not each.is_done:
                            self.stdout.write(f"{each.what} {label} {each.pk} {each.name}")
                    advance(len(batch))
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        except BucketUnavailable as error:
            self.say(counts, dry_run)
            raise CommandError(f"{error} Run it again to continue.") from error
        self.say(counts, dry_run)
        wrong = sum(counts.values()) - sum(counts[what] for what in lifecycle.DONE)
        if wrong:
            raise CommandError(f"Files that are not uploads: {wrong}. The lines above name them.")

    def say(self, counts: Counter[str], dry_run: bool) -> None:
        listed = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
        self.stdout.write(f"{'Dry run' if dry_run else 'Adopted'}: {listed or 'nothing'}.")

    def find(self, label: str) -> Any:
        if label.count(".") != 2:
            raise CommandError(
                f"Write the field as app.Model.field, such as photos.Photo.image, not {label!r}."
            )
        app_label, model_name, name = label.split(".")
        try:
            field = apps.get_model(app_label, model_name)._meta.get_field(name)
        except (LookupError, FieldDoesNotExist) as error:
            raise CommandError(f"There is no field {label!r}: {error}") from error
        if not isinstance(field, FileField):
            raise CommandError(f"{label} is not a FileField.")
        return field
