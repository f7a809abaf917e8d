from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path

from example_project.urls import urlpatterns as example_project


def page(request: HttpRequest, name: str) -> HttpResponse:
    return render(request, f"{name}.html")


urlpatterns = [*example_project, path("libraries/<slug:name>/", page)]
