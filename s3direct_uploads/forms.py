"""``UploadField``: a form field. The browser sends the file straight to S3, not to Django.

    class PhotoForm(forms.Form):
        image = UploadField(destination="photos")

``form.cleaned_data["image"]`` is an ``Upload``; ``upload.attach()`` claims it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from django import forms
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import router
from django.forms.widgets import FILE_INPUT_CONTRADICTION, CheckboxInput, Script
from django.urls import NoReverseMatch, reverse
from django.utils.datastructures import MultiValueDict
from django.utils.translation import gettext_lazy as _

from . import destinations, form_values, lifecycle
from .models import Upload

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

MAX_FILES = 100  # the default of ``max_files``; each posted file is a row to look up
MAX_TOLD = 20  # how many errors one field shows


class Contradiction(list[str]):
    """The posted values, if the user chose a file and also checked "Clear"."""


class Shown(NamedTuple):
    """What the widget renders: the file that is there already, and the uploads that were posted."""

    current: Any
    kept: Sequence[Upload] = ()


class UploadWidget(forms.ClearableFileInput):
    """The element ``<s3-upload>``. Without JavaScript the user can only see and clear the file."""

    template_name = "s3direct_uploads/upload_widget.html"
    needs_multipart_form = False
    # UploadField sets these.
    destination = ""
    endpoint: _StrOrPromise | None = None
    multiple = False
    max_files = MAX_FILES
    # Values that an earlier field of the same page posted too. Only one field can claim an upload.
    repeated: Collection[str] = ()

    @property
    def media(self) -> forms.Media:
        return forms.Media(
            css={"all": ["s3direct_uploads/element.css"]},
            js=[Script("s3direct_uploads/element.js", type="module")],  # type: ignore[list-item]
        )

    def value_from_datadict(
        self, data: Mapping[str, Any], files: MultiValueDict[str, Any], name: str
    ) -> Any:
        """None if nothing was posted, False to clear. Otherwise a value, or a list of values."""
        checkbox = self.clear_checkbox_name(name)
        self.checked = checkbox in data
        values = [each for each in _values(data, name) if each not in ("", None)]
        self.repeated = _posted_before(name, data, values)
        if not self.is_required and CheckboxInput().value_from_datadict(data, files, checkbox):
            return Contradiction(values) if values else False
        if not values:
            return None
        return values if self.multiple or len(values) > 1 else values[0]

    def value_omitted_from_data(
        self, data: Mapping[str, Any], files: MultiValueDict[str, Any], name: str
    ) -> bool:
        return name not in data and self.clear_checkbox_name(name) not in data

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        shown = value if isinstance(value, Shown) else Shown(value)
        context = super().get_context(name, None, attrs)
        widget = context["widget"]
        current = list(_described(shown.current))
        attrs = widget["attrs"]
        widget.update(
            is_initial=bool(current),
            current=current,
            kept=[
                {
                    "value": each.form_value,
                    "filename": each.filename,
                    "size": each.size,
                    "human_size": destinations.format_size(each.size),
                    "status": each.status,
                    "visitor": each.visitor,
                }
                for each in shown.kept
            ],
            destination=self.destination,
            endpoint=self._endpoint(),
            multiple=self.multiple,
            max_files=self.max_files,
            must_choose=bool(attrs.pop("required", False)),
            # element.js enables the file input. It has no name, so the browser never posts it.
            attrs={key: each for key, each in attrs.items() if key not in ("checked", "disabled")},
            checked=bool(attrs.get("checked")),
            disabled=bool(attrs.get("disabled")),
            without_javascript=_("Turn on JavaScript to add a file here."),
            **self._rules(),
            **_csrf(),
        )
        return context

    def _rules(self) -> dict[str, Any]:
        rules = destinations.find(self.destination)
        if rules is None:
            raise ImproperlyConfigured(
                f"An UploadField has the destination {self.destination!r}, which is not in "
                "S3DIRECT_UPLOADS['DESTINATIONS']. Write one of the destinations there."
            )
        types = list(rules.content_types)
        return {
            "accept": "" if "*/*" in types else ",".join(types),
            "max_size": rules.max_size,
            "checksum": "CRC32" if rules.require_checksum else "",
        }

    def _endpoint(self) -> str:
        if self.endpoint is not None:
            return str(self.endpoint)
        try:
            return reverse("s3direct_uploads:upload-list")
        except NoReverseMatch:
            raise ImproperlyConfigured(
                "An UploadField does not know where the uploads are. Write "
                'path("api/uploads/", include("s3direct_uploads.urls")) in your URLs, or '
                'UploadField(endpoint="/api/uploads/", …) if you mount the viewset yourself.'
            ) from None


class UploadField(forms.FileField):
    """A completed upload to ``destination`` that no model uses yet. With ``multiple``, a list.

    It follows Django's FileField. ``clean`` returns the ``Upload``; the initial value if nothing
    was chosen; False if the file was cleared. ``endpoint`` is the URL of the uploads. It is needed
    only where ``s3direct_uploads.urls`` are not mounted. ``max_files`` is for ``multiple``.

    The browser posts the upload's ``form_value``, which only its owner knows, or the visitor who
    began it. Every refusal is a ValidationError. Its code is ``invalid``, ``does_not_exist`` (also
    for another's), ``one_only``, ``too_many``, ``wrong_destination``, ``already_attached``,
    ``repeated`` (two fields of the page have it), or the upload's status: ``pending``,
    ``verifying``, ``rejected``, ``expired``, ``cancelled``, ``deleted``.

    In a transaction (a view under ``atomic()`` or ATOMIC_REQUESTS, and the admin) ``clean`` locks
    the uploads. A form that is posted twice at once is then an error of the second one.

    Rendering raises ImproperlyConfigured if there is no such destination, or no endpoint.
    """

    widget = UploadWidget
    default_error_messages: ClassVar[dict[str, _StrOrPromise]] = {
        "invalid": _("This is not an uploaded file. Choose the file again."),
        "does_not_exist": _("This upload is not known. Choose the file again."),
        "one_only": _("Choose one file only."),
        "too_many": _("Choose at most %(max_files)d files."),
        "wrong_destination": _("“%(filename)s” was uploaded for another purpose. Choose it again."),
        "already_attached": _("“%(filename)s” has been saved already. Choose the file again."),
        "repeated": _("“%(filename)s” is in this form twice. Choose the file again."),
        "pending": _("“%(filename)s” has not arrived completely. Choose the file again."),
        "verifying": _("“%(filename)s” is still being checked. Try again in a moment."),
        "rejected": _("“%(filename)s” was refused. Choose another file."),
        "expired": _("“%(filename)s” did not arrive in time. Choose the file again."),
        "cancelled": _("“%(filename)s” was cancelled. Choose the file again."),
        "deleted": _("“%(filename)s” was deleted. Choose the file again."),
    }

    def __init__(
        self,
        *,
        destination: str,
        multiple: bool = False,
        endpoint: _StrOrPromise | None = None,
        max_files: int = MAX_FILES,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.multiple = multiple
        self.max_files = max_files
        # The valid uploads of the last ``clean``. They are shown again if the form has an error.
        self._kept: list[Upload] = []
        for name in ("destination", "multiple", "max_files"):
            setattr(self.widget, name, getattr(self, name))
        self.widget.endpoint = endpoint

    def clean(self, data: Any, initial: Any = None) -> Any:
        self._kept = []
        if self.disabled:
            return initial
        if isinstance(data, Contradiction):
            self._look_up(data)
            data = FILE_INPUT_CONTRADICTION
        return super().clean(data, initial)

    def to_python(self, data: Any) -> Any:
        if data in self.empty_values:
            return None
        if isinstance(data, list) and not self.multiple:
            raise ValidationError(self.error_messages["one_only"], code="one_only")
        uploads = self._look_up(data if isinstance(data, list) else [data])
        return uploads if self.multiple else uploads[0]

    def bound_data(self, data: Any, initial: Any) -> Any:
        return initial if self.disabled else Shown(initial, self._kept)

    def _look_up(self, values: list[Any]) -> list[Upload]:
        """The uploads of these values, without repetitions. Raises ValidationError."""
        if len(values) > self.max_files:
            raise ValidationError(
                self.error_messages["too_many"],
                code="too_many",
                params={"max_files": self.max_files},
            )
        if not all(isinstance(each, str) for each in values):
            raise self._refusal("invalid")
        known = _known(values)
        self._kept = []
        errors: dict[tuple[str, str], ValidationError] = {}
        for value in dict.fromkeys(values):
            upload = known.get(value)
            if code := self._why_not(value, upload):
                filename = upload.filename if upload else ""
                errors[code, filename] = self._refusal(code, filename)
            if upload and code in ("", Upload.Status.VERIFYING):
                self._kept.append(upload)
        if errors:
            raise ValidationError(list(errors.values())[:MAX_TOLD])
        return list(self._kept)

    def _why_not(self, value: str, upload: Upload | None) -> str:
        """The code of the error; "" if there is none."""
        if upload is None:
            return "does_not_exist" if form_values.id_in(value) else "invalid"
        if upload.destination != self.destination or not upload.is_here:
            return "wrong_destination"
        if upload.status != Upload.Status.COMPLETED:
            return str(upload.status)
        if upload.attached_at:
            return "already_attached"
        return "repeated" if value in self.widget.repeated else ""

    def _refusal(self, code: str, filename: str = "") -> ValidationError:
        return ValidationError(self.error_messages[code], code=code, params={"filename": filename})


def _known(values: list[str]) -> dict[str, Upload]:
    """The uploads of these values, if each value proves its owner. Locked in a transaction."""
    # The primary database: a replica may not know yet that an upload was confirmed.
    uploads = Upload.objects.using(router.db_for_write(Upload))
    known = uploads.of_form_values(values)
    if not lifecycle.in_transaction():
        return known
    # Only free uploads are locked. This waits until another form that locked them has ended.
    free = {each.pk for each in known.values() if not each.attached_at}
    locked = uploads.filter(pk__in=free).order_by("pk").select_for_update()
    now = {each.pk: each for each in locked}
    return {value: now.get(each.pk, each) for value, each in known.items()}


def _posted_before(name: str, data: Mapping[str, Any], values: list[Any]) -> set[str]:
    wanted = {each for each in values if isinstance(each, str)}
    found: set[str] = set()
    for other in data if wanted else ():
        if other == name:
            break
        found.update(each for each in _values(data, other) if each in wanted)
    return found


def _values(data: Mapping[str, Any], name: str) -> Iterable[Any]:
    if isinstance(data, MultiValueDict):
        return data.getlist(name)
    value = data.get(name)  # a plain dict, in tests
    return value if isinstance(value, list | tuple) else [value]


def _described(current: Any) -> Iterable[dict[str, Any]]:
    """The files that the form has already: a FieldFile, an Upload, or several of them."""
    for each in current if isinstance(current, list | tuple) else [current]:
        if isinstance(each, Upload):
            yield {"name": each.filename, "url": "", "size": destinations.format_size(each.size)}
        # As in Django. A text may be from the query of a link: /admin/…/add/?image=a+text
        elif each and (url := getattr(each, "url", "")):
            yield {"name": str(each).rpartition("/")[2], "url": url, "size": ""}


def _csrf() -> dict[str, str]:
    """The names of Django's CSRF cookie and header, which the project's settings may change."""
    in_session = settings.CSRF_USE_SESSIONS or settings.CSRF_COOKIE_HTTPONLY
    header = settings.CSRF_HEADER_NAME.removeprefix("HTTP_").replace("_", "-")
    return {
        "csrf_cookie": "" if in_session else settings.CSRF_COOKIE_NAME,
        "csrf_header": header,
    }
