"""What support staff see of uploads, and the two things that they may do to them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
import requests
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from s3direct_uploads import lifecycle
from s3direct_uploads.admin import uploads as admin
from s3direct_uploads.models import Upload
from s3direct_uploads.testing import completed_upload
from tests.conftest import JPEG, URL, App, Bucket, row
from tests.host.conftest import LIST, Cells, Staff, told
from tests.host_app import Albums


def filenames(page: Any) -> list[str]:
    assert page.status_code == 200
    return [each["filename"] for each in Cells(page).rows]


# The list.


def test_the_list_says_what_support_asks_first(alice: App, onlooker: Staff) -> None:
    old = row(alice.upload(destination="documents", filename="old.pdf", content_type="image/png"))
    Upload.objects.filter(pk=old.pk).update(
        created_at=timezone.now() - timedelta(days=3, hours=5), size=1536 * 1024
    )
    alice.begin(filename="new.jpg")

    assert Cells(onlooker.list()).rows == [
        {
            "status": "Pending",
            "filename": "new.jpg",
            "whose": "alice",
            "thumbnail": "-",
            "destination": "photos",
            "human_size": f"{len(JPEG)}\xa0bytes",
            "age": "0\xa0minutes",
            "holder": "nothing",
        },
        {
            "status": "Completed",
            "filename": "old.pdf",
            "whose": "alice",
            "thumbnail": "-",
            "destination": "documents",
            "human_size": "1.5\xa0MB",
            "age": "3\xa0days",
            "holder": "nothing",
        },
    ]


def test_the_list_can_be_narrowed(alice: App, onlooker: Staff) -> None:
    alice.begin(filename="pending.jpg")
    alice.upload(filename="completed.jpg")
    alice.begin(filename="document.txt", destination="documents", content_type="text/plain")

    assert filenames(onlooker.list(status__exact="completed")) == ["completed.jpg"]
    assert filenames(onlooker.list(destination="documents")) == ["document.txt"]
    assert filenames(onlooker.list(destination="photos", status__exact="pending")) == [
        "pending.jpg"
    ]
    assert filenames(onlooker.list(destination="albums")) == []
    for nonsense in ("nowhere", "\0", "'"):
        assert len(filenames(onlooker.list(destination=nonsense))) == 3


def test_the_choices_come_from_the_settings_and_the_code(
    alice: App, onlooker: Staff, settings: Any
) -> None:
    alice.begin(filename="a.jpg")
    Upload.objects.update(destination="removed-since")
    settings.S3DIRECT_UPLOADS = {
        "DESTINATIONS": {"brand-new": {"MAX_SIZE": 1, "CONTENT_TYPES": ["*/*"]}}
    }
    page = onlooker.list()
    links = set(re.findall(r'href="\?([\w=%-]+)"', page.content.decode()))
    assert {each for each in links if each.startswith("destination")} == {"destination=brand-new"}
    assert {each for each in links if each.startswith("status")} == {
        f"status__exact={status}" for status in Upload.Status.values
    }
    assert not [each for each in links if "owner" in each], "a host may have millions of users"


def test_the_list_costs_as_many_queries_for_60_rows_as_for_one(
    alice: App, make_user: Callable[..., User], onlooker: Staff
) -> None:
    def queries(**query: str) -> list[str]:
        with CaptureQueriesContext(connection) as captured:
            assert onlooker.list(**query).status_code == 200
        return [each["sql"] for each in captured.captured_queries]

    completed_upload(destination="photos", owner=alice.user, filename="0.jpg")
    queries()  # the content types are cached from now on
    one = queries()
    for n in range(1, 60):
        completed_upload(destination="photos", owner=make_user(), filename=f"{n}.jpg")
    sixty = queries()

    assert len(Cells(onlooker.list()).rows) == 50, "and the rest on the next page"
    # Session, user, two for the permissions, count and page, and four for the summary.
    assert len(sixty) == len(one) == 10
    everything = [*sixty, *queries(q="alice"), *queries(_facets="True"), *queries(p="2")]
    counts = [sql for sql in everything if "COUNT(" in sql]
    assert len(counts) == 4 * 5
    assert all(re.search("LIMIT (10000|1001|5000)", sql) for sql in counts)
    assert not re.search(r"\b(MIN|MAX|DISTINCT|GROUP BY)\b", " ".join(everything))


def test_the_list_pages_no_further_than_it_counts(
    alice: App, onlooker: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        completed_upload(destination="photos", owner=alice.user, filename=f"{n}.jpg")
    monkeypatch.setattr(admin, "MOST_COUNTED", 3)
    monkeypatch.setattr(admin.UploadAdmin, "list_per_page", 2)
    assert filenames(onlooker.list()) == ["3.jpg", "2.jpg"]
    assert filenames(onlooker.list(p="2")) == ["1.jpg"]
    assert onlooker.list(p="3").status_code == 302


# The search.


def test_the_search_finds_by_what_a_ticket_quotes(alice: App, bob: App, onlooker: Staff) -> None:
    mine = row(alice.begin(filename="Mein Strand.jpg"))
    row(bob.begin(filename="100%_alice.jpg"))

    for term in (str(mine.pk), mine.pk.hex, mine.key, "alice", "Mein", "Mein Strand.jpg", " Mein "):
        assert filenames(onlooker.list(q=term)) == ["Mein Strand.jpg"], term
    for term in ("bob", "100%", "100%_"):
        assert filenames(onlooker.list(q=term)) == ["100%_alice.jpg"], term
    # A part of a key, of a username or of an id is not found: no index helps there.
    for term in (mine.name, mine.key[:-1], "alic", str(mine.pk)[:-1], "Strand", "1%%", "_00"):
        assert filenames(onlooker.list(q=term)) == [], term
    assert filenames(onlooker.list(q="Mein", status__exact="completed")) == []
    assert len(filenames(onlooker.list(q="  "))) == 2


@pytest.mark.parametrize(
    "term",
    [
        "\0",
        "a\0b",
        "'; DROP TABLE auth_user; --",
        "\\",
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
        "😀" * 500,
        "{}",
        "0" * 32,
        "x" * 1024,
        "x" * 8000,
    ],
)
def test_a_search_for_nonsense_finds_nothing_and_breaks_nothing(
    alice: App, onlooker: Staff, term: str
) -> None:
    alice.begin()
    page = onlooker.list(q=term)
    # A NUL makes the form invalid. Django then shows the list without a search.
    assert filenames(page) == (["beach.jpg"] if "\0" in term else [])


# Nothing can be edited.


def test_an_upload_can_be_looked_at_and_not_be_edited(alice: App, root: Staff, s3: Bucket) -> None:
    upload = row(alice.upload(filename="a.png", content_type="image/png"))

    assert root.client.get(f"{LIST}add/").status_code == 403
    assert root.client.post(f"{LIST}add/", {"filename": "x"}).status_code == 403
    assert root.client.get(f"{LIST}{upload.pk}/delete/").status_code == 403
    assert root.client.post(f"{LIST}{upload.pk}/delete/", {"post": "yes"}).status_code == 403
    change = {"filename": "x.png", "status": "pending"}
    assert root.client.post(f"{LIST}{upload.pk}/change/", change).status_code == 403
    root.act("delete_selected", upload, post="yes")
    assert Upload.objects.get().filename == "a.png"

    page = root.detail(upload)
    assert page.status_code == 200
    html = page.content.decode()
    form = html[html.index('id="upload_form"') :]
    assert set(re.findall(r'<(?:input|select|textarea)[^>]*name="(\w+)', form)) <= {
        "csrfmiddlewaretoken"
    }
    for said in ("a.png", "image/png", "completed", upload.key, upload.bucket, "alice"):
        assert said in html, said
    assert upload.etag in unescape(html)
    assert f"{URL}" not in html


def test_no_page_holds_a_signature(alice: App, root: Staff, s3_calls: list[str]) -> None:
    upload = row(alice.upload(filename="a.png", content_type="image/png"))
    waiting = row(alice.begin(filename="b.png", content_type="image/png"))
    s3_calls.clear()
    history = root.client.get(f"{LIST}{upload.pk}/history/")
    assert history.status_code == 200
    for page in (root.detail(upload), root.detail(waiting), root.list(), history):
        assert not re.search(
            "X-Amz|Signature=|AWSAccessKeyId", page.content.decode(), re.IGNORECASE
        )
    assert s3_calls == []


def test_a_rejection_is_explained(alice: App, s3: Bucket, onlooker: Staff) -> None:
    upload = row(alice.begin())
    s3.write(upload, b"short")
    alice.confirm(str(upload.pk))
    assert (
        f"{len(JPEG)} bytes were declared, 5 were sent." in onlooker.detail(upload).content.decode()
    )


def test_a_filename_cannot_inject_html(alice: App, support: Staff) -> None:
    filename = "<img src=x onerror=alert(1)>.png"
    upload = row(alice.begin(filename=filename, content_type="image/png"))
    support.act("confirm_again", upload)
    for page in (support.list(), support.detail(upload)):
        assert "&lt;img src=x" in page.content.decode()
        assert "<img src=x" not in page.content.decode()


# The object.


@pytest.mark.parametrize(
    ("content_type", "shown"),
    [
        ("image/png", True),
        ("image/jpeg", True),
        ("image/svg+xml", False),
        ("application/pdf", False),
        ("text/html", False),
    ],
)
def test_only_a_harmless_image_is_shown(
    alice: App, onlooker: Staff, content_type: str, shown: bool
) -> None:
    upload = row(alice.upload(destination="documents", content_type=content_type))
    html = onlooker.detail(upload).content.decode()
    assert (f'src="{LIST}{upload.pk}/download/?inline"' in html) is shown
    assert ("<img" in html) is shown
    assert f'<a href="{LIST}{upload.pk}/download/">' in html


@pytest.mark.parametrize("status", ["pending", "rejected", "expired", "cancelled"])
def test_without_a_completed_object_nothing_is_shown(
    alice: App, onlooker: Staff, status: str
) -> None:
    upload = row(alice.begin(filename="a.png", content_type="image/png"))
    Upload.objects.update(status=status, reason="some")
    html = onlooker.detail(upload).content.decode()
    assert "<img" not in html
    assert "/download/" not in html


def test_a_download_is_signed_on_the_click(alice: App, onlooker: Staff) -> None:
    upload = row(alice.upload(filename="Füße.jpg"))

    answer = onlooker.download(upload)
    assert answer.status_code == 302
    assert "no-store" in answer["Cache-Control"]
    found = requests.get(answer["Location"], timeout=10)
    assert found.content == JPEG
    assert found.headers["Content-Disposition"] == "attachment; filename*=utf-8''F%C3%BC%C3%9Fe.jpg"

    inline = onlooker.download(upload, "?inline")
    found = requests.get(inline["Location"], timeout=10)
    assert found.content == JPEG
    assert found.headers["Content-Disposition"].startswith("inline;")


def test_what_is_not_harmless_is_never_inline(alice: App, onlooker: Staff) -> None:
    upload = row(alice.upload(destination="documents", content_type="image/svg+xml"))
    answer = onlooker.download(upload, "?inline")
    assert "response-content-disposition=attachment" in answer["Location"]


def test_what_cannot_be_downloaded_leads_back_with_a_word(alice: App, onlooker: Staff) -> None:
    upload = row(alice.begin())
    answer = onlooker.download(upload)
    assert answer.status_code == 302
    assert answer["Location"] == f"{LIST}{upload.pk}/change/"
    assert told(answer) == [("error", "This upload is pending.")]
    assert "This upload is pending." in onlooker.detail(upload).content.decode()


def test_a_bucket_that_is_configured_no_more_leads_back_with_a_word(
    alice: App, onlooker: Staff
) -> None:
    upload = row(alice.upload())
    Upload.objects.update(bucket="another")
    answer = onlooker.download(upload)
    assert answer["Location"] == f"{LIST}{upload.pk}/change/"
    assert told(answer) == [("error", "The bucket of this upload is not configured.")]


# Who may.


def test_only_staff_with_the_permission_may_look(
    alice: App, make_staff: Callable[..., Staff], make_user: Callable[..., User]
) -> None:
    upload = row(alice.upload())
    paths = ["", f"{upload.pk}/change/", f"{upload.pk}/download/", f"{upload.pk}/history/"]

    def answers(visitor: Staff) -> list[tuple[int, str]]:
        found = [visitor.client.get(f"{LIST}{path}") for path in paths]
        return [(each.status_code, each.get("Location", "").split("?")[0]) for each in found]

    login = (302, reverse("admin:login"))
    assert answers(Staff(None)) == [login] * 4
    assert answers(Staff(make_user(is_staff=False))) == [login] * 4
    assert answers(Staff(alice.user)) == [login] * 4, "not even its owner"
    assert answers(make_staff()) == [(403, "")] * 4
    assert answers(make_staff("view_user", "add_upload", "delete_upload")) == [(403, "")] * 4
    for permission in ("view_upload", "change_upload"):
        statuses = [status for status, _ in answers(make_staff(permission))]
        assert statuses == [200, 200, 302, 200]

    absent = f"{LIST}{uuid.uuid4()}/download/"
    assert make_staff().client.get(absent).status_code == 403
    assert make_staff("view_upload").client.get(absent).status_code == 404


def test_who_may_only_look_is_offered_no_action(
    alice: App, onlooker: Staff, support: Staff
) -> None:
    begun = alice.begin().json()
    alice.send(begun["request"])
    upload = Upload.objects.get()

    assert "Confirm again" in support.list().content.decode()
    assert "Confirm again" not in onlooker.list().content.decode()
    for action in ("confirm_again", "cancel"):
        onlooker.act(action, upload)
        upload.refresh_from_db()
        assert upload.status == "pending"
    assert not LogEntry.objects.exists()


# The actions.


def test_a_lost_confirm_is_recovered(alice: App, support: Staff, s3: Bucket) -> None:
    begun = alice.begin().json()
    assert alice.send(begun["request"]) == 200

    answer = support.act("confirm_again", Upload.objects.get())

    assert answer.status_code == 302
    assert told(answer) == [("success", "1 confirmed.")]
    upload = Upload.objects.get()
    assert (upload.status, s3.read(upload)) == ("completed", JPEG)
    assert upload.announced_at is not None
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.get_change_message()) == (str(upload.pk), "pending → completed")
    assert (
        "pending → completed" in support.client.get(f"{LIST}{upload.pk}/history/").content.decode()
    )


def test_confirm_again_says_what_is_wrong_with_each(alice: App, support: Staff, s3: Bucket) -> None:
    missing = row(alice.begin(filename="missing.jpg"))
    mismatched = row(alice.begin(filename="mismatched.jpg"))
    s3.write(mismatched, b"short")
    begun = alice.begin(filename="fine.jpg").json()
    alice.send(begun["request"])
    fine = Upload.objects.get(pk=begun["id"])
    cancelled = row(alice.begin(filename="cancelled.jpg"))
    alice.delete(str(cancelled.pk))

    answer = support.act("confirm_again", missing, mismatched, fine, cancelled)

    assert told(answer) == [
        ("warning", "“cancelled.jpg”: This upload is cancelled."),
        ("warning", f"“mismatched.jpg”: {len(JPEG)} bytes were declared, 5 were sent."),
        ("warning", "“missing.jpg”: Nothing has been uploaded yet."),
        ("success", "1 confirmed."),
    ]
    statuses = dict(Upload.objects.values_list("filename", "status"))
    assert statuses == {
        "missing.jpg": "pending",
        "mismatched.jpg": "rejected",
        "fine.jpg": "completed",
        "cancelled.jpg": "cancelled",
    }
    assert {entry.get_change_message() for entry in LogEntry.objects.all()} == {
        "pending → rejected",
        "pending → completed",
    }


def test_while_s3_is_away_the_first_upload_that_fails_ends_the_action(
    alice: App, support: Staff, s3_away: Callable[[], None]
) -> None:
    uploads = [row(alice.begin(filename=f"{n}.jpg")) for n in range(3)]
    s3_away()
    answer = support.act("confirm_again", *uploads)
    assert answer.status_code == 302
    assert told(answer) == [
        (
            "warning",
            "“2.jpg”: S3 cannot be reached; try again later. The uploads after it were not tried.",
        )
    ]
    assert set(Upload.objects.values_list("status", flat=True)) == {"pending"}
    assert not LogEntry.objects.exists()


def test_an_upload_for_which_s3_fails_keeps_no_other_from_being_tried(
    alice: App, support: Staff, head_answers: dict[str, int]
) -> None:
    begun = [alice.begin(filename=f"{n}.jpg").json() for n in range(3)]
    for each in begun:
        alice.send(each["request"])
    uploads = [Upload.objects.get(pk=each["id"]) for each in begun]
    head_answers[uploads[1].key] = 403
    assert told(support.act("confirm_again", *uploads)) == [
        ("warning", "“1.jpg”: S3 is not set up correctly here."),
        ("success", "2 confirmed."),
    ]


def test_a_destination_that_is_set_up_wrongly_is_a_warning(
    alice: App, support: Staff, settings: Any
) -> None:
    begun = alice.begin().json()
    alice.send(begun["request"])
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": {"MAX_SIZE": "20 MB"}}}
    answer = support.act("confirm_again", Upload.objects.get())
    [(level, text)] = told(answer)
    assert level == "warning"
    assert "MAX_SIZE must be bytes" in text
    assert Upload.objects.get().status == "pending"


def test_a_check_of_the_hosts_that_fails_is_a_warning(
    alice: App, support: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verify(self: Albums, upload: Upload, stored: Any) -> None:
        if upload.filename == "bad.jpg":
            raise RuntimeError("the host's own")

    monkeypatch.setattr(Albums, "verify", verify)
    for filename in ("good.jpg", "bad.jpg"):
        begun = alice.begin(destination="albums", filename=filename, context={"album": 1})
        assert alice.send(begun.json()["request"]) == 200
    answer = support.act("confirm_again", *Upload.objects.all())
    assert answer.status_code == 302
    assert told(answer) == [
        ("warning", "“bad.jpg”: A check on this server failed; try again later."),
        ("success", "1 confirmed."),
    ]
    statuses = dict(Upload.objects.values_list("filename", "status"))
    assert statuses == {"good.jpg": "completed", "bad.jpg": "pending"}


def test_a_row_that_is_gone_meanwhile_is_a_warning(
    alice: App, support: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = alice.begin().json()
    alice.send(begun["request"])
    upload = Upload.objects.get()
    compare = lifecycle.settling._compare

    def prune_first(*args: Any) -> None:
        Upload.objects.all().delete()
        compare(*args)

    monkeypatch.setattr(lifecycle.settling, "_compare", prune_first)
    assert told(support.act("confirm_again", upload))[0][0] == "warning"


def test_cancel_gives_up_what_is_pending_and_deletes_what_nothing_uses(
    alice: App, support: Staff, s3: Bucket
) -> None:
    pending = row(alice.begin(filename="pending.jpg"))
    unused = row(alice.upload(filename="unused.jpg"))
    Upload.objects.filter(pk=unused.pk).update(url_expires_at=timezone.now() - timedelta(days=3))
    attached = row(alice.upload(filename="attached.jpg"))
    attached.attach()

    answer = support.act_surely("cancel", pending, unused, attached)

    assert told(answer) == [
        ("warning", "“attached.jpg”: This upload is in use."),
        ("success", "2 cancelled or deleted."),
    ]
    statuses = dict(Upload.objects.values_list("filename", "status"))
    assert statuses == {
        "pending.jpg": "cancelled",
        "unused.jpg": "deleted",
        "attached.jpg": "completed",
    }
    assert (s3.read(unused), s3.read(attached)) == (None, JPEG)
    log = {entry.object_id: entry.get_change_message() for entry in LogEntry.objects.all()}
    assert log == {
        str(pending.pk): "pending → cancelled",
        str(unused.pk): "completed → deleted",
    }


def test_staff_accepts_and_rejects_what_a_scan_holds(
    alice: App, support: Staff, onlooker: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Albums, "hold", True)
    album: dict[str, Any] = {"destination": "albums", "context": {"album": 1}}
    good = row(alice.upload(filename="good.jpg", **album))
    bad = row(alice.upload(filename="bad.jpg", **album))
    pending = row(alice.begin(filename="pending.jpg"))

    # Seen, and not to be had.
    [first, second] = Cells(support.list(status="verifying")).rows
    assert {first["filename"], second["filename"]} == {"good.jpg", "bad.jpg"}
    page = support.detail(good).content.decode()
    assert "A scan holds it" in page
    assert "/download/" not in page
    assert told(support.download(good)) == [("error", "This upload is verifying.")]

    for action in ("accept", "reject"):
        onlooker.act(action, good)
    good.refresh_from_db()
    assert good.status == "verifying"

    assert told(support.act("accept", good, pending))[-2:] == [
        ("warning", "“pending.jpg”: This upload is pending."),
        ("success", "1 accepted."),
    ]
    assert told(support.act_surely("reject", bad))[-1:] == [("success", "1 rejected.")]
    good.refresh_from_db()
    bad.refresh_from_db()
    assert (good.status, good.announced_at is not None) == ("completed", True)
    assert (bad.status, bad.reason) == ("rejected", "It was rejected by this site's staff.")
    assert [each.get_change_message() for each in LogEntry.objects.order_by("pk")] == [
        "verifying → completed",
        "verifying → rejected",
    ]
    # Each may be repeated, and neither undoes the other.
    assert told(support.act("accept", bad))[-1:] == [
        ("warning", "“bad.jpg”: This upload is rejected."),
    ]


def test_an_action_takes_only_so_many_at_once(
    alice: App, support: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "MOST_AT_ONCE", 2)
    uploads = [row(alice.begin()) for _ in range(4)]
    answer = support.act("confirm_again", *uploads[:1], select_across="1")
    assert told(answer) == [
        ("warning", "Only the first 2 uploads were tried. Choose fewer at once."),
        ("warning", "“beach.jpg”: Nothing has been uploaded yet."),
        ("warning", "“beach.jpg”: Nothing has been uploaded yet."),
    ]
    page = support.act("cancel", *uploads[:1], select_across="1")
    assert "Only the first 2 uploads are taken at once." in page.content.decode()
    answer = support.act_surely("cancel", *uploads[:1], select_across="1")
    assert told(answer)[-1:] == [("success", "2 cancelled or deleted.")]
    assert Upload.objects.in_status("cancelled").count() == 2


@pytest.mark.django_db(transaction=True)
def test_under_atomic_requests_the_actions_hold_no_transaction(
    alice: App, support: Staff, monkeypatch: pytest.MonkeyPatch, in_transaction: list[bool]
) -> None:
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    begun = alice.begin().json()
    alice.send(begun["request"])
    upload = Upload.objects.get()
    assert told(support.act("confirm_again", upload)) == [("success", "1 confirmed.")]
    assert told(support.act_surely("cancel", upload))[-1] == ("success", "1 cancelled or deleted.")
    upload.refresh_from_db()
    assert upload.status == "deleted"
    assert LogEntry.objects.count() == 2
    assert in_transaction == [False]
    assert support.list().status_code == support.detail(upload).status_code == 200
