from django import forms

from example_project.pages.models import Album
from s3direct_uploads.forms import UploadField


class AlbumForm(forms.ModelForm):  # type: ignore[type-arg]
    photos = UploadField(destination="photos", multiple=True, max_files=20)

    class Meta:
        model = Album
        fields = ["title"]
