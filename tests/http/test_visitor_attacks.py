"""Attacks by somebody without a login, and on the uploads of visitors.

The secret is the upload's ``form_value``, sent as the header Upload-Token. Attacks on S3 itself are
in ``tests/real/attacks``.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django import forms
from django.http import QueryDict

from s3direct_uploads import form_values
from s3direct_uploads.forms import UploadField
from s3direct_uploads.models import Upload
from tests.conftest import CV, URL, App, Bucket, Visitor, assert_error, row, sign_in
from tests.http.test_access import ANY_CALL, call
from tests.models import Photo

pytestmark = pytest.mark.attack
PHOTOS = "/api/photos/"


class Application(forms.Form):
    cv = UploadField(destination="applications")


def form(value: str) -> Application:
    data = QueryDict(mutable=True)
    data["cv"] = value
    return Application(data)


def code(value: str) -> str:
    """Of the form's error; "" if it takes the value."""
    found = form(value).errors.as_data()
    return str(found["cv"][0].code) if found else ""


def flipped(token: str) -> str:
    """Another letter in the middle of the MAC: its last letter has unused bits."""
    at = len(token) - 20
    return token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]


# The token of each attack, made from the victim's, from the attacker's own, and from an owner's.
Forge = Callable[[str, str, str], str]
FORGED: dict[str, Forge] = {
    "empty": lambda theirs, own, owners: "",
    "the id": lambda theirs, own, owners: theirs.split(":")[0],
    "the id and an empty MAC": lambda theirs, own, owners: theirs.split(":")[0] + ":",
    "the MAC alone": lambda theirs, own, owners: theirs.split(":")[1],
    "a changed MAC": lambda theirs, own, owners: flipped(theirs),
    "a shorter MAC": lambda theirs, own, owners: theirs[:-1],
    "a longer MAC": lambda theirs, own, owners: theirs + "A",
    "another visitor's": lambda theirs, own, owners: own,
    "another visitor's MAC": lambda theirs, own, owners: (
        f"{theirs.split(':')[0]}:{own.split(':')[1]}"
    ),
    "an owner's": lambda theirs, own, owners: owners,
    "an owner's MAC": lambda theirs, own, owners: f"{theirs.split(':')[0]}:{owners.split(':')[1]}",
    "in capitals": lambda theirs, own, owners: theirs.upper(),
    "the owner None": lambda theirs, own, owners: form_values.make(
        uuid.UUID(theirs.split(":")[0]), "None"
    ),
    "the owner ''": lambda theirs, own, owners: form_values.make(
        uuid.UUID(theirs.split(":")[0]), ""
    ),
    "two tokens": lambda theirs, own, owners: f"{own},{theirs}",
    "a space before": lambda theirs, own, owners: f"  {theirs} x",
    "not ASCII": lambda theirs, own, owners: f"{theirs}\xfc",
    "a NUL": lambda theirs, own, owners: f"{theirs}\0",
    "an Arabic digit": lambda theirs, own, owners: "\xd9\xa1" + theirs[1:],
    "a megabyte": lambda theirs, own, owners: theirs + "A" * 1024**2,
    "a megabyte of colons": lambda theirs, own, owners: ":" * 1024**2,
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_token_opens_nothing(
    visitor: Visitor, stranger: Visitor, alice: App, kind: str
) -> None:
    theirs = visitor.begin().json()["form_value"]
    own = stranger.begin().json()["form_value"]
    owners = alice.begin().json()["form_value"]
    id = theirs.split(":")[0]
    token = FORGED[kind](theirs, own, owners)
    stranger.show(token)
    for method, path in ANY_CALL:
        assert_error(call(stranger, method, f"{URL}{id}/{path}"), 404, "not_found")
    if token in (own, owners):  # a form finds the upload that the value is of
        assert code(token) in ("pending", "wrong_destination")
    else:
        assert code(token) in ("invalid", "does_not_exist", "required")
    assert Upload.objects.get(pk=id).status == "pending"


@pytest.mark.parametrize("where", ["query", "body", "cookie", "Authorization"])
def test_a_token_elsewhere_than_in_its_header_is_not_read(
    visitor: Visitor, stranger: Visitor, where: str
) -> None:
    token = visitor.begin().json()["form_value"]
    url, body, headers = f"{URL}{token.split(':')[0]}/confirm/", {}, {}
    if where == "query":
        url += f"?Upload-Token={token}&upload_token={token}&token={token}"
    elif where == "body":
        body = {"Upload-Token": token, "form_value": token}
    elif where == "cookie":
        stranger.client.cookies["Upload-Token"] = token
    else:
        headers = {"Authorization": f"Bearer {token}"}
    answer = stranger.client.post(url, body, format="json", headers=headers)
    assert_error(answer, 403, "not_authenticated")


@pytest.mark.parametrize(("method", "path"), ANY_CALL)
def test_a_token_opens_no_other_upload(
    visitor: Visitor, stranger: Visitor, alice: App, bob: App, method: str, path: str
) -> None:
    """Neither another visitor's, nor an owner's, nor a script's; also for a user who has it."""
    others = [stranger.begin().json()["id"], alice.begin().json()["id"]]
    token = visitor.begin().json()["form_value"]
    bob.client.credentials(HTTP_UPLOAD_TOKEN=token)
    for bearer in (visitor, bob):
        for other in others:
            assert_error(call(bearer, method, f"{URL}{other}/{path}"), 404, "not_found")
    assert {each.status for each in Upload.objects.all()} == {"pending"}


@pytest.mark.parametrize(("method", "path"), ANY_CALL)
def test_a_user_without_the_token_has_no_visitors_upload(
    visitor: Visitor, alice: App, method: str, path: str
) -> None:
    id = visitor.begin().json()["id"]
    for token in (None, id, "x", flipped(Upload.objects.get().form_value or "")):
        headers = {} if token is None else {"HTTP_UPLOAD_TOKEN": token}
        alice.client.credentials(**headers)
        assert_error(call(alice, method, f"{URL}{id}/{path}"), 404, "not_found")


def test_an_owners_form_value_is_no_token(stranger: Visitor, alice: App, bob: App) -> None:
    """For nobody: neither for a visitor, nor for another user."""
    begun = alice.begin().json()
    stranger.show(begun["form_value"])
    bob.client.credentials(HTTP_UPLOAD_TOKEN=begun["form_value"])
    for method, path in ANY_CALL:
        for each in (stranger, bob):
            assert_error(call(each, method, f"{URL}{begun['id']}/{path}"), 404, "not_found")


def test_the_former_owner_of_a_row_that_lost_its_owner_has_no_token(
    stranger: Visitor, alice: App
) -> None:
    begun = alice.begin(destination="applications", filename="cv.pdf", content_type="").json()
    assert alice.user
    alice.user.delete()
    upload = Upload.objects.get()
    assert (upload.owner_id, upload.visitor, upload.form_value) == (None, False, None)
    for token in (begun["form_value"], form_values.make(upload.pk, None)):
        stranger.show(token)
        assert_error(stranger.get(f"{upload.pk}/"), 404, "not_found")
        assert code(token) == "does_not_exist"


def test_after_its_end_a_token_changes_nothing(visitor: Visitor, s3: Bucket) -> None:
    """Completed: nothing is signed again. Attached: it cannot be deleted. Deleted: it is over."""
    answer = visitor.upload()
    upload, token = row(answer), answer.json()["form_value"]
    assert_error(visitor.renew(str(upload.pk)), 410, "not_pending")
    assert code(token) == ""
    upload.attach()
    assert code(token) == "already_attached"
    assert_error(visitor.delete(str(upload.pk)), 409, "already_attached")
    assert s3.read(upload) == CV
    upload.release()
    assert code(token) == "deleted"
    assert_error(visitor.get(f"{upload.pk}/url/"), 409, "not_completed")
    assert visitor.delete(str(upload.pk)).status_code == 204
    assert row(visitor.get(f"{upload.pk}/")).status == "deleted"


def test_the_key_of_another_visitor_cannot_be_guessed(visitor: Visitor, stranger: Visitor) -> None:
    key = uuid.uuid4().hex
    theirs = visitor.begin({"Idempotency-Key": key})
    for guess in ("1", "", key[:21], "0" * 21):
        assert_error(stranger.begin({"Idempotency-Key": guess}), 400, "invalid")
    for other in (key[:22], key[::-1], key.upper(), f"{key} x"):
        answer = stranger.begin({"Idempotency-Key": other})
        assert answer.status_code == 201
        assert answer.json()["id"] != theirs.json()["id"]


def test_a_users_key_leads_no_visitor_to_the_users_upload(visitor: Visitor, alice: App) -> None:
    key = uuid.uuid4().hex
    cv = {"destination": "applications", "filename": "cv.pdf", "content_type": "application/pdf"}
    own = alice.begin({"Idempotency-Key": key}, size=len(CV), **cv).json()
    theirs = visitor.begin({"Idempotency-Key": key}).json()
    assert own["id"] != theirs["id"]
    assert own["form_value"] != theirs["form_value"]


def test_a_visitor_cannot_pretend_to_be_one_or_to_be_none(visitor: Visitor, alice: App) -> None:
    """The body has no say in who begins."""
    assert row(visitor.begin(owner=alice.user and alice.user.pk, visitor=False)).visitor
    assert not row(alice.begin(visitor=True, form_value="x")).visitor


def test_a_megabyte_of_token_takes_no_time(stranger: Visitor) -> None:
    id = stranger.begin().json()["id"]
    stranger.show(f"{id}:" + "A" * 2**20)
    started = time.process_time()
    for _ in range(20):
        assert_error(stranger.get(f"{id}/"), 404, "not_found")
    assert time.process_time() - started < 2


def test_no_error_repeats_a_token(visitor: Visitor, stranger: Visitor) -> None:
    token = visitor.begin().json()["form_value"]
    stranger.show(token)
    other = base64.b64encode(b"x" * 16).decode()
    for path in (f"{uuid.uuid4()}/", f"{other}/"):
        assert token not in stranger.get(path).content.decode()


# Serializers of the host.


@pytest.fixture
def any_photo(settings: Any) -> None:
    """The host's photos may come from visitors too."""
    ours = settings.S3DIRECT_UPLOADS
    photos = {**ours["DESTINATIONS"]["photos"], "ANONYMOUS": True}
    destinations = {**ours["DESTINATIONS"], "photos": photos}
    settings.S3DIRECT_UPLOADS = {**ours, "DESTINATIONS": destinations}


JPEG: Any = {"destination": "photos", "filename": "a.jpg", "content_type": "image/jpeg"}


@pytest.mark.usefixtures("any_photo")
def test_a_serializer_takes_the_token_and_not_the_id(visitor: Visitor, alice: App) -> None:
    """Of an anonymous request, and of a user who has logged in meanwhile."""
    for number, sender in enumerate((visitor, alice)):
        begun = row(visitor.upload(**JPEG))
        token = begun.form_value or ""
        for wrong in (str(begun.pk), flipped(token), f"{begun.pk}:"):
            answer = sender.client.post(PHOTOS, {"image": wrong}, format="json")
            assert (answer.status_code, answer.json()["image"]) == (
                400,
                ["You have no such upload."],
            )
        answer = sender.client.post(PHOTOS, {"image": token}, format="json")
        assert answer.status_code == 201, answer.json()
        assert Photo.objects.count() == number + 1


@pytest.mark.usefixtures("any_photo")
def test_a_serializer_takes_no_owners_upload_from_a_visitor(visitor: Visitor, alice: App) -> None:
    upload = row(alice.upload())
    for value in (str(upload.pk), upload.form_value):
        answer = visitor.client.post(PHOTOS, {"image": value}, format="json")
        assert (answer.status_code, answer.json()["image"]) == (400, ["You have no such upload."])
    assert not Photo.objects.exists()


def test_a_form_takes_the_token_whoever_posts_it(visitor: Visitor, alice: App) -> None:
    answer = visitor.upload()
    assert alice.user
    sign_in(visitor.client, alice.user)
    assert code(answer.json()["form_value"]) == ""
    assert code(answer.json()["id"]) == "does_not_exist"
