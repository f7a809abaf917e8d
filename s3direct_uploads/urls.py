"""``path("api/uploads/", include("s3direct_uploads.urls"))``."""

from rest_framework.routers import SimpleRouter

from .views import UploadViewSet

app_name = "s3direct_uploads"

router = SimpleRouter()
router.register("", UploadViewSet, basename="upload")
urlpatterns = router.urls
