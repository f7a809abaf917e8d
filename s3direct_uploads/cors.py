"""System checks for pages on another origin: what django-cors-headers must allow them.

Each mistake is a warning, because pages on the site's own origin work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Warning
from django.utils.http import is_same_domain

from .destinations import takes_visitors

# Of a request to Django, those for which a browser needs leave from every host. A CSRF token or an
# Authorization are the host's own matter, and the defaults of django-cors-headers have them.
HEADERS = ("content-type", "idempotency-key")
VISITORS_HEADERS = ("upload-token",)


def check_cors(**kwargs: Any) -> list[CheckMessage]:
    return list(_problems()) if apps.is_installed("corsheaders") else []


def _problems() -> Iterator[CheckMessage]:
    from corsheaders.conf import conf  # it knows its defaults, and its settings' earlier names

    cookies = conf.CORS_ALLOW_CREDENTIALS is True
    headers = _texts(conf.CORS_ALLOW_HEADERS)
    allowed = [each.lower() for each in headers or ()]
    needed = (*HEADERS, *(VISITORS_HEADERS if takes_visitors() else ()))
    missing = [each for each in needed if each not in allowed]
    if headers is not None and missing and (cookies or "*" not in allowed):
        yield Warning(
            "upload.js cannot upload from a page on another origin: CORS_ALLOW_HEADERS does not "
            f"have {', '.join(missing)}.",
            hint=f"Write CORS_ALLOW_HEADERS = [*default_headers, {_quoted(needed[1:])}], with "
            "default_headers from corsheaders.defaults.",
            id="s3direct_uploads.W110",
        )
    methods = _texts(conf.CORS_ALLOW_METHODS)
    if methods is not None and "DELETE" not in methods and (cookies or "*" not in methods):
        yield Warning(
            "A page on another origin cannot cancel an upload: CORS_ALLOW_METHODS does not have "
            "DELETE.",
            hint="Add 'DELETE', or leave CORS_ALLOW_METHODS out.",
            id="s3direct_uploads.W112",
        )
    pages = _texts(conf.CORS_ALLOWED_ORIGINS) or ()
    strangers = sorted(each for each in pages if each.startswith("http") and not _is_trusted(each))
    if cookies and strangers and _has_sessions():
        yield Warning(
            f"Pages at {', '.join(strangers)} may send cookies, but every upload of a user who is "
            "logged in by a session is refused there: CSRF_TRUSTED_ORIGINS does not have them.",
            hint="Add them to CSRF_TRUSTED_ORIGINS; or silence this warning if these pages log in "
            "by a token.",
            id="s3direct_uploads.W111",
        )


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{each}"' for each in names)


def _texts(value: Any) -> Sequence[str] | None:
    """None if it is something else: a check of django-cors-headers reports it."""
    is_right = isinstance(value, Sequence) and all(isinstance(each, str) for each in value)
    return value if is_right else None


def _is_trusted(page: str) -> bool:
    """As Django's CsrfViewMiddleware compares an Origin."""
    scheme, _, host = page.partition("://")
    for origin in settings.CSRF_TRUSTED_ORIGINS:
        its_scheme, _, its_host = origin.partition("://")
        is_below = "*" in its_host and is_same_domain(host, its_host.lstrip("*"))
        if scheme == its_scheme and (host == its_host or is_below):
            return True
    return False


def _has_sessions() -> bool:
    """Whether REST Framework logs users in by a session, which is its default."""
    classes = (getattr(settings, "REST_FRAMEWORK", None) or {}).get(
        "DEFAULT_AUTHENTICATION_CLASSES", ["SessionAuthentication"]
    )
    return any(str(each).endswith("SessionAuthentication") for each in classes)
