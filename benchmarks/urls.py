from django.urls import include, path

from . import peers, rivals

urlpatterns = [
    path("", include("example_project.urls")),
    path("bench/", peers.page),
    path("through/", rivals.CreateFilm.as_view()),
    path("direct/", include("s3_file_field.urls")),
    path("uppy/", peers.uppy_sign),
    path("s3ff/upload-initialize/", peers.s3ff_initialize),
    path("s3ff/upload-complete/", peers.s3ff_complete),
    path("s3ff/finalize/", peers.s3ff_finalize),
]
