"""Each mistake in the settings has a check id of its own, and no mistake is a traceback."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from s3direct_uploads import conf, signals
from s3direct_uploads.destinations import Destination
from s3direct_uploads.exceptions import ObjectMismatch
from s3direct_uploads.models import Upload
from tests.conftest import ROOT, App, Connect, assert_error, row
from tests.host.conftest import RIGHT, Find, assert_found

ABSENT = object()
TOPIC = "arn:aws:sns:eu-central-1:123456789012:uploads"


class Photos(Destination):
    max_size = 1024
    content_types = ("image/jpeg",)
    prefix = "p/"


class WantsMore(Destination):
    max_size, content_types = 100, ["image/*"]

    def __init__(self, name: str, more: str) -> None:
        super().__init__(name)


class PrefixOfItsOwn(Destination):
    max_size, content_types = 100, ["image/*"]

    def get_prefix(self, upload: Upload, request: object) -> str:
        return {"nothing.jpg": None}.get(upload.filename, "p/")  # type: ignore[return-value]


class NoSize(Destination):
    content_types = ("image/jpeg",)


class NoTypes(Destination):
    max_size = 1024


class AsyncPermission(Photos):
    async def has_permission(self, upload: Upload, request: Any) -> bool:  # type: ignore[override]
        return False


class AsyncVerify(Photos):
    async def verify(self, upload: Upload, stored: Any) -> None:  # type: ignore[override]
        raise ObjectMismatch("No.")


class NoVerify(Photos):
    verify = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "value",
    [
        {"DESTINATIONS": {"photos": RIGHT}},
        {"DESTINATIONS": {"photos": f"{__name__}.Photos"}},
        {"DESTINATIONS": {"photos": Photos}},
        {"DESTINATIONS": {"a": RIGHT, "b-2_c": Photos, "x" * 50: RIGHT}},
        {
            "DESTINATIONS": {
                "photos": {
                    "MAX_SIZE": 10_000 * 5 * 1024**3,
                    "CONTENT_TYPES": ("image/svg+xml", "application/vnd.ms-excel", "*/*"),
                    "STORAGE": "default",
                    "PREFIX": "a/b.c/_-/",
                    "MIN_SIZE": 1,
                    "PERMISSION": "photos.add_photo",
                    "REQUIRE_CHECKSUM": True,
                    "ACL": "public-read",
                    "PART_SIZE": 5 * 1024**2,
                }
            },
            "URL_EXPIRES": 60,
            "PENDING_EXPIRES": timedelta(days=30),
            "MULTIPART_EXPIRES": timedelta(days=90),
            "SWEEP_GRACE": timedelta(seconds=1),
            "MAX_NAME_LENGTH": 255,
            "EVENT_SECRET": "x" * 16,
            "SITE": "staging.eu-2_b",
            "SNS_TOPICS": [TOPIC, "arn:aws-cn:sns:cn-north-1:123456789012:up_loads-2.fifo"],
        },
        {"DESTINATIONS": {"photos": RIGHT}, "EVENT_SECRET": "", "SNS_TOPICS": ()},
        {"DESTINATIONS": {"photos": {**RIGHT, "PREFIX": ""}}, "URL_EXPIRES": timedelta(days=7)},
        {"DESTINATIONS": {"photos": {**RIGHT, "PREFIX": "p" * 50 + "/"}}},
        {"DESTINATIONS": {"photos": {**RIGHT, "PART_SIZE": 5 * 1024**3}}},
        {
            "DESTINATIONS": {"photos": {**RIGHT, "PREFIX": "p" * 100 + "/"}},
            "MAX_NAME_LENGTH": 150,
        },
    ],
)
def test_right_settings_are_found_right(find: Find, settings: Any, value: Any) -> None:
    settings.S3DIRECT_UPLOADS = value
    assert find() == []


@pytest.mark.parametrize("spec", [{**RIGHT, "PREFIX": "p/"}, f"{__name__}.Photos", Photos])
def test_a_dict_a_path_and_a_class_are_all_the_same(alice: App, settings: Any, spec: Any) -> None:
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": spec}}
    answer = alice.begin()
    assert answer.status_code == 201
    assert Upload.objects.get().name.startswith("p/")


def test_a_setting_that_is_changed_in_place_is_checked_again(alice: App, settings: Any) -> None:
    photos: dict[str, Any] = {**RIGHT}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": photos}}
    assert alice.begin().status_code == 201
    for key, wrong in (("MAX_SIZE", float(photos["MAX_SIZE"])), ("PREFIX", "/"), ("NO_SUCH", 1)):
        photos[key] = wrong
        assert_error(alice.begin(), 503, "misconfigured")
        photos.pop(key)
        photos |= RIGHT
        assert alice.begin().status_code == 201
    photos["PREFIX"] = "p" * 40 + "/"
    assert alice.begin().status_code == 201
    settings.S3DIRECT_UPLOADS["MAX_NAME_LENGTH"] = 64
    assert_error(alice.begin(), 503, "misconfigured")


GLOBAL: list[tuple[str, Any]] = [
    ("E001", ABSENT),
    ("E001", None),
    ("E001", "photos"),
    ("E001", ["photos"]),
    ("E002", {"DESTINATIONS": {"photos": RIGHT}, "URL_EXPIRY": 3600}),
    ("E002", {"DESTINATIONS": {"photos": RIGHT}, "url_expires": 3600, 5: 5}),
    ("E003", {}),
    ("E003", {"URL_EXPIRES": 60}),
    ("E003", {"DESTINATIONS": {}}),
    ("E003", {"DESTINATIONS": None}),
    ("E003", {"DESTINATIONS": ["photos"]}),
    ("E003", {"DESTINATIONS": "photos.uploads.Photos"}),
    *(
        ("E027", {"DESTINATIONS": {"photos": RIGHT}, "EVENT_SECRET": secret})
        for secret in ("short", "x" * 15, 5, ["x" * 16], "with a space in it", "x" * 15 + "é")
    ),
    *(
        ("E038", {"DESTINATIONS": {"photos": RIGHT}, "SITE": site})
        for site in (5, True, ["production"], "with a space", "x" * 65, "düsseldorf", "a\n")
    ),
    *(
        ("E028", {"DESTINATIONS": {"photos": RIGHT}, "SNS_TOPICS": topics})
        for topics in (
            TOPIC,
            {TOPIC: 1},
            ["uploads"],
            [TOPIC.replace("sns", "sqs")],
            [TOPIC.replace("eu-central-1", "s3")],
            [TOPIC.replace("eu-central-1", "s3-us-west-2")],
            [TOPIC.replace("eu-central-1", "cn-north-1")],
            [TOPIC.replace("arn:aws", "arn:aws-cn")],
            [TOPIC.replace("arn:aws", "arn:aws-nowhere")],
            [TOPIC + "\n"],
        )
    ),
]


@pytest.mark.parametrize(("id", "value"), GLOBAL)
def test_a_wrong_setting_has_a_check_id_and_begin_a_code(
    find: Find, alice: App, settings: Any, id: str, value: Any
) -> None:
    settings.S3DIRECT_UPLOADS = value
    if value is ABSENT:
        del settings.S3DIRECT_UPLOADS
    assert_found(find(), id)

    known = "photos" in conf.destinations()
    assert alice.begin().status_code == (201 if known else 400)
    assert alice.get().status_code == 200


def test_a_secret_is_not_said_even_where_it_is_wrong(find: Find, settings: Any) -> None:
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": RIGHT}, "EVENT_SECRET": "a b c d"}
    [problem] = find()
    assert "a b c d" not in f"{problem.msg} {problem.hint}"


DURATIONS = ["1h", "3600", 0, -1, 1.5, True, timedelta(0), timedelta(seconds=-1), 10**9, [1]]
DEFAULTS = [
    ("URL_EXPIRES", conf.url_expires, timedelta(hours=1)),
    ("PENDING_EXPIRES", conf.pending_expires, timedelta(days=1)),
    ("MULTIPART_EXPIRES", conf.multipart_expires, timedelta(days=7)),
    ("SWEEP_GRACE", conf.sweep_grace, timedelta(hours=1)),
]
NUMBERS: list[tuple[str, str, Any, Any, Any]] = [
    *(
        ("E016", key, value, read, default)
        for key, read, default in DEFAULTS
        for value in DURATIONS
    ),
    ("E017", "URL_EXPIRES", timedelta(days=7, seconds=1), conf.url_expires, timedelta(days=7)),
    ("E017", "URL_EXPIRES", 30 * 86400, conf.url_expires, timedelta(days=7)),
    *(
        ("E018", "MAX_NAME_LENGTH", value, conf.max_name_length, 100)
        for value in ("100", 0, -1, 63, 513, 99.5, True, None, [100])
    ),
]


@pytest.mark.parametrize(("id", "key", "value", "read", "default"), NUMBERS)
def test_a_wrong_number_has_a_check_id_and_its_default_stands_in(
    find: Find, settings: Any, id: str, key: str, value: Any, read: Any, default: Any
) -> None:
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": RIGHT}, key: value}
    assert_found(find(), id)
    assert read() == default


def test_begin_works_though_every_number_is_wrong(alice: App, settings: Any) -> None:
    wrong = dict.fromkeys((*conf.DURATIONS, "MAX_NAME_LENGTH"), "1h")
    large = {**RIGHT, "MAX_SIZE": 20 * 1024**2}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": large}, **wrong}
    answer = alice.begin(filename="x" * 200 + ".jpg")
    assert answer.json()["request"]["expires_in"] == 3600
    upload = row(answer)
    assert upload.expires_at - upload.created_at == timedelta(days=1)
    assert len(upload.name) == 100

    answer = alice.begin(size=20 * 1024**2, multipart=True)
    assert answer.json()["multipart"]["expires_in"] == 3600
    upload = row(answer)
    assert upload.expires_at - upload.created_at == timedelta(days=7)


@pytest.mark.parametrize(("key", "read", "default"), DEFAULTS)
def test_a_duration_may_be_left_to_its_default(
    find: Find, settings: Any, key: str, read: Any, default: timedelta
) -> None:
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": RIGHT}, key: None}
    assert find() == []
    assert read() == default


NAMES = ["Photos", "a/b", "x" * 64, "phötos", "two words", "..", "photos."]
DESTINATION: list[tuple[str, Any]] = [
    ("E005", "nowhere.Photos"),
    ("E005", WantsMore),
    ("E005", "Photos"),
    ("E005", f"{__name__}.Nothing"),
    ("E005", ""),
    ("E006", f"{__name__}.Find"),
    ("E006", "tests.models.Photo"),
    ("E006", None),
    ("E006", 5),
    ("E006", [f"{__name__}.Photos"]),
    ("E006", Photos("photos")),
    ("E007", {**RIGHT, "MAXSIZE": 1}),
    ("E007", {"max_size": 1, "content_types": ["image/*"]}),
    ("E007", {**RIGHT, "verify": None}),
    ("E008", {}),
    ("E008", {"CONTENT_TYPES": ["image/*"]}),
    ("E008", f"{__name__}.NoSize"),
    ("E008", {**RIGHT, "MAX_SIZE": "20 MB"}),
    ("E008", {**RIGHT, "MAX_SIZE": None}),
    ("E008", {**RIGHT, "MAX_SIZE": -1}),
    ("E008", {**RIGHT, "MAX_SIZE": 1.5}),
    ("E008", {**RIGHT, "MAX_SIZE": True}),
    ("E008", {**RIGHT, "MAX_SIZE": 10_000 * 5 * 1024**3 + 1}),
    ("E009", {"MAX_SIZE": 1024}),
    ("E009", f"{__name__}.NoTypes"),
    ("E009", {**RIGHT, "CONTENT_TYPES": "image/*"}),
    ("E009", {**RIGHT, "CONTENT_TYPES": []}),
    ("E009", {**RIGHT, "CONTENT_TYPES": None}),
    ("E009", {**RIGHT, "CONTENT_TYPES": {"image/png"}}),
    ("E009", {**RIGHT, "CONTENT_TYPES": ["image"]}),
    ("E009", {**RIGHT, "CONTENT_TYPES": [".png"]}),
    ("E009", {**RIGHT, "CONTENT_TYPES": ["*/png"]}),
    ("E009", {**RIGHT, "CONTENT_TYPES": ["*"]}),
    ("E009", {**RIGHT, "CONTENT_TYPES": ["image/PNG"]}),
    ("E009", {**RIGHT, "CONTENT_TYPES": ["image/png", 5]}),
    ("E009", {**RIGHT, "CONTENT_TYPES": ["video/webm;codecs=vp8"]}),
    ("E010", {**RIGHT, "MIN_SIZE": 1025}),
    ("E010", {**RIGHT, "MIN_SIZE": -1}),
    ("E010", {**RIGHT, "MIN_SIZE": "1"}),
    ("E010", {**RIGHT, "MIN_SIZE": None}),
    ("E011", {**RIGHT, "PREFIX": "photos"}),
    ("E011", {**RIGHT, "PREFIX": "/photos/"}),
    ("E011", {**RIGHT, "PREFIX": "photos//"}),
    ("E011", {**RIGHT, "PREFIX": "photos/../"}),
    ("E011", {**RIGHT, "PREFIX": "my photos/"}),
    ("E011", {**RIGHT, "PREFIX": "photos/\n"}),
    ("E011", {**RIGHT, "PREFIX": 5}),
    ("E012", {**RIGHT, "PREFIX": "p" * 51 + "/"}),
    ("E013", {**RIGHT, "PERMISSION": "add_photo"}),
    ("E013", {**RIGHT, "PERMISSION": ""}),
    ("E013", {**RIGHT, "PERMISSION": ["photos.add_photo"]}),
    ("E013", {**RIGHT, "PERMISSION": "photos.photo.add"}),
    ("E014", {**RIGHT, "REQUIRE_CHECKSUM": "yes"}),
    ("E014", {**RIGHT, "REQUIRE_CHECKSUM": 1}),
    ("E014", {**RIGHT, "REQUIRE_CHECKSUM": None}),
    ("E015", {**RIGHT, "ACL": "public"}),
    ("E015", {**RIGHT, "ACL": "public-read-write"}),
    ("E015", {**RIGHT, "ACL": ["public-read"]}),
    ("E015", {**RIGHT, "ACL": ""}),
    ("E026", {**RIGHT, "PART_SIZE": 5 * 1024**2 - 1}),
    ("E026", {**RIGHT, "PART_SIZE": 5 * 1024**3 + 1}),
    ("E026", {**RIGHT, "PART_SIZE": 0}),
    ("E026", {**RIGHT, "PART_SIZE": -1}),
    ("E026", {**RIGHT, "PART_SIZE": "16 MiB"}),
    ("E026", {**RIGHT, "PART_SIZE": 16.0 * 1024**2}),
    ("E026", {**RIGHT, "PART_SIZE": True}),
    ("E026", {**RIGHT, "PART_SIZE": None}),
    *(("E060", f"{__name__}.{each}") for each in ("AsyncPermission", "AsyncVerify", "NoVerify")),
    ("E036", {**RIGHT, "MAX_PENDING": 0}),
    ("E036", {**RIGHT, "MAX_PENDING": -1}),
    ("E036", {**RIGHT, "MAX_PENDING": "20"}),
    ("E036", {**RIGHT, "MAX_PENDING": 1.5}),
    ("E036", {**RIGHT, "MAX_PENDING": True}),
    ("E036", {**RIGHT, "MAX_PENDING": 2**63}),
    ("E037", {**RIGHT, "MAX_TOTAL_SIZE": 0}),
    ("E037", {**RIGHT, "MAX_TOTAL_SIZE": "10 GB"}),
    ("E037", {**RIGHT, "MAX_TOTAL_SIZE": 1e9}),
    ("E037", {**RIGHT, "MAX_TOTAL_SIZE": 2**63}),
    ("E070", {**RIGHT, "HOLD": None}),
    ("E070", {**RIGHT, "HOLD": "True"}),
    ("E070", {**RIGHT, "HOLD": 1}),
    ("E071", {**RIGHT, "HOLD": True, "ACL": "public-read"}),
    ("E071", {**RIGHT, "HOLD": True, "ACL": "authenticated-read"}),
    ("E090", {**RIGHT, "ANONYMOUS": None}),
    ("E090", {**RIGHT, "ANONYMOUS": "True"}),
    ("E090", {**RIGHT, "ANONYMOUS": 1}),
]


def assert_misconfigured(alice: App, name: str = "photos", code: str = "misconfigured") -> None:
    answer = alice.begin(destination=name)
    assert (answer.status_code, answer.json()["code"]) == (503, code)
    assert answer.json()["retry_after"] >= 1
    assert not Upload.objects.exists()


@pytest.mark.parametrize(("id", "spec"), DESTINATION)
def test_a_wrong_destination_has_a_check_id_and_begin_a_code(
    find: Find, alice: App, settings: Any, caplog: pytest.LogCaptureFixture, id: str, spec: Any
) -> None:
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": spec, "fine": RIGHT}}
    found = find()
    assert_found(found, id)
    assert "'photos'" in found[0].msg

    assert_misconfigured(alice)
    assert found[0].msg in caplog.text, "the log says what the client is not told"
    assert alice.begin(destination="fine").status_code == 201


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_name_of_a_destination_has_a_check_id(
    find: Find, alice: App, settings: Any, name: str
) -> None:
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {name: RIGHT}}
    assert_found(find(), "E004")
    assert_misconfigured(alice, name)


def test_a_name_of_a_destination_that_is_no_text_has_a_check_id(find: Find, settings: Any) -> None:
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {5: RIGHT}}
    assert_found(find(), "E004")


def test_a_default_prefix_that_is_too_long_has_a_check_id(
    find: Find, alice: App, settings: Any
) -> None:
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"x" * 51: RIGHT}}
    assert_found(find(), "E012")
    assert_misconfigured(alice, "x" * 51)


def test_a_long_name_does_no_harm_where_the_prefix_is_another(
    find: Find, alice: App, settings: Any
) -> None:
    for rules in ({**RIGHT, "PREFIX": ""}, PrefixOfItsOwn):
        settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"x" * 51: rules}}
        assert find() == []
        assert alice.begin(destination="x" * 51).status_code == 201
    answer = alice.begin(destination="x" * 51, filename="nothing.jpg")
    assert (answer.status_code, answer.json()["code"]) == (503, "misconfigured")


def test_every_mistake_of_a_destination_is_named_at_once(find: Find, settings: Any) -> None:
    keys = ("ACL", "PREFIX", "MIN_SIZE", "PERMISSION", "PART_SIZE", "MAX_PENDING")
    wrong = {**RIGHT, **dict.fromkeys(keys, "x")}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": wrong}, "SWEEP_GRACE": "x"}
    found = sorted(str(each.id)[-4:] for each in find())
    assert found == ["E010", "E011", "E013", "E015", "E016", "E026", "E036"]


S3 = "storages.backends.s3.S3Storage"
STATIC = "django.contrib.staticfiles.storage"
STORAGE: list[tuple[str, Any, str]] = [
    ("E019", ABSENT, "misconfigured"),
    ("E020", {"BACKEND": "nowhere.S3Storage"}, "misconfigured"),
    ("E020", {"BACKEND": S3, "OPTIONS": {"bucket": "media"}}, "misconfigured"),
    ("E021", {"BACKEND": "storages.backends.s3.S3StaticStorage"}, "storage_not_s3"),
    ("E021", {"BACKEND": f"{STATIC}.StaticFilesStorage"}, "storage_not_s3"),
    (
        "E021",
        {"BACKEND": f"{STATIC}.ManifestStaticFilesStorage", "OPTIONS": {"location": "static"}},
        "storage_not_s3",
    ),
    ("W022", {"BACKEND": "django.core.files.storage.FileSystemStorage"}, "storage_not_s3"),
    ("W022", {"BACKEND": "django.core.files.storage.InMemoryStorage"}, "storage_not_s3"),
    ("E023", {"BACKEND": S3}, "misconfigured"),
    ("E023", {"BACKEND": "s3direct_uploads.storage.S3Storage"}, "misconfigured"),
    (
        "E029",
        {
            "BACKEND": "s3direct_uploads.storage.S3Storage",
            "OPTIONS": {"bucket_name": "media", "overwrite_guard": "If-None-Match"},
        },
        "misconfigured",
    ),
]


@pytest.fixture
def media(settings: Any) -> Callable[[Any], None]:
    """Give the destination "photos" a storage "media" of this kind."""

    def media(storage: Any) -> None:
        if storage is not ABSENT:
            settings.STORAGES = {**settings.STORAGES, "media": storage}
        settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": {**RIGHT, "STORAGE": "media"}}}

    return media


@pytest.mark.parametrize(("id", "storage", "code"), STORAGE)
def test_a_wrong_storage_has_a_check_id_and_begin_a_code(
    find: Find, alice: App, media: Callable[[Any], None], id: str, storage: Any, code: str
) -> None:
    media(storage)
    found = find()
    assert_found(found, id)
    assert "'media'" in found[0].msg
    assert_misconfigured(alice, code=code)


def test_a_manifest_is_not_read_to_say_that_it_is_for_static_files(
    find: Find, alice: App, settings: Any, media: Callable[[Any], None]
) -> None:
    options = settings.STORAGES["default"]["OPTIONS"]
    media({"BACKEND": "storages.backends.s3.S3ManifestStaticStorage", "OPTIONS": options})
    assert_found(find(), "E021")
    assert_misconfigured(alice, code="storage_not_s3")


@pytest.mark.parametrize(
    "storage",
    [
        {},
        {"OPTIONS": {}},
        {"BACKEND": "nowhere"},
        {"BACKEND": 5},
        # S3 options that remain with another backend in development.
        {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"bucket_name": "media"},
        },
    ],
)
def test_a_storage_that_cannot_be_made_has_a_check_id(
    find: Find, media: Callable[[Any], None], alice: App, storage: Any
) -> None:
    media(storage)
    assert_found(find(), "E020")
    assert_misconfigured(alice)


@pytest.mark.parametrize(
    "options", [{"default_acl": "public-read"}, {"object_parameters": {"ACL": "public-read"}}]
)
def test_an_acl_in_the_wrong_place_is_not_applied(
    find: Find, alice: App, storage_options: Callable[..., None], options: dict[str, Any]
) -> None:
    storage_options(**options)
    assert_found(find(), "W024")
    assert "x-amz-acl" not in alice.begin().json()["request"]["headers"]


@pytest.mark.parametrize(
    "options", [{"custom_domain": "cdn.example.com"}, {"querystring_auth": False}]
)
@pytest.mark.parametrize("types", [["*/*"], ["image/png", "image/svg+xml"], ["text/html"]])
def test_html_at_a_url_without_a_signature_is_a_warning(
    find: Find,
    settings: Any,
    storage_options: Callable[..., None],
    options: dict[str, Any],
    types: list[str],
) -> None:
    pages = {**RIGHT, "CONTENT_TYPES": types}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": RIGHT, "pages": pages}}
    assert find() == []
    storage_options(**options)
    assert_found(find(), "W066")
    assert "uploads to pages may" in find()[0].msg
    storage_options(**options, object_parameters={"ContentDisposition": "attachment"})
    assert find() == []
    storage_options(**options, object_parameters={})
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": RIGHT}}
    assert_found(find(), "W045")


def test_a_storage_is_judged_once_however_many_destinations_have_it(
    find: Find, settings: Any, media: Callable[[Any], None]
) -> None:
    media(ABSENT)
    [(_, spec)] = settings.S3DIRECT_UPLOADS["DESTINATIONS"].items()
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"a": spec, "b": spec, "c": RIGHT}}
    assert_found(find(), "E019")


IN_THE_CODE = {
    id
    for module in ("checks.py", "cors.py", "destinations/problems.py", "storage.py", "visitors.py")
    for id in re.findall(
        r'"(?:s3direct_uploads\.)?([EW]\d{3})"', (ROOT / "s3direct_uploads" / module).read_text()
    )
}


def test_every_id_has_a_test() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    assert {id for id in IN_THE_CODE if not re.search(rf"\b{id}\b", tests)} == set()


def test_every_id_is_documented_once_and_nothing_else_is() -> None:
    text = (ROOT / "docs" / "checks.md").read_text()
    documented = re.findall(r"^\| `s3direct_uploads\.([EW]\d{3})` \|", text, re.MULTILINE)
    assert sorted(documented) == sorted(IN_THE_CODE)


def hold(settings: Any, **more: Any) -> None:
    """A destination whose uploads wait for a scan."""
    more["DESTINATIONS"] = {"photos": {**RIGHT, "HOLD": True}}
    settings.S3DIRECT_UPLOADS = more


def scan(**_: Any) -> None:
    pass


def test_a_hold_needs_somebody_who_starts_the_scan(
    find: Find, settings: Any, connect: Connect
) -> None:
    hold(settings)
    found = find()
    assert_found(found, "W072")
    assert "photos" in found[0].msg
    connect(signals.upload_held, scan)
    assert find() == []


@pytest.mark.parametrize("acl", [None, "private", "bucket-owner-full-control"])
def test_a_held_object_may_be_private(
    find: Find, settings: Any, connect: Connect, acl: str | None
) -> None:
    connect(signals.upload_held, scan)
    spec = {**RIGHT, "HOLD": True, "ACL": acl}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": spec}}
    assert find() == []


def test_a_hold_is_of_no_use_in_a_public_bucket(
    find: Find, settings: Any, connect: Connect, storage_options: Callable[..., None]
) -> None:
    connect(signals.upload_held, scan)
    storage_options(querystring_auth=False, object_parameters={"ContentDisposition": "attachment"})
    assert find() == []
    hold(settings)
    found = find()
    assert_found(found, "W073")
    assert "'default'" in found[0].msg


def test_a_scan_is_asked_for_again_before_the_hold_ends(
    find: Find, settings: Any, connect: Connect
) -> None:
    connect(signals.upload_held, scan)
    hold(settings, HOLD_RETRY=60, HOLD_EXPIRES=120)
    assert find() == []
    hold(settings, HOLD_RETRY=60, HOLD_EXPIRES=60)
    assert_found(find(), "W074")


@pytest.mark.parametrize(("storage", "id"), [("staticfiles", "E021"), ("nowhere", "E019")])
def test_a_hold_in_a_storage_that_is_none_is_another_checks_matter(
    find: Find, settings: Any, connect: Connect, storage: str, id: str
) -> None:
    connect(signals.upload_held, scan)
    spec = {**RIGHT, "HOLD": True, "STORAGE": storage}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": spec}}
    assert_found(find(), id)
