from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import include, path

from example_project.photos.views import SignInView

urlpatterns = [
    path("", include("example_project.photos.urls")),
    path("", include("example_project.pages.urls")),
    path("api/uploads/", include("s3direct_uploads.urls")),
    path("accounts/login/", SignInView.as_view(), name="login"),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
]
