"""A host's models."""

from django.db import models

from . import field_models  # noqa: F401  # so that they have tables


class Photo(models.Model):
    title = models.CharField(max_length=50, blank=True)
    image = models.FileField(max_length=100)

    class Meta:
        app_label = "tests"

    def __str__(self) -> str:
        return self.title


class Gallery(models.Model):
    """Files that are not in a FileField: in a list, in a dict, in related rows."""

    title = models.CharField(max_length=50, blank=True)
    images = models.JSONField(default=list, blank=True)
    pages = models.JSONField(default=dict, blank=True)
    cover = models.ForeignKey(Photo, null=True, blank=True, on_delete=models.SET_NULL)
    photos = models.ManyToManyField(Photo, blank=True, related_name="galleries")

    class Meta:
        app_label = "tests"

    def __str__(self) -> str:
        return self.title
