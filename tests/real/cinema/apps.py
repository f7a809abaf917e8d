from typing import Any

from django.apps import AppConfig

from s3direct_uploads.signals import upload_held


class CinemaConfig(AppConfig):
    name = "tests.real.cinema"
    label = "cinema"

    def ready(self) -> None:
        upload_held.connect(leave_it_to_staff)


def leave_it_to_staff(**_: Any) -> None:
    """A contract is read by a person, who accepts or rejects it in the admin."""
