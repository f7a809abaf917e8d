from importlib.util import find_spec

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class S3DirectUploadsConfig(AppConfig):
    name = "s3direct_uploads"
    verbose_name = _("Direct uploads")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.core.checks import register

        from . import checks, cors, lifecycle, visitors  # noqa: F401  # lifecycle connects a pre_delete handler

        register(checks.check_settings)
        register(checks.check_destinations)
        register(checks.check_storages)
        register(checks.check_holds)
        register(checks.check_database)
        register(cors.check_cors)
        register(visitors.check_visitors)
        if find_spec("drf_spectacular"):
            from . import openapi  # noqa: F401  # drf-spectacular finds it once it is imported
