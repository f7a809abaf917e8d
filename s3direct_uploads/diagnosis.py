"""Questions asked of a live bucket, and what each answer means to who has never seen CORS.

What clients send is sent as they would, by plain HTTP; what the server asks, by the server's own
client. Nothing is left in the bucket: all that might be refused a deletion is not put there.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import urllib3
from django.core.exceptions import ImproperlyConfigured

from . import conf, destinations, keys, provisioning
from .bucket import PresignedRequest, Refusal, StoredPart, get_bucket
from .destinations import Destination
from .exceptions import UploadError
from .lifecycle import site

PASS, WARN, FAIL = "pass", "warn", "fail"
TIMEOUT = urllib3.Timeout(connect=3, read=10)  # seconds
MAX_SKEW = timedelta(minutes=15)  # S3 refuses what is signed by a clock that is further off
NOTED_SKEW = timedelta(minutes=1)
URL_LIFE = timedelta(minutes=5)  # of the URLs that are tried here
SHORT_LIFE = timedelta(seconds=1)
STRANGER = "https://stranger.invalid"  # no rule has a reason to name it
BODY = b"check_bucket of s3direct_uploads\n"
CONTENT_TYPE = "image/png"
LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")
NO_UPLOAD = "check-bucket-no-such-upload"  # an id that no server gave
VERSIONED = "This bucket keeps old versions"


@dataclass(frozen=True)
class Finding:
    """One line of the report. ``code`` is stable: its first word names the question."""

    code: str
    level: str  # "pass", "warn" or "fail"
    detail: str
    cure: str = ""  # what to do; empty where nothing is to be done

    def as_json(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Answer:
    """What came back to a client; status 0: nothing did."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def s3_code(self) -> str:
        found = re.search(r"<Code>([^<]+)", self.text)
        return found[1] if found else ""

    def __str__(self) -> str:
        return f"{self.status} {self.s3_code}".strip() if self.status else f"nothing ({self.text})"


class Stop(Exception):
    """What follows could only fail for the reason that was named."""


def diagnose(alias: str, origins: Sequence[str] = ()) -> Generator[Finding, None, None]:
    """The findings, as they are made; without ``origins``, for those that the bucket's rules name.

    Whatever is put there is deleted in the end, also where the iteration is closed half way.
    Raises StorageNotS3, ImproperlyConfigured.
    """
    asked = Diagnosis(alias, origins)
    try:
        yield from asked.findings()
    finally:
        left = asked.clean()
    for key in left:
        yield Finding(
            "left",
            FAIL,
            f"The object {key} could not be deleted again.",
            "Delete it; and grant what the lines above miss.",
        )


class Diagnosis:
    def __init__(self, alias: str, origins: Sequence[str]) -> None:
        self.alias = alias
        self.bucket = get_bucket(alias)
        self.needs = provisioning.needs_of(alias)
        self.rules = [
            each
            for name in conf.destinations()
            if (each := destinations.get(name)).storage == alias
        ] or [Destination("check")]
        self.origins = list(origins)
        self.http = urllib3.PoolManager(
            retries=False,
            timeout=TIMEOUT,
            **_certificates(self.bucket.verify),
        )
        self.keys: list[str] = []  # where something may lie
        self.unfinished: list[tuple[str, str]] = []  # keys and ids of multipart uploads
        self.has_versions = False
        self.may_write = True  # for what is put there can be taken out again
        self.may_be_sent = True  # for clients reach S3
        self.arrives = False  # what they put there, in one PUT
        self.server, self.clients = "", ""

    def findings(self) -> Iterator[Finding]:
        questions: list[Callable[[], Iterator[Finding]]] = [
            self.credentials,
            self.endpoint,
            self.clock,
            self.region,
            self.signature,
            self.missing_key,
            self.versions,
            self.deletion,
            self.abortion,
            self.objects,
            self.public_endpoint,
            self.presigned,
            self.domain,
            self.enforcement,
            self.multipart,
            self.acl,
            self.cors,
            self.lifecycle,
        ]
        for question in questions:
            try:
                yield from question()
            except Stop:
                return
            except (Refusal, UploadError) as error:
                yield Finding(
                    question.__name__,
                    FAIL,
                    f"S3 failed half way: {error.__cause__ or error}.",
                    "Mend the lines above first; if they are all well, try again.",
                )

    # Can it be asked at all?

    def credentials(self) -> Iterator[Finding]:
        if not self.bucket.access_key:
            yield Finding(
                "credentials.none",
                FAIL,
                "There are no credentials to sign with.",
                "Give the storage access_key and secret_key, or the machine a role.",
            )
            raise Stop
        lent = " A role lends them: a URL dies with them, whatever it says." * self.bucket.is_lent
        yield Finding("credentials", PASS, f"Access key {self.bucket.access_key}.{lent}")
        self.server, self.clients = self.bucket.endpoints

    def endpoint(self) -> Iterator[Finding]:
        """The first answer is wanted unsigned: it has S3's clock, and the bucket's region."""
        self.first = answer = self.send("GET", self.server)
        host = urlsplit(self.server).netloc
        if not answer.status:
            yield Finding(
                "endpoint.unreachable",
                FAIL,
                f"Nothing answers at {host} ({answer.text}).",
                "Correct the storage's endpoint_url (for AWS: leave it out and set region_name), "
                "or let this machine through to it.",
            )
            raise Stop
        if not _is_s3(answer):
            yield Finding(
                "endpoint.not_s3",
                FAIL,
                f"What answers at {host} is not S3: {answer.status}, "
                f"{answer.headers.get('content-type', 'no type')}.",
                "Correct the storage's endpoint_url: S3's port, not a console's or a web site's.",
            )
            raise Stop
        yield Finding("endpoint", PASS, f"S3 answers at {host}.")

    def clock(self) -> Iterator[Finding]:
        try:
            theirs = parsedate_to_datetime(self.first.headers["date"])
        except (KeyError, ValueError):
            yield Finding("clock.unknown", WARN, "S3 did not say what time it is.")
            return
        ahead = datetime.now(UTC) - theirs
        apart = f"{abs(ahead).total_seconds():.0f} s"
        way = "ahead of" if ahead > timedelta(0) else "behind"
        ends_early = ahead < timedelta(0) and abs(ahead) > conf.url_expires() / 2
        if abs(ahead) > MAX_SKEW or ends_early:
            yield Finding(
                "clock.off",
                FAIL,
                f"This machine's clock is {apart} {way} S3's: S3 takes its signatures for forged "
                "or expired.",
                "Set the clock by NTP (timedatectl set-ntp true; for a VM or container: its host).",
            )
            raise Stop
        if abs(ahead) > NOTED_SKEW:
            yield Finding(
                "clock.off",
                WARN,
                f"This machine's clock is {apart} {way} S3's: URLs end that much "
                f"{'later' if ahead > timedelta(0) else 'earlier'} than they say.",
                "Set the clock by NTP (timedatectl set-ntp true).",
            )
            return
        yield Finding("clock", PASS, f"This machine's clock and S3's are {apart} apart.")

    def region(self) -> Iterator[Finding]:
        told, why = self.first.headers.get("x-amz-bucket-region") or _region_of(self.first), ""
        if self.first.status in (301, 307):
            # botocore would follow by itself, which a browser cannot; or for ever, to nowhere.
            told, why = told or "another", f" ({self.first})"
        elif not told:
            try:
                told = self.bucket.ask("head_bucket").get("BucketRegion", "")
            except Refusal as refusal:
                told, why = refusal.headers.get("x-amz-bucket-region", ""), f" ({refusal})"
        # R2 has one region, "auto", and knows it by other names.
        if told and told != self.bucket.region and "auto" not in (told, self.bucket.region):
            yield self.wrong_region(told, why)
            raise Stop
        yield Finding("region", PASS, f"Signed for {self.bucket.region}; S3 names no other.")

    def wrong_region(self, told: str, why: str) -> Finding:
        known = told != "another"
        return Finding(
            "region.wrong",
            FAIL,
            f"The bucket is in {f'the region {told}' if known else 'another region'}, and the "
            f"storage says {self.bucket.region}: S3 sends every upload elsewhere, which browsers "
            f"report as a CORS error{why}.",
            f"Write 'region_name': {told!r} in the storage's OPTIONS."
            if known
            else "Write the region that S3's console names, as region_name in its OPTIONS.",
        )

    def signature(self) -> Iterator[Finding]:
        """Of one answer: the secret, the region, the bucket, and the permission to list it."""
        try:
            self.bucket.ask("list_objects_v2", MaxKeys=1)
            yield Finding("signature", PASS, "S3 accepts these credentials.")
            return
        except Refusal as refusal:
            found = refusal
        if found.code == "NoSuchBucket":
            yield Finding(
                "bucket.missing",
                FAIL,
                f"There is no bucket {self.bucket.name} here.",
                f"Correct bucket_name, or run {self.setup()} --create.",
            )
        elif known := self.wrong_credentials(found.code, f"{found}"):
            yield known
        elif found.code == "RequestTimeTooSkewed":
            yield Finding(
                "clock.off", FAIL, f"S3 answered {found}.", "Set this machine's clock by NTP."
            )
        elif found.code in ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException"):
            yield self.wrong_region(found.detail or "another", f" ({found})")
        elif found.status == 403 and (self.bucket.knows_us() or self.may_do_anything()):
            # Not the signature then; the next question says what is missing.
            yield Finding("signature", PASS, "S3 accepts these credentials.")
            return
        elif found.status == 403:
            yield Finding(
                "credentials.secret",
                FAIL,
                f"S3 refuses all that {self.bucket.access_key} signs ({found}): a wrong secret "
                "key, or an access key that does not exist or may do nothing.",
                "Copy access_key and secret_key anew; then grant what 'manage.py setup_bucket "
                "--format json' prints.",
            )
        else:
            yield Finding(
                "bucket.unavailable", FAIL, f"S3 answered {found} to a listing.", "Try again."
            )
        raise Stop

    def wrong_credentials(self, code: str, said: str) -> Finding | None:
        """What is wrong with them, where S3 says so."""
        if code == "SignatureDoesNotMatch":
            return Finding(
                "credentials.secret",
                FAIL,
                f"The secret key is not that of {self.bucket.access_key}: S3 answered {said}.",
                "Copy secret_key anew, whole and without spaces; or make a new pair of keys.",
            )
        if code in ("InvalidAccessKeyId", "InvalidClientTokenId"):
            return Finding(
                "credentials.unknown",
                FAIL,
                f"S3 does not know the access key {self.bucket.access_key}: it answered {said}.",
                "Correct access_key, or the endpoint_url: is it another provider's key?",
            )
        if code in ("ExpiredToken", "InvalidToken"):
            return Finding(
                "credentials.expired",
                FAIL,
                f"The session token is no longer good: S3 answered {said}.",
                "Get new temporary credentials, or let the machine's role renew them.",
            )
        return None

    def may_do_anything(self) -> bool:
        """Whether S3 lets these credentials do some other thing, if not list."""
        key = self.new_key()
        for operation, more in (
            ("get_bucket_location", {}),
            ("list_multipart_uploads", {}),
            ("abort_multipart_upload", {"Key": key, "UploadId": NO_UPLOAD}),
        ):
            try:
                self.bucket.ask(operation, **more)
                return True
            except Refusal as refusal:
                if refusal.code == "NoSuchUpload":
                    return True
        return False

    # What may the server do?

    def missing_key(self) -> Iterator[Finding]:
        try:
            self.bucket.ask("head_object", Key=self.new_key())
        except Refusal as refusal:
            if refusal.status == 404:
                yield Finding("missing_key", PASS, "S3 answers 404 for what is not there.")
                return
            yield Finding(
                "missing_key.forbidden",
                FAIL,
                f"S3 answers {refusal.status} for what is not there: confirm cannot tell an upload "
                "that has not arrived from a bucket that is down, and answers 503.",
                "Grant the server s3:ListBucket on the bucket itself (not on bucket/*).",
            )
            return
        yield Finding("missing_key.found", FAIL, "S3 finds what was never put there.")

    def versions(self) -> Iterator[Finding]:
        try:
            state = self.bucket.ask("get_bucket_versioning").get("Status", "")
        except Refusal as refusal:
            level = PASS if refusal.is_unknown_operation else WARN
            yield Finding(
                "versions.unknown",
                level,
                f"Whether the bucket keeps old versions is not known ({refusal}).",
                "" if level == PASS else "Grant s3:GetBucketVersioning to whoever runs this.",
            )
            return
        self.has_versions = bool(state)
        if not state:
            yield Finding("versions", PASS, "The bucket keeps no old versions.")
            return
        may_list = self.may("list_object_versions", Prefix=self.new_key())
        may_delete = self.may("delete_object", Key=self.new_key(), VersionId="null")
        if not (may_list and may_delete):
            self.may_write = False
            yield Finding(
                "versions.forbidden",
                FAIL,
                f"{VERSIONED}, and the server may not delete them: what users delete stays.",
                "Grant the server s3:ListBucketVersions and s3:DeleteObjectVersion.",
            )
            return
        yield Finding("versions", PASS, f"{VERSIONED}, and the server may delete them.")

    def deletion(self) -> Iterator[Finding]:
        """Asked where nothing is: else what is put there next would stay for good."""
        if self.may_write:
            key = self.new_key(remember=self.has_versions)  # there a deletion leaves a marker
            if self.may("delete_object", Key=key):
                yield Finding("delete", PASS, "The server may delete objects.")
            else:
                self.may_write = False
                yield Finding(
                    "delete.forbidden",
                    FAIL,
                    "The server may not delete objects: what users delete or what is rejected "
                    "stays, and costs.",
                    f"Grant it s3:DeleteObject on {self.bucket.name}/{self.needs.folder}*.",
                )
        try:
            lock = self.bucket.ask("get_object_lock_configuration")["ObjectLockConfiguration"]
        except (Refusal, KeyError):
            lock = {}
        if lock.get("Rule"):
            self.may_write = False
            yield Finding(
                "delete.locked",
                FAIL,
                "Object Lock keeps every object of this bucket for a while: nothing that is "
                "rejected or deleted goes.",
                "Use a bucket without a default retention for uploads.",
            )

    def abortion(self) -> Iterator[Finding]:
        denied = [
            action
            for action, operation, more in (
                ("s3:AbortMultipartUpload", "abort_multipart_upload", {"UploadId": NO_UPLOAD}),
                ("s3:ListBucketMultipartUploads", "list_multipart_uploads", None),
            )
            if not self.may(operation, **({"Key": self.new_key(), **more} if more else {}))
        ]
        if denied:
            self.may_write = False
            yield self.no_multipart(denied)
        if not self.may_write:
            yield Finding(
                "writing.skipped",
                WARN,
                "Nothing was put into the bucket, for it could not be taken out again: uploads "
                "themselves were not tried.",
                "Mend the lines above, and run this again.",
            )

    def no_multipart(self, denied: Sequence[str]) -> Finding:
        return Finding(
            "multipart.forbidden",
            FAIL,
            f"The server may not do all that files in parts take: {_listed(denied)}.",
            f"Grant it {_listed(denied)}.",
        )

    def objects(self) -> Iterator[Finding]:
        if not self.may_write:
            return
        key = self.new_key(remember=True)
        for action, operation, more, ability in (
            ("s3:PutObject", "put_object", {"Body": BODY, "ContentType": CONTENT_TYPE}, "put"),
            ("s3:GetObject", "head_object", {}, "look at"),
            ("s3:GetObject", "get_object", {}, "read"),
        ):
            code = operation.removesuffix("_object")
            try:
                answer = self.bucket.ask(operation, Key=key, **more)
            except Refusal as refusal:
                yield Finding(
                    f"{code}.forbidden",
                    FAIL,
                    f"The server may not {ability} an object: S3 answered {refusal}.",
                    f"Grant it {action} on {self.bucket.name}/{self.needs.folder}*"
                    + (
                        " (and, with aws:kms, the use of the key)."
                        if refusal.status == 403
                        else "."
                    ),
                )
                self.may_write = False
                return
            if operation == "head_object" and answer.get("ContentType") != CONTENT_TYPE:
                yield Finding(
                    "head.content_type",
                    FAIL,
                    f"{CONTENT_TYPE} was put, and S3 says {answer.get('ContentType')}: this server "
                    "forgets content types, so that every confirm would be a rejection.",
                    "Use another server (docs/providers.md).",
                )
                continue
            yield Finding(code, PASS, f"The server may {ability} objects.")

    # What can clients do?

    def public_endpoint(self) -> Iterator[Finding]:
        host = urlsplit(self.clients).netloc
        if self.clients == self.server:
            name = urlsplit(self.clients).hostname or ""
            abroad = [each for each in self.origins if urlsplit(each).hostname not in LOOPBACK]
            if "." not in name.strip("[]") and ":" not in name and name not in LOOPBACK:
                yield self.private(host, "a name that only machines beside it know")
            elif name in LOOPBACK and abroad:
                yield self.private(host, "each user's own machine")
            else:
                yield Finding("public_endpoint", PASS, f"Clients are sent to {host}, as we are.")
            return
        answer = self.send("GET", self.clients)
        if not answer.status or not _is_s3(answer):
            reason = f"{answer}" if not answer.status else f"a {answer.status} that is not S3's"
            yield Finding(
                "public_endpoint.unreachable",
                FAIL,
                f"Clients are sent to {host}, and get {reason} there, while S3 answers us at "
                f"{urlsplit(self.server).netloc}.",
                "Correct the storage's public_endpoint_url, or what stands there "
                "(proxy, DNS, firewall).",
            )
            self.may_be_sent = False
            return
        yield Finding("public_endpoint", PASS, f"Clients are sent to {host}, where S3 answers.")

    def private(self, host: str, what: str) -> Finding:
        return Finding(
            "public_endpoint.private",
            WARN,
            f"Clients are sent to {host}: {what}.",
            "Write public_endpoint_url, S3's address as browsers see it, in the storage's OPTIONS.",
        )

    def presigned(self) -> Iterator[Finding]:
        """One PUT as begin hands it out; what it needs to hold, ``enforcement`` asks."""
        if not (self.may_write and self.may_be_sent) or self.bucket.takes_parts_only:
            return
        key = self.new_key(remember=True)
        request = self.sign(key)
        answer = self.put(request)
        if answer.status == 501:
            yield Finding(
                "overwrite.unsupported",
                FAIL,
                f"This server has no conditional writes: it answered {answer} to If-None-Match.",
                "Write 'overwrite_guard': 'multipart' in the storage's OPTIONS: every upload then "
                "goes in parts.",
            )
            return
        if answer.status in (301, 302, 307, 308):
            yield self.wrong_region(answer.headers.get("x-amz-bucket-region", "another"), "")
            raise Stop
        if not answer.ok:
            # SignatureDoesNotMatch would be a proxy's doing: our own requests were accepted.
            unknown = answer.s3_code != "SignatureDoesNotMatch"
            known = self.wrong_credentials(answer.s3_code, f"{answer}") if unknown else None
            yield known or Finding(
                "presigned.refused",
                FAIL,
                f"S3 refuses a presigned PUT at {urlsplit(request.url).netloc}: {answer}.",
                "Does a proxy there change the host, the path or a header? Each is a part of the "
                "signature: it must pass them on as they are.",
            )
            return
        try:
            stored = self.bucket.head(key)
        except UploadError:
            yield Finding(
                "public_endpoint.elsewhere",
                FAIL,
                f"What clients put at {urlsplit(self.clients).netloc} is not in our bucket at "
                f"{urlsplit(self.server).netloc}.",
                "Let endpoint_url and public_endpoint_url lead to the same server.",
            )
            return
        if stored.size != len(BODY) or stored.content_type != CONTENT_TYPE:
            yield Finding(
                "presigned.changed",
                FAIL,
                f"{len(BODY)} bytes of {CONTENT_TYPE} were put, and S3 has {stored.size} of "
                f"{stored.content_type or 'nothing'}: confirm would reject every upload.",
                "Use another server, or overwrite_guard 'multipart' (docs/providers.md).",
            )
        else:
            self.arrives = True
            yield Finding("presigned", PASS, "A presigned PUT arrives as it was declared.")

    def domain(self) -> Iterator[Finding]:
        """Where the storage's own URLs lead past S3, or are not signed: do they, and save files?"""
        key = self.some_key()
        if key is None:
            return
        stored = self.bucket.object_parameters(key, None)
        for inline in (True, False):
            url = self.bucket.presign_get(
                key,
                filename="check.jpg",
                inline=inline,
                version_id="",
                expires=URL_LIFE,
                stored=stored,
            ).url
            if "X-Amz-Signature" in url:  # S3 itself
                continue
            host, answer = urlsplit(url).netloc, self.send("GET", url)
            said = answer.headers.get("content-disposition", "")
            if not answer.ok:
                yield Finding(
                    "domain.refused",
                    FAIL,
                    f"Downloads are sent to {host}, which answers {answer}.",
                    "Let the CDN read the bucket and, where it is to believe signatures, know the "
                    "key of cloudfront_key_id. Unsigned URLs take a bucket that is public.",
                )
            elif not inline and not said.lower().startswith("attachment"):
                yield Finding(
                    "domain.disposition",
                    FAIL,
                    f"{host} does not send response-content-disposition on to S3: browsers show "
                    "every file, and run the scripts of an uploaded page.",
                    "Add that query parameter to the distribution's cache policy, and let it sign "
                    "its requests to S3 (origin access control); or write 'ContentDisposition': "
                    "'attachment' in the storage's object_parameters.",
                )
            else:
                shown = "shown" if inline else "saved"
                yield Finding("domain", PASS, f"Files are {shown} from {host}.")

    def enforcement(self) -> Iterator[Finding]:
        """What is refused by S3 itself, and what only confirm would find."""
        if not self.arrives:
            return
        short = self.sign(self.new_key(remember=True), expires=SHORT_LIFE)
        signed_at = time.monotonic()

        forged = self.sign(self.new_key(remember=True))
        tampered = PresignedRequest("PUT", _tampered(forged.url), forged.headers, forged.expires_in)
        bare = PresignedRequest("PUT", forged.url.partition("?")[0], forged.headers, 0)
        let_in = [
            what
            for what, request in (("forged signatures", tampered), ("no signature", bare))
            if self.put(request).ok
        ]
        if let_in:
            yield Finding(
                "signatures.unchecked",
                FAIL,
                f"This server lets anybody write: it takes {' and '.join(let_in)}.",
                "Use it for development only; if it is a real one, close the bucket to the public.",
            )
        else:
            yield Finding("signatures", PASS, "Forged and missing signatures are refused.")

        request = self.sign(self.new_key(remember=True))
        self.put(request)
        again = self.put(request)
        if again.status == 412:
            yield Finding("overwrite", PASS, "A second PUT to the same URL is refused.")
        else:
            yield Finding(
                "overwrite.allowed",
                FAIL,
                "A second PUT to the same URL is not refused as a second one "
                f"({again}): an upload can be exchanged after it was confirmed.",
                "Write 'overwrite_guard': 'multipart' in the storage's OPTIONS: every upload then "
                "goes in parts.",
            )

        other = {"Content-Type": "text/html"}
        yield self.refused(
            "content_type",
            "another content type than was declared",
            self.put(self.sign(self.new_key(remember=True)), headers=other),
        )
        yield self.refused(
            "length",
            "another length than was declared",
            self.put(self.sign(self.new_key(remember=True)), body=BODY + BODY),
        )
        yield from self.checksum()
        yield self.refused(
            "unsigned_headers",
            "an x-amz- header that nobody signed (a public ACL, say)",
            self.put(self.sign(self.new_key(remember=True)), headers={"x-amz-acl": "public-read"}),
            found_later=False,
        )
        time.sleep(max(0, signed_at + SHORT_LIFE.total_seconds() + 1.5 - time.monotonic()))
        yield self.refused("expiry", "a URL that has expired", self.put(short), found_later=False)

    def checksum(self) -> Iterator[Finding]:
        digest = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
        declared = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": digest}
        yield self.refused(
            "checksum",
            "another content than the declared SHA-256",
            self.put(self.sign(self.new_key(remember=True), declared=declared), body=BODY[::-1]),
        )
        if any(each.require_checksum for each in self.rules):
            key = self.new_key(remember=True)
            self.put(self.sign(key, declared=declared))
            try:
                kept = self.bucket.head(key).checksums
            except UploadError:
                kept = {}
            if kept.get("SHA256") != digest:
                yield Finding(
                    "checksum.forgotten",
                    FAIL,
                    "A destination has REQUIRE_CHECKSUM, and this server keeps none: every confirm "
                    "would be a rejection.",
                    "Leave REQUIRE_CHECKSUM out, or use another server.",
                )

    def refused(self, code: str, what: str, answer: Answer, *, found_later: bool = True) -> Finding:
        if not answer.ok:
            return Finding(code, PASS, f"S3 refuses {what} ({answer}).")
        if found_later:
            return Finding(
                f"{code}.accepted",
                WARN,
                f"S3 takes {what}: only confirm finds it, and rejects the upload then.",
                "Nothing, as long as only completed uploads are used.",
            )
        return Finding(
            f"{code}.accepted",
            FAIL,
            f"S3 takes {what}, which confirm cannot find.",
            "Use another server, or this one for development only.",
        )

    def multipart(self) -> Iterator[Finding]:
        """A file in parts, from Create to Complete; its last part may be small."""
        if not (self.may_write and self.may_be_sent):
            return
        key = self.new_key(remember=True)
        try:
            created = self.bucket.ask("create_multipart_upload", Key=key, ContentType=CONTENT_TYPE)
            upload_id = created["UploadId"]
        except (Refusal, KeyError) as error:
            yield Finding(
                "multipart.refused",
                FAIL,
                f"S3 refuses an upload in parts: {error}.",
                f"Grant the server s3:PutObject on {self.bucket.name}/{self.needs.folder}*.",
            )
            return
        self.unfinished.append((key, upload_id))
        (part,) = self.bucket.presign_parts(key, upload_id, {1: len(BODY)}, expires=URL_LIFE)
        request = PresignedRequest("PUT", part.url, part.headers, 0)
        wrong = self.put(request, body=BODY + BODY)
        answer = self.put(request)
        # Some say that there is no such upload before they say that one may not ask.
        if not self.may("list_parts", Key=key, UploadId=upload_id):
            yield self.no_multipart(["s3:ListMultipartUploadParts"])
            return
        there = self.bucket.list_parts(key, upload_id) if answer.ok else []
        if not answer.ok or [each.size for each in there] != [len(BODY)]:
            yield Finding(
                "multipart.part_refused",
                FAIL,
                f"S3 does not take a presigned part ({answer}).",
                "Does a proxy change the URL's query? It is signed; pass it on as it is.",
            )
            return
        yield self.refused("part_length", "a part of another length than was signed", wrong)
        self.complete(key, upload_id, there)
        stored = self.bucket.head(key)
        late = self.put(request)
        if stored.size != len(BODY):
            yield Finding(
                "multipart.wrong_size", FAIL, f"Of {len(BODY)} bytes S3 made {stored.size}."
            )
        elif late.ok and self.bucket.head(key) != stored:
            yield Finding(
                "multipart.alive",
                FAIL,
                "A part's URL still changes the object after Complete.",
                "Use another server.",
            )
        else:
            yield Finding(
                "multipart", PASS, "A file in parts is put together, and its URLs are dead then."
            )
        if not self.bucket.takes_parts_only:
            yield from self.second_complete()

    def second_complete(self) -> Iterator[Finding]:
        key = self.new_key(remember=True)
        self.bucket.ask("put_object", Key=key, Body=b"first", ContentType=CONTENT_TYPE)
        upload_id = self.bucket.ask("create_multipart_upload", Key=key)["UploadId"]
        self.unfinished.append((key, upload_id))
        (part,) = self.bucket.presign_parts(key, upload_id, {1: len(BODY)}, expires=URL_LIFE)
        self.put(PresignedRequest("PUT", part.url, part.headers, 0))
        self.complete(key, upload_id, self.bucket.list_parts(key, upload_id))
        if self.bucket.head(key).size == len(b"first"):
            yield Finding("multipart_overwrite", PASS, "Parts do not replace an object either.")
        else:
            yield Finding(
                "multipart_overwrite.allowed",
                WARN,
                "Parts replace an object that is there (this server knows no condition on "
                "Complete): only the server completes, and each key is used once.",
                "Nothing has to be done.",
            )

    def complete(self, key: str, upload_id: str, parts: list[StoredPart]) -> None:
        self.bucket.complete_multipart(key, upload_id, parts, size=len(BODY), checksum={})

    def acl(self) -> Iterator[Finding]:
        """Whether what should be public is, and what should not is not."""
        blocked = self.setting("get_public_access_block", "PublicAccessBlockConfiguration")
        owning = self.setting("get_bucket_ownership_controls", "OwnershipControls").get("Rules", [])
        enforced = any(each.get("ObjectOwnership") == "BucketOwnerEnforced" for each in owning)
        yield from self.private_objects(blocked)
        for rule in self.rules:
            if not rule.acl or rule.acl in ("private", "bucket-owner-full-control"):
                continue
            where = f"The destination {rule.name} has the ACL {rule.acl}"
            disabled = Finding(
                "acl.disabled",
                FAIL,
                f"{where}, and the bucket refuses every ACL (BucketOwnerEnforced, as all new AWS "
                "buckets).",
                self.policy_instead(rule),
            )
            if enforced:
                yield disabled
                continue
            if blocked.get("BlockPublicAcls") or blocked.get("IgnorePublicAcls"):
                yield Finding(
                    "acl.blocked",
                    FAIL,
                    f"{where}, and Block Public Access undoes it.",
                    "Turn BlockPublicAcls and IgnorePublicAcls off for this bucket, if it is to be "
                    "public.",
                )
                continue
            if not self.arrives:
                continue
            key = self.new_key(remember=True, rule=rule)
            request = self.sign(key, rule=rule)
            answer = self.put(request)
            if answer.s3_code == "AccessControlListNotSupported":
                yield disabled
            elif not answer.ok:
                yield Finding(
                    "acl.refused",
                    FAIL,
                    f"{where}, and S3 refuses a PUT with it: {answer}.",
                    "Grant the server s3:PutObjectAcl, and see whether the bucket allows ACLs.",
                )
            elif rule.acl == "public-read" and not self.send("GET", _bare(request.url)).ok:
                yield Finding(
                    "acl.ineffective",
                    FAIL,
                    f"{where}, and S3 keeps its objects private all the same.",
                    self.policy_instead(rule),
                )
            else:
                yield Finding("acl", PASS, f"{where}, and S3 heeds it.")

    def private_objects(self, blocked: Mapping[str, Any]) -> Iterator[Finding]:
        key = self.some_key()
        if key is None or not self.may_be_sent:
            return
        if self.send("GET", _bare(self.sign(key).url)).ok:
            yield Finding(
                "public.open",
                WARN,
                "Anybody who has an object's address may read it, without a signature.",
                "If that is not meant: turn Block Public Access on, and look at the bucket's "
                "policy and ACL.",
            )
        else:
            walled = " Block Public Access is on." * bool(blocked and all(blocked.values()))
            yield Finding("public", PASS, f"Nobody reads an object without a signature.{walled}")

    def policy_instead(self, rule: Destination) -> str:
        resource = f"arn:aws:s3:::{self.bucket.name}/{self.needs.folder}{rule.prefix or rule.name}"
        return (
            "Leave 'ACL' out, and let a bucket policy make that folder public: Allow s3:GetObject "
            f"to Principal * on {resource.rstrip('/')}/*; or allow ACLs (Object Ownership: "
            "bucket owner preferred)."
        )

    # Does the browser let a page?

    def cors(self) -> Iterator[Finding]:
        if not self.may_be_sent:
            return
        rules: list[provisioning.Rule] | None
        try:
            rules = self.bucket.cors_rules()
        except Refusal:
            rules = None  # not ours to see, or not this server's to have
        is_open = self.lets_in(STRANGER)
        if rules == [] and not is_open:
            yield Finding(
                "cors.none",
                FAIL,
                "The bucket has no CORS rule: no browser lets any page upload to it.",
                f"Run {self.setup()}.",
            )
            return
        origins = self.origins or _concrete_origins(rules or ())
        if not origins:
            yield Finding(
                "cors.unasked",
                WARN,
                "From where pages upload is not known here.",
                "Say it: check_bucket --origin https://app.example.com",
            )
        for origin in origins:
            yield from self.cors_of(origin, rules or [])
        if is_open:
            yield Finding(
                "cors.open",
                WARN,
                "Pages of every site in the world may send to this bucket what somebody signed.",
                "Name your own origins instead of *; some servers cannot (docs/providers.md).",
            )
        else:
            yield Finding("cors_strangers", PASS, "Pages of other sites are kept out.")

    def cors_of(self, origin: str, rules: Sequence[provisioning.Rule]) -> Iterator[Finding]:
        cure = f"Run {self.setup(origin)}."
        by_http = self.clients.startswith("http:")
        if (
            origin.startswith("https:")
            and by_http
            and urlsplit(self.clients).hostname not in LOOPBACK
        ):
            yield Finding(
                "cors.mixed_content",
                FAIL,
                f"{origin} comes by https and clients are sent to {self.clients}: browsers "
                "refuse that.",
                "Give S3 an https address, as public_endpoint_url.",
            )
            return
        if not self.lets_in(origin):
            other = next((each for each in ("GET", "HEAD") if self.lets_in(origin, each)), None)
            named = sorted({each for rule in rules for each in rule["AllowedOrigins"]})
            near = _nearly(origin, named)
            if other:
                yield Finding(
                    "cors.method",
                    FAIL,
                    f"Pages at {origin} may send a {other} and no PUT: the CORS rule's "
                    "AllowedMethods lack it.",
                    cure,
                )
                return
            but = f" The rules name {_listed(named)}." if named else ""
            but += f" To a browser {near} is another origin." if near else ""
            yield Finding(
                "cors.origin",
                FAIL,
                f"Pages at {origin} may not upload: no CORS rule lets them in.{but}",
                cure,
            )
            return
        if self.misses(origin, self.needs.headers):
            # Some servers refuse all of them for the sake of one.
            missing = [each for each in self.needs.headers if self.misses(origin, [each])]
            yield Finding(
                "cors.headers",
                FAIL,
                f"Pages at {origin} may not send {_listed(missing or self.needs.headers)}, which "
                "uploads need: the CORS rule's AllowedHeaders lack it.",
                cure,
            )
            return
        yield Finding("cors", PASS, f"Pages at {origin} may upload.")
        yield self.exposure(origin, rules)

    def exposure(self, origin: str, rules: Sequence[provisioning.Rule]) -> Finding:
        rule = provisioning.matching_rule(rules, origin, "PUT", self.needs.headers)
        if self.arrives:
            put = self.put(self.sign(self.new_key(remember=True)), headers={"Origin": origin})
            is_exposed = bool({"etag", "*"} & _words(put, "access-control-expose-headers"))
        else:
            is_exposed = rule is None or provisioning.exposes_etag(rule)
        if is_exposed:
            return Finding("cors_etag", PASS, f"Pages at {origin} may read an answer's ETag.")
        name = f"the rule {rule['ID']}" if rule and rule.get("ID") else "the CORS rule"
        return Finding(
            "cors.etag",
            WARN,
            f"Pages at {origin} cannot read an answer's ETag: {name} lacks it in ExposeHeaders. "
            "upload.js does without it; other clients that send parts fail.",
            "Add ETag to its ExposeHeaders.",
        )

    def lets_in(self, origin: str, method: str = "PUT") -> bool:
        """Without any header: whether it is the origin that is refused."""
        return self.preflight(origin, (), method) is not None

    def misses(self, origin: str, headers: Sequence[str]) -> bool:
        return self.preflight(origin, headers) != set()

    def preflight(
        self, origin: str, headers: Sequence[str], method: str = "PUT"
    ) -> set[str] | None:
        """What a browser asks before it sends, at the very URL that it would send to.

        Those of the headers that it would then not send, or None if it would send nothing.
        """
        asking = {"Origin": origin, "Access-Control-Request-Method": method}
        if headers:
            asking["Access-Control-Request-Headers"] = ",".join(sorted(headers))
        url = self.sign(self.new_key()).url
        answer = self.send("OPTIONS", url if method == "PUT" else _bare(url), headers=asking)
        if not answer.ok or answer.headers.get("access-control-allow-origin") not in (origin, "*"):
            return None
        methods = _words(answer, "access-control-allow-methods")
        if method == "PUT" and not {"put", "*"} & methods:
            return None
        allowed = _words(answer, "access-control-allow-headers")
        return set() if "*" in allowed else set(headers) - allowed

    def lifecycle(self) -> Iterator[Finding]:
        try:
            rules = self.bucket.lifecycle_rules()
        except Refusal as refusal:
            unknown = refusal.is_unknown_operation
            yield Finding(
                "lifecycle.unknown",
                WARN,
                "Whether unfinished uploads are ever thrown away is not known "
                f"({'this server has no such rules' if unknown else refusal}).",
                "See docs/providers.md, how this server ends them."
                if unknown
                else "Grant s3:GetLifecycleConfiguration to whoever runs this.",
            )
            return
        aborting = provisioning.aborting_rules(rules, self.needs)
        days = sorted(provisioning.abort_days(each) for each in aborting)
        wanted = self.needs.abort_days
        if not days:
            yield Finding(
                "lifecycle.none",
                WARN,
                "No lifecycle rule throws unfinished uploads away: their parts are invisible, and "
                "cost for good.",
                f"Run {self.setup()}.",
            )
        elif timedelta(days=days[0]) < conf.multipart_expires():
            yield Finding(
                "lifecycle.too_soon",
                WARN,
                f"A lifecycle rule throws unfinished uploads away after {days[0]} days, which may "
                f"be resumed for {conf.multipart_expires().days}.",
                f"Let it wait {wanted} days, or lower MULTIPART_EXPIRES.",
            )
        else:
            yield Finding(
                "lifecycle", PASS, f"Unfinished uploads are thrown away after {days[0]} days."
            )

    # How it is asked.

    def send(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        try:
            answer = self.http.request(
                method, url, body=body, headers=dict(headers or {}), redirect=False
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return Answer(0, {}, _reason(error))
        told = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status, told, answer.data[:4096].decode(errors="replace"))

    def put(
        self, request: PresignedRequest, *, body: bytes = BODY, headers: Mapping[str, str] = {}
    ) -> Answer:
        return self.send(
            request.method, request.url, body=body, headers={**request.headers, **headers}
        )

    def sign(
        self,
        key: str,
        *,
        expires: timedelta = URL_LIFE,
        rule: Destination | None = None,
        declared: Mapping[str, str] = {},
    ) -> PresignedRequest:
        """A PUT of BODY, as begin signs it."""
        parameters = self.bucket.object_parameters(key, rule.acl if rule else None)
        return self.bucket.presign_put(
            key,
            size=len(BODY),
            parameters={**parameters, "ContentType": CONTENT_TYPE, **declared},
            expires=expires,
        )

    def some_key(self) -> str | None:
        """Of an object that is there."""
        return next((each for each in self.keys if self.has(each)), None)

    def new_key(self, *, remember: bool = False, rule: Destination | None = None) -> str:
        """As begin makes them; ``remember`` where something may come to lie there."""
        it = rule or self.rules[0]
        prefix = f"{it.name}/" if it.prefix is None else it.prefix
        bucket, length = self.bucket, conf.max_name_length()
        name = keys.new_name(site(), bucket.name, bucket.location, prefix, "check.jpg", length)
        key = keys.join(self.bucket.location, name)
        if remember:
            self.keys.append(key)
        return key

    def has(self, key: str) -> bool | None:
        """Whether an object is there; None if S3 does not say."""
        try:
            self.bucket.ask("head_object", Key=key)
        except Refusal as refusal:
            return False if refusal.status == 404 else None
        return True

    def may(self, operation: str, **parameters: Any) -> bool:
        """What is not there may be asked for all the same: S3 says first whether one may."""
        try:
            self.bucket.ask(operation, **parameters)
        except Refusal as refusal:
            if not refusal.status:
                raise
            return refusal.status not in (401, 403)
        return True

    def setting(self, operation: str, member: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self.bucket.ask(operation).get(member, {})
        except Refusal:
            return {}  # none, not this server's, or not ours to see: then the PUTs tell
        return found

    def setup(self, origin: str = "") -> str:
        """The command that mends it."""
        origin = origin or next(iter(self.origins), "https://app.example.com")
        storage = "" if self.alias == "default" else f"--storage {self.alias} "
        return f"manage.py setup_bucket {storage}--origin {origin}"

    def clean(self, *, again: bool = True) -> list[str]:
        """Take everything out again; the keys at which something had to stay."""
        left = []
        try:
            while self.unfinished:
                key, upload_id = self.unfinished[-1]
                if not self.done(self.bucket.abort_multipart, key, upload_id):
                    left.append(key)
                self.unfinished.pop()
            while self.keys:
                key = self.keys[-1]
                if not self.done(self.bucket.delete, key) and (
                    self.has_versions or self.has(key) is not False
                ):
                    left.append(key)
                self.keys.pop()
        except (KeyboardInterrupt, SystemExit):
            if again:  # the first signal has to wait for this, the second one not
                self.clean(again=False)
            raise
        return left

    def done(self, operation: Callable[..., None], *arguments: str) -> bool:
        try:
            operation(*arguments)
        except (UploadError, ImproperlyConfigured):
            return False
        return True


def _certificates(verify: bool | str | None) -> dict[str, Any]:
    if verify is False:
        return {"cert_reqs": "CERT_NONE"}
    return {"ca_certs": verify} if isinstance(verify, str) else {}


def _is_s3(answer: Answer) -> bool:
    theirs = ("x-amz-", "x-goog-", "x-guploader-", "x-minio-", "x-amzn-")
    return answer.text.lstrip().startswith("<?xml") or any(
        name.startswith(theirs) for name in answer.headers
    )


def _region_of(answer: Answer) -> str:
    found = re.search(r"<Region>([^<]+)", answer.text)
    return found[1] if found else ""


def _reason(error: BaseException) -> str:
    """Why a connection failed, without the URL, in which a signature is."""
    text = str(error)
    for sign, reason in (
        ("Name or service not known", "no such host"),
        ("Temporary failure in name", "no such host"),
        ("NameResolutionError", "no such host"),
        ("refused", "connection refused"),
        ("CERTIFICATE", "its certificate is not believed"),
        ("timed out", "no answer in time"),
    ):
        if sign in text:
            return reason
    return type(error).__name__


def _tampered(url: str) -> str:
    """The same URL with another signature."""
    signature = parse_qs(urlsplit(url).query)["X-Amz-Signature"][0]
    return url.replace(signature, signature[::-1] if signature != signature[::-1] else "0" * 64)


def _bare(url: str) -> str:
    return url.partition("?")[0]


def _words(answer: Answer, header: str) -> set[str]:
    return {each.strip().lower() for each in answer.headers.get(header, "").split(",")}


def _concrete_origins(rules: Sequence[provisioning.Rule]) -> list[str]:
    return sorted(
        {
            origin
            for rule in rules
            if "PUT" in rule.get("AllowedMethods", ())
            for origin in rule["AllowedOrigins"]
            if "*" not in origin
        }
    )


def _nearly(origin: str, named: Sequence[str]) -> str | None:
    """One that a person would take for the same: http for https, a slash, a port, www."""

    def gist(each: str) -> str:
        return (urlsplit(each.lower()).hostname or each.lower()).removeprefix("www.")

    return next((each for each in named if "*" not in each and gist(each) == gist(origin)), None)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
