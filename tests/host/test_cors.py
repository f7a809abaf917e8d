"""Pages on another origin: what django-cors-headers must allow them is a system check."""

from __future__ import annotations

from typing import Any

import pytest
from corsheaders.defaults import default_headers, default_methods
from django.contrib.auth.models import User
from django.test import Client

from s3direct_uploads.models import Upload
from tests.host.conftest import Find, assert_found

HEADERS = [*default_headers, "idempotency-key"]
PAGE = "https://app.example.com"
SESSION = "rest_framework.authentication.SessionAuthentication"


@pytest.fixture
def cors(settings: Any) -> Any:
    """A host with django-cors-headers, and with nothing forgotten."""
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "corsheaders"]
    settings.CORS_ALLOWED_ORIGINS = [PAGE]
    settings.CORS_ALLOW_HEADERS = HEADERS
    settings.CORS_ALLOW_CREDENTIALS = True
    settings.CSRF_TRUSTED_ORIGINS = [PAGE]
    return settings


def test_a_host_that_allows_what_is_needed_is_warned_of_nothing(find: Find, cors: Any) -> None:
    assert find() == []


def test_a_host_without_django_cors_headers_is_warned_of_nothing(
    find: Find, cors: Any, settings: Any
) -> None:
    settings.INSTALLED_APPS = [each for each in cors.INSTALLED_APPS if each != "corsheaders"]
    del settings.CORS_ALLOW_HEADERS
    settings.CSRF_TRUSTED_ORIGINS = []
    assert find() == []


def test_the_defaults_of_django_cors_headers_are_not_enough(find: Find, cors: Any) -> None:
    del cors.CORS_ALLOW_HEADERS
    found = find()
    assert_found(found, "W110")
    assert "idempotency-key" in found[0].msg
    assert '[*default_headers, "idempotency-key"]' in (found[0].hint or "")


@pytest.mark.parametrize(
    ("headers", "credentials", "missing"),
    [
        pytest.param([], False, "content-type, idempotency-key", id="none"),
        pytest.param(["idempotency-key"], False, "content-type", id="no content type"),
        pytest.param(["Content-Type"], False, "idempotency-key", id="no key"),
        pytest.param(["Content-Type", "IDEMPOTENCY-KEY"], False, "", id="in capitals"),
        pytest.param(("*",), False, "", id="a star"),
        # With cookies, a browser takes the star for the name of a header.
        pytest.param(["*"], True, "content-type, idempotency-key", id="a star, and cookies"),
        pytest.param("idempotency-key", False, "content-type, idempotency-key", id="text"),
    ],
)
def test_a_header_that_upload_js_sends_must_be_allowed(
    find: Find, cors: Any, headers: Any, credentials: bool, missing: str
) -> None:
    cors.CORS_ALLOW_HEADERS, cors.CORS_ALLOW_CREDENTIALS = headers, credentials
    found = find()
    if not missing:
        assert found == []
        return
    assert_found(found, "W110")
    assert f" not have {missing}." in found[0].msg


@pytest.mark.parametrize("wrong", [None, 7, [7], [None, "idempotency-key"]])
def test_a_setting_of_the_wrong_kind_is_for_django_cors_headers_to_report(
    find: Find, cors: Any, wrong: Any
) -> None:
    cors.CORS_ALLOW_HEADERS = cors.CORS_ALLOW_METHODS = cors.CORS_ALLOWED_ORIGINS = wrong
    assert find() == []


@pytest.mark.parametrize(
    ("trusted", "page", "is_trusted"),
    [
        ([], PAGE, False),
        (["https://other.example.com"], PAGE, False),
        (["http://app.example.com"], PAGE, False),
        (["https://app.example.com:8443"], PAGE, False),
        (["https://*.example.com"], PAGE, True),
        (["https://*.example.com"], "https://app.example.com.evil.test", False),
        (["http://*.example.com"], PAGE, False),
        ([PAGE, "https://other.example.com"], PAGE, True),
        ([], "null", True),  # Django cannot trust it, so that there is nothing to write
    ],
)
def test_a_page_that_logs_in_by_a_session_must_be_trusted(
    find: Find, cors: Any, trusted: list[str], page: str, is_trusted: bool
) -> None:
    cors.CSRF_TRUSTED_ORIGINS, cors.CORS_ALLOWED_ORIGINS = trusted, [page]
    found = find()
    if is_trusted:
        assert found == []
        return
    assert_found(found, "W111")
    assert page in found[0].msg


def test_a_page_that_is_not_trusted_is_refused_by_django(db: None, settings: Any) -> None:
    """What W111 warns of."""
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(User.objects.create_user("alice"))
    browser.cookies["csrftoken"] = token = "t" * 32
    declared = {"destination": "photos", "filename": "beach.jpg", "size": 5}

    def begin() -> Any:
        headers = {"Origin": PAGE, "X-CSRFToken": token, "Content-Type": "application/json"}
        return browser.post("/api/uploads/", declared, "application/json", headers=headers)

    settings.CSRF_TRUSTED_ORIGINS = []
    refused = begin()
    assert refused.status_code == 403
    assert "Origin checking failed" in refused.json()["detail"]
    assert not Upload.objects.exists()
    settings.CSRF_TRUSTED_ORIGINS = [PAGE]
    assert begin().status_code == 201
    assert Upload.objects.get().status == "pending"


def test_every_page_that_is_not_trusted_is_named(find: Find, cors: Any) -> None:
    cors.CORS_ALLOWED_ORIGINS = ["https://b.example.com", PAGE, "https://a.example.com"]
    found = find()
    assert_found(found, "W111")
    assert "https://a.example.com, https://b.example.com" in found[0].msg
    assert PAGE not in found[0].msg


@pytest.mark.parametrize(
    ("classes", "is_warned"),
    [
        (None, True),  # REST Framework's default has the session
        ([SESSION], True),
        (["rest_framework_simplejwt.authentication.JWTAuthentication", SESSION], True),
        (["rest_framework_simplejwt.authentication.JWTAuthentication"], False),
        ([], False),
    ],
)
def test_csrf_is_no_matter_for_a_host_without_sessions(
    find: Find, cors: Any, classes: list[str] | None, is_warned: bool
) -> None:
    """A token is often refreshed by a cookie. Then REST Framework asks for no CSRF token."""
    cors.CSRF_TRUSTED_ORIGINS = []
    cors.REST_FRAMEWORK = {} if classes is None else {"DEFAULT_AUTHENTICATION_CLASSES": classes}
    assert [each.id for each in find()] == (["s3direct_uploads.W111"] if is_warned else [])


def test_csrf_is_no_matter_for_a_page_without_cookies(find: Find, cors: Any) -> None:
    cors.CSRF_TRUSTED_ORIGINS = []
    del cors.CORS_ALLOW_CREDENTIALS
    assert find() == []


@pytest.mark.parametrize(
    ("methods", "credentials", "is_warned"),
    [
        (default_methods, True, False),
        (["DELETE"], True, False),  # a browser asks leave for no GET or POST
        (["GET", "POST"], True, True),
        (["delete"], True, True),  # methods have capitals
        (["*"], False, False),
        (["*"], True, True),
    ],
)
def test_a_page_must_be_allowed_to_cancel(
    find: Find, cors: Any, methods: Any, credentials: bool, is_warned: bool
) -> None:
    cors.CORS_ALLOW_METHODS, cors.CORS_ALLOW_CREDENTIALS = methods, credentials
    assert [each.id for each in find()] == (["s3direct_uploads.W112"] if is_warned else [])
