from django.db import models


class Director(models.Model):
    name = models.CharField(max_length=50)
    portrait = models.FileField(max_length=100, blank=True)

    class Meta:
        app_label = "cinema"

    def __str__(self) -> str:
        return self.name


class Film(models.Model):
    title = models.CharField(max_length=50)
    reel = models.FileField(max_length=100)
    director = models.ForeignKey(Director, null=True, blank=True, on_delete=models.SET_NULL)

    class Meta:
        app_label = "cinema"

    def __str__(self) -> str:
        return self.title


class Still(models.Model):
    film = models.ForeignKey(Film, on_delete=models.CASCADE, related_name="stills")
    image = models.FileField(max_length=100)

    class Meta:
        app_label = "cinema"

    def __str__(self) -> str:
        return str(self.image)


class Poster(models.Model):
    film = models.ForeignKey(Film, on_delete=models.CASCADE, related_name="posters")
    image = models.FileField(max_length=100, blank=True)

    class Meta:
        app_label = "cinema"

    def __str__(self) -> str:
        return str(self.image)
