"""Scripts upload by the same rules as clients; a host's tests need no S3."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile
from django.test import override_settings

from s3direct_uploads import lifecycle, signals
from s3direct_uploads.exceptions import BucketUnavailable, ObjectMismatch
from s3direct_uploads.models import Upload
from s3direct_uploads.testing import completed_upload, storages_in_memory
from tests.conftest import JPEG, App, Bucket, Connect
from tests.models import Photo

pytestmark = pytest.mark.django_db


def test_a_script_stores_a_file(
    s3: Bucket, s3_calls: list[str], tmp_path: Path, connect: Connect
) -> None:
    causes = []

    def listen(cause: str, **_: Any) -> None:
        causes.append(cause)

    connect(signals.upload_completed, listen)
    path = tmp_path / "beach.jpg"
    path.write_bytes(JPEG)
    with path.open("rb") as file:
        upload = lifecycle.store(file, destination="photos")
    assert (upload.status, upload.filename, upload.owner) == ("completed", "beach.jpg", None)
    assert upload.checksum == base64.b64encode(hashlib.sha256(JPEG).digest()).decode()
    assert s3.read(upload) == JPEG
    assert s3_calls == ["HeadObject"], "beside the PUT, by a client of more patience"
    assert causes == ["store"]
    assert Photo.objects.create(image=upload.attach()).image.name == upload.name


def test_a_script_obeys_the_rules_too(s3: Bucket, make_user: Callable[..., User]) -> None:
    for file, destination, code in (
        (ContentFile(b"x", name="a.txt"), "photos", "not_allowed"),
        (ContentFile(b"", name="a.jpg"), "albums", "too_small"),
        (ContentFile(b"x", name="a.jpg"), "albums", "no_album"),
        (ContentFile(b"x"), "photos", "blank"),
        (ContentFile(b"x", name="a.jpg"), "nowhere", "unknown"),
    ):
        with pytest.raises(ValidationError) as refused:
            lifecycle.store(file, destination=destination)  # type: ignore[arg-type]
        codes = {error.code for [error] in refused.value.error_dict.values()}
        assert code in codes
    assert not Upload.objects.exists()

    with pytest.raises(ObjectMismatch):
        lifecycle.store(
            BytesIO(b"x" * 13),
            destination="albums",
            filename="a.jpg",
            owner=make_user("alice"),
            context={"album": 1},
        )
    assert Upload.objects.get().status == "rejected"


def test_an_upload_that_a_script_could_not_store_is_cancelled(s3_away: Callable[[], None]) -> None:
    s3_away()
    with pytest.raises(BucketUnavailable):
        lifecycle.store(BytesIO(JPEG), destination="photos", filename="a.jpg")
    upload = Upload.objects.get()
    assert (upload.status, upload.due_at) == ("cancelled", upload.key_closes_at)


# testing.py, as a host uses it.


def test_a_hosts_test_needs_no_s3(
    s3_calls: list[str], uploads_in_memory: Callable[..., Upload], make_user: Callable[..., User]
) -> None:
    user = make_user("carol")
    upload = uploads_in_memory(
        owner=user, destination="photos", content=JPEG, filename="a.jpg", context={"album": 1}
    )
    assert (upload.status, upload.content_type, upload.size) == (
        "completed",
        "image/jpeg",
        len(JPEG),
    )
    answer = App(user).client.post("/api/photos/", {"image": str(upload.pk)}, format="json")
    assert answer.status_code == 201
    assert answer.json()["image"]["size"] == len(JPEG)
    with Photo.objects.get().image.open() as file:
        assert file.read() == JPEG
    assert s3_calls == []


def test_where_the_storage_stays_on_s3_only_the_row_is_made(
    s3: Bucket, s3_calls: list[str]
) -> None:
    upload = completed_upload(destination="photos", filename="a.jpg")
    assert upload.key.startswith("site/photos/")
    assert upload.name.startswith("photos/")
    assert s3_calls == []
    with storages_in_memory():
        assert completed_upload(destination="albums").key.startswith("albums/")


@override_settings(S3DIRECT_UPLOADS={})
def test_an_unknown_destination_is_an_error() -> None:
    with pytest.raises(ValidationError):
        completed_upload(destination="photos")


def test_the_testing_tools_work_with_unittest() -> None:
    code = "import sys; sys.modules['pytest'] = None; import s3direct_uploads.testing"
    subprocess.run([sys.executable, "-c", code], check=True)
