from django.contrib import admin

from example_project.pages.models import Album, Application, Document, Picture


class PictureInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Picture
    extra = 1


@admin.register(Album)
class AlbumAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["title", "owner", "created_at"]
    inlines = [PictureInline]


@admin.register(Document)
class DocumentAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["title", "owner", "created_at"]


@admin.register(Application)
class ApplicationAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["name", "email", "created_at"]
