"""Three ways to use uploads with Django's forms: several files, one file, and a visitor's file."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from s3direct_uploads.fields import UploadFileField, UploadImageField


class Album(models.Model):
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("owner"),
        on_delete=models.CASCADE,
        related_name="albums",
    )
    title = models.CharField(_("title"), max_length=100)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        app_label = "pages"
        verbose_name = _("album")
        verbose_name_plural = _("albums")
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.title


class Picture(models.Model):
    album = models.ForeignKey(
        Album, verbose_name=_("album"), on_delete=models.CASCADE, related_name="pictures"
    )
    image = UploadImageField(_("image"), destination="photos")
    filename = models.CharField(_("filename"), max_length=255, blank=True)

    class Meta:
        app_label = "pages"
        verbose_name = _("picture")
        verbose_name_plural = _("pictures")
        ordering = ["id"]

    def __str__(self) -> str:
        return self.filename or str(self.image)


class Document(models.Model):
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("owner"),
        on_delete=models.CASCADE,
        related_name="documents",
    )
    title = models.CharField(_("title"), max_length=100)
    file = UploadFileField(_("file"), destination="documents")
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        app_label = "pages"
        verbose_name = _("document")
        verbose_name_plural = _("documents")
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.title


class Application(models.Model):
    """Of a visitor, who has no login."""

    name = models.CharField(_("your name"), max_length=100)
    email = models.EmailField(_("your e-mail address"))
    cv = UploadFileField(_("your CV"), destination="applications")
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        app_label = "pages"
        verbose_name = _("application")
        verbose_name_plural = _("applications")
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name
