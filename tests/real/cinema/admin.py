"""Every way in which the admin shows a form: add, change, both kinds of inlines, and a popup."""

from typing import Any

from django import forms
from django.contrib import admin

from s3direct_uploads.forms import UploadField
from s3direct_uploads.models import Upload

from .models import Director, Film, Poster, Still


class AttachingForm(forms.ModelForm):  # type: ignore[type-arg]
    """The admin saves in one transaction, so the uploads are attached with the rows."""

    def save(self, commit: bool = True) -> Any:
        for name, upload in self.cleaned_data.items():
            if isinstance(upload, Upload):
                setattr(self.instance, name, upload.attach())
        return super().save(commit)


class DirectorForm(AttachingForm):
    portrait = UploadField(destination="stills", required=False)


class FilmForm(AttachingForm):
    reel = UploadField(destination="reels", help_text="The whole film.")


class StillForm(AttachingForm):
    image = UploadField(destination="stills")


class PosterForm(AttachingForm):
    image = UploadField(destination="stills", required=False)


class StillInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Still
    form = StillForm
    extra = 0


class PosterInline(admin.StackedInline):  # type: ignore[type-arg]
    model = Poster
    form = PosterForm
    extra = 1


@admin.register(Film)
class FilmAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    form = FilmForm
    inlines = (StillInline, PosterInline)


@admin.register(Director)
class DirectorAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    form = DirectorForm
