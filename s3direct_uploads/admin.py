"""The admin for support staff: find uploads quickly, and see what happened. Nothing can be edited.

It is made for ten million rows: no query counts all of them, and every search can use an index.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.auth import get_permission_codename, get_user_model
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.core.paginator import Paginator
from django.db import DatabaseError, DataError, transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.formats import date_format, number_format
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from . import conf, content_types, lifecycle
from .destinations import format_size, strip_invisible
from .exceptions import BucketUnavailable, UploadError
from .models import Upload, Usage
from .reasons import Reason

if TYPE_CHECKING:  # Django's classes are generic only in their stubs
    _Paginator = Paginator[Upload]
    _ModelAdmin = admin.ModelAdmin[Upload]
    _UsageAdmin = admin.ModelAdmin[Usage]
    _AnyAdmin = admin.ModelAdmin[Any]
else:
    _Paginator, _ModelAdmin, _UsageAdmin = Paginator, admin.ModelAdmin, admin.ModelAdmin
    _AnyAdmin = object

MOST_COUNTED = 10_000  # rows; a better search is faster than more pages
MOST_AT_ONCE = 50  # uploads in one action: each one waits for S3, and a request must end in time
LONGEST_TERM = 1024  # characters: the length of a key; SQLite refuses a LIKE of 50,000
LONGEST_QUERY = 8 * 1024  # bytes: a filename of 255 escaped characters needs a third of it


class BoundedPaginator(_Paginator):
    """A paginator that counts at most MOST_COUNTED rows."""

    @cached_property
    def count(self) -> int:
        assert isinstance(self.object_list, QuerySet)
        return self.object_list.order_by()[:MOST_COUNTED].count()


class BoundedQuery(_AnyAdmin):
    """Limits the query of a list. Each link repeats it, so a long query makes a huge page."""

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if len(request.META.get("QUERY_STRING", "")) > LONGEST_QUERY:
            self.message_user(request, gettext("This search is too long."), messages.WARNING)
            return HttpResponseRedirect(request.path)
        return super().changelist_view(request, extra_context)


class DestinationFilter(admin.SimpleListFilter):
    """A filter by the destinations in the settings. To read them from the table needs a scan."""

    title = _("destination")
    parameter_name = "destination"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in conf.destinations()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        # Any other value in the URL is ignored: PostgreSQL fails if it contains a NUL.
        known = self.value() in conf.destinations()
        return queryset.filter(destination=self.value()) if known else queryset


def owners_named(username: str) -> list[Any]:
    """The primary key of the user with this name, in a list. A subquery would use no index."""
    user_model = get_user_model()
    users = user_model._default_manager.all()
    try:
        with transaction.atomic(using=users.db):  # so that an error does not end an outer one
            owners = users.filter(**{user_model.USERNAME_FIELD: username})
            return list(owners.values_list("pk", flat=True))
    except DataError:
        return []
    except DatabaseError:
        raise
    except Exception:  # USERNAME_FIELD may be any field, and raise anything for a wrong text
        return []


def _why(error: Exception) -> str:
    if isinstance(error, Upload.DoesNotExist):
        return gettext("It was deleted meanwhile.")
    return error.detail if isinstance(error, UploadError) else str(error)


@admin.register(Upload)
class UploadAdmin(BoundedQuery, _ModelAdmin):
    list_display = ["status", "filename", "whose", "destination", "human_size", "age"]
    list_display_links = ["filename"]
    list_filter = ["status", DestinationFilter]
    list_select_related = ["owner"]
    list_per_page = 50
    ordering = ["-id"]  # newest first, by the index of the primary key
    sortable_by = ()
    search_fields = ["filename"]  # only shows the search box; get_search_results searches
    search_help_text = _(
        "Search for a whole id, key or username, or for the beginning of a filename."
    )
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # facets count the whole table
    paginator = BoundedPaginator
    actions = ["confirm_again", "accept", "reject", "cancel"]
    readonly_fields = ["preview", "exact_size", "age", "in_usage", "without_login", "holder", "why"]
    fieldsets = [
        (
            None,
            {
                "fields": [
                    *("preview", "status", "why", "owner", "without_login", "holder"),
                    *("age", "in_usage", "context"),
                ]
            },
        ),
        (_("Declared"), {"fields": ["filename", "content_type", "exact_size"]}),
        (_("Checksum"), {"fields": ["checksum_algorithm", "checksum"], "classes": ["collapse"]}),
        (_("Where"), {"fields": ["destination", "storage", "bucket", "key", "object_parameters"]}),
        (_("What S3 said"), {"fields": ["etag", "version_id", "multipart_upload_id", "part_size"]}),
        (
            _("When"),
            {
                "fields": [
                    "created_at",
                    "url_expires_at",
                    "expires_at",
                    "held_at",
                    "completed_at",
                    "announced_at",
                    "attached_at",
                    "due_at",
                    "busy_until",
                    "object_deleted_at",
                ]
            },
        ),
    ]

    @admin.display(description=_("size"))
    def human_size(self, upload: Upload) -> str:
        return format_size(upload.size).replace(" ", "\N{NO-BREAK SPACE}")

    @admin.display(description=_("owner"))
    def whose(self, upload: Upload) -> Any:
        return gettext("visitor") if upload.visitor else upload.owner

    @admin.display(description=_("size"))
    def exact_size(self, upload: Upload) -> str:
        count = number_format(upload.size, force_grouping=True)
        told = ngettext("%(size)s (%(count)s byte)", "%(size)s (%(count)s bytes)", upload.size)
        return told % {"size": format_size(upload.size), "count": count}

    @admin.display(description=_("reason"))
    def why(self, upload: Upload) -> str:
        return upload.localized_reason

    @admin.display(description=_("begun without a login"))
    def without_login(self, upload: Upload) -> str:
        return gettext("yes, by a visitor") if upload.visitor else gettext("no")

    @admin.display(description=_("age"))
    def age(self, upload: Upload) -> str:
        return timesince(upload.created_at, depth=1)

    @admin.display(description=_("counts in the owner's usage"))
    def in_usage(self, upload: Upload) -> str:
        return gettext("until its object is deleted") if upload.counted else gettext("no")

    @admin.display(description=_("attached to"))
    def holder(self, upload: Upload) -> SafeString | str:
        """Links to the list of the rows that name the file: only the click looks for them."""
        if not upload.attached_at:
            return gettext("nothing")
        field = lifecycle.holder_of(upload.attached_to)
        name = lifecycle.name_of(field, upload) if field else None
        if name is None or not self.admin_site.is_registered(field.model):
            return upload.attached_to or gettext("the project's own code")
        model = field.model._meta
        url = reverse(f"{self.admin_site.name}:{model.app_label}_{model.model_name}_changelist")
        query = urlencode({field.name: name})
        return format_html('<a href="{}?{}">{}</a>', url, query, upload.attached_to)

    @admin.display(description=_("object"))
    def preview(self, upload: Upload) -> SafeString | str:
        """A link to our own view. It signs a URL at each click, so that no page contains one."""
        if upload.status == Upload.Status.VERIFYING:
            # Staff cannot read it either: it may be a virus.
            told = gettext(
                "A scan holds it, and nobody can read it. It is rejected if the scan does not "
                "answer before %(time)s."
            )
            return told % {"time": date_format(upload.hold_ends_at, "DATETIME_FORMAT")}
        if upload.status != Upload.Status.COMPLETED:
            return gettext("none")
        url = reverse(f"{self.admin_site.name}:s3direct_uploads_upload_download", args=[upload.pk])
        link = format_html('<a href="{}">{}</a>', url, gettext("Download"))
        if upload.content_type.startswith("image/") and content_types.is_safe_inline(
            upload.content_type
        ):
            return format_html(
                '<img src="{}?inline" alt="" loading="lazy" '
                'style="max-width: 20rem; max-height: 15rem; display: block"><p>{}</p>',
                url,
                link,
            )
        return link

    def get_urls(self) -> list[URLPattern]:
        download = path(
            "<uuid:pk>/download/",
            self.admin_site.admin_view(self.download),
            name="s3direct_uploads_upload_download",
        )
        return [download, *super().get_urls()]

    def download(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        upload = get_object_or_404(self.get_queryset(request), pk=pk)
        inline = "inline" in request.GET and content_types.is_safe_inline(upload.content_type)
        try:
            presigned = lifecycle.presign_download(upload, inline=inline)
        except UploadError as error:
            self.message_user(request, error.detail, messages.ERROR)
            return HttpResponseRedirect(
                reverse(f"{self.admin_site.name}:s3direct_uploads_upload_change", args=[pk])
            )
        return HttpResponseRedirect(presigned.url, headers={"Cache-Control": "no-store"})

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Upload], search_term: str
    ) -> tuple[QuerySet[Upload], bool]:
        term = strip_invisible(search_term).strip()
        if not term:
            return queryset, False
        if len(term) > LONGEST_TERM:
            return queryset.none(), False
        found = Q(filename__startswith=term) | Q(key=term) | Q(owner__in=owners_named(term))
        try:
            found |= Q(pk=UUID(term))
        except ValueError:
            pass
        return queryset.filter(found), False

    # Permissions: staff may look, and use the actions.

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Upload | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Upload | None = None) -> bool:
        return False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return super().has_change_permission(request)

    @lifecycle.never_atomic  # the actions wait for S3
    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, extra_context)

    @admin.action(description=_("Confirm again"), permissions=["operate"])
    def confirm_again(self, request: HttpRequest, uploads: QuerySet[Upload]) -> None:
        told = _("%(count)d confirmed.")
        self._each(request, uploads, lifecycle.confirm, told)

    @admin.action(description=_("Accept what a scan holds"), permissions=["operate"])
    def accept(self, request: HttpRequest, uploads: QuerySet[Upload]) -> None:
        told = _("%(count)d accepted.")
        self._each(request, uploads, partial(lifecycle.accept, cause="admin"), told)

    @admin.action(description=_("Reject what a scan holds"), permissions=["operate"])
    def reject(self, request: HttpRequest, uploads: QuerySet[Upload]) -> None:
        operation = partial(lifecycle.reject, reason=Reason.BY_STAFF, cause="admin")
        told = _("%(count)d rejected.")
        self._each(request, uploads, operation, told)

    @admin.action(description=_("Cancel, or delete if no model uses it"), permissions=["operate"])
    def cancel(self, request: HttpRequest, uploads: QuerySet[Upload]) -> None:
        told = _("%(count)d cancelled or deleted.")
        self._each(request, uploads, lifecycle.cancel, told)

    def _each(
        self, request: HttpRequest, uploads: QuerySet[Upload], operation: Any, done: Any
    ) -> None:
        count = 0
        chosen = list(uploads[: MOST_AT_ONCE + 1])
        if len(chosen) > MOST_AT_ONCE:
            told = gettext("Only the first %(count)d uploads were tried. Choose fewer at once.")
            told %= {"count": MOST_AT_ONCE}
            self.message_user(request, told, messages.WARNING)
        for upload in chosen[:MOST_AT_ONCE]:
            before = upload.status
            try:
                operation(upload)
                count += 1
            except (UploadError, ImproperlyConfigured, Upload.DoesNotExist) as error:
                # In quotes, because the template of messages makes the first letter a capital.
                told = f"“{upload.filename}”: {_why(error)}"
                # Each of the others would wait just as long.
                away = isinstance(error, BucketUnavailable) and lifecycle.is_bucket_away(upload)
                if away:
                    told += " " + gettext("The uploads after it were not tried.")
                self.message_user(request, told, messages.WARNING)
                if away:
                    break
            if upload.status != before:
                self.log_change(request, upload, f"{before} → {upload.status}")
        if count:
            self.message_user(request, done % {"count": count}, messages.SUCCESS)


@admin.register(Usage)
class UsageAdmin(BoundedQuery, _UsageAdmin):
    list_display = ["whose", "destination", "pending", "human_size"]
    list_display_links = None
    list_filter = [DestinationFilter]
    list_select_related = ["owner"]
    ordering = ["-id"]
    sortable_by = ()
    search_fields = ["owner"]  # only shows the search box
    search_help_text = _("Search for a whole username.")
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator

    @admin.display(description=_("owner"))
    def whose(self, usage: Usage) -> Any:
        return usage.owner or gettext("visitors")

    @admin.display(description=_("total size"))
    def human_size(self, usage: Usage) -> str:
        return format_size(usage.total_size).replace(" ", "\N{NO-BREAK SPACE}")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Usage], search_term: str
    ) -> tuple[QuerySet[Usage], bool]:
        term = search_term.strip()
        return (queryset.filter(owner__in=owners_named(term)) if term else queryset), False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Usage | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Usage | None = None) -> bool:
        """Whether the user may delete the owner. The page that deletes a user asks this, too.

        Usage that is deleted without its owner does no harm: the next begin counts again.
        """
        owner = get_user_model()._meta
        may_delete = f"{owner.app_label}.{get_permission_codename('delete', owner)}"
        return obj is not None and request.user.has_perm(may_delete)
