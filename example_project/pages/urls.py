from django.db.transaction import atomic
from django.urls import path
from django.views.generic import TemplateView

from example_project.pages import views

urlpatterns = [
    path("albums/", atomic(views.AlbumsView.as_view()), name="albums"),
    path("documents/", atomic(views.DocumentsView.as_view()), name="documents"),
    path(
        "documents/<int:pk>/delete/",
        atomic(views.DeleteDocumentView.as_view()),
        name="delete-document",
    ),
    path("jobs/", atomic(views.ApplyView.as_view()), name="apply"),
    path("jobs/thanks/", TemplateView.as_view(template_name="pages/thanks.html"), name="thanks"),
]
