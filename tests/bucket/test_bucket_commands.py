"""``setup_bucket`` and ``check_bucket`` as they are called, on moto or whatever S3 there is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from s3direct_uploads.destinations import Destination
from s3direct_uploads.diagnosis import Finding, diagnose
from s3direct_uploads.diagnosis.access import policy_instead
from s3direct_uploads.diagnosis.answers import Answer
from s3direct_uploads.diagnosis.browser import cors_of
from s3direct_uploads.diagnosis.findings import Stop
from s3direct_uploads.diagnosis.probe import Probe
from s3direct_uploads.diagnosis.reach import clock
from s3direct_uploads.diagnosis.uploads import public_endpoint
from s3direct_uploads.s3 import Refusal, get_bucket
from tests.conftest import REAL, Bucket, made_up_answer

pytestmark = pytest.mark.usefixtures("no_pause")

ORIGIN = "http://localhost:8000"
# What moto accepts, and every real S3 refuses.
MOTOS = {
    "signatures.unchecked",
    "content_type.accepted",
    "length.accepted",
    "checksum.accepted",
    "unsigned_headers.accepted",
    "expiry.accepted",
    "part_length.accepted",
}


def run(command: str, *arguments: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command(command, *arguments, stdout=out, stderr=err, no_color=True)
    return out.getvalue(), err.getvalue()


@pytest.fixture
def bucket(s3: Bucket, storage_options: Callable[..., None]) -> Iterator[Any]:
    """An empty bucket of this test's own, not set up."""
    name = f"{s3.name}-commands"
    storage_options(bucket_name=name)
    s3.client.create_bucket(Bucket=name)
    yield get_bucket("default")
    get_bucket("default")._client.delete_bucket(Bucket=name)


def codes(*origins: str) -> set[str]:
    found = {each.code for each in diagnose("default", origins) if each.level != "pass"}
    assert REAL or found >= MOTOS - {"expiry.accepted"} or not found & MOTOS
    return found - (set() if REAL else MOTOS)


# setup_bucket.


def test_setup_bucket_shows_what_it_would_change_before_it_writes(bucket: Any) -> None:
    out, _ = run("setup_bucket", "--origin", ORIGIN, "--dry-run")
    assert f'+      "{ORIGIN}"' in out
    assert "written" not in out
    assert (bucket.cors_rules(), bucket.lifecycle_rules()) == ([], [])

    out, _ = run("setup_bucket", "--origin", ORIGIN)
    assert out.count(": written.") == 2
    [rule] = bucket.cors_rules()
    assert (rule["ID"], rule["AllowedOrigins"]) == ("s3direct-uploads", [ORIGIN])
    [rule] = bucket.lifecycle_rules()
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 8}

    out, err = run("setup_bucket", "--origin", ORIGIN)
    assert out.count(": nothing to do.") == len(out.splitlines()) == 2
    assert err == ""


def test_setup_bucket_makes_no_bucket_in_a_dry_run(
    s3: Bucket, storage_options: Callable[..., None]
) -> None:
    storage_options(bucket_name=f"{s3.name}-dry")
    out, _ = run("setup_bucket", "--origin", ORIGIN, "--create", "--dry-run")
    assert "would be created" in out
    assert get_bucket("default").is_missing()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--origin", "localhost:8000"], "scheme"),
        (["--origin", "*"], "--allow-any-origin"),
        (["--origin", "https://*.com"], "--allow-any-origin"),
        (["--origin", ORIGIN, "--origin", "https://*.github.io"], "--allow-any-origin"),
        (["--origin", "https://*.com", "--format", "json"], "--allow-any-origin"),
        (["--origin", ORIGIN, "--destination", "nowhere"], "no destination 'nowhere'"),
        (["--origin", ORIGIN, "--storage", "staticfiles"], "not on S3"),
        (["--origin", ORIGIN, "--storage", "nowhere"], "nowhere"),
        (["--origin", ORIGIN, "--signature-age", "3600"], "--format"),
        (["--origin", ORIGIN, "--format", "json", "--signature-age", "60"], "at random"),
        (["--origin", ORIGIN], "Add --create"),
        ([], "--origin"),
    ],
)
def test_setup_bucket_refuses_what_it_cannot_do(
    s3: Bucket, storage_options: Callable[..., None], arguments: list[str], words: str
) -> None:
    storage_options(bucket_name=f"{s3.name}-none")
    with pytest.raises(CommandError, match=words):
        run("setup_bucket", *arguments)
    assert get_bucket("default").is_missing()


def test_setup_bucket_takes_every_origin_if_it_is_told_so(bucket: Any) -> None:
    run("setup_bucket", "--origin", "*", "--allow-any-origin")
    assert "cors.open" in codes()


class Gets:
    """The ranged GETs that check_bucket sends: [("bytes=1-2", whether it names a version)]."""

    def __init__(self) -> None:
        self.ranged: list[tuple[str, bool]] = []
        self.answer: tuple[int, str] | None = None  # to them, instead of S3's

    def look(self, request: Any, **_: Any) -> Any:
        if "Range" not in request.headers:
            return None
        asked = request.headers["Range"]
        asked = asked.decode() if isinstance(asked, bytes) else asked
        self.ranged.append((asked, "versionId=" in request.url))
        return None if self.answer is None else made_up_answer(request, *self.answer)


@pytest.fixture
def gets(bucket: Any) -> Iterator[Gets]:
    seen, events = Gets(), bucket._client.meta.events
    events.register("before-send.s3.GetObject", seen.look, unique_id="gets")
    yield seen
    events.unregister("before-send.s3.GetObject", unique_id="gets")


@pytest.mark.parametrize(
    ("key", "value"), [("SNIFF", True), ("IMAGE", {}), ("HOLD", True), ("MIN_SIZE", 1)]
)
def test_check_bucket_reads_a_part_where_a_destination_looks_into_files(
    gets: Gets, settings: Any, key: str, value: Any
) -> None:
    settings.S3DIRECT_UPLOADS = {
        "DESTINATIONS": {"photos": {"MAX_SIZE": 100, "CONTENT_TYPES": ["image/jpeg"], key: value}}
    }
    found = {each.code: each.level for each in diagnose("default", [ORIGIN])}
    looked_into = key != "MIN_SIZE"
    assert found.get("range") == ("pass" if looked_into else None)
    assert gets.ranged == [("bytes=1-2", False)] * looked_into


def test_check_bucket_reads_a_version_where_the_bucket_keeps_them(
    gets: Gets, bucket: Any, s3: Bucket
) -> None:
    """Every download names its version, and so needs s3:GetObjectVersion."""
    s3.client.put_bucket_versioning(
        Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"}
    )
    assert "range" in {each.code for each in diagnose("default", [ORIGIN])}
    assert gets.ranged == [("bytes=1-2", True)]

    gets.answer = (403, "<Error><Code>AccessDenied</Code></Error>")
    [denied] = [each for each in diagnose("default", [ORIGIN]) if each.code.startswith("range")]
    assert (denied.code, denied.level) == ("range.forbidden", "fail")
    assert "s3:GetObjectVersion" in denied.cure


@pytest.mark.parametrize(
    ("answer", "code", "cure"),
    [
        ((403, "<Error><Code>AccessDenied</Code></Error>"), "range.forbidden", "s3:GetObject"),
        (
            (400, "<Error><Code>KMS.DisabledException</Code></Error>"),
            "range.forbidden",
            "with aws:kms, the use of the key",
        ),
        ((200, "check_bucket of s3direct_uploads"), "range.ignored", "Range"),
    ],
)
def test_check_bucket_names_why_files_cannot_be_looked_into(
    gets: Gets, settings: Any, answer: tuple[int, str], code: str, cure: str
) -> None:
    photos = {"MAX_SIZE": 100, "CONTENT_TYPES": ["image/jpeg"], "SNIFF": True}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": photos}}
    gets.answer = answer
    [finding] = [each for each in diagnose("default", [ORIGIN]) if each.code.startswith("range")]
    assert (finding.code, finding.level) == (code, "fail")
    assert cure in finding.cure


@pytest.mark.parametrize("origin", ["https://*.com", "https://*.github.io", "https://*example.com"])
def test_check_bucket_warns_of_an_origin_that_lets_strangers_in(bucket: Any, origin: str) -> None:
    run("setup_bucket", "--origin", ORIGIN, "--origin", origin, "--allow-any-origin")
    [finding] = [each for each in diagnose("default", [ORIGIN]) if each.code.startswith("cors.")]
    assert (finding.code, finding.level) == ("cors.broad", "warn")
    assert origin in finding.detail


@pytest.mark.parametrize("format", ["json", "cloudformation"])
def test_setup_bucket_prints_the_set_up_for_others(
    s3_away: Callable[[], None], format: str
) -> None:
    s3_away()
    more = ["--signature-age", "3600", "--block-public-access"]
    out, _ = run("setup_bucket", "--origin", ORIGIN, "--format", format, *more)
    printed = json.loads(out)
    assert ORIGIN in out
    assert "s3:signatureAge" in out
    assert "s3:ListBucketMultipartUploads" in out
    assert len(printed) == (1 if format == "json" else 2)


ACCESS_POINT = "arn:aws:s3:eu-west-1:123456789012:accesspoint/photos"
ALIAS = "photos-1a2b3c4d5e6f7g8h9i0jklmnopqrstuse1a-s3alias"


@pytest.mark.parametrize("name", [ACCESS_POINT, ALIAS])
@pytest.mark.parametrize("more", [[], ["--dry-run"], ["--create"]])
def test_an_access_point_is_not_set_up(
    storage_options: Callable[..., None], s3_calls: list[str], name: str, more: list[str]
) -> None:
    storage_options(bucket_name=name)
    with pytest.raises(CommandError, match=f"{name} is an access point.*the bucket behind it"):
        run("setup_bucket", "--origin", ORIGIN, *more)
    assert s3_calls == []


def test_setup_bucket_sets_up_no_storage_where_one_is_an_access_point(
    bucket: Any, settings: Any
) -> None:
    rules = {"MAX_SIZE": 1, "CONTENT_TYPES": ["image/*"]}
    storage = settings.STORAGES["default"]
    options = {**storage["OPTIONS"], "bucket_name": ALIAS}
    settings.STORAGES = {**settings.STORAGES, "point": {**storage, "OPTIONS": options}}
    settings.S3DIRECT_UPLOADS = {
        "DESTINATIONS": {"a": rules, "b": {**rules, "STORAGE": "point"}},
    }
    with pytest.raises(CommandError, match="access point"):
        run("setup_bucket", "--origin", ORIGIN)
    assert get_bucket("default").cors_rules() == []


def test_setup_bucket_prints_what_an_access_point_needs(
    storage_options: Callable[..., None],
) -> None:
    storage_options(bucket_name=ACCESS_POINT)
    arguments = ["--origin", ORIGIN, "--signature-age", "3600", "--format"]
    out, err = run("setup_bucket", *arguments, "json")
    [printed] = json.loads(out)
    [statement] = printed["access_point_policy"]["Statement"]
    assert statement["Resource"] == [ACCESS_POINT, f"{ACCESS_POINT}/object/site/*"]
    assert "the bucket behind it" in err
    with pytest.raises(CommandError, match="--format json"):
        run("setup_bucket", *arguments, "cloudformation")


@pytest.mark.parametrize("format", ["json", "cloudformation"])
def test_no_policy_can_name_an_alias(storage_options: Callable[..., None], format: str) -> None:
    storage_options(bucket_name=ALIAS)
    with pytest.raises(CommandError, match="ARN"):
        run("setup_bucket", "--origin", ORIGIN, "--format", format)


def test_public_objects_and_block_public_access_exclude_each_other(settings: Any) -> None:
    rules = {"MAX_SIZE": 1, "CONTENT_TYPES": ["image/*"], "ACL": "public-read"}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"photos": rules}}
    with pytest.raises(CommandError, match="ACL"):
        run("setup_bucket", "--origin", ORIGIN, "--format", "json", "--block-public-access")


@pytest.mark.parametrize(
    "refusal",
    [Refusal(501, "NotImplemented", {}, ""), Refusal(409, "BucketAlreadyExists", {}, ""), None],
)
def test_setup_bucket_names_a_server_that_keeps_no_rules(
    bucket: Any, monkeypatch: pytest.MonkeyPatch, refusal: Refusal | None
) -> None:
    """With None, the server accepts the rules and forgets them."""

    def write(rules: object) -> None:
        if refusal:
            raise refusal

    monkeypatch.setattr(bucket, "set_cors_rules", write)
    out, err = run("setup_bucket", "--origin", ORIGIN)
    assert "keeps no CORS rules" in err
    assert out.count(": written.") == 1
    assert len(bucket.lifecycle_rules()) == 1


def test_setup_bucket_names_a_missing_permission(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(rules: object) -> None:
        raise Refusal(403, "AccessDenied", {}, "")

    monkeypatch.setattr(bucket, "set_cors_rules", write)
    with pytest.raises(CommandError, match=r"403 AccessDenied.*check_bucket"):
        run("setup_bucket", "--origin", ORIGIN)


# check_bucket.


def test_check_bucket_finds_nothing_once_the_bucket_is_set_up(bucket: Any, s3: Bucket) -> None:
    assert codes(ORIGIN) == {"cors.none", "lifecycle.none"}
    run("setup_bucket", "--origin", ORIGIN)
    assert codes(ORIGIN) == codes() == set()
    assert codes("http://127.0.0.1:1") == {"cors.origin"}
    assert codes("https://app.example.com") == {"cors.origin", "public_endpoint.private"}
    assert s3.client.list_object_versions(Bucket=bucket.name).get("Versions", []) == []


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (
            {"AllowedHeaders": ["content-type"]},
            "cors.headers",
            "may not send if-none-match, x-amz-",
        ),
        ({"ExposeHeaders": ["Date"]}, "cors.etag", "s3direct-uploads lacks it"),
        ({"AllowedOrigins": ["https://localhost:8000"]}, "cors.origin", "another origin"),
        ({"AllowedMethods": ["GET"]}, "cors.method", "a GET and no PUT"),
    ],
)
def test_check_bucket_names_what_a_cors_rule_lacks(
    bucket: Any, change: dict[str, Any], code: str, words: str
) -> None:
    run("setup_bucket", "--origin", ORIGIN)
    [rule] = bucket.cors_rules()
    bucket.set_cors_rules([{**rule, **change}])
    found = {each.code: each for each in diagnose("default", [ORIGIN])}
    assert words in found[code].detail
    assert found[code].cure
    assert not {
        each for each in found if each.startswith("cors") and found[each].level != "pass"
    } - {code}


@pytest.mark.parametrize("origin", ["*", "https://*.com"])
def test_check_bucket_checks_only_the_origins_it_is_given(origin: str) -> None:
    with pytest.raises(CommandError, match="as a browser sends it"):
        run("check_bucket", "--origin", origin)


def test_check_bucket_fails_a_lifecycle_rule_that_is_too_quick(bucket: Any) -> None:
    run("setup_bucket", "--origin", ORIGIN)
    [rule] = bucket.lifecycle_rules()
    rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] = 3
    bucket.set_lifecycle_rules([rule])
    assert codes(ORIGIN) == {"lifecycle.too_soon"}


def test_check_bucket_exits_with_1_and_reports_as_json(bucket: Any, s3: Bucket) -> None:
    with pytest.raises(SystemExit, match="1"):
        run("check_bucket")
    out, err = StringIO(), StringIO()
    with pytest.raises(SystemExit, match="1"):
        call_command("check_bucket", "--json", stdout=out, stderr=err)
    found = json.loads(out.getvalue())
    assert err.getvalue() == ""
    assert {(each["storage"], each["bucket"]) for each in found} == {("default", bucket.name)}
    assert {each["level"] for each in found} >= {"pass", "warn", "fail"}
    assert all(each["cure"] for each in found if each["level"] != "pass")


def test_check_bucket_prints_a_line_for_each_finding(bucket: Any) -> None:
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("check_bucket", stdout=out, no_color=True)
    heading, *lines, sum_ = out.getvalue().splitlines()
    assert heading == f"{bucket.name} (storage default)"
    assert {line[:6] for line in lines} <= {"pass  ", "warn  ", "fail  "}
    assert all("To do: " in line for line in lines if not line.startswith("pass"))
    failed = sum(line.startswith("fail") for line in lines)
    assert sum_.startswith(f"{failed} failed, ")


def test_check_bucket_names_missing_credentials(
    storage_options: Callable[..., None], monkeypatch: Any
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    storage_options(access_key=None, secret_key=None)
    assert codes() == {"credentials.none"}


def test_check_bucket_leaves_nothing_where_its_reader_stops(bucket: Any, s3: Bucket) -> None:
    findings = diagnose("default", [ORIGIN])
    for finding in findings:
        if finding.code == "presigned":
            break
    there = s3.client.list_objects_v2(Bucket=bucket.name)["KeyCount"]
    assert there
    findings.close()
    assert s3.client.list_objects_v2(Bucket=bucket.name)["KeyCount"] == 0


def test_check_bucket_names_what_it_could_not_delete(
    bucket: Any, monkeypatch: Any, s3: Bucket
) -> None:
    real = bucket.delete
    monkeypatch.setattr(bucket, "delete", lambda key: get_bucket("default").head("nothing"))
    left = [each for each in diagnose("default", [ORIGIN]) if each.code == "left"]
    assert left
    assert {each.level for each in left} == {"fail"}
    for each in s3.client.list_objects_v2(Bucket=bucket.name)["Contents"]:
        assert any(each["Key"] in finding.detail for finding in left)
        real(each["Key"])


# No server in the tests gives these answers. They are written as AWS documents them.


def answers(bucket: Any, monkeypatch: pytest.MonkeyPatch, **refusals: Refusal) -> None:
    """S3 refuses these operations with these answers."""
    ask = bucket.ask

    def asked(operation: str, **parameters: Any) -> dict[str, Any]:
        if operation in refusals:
            raise refusals[operation]
        answer: dict[str, Any] = ask(operation, **parameters)
        return answer

    monkeypatch.setattr(bucket, "ask", asked)


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (Refusal(403, "SignatureDoesNotMatch", {}, ""), "credentials.secret"),
        (Refusal(403, "InvalidAccessKeyId", {}, ""), "credentials.unknown"),
        (Refusal(400, "ExpiredToken", {}, ""), "credentials.expired"),
        (Refusal(403, "RequestTimeTooSkewed", {}, ""), "clock.off"),
        (Refusal(400, "AuthorizationHeaderMalformed", {}, "eu-west-3"), "region.wrong"),
        (Refusal(503, "SlowDown", {}, ""), "bucket.unavailable"),
        (Refusal(0, "ConnectTimeoutError", {}, ""), "bucket.unavailable"),
    ],
)
def test_check_bucket_names_a_refused_listing(
    bucket: Any, monkeypatch: pytest.MonkeyPatch, refusal: Refusal, code: str
) -> None:
    answers(bucket, monkeypatch, list_objects_v2=refusal)
    assert codes(ORIGIN) == {code}


def test_check_bucket_names_a_bucket_that_refuses_acls(
    bucket: Any, settings: Any, monkeypatch: Any
) -> None:
    rules = {"MAX_SIZE": 1, "CONTENT_TYPES": ["image/*"], "ACL": "public-read"}
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"public": rules}}
    run("setup_bucket", "--origin", ORIGIN)
    assert codes(ORIGIN) == set()

    controls = {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}}
    ask = bucket.ask
    monkeypatch.setattr(
        bucket,
        "ask",
        lambda operation, **more: (
            controls if operation == "get_bucket_ownership_controls" else ask(operation, **more)
        ),
    )
    found = {each.code: each for each in diagnose("default", [ORIGIN])}
    assert found["acl.disabled"].level == "fail"
    assert "BucketOwnerEnforced" in found["acl.disabled"].detail
    assert "s3:GetObject" in found["acl.disabled"].cure
    assert f"arn:aws:s3:::{bucket.name}/site/public/*" in found["acl.disabled"].cure


class Anywhere(Destination):
    max_size, content_types, acl = 1, ["image/*"], "public-read"

    def get_prefix(self, upload: Any, request: Any) -> str:
        return "elsewhere/"


@pytest.mark.parametrize(
    ("rules", "cure"),
    [
        ({"PREFIX": "open/"}, "arn:aws:s3:::{bucket}/site/open/*"),
        ({"PREFIX": "a/b/"}, "arn:aws:s3:::{bucket}/site/a/b/*"),
        # In a shared folder, a policy would make the files of others public too.
        ({"PREFIX": ""}, "give the destination a PREFIX of its own"),
        (Anywhere, "give the destination a PREFIX of its own"),
    ],
)
def test_check_bucket_names_the_folder_that_a_policy_must_open(
    bucket: Any, settings: Any, rules: Any, cure: str
) -> None:
    public = {"MAX_SIZE": 1, "CONTENT_TYPES": ["image/*"], "ACL": "public-read"}
    spec = {**public, **rules} if isinstance(rules, dict) else rules
    settings.S3DIRECT_UPLOADS = {"DESTINATIONS": {"public": spec}}
    probe = Probe("default")
    [rule] = probe.rules
    assert cure.format(bucket=bucket.name) in policy_instead(probe.needs, rule)
    assert "site/public" not in policy_instead(probe.needs, rule)


@pytest.mark.parametrize(
    ("seconds", "level"),
    [(0, "pass"), (90, "warn"), (-90, "warn"), (1000, "fail"), (-1900, "fail")],
)
def test_check_bucket_compares_its_clock_with_the_servers(seconds: int, level: str) -> None:
    then = datetime.now(UTC) - timedelta(seconds=seconds)
    first = Answer(200, {"date": then.strftime("%a, %d %b %Y %H:%M:%S GMT")}, "")
    findings: list[Finding] = []
    try:
        findings.extend(clock(first))
    except Stop:
        pass
    else:
        assert [each.level for each in findings] == [level]
        assert level != "fail"
        return
    assert level == "fail"


def test_check_bucket_names_a_server_that_sends_no_date() -> None:
    assert [each.code for each in clock(Answer(200, {}, ""))] == ["clock.unknown"]


def test_http_behind_https_is_refused_by_browsers(bucket: Any) -> None:
    run("setup_bucket", "--origin", ORIGIN)
    clients = "http://s3.example.com/media"
    [finding] = cors_of(Probe("default"), "https://app.example.com", [], clients, False)
    assert (finding.code, finding.level) == ("cors.mixed_content", "fail")


@pytest.mark.parametrize(
    ("clients", "origins", "code"),
    [
        ("http://minio:9000/media", [], "public_endpoint.private"),
        ("http://127.0.0.1:9000/media", ["https://app.example.com"], "public_endpoint.private"),
        ("http://127.0.0.1:9000/media", ["http://localhost:8000"], "public_endpoint"),
        ("https://s3.example.com/media", ["https://app.example.com"], "public_endpoint"),
    ],
)
def test_check_bucket_names_a_host_that_browsers_cannot_reach(
    bucket: Any, clients: str, origins: list[str], code: str
) -> None:
    found = public_endpoint(Probe("default"), clients, clients, origins)
    assert [each.code for each in found] == [code]
