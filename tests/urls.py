from django.contrib import admin
from django.urls import include, path
from rest_framework.routers import SimpleRouter

from s3direct_uploads.events import webhook
from tests.host_app import PhotoViewSet, SnapViewSet

router = SimpleRouter()
router.register("photos", PhotoViewSet)
router.register("snaps", SnapViewSet)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/uploads/", include("s3direct_uploads.urls")),
    path("s3-events/", webhook),
    path("api/", include(router.urls)),
]
