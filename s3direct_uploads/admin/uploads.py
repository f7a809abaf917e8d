"""The pages of uploads and of usage."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.auth import get_permission_codename, get_user_model
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.core.paginator import Paginator
from django.db import DatabaseError, DataError, transaction
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.formats import date_format, number_format
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from s3direct_uploads import conf, content_types, lifecycle
from s3direct_uploads.destinations import format_size, strip_invisible
from s3direct_uploads.exceptions import BucketUnavailable, UploadError
from s3direct_uploads.models import Upload, Usage
from s3direct_uploads.reasons import Reason

from . import filters, holding, losses, owners, summary

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
LARGEST_THUMBNAIL = 1024**2  # bytes: a page of the list may have 50 of them
LARGEST_PREVIEW = 20 * 1024**2  # bytes, on the page of one upload
# What every browser shows: not TIFF or HEIC.
SHOWN = {f"image/{kind}" for kind in ("apng", "avif", "bmp", "gif", "jpeg", "png", "webp")}
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


class UploadDestinationFilter(DestinationFilter):
    """No index begins with the destination, so it looks at the newest uploads."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = super().queryset(request, queryset)
        return chosen if chosen is queryset else filters.among_newest(request, chosen)


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


def is_shown(upload: Upload, largest: int) -> bool:
    """Whether a page may show its image: it is harmless, and at most ``largest`` bytes."""
    kind = upload.content_type
    is_image = content_types.is_safe_inline(kind) and content_types.split(kind)[0] in SHOWN
    return is_image and upload.size <= largest


@admin.register(Upload)
class UploadAdmin(BoundedQuery, _ModelAdmin):
    list_display = [
        *("status", "thumbnail", "filename", "whose", "destination", "human_size", "age", "holder"),
    ]
    list_display_links = ["filename"]
    list_filter = [
        "status",
        filters.BegunFilter,
        UploadDestinationFilter,
        filters.AttachedFilter,
        filters.OwnerFilter,
    ]
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
                    "failing_since",
                    "object_deleted_at",
                ]
            },
        ),
    ]

    class Media:
        css = {"all": ["s3direct_uploads/admin.css"]}

    @admin.display(description=_("image"))
    def thumbnail(self, upload: Upload) -> SafeString | str:
        """By our own view, which signs a URL for each image that the browser needs."""
        if upload.status != Upload.Status.COMPLETED or not is_shown(upload, LARGEST_THUMBNAIL):
            return ""
        # The next column says what it is.
        image = '<img class="s3direct-thumbnail" src="{}?inline" alt="" width="48" height="48"'
        return format_html(image + ' loading="lazy" decoding="async">', self._url(upload))

    @admin.display(description=_("size"))
    def human_size(self, upload: Upload) -> str:
        return format_size(upload.size).replace(" ", "\N{NO-BREAK SPACE}")

    @admin.display(description=_("owner"))
    def whose(self, upload: Upload) -> Any:
        if upload.visitor:
            return gettext("visitor")
        return upload.owner and owners.link(self.admin_site, upload.owner)

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
        """Links to our own view: only the click looks for the row that names the file."""
        if not upload.attached_at:
            return gettext("nothing")
        if not upload.attached_to:
            return gettext("the project's own code")
        if not holding.is_shown(self.admin_site, upload.attached_to):
            return upload.attached_to
        return format_html('<a href="{}">{}</a>', self._url(upload, "holder"), upload.attached_to)

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
        url = self._url(upload)
        link = format_html('<a href="{}">{}</a>', url, gettext("Download"))
        if is_shown(upload, LARGEST_PREVIEW):
            image = '<img class="s3direct-preview" src="{}?inline" alt="" loading="lazy"><p>{}</p>'
            return format_html(image, url, link)
        return link

    def _url(self, upload: Upload, view: str = "download") -> str:
        name = f"{self.admin_site.name}:s3direct_uploads_upload_{view}"
        return reverse(name, args=[upload.pk])

    def get_urls(self) -> list[URLPattern]:
        views: list[tuple[str, str, Callable[..., HttpResponse]]] = [
            ("<uuid:pk>/download/", "download", self.download),
            ("<uuid:pk>/holder/", "holder", self.find_holder),
            ("owner/<path:pk>/", "owner", self.owner),
        ]
        ours = [
            path(route, self.admin_site.admin_view(view), name=f"s3direct_uploads_upload_{name}")
            for route, name, view in views
        ]
        return [*ours, *super().get_urls()]

    def owner(self, request: HttpRequest, pk: str) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return owners.page(self, request, self.get_queryset(request), pk)

    def find_holder(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        upload = get_object_or_404(self.get_queryset(request), pk=pk)
        url, why_not = holding.find(self.admin_site, request, upload)
        if not url:
            self.message_user(request, why_not, messages.WARNING)
        return HttpResponseRedirect(url or self._url(upload, "change"))

    def download(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        upload = get_object_or_404(self.get_queryset(request), pk=pk)
        inline = "inline" in request.GET and content_types.is_safe_inline(upload.content_type)
        try:
            presigned = lifecycle.presign_download(upload, inline=inline)
        except UploadError as error:
            if "inline" in request.GET:  # an image of a page: a word for each would be too many
                raise Http404(str(error)) from None
            self.message_user(request, error.detail, messages.ERROR)
            return HttpResponseRedirect(self._url(upload, "change"))
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
        context = {
            "figures": partial(summary.figures, self.get_queryset(request)),
            "most_looked_at": partial(filters.most_looked_at, request),
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    @admin.action(description=_("Confirm again"), permissions=["operate"])
    def confirm_again(self, request: HttpRequest, uploads: QuerySet[Upload]) -> None:
        told = _("%(count)d confirmed.")
        self._each(request, uploads, lifecycle.confirm, told)

    @admin.action(description=_("Accept what a scan holds"), permissions=["operate"])
    def accept(self, request: HttpRequest, uploads: QuerySet[Upload]) -> None:
        told = _("%(count)d accepted.")
        self._each(request, uploads, partial(lifecycle.accept, cause="admin"), told)

    @admin.action(description=_("Reject what a scan holds"), permissions=["operate"])
    def reject(self, request: HttpRequest, uploads: QuerySet[Upload]) -> HttpResponse | None:
        if not losses.is_confirmed(request):
            title = gettext("Reject these uploads?")
            return self._ask(request, uploads, losses.of_reject, "reject", title)
        operation = partial(lifecycle.reject, reason=Reason.BY_STAFF, cause="admin")
        told = _("%(count)d rejected.")
        self._each(request, uploads, operation, told, request.POST.getlist("shown"))
        return None

    @admin.action(description=_("Cancel, or delete if no model uses it"), permissions=["operate"])
    def cancel(self, request: HttpRequest, uploads: QuerySet[Upload]) -> HttpResponse | None:
        if not losses.is_confirmed(request):
            title = gettext("Cancel or delete these uploads?")
            return self._ask(request, uploads, losses.of_cancel, "cancel", title)
        told = _("%(count)d cancelled or deleted.")
        self._each(request, uploads, lifecycle.cancel, told, request.POST.getlist("shown"))
        return None

    def _ask(
        self, request: HttpRequest, uploads: QuerySet[Upload], fate: Any, action: str, title: str
    ) -> HttpResponse:
        chosen = list(uploads[: MOST_AT_ONCE + 1])
        fates = [fate(upload) for upload in chosen[:MOST_AT_ONCE]]
        more = len(chosen) > MOST_AT_ONCE
        return losses.confirmation(self, request, fates, action=action, title=title, more=more)

    def _each(
        self,
        request: HttpRequest,
        uploads: QuerySet[Upload],
        operation: Any,
        done: Any,
        shown: list[str] | None = None,
    ) -> None:
        """``shown``: what a page said before of each upload, if files are lost by the operation."""
        count = 0
        chosen = list(uploads[: MOST_AT_ONCE + 1])
        if len(chosen) > MOST_AT_ONCE:
            told = gettext("Only the first %(count)d uploads were tried. Choose fewer at once.")
            told %= {"count": MOST_AT_ONCE}
            self.message_user(request, told, messages.WARNING)
        for upload in chosen[:MOST_AT_ONCE]:
            before = upload.status
            if shown is not None and not losses.was_shown(upload, shown):
                told = gettext("“%(filename)s” has changed meanwhile, and was left as it is.")
                told %= {"filename": upload.filename}
                self.message_user(request, told, messages.WARNING)
                continue
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
        return owners.link(self.admin_site, usage.owner) if usage.owner else gettext("visitors")

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
