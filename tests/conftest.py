"""The cast: an S3 server, two users, and a single-page app that talks to Django and to S3."""

from __future__ import annotations

import functools
import gc
import io
import os
import subprocess
import threading
import uuid
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.loaders
import botocore.session
import pytest
import requests
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection, models
from django.dispatch import Signal
from django.utils import timezone
from rest_framework.test import APIClient
from urllib3 import HTTPResponse

from s3direct_uploads import lifecycle, signals
from s3direct_uploads.exceptions import NotInBatch, OwnerUnknown, UploadError, raised_by
from s3direct_uploads.models import Upload
from s3direct_uploads.openapi.operations import OPERATIONS
from s3direct_uploads.s3 import bucket as s3_bucket
from s3direct_uploads.s3 import failures
from s3direct_uploads.views import handle_exception as render

os.environ.setdefault("MOTO_DISABLE_GLOBAL_CORS", "true")


class SearchPaths(list[str]):
    """boto3 adds its folder for each session. A shared list needs it once."""

    def append(self, path: str) -> None:
        if path not in self:
            super().append(path)


@functools.cache
def create_loader(*paths: str) -> botocore.loaders.Loader:
    """One loader for all sessions: it reads the megabytes of JSON that describe AWS only once."""
    loader = botocore.loaders.create_loader(*paths)
    loader._search_paths = SearchPaths(loader.search_paths)  # type: ignore[attr-defined]
    return loader


botocore.session.create_loader = create_loader

# The quick lane has no real servers; `make test-real` names them all.
REAL = "S3_ENDPOINT_URL" in os.environ
collect_ignore = [] if REAL else ["real"]

ROOT = Path(__file__).parent.parent  # the repository
URL = "/api/uploads/"
MARKERS = (  # of tests/real
    *("attack", "race", "journey", "contract", "fault"),
    *("soak", "celery", "scale", "event", "setup"),
)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
JPEG = b"\xff\xd8\xff\xe0 a photograph"
PART_SIZE = 5 * 1024**2  # the smallest that S3 takes, of all parts but the last
LAST = b"the end"
CV = b"%PDF-1.7 a life"
FILM = b"\x01" * PART_SIZE + LAST  # two parts
FILMS = {
    "MAX_SIZE": 10_000 * 5 * 1024**3,  # "48.8 TiB"
    "CONTENT_TYPES": ["video/*"],
    "PART_SIZE": PART_SIZE,
}

APPLICATIONS = {
    "MAX_SIZE": 1024**3,
    "CONTENT_TYPES": ["application/pdf"],
    "PART_SIZE": PART_SIZE,
    "ANONYMOUS": True,
    "MAX_PENDING": 50,
    "MAX_TOTAL_SIZE": 10 * 1024**3,
}


def pytest_collection_finish() -> None:
    """What is imported by now stays. The garbage collector need not look at it in each test."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if REAL and report.skipped:
        report.outcome, report.longrepr = "failed", "On real servers nothing is skipped."
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How much was tried by Node.js; and on real servers, by the markers of tests/real."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "js":
                terminalreporter.write_line(value)
    if REAL:
        passed = [report.keywords for report in terminalreporter.getreports("passed")]
        for marker in MARKERS:
            count = sum(marker in keywords for keywords in passed)
            terminalreporter.write_line(f"{marker}: {count} passed")
        properties = dict(
            each
            for report in terminalreporter.getreports("passed")
            for each in report.user_properties
        )
        for line in str(properties.get("measured", "")).splitlines():
            terminalreporter.write_line(line)
        cases = properties.get("contract_cases", 0)
        terminalreporter.write_line(f"contract cases, by Schemathesis: {cases}")
        for line in properties.get("soak", ()):
            terminalreporter.write_line(f"soak: {line}")


def child_environment(**more: str) -> dict[str, str]:
    """The environment of a process whose output is a pipe. Python buffers it, as in a container."""
    environment = {**os.environ, **more}
    environment.pop("PYTHONUNBUFFERED", None)
    return environment


@contextmanager
def killed_after(seconds: float, process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill the process after this time, so that reading its output ends."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@pytest.fixture(scope="session")
def s3_client() -> Iterator[Any]:
    """The test's own S3 client, for moto or a real S3."""
    options = settings.STORAGES["default"]["OPTIONS"]
    server = None
    if not REAL:
        from moto.server import ThreadedMotoServer

        port = urlsplit(options["endpoint_url"]).port
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=port or 0, verbose=False)
        server.start()
    client = boto3.client(
        "s3",
        endpoint_url=options["endpoint_url"],
        region_name=options["region_name"],
        aws_access_key_id=options["access_key"],
        aws_secret_access_key=options["secret_key"],
    )
    client.create_bucket(Bucket=options["bucket_name"])
    yield client
    if server:
        server.stop()


SIGNALS = (
    signals.upload_completed,
    signals.upload_held,
    signals.upload_rejected,
    signals.upload_expired,
    signals.upload_cancelled,
)


@pytest.fixture(autouse=True)
def nobody_is_left_listening() -> Iterator[None]:
    """A receiver that a test leaves connected would be called in later tests."""

    def connected() -> list[Any]:
        return [receiver[0] for signal in SIGNALS for receiver in signal.receivers]

    before = connected()
    yield
    left = [each for each in connected() if each not in before]
    assert left == [], "Connect by the fixture ``connect``."


@pytest.fixture(autouse=True)
def every_refusal_is_logged() -> None:
    """S3's refusals are logged once a minute, and a test must not depend on the one before it."""
    failures._logged.clear()


Connect = Callable[..., None]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """``connect(signal, receiver, sender)``, for this test alone."""
    connected: list[tuple[Signal, Callable[..., Any], Any]] = []

    def connect(signal: Signal, receiver: Callable[..., Any], sender: Any = None) -> None:
        signal.connect(receiver, sender)
        connected.append((signal, receiver, sender))

    yield connect
    for signal, receiver, sender in connected:
        assert signal.disconnect(receiver, sender)


class Bucket:
    """The objects in the bucket, as S3 shows them."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.name = settings.STORAGES["default"]["OPTIONS"]["bucket_name"]

    def read(self, upload: Upload) -> bytes | None:
        try:
            body: bytes = self.client.get_object(Bucket=self.name, Key=upload.key)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None
        return body

    def write(self, upload: Upload, body: bytes, **parameters: Any) -> None:
        """Write an object directly, which no presigned request would allow."""
        parameters = {"ContentType": upload.content_type, **parameters}
        self.client.put_object(Bucket=self.name, Key=upload.key, Body=body, **parameters)

    def open_multiparts(self, upload: Upload) -> list[str]:
        """The ids of the open multipart uploads at exactly its key."""
        pages = self.client.get_paginator("list_multipart_uploads")
        return [
            each["UploadId"]
            for page in pages.paginate(Bucket=self.name, Prefix=upload.key)
            for each in page.get("Uploads", ())
            if each["Key"] == upload.key
        ]

    def write_part(self, upload: Upload, number: int, body: bytes) -> None:
        """Write a part directly."""
        self.client.upload_part(
            Bucket=self.name,
            Key=upload.key,
            UploadId=upload.multipart_upload_id,
            PartNumber=number,
            Body=body,
        )


@pytest.fixture
def s3(s3_client: Any) -> Bucket:
    return Bucket(s3_client)


@pytest.fixture
def s3_calls(s3: Bucket) -> Iterator[list[str]]:
    """The operations that Django asks of S3 from now on: ["HeadObject"]."""
    from s3direct_uploads.s3 import get_bucket

    calls: list[str] = []

    def record(model: Any, **_: Any) -> None:
        calls.append(model.name)

    bucket = get_bucket("default")
    clients = [bucket._client, bucket._creator, bucket._completer]
    for client in clients:
        client.meta.events.register("before-call.s3", record, unique_id="s3_calls")
    yield calls
    for client in clients:
        client.meta.events.unregister("before-call.s3", unique_id="s3_calls")


@pytest.fixture
def in_transaction(s3: Bucket) -> Iterator[list[bool]]:
    """For each request to S3 from now on, whether the database was in a transaction."""
    from s3direct_uploads.s3 import get_bucket

    seen: list[bool] = []
    events = get_bucket("default")._client.meta.events

    def look(**_: Any) -> None:
        seen.append(connection.in_atomic_block)

    events.register("before-call.s3", look, unique_id="in_transaction")
    yield seen
    events.unregister("before-call.s3", unique_id="in_transaction")


@pytest.fixture
def head_answers(s3: Bucket) -> Iterator[dict[str, int]]:
    """From now on S3 answers a HEAD with these statuses, by the key or a part of it."""
    from s3direct_uploads.s3 import get_bucket

    statuses: dict[str, int] = {}

    def answer(request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
        status = next((statuses[part] for part in statuses if part in request.url), None)
        return None if status is None else made_up_answer(request, status, "")

    events: Any = get_bucket("default")._client.meta.events  # its type stub allows no answer
    events.register("before-send.s3.HeadObject", answer, unique_id="head_answers")
    yield statuses
    events.unregister("before-send.s3.HeadObject", unique_id="head_answers")


def sign_in(client: APIClient, user: User) -> None:
    """As ``force_login``, by one query instead of six. Nearly every test does it."""
    session = SessionStore()
    session[SESSION_KEY] = user._meta.pk.value_to_string(user)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save(must_create=True)
    client.cookies[settings.SESSION_COOKIE_NAME] = session.session_key or ""


class App:
    """A single-page app, signed in as its user."""

    def __init__(self, user: User | None) -> None:
        self.user = user
        self.client = APIClient()
        if user:
            sign_in(self.client, user)

    def begin(self, headers: dict[str, str] | None = None, **declaration: Any) -> Any:
        """POST a declaration of a small photograph, unless it says otherwise."""
        declaration = {
            "destination": "photos",
            "filename": "beach.jpg",
            "content_type": "image/jpeg",
            "size": len(JPEG),
            **declaration,
        }
        return self.client.post(URL, declaration, format="json", headers=headers or {})

    def send(self, request: dict[str, Any], body: bytes = JPEG, **headers: str) -> int:
        """Send S3 exactly the request that was presigned. Returns the status."""
        return requests.request(
            request["method"],
            request["url"],
            headers={**request["headers"], **headers},
            data=body,
            timeout=10,
        ).status_code

    def begin_film(self, headers: dict[str, str] | None = None, **declaration: Any) -> Any:
        """POST a declaration of the film, to be sent in parts. Needs the fixture ``films``."""
        film = {
            "destination": "films",
            "filename": "film.mp4",
            "content_type": "video/mp4",
            "size": len(FILM),
            "multipart": True,
        }
        return self.begin(headers, **{**film, **declaration})

    def send_parts(self, parts: Iterable[dict[str, Any]], body: bytes = FILM) -> list[int]:
        """Send S3 these parts of ``body``, as they were presigned. Returns their statuses."""
        statuses = []
        for part in parts:
            start = (part["part_number"] - 1) * PART_SIZE
            this = body[start : start + PART_SIZE]
            statuses.append(self.send({"method": "PUT", **part}, this))
        return statuses

    def parts(self, id: str) -> Any:
        return self.client.get(f"{URL}{id}/parts/")

    def sign_parts(self, id: str, part_numbers: Collection[int]) -> Any:
        body = {"part_numbers": list(part_numbers)}
        return self.client.post(f"{URL}{id}/parts/", body, format="json")

    def confirm(self, id: str) -> Any:
        return self.client.post(f"{URL}{id}/confirm/", {}, format="json")

    def begin_batch(self, *declarations: Any, headers: dict[str, str] | None = None) -> Any:
        """POST declarations of small photographs; each dict says what is different."""
        photo = {"destination": "photos", "filename": "beach.jpg", "size": len(JPEG)}
        uploads = [{**photo, **each} if isinstance(each, dict) else each for each in declarations]
        url = f"{URL}batch/"
        return self.client.post(url, {"uploads": uploads}, format="json", headers=headers or {})

    def confirm_batch(self, ids: Iterable[str]) -> Any:
        return self.client.post(f"{URL}batch/confirm/", {"ids": list(ids)}, format="json")

    def renew(self, id: str) -> Any:
        return self.client.post(f"{URL}{id}/renew/", {}, format="json")

    def get(self, path: str = "", **query: Any) -> Any:
        return self.client.get(f"{URL}{path}", query)

    def delete(self, id: str) -> Any:
        return self.client.delete(f"{URL}{id}/")

    def upload(self, body: bytes = JPEG, **declaration: Any) -> Any:
        """Begin, send and confirm. Returns the answer to confirm."""
        begun = self.begin(size=len(body), **declaration).json()
        assert self.send(begun["request"], body) == 200
        return self.confirm(begun["id"])


@pytest.fixture
def films(settings: Any) -> None:
    """The destination ``films`` takes the largest files of S3, in the smallest parts."""
    ours = settings.S3DIRECT_UPLOADS
    settings.S3DIRECT_UPLOADS = {**ours, "DESTINATIONS": {**ours["DESTINATIONS"], "films": FILMS}}


@pytest.fixture
def applications(settings: Any) -> None:
    """The destination ``applications`` takes uploads from visitors."""
    ours = settings.S3DIRECT_UPLOADS
    destinations = {**ours["DESTINATIONS"], "applications": APPLICATIONS}
    settings.S3DIRECT_UPLOADS = {**ours, "DESTINATIONS": destinations}


@pytest.fixture
def make_user(db: None) -> Callable[..., User]:
    def make_user(name: str = "", **options: Any) -> User:
        return User.objects.create_user(name or uuid.uuid4().hex, password="secret", **options)

    return make_user


@pytest.fixture
def alice(make_user: Callable[..., User], s3: Bucket) -> App:
    return App(make_user("alice"))


@pytest.fixture
def bob(make_user: Callable[..., User], s3: Bucket) -> App:
    return App(make_user("bob"))


@pytest.fixture
def nobody(db: None) -> App:
    return App(None)


class Visitor(App):
    """A browser without a login. It sends the token that the last begin told it."""

    def __init__(self) -> None:
        super().__init__(None)

    def begin(self, headers: dict[str, str] | None = None, **declaration: Any) -> Any:
        cv = {
            "destination": "applications",
            "filename": "cv.pdf",
            "content_type": "application/pdf",
            "size": len(CV),
        }
        answer = super().begin(headers, **{**cv, **declaration})
        if answer.status_code == 201:
            self.show(answer.json()["form_value"])
        return answer

    def show(self, token: str | None) -> None:
        """Send this token from now on."""
        self.client.credentials(**({} if token is None else {"HTTP_UPLOAD_TOKEN": token}))

    def upload(self, body: bytes = CV, **declaration: Any) -> Any:
        return super().upload(body, **declaration)


@pytest.fixture
def visitor(applications: None, s3: Bucket, db: None) -> Visitor:
    return Visitor()


@pytest.fixture
def stranger(applications: None, s3: Bucket, db: None) -> Visitor:
    """Another visitor."""
    return Visitor()


def made_up_answer(request: AWSPreparedRequest, status: int, body: str) -> AWSResponse:
    """An answer that botocore takes for S3's. The request is not sent."""
    raw = HTTPResponse(io.BytesIO(body.encode()), preload_content=False)
    return AWSResponse(request.url, status, HTTPHeaders(), raw)


def row(answer: Any) -> Upload:
    """The row that a response is about."""
    body = answer.json()
    return Upload.objects.get(pk=body.get("upload", body)["id"])


def assert_error(answer: Any, status: int, code: str) -> dict[str, Any]:
    """The answer is an error in the usual shape, with this status and code. Returns its body."""
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), body
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert all(set(error) == {"field", "code", "detail", "params"} for error in body["errors"])
    assert answer["Cache-Control"] == "no-store"
    return body


def age(by: timedelta, **rows: Any) -> None:
    """Let time pass, for all rows or these."""
    times = [
        field.name
        for field in Upload._meta.fields
        if isinstance(field, models.DateTimeField) and field.name != "announced_at"
    ]
    Upload.objects.filter(**rows).update(**{name: models.F(name) - by for name in times})


def past_the_deadline(id: uuid.UUID | str, by: timedelta = 2 * HOUR) -> None:
    """Let the deadline of this upload, and its URL's life, end that long ago."""
    past = timezone.now() - by
    Upload.objects.filter(pk=id).update(expires_at=past, url_expires_at=past)


def sweep(**options: Any) -> dict[str, int]:
    """Sweep once. Returns how many rows had each outcome, without zeros."""
    return dict(+lifecycle.sweep(**options))


def begin_last_part(app: App, **declaration: Any) -> tuple[Upload, dict[str, Any]]:
    """A film of one part, the last, which may be small. Returns the upload and that part's PUT."""
    upload = row(app.begin_film(**declaration))
    Upload.objects.filter(pk=upload.pk).update(size=len(LAST))
    [part] = app.sign_parts(str(upload.pk), [1]).json()["parts"]
    upload.refresh_from_db()
    return upload, {"method": "PUT", **part}


@pytest.fixture(autouse=True)
def every_error_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of our errors that a call answers with is declared by ``@raises`` of its operation."""

    def handle_exception(error: Exception, context: Any) -> Any:
        called = OPERATIONS.get(getattr(context["view"], "action", None) or "")
        if called and isinstance(error, UploadError) and type(error).__module__ == ours:
            declared: list[type[UploadError]] = [OwnerUnknown]  # any call may raise it
            declared += raised_by(called.raises) if called.raises else ()
            declared += [*raised_by(called.items), NotInBatch] if called.items else ()
            codes = {each.code for each in declared}
            assert error.code in codes, f"@raises of {called.id} lacks {type(error).__name__}"
        return render(error, context)

    ours = UploadError.__module__
    monkeypatch.setattr("s3direct_uploads.views.viewset.handle_exception", handle_exception)


@pytest.fixture
def any_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """The destination ``albums`` accepts every context."""
    from tests.host_app import Albums

    monkeypatch.setattr(Albums, "clean_context", lambda self, context, request: context)


@pytest.fixture
def storage_options(settings: Any) -> Callable[..., None]:
    """Change OPTIONS of the default storage from then on."""

    def storage_options(**changes: Any) -> None:
        storage = settings.STORAGES["default"]
        options = {**storage["OPTIONS"], **changes}
        settings.STORAGES = {**settings.STORAGES, "default": {**storage, "OPTIONS": options}}

    return storage_options


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """check_bucket does not wait until its URL expires, because on moto no URL does."""
    if not REAL:
        monkeypatch.setattr("s3direct_uploads.diagnosis.enforcement.time.sleep", lambda _: None)


@pytest.fixture
def s3_away(storage_options: Callable[..., None]) -> Callable[[], None]:
    """Call it, and S3 cannot be reached."""
    return partial(storage_options, endpoint_url="http://127.0.0.1:9")


@pytest.fixture
def own_bucket(s3: Bucket, storage_options: Callable[..., None]) -> Bucket:
    """Another bucket, without what other tests left: for a test that looks at all of it."""
    s3.name = f"own-{uuid.uuid4().hex}"
    s3.client.create_bucket(Bucket=s3.name)
    storage_options(bucket_name=s3.name)
    return s3


@pytest.fixture(autouse=True)
def nobody_lists_what_others_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects of other tests stay in the session's bucket, so only a part of it may be listed."""
    if REAL:
        return
    options = settings.STORAGES["default"]["OPTIONS"]
    shared, all_of_it = options["bucket_name"], ("", f"{options['location']}/")

    def guarded(method: Any) -> Any:
        def listing(bucket: Any, prefix: str) -> Any:
            here = (bucket.name, prefix in all_of_it)
            assert here != (shared, True), "Ask for the fixture ``own_bucket``."
            return method(bucket, prefix)

        return listing

    for name in ("list_objects", "list_multiparts"):
        monkeypatch.setattr(s3_bucket.Bucket, name, guarded(getattr(s3_bucket.Bucket, name)))


@pytest.fixture
def versioned(s3: Bucket, storage_options: Callable[..., None]) -> Bucket:
    """Another bucket, which keeps versions: S3 never forgets that a bucket had them."""
    s3.name = f"versions-{uuid.uuid4().hex}"
    s3.client.create_bucket(Bucket=s3.name)
    s3.client.put_bucket_versioning(Bucket=s3.name, VersioningConfiguration={"Status": "Enabled"})
    storage_options(bucket_name=s3.name)
    return s3
