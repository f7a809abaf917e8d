from typing import Any

from django.conf import settings
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.views import LoginView
from django.db.models import QuerySet
from django.views.generic import TemplateView
from rest_framework import mixins, permissions, viewsets
from rest_framework.pagination import CursorPagination
from rest_framework.serializers import BaseSerializer

from example_project.photos.models import Photo
from example_project.photos.serializers import PhotoSerializer


class WallView(LoginRequiredMixin, TemplateView):
    template_name = "photos/wall.html"


class SignInView(LoginView):
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        name, _, password = getattr(settings, "DEMO_LOGIN", "").partition(":")
        return super().get_context_data(demo_name=name, demo_password=password, **kwargs)


class NewestFirst(CursorPagination):
    ordering = ("-created_at", "-id")
    page_size = 48


class PhotoViewSet(
    mixins.ListModelMixin,
    mixins.CreateModelMixin,
    mixins.DestroyModelMixin,
    viewsets.GenericViewSet[Photo],
):
    serializer_class = PhotoSerializer
    permission_classes = [permissions.IsAuthenticated]
    pagination_class = NewestFirst

    def get_queryset(self) -> QuerySet[Photo]:
        return Photo.objects.filter(owner=self.request.user.pk)

    def perform_create(self, serializer: BaseSerializer[Photo]) -> None:
        upload = serializer.validated_data["image"]
        serializer.save(owner=self.request.user, filename=upload.filename)
