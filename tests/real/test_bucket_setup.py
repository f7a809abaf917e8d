"""A bucket that is set up, and every way in which it may not be, as the two commands name it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.settings import free_port

from .site import ROOT, Wire

pytestmark = pytest.mark.setup

ORIGIN = "http://localhost:8000"
CORS_RULE: dict[str, Any] = {
    "AllowedOrigins": [ORIGIN],
    "AllowedMethods": ["PUT"],
    "AllowedHeaders": ["content-type", "if-none-match", "x-amz-*"],
    "ExposeHeaders": ["ETag"],
}


class Project:
    """The example project, with a bucket of its own name that need not exist."""

    def __init__(self, endpoint_url: str, access_key: str = "", secret_key: str = "") -> None:
        self.bucket = f"setup-{uuid.uuid4().hex[:12]}"
        keys = {
            "AWS_ACCESS_KEY_ID": access_key or os.environ["AWS_ACCESS_KEY_ID"],
            "AWS_SECRET_ACCESS_KEY": secret_key or os.environ["AWS_SECRET_ACCESS_KEY"],
        }
        self.env = {
            **os.environ,
            **keys,
            "DJANGO_SETTINGS_MODULE": "example_project.settings",
            "S3_ENDPOINT_URL": endpoint_url,
            "S3_BUCKET": self.bucket,
        }
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        )

    def run(self, *command: str, before: tuple[str, ...] = (), **env: str) -> Any:
        return subprocess.run(
            [*before, sys.executable, "manage.py", *command],
            cwd=ROOT,
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def set_up(self, *more: str) -> str:
        ran = self.run("setup_bucket", "--origin", ORIGIN, *more)
        assert ran.returncode == 0, ran.stderr
        said: str = ran.stdout
        return said

    def check(
        self, origin: str = ORIGIN, before: tuple[str, ...] = (), **env: str
    ) -> dict[str, dict[str, str]]:
        """What is not well, by its code. A failure is an exit code, and no more than a line."""
        ran = self.run("check_bucket", "--json", "--origin", origin, before=before, **env)
        assert ran.stderr == ""
        found = json.loads(ran.stdout)
        assert ran.returncode == any(each["level"] == "fail" for each in found)
        for each in found:
            text = each["detail"] + each["cure"]
            assert "\n" not in text
            assert "X-Amz-" not in text
            assert os.environ["AWS_SECRET_ACCESS_KEY"] not in text
            assert bool(each["cure"]) == (each["level"] != "pass"), each
        return {each["code"]: each for each in found if each["level"] != "pass"}

    def contents(self) -> list[str]:
        """Every version, marker and unfinished upload."""
        versions = self.client.list_object_versions(Bucket=self.bucket)
        uploads = self.client.list_multipart_uploads(Bucket=self.bucket)
        found = (
            *versions.get("Versions", ()),
            *versions.get("DeleteMarkers", ()),
            *uploads.get("Uploads", ()),
        )
        return [each["Key"] for each in found]

    def allow(self, **changes: Any) -> None:
        rule = {part: value for part, value in {**CORS_RULE, **changes}.items() if value}
        self.client.put_bucket_cors(Bucket=self.bucket, CORSConfiguration={"CORSRules": [rule]})

    def deny(self, *actions: str) -> None:
        both = [f"arn:aws:s3:::{self.bucket}", f"arn:aws:s3:::{self.bucket}/*"]
        statement = {"Effect": "Deny", "Principal": {"AWS": ["*"]}, "Resource": both}
        policy = {"Version": "2012-10-17", "Statement": [{**statement, "Action": list(actions)}]}
        self.client.put_bucket_policy(Bucket=self.bucket, Policy=json.dumps(policy))

    def remove(self) -> None:
        try:
            self.client.delete_bucket_policy(Bucket=self.bucket)
            self.client.delete_bucket(Bucket=self.bucket)
        except self.client.exceptions.NoSuchBucket:
            pass


@pytest.fixture
def nothing() -> Iterator[Project]:
    """A project whose bucket does not exist."""
    project = Project(os.environ["S3_ENDPOINT_URL"])
    yield project
    project.remove()


@pytest.fixture(scope="module")
def configuration() -> tuple[Any, Any]:
    """The rules that ``setup_bucket`` writes: for CORS, and for the lifecycle."""
    project = Project(os.environ["S3_ENDPOINT_URL"])
    project.set_up("--create")
    at = {"Bucket": project.bucket}
    cors = project.client.get_bucket_cors(**at)["CORSRules"]
    lifecycle = project.client.get_bucket_lifecycle_configuration(**at)["Rules"]
    project.remove()
    return cors, lifecycle


@pytest.fixture
def project(nothing: Project, configuration: tuple[Any, Any]) -> Project:
    """A project whose bucket is as ``setup_bucket`` makes it. To run that takes a second."""
    cors, lifecycle = configuration
    at = {"Bucket": nothing.bucket}
    nothing.client.create_bucket(**at)
    nothing.client.put_bucket_cors(**at, CORSConfiguration={"CORSRules": cors})
    nothing.client.put_bucket_lifecycle_configuration(
        **at, LifecycleConfiguration={"Rules": lifecycle}
    )
    return nothing


# From nothing to green.


def test_one_command_makes_a_bucket_that_nothing_is_wrong_with(nothing: Project) -> None:
    assert list(nothing.check()) == ["bucket.missing"]
    refused = nothing.run("setup_bucket", "--origin", ORIGIN)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "--create" in refused.stderr

    said = nothing.set_up("--create")

    assert f"{nothing.bucket}: created." in said
    assert f'+      "{ORIGIN}"' in said
    assert nothing.check() == {}
    assert nothing.contents() == []
    again = nothing.set_up("--create")
    assert again.splitlines() == [
        f"{nothing.bucket}: CORS: nothing to do.",
        f"{nothing.bucket}: lifecycle: nothing to do.",
    ]


def test_what_others_configured_is_kept(nothing: Project) -> None:
    theirs = [
        {"AllowedOrigins": ["https://other.example.com"], "AllowedMethods": ["GET", "DELETE"]},
        {"ID": "cdn", "AllowedOrigins": ["*"], "AllowedMethods": ["GET"], "MaxAgeSeconds": 5},
    ]
    lifecycle = [
        {
            "ID": "tagged",
            "Status": "Enabled",
            "Filter": {"And": {"Prefix": "logs/", "Tags": [{"Key": "old", "Value": "yes"}]}},
            "Expiration": {"Days": 30},
        },
        {
            "ID": "elsewhere",
            "Status": "Enabled",
            "Filter": {"Prefix": "backups/"},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
        },
    ]
    at = {"Bucket": nothing.bucket}
    nothing.client.create_bucket(**at)
    nothing.client.put_bucket_cors(**at, CORSConfiguration={"CORSRules": theirs})
    nothing.client.put_bucket_lifecycle_configuration(
        **at, LifecycleConfiguration={"Rules": lifecycle}
    )
    before = nothing.client.get_bucket_cors(**at)["CORSRules"]
    rules_before = nothing.client.get_bucket_lifecycle_configuration(**at)["Rules"]

    nothing.set_up("--dry-run")
    assert nothing.client.get_bucket_cors(**at)["CORSRules"] == before
    nothing.set_up()

    first, ours, last = nothing.client.get_bucket_cors(**at)["CORSRules"]
    assert [first, last] == before
    assert ours["AllowedOrigins"] == [ORIGIN]
    rules = nothing.client.get_bucket_lifecycle_configuration(**at)["Rules"]
    assert [each for each in rules if each["ID"] != "s3direct-uploads"] == rules_before
    assert len(rules) == 3
    assert nothing.check() == {}
    assert nothing.set_up().count("nothing to do") == 2
    # A second origin is added, and the first is not taken away.
    nothing.run("setup_bucket", "--origin", "http://127.0.0.1:9000")
    _, ours, _ = nothing.client.get_bucket_cors(**at)["CORSRules"]
    assert sorted(ours["AllowedOrigins"]) == ["http://127.0.0.1:9000", ORIGIN]


# Twelve set-ups that are broken, each by one thing.


def no_cors(project: Project) -> None:
    project.client.delete_bucket_cors(Bucket=project.bucket)


def another_origin(project: Project) -> None:
    project.allow(AllowedOrigins=["https://localhost:8000"])


def a_header_missing(project: Project) -> None:
    project.allow(AllowedHeaders=["content-type", "x-amz-*"])


def no_etag(project: Project) -> None:
    project.allow(ExposeHeaders=None)


def no_deletion(project: Project) -> None:
    project.deny("s3:DeleteObject")


def no_lifecycle(project: Project) -> None:
    project.client.delete_bucket_lifecycle(Bucket=project.bucket)


@pytest.mark.parametrize(
    ("broken", "code", "words"),
    [
        (no_cors, "cors.none", "no CORS rule"),
        (another_origin, "cors.origin", "https://localhost:8000 is another origin"),
        (a_header_missing, "cors.headers", "may not send if-none-match,"),
        (no_etag, "cors.etag", "ETag"),
        (no_deletion, "delete.forbidden", "s3:DeleteObject"),
        (no_lifecycle, "lifecycle.none", "setup_bucket"),
    ],
)
def test_a_bucket_with_one_fault(
    project: Project, broken: Callable[[Project], None], code: str, words: str
) -> None:
    broken(project)
    found = project.check()
    # Where nothing can be taken out again, nothing is put there; it says so.
    assert set(found) - {"writing.skipped"} == {code}
    assert words in found[code]["detail"] + found[code]["cure"]
    assert project.contents() == []


def test_a_wrong_secret(project: Project) -> None:
    found = project.check(AWS_SECRET_ACCESS_KEY="another")
    assert list(found) == ["credentials.secret"]
    assert "wrong secret key" in found["credentials.secret"]["detail"]


@pytest.mark.parametrize(("offset", "way"), [("-1h", "behind"), ("+1h", "ahead of")])
def test_a_clock_that_is_off_by_an_hour(project: Project, offset: str, way: str) -> None:
    """The command runs by another clock, by libfaketime; Ceph's is right."""
    found = project.check(before=("scripts/faketime", "-f", offset))
    assert list(found) == ["clock.off"]
    assert way in found["clock.off"]["detail"]
    assert "NTP" in found["clock.off"]["cure"]


def test_an_endpoint_where_nothing_is(project: Project) -> None:
    found = project.check(S3_ENDPOINT_URL=f"http://127.0.0.1:{free_port()}")
    assert list(found) == ["endpoint.unreachable"]
    assert "connection refused" in found["endpoint.unreachable"]["detail"]


def test_an_endpoint_that_is_no_host(project: Project) -> None:
    found = project.check(S3_ENDPOINT_URL="http://s3.nowhere.invalid:9000")
    assert list(found) == ["endpoint.unreachable"]
    assert "no such host" in found["endpoint.unreachable"]["detail"]


def test_an_endpoint_that_is_a_web_site(project: Project) -> None:
    page = [("Content-Type", "text/html")], b"<html>The console</html>"
    with answering(200, *page) as url:
        found = project.check(S3_ENDPOINT_URL=url)
    assert list(found) == ["endpoint.not_s3"]
    assert "port" in found["endpoint.not_s3"]["cure"]


def test_a_bucket_that_is_missing(nothing: Project) -> None:
    found = nothing.check()
    assert list(found) == ["bucket.missing"]
    assert "setup_bucket" in found["bucket.missing"]["cure"]
    assert "--create" in found["bucket.missing"]["cure"]


def test_a_public_endpoint_that_clients_cannot_reach(project: Project) -> None:
    found = project.check(S3_PUBLIC_ENDPOINT_URL=f"http://127.0.0.1:{free_port()}")
    assert list(found) == ["public_endpoint.unreachable"]
    assert "public_endpoint_url" in found["public_endpoint.unreachable"]["cure"]
    assert project.contents() == []


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (307, "TemporaryRedirect", "eu-central-1"),
        (301, "PermanentRedirect", "eu-central-1"),
        (301, "PermanentRedirect", ""),
    ],
)
def test_a_wrong_region(project: Project, status: int, code: str, told: str) -> None:
    """Ceph takes a signature for any region. This is an HTTP server that answers as AWS is
    documented to where a bucket lies in another region; nobody tried AWS itself.
    """
    assert project.check(AWS_REGION="eu-west-3") == {}

    headers = [("Content-Type", "application/xml")]
    headers += [("x-amz-bucket-region", told)] if told else []
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code></Error>'.encode()
    with answering(status, headers, body) as url:
        found = project.check(S3_ENDPOINT_URL=url)
    assert list(found) == ["region.wrong"]
    assert "region_name" in found["region.wrong"]["cure"]
    assert told in found["region.wrong"]["cure"]


# Further faults.


@pytest.mark.parametrize(
    ("actions", "codes"),
    [
        (["s3:ListBucket"], {"missing_key.forbidden"}),
        (["s3:PutObject"], {"put.forbidden"}),
        (["s3:GetObject"], {"head.forbidden"}),
        (["s3:AbortMultipartUpload"], {"multipart.forbidden", "writing.skipped"}),
        (["s3:ListMultipartUploadParts"], {"multipart.forbidden"}),
        (["s3:ListBucketMultipartUploads"], {"multipart.forbidden", "writing.skipped"}),
        (["s3:GetBucketCORS"], set()),
        (["s3:GetLifecycleConfiguration"], {"lifecycle.unknown"}),
    ],
)
def test_a_permission_that_is_missing(
    project: Project, actions: list[str], codes: set[str]
) -> None:
    project.deny(*actions)
    found = project.check()
    assert set(found) == codes
    for code in codes - {"writing.skipped"}:
        assert actions[0] in found[code]["cure"]
    project.client.delete_bucket_policy(Bucket=project.bucket)
    assert project.contents() == []


def test_a_bucket_with_versions_is_left_as_empty(project: Project) -> None:
    project.client.put_bucket_versioning(
        Bucket=project.bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    assert project.check() == {}
    assert project.contents() == []

    project.deny("s3:DeleteObjectVersion")
    found = project.check()
    assert set(found) == {"versions.forbidden", "writing.skipped"}
    assert project.contents() == []


def test_without_the_permission_to_read_versions_no_file_can_be_looked_into(
    project: Project,
) -> None:
    project.client.put_bucket_versioning(
        Bucket=project.bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    project.deny("s3:GetObjectVersion")
    found = project.check()
    assert set(found) == {"range.forbidden"}
    assert "s3:GetObjectVersion" in found["range.forbidden"]["cure"]
    assert project.contents() == []


@pytest.mark.parametrize(
    ("method", "times"),
    [
        ("PUT", 1),  # our own first object
        ("PUT", 4),  # one of a client's
        ("POST", 2),  # Complete, of what was created
        ("DELETE", 3),  # while it cleans up: a part
        ("DELETE", 6),  # and an object
    ],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_check_leaves_nothing(
    project: Project, method: str, times: int, number: int
) -> None:
    wire = Wire(os.environ["S3_ENDPOINT_URL"])
    *passed, last = [wire.hold(method) for _ in range(times)]
    for each in passed:
        each.released.set()
    with subprocess.Popen(
        # A shell starts what it runs in the background with SIGINT ignored.
        ["env", "--default-signal=INT", sys.executable, "manage.py", "check_bucket"],
        cwd=ROOT,
        env={**project.env, "S3_ENDPOINT_URL": wire.url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert last.held.wait(60)
        process.send_signal(number)
        assert process.wait(30) != 0
    last.kind = "cut"  # it never reaches Ceph, not afterwards either
    last.released.set()
    wire.server.shutdown()
    wire.server.server_close()
    assert project.contents() == []


# Servers that enforce less.


@contextmanager
def serving(*command: str, port: int, **env: str) -> Iterator[str]:
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def test_what_moto_lets_through() -> None:
    port = free_port()
    moto = (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port))
    with serving(*moto, port=port, MOTO_DISABLE_GLOBAL_CORS="true") as url:
        project = Project(url)
        project.set_up("--create")
        found = project.check()
        assert project.contents() == []
    assert set(found) == {
        "signatures.unchecked",
        "content_type.accepted",
        "length.accepted",
        "checksum.accepted",
        "unsigned_headers.accepted",
        "expiry.accepted",
        "part_length.accepted",
    }


def test_what_ministack_lets_through() -> None:
    port = free_port()
    ministack = ("scripts/lesser-s3", "ministack")
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    env = {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", **keys}
    with serving(*ministack, port=port, **env) as url:
        project = Project(url, "test", "test")
        project.set_up("--create")
        found = project.check()
        assert project.contents() == []
        assert list(project.check(AWS_REGION="eu-west-1")) == ["region.wrong"]
    assert set(found) == {"signatures.unchecked", "public.open", "cors.open"}


def test_what_rclone_lets_through(tmp_path: Path) -> None:
    port = free_port()
    rclone = ("scripts/lesser-s3", "rclone", "serve", "s3", str(tmp_path))
    options = ("--addr", f"127.0.0.1:{port}", "--auth-key", "test,test")
    with serving(*rclone, *options, port=port) as url:
        project = Project(url, "test", "test")
        project.client.create_bucket(Bucket=project.bucket)
        ran = project.run("setup_bucket", "--origin", ORIGIN)
        found = project.check()
        guarded = project.check(DJANGO_SETTINGS_MODULE="tests.real.parts_only_settings")
    assert [path.name for path in tmp_path.rglob("*")] == [project.bucket]
    assert "this server keeps no CORS rules" in ran.stderr
    assert "this server keeps no lifecycle rules" in ran.stderr
    assert set(found) == {
        "overwrite.allowed",
        "multipart_overwrite.allowed",
        "checksum.accepted",
        "cors.none",
        "lifecycle.none",
    }
    assert "'overwrite_guard': 'multipart'" in found["overwrite.allowed"]["cure"]
    assert set(guarded) == {"cors.none", "lifecycle.none"}


@contextmanager
def answering(status: int, headers: list[tuple[str, str]], body: bytes) -> Iterator[str]:
    """A server that gives one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.send_response(status)
            for name, value in (*headers, ("Content-Length", str(len(body)))):
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_OPTIONS = answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
