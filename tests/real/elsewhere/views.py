"""Logins of the host's own: a token that soon expires; and the documented view for CSRF tokens."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core import signing
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from tests.real.elsewhere import documented

SALT = "elsewhere.token"
TOKEN_LIFE = 3  # seconds
exec(documented.VIEWS)  # csrf_token


@csrf_exempt
@require_POST
def token(request: HttpRequest) -> JsonResponse:
    user = authenticate(request, **json.loads(request.body))
    if user is None:
        return JsonResponse({}, status=401)
    access = signing.dumps(user.pk, salt=SALT)
    return JsonResponse({"access": access, "expires_in": TOKEN_LIFE})


class BearerAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[User, Any] | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            return None
        try:
            pk = signing.loads(token, salt=SALT, max_age=TOKEN_LIFE)
        except signing.BadSignature as error:
            raise AuthenticationFailed("This token is not valid, or not any more.") from error
        return User.objects.get(pk=pk), None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
