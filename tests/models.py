"""A host's model, as plain as can be."""

from django.db import models


class Photo(models.Model):
    title = models.CharField(max_length=50, blank=True)
    image = models.FileField(max_length=100)

    class Meta:
        app_label = "tests"

    def __str__(self) -> str:
        return self.title
