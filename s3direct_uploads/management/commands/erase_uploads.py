"""manage.py erase_uploads: erase the uploads of one user."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError
from django.db import DatabaseError, DataError, router, transaction

from s3direct_uploads import lifecycle
from s3direct_uploads.management.printing import PrintingCommand


class Command(PrintingCommand):
    help = (
        "Erase the uploads of one user. Pending ones are cancelled, and completed ones that no "
        "model uses are deleted. The filename and the context of every row are blanked. Files that "
        "a model uses are listed, and stay. You can run it again. Warning: the files are lost."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="The username, or the primary key.")
        parser.add_argument(
            "--by", choices=("pk", "username"), help="What USER is. Without it, both are tried."
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Say what would be done, and change nothing."
        )

    def handle(self, *, user: str, by: str | None, dry_run: bool, **options: Any) -> None:
        done = lifecycle.erase(self.find(user, by), dry_run=dry_run)
        if dry_run:
            self.stdout.write("Dry run: nothing is changed.")
        for what, count in (
            ("Uploads that were cancelled", done.cancelled),
            ("Uploads that were deleted", done.deleted),
            ("Rows whose filename and context were blanked", done.blanked),
            ("Objects that a sweep deletes later", done.waiting),
        ):
            self.stdout.write(f"{what}: {count}.")
        if done.in_use:
            self.stdout.write(
                f"Uploads that are in use, and stay: {len(done.in_use)}. "
                "Change or delete the rows that name them:"
            )
        for each in done.in_use:
            rows = ", ".join(each.rows) or "no FileField names it; the project's own code may"
            self.stdout.write(f"{each.id} {each.destination}: {rows}")

    def find(self, user: str, by: str | None) -> Any:
        names = {"pk": "pk", "username": get_user_model().USERNAME_FIELD}
        found = {
            each.pk: each
            for way, column in names.items()
            if by in (None, way)
            for each in users_with(column, user)
        }
        if not found:
            raise CommandError(f"There is no user {user!r}.")
        if len(found) > 1:
            raise CommandError(
                f"{user!r} is the username of one user, and the primary key of another. "
                "Write --by username, or --by pk."
            )
        return next(iter(found.values()))


def users_with(column: str, text: str) -> list[Any]:
    users = get_user_model()._base_manager.using(router.db_for_write(get_user_model()))
    try:
        with transaction.atomic(using=users.db):
            return list(users.filter(**{column: text}))
    except DataError:
        return []
    except DatabaseError:
        raise
    except Exception:  # the column may have any type, and raise anything for a wrong text
        return []
