from django.contrib import admin

from example_project.photos.models import Photo


@admin.register(Photo)
class PhotoAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["filename", "owner", "created_at"]
    list_filter = ["created_at"]
    search_fields = ["filename", "image", "owner__username"]
