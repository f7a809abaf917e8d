from django.apps import AppConfig


class PagesConfig(AppConfig):
    name = "example_project.pages"
