"""A visitor without a login uploads where a destination has ANONYMOUS, and only by the token."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from rest_framework.permissions import AllowAny, IsAuthenticated

from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload, Usage
from s3direct_uploads.views import UploadViewSet
from tests.conftest import (
    APPLICATIONS,
    CV,
    FILM,
    HOUR,
    URL,
    App,
    Bucket,
    Visitor,
    age,
    assert_error,
    row,
    sign_in,
    sweep,
)
from tests.http.test_access import ANY_CALL, call

KEY = uuid.uuid4().hex  # as upload.js makes it


def limit(settings: Any, **limits: Any) -> None:
    destinations = settings.S3DIRECT_UPLOADS["DESTINATIONS"]
    destinations = {**destinations, "applications": {**APPLICATIONS, **limits}}
    settings.S3DIRECT_UPLOADS = {**settings.S3DIRECT_UPLOADS, "DESTINATIONS": destinations}


def test_a_visitor_begins_sends_and_confirms(visitor: Visitor, s3: Bucket) -> None:
    begun = visitor.begin()
    assert begun.status_code == 201
    upload = row(begun)
    assert (upload.owner_id, upload.visitor, upload.destination) == (None, True, "applications")
    assert (begun.json()["visitor"], begun.json()["form_value"]) == (True, upload.form_value)
    id = str(upload.pk)
    assert visitor.renew(id).json()["request"]["method"] == "PUT"
    assert visitor.send(begun.json()["request"], CV) == 200

    assert visitor.confirm(id).json()["status"] == "completed"
    assert visitor.get(f"{id}/").json()["form_value"] == upload.form_value
    assert visitor.get(f"{id}/url/").status_code == 200
    assert visitor.get(f"{id}/download/").status_code == 302
    assert s3.read(upload) == CV
    assert visitor.delete(id).status_code == 204
    assert row(visitor.get(f"{id}/")).status == "deleted"


def test_a_visitor_sends_a_file_in_parts(visitor: Visitor, s3: Bucket) -> None:
    begun = visitor.begin(size=len(FILM), multipart=True).json()
    id, parts = begun["id"], begun["multipart"]["parts"]
    assert visitor.send_parts(parts[:1]) == [200]
    assert [each["part_number"] for each in visitor.parts(id).json()] == [1]
    assert visitor.send_parts(visitor.sign_parts(id, [2]).json()["parts"]) == [200]
    assert row(visitor.confirm(id)).status == "completed"


@pytest.mark.usefixtures("applications")
@pytest.mark.parametrize(
    "destination", ["photos", "albums", "no-such", "", None, 5, [], {}, " applications", "x" * 9999]
)
def test_every_other_destination_refuses_a_visitor(nobody: App, destination: Any) -> None:
    """Before anything else of the declaration is looked at."""
    answer = nobody.begin(destination=destination, size="wrong")
    assert_error(answer, 403, "not_authenticated")
    answer = nobody.client.post(URL, [{"destination": "applications"}], format="json")
    assert_error(answer, 403, "not_authenticated")
    assert not Upload.objects.exists()


def test_without_such_a_destination_nothing_of_a_visitor_is_read(nobody: App) -> None:
    for body in ("{", '{"destination": "photos"}'):
        answer = nobody.client.post(URL, body, content_type="application/json")
        assert_error(answer, 403, "not_authenticated")


def test_a_visitor_has_no_list(visitor: Visitor, stranger: Visitor) -> None:
    id = visitor.begin().json()["id"]
    for each in (visitor, stranger):
        for query in ({}, {"filename": "cv.pdf"}, {"status": "pending"}):
            assert_error(each.get("", **query), 403, "not_authenticated")
    assert Upload.objects.get().pk == uuid.UUID(id)


def test_no_users_list_has_a_visitors_upload(visitor: Visitor, alice: App) -> None:
    visitor.begin()
    assert alice.get().json()["results"] == []
    assert not Upload.objects.owned_by(alice.user).exists()  # type: ignore[arg-type]


def test_a_user_is_an_owner_at_that_destination_too(visitor: Visitor, alice: App) -> None:
    answer = alice.begin(destination="applications", filename="cv.pdf", content_type="")
    upload = row(answer)
    assert (upload.owner, upload.visitor, answer.json()["visitor"]) == (alice.user, False, False)
    assert alice.get(f"{upload.pk}/").status_code == 200


@pytest.mark.parametrize(("method", "path"), ANY_CALL)
def test_a_call_without_a_token_asks_for_a_login(
    visitor: Visitor, stranger: Visitor, method: str, path: str
) -> None:
    """Not 404: to an owner whose session has ended, that would say that the upload is lost."""
    id = visitor.begin().json()["id"]
    assert_error(call(stranger, method, f"{URL}{id}/{path}"), 403, "not_authenticated")
    assert Upload.objects.get().status == "pending"


def test_who_logs_in_meanwhile_still_has_the_token(visitor: Visitor, alice: App) -> None:
    begun = visitor.begin().json()
    assert alice.user
    sign_in(visitor.client, alice.user)
    assert visitor.send(begun["request"], CV) == 200
    assert row(visitor.confirm(begun["id"])).status == "completed"
    assert Upload.objects.get().owner is None


def test_an_owners_calls_do_not_depend_on_the_header(visitor: Visitor, alice: App) -> None:
    begun = alice.begin().json()
    for token in (begun["form_value"], visitor.begin().json()["form_value"], "no token"):
        alice.client.credentials(HTTP_UPLOAD_TOKEN=token)
        assert alice.get(f"{begun['id']}/").status_code == 200


# Begin may be repeated.


def test_a_begin_with_the_same_key_finds_its_upload(visitor: Visitor) -> None:
    first, again = (visitor.begin({"Idempotency-Key": KEY}) for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    assert first.json()["form_value"] == again.json()["form_value"]
    other = visitor.begin({"Idempotency-Key": KEY}, filename="other.pdf")
    assert_error(other, 409, "idempotency_key_reused")


@pytest.mark.parametrize("key", ["1", "a" * 21])
def test_a_key_that_can_be_guessed_is_refused(visitor: Visitor, key: str) -> None:
    body = assert_error(visitor.begin({"Idempotency-Key": key}), 400, "invalid")
    [error] = body["errors"]
    assert (error["field"], error["code"]) == ("Idempotency-Key", "min_length")
    assert error["params"] == {"min_length": 22}
    assert not Upload.objects.exists()


def test_a_user_may_still_send_a_short_key(visitor: Visitor, alice: App) -> None:
    assert alice.begin({"Idempotency-Key": "1"}).status_code == 201


def test_a_visitors_key_and_a_users_are_apart(visitor: Visitor, alice: App) -> None:
    theirs = row(visitor.begin({"Idempotency-Key": KEY}))
    cv: Any = {"destination": "applications", "filename": "cv.pdf", "content_type": ""}
    own = row(alice.begin({"Idempotency-Key": KEY}, **cv))
    assert theirs != own


# Limits.


def test_all_visitors_together_have_the_limits_of_one_owner(
    visitor: Visitor, stranger: Visitor, alice: App, settings: Any
) -> None:
    limit(settings, MAX_PENDING=2, MAX_TOTAL_SIZE=None)
    first = visitor.begin().json()["id"]
    assert stranger.begin().status_code == 201
    assert_error(stranger.begin(), 429, "too_many_pending")
    cv: Any = {"destination": "applications", "filename": "cv.pdf", "content_type": ""}
    assert alice.begin(**cv).status_code == 201, "an owner has limits of their own"
    usage = Usage.objects.get(owner=None)
    assert (usage.pending, usage.destination, str(usage)) == (
        2,
        "applications",
        "visitors in applications",
    )

    assert visitor.delete(first).status_code == 204
    assert visitor.begin().status_code == 201


def test_visitors_cannot_fill_the_bucket(visitor: Visitor, settings: Any) -> None:
    limit(settings, MAX_TOTAL_SIZE=2 * len(CV))
    for _ in range(2):
        assert row(visitor.upload()).status == "completed"
    assert_error(visitor.begin(), 403, "quota_exceeded")


def test_visitors_usage_is_counted_again(visitor: Visitor) -> None:
    visitor.begin()
    Upload.objects.filter(visitor=True).update(counted=False)
    Usage.objects.all().delete()
    [(usage, corrected)] = lifecycle.recount("applications")
    assert (usage.owner_id, usage.pending, usage.total_size, corrected) == (None, 1, len(CV), True)


def test_a_scripts_upload_counts_for_no_visitor(visitor: Visitor) -> None:
    lifecycle.begin(owner=None, destination="applications", filename="cv.pdf", size=5)
    visitor.begin()
    assert Usage.objects.get().pending == 1


# What the project's own code does.


def test_a_script_begins_for_a_visitor_only_where_the_destination_allows_it(
    visitor: Visitor,
) -> None:
    with pytest.raises(PermissionDenied):
        lifecycle.begin(owner=None, visitor=True, destination="photos", filename="a.png", size=5)


def test_an_upload_has_an_owner_or_is_a_visitors(visitor: Visitor, alice: App) -> None:
    with pytest.raises(ValueError, match="an owner, or is a visitor's"):
        lifecycle.begin(
            owner=alice.user, visitor=True, destination="applications", filename="a.pdf", size=5
        )


def test_a_scripts_upload_has_no_token(visitor: Visitor) -> None:
    upload, _ = lifecycle.begin(owner=None, destination="applications", filename="a.pdf", size=5)
    assert upload.form_value is None
    forged = Upload(pk=upload.pk, visitor=True).form_value
    visitor.show(forged)
    assert_error(visitor.get(f"{upload.pk}/"), 404, "not_found")


def test_a_visitors_upload_can_be_given_to_a_user(visitor: Visitor, alice: App) -> None:
    token = visitor.begin().json()["form_value"]
    Upload.objects.update(owner=alice.user, visitor=False)
    upload = Upload.objects.get()
    assert_error(visitor.get(f"{upload.pk}/"), 404, "not_found")
    assert alice.get(f"{upload.pk}/").json()["form_value"] not in (None, token)


def test_the_token_outlives_a_change_of_the_secret_key(visitor: Visitor, settings: Any) -> None:
    id = visitor.begin().json()["id"]
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [settings.SECRET_KEY]
    assert visitor.get(f"{id}/").status_code == 200
    settings.SECRET_KEY_FALLBACKS = []
    assert_error(visitor.get(f"{id}/"), 404, "not_found")


def test_without_anonymous_again_the_token_opens_nothing(visitor: Visitor, settings: Any) -> None:
    id = visitor.begin().json()["id"]
    limit(settings, ANONYMOUS=False)
    assert_error(visitor.get(f"{id}/"), 403, "not_authenticated")


def test_a_request_that_a_host_gives_an_owner_is_no_visitors(
    visitor: Visitor, alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A get_owner() that asks for no login stood behind IsAuthenticated until now."""
    monkeypatch.setattr(UploadViewSet, "get_owner", lambda self: alice.user)
    assert_error(visitor.begin(), 403, "not_authenticated")


def test_a_hosts_permission_classes_decide(
    visitor: Visitor, alice: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = visitor.begin().json()
    monkeypatch.setattr(UploadViewSet, "permission_classes", [IsAuthenticated])
    assert_error(visitor.get(f"{begun['id']}/"), 403, "not_authenticated")
    assert_error(visitor.begin(), 403, "not_authenticated")
    monkeypatch.setattr(UploadViewSet, "permission_classes", [AllowAny])
    assert visitor.get(f"{begun['id']}/").status_code == 200
    assert visitor.begin().status_code == 201
    visitor.show(None)
    assert_error(visitor.get(f"{begun['id']}/"), 403, "not_authenticated")
    assert_error(visitor.get(""), 403, "not_authenticated")
    assert_error(App(None).begin(), 403, "not_authenticated")


def test_a_hosts_get_owner_may_return_none_for_a_visitor(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UploadViewSet, "get_owner", lambda self: None)
    id = visitor.begin().json()["id"]
    assert visitor.get(f"{id}/").status_code == 200


def test_the_sweep_settles_a_visitors_upload(visitor: Visitor, s3: Bucket) -> None:
    begun = visitor.begin().json()
    assert visitor.send(begun["request"], CV) == 200
    age(3 * HOUR)
    assert sweep() == {"completed": 1}
    assert visitor.delete(begun["id"]).status_code == 204
    assert s3.read(Upload.objects.get()) is None
    assert Usage.objects.get().total_size == 0


def test_csrf_is_no_visitors_matter(visitor: Visitor) -> None:
    visitor.client.handler.enforce_csrf_checks = True
    assert_error(visitor.confirm(visitor.begin().json()["id"]), 409, "object_missing")


def test_one_sweep_frees_the_places_of_visitors_and_of_users(visitor: Visitor, alice: App) -> None:
    visitor.begin()
    cv: Any = {"destination": "applications", "filename": "cv.pdf", "content_type": ""}
    alice.begin(**cv)
    assert sorted(Usage.objects.values_list("pending", flat=True)) == [1, 1]
    age(30 * HOUR)
    assert sweep()["expired"] == 2
    assert sorted(Usage.objects.values_list("pending", flat=True)) == [0, 0]
