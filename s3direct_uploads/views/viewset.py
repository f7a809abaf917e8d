"""The viewset: each action validates, calls one operation, and renders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast
from uuid import UUID

from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.exceptions import ValidationError
from django.db import router
from django.http import Http404, HttpResponseBase, HttpResponseRedirect
from django.utils.translation import gettext as _
from rest_framework import exceptions, status
from rest_framework.decorators import action
from rest_framework.generics import get_object_or_404
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.pagination import CursorPagination
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from s3direct_uploads import form_values, lifecycle
from s3direct_uploads.destinations import format_size, takes_visitors
from s3direct_uploads.models import Upload, UploadQuerySet, owner_key
from s3direct_uploads.s3 import PresignedMultipart, PresignedRequest
from s3direct_uploads.serializers import (
    BeginBatchSerializer,
    BeginSerializer,
    ConfirmBatchSerializer,
    DownloadQuerySerializer,
    DownloadUrlSerializer,
    ListQuerySerializer,
    PartNumbersSerializer,
    SignedPartsSerializer,
    StoredPartSerializer,
    UploadSerializer,
)

from .errors import handle_exception
from .parsing import (
    MAX_BATCH_BODY_BYTES,
    MAX_BODY_BYTES,
    MAX_EMPTY_BODY_BYTES,
    MAX_QUERY_BYTES,
    PlainJSONParser,
    RequestTooLarge,
)

UPLOAD_TOKEN = "Upload-Token"  # noqa: S105  # the header with the form_value of a visitor's upload


class AlwaysJSON(DefaultContentNegotiation):
    """Always answer JSON. An <img> asks for image/*, and must still get its redirect."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type


class NewestFirst(CursorPagination):
    ordering = "-id"
    page_size = 50
    page_size_query_param = None


class IsOwnerOrVisitor(IsAuthenticated):
    """A user who is logged in. And a visitor, if a destination has ANONYMOUS.

    A visitor may begin an upload, and name one upload together with a token. The viewset then
    checks the destination and the token.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if super().has_permission(request, view):
            return True
        is_visitors = view.action == "create" or (
            "pk" in view.kwargs and UPLOAD_TOKEN in request.headers
        )
        # If a host's get_owner() knows an owner without a login, this request is no visitor's.
        return is_visitors and takes_visitors() and view.find_owner() is None


class UploadViewSet(GenericViewSet[Upload]):
    """The uploads of the request's user, and of visitors where a destination has ANONYMOUS.

    Subclass it, or use REST Framework's settings, for authentication and throttling.
    """

    # These do not depend on the host's REST_FRAMEWORK settings.
    permission_classes = [IsOwnerOrVisitor]
    parser_classes = [PlainJSONParser]
    renderer_classes = [JSONRenderer]
    content_negotiation_class = AlwaysJSON
    pagination_class = NewestFirst
    filter_backends = []
    versioning_class = None
    metadata_class = None
    serializer_class = UploadSerializer
    lookup_value_regex = "[^/]+"  # any text, so that the 404 for a wrong id has our shape
    # In bytes by action. Other actions have MAX_BODY_BYTES; a subclass may add its own.
    body_limits: ClassVar[Mapping[str, int]] = {
        "confirm": MAX_EMPTY_BODY_BYTES,
        "renew": MAX_EMPTY_BODY_BYTES,
        "begin_batch": MAX_BATCH_BODY_BYTES,
    }

    @classmethod
    def as_view(cls, *args: Any, **kwargs: Any) -> Callable[..., HttpResponseBase]:  # type: ignore[override]
        # Otherwise ATOMIC_REQUESTS would roll back a rejection, because its answer is an error.
        return lifecycle.never_atomic(super().as_view(*args, **kwargs))

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if len(request.META.get("QUERY_STRING", "")) > MAX_QUERY_BYTES:
            most = {"size": format_size(MAX_QUERY_BYTES)}
            raise RequestTooLarge(_("This query is too long: at most %(size)s.") % most)
        super().initial(request, *args, **kwargs)

    def max_body_bytes(self) -> int:
        return self.body_limits.get(self.action or "", MAX_BODY_BYTES)

    # The kwargs are there because a host's URL may have more parameters, such as ".json".

    def create(self, request: Request, **kwargs: Any) -> Response:
        owner = self.find_owner()
        if owner is None and not is_for_visitors(request.data):
            raise exceptions.NotAuthenticated
        declaration = BeginSerializer(data=request.data).declaration()
        upload, presigned = lifecycle.begin(
            owner=owner,
            visitor=owner is None,
            request=request,
            idempotency_key=idempotency_key(request),
            **declaration,
        )
        return self.render(upload, presigned, status=status.HTTP_201_CREATED)

    def list(self, request: Request, **kwargs: Any) -> Response:
        query = ListQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        page = self.paginate_queryset(self.get_queryset().filter(**query.validated_data))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Request, pk: str, **kwargs: Any) -> Response:
        return self.render(self.get_object())

    def destroy(self, request: Request, pk: str, **kwargs: Any) -> Response:
        lifecycle.cancel(self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @action(detail=True, methods=["post"])
    def confirm(self, request: Request, pk: str, **kwargs: Any) -> Response:
        upload = lifecycle.confirm(self.get_object())
        settled = upload.status == Upload.Status.COMPLETED
        return self.render(upload, status=200 if settled else status.HTTP_202_ACCEPTED)

    @action(detail=False, methods=["post"], url_path="batch", url_name="batch")
    def begin_batch(self, request: Request, **kwargs: Any) -> Response:
        owner = self.get_owner()
        asked = BeginBatchSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        begun = lifecycle.begin_many(
            asked.validated_data["uploads"],
            owner=owner,
            request=request,
            idempotency_key=idempotency_key(request),
        )
        return self.render_batch(begun)

    @action(detail=False, methods=["post"], url_path="batch/confirm", url_name="batch-confirm")
    def confirm_batch(self, request: Request, **kwargs: Any) -> Response:
        asked = ConfirmBatchSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        found = self.get_objects(asked.validated_data["ids"])
        mine = {each.pk: each for each in found if isinstance(each, Upload)}
        confirmed = lifecycle.confirm_many(mine.values())
        return self.render_batch(
            [confirmed[each.pk] if isinstance(each, Upload) else each for each in found]
        )

    @action(detail=True, methods=["post"])
    def renew(self, request: Request, pk: str, **kwargs: Any) -> Response:
        upload = self.get_object()
        return self.render(upload, lifecycle.renew(upload))

    @action(detail=True, methods=["get"], pagination_class=None)
    def parts(self, request: Request, pk: str, **kwargs: Any) -> Response:
        stored = lifecycle.list_parts(self.get_object())
        return Response(StoredPartSerializer(stored, many=True).data)

    @parts.mapping.post
    def sign_parts(self, request: Request, pk: str, **kwargs: Any) -> Response:
        asked = PartNumbersSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        signed, expires = lifecycle.sign_parts(
            self.get_object(), asked.validated_data["part_numbers"]
        )
        answer = {"parts": signed, "expires_in": int(expires.total_seconds())}
        return Response(SignedPartsSerializer(answer).data)

    @action(detail=True, methods=["get"])
    def url(self, request: Request, pk: str, **kwargs: Any) -> Response:
        return Response(DownloadUrlSerializer(self.presign_download()).data)

    @action(detail=True, methods=["get"])
    def download(self, request: Request, pk: str, **kwargs: Any) -> HttpResponseBase:
        return HttpResponseRedirect(self.presign_download().url)

    def get_owner(self) -> Any:
        """The saved user who owns these uploads. Override it if that is not ``request.user``.

        Raises NotAuthenticated if nobody is signed in, also for a visitor; and OwnerUnknown if the
        user is not a saved row of AUTH_USER_MODEL.
        """
        user: Any = self.request.user
        if not getattr(user, "is_authenticated", False):
            raise exceptions.NotAuthenticated
        owner_key(user)
        return user

    def find_owner(self) -> Any:
        """The owner; None for a visitor. Raises NotAuthenticated if no destination takes any."""
        try:
            return self.get_owner()
        except exceptions.NotAuthenticated:
            if takes_visitors():
                return None
            raise

    def get_queryset(self) -> UploadQuerySet:
        return Upload.objects.owned_by(self.get_owner()).newest_first()

    def get_object(self) -> Upload:
        # From the primary, so that it is up to date. The upload of another owner is not found.
        id, token = self.kwargs["pk"], self.request.headers.get(UPLOAD_TOKEN)
        if token is not None and str(form_values.visitors_id_in(token)) == id:
            uploads = Upload.objects.opened_by(token)
        elif token is not None and self.find_owner() is None:
            raise Http404
        else:
            uploads = self.get_queryset()
        primary = uploads.using(router.db_for_write(Upload))
        upload: Upload = get_object_or_404(primary, pk=id)
        self.check_object_permissions(self.request, upload)
        return upload

    def get_objects(self, ids: Sequence[str]) -> Sequence[Upload | Exception]:
        """As ``get_object`` for each of these ids: the upload or the error. One query."""
        mine = self.get_queryset().using(router.db_for_write(Upload))
        pks = [as_pk(id) for id in ids]
        rows = {upload.pk: upload for upload in mine.filter(pk__in={pk for pk in pks if pk})}
        found: dict[UUID | None, Upload | Exception] = {}
        for upload in rows.values():
            try:
                self.check_object_permissions(self.request, upload)
                found[upload.pk] = upload
            except (exceptions.APIException, DjangoPermissionDenied, Http404) as error:
                found[upload.pk] = error
        return [found.get(pk, Http404()) for pk in pks]

    def presign_download(self) -> PresignedRequest:
        query = DownloadQuerySerializer(data=self.request.query_params)
        query.is_valid(raise_exception=True)
        inline = query.validated_data["disposition"] == "inline"
        return lifecycle.presign_download(self.get_object(), inline=inline)

    def render(
        self,
        upload: Upload,
        presigned: PresignedRequest | PresignedMultipart | None = None,
        status: int = 200,
    ) -> Response:
        context = {**self.get_serializer_context(), "presigned": presigned}
        rendered = self.get_serializer_class()(upload, context=context)
        return Response(rendered.data, status=status)

    def render_batch(self, results: Sequence[lifecycle.Begun | Upload | Exception]) -> Response:
        """The answer to each of many calls, with the status that it would have alone."""
        serializer = self.get_serializer_class()(context=self.get_serializer_context())
        return Response({"results": [self.render_result(serializer, each) for each in results]})

    def render_result(
        self, serializer: Any, result: lifecycle.Begun | Upload | Exception
    ) -> dict[str, Any]:
        if isinstance(result, Exception):
            answer = self.get_exception_handler()(result, self.get_exception_handler_context())
            if answer is None:
                raise result
            return {"status": answer.status_code, "upload": None, "error": answer.data}
        begun, upload = isinstance(result, tuple), result
        if isinstance(upload, tuple):
            upload, serializer.context["presigned"] = upload
        settled = upload.status == Upload.Status.COMPLETED
        code = 201 if begun else 200 if settled else status.HTTP_202_ACCEPTED
        return {"status": code, "upload": serializer.to_representation(upload), "error": None}

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        response["Cache-Control"] = "no-store"  # a signature is as secret as a password
        return response

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        return handle_exception


def is_for_visitors(declaration: Any) -> bool:
    """Whether the destination that is named there has ANONYMOUS. It is not validated yet."""
    return isinstance(declaration, Mapping) and takes_visitors(str(declaration.get("destination")))


def idempotency_key(request: Request) -> str | None:
    """The header Idempotency-Key; None if there is none. Raises ValidationError."""
    key = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if key is not None and not (0 < len(key) <= 64 and key.isascii() and key.isprintable()):
        error = ValidationError(_("Send 1 to 64 printable ASCII characters."), code="invalid")
        raise ValidationError({"Idempotency-Key": error})
    return key


def as_pk(id: str) -> UUID | None:
    """The primary key that this text is; None if it is none."""
    try:
        return cast("UUID", Upload._meta.pk.to_python(id))
    except ValidationError:
        return None
