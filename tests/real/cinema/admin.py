"""Every way in which the admin shows a form: add, change, both kinds of inlines, and a popup.

It says nothing about uploads: the models' fields are enough.
"""

from django.contrib import admin

from .models import Director, Film, Poster, Still


class StillInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Still
    extra = 0


class PosterInline(admin.StackedInline):  # type: ignore[type-arg]
    model = Poster
    extra = 1


@admin.register(Film)
class FilmAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    inlines = (StillInline, PosterInline)


@admin.register(Director)
class DirectorAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    pass
