from django import forms
from django.utils.translation import gettext_lazy as _

from example_project.pages.models import Album
from s3direct_uploads.forms import UploadField


class AlbumForm(forms.ModelForm):  # type: ignore[type-arg]
    photos = UploadField(label=_("Photos"), destination="photos", multiple=True, max_files=20)

    class Meta:
        model = Album
        fields = ["title"]
