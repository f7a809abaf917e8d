from django.urls import path

from example_project.urls import urlpatterns as example_project
from tests.real.elsewhere import documented, views

urlpatterns = [*example_project, path("api/token/", views.token)]
exec(documented.URLS)  # urlpatterns += …
