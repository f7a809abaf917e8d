"""The page that asks before an action by which files are lost, as Django's delete_selected does."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from s3direct_uploads.destinations import format_size
from s3direct_uploads.models import Upload

TEMPLATE = "admin/s3direct_uploads/upload/loss_confirmation.html"
Status = Upload.Status


class Fate(NamedTuple):
    """What an action does to an upload."""

    upload: Upload
    is_lost: bool
    told: str

    @property
    def size(self) -> str:
        return format_size(self.upload.size)


def of_cancel(upload: Upload) -> Fate:
    if upload.status == Status.PENDING:
        told = _("It is under way: what was sent is deleted, and its sender must begin again.")
        return Fate(upload, True, told)
    if upload.status == Status.VERIFYING:
        return Fate(upload, True, _("A scan holds it: its file is deleted."))
    if upload.status == Status.COMPLETED and not upload.attached_at:
        return Fate(upload, True, _("Nothing uses it: its file is deleted."))
    return _kept(upload)


def of_reject(upload: Upload) -> Fate:
    if upload.status == Status.VERIFYING:
        told = _("A scan holds it: its file is deleted, and its owner reads that staff refused it.")
        return Fate(upload, True, told)
    return _kept(upload)


def _kept(upload: Upload) -> Fate:
    if upload.attached_at:
        holder = upload.attached_to or _("the project's own code")
        return Fate(upload, False, _("It stays: %(holder)s uses it.") % {"holder": holder})
    told = _("It stays as it is: %(status)s.") % {"status": upload.get_status_display()}
    return Fate(upload, False, told)


def is_confirmed(request: HttpRequest) -> bool:
    return "post" in request.POST


def confirmation(
    model_admin: admin.ModelAdmin[Any],
    request: HttpRequest,
    fates: Sequence[Fate],
    *,
    action: str,
    title: str,
    more: bool,
) -> TemplateResponse:
    """The page. ``more``: more uploads were selected than one action takes."""
    context = {
        **model_admin.admin_site.each_context(request),
        "title": title,
        "action": action,
        "fates": fates,
        "is_any_lost": any(each.is_lost for each in fates),
        "more": more,
        "action_checkbox_name": ACTION_CHECKBOX_NAME,
        "opts": model_admin.opts,
        "media": model_admin.media,
        "back": request.get_full_path(),
    }
    request.current_app = model_admin.admin_site.name
    return TemplateResponse(request, TEMPLATE, context)


def as_shown(upload: Upload) -> str:
    """What the page posts back of an upload."""
    return f"{upload.pk}:{upload.status}"


def was_shown(upload: Upload, shown: Collection[str]) -> bool:
    """Whether the page showed the upload with this status: it said what would be lost then."""
    return as_shown(upload) in shown
