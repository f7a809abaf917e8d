from django.apps import AppConfig


class CinemaConfig(AppConfig):
    name = "tests.real.cinema"
    label = "cinema"
