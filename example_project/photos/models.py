from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from s3direct_uploads.fields import UploadImageField


class Photo(models.Model):
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("owner"),
        on_delete=models.CASCADE,
        related_name="photos",
    )
    image = UploadImageField(_("image"), destination="photos")
    filename = models.CharField(
        _("filename"), max_length=255
    )  # as the user named it; a key has only ASCII
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        verbose_name = _("photo")
        verbose_name_plural = _("photos")
        ordering = ["-created_at", "-id"]

    def __str__(self) -> str:
        return self.filename
