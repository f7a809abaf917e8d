from rest_framework import serializers

from example_project.photos.models import Photo
from s3direct_uploads.serializers import AttachUploadsMixin


class PhotoSerializer(AttachUploadsMixin, serializers.ModelSerializer[Photo]):
    class Meta:
        model = Photo
        fields = ["id", "image", "filename", "created_at"]
        read_only_fields = ["filename"]
