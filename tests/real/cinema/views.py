from collections.abc import Callable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import HttpRequest, HttpResponse
from django.views.generic import FormView, TemplateView

from s3direct_uploads.forms import UploadField
from tests.documents import block


def strict_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    options = settings.STORAGES["default"]["OPTIONS"]
    s3 = options["public_endpoint_url"] or options["endpoint_url"]
    shown = block(
        "docs/forms.md",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:;",
        "text",
    )
    policy = shown.replace("https://media.s3.amazonaws.com", s3).replace("\n", " ")

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        # The pages of uploads show images that are in S3.
        images = request.path.startswith("/admin/s3direct_uploads/")
        own = policy.replace("img-src 'self'", f"img-src 'self' {s3}") if images else policy
        response["Content-Security-Policy"] = own
        return response

    return middleware


class EntryForm(forms.Form):
    name = forms.CharField(max_length=20)
    email = forms.EmailField()
    stills = UploadField(destination="stills", multiple=True, max_files=5)


class EntryView(LoginRequiredMixin, FormView):  # type: ignore[type-arg]
    """A page of the host's own, with a plain form."""

    form_class = EntryForm
    template_name = "cinema/entry.html"

    def form_valid(self, form: EntryForm) -> HttpResponse:
        names = [upload.attach() for upload in form.cleaned_data["stills"]]
        return HttpResponse(f"{len(names)} stills were entered.")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        direction = "rtl" if "rtl" in self.request.GET else "ltr"
        return super().get_context_data(direction=direction, **kwargs)


class BareView(LoginRequiredMixin, TemplateView):
    """The element alone, without a form of Django's."""

    template_name = "cinema/bare.html"
