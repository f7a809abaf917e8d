"""Three ways to use uploads with Django's forms: several files, one file, and a visitor's file."""

from django.conf import settings
from django.db import models

from s3direct_uploads.fields import UploadFileField, UploadImageField


class Album(models.Model):
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="albums"
    )
    title = models.CharField(max_length=100)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "pages"
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.title


class Picture(models.Model):
    album = models.ForeignKey(Album, on_delete=models.CASCADE, related_name="pictures")
    image = UploadImageField(destination="photos")
    filename = models.CharField(max_length=255, blank=True)

    class Meta:
        app_label = "pages"
        ordering = ["id"]

    def __str__(self) -> str:
        return self.filename or str(self.image)


class Document(models.Model):
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="documents"
    )
    title = models.CharField(max_length=100)
    file = UploadFileField(destination="documents")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "pages"
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.title


class Application(models.Model):
    """Of a visitor, who has no login."""

    name = models.CharField("your name", max_length=100)
    email = models.EmailField("your e-mail address")
    cv = UploadFileField("your CV", destination="applications")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "pages"
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name
