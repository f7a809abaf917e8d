from django.urls import include, path
from rest_framework.routers import SimpleRouter

from example_project.photos.views import PhotoViewSet, WallView

router = SimpleRouter()
router.register("photos", PhotoViewSet, basename="photo")

urlpatterns = [
    path("", WallView.as_view(), name="wall"),
    path("api/", include(router.urls)),
]
