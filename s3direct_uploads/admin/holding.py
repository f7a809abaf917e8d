"""The way from an upload to the row of the project that uses its file."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db import router
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload


def is_shown(site: admin.AdminSite, label: str) -> bool:
    """Whether the admin has the model of this field, "photos.Photo.image"."""
    return any(model._meta.label == label.rpartition(".")[0] for model in site._registry)


def find(site: admin.AdminSite, request: HttpRequest, upload: Upload) -> tuple[str, str]:
    """The address of the row that names the file, and "". Or "", and why there is none.

    It reads the model's table, and a FileField seldom has an index: call it on a click only.
    """
    field = lifecycle.holder_of(upload.attached_to)
    name = lifecycle.name_of(field, upload) if field else None
    if name is None:
        return "", _("This project does not have the field that uses it.")
    model = field.model
    if not site.is_registered(model):
        return "", _("The admin does not show the model that uses it.")
    if not site._registry[model].has_view_permission(request):
        return "", _("You may not see the model that uses it.")
    url_of = f"{site.name}:{model._meta.app_label}_{model._meta.model_name}_"
    alias = router.db_for_read(model)
    rows = lifecycle.rows_of(model, alias).filter(**{field.name: name})
    found: list[Any] = list(rows.values_list("pk", flat=True)[:2])
    if not found:
        return "", _("No row of the model names this file now.")
    if len(found) == 1:
        return reverse(f"{url_of}change", args=[quote(str(found[0]))]), ""
    return f"{reverse(f'{url_of}changelist')}?{urlencode({field.name: name})}", ""
