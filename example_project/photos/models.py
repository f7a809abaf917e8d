from django.conf import settings
from django.db import models

from s3direct_uploads.fields import UploadImageField


class Photo(models.Model):
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="photos"
    )
    image = UploadImageField(destination="photos")
    filename = models.CharField(max_length=255)  # as the user named it; a key has only ASCII
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at", "-id"]

    def __str__(self) -> str:
        return self.filename
