"""An owner is a saved user of this database. Anybody else gets an error, and no row is left."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.test import Client
from django.urls import include, path
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import AllowAny
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient

from s3direct_uploads import lifecycle
from s3direct_uploads.exceptions import OwnerUnknown
from s3direct_uploads.models import Upload, Usage
from s3direct_uploads.testing import completed_upload
from s3direct_uploads.views import UploadViewSet
from tests.conftest import JPEG, ROOT, URL, App, Bucket, row
from tests.host_app import PhotoSerializer

CASES = "tests/projects/accounts/cases.py"
PHOTO = {"destination": "photos", "filename": "beach.jpg", "size": len(JPEG)}
FILM = {"destination": "films", "filename": "a.mp4", "size": 9 * 1024**2, "multipart": True}


@dataclass
class TokenUser:
    """Like simplejwt's class of this name: the claims of a token, without a row."""

    pk: Any
    is_authenticated: bool = True

    def has_perm(self, permission: str) -> bool:
        return False


# The user of a token, as a host's authentication class finds it.
TOKENS: dict[str, Any] = {}


class Bearer(BaseAuthentication):
    def authenticate(self, request: Any) -> tuple[Any, None] | None:
        _, _, token = request.headers.get("Authorization", "").partition("Bearer ")
        return (TOKENS[token], None) if token else None

    def authenticate_header(self, request: Any) -> str:
        return "Bearer"


class TokenUploads(UploadViewSet):
    authentication_classes = [Bearer]


class OpenUploads(TokenUploads):
    permission_classes = [AllowAny]


class SessionOpenUploads(UploadViewSet):
    permission_classes = [AllowAny]


class FetchedUploads(TokenUploads):
    """A host whose tokens name its own users."""

    def get_owner(self) -> Any:
        token: Any = self.request.user
        return User.objects.get(pk=token.pk)


router = SimpleRouter()
for prefix, viewset in (
    ("tokens", TokenUploads),
    ("open", OpenUploads),
    ("session", SessionOpenUploads),
    ("fetched", FetchedUploads),
):
    router.register(prefix, viewset, basename=prefix)
urlpatterns = [path("", include(router.urls)), path("", include("tests.urls"))]

pytestmark = pytest.mark.urls(__name__)

CALLS = [
    ("get", ""),
    ("post", ""),
    ("get", "{id}/"),
    ("delete", "{id}/"),
    ("post", "{id}/confirm/"),
    ("post", "{id}/renew/"),
    ("get", "{id}/parts/"),
    ("post", "{id}/parts/"),
    ("get", "{id}/url/"),
    ("get", "{id}/download/"),
]


def ask(prefix: str, method: str, path: str, *, user: Any = None, **headers: str) -> Any:
    """One call with a token for ``user``; without a user, without a token."""
    if user is not None:
        TOKENS["t"] = user
        headers["Authorization"] = "Bearer t"
    body = {**PHOTO, "part_numbers": [1]} if method == "post" else None
    call = getattr(APIClient(raise_request_exception=False), method)
    return call(f"/{prefix}/{path}", body, format="json", headers=headers)


def assert_refused(answer: Any, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    assert set(answer.json()) == {"code", "detail", "errors"}


# Somebody who is no user of this database.


@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize(
    "pk", ["no row", "somebody's", "text", "uuid", "huge", "none", "list", "nul"]
)
def test_a_stateless_user_owns_nothing(alice: App, method: str, path: str, pk: str) -> None:
    assert alice.user
    theirs = row(alice.begin())
    given = {
        "no row": alice.user.pk + 1000,
        "somebody's": alice.user.pk,  # maybe a user of another service with the same number
        "text": "auth0|5f7c8ec7c33c6c004bbafe82",
        "uuid": uuid.uuid4(),
        "huge": 2**70,
        "none": None,
        "list": [1],
        "nul": "a\0b",
    }[pk]

    answer = ask("tokens", method, path.format(id=theirs.pk), user=TokenUser(given))

    assert_refused(answer, 403, "owner_unknown")
    assert Upload.objects.get() == theirs, "no row was made, and none was changed"
    assert theirs.status == Upload.objects.get().status == "pending"


def test_another_model_with_a_users_number_is_not_that_user(alice: App) -> None:
    assert alice.user
    theirs = row(alice.begin())
    machine = SimpleNamespace(pk=alice.user.pk, is_authenticated=True)
    for method, where in CALLS:
        answer = ask("tokens", method, where.format(id=theirs.pk), user=machine)
        assert_refused(answer, 403, "owner_unknown")
    assert not Upload.objects.owned_by(machine).exists()  # type: ignore[arg-type]


@pytest.mark.parametrize("pk", [None, "x", uuid.uuid4(), 2**70, "a\0b"])
def test_a_user_who_was_never_saved_owns_nothing(db: None, pk: Any) -> None:
    user = User(pk=pk, username="ghost")
    for method, where in CALLS:
        answer = ask("tokens", method, where.format(id=uuid.uuid4()), user=user)
        assert_refused(answer, 403, "owner_unknown")
    assert not Upload.objects.exists()


def test_the_host_may_say_which_user_a_token_names(alice: App) -> None:
    assert alice.user
    token = TokenUser(str(alice.user.pk))
    begun = ask("fetched", "post", "", user=token)
    assert begun.status_code == 201
    assert row(begun).owner == alice.user
    listed = ask("fetched", "get", "", user=token).json()["results"]
    assert [each["id"] for each in listed] == [begun.json()["id"]]


def test_a_field_of_a_hosts_serializer_finds_a_stateless_user_nothing(alice: App) -> None:
    assert alice.user
    upload = row(alice.upload())
    for pk in (alice.user.pk, "auth0|5f7c8", uuid.uuid4(), 2**70, None):
        serializer = PhotoSerializer(
            data={"title": "", "image": str(upload.pk)},
            context={"request": SimpleNamespace(user=TokenUser(pk))},
        )
        assert not serializer.is_valid()
        assert serializer.errors["image"][0].code == "does_not_exist"


# Nobody, where the host lets anybody in.


@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}])
def test_nobody_is_told_to_sign_in_though_anybody_may_call(
    alice: App, method: str, path: str, headers: dict[str, str]
) -> None:
    theirs = row(alice.begin())
    path = path.format(id=theirs.pk)

    answer = ask("open", method, path, **headers)
    assert_refused(answer, 401, "not_authenticated")
    assert answer["WWW-Authenticate"] == "Bearer"
    # As REST Framework does where the first authentication class has no such header.
    assert_refused(ask("session", method, path, **headers), 403, "not_authenticated")
    assert Upload.objects.get() == theirs, "no row was made that nobody could confirm"


def test_nobody_is_told_so_where_rest_framework_calls_it_none(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rest_framework.request.api_settings.UNAUTHENTICATED_USER", None)
    for method, where in CALLS:
        answer = ask("open", method, where.format(id=uuid.uuid4()))
        assert_refused(answer, 401, "not_authenticated")
    assert not Upload.objects.exists()


def test_where_anybody_may_call_a_user_is_served(alice: App) -> None:
    begun = ask("open", "post", "", user=alice.user)
    assert begun.status_code == 201
    assert row(begun).owner == alice.user


# A user who was deleted after the request was authenticated.


def delete_behind(user: User) -> User:
    """The user, as the request still has it."""
    User.objects.filter(pk=user.pk).delete()
    return user


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}])
@pytest.mark.parametrize("limits", [{}, {"MAX_PENDING": 2}])
@pytest.mark.parametrize("declaration", [PHOTO, FILM], ids=["photo", "film"])
@pytest.mark.django_db(transaction=True)
def test_a_user_who_is_deleted_meanwhile_begins_nothing(
    make_user: Callable[..., User],
    s3: Bucket,
    films: None,
    settings: Any,
    headers: dict[str, str],
    limits: dict[str, int],
    declaration: dict[str, Any],
) -> None:
    ours = settings.S3DIRECT_UPLOADS["DESTINATIONS"]
    limited = {name: {**ours[name], **limits} for name in ("photos", "films")}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {**ours, **limited}}
    app = App(None)
    app.client.raise_request_exception = False
    app.client.force_authenticate(delete_behind(make_user("carol")))

    answer = app.client.post(URL, declaration, format="json", headers=headers)

    assert_refused(answer, 403, "owner_unknown")
    assert app.get().json()["results"] == []
    assert not Upload.objects.exists()
    assert not Usage.objects.exists()


# From code.

NOBODYS = [AnonymousUser(), TokenUser(1), User(username="ghost"), User(pk="x"), "alice", 5]


@pytest.mark.parametrize("owner", NOBODYS, ids=str)
def test_begin_and_store_refuse_an_owner_who_is_no_user(db: None, s3: Bucket, owner: Any) -> None:
    with pytest.raises(ValueError, match="owner"):
        lifecycle.begin(owner=owner, **PHOTO)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="owner"):
        lifecycle.store(io.BytesIO(JPEG), owner=owner, destination="photos", filename="a.jpg")
    with pytest.raises(ValueError, match="owner"):
        completed_upload(owner=owner, destination="photos")
    assert not Upload.objects.exists()


@pytest.mark.parametrize("inside", [True, False], ids=["in a transaction", "in none"])
@pytest.mark.django_db(transaction=True)
def test_begin_and_store_refuse_an_owner_who_is_gone(
    make_user: Callable[..., User], s3: Bucket, inside: bool
) -> None:
    """Otherwise the database would fail at the end of the host's transaction."""
    gone = delete_behind(make_user("carol"))

    def begin() -> None:
        if inside:
            with transaction.atomic():
                lifecycle.begin(owner=gone, **PHOTO)  # type: ignore[arg-type]
        else:
            lifecycle.begin(owner=gone, **PHOTO)  # type: ignore[arg-type]

    with pytest.raises(OwnerUnknown, match="owner"):
        begin()
    with pytest.raises(OwnerUnknown, match="owner"):
        lifecycle.store(io.BytesIO(JPEG), owner=gone, destination="photos", filename="a.jpg")
    assert not Upload.objects.exists()


def test_a_script_may_begin_for_nobody(db: None, s3: Bucket) -> None:
    upload, presigned = lifecycle.begin(owner=None, **PHOTO)  # type: ignore[arg-type]
    assert presigned is not None
    assert (upload.owner_id, upload.status) == (None, "pending")


@pytest.mark.django_db(transaction=True)
def test_begin_for_a_user_is_one_insert(alice: App, django_assert_num_queries: Any) -> None:
    """Which itself says whether the owner is there."""
    with django_assert_num_queries(1):
        lifecycle.begin(owner=alice.user, **PHOTO)  # type: ignore[arg-type]


# The admin's search, by a username of any type.


@pytest.mark.parametrize("field", ["id", "date_joined", "is_active", "password"])
@pytest.mark.parametrize("term", ["beach", "9" * 30, "-1", "0001-01-01", "True", "x" * 1024])
def test_a_search_looks_for_a_username_of_any_type(
    alice: App, client: Client, monkeypatch: pytest.MonkeyPatch, field: str, term: str
) -> None:
    alice.begin(filename="beach.jpg")
    client.force_login(User.objects.create_superuser("root"))
    monkeypatch.setattr(User, "USERNAME_FIELD", field)
    monkeypatch.setattr(User, "__str__", lambda user: f"{user.pk}")  # which is the username, else
    for model in ("upload", "usage"):
        answer = client.get(f"/admin/s3direct_uploads/{model}/", {"q": term})
        assert answer.status_code == 200


def test_a_project_whose_users_have_uuids_for_keys_and_names() -> None:
    """With settings of its own, so in a process of its own."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--ds=tests.projects.accounts.settings",
            "tests/projects/accounts/cases.py",
        ],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
