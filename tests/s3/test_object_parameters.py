"""What object_parameters add to an upload, and some of them to every request to S3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from io import BytesIO, StringIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from botocore.loaders import Loader
from django.core import checks
from django.core.management import CommandError, call_command

from s3direct_uploads import lifecycle, provisioning
from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import get_bucket
from s3direct_uploads.storage import S3Storage
from tests.conftest import FILM, PART_SIZE, REAL, App, Bucket, begin_last_part, row

IN_2030 = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
# The id of the check, the parameters, and what the message must name.
WRONG: list[tuple[str, Any, str]] = [
    # no parameters, or none that S3 knows for an object that is uploaded
    ("E039", ["CacheControl"], "dict"),
    ("E039", None, "dict"),
    ("E039", "CacheControl: no-cache", "dict"),
    ("E039", {"Cache-Control": "no-cache"}, "Cache-Control"),
    ("E039", {"cachecontrol": "no-cache"}, "cachecontrol"),
    ("E039", {5: "no-cache"}, "5"),
    ("E039", {"ContentMD5": "1B2M2Y8AsgTpgAmY7PhCfg=="}, "ContentMD5"),
    ("E039", {"ChecksumSHA256": "x"}, "ChecksumSHA256"),
    ("E039", {"Body": b"x"}, "Body"),
    ("E039", {"Bucket": "another"}, "Bucket"),
    # types
    ("E040", {"Expires": date(2030, 1, 2)}, "Expires"),
    ("E040", {"Expires": timedelta(days=1)}, "Expires"),
    ("E040", {"Expires": "in a week"}, "Expires"),
    ("E040", {"Expires": 86400.5}, "Expires"),
    ("E040", {"Expires": ""}, "Expires"),
    ("E040", {"CacheControl": b"no-cache"}, "CacheControl"),
    ("E040", {"CacheControl": 86400}, "CacheControl"),
    ("E040", {"CacheControl": None}, "CacheControl"),
    ("E040", {"CacheControl": timedelta(days=1)}, "CacheControl"),
    ("E040", {"CacheControl": ["no-cache"]}, "CacheControl"),
    ("E040", {"ContentDisposition": {"attachment"}}, "ContentDisposition"),
    ("E040", {"Tagging": {"a": "b"}}, "Tagging"),
    ("E040", {"BucketKeyEnabled": "true"}, "BucketKeyEnabled"),
    ("E040", {"Metadata": "a=b"}, "Metadata"),
    ("E040", {"Metadata": {"a": 1}}, "Metadata"),
    ("E040", {"Metadata": {"a": date(2030, 1, 2)}}, "Metadata"),
    ("E040", {"Metadata": {1: "a"}}, "Metadata"),
    ("E040", {"ObjectLockRetainUntilDate": date(2030, 1, 2)}, "ObjectLockRetainUntilDate"),
    ("E040", {"RequestPayer": True}, "RequestPayer"),
    ("E040", {"ExpectedBucketOwner": 123456789012}, "ExpectedBucketOwner"),
    # what no header carries as it is
    ("E041", {"ContentDisposition": 'attachment; filename="é.jpg"'}, "ContentDisposition"),
    ("E041", {"CacheControl": "no-cache "}, "CacheControl"),
    ("E041", {"CacheControl": "no\ncache"}, "CacheControl"),
    ("E041", {"CacheControl": ""}, "CacheControl"),
    ("E041", {"Metadata": {"by": "André"}}, "Metadata"),
    ("E041", {"Metadata": {"by": ""}}, "Metadata"),
    ("E041", {"Metadata": {"für": "us"}}, "Metadata"),
    ("E041", {"ContentEncoding": "gzip, aws-chunked"}, "ContentEncoding"),  # S3 takes it out
    ("E041", {"Metadata": {"a b": "us"}}, "Metadata"),
    ("E041", {"Metadata": {"a": "1", "A": "2"}}, "Metadata"),
    ("E041", {"Metadata": {"a": "x" * 2048}}, "Metadata"),
    # a secret that a browser would be handed
    ("E042", {"SSECustomerKey": "k" * 32, "SSECustomerAlgorithm": "AES256"}, "SSE-C"),
]
RIGHT: list[dict[str, Any]] = [
    {},
    {"CacheControl": "max-age=86400"},
    {"Expires": IN_2030},
    {"Expires": datetime(2030, 1, 2, 3, 4, 5)},
    {"Expires": "Wed, 02 Jan 2030 03:04:05 GMT"},
    {"Expires": "2030-01-02T03:04:05Z"},
    {"ContentDisposition": "attachment; filename*=utf-8''%C3%A9.jpg"},
    {"ContentLanguage": "de", "ContentEncoding": "identity"},
    {"Metadata": {"By": "us", "made-by": "two  words"}},
    {"Metadata": {}},
    {"WebsiteRedirectLocation": "/elsewhere"},
    {"Tagging": "a=b&c=d", "StorageClass": "STANDARD"},
]


def found_by_checks() -> list[Any]:
    return [each for each in checks.run_checks() if str(each.id).startswith("s3direct_uploads.")]


@pytest.mark.parametrize(("id", "parameters", "named"), WRONG)
def test_a_wrong_parameter_is_a_check_and_never_a_traceback(
    alice: App, storage_options: Callable[..., None], id: str, parameters: Any, named: str
) -> None:
    storage_options(object_parameters=parameters)
    [found] = found_by_checks()
    assert found.id == f"s3direct_uploads.{id}"
    assert named in found.msg
    assert found.hint
    answer = alice.begin()
    assert (answer.status_code, answer.json()["code"]) == (503, "misconfigured")
    assert not Upload.objects.exists()


@pytest.mark.parametrize("parameters", RIGHT)
def test_right_parameters_are_stored_with_the_object(
    alice: App, storage_options: Callable[..., None], parameters: dict[str, Any]
) -> None:
    storage_options(object_parameters=parameters)
    assert found_by_checks() == []
    begun = alice.begin().json()
    assert all(value.isascii() for value in begun["request"]["headers"].values())
    assert alice.send(begun["request"]) == 200
    assert alice.confirm(begun["id"]).status_code == 200


class Hooked(S3Storage):
    """A host's storage whose parameters depend on the key."""

    answer: Any = None

    def get_object_parameters(self, name: str) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    "answer",
    [None, [], {"Expires": timedelta(1)}, {"CacheControl": b"x"}, {"None": "such"}, KeyError("k")],
)
def test_a_hook_that_answers_wrong_parameters_is_misconfigured(
    alice: App,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    answer: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    storage = {**settings.STORAGES["default"], "BACKEND": f"{__name__}.Hooked"}
    settings.STORAGES = {**settings.STORAGES, "default": storage}
    monkeypatch.setattr(Hooked, "answer", answer)
    response = alice.begin()
    assert (response.status_code, response.json()["code"]) == (503, "misconfigured")
    assert "parameters" in caplog.text
    with pytest.raises(CommandError, match="parameters"):
        call_command("setup_bucket", "--origin", "https://app.example.com", "--format", "json")


def test_the_parameters_are_those_that_boto3_knows_for_both_ways_to_upload() -> None:
    from s3direct_uploads.storage import BOOLEANS, DATES, TEXTS

    model = Loader().load_service_model("s3", "service-2")
    put, create = (
        model["shapes"][f"{name}Request"]["members"]
        for name in ("PutObject", "CreateMultipartUpload")
    )

    def type_of(name: str) -> str:
        kind: str = model["shapes"][put[name]["shape"]]["type"]
        return kind

    for names, kind in ((TEXTS, "string"), (BOOLEANS, "boolean"), (DATES, "timestamp")):
        assert {type_of(name) for name in names} == {kind}
        assert names <= create.keys()


# RequestPayer and ExpectedBucketOwner belong to every request.

# As the server knows the owner of its buckets (scripts/ceph): Ceph refuses what names another.
OWNER = "test" if REAL else "123456789012"
SHARED = {"RequestPayer": "requester", "ExpectedBucketOwner": OWNER}
HEADERS = {"x-amz-request-payer": "requester", "x-amz-expected-bucket-owner": OWNER}


@pytest.fixture
def said(storage_options: Callable[..., None]) -> Iterator[dict[str, dict[str, str]]]:
    """The payer and owner in each request from now on, by operation."""
    storage_options(object_parameters=SHARED)
    said: dict[str, dict[str, str]] = {}

    def record(request: Any, event_name: str, **_: Any) -> None:
        names = {name: name.lower() for name in request.headers}
        said[event_name.rpartition(".")[2]] = {
            lower: _text(request.headers[name]) for name, lower in names.items() if lower in HEADERS
        }

    bucket = get_bucket("default")
    clients = [bucket._client, bucket._creator, bucket._completer, bucket._sender]
    for client in clients:
        client.meta.events.register("before-send.s3", record, unique_id="said")
    yield said
    for client in clients:
        client.meta.events.unregister("before-send.s3", unique_id="said")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


ONLY_THE_OWNER = {"x-amz-expected-bucket-owner": OWNER}  # a bucket's, not an object's


@pytest.mark.usefixtures("films")
def test_the_server_sends_payer_and_owner_with_every_request(
    alice: App, s3: Bucket, said: dict[str, dict[str, str]]
) -> None:
    photo = row(alice.upload())
    film = row(alice.begin_film())
    alice.send_parts(alice.sign_parts(str(film.pk), [1, 2]).json()["parts"])
    assert alice.parts(str(film.pk)).status_code == 200
    assert alice.confirm(str(film.pk)).status_code == 200
    given_up = row(alice.begin_film())
    assert alice.delete(str(given_up.pk)).status_code == 204
    stored = lifecycle.store(BytesIO(b"x"), destination="photos", filename="x.jpg")
    bucket = get_bucket("default")
    bucket.probe()
    assert [each for page in bucket.list_objects("site/photos/") for each in page]
    assert not [each for page in bucket.list_multiparts("none/") for each in page]
    bucket.delete(photo.key)
    assert bucket.delete_all([stored.key, film.key]) == {}
    bucket._versions("none")
    bucket.cors_rules()

    assert said.pop("HeadBucket") == ONLY_THE_OWNER
    assert said.pop("GetBucketCors") == ONLY_THE_OWNER
    assert set(said) == {
        *("HeadObject", "PutObject", "DeleteObject", "DeleteObjects"),
        *("CreateMultipartUpload", "ListParts", "CompleteMultipartUpload"),
        *("AbortMultipartUpload", "ListMultipartUploads"),
        *("ListObjectsV2", "ListObjectVersions"),
    }
    assert {operation: headers for operation, headers in said.items() if headers != HEADERS} == {}


@pytest.mark.usefixtures("films")
def test_clients_send_payer_and_owner_too(
    alice: App, s3: Bucket, storage_options: Callable[..., None]
) -> None:
    storage_options(object_parameters=SHARED)
    begun = alice.begin().json()["request"]
    assert HEADERS.items() <= begun["headers"].items()
    assert HEADERS.keys() <= signed_headers(begun["url"])
    film, part = begin_last_part(alice)
    assert part["headers"] == HEADERS
    assert HEADERS.keys() <= signed_headers(part["url"])
    assert len(FILM) > PART_SIZE
    assert alice.send(part, b"the end") == 200
    assert alice.delete(str(film.pk)).status_code == 204
    # A browser that follows a link sends no header of ours: it is in the URL, and signed.
    upload = row(alice.upload())
    url = alice.get(f"{upload.pk}/url/").json()["url"]
    query = {name: value for name, [value] in parse_qs(urlsplit(url).query).items()}
    assert HEADERS.items() <= query.items()
    assert signed_headers(url) == {"host"}
    assert requests.get(url, timeout=10).status_code == 200


def signed_headers(url: str) -> set[str]:
    return set(parse_qs(urlsplit(url).query)["X-Amz-SignedHeaders"][0].split(";"))


@pytest.mark.parametrize("guard", ["if-none-match", "multipart"])
def test_the_cors_rule_lets_browsers_send_payer_and_owner(
    storage_options: Callable[..., None], guard: str
) -> None:
    storage_options(object_parameters=SHARED, overwrite_guard=guard)
    assert HEADERS.keys() <= set(provisioning.needs_of("default").headers)


def test_a_storage_that_says_nothing_adds_nothing(
    storage_options: Callable[..., None], s3: Bucket
) -> None:
    bucket = get_bucket("default")
    expires = timedelta(hours=1)
    [part] = bucket.presign_parts("k", "id", {1: 5}, expires=expires)
    assert part.headers == {}
    get = bucket.presign_get("k", filename="k", inline=False, version_id="", expires=expires)
    assert "x-amz-request" not in get.url.lower()
    assert provisioning.needs_of("default").headers


def test_setup_bucket_names_a_wrong_parameter(
    storage_options: Callable[..., None], s3: Bucket
) -> None:
    storage_options(object_parameters={"Expires": timedelta(days=1)})
    with pytest.raises(CommandError, match="Expires"):
        call_command(
            "setup_bucket",
            *("--origin", "https://app.example.com", "--format", "json"),
            skip_checks=True,
            stdout=StringIO(),
        )
