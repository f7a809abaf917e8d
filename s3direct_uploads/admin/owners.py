"""The page of one owner: what they have uploaded, and how much of their quota it takes."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.utils import quote, unquote
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import Count, QuerySet, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from s3direct_uploads.destinations import format_size
from s3direct_uploads.models import Upload, Usage

MOST_COUNTED = 10_000  # of the owner's uploads, the newest
TEMPLATE = "admin/s3direct_uploads/upload/owner.html"
URL_NAME = "s3direct_uploads_upload_owner"


def link(site: admin.AdminSite, owner: Any) -> SafeString:
    url = reverse(f"{site.name}:{URL_NAME}", args=[quote(str(owner.pk))])
    return format_html('<a href="{}">{}</a>', url, owner)


def page(
    model_admin: admin.ModelAdmin[Any], request: HttpRequest, uploads: QuerySet[Upload], pk: str
) -> HttpResponse:
    """Raises Http404 if there is no such user."""
    site, owner = model_admin.admin_site, _find(unquote(pk))
    rows, is_all = _by_status(uploads.filter(owner=owner.pk))
    changelist = reverse(f"{site.name}:s3direct_uploads_upload_changelist")
    for row in rows:
        chosen = {"status__exact": row["status"], "destination": row["destination"]}
        query = urlencode({"q": owner.get_username(), **chosen})
        row["url"] = f"{changelist}?{query}"
        row["status"] = Upload.Status(row["status"]).label
    context = {
        **site.each_context(request),
        "title": _("Uploads of %(owner)s") % {"owner": owner},
        "owner": owner,
        "owner_url": _url_of(site, request, owner),
        "rows": rows,
        "most": None if is_all else MOST_COUNTED,
        "usages": _usages(site, request, owner),
        "opts": model_admin.opts,
        "media": model_admin.media,
    }
    request.current_app = site.name
    return TemplateResponse(request, TEMPLATE, context)


def _find(pk: str) -> Any:
    users = get_user_model()._default_manager
    try:
        return users.get(pk=get_user_model()._meta.pk.to_python(pk))
    except (users.model.DoesNotExist, ValidationError, ValueError, OverflowError):
        raise Http404 from None


def _by_status(mine: QuerySet[Upload]) -> tuple[list[dict[str, Any]], bool]:
    """By destination and status; and whether these are all. An owner may have millions."""
    newest = mine.order_by("-pk").values_list("pk", flat=True)
    beyond = next(iter(newest[MOST_COUNTED : MOST_COUNTED + 1]), None)
    counted = mine.filter(pk__gt=beyond) if beyond else mine
    rows = counted.order_by("destination", "status").values("destination", "status")
    found = rows.annotate(count=Count("pk"), total=Sum("size"))
    return [{**row, "size": format_size(row["total"])} for row in found], beyond is None


def _usages(site: admin.AdminSite, request: HttpRequest, owner: Any) -> list[dict[str, Any]] | None:
    """None if this person may not see them."""
    if not (site.is_registered(Usage) and site._registry[Usage].has_view_permission(request)):
        return None
    usages = Usage.objects.filter(owner=owner.pk).order_by("destination")
    return [
        {
            "destination": each.destination,
            "pending": each.pending,
            "size": format_size(each.total_size),
        }
        for each in usages
    ]


def _url_of(site: admin.AdminSite, request: HttpRequest, owner: Any) -> str | None:
    """The user's own page in the admin, if this person may see it."""
    model = type(owner)
    if not site.is_registered(model):
        return None
    if not site._registry[model].has_view_permission(request, owner):
        return None
    name = f"{site.name}:{model._meta.app_label}_{model._meta.model_name}_change"
    return reverse(name, args=[quote(str(owner.pk))])
