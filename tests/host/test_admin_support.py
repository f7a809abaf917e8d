"""What support staff are shown of an upload: its image, owner and holder, and what will be lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from example_project.photos.models import Photo
from s3direct_uploads.admin import filters, owners, summary
from s3direct_uploads.admin import uploads as admin
from s3direct_uploads.models import Upload, Usage, new_id
from s3direct_uploads.testing import completed_upload
from tests.conftest import App, Bucket, Visitor, row
from tests.host.conftest import LIST, Cells, Staff, hidden, told


def filenames(page: Any) -> set[str]:
    assert page.status_code == 200
    return {each["filename"] for each in Cells(page).rows}


def begin_at(owner: User, moment: datetime, filename: str, **fields: Any) -> Upload:
    """An upload that began at this moment: its id says so."""
    upload = completed_upload(destination="photos", owner=owner, filename=filename)
    id = filters.first_id(moment)
    Upload.objects.filter(pk=upload.pk).update(id=id, created_at=moment, **fields)
    return Upload.objects.get(pk=id)


# Thumbnails.


def test_the_list_shows_a_small_safe_image_by_our_own_view(alice: App, onlooker: Staff) -> None:
    upload = row(alice.upload(content_type="image/png"))
    html = onlooker.list().content.decode()
    [image] = re.findall(r"<img[^>]*>", html[html.index('id="result_list"') :])
    assert f'src="{LIST}{upload.pk}/download/?inline"' in image
    assert 'width="48" height="48" loading="lazy"' in image
    assert "X-Amz" not in html
    assert "X-Amz-Signature" in onlooker.download(upload, "?inline")["Location"]


@pytest.mark.parametrize(
    "change",
    [
        {"size": admin.LARGEST_THUMBNAIL + 1},
        {"content_type": "image/svg+xml"},
        {"content_type": "image/tiff"},
        {"content_type": "application/pdf"},
        {"status": "verifying", "held_at": timezone.now(), "completed_at": None},
        {"status": "pending", "completed_at": None, "announced_at": None},
        {"status": "deleted"},
    ],
)
def test_no_other_file_has_a_thumbnail(alice: App, onlooker: Staff, change: dict[str, Any]) -> None:
    upload = completed_upload(destination="photos", owner=alice.user, filename="a.png")
    Upload.objects.filter(pk=upload.pk).update(**{"announced_at": None, **change})
    page = onlooker.list()
    assert Cells(page).rows[0]["thumbnail"] == "-"
    assert "?inline" not in page.content.decode()


def test_a_large_image_is_only_downloaded(alice: App, onlooker: Staff) -> None:
    upload = completed_upload(destination="photos", owner=alice.user, filename="a.png")
    Upload.objects.update(size=admin.LARGEST_PREVIEW)
    assert "?inline" in onlooker.detail(upload).content.decode()
    Upload.objects.update(size=admin.LARGEST_PREVIEW + 1)
    html = onlooker.detail(upload).content.decode()
    assert "?inline" not in html
    assert f'<a href="{LIST}{upload.pk}/download/">' in html


def test_an_image_that_cannot_be_shown_says_nothing_later(alice: App, onlooker: Staff) -> None:
    upload = row(alice.upload(content_type="image/png"))
    Upload.objects.update(bucket="another")
    for _ in range(3):
        assert onlooker.download(upload, "?inline").status_code == 404
    assert 'class="messagelist"' not in onlooker.list().content.decode()


def test_no_page_has_a_script_or_a_style_of_its_own(alice: App, root: Staff) -> None:
    upload = row(alice.upload(content_type="image/png"))
    assert alice.user
    pages = [
        root.list(),
        root.detail(upload),
        root.act("cancel", upload),
        root.client.get(f"{LIST}owner/{alice.user.pk}/"),
    ]
    for page in pages:
        assert page.status_code == 200
        html = page.content.decode()
        assert not re.search(r"\sstyle=|\son\w+=|<style|<script(?![^>]*\ssrc=)[^>]*>", html)


# Filters.


def test_the_filter_by_time_uses_the_time_in_the_id(alice: App, onlooker: Staff) -> None:
    assert alice.user
    today = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    day = timedelta(days=1)
    begin_at(alice.user, today, "first of today")
    begin_at(alice.user, today - timedelta(milliseconds=1), "last of yesterday")
    begin_at(alice.user, today - 7 * day, "a week ago")
    begin_at(alice.user, today - 8 * day, "longer ago")
    assert filenames(onlooker.list(begun="today")) == {"first of today"}
    week = {"first of today", "last of yesterday", "a week ago"}
    assert filenames(onlooker.list(begun="week")) == week
    assert len(filenames(onlooker.list(begun="nonsense"))) == 4


def test_the_first_id_of_a_moment_is_below_each_id_that_is_made_then() -> None:
    before = filters.first_id(datetime.now(UTC))
    made = new_id()
    after = filters.first_id(datetime.now(UTC) + timedelta(milliseconds=1))
    assert before <= made < after


def test_the_filters_by_use_and_owner(alice: App, visitor: Visitor, onlooker: Staff) -> None:
    alice.upload(filename="free.jpg")
    row(alice.upload(filename="used.jpg")).attach()
    alice.begin(filename="pending.jpg")
    visitor.upload(filename="cv.pdf")
    completed_upload(destination="photos", owner=None, filename="script.jpg")

    alices = {"free.jpg", "used.jpg", "pending.jpg"}
    assert filenames(onlooker.list(attached="yes")) == {"used.jpg"}
    assert filenames(onlooker.list(attached="no")) == {"free.jpg", "cv.pdf", "script.jpg"}
    assert filenames(onlooker.list(by="user")) == alices
    assert filenames(onlooker.list(by="visitor")) == {"cv.pdf"}
    assert filenames(onlooker.list(by="script")) == {"script.jpg"}
    assert filenames(onlooker.list(by="user", attached="no")) == {"free.jpg"}
    assert filenames(onlooker.list(by="\0", attached="'")) == alices | {"cv.pdf", "script.jpg"}


def test_a_filter_without_an_index_looks_at_the_newest_and_says_so(
    alice: App, onlooker: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "MOST_LOOKED_AT", 2)
    for n in range(3):
        alice.upload(filename=f"{n}.jpg")
    for query in ({"attached": "no"}, {"by": "user"}, {"destination": "photos"}):
        page = onlooker.list(**query)
        assert filenames(page) == {"1.jpg", "2.jpg"}
        assert "look at the newest 2 uploads" in page.content.decode()
    searched = onlooker.list(attached="no", q="alice")
    assert len(filenames(searched)) == 3
    for nothing in ("\0", "alice\0", "\u200b", " "):
        unsearched = onlooker.list(attached="no", q=nothing)
        assert filenames(unsearched) == {"1.jpg", "2.jpg"}, "no search is no way around the bound"
    for page in (searched, onlooker.list()):
        assert "look at the newest" not in page.content.decode()


# The summary.


def figures(page: Any) -> dict[str, str]:
    found = re.findall(r'<dt>(.*?)</dt><dd><a href="[^"]*">(.*?)</a>', page.content.decode())
    return {name: value.replace("\N{NO-BREAK SPACE}", " ") for name, value in found}


def test_the_summary_counts_no_further_than_its_bounds(
    alice: App, onlooker: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert alice.user
    now = timezone.now()
    for n in range(3):
        alice.begin(filename=f"{n}.jpg")
        completed_upload(destination="photos", owner=alice.user, content=b"12345")
    unfinished = {"completed_at": None, "announced_at": None}
    begin_at(alice.user, now, "bad.jpg", status="rejected", reason="short", **unfinished)
    week = timedelta(days=7)
    begin_at(alice.user, now - 2 * week, "old.jpg", status="rejected", reason="short", **unfinished)
    begin_at(alice.user, now - week / 2, "late.jpg", status="expired", **unfinished)
    begin_at(alice.user, now - 3 * week, "large.jpg", size=1024**3)

    assert figures(onlooker.list()) == {
        "Under way": "3",
        "Begun today and rejected": "1",
        "Begun in the past 7 days and expired": "1",
        "Begun in the past 7 days and completed": "15 bytes",
    }
    monkeypatch.setattr(summary, "MOST_COUNTED", 2)
    monkeypatch.setattr(summary, "MOST_SUMMED", 4)
    shown = figures(onlooker.list())
    assert shown["Under way"] == "2+"
    assert shown["Begun in the past 7 days and completed"].endswith(" bytes+")


def test_the_summary_costs_four_bounded_statements(onlooker: Staff) -> None:
    with CaptureQueriesContext(connection) as captured:
        list(summary.figures(Upload.objects.all()))
    statements = [each["sql"] for each in captured.captured_queries]
    assert len(statements) == 4
    assert all(re.search(r"LIMIT (1001|5000)\)", each) for each in statements), statements


# What holds it.


def test_the_holder_is_found_on_the_click_alone(alice: App, root: Staff, onlooker: Staff) -> None:
    assert alice.user
    upload = row(alice.upload())
    photo = Photo.objects.create(owner=alice.user, image=upload, filename="a.jpg")
    link = f'<a href="{LIST}{upload.pk}/holder/">photos.Photo.image</a>'
    with CaptureQueriesContext(connection) as captured:
        assert link in root.list().content.decode()
        assert link in root.detail(upload).content.decode()
    assert "photos_photo" not in str(captured.captured_queries)

    answer = root.client.get(f"{LIST}{upload.pk}/holder/")
    assert answer["Location"] == f"/admin/photos/photo/{photo.pk}/change/"
    # Another row may name the file, too: then it is the list of both.
    Photo.objects.create(owner=alice.user, image=photo.image, filename="b.jpg")
    answer = root.client.get(f"{LIST}{upload.pk}/holder/")
    assert answer["Location"].startswith("/admin/photos/photo/?image=")
    assert root.client.get(answer["Location"]).status_code == 200

    answer = onlooker.client.get(f"{LIST}{upload.pk}/holder/")
    assert answer["Location"] == f"{LIST}{upload.pk}/change/"
    assert told(answer) == [("warning", "You may not see the model that uses it.")]


def test_a_holder_that_is_not_there_leads_back_with_a_word(alice: App, root: Staff) -> None:
    gone, unknown, unregistered = (row(alice.upload(filename=f"{n}.jpg")) for n in range(3))
    gone.attach(to="photos.Photo.image")
    unknown.attach(to="shop.Product.picture")
    unregistered.attach(to="tests.Photo.image")
    words = {
        gone: "No row of the model names this file now.",
        unknown: "This project does not have the field that uses it.",
        unregistered: "The admin does not show the model that uses it.",
    }
    for upload, word in words.items():
        answer = root.client.get(f"{LIST}{upload.pk}/holder/")
        assert answer["Location"] == f"{LIST}{upload.pk}/change/"
        assert told(answer)[-1:] == [("warning", word)]


# One owner.


def test_the_page_of_an_owner(
    alice: App, bob: App, root: Staff, onlooker: Staff, settings: Any
) -> None:
    photos = {"MAX_SIZE": 1024**2, "CONTENT_TYPES": ["image/*"], "MAX_PENDING": 9}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": photos}}
    for n in range(2):
        alice.upload(filename=f"{n}.jpg", body=b"x" * 1024)
    alice.begin(size=1024)
    bob.begin()
    assert alice.user
    url = f"{LIST}owner/{alice.user.pk}/"
    assert f'<a href="{url}">alice</a>' in onlooker.list().content.decode()

    with CaptureQueriesContext(connection) as captured:
        html = root.client.get(url).content.decode()
    rows = re.findall(r'<th scope="row">(\w+)</th>\s*(.*?)</tr>', html, re.DOTALL)
    cells = [[name, *re.findall(r">([^<>\n]+)<", cells)] for name, cells in rows]
    assert cells == [
        ["photos", "Completed", "2", "2 kB"],
        ["photos", "Pending", "1", "1 kB"],
        ["photos", "1", "3 kB"],
    ]
    assert f'href="/admin/auth/user/{alice.user.pk}/change/"' in html
    assert len(captured.captured_queries) <= 6
    [query] = re.findall(
        r'href="(/admin/s3direct_uploads/upload/\?q=alice&amp;[^"]*completed[^"]*)', html
    )
    assert filenames(root.client.get(query.replace("&amp;", "&"))) == {"0.jpg", "1.jpg"}

    seen = onlooker.client.get(url).content.decode()
    assert "Quota in use" not in seen
    assert "/admin/auth/user/" not in seen


def test_the_page_of_an_owner_counts_the_newest(
    alice: App, root: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "MOST_COUNTED", 2)
    assert alice.user
    url = f"{LIST}owner/{alice.user.pk}/"
    for _ in range(2):
        completed_upload(destination="photos", owner=alice.user, content=b"12345")
    assert "Only the newest" not in root.client.get(url).content.decode()
    completed_upload(destination="photos", owner=alice.user, content=b"12345")
    html = root.client.get(url).content.decode()
    assert "Only the newest 2 are counted." in html
    assert "10 bytes" in html


def test_who_may_see_the_pages_of_an_owner_and_a_holder(
    alice: App, make_staff: Callable[..., Staff], onlooker: Staff
) -> None:
    upload = row(alice.upload())
    assert alice.user
    paths = [f"owner/{alice.user.pk}/", f"{upload.pk}/holder/"]
    for path in paths:
        assert Staff(alice.user).client.get(f"{LIST}{path}").status_code == 302, "to the login"
        assert make_staff("view_user").client.get(f"{LIST}{path}").status_code == 403
    for nobody in ("0", "x", "9" * 30, "_00", "1/2"):
        assert onlooker.client.get(f"{LIST}owner/{nobody}/").status_code == 404


# What is lost.


def test_cancel_asks_first_and_lists_what_is_lost(alice: App, support: Staff, s3: Bucket) -> None:
    pending = row(alice.begin(filename="pending.jpg"))
    unused = row(alice.upload(filename="<unused>.jpg"))
    used = row(alice.upload(filename="used.jpg"))
    used.attach(to="photos.Photo.image")

    page = support.act("cancel", pending, unused, used)

    html = " ".join(page.content.decode().split())
    assert "<strong>Warning:</strong> the files that this list shows as deleted are lost." in html
    fates = re.findall(r'/change/">([^<]*)</a> \([^)]*\)<br> (.*?) </li>', html)
    assert fates == [
        ("used.jpg", "It stays: photos.Photo.image uses it."),
        ("&lt;unused&gt;.jpg", "<strong>Nothing uses it: its file is deleted.</strong>"),
        (
            "pending.jpg",
            "<strong>It is under way: what was sent is deleted, and its sender must begin again."
            "</strong>",
        ),
    ]
    assert set(Upload.objects.values_list("status", flat=True)) == {"pending", "completed"}
    assert told(support.client.post(LIST, hidden(page)))[-1] == (
        "success",
        "2 cancelled or deleted.",
    )


def test_what_changes_after_the_question_is_left_as_it_is(alice: App, support: Staff) -> None:
    begun = alice.begin().json()
    upload = Upload.objects.get()
    page = support.act("cancel", upload)
    alice.send(begun["request"])
    alice.confirm(begun["id"])

    answer = support.client.post(LIST, hidden(page))

    word = "“beach.jpg” has changed meanwhile, and was left as it is."
    assert told(answer) == [("warning", word)]
    upload.refresh_from_db()
    assert upload.status == "completed"


def test_nobody_skips_the_question(alice: App, support: Staff, onlooker: Staff) -> None:
    upload = row(alice.upload())
    form = {"action": "cancel", "post": "yes", "_selected_action": str(upload.pk)}
    support.client.post(LIST, form)
    support.client.get(LIST, form)
    onlooker.client.post(LIST, {**form, "shown": f"{upload.pk}:completed"})
    upload.refresh_from_db()
    assert upload.status == "completed"


def test_reject_asks_first_too_and_a_page_without_a_loss_has_no_button(
    alice: App, support: Staff
) -> None:
    upload = row(alice.upload())
    html = support.act("reject", upload).content.decode()
    assert "Nothing would change." in html
    assert "It stays as it is: Completed." in html
    assert 'type="submit" value="Yes' not in html


def test_usage_links_to_its_owner(alice: App, root: Staff) -> None:
    assert alice.user
    Usage.objects.create(owner=alice.user, destination="photos")
    html = root.client.get("/admin/s3direct_uploads/usage/").content.decode()
    assert f'<a href="{LIST}owner/{alice.user.pk}/">alice</a>' in html
