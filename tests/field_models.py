"""A host's models whose files are uploads."""

from __future__ import annotations

from django.db import models

from s3direct_uploads.fields import UploadFileField, UploadImageField


class Album(models.Model):
    title = models.CharField(max_length=50, blank=True)

    class Meta:
        app_label = "tests"

    def __str__(self) -> str:
        return self.title


class Snap(models.Model):
    title = models.CharField(max_length=50, unique=True)
    image = UploadFileField(destination="photos", blank=True)
    album = models.ForeignKey(Album, null=True, blank=True, on_delete=models.CASCADE)

    class Meta:
        app_label = "tests"

    def __str__(self) -> str:
        return self.title


class LastSnap(Snap):
    class Meta:
        app_label = "tests"
        proxy = True


class Portrait(models.Model):
    """With an image, whose dimensions nobody opens S3 for."""

    image = UploadImageField(
        destination="photos", width_field="width", height_field="height", null=True, blank=True
    )
    width = models.PositiveIntegerField(null=True, blank=True)
    height = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        app_label = "tests"

    def __str__(self) -> str:
        return f"{self.width} x {self.height}"


class Record(models.Model):
    """Its files stay, whatever becomes of it."""

    file = UploadFileField(destination="photos", blank=True, on_replace="keep", on_delete="keep")

    class Meta:
        app_label = "tests"

    def __str__(self) -> str:
        return self.file.name or ""


class Illustrated(models.Model):
    picture = UploadFileField(destination="photos", blank=True)

    class Meta:
        abstract = True


class Cover(Illustrated):
    class Meta:
        app_label = "tests"

    def __str__(self) -> str:
        return self.picture.name or ""


class Book(Illustrated):
    class Meta:
        app_label = "tests"

    def __str__(self) -> str:
        return self.picture.name or ""


class Novel(Book):
    """In two tables, with a file in each."""

    sample = UploadFileField(destination="photos", blank=True)

    class Meta:
        app_label = "tests"

    def __str__(self) -> str:
        return self.sample.name or ""


class NotDeleted(models.Manager["Trashed"]):
    def get_queryset(self) -> models.QuerySet[Trashed]:
        return super().get_queryset().filter(is_deleted=False)


class Trashed(models.Model):
    """Deleted softly, and hidden even from Django itself. With two files in one table."""

    image = UploadFileField(destination="photos", blank=True)
    cover = UploadFileField(destination="photos", blank=True)
    is_deleted = models.BooleanField(default=False)

    objects = NotDeleted()

    class Meta:
        app_label = "tests"
        base_manager_name = "objects"

    def __str__(self) -> str:
        return self.image.name or ""


class Legacy(models.Model):
    """Of a table that Django does not manage: it may be there."""

    image = models.FileField(max_length=100)

    class Meta:
        app_label = "tests"
        managed = False

    def __str__(self) -> str:
        return self.image.name or ""
