from django.contrib import admin
from django.urls import include, path

from .views import BareView, EntryView

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/uploads/", include("s3direct_uploads.urls")),
    path("entry/", EntryView.as_view()),
    path("bare/", BareView.as_view()),
]
