from typing import Any

from django.contrib.auth.mixins import LoginRequiredMixin
from django.db.models import QuerySet
from django.http import HttpResponse
from django.urls import reverse_lazy
from django.views.generic import CreateView, DeleteView

from example_project.pages.forms import AlbumForm
from example_project.pages.models import Album, Application, Document, Picture

# The URLs wrap each view that saves a form in a transaction: a form that is sent twice at once
# then shows an error the second time, and saves nothing.


class AlbumsView(LoginRequiredMixin, CreateView):  # type: ignore[type-arg]
    form_class = AlbumForm
    template_name = "pages/albums.html"
    success_url = reverse_lazy("albums")

    def form_valid(self, form: Any) -> HttpResponse:
        form.instance.owner_id = self.request.user.pk
        answer = super().form_valid(form)
        for upload in form.cleaned_data["photos"]:
            Picture.objects.create(album=form.instance, image=upload, filename=upload.filename)
        return answer

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        albums = Album.objects.filter(owner=self.request.user.pk).prefetch_related("pictures")
        return super().get_context_data(albums=albums[:50], **kwargs)


class DocumentsView(LoginRequiredMixin, CreateView):  # type: ignore[type-arg]
    model = Document
    fields = ["title", "file"]
    template_name = "pages/documents.html"
    success_url = reverse_lazy("documents")

    def form_valid(self, form: Any) -> HttpResponse:
        form.instance.owner_id = self.request.user.pk
        return super().form_valid(form)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        documents = Document.objects.filter(owner=self.request.user.pk)
        return super().get_context_data(documents=documents[:50], **kwargs)


class DeleteDocumentView(LoginRequiredMixin, DeleteView):  # type: ignore[type-arg]
    """Asks first. The file is deleted with its row."""

    template_name = "pages/delete_document.html"
    success_url = reverse_lazy("documents")

    def get_queryset(self) -> QuerySet[Document]:
        return Document.objects.filter(owner=self.request.user.pk)


class ApplyView(CreateView):  # type: ignore[type-arg]
    """For visitors: nobody needs a login here."""

    model = Application
    fields = ["name", "email", "cv"]
    template_name = "pages/apply.html"
    success_url = reverse_lazy("thanks")
