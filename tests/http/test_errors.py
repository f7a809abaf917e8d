"""Every error has one shape, the host's own included."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, ErrorDetail

from s3direct_uploads.views import UploadViewSet
from tests.conftest import App, assert_error


def test_an_error_says_what_would_be_right(alice: App) -> None:
    body = alice.begin(size=21 * 1024**2, content_type="text/plain").json()
    assert body == {
        "code": "invalid",
        "detail": "content_type: Not text/plain; allowed: image/*.",
        "errors": [
            {
                "field": "content_type",
                "code": "not_allowed",
                "detail": "Not text/plain; allowed: image/*.",
                "params": {"content_types": ["image/*"]},
            },
            {
                "field": "size",
                "code": "too_large",
                "detail": "At most 20 MB.",
                "params": {"max_size": 20 * 1024**2},
            },
        ],
    }


def test_throttling_is_the_hosts_and_says_when_to_come_back(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rest_framework.throttling import UserRateThrottle

    class OnceAMinute(UserRateThrottle):
        scope = "once_a_minute"  # the cache outlives a test, so other tests must not count here
        rate = "1/min"

    monkeypatch.setattr(UploadViewSet, "throttle_classes", [OnceAMinute])
    assert alice.begin().status_code == 201
    answer = alice.begin()
    assert 1 <= assert_error(answer, 429, "throttled")["retry_after"] <= 60
    assert answer["Retry-After"] == str(answer.json()["retry_after"])


def test_a_bug_of_ours_is_not_hidden(alice: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s3direct_uploads.lifecycle.begin", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        alice.begin()


def test_a_tokens_own_error_keeps_the_one_shape(
    alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    class InvalidToken(AuthenticationFailed):
        """As rest_framework_simplejwt raises it."""

        def __init__(self) -> None:
            self.detail = {
                "detail": ErrorDetail("Token is invalid", code="token_not_valid"),
                "code": ErrorDetail("token_not_valid", code="token_not_valid"),
            }

    class Bearer(BaseAuthentication):
        def authenticate(self, request: Any) -> None:
            raise InvalidToken

        def authenticate_header(self, request: Any) -> str:
            return "Bearer"

    monkeypatch.setattr(UploadViewSet, "authentication_classes", [Bearer])
    answer = alice.begin()
    assert assert_error(answer, 401, "token_not_valid")["detail"] == "Token is invalid"
    assert answer["WWW-Authenticate"] == "Bearer"
