from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import include, path
from django.views.i18n import JavaScriptCatalog

from example_project.photos.views import SignInView

PACKAGES = ["example_project.photos"]  # whose texts a page's JavaScript uses

urlpatterns = [
    path("", include("example_project.photos.urls")),
    path("", include("example_project.pages.urls")),
    path("api/uploads/", include("s3direct_uploads.urls")),
    path("accounts/login/", SignInView.as_view(), name="login"),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    path("jsi18n/", JavaScriptCatalog.as_view(packages=PACKAGES), name="javascript-catalog"),
]
