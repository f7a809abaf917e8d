from django.db import models

from s3direct_uploads.fields import UploadFileField, UploadImageField


class Director(models.Model):
    name = models.CharField(max_length=50)
    portrait = UploadImageField(destination="stills", blank=True)
    contract = UploadFileField(destination="contracts", blank=True)  # which a scan holds

    class Meta:
        app_label = "cinema"

    def __str__(self) -> str:
        return self.name


class Film(models.Model):
    title = models.CharField(max_length=50)
    reel = UploadFileField(destination="reels", help_text="The whole film.")
    director = models.ForeignKey(Director, null=True, blank=True, on_delete=models.SET_NULL)

    class Meta:
        app_label = "cinema"

    def __str__(self) -> str:
        return self.title


class Still(models.Model):
    film = models.ForeignKey(Film, on_delete=models.CASCADE, related_name="stills")
    image = UploadImageField(destination="stills")

    class Meta:
        app_label = "cinema"

    def __str__(self) -> str:
        return str(self.image)


class Poster(models.Model):
    film = models.ForeignKey(Film, on_delete=models.CASCADE, related_name="posters")
    image = UploadImageField(destination="stills", blank=True)

    class Meta:
        app_label = "cinema"

    def __str__(self) -> str:
        return str(self.image)
