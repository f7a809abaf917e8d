from importlib.util import find_spec

from django.apps import AppConfig


class S3DirectUploadsConfig(AppConfig):
    name = "s3direct_uploads"
    verbose_name = "Direct uploads"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.core.checks import register

        from . import checks, lifecycle  # noqa: F401  # the latter hears of rows that are deleted

        register(checks.check_settings)
        register(checks.check_destinations)
        register(checks.check_storages)
        register(checks.check_holds)
        register(checks.check_database)
        if find_spec("drf_spectacular"):
            from . import openapi  # noqa: F401  # to be imported is how it is found
