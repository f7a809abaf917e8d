from django.db import models

from s3direct_uploads.fields import UploadFileField


class Director(models.Model):
    name = models.CharField(max_length=50)
    portrait = UploadFileField(destination="stills", max_length=100, blank=True)

    class Meta:
        app_label = "cinema"

    def __str__(self) -> str:
        return self.name


class Film(models.Model):
    title = models.CharField(max_length=50)
    reel = UploadFileField(destination="reels", max_length=100, help_text="The whole film.")
    director = models.ForeignKey(Director, null=True, blank=True, on_delete=models.SET_NULL)

    class Meta:
        app_label = "cinema"

    def __str__(self) -> str:
        return self.title


class Still(models.Model):
    film = models.ForeignKey(Film, on_delete=models.CASCADE, related_name="stills")
    image = UploadFileField(destination="stills", max_length=100)

    class Meta:
        app_label = "cinema"

    def __str__(self) -> str:
        return str(self.image)


class Poster(models.Model):
    film = models.ForeignKey(Film, on_delete=models.CASCADE, related_name="posters")
    image = UploadFileField(destination="stills", max_length=100, blank=True)

    class Meta:
        app_label = "cinema"

    def __str__(self) -> str:
        return str(self.image)
