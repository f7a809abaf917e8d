"""Does S3 answer, and does it accept what these credentials sign?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from s3direct_uploads import conf
from s3direct_uploads.s3 import Bucket, Refusal

from .answers import Answer
from .findings import FAIL, PASS, WARN, Finding, Question, Stop
from .probe import NO_UPLOAD, Probe

MAX_SKEW = timedelta(minutes=15)  # S3 refuses a signature whose time is further off
NOTED_SKEW = timedelta(minutes=1)
ANOTHER = "another"  # region: S3 did not name it


def credentials(bucket: Bucket) -> Question[tuple[str, str]]:
    """Return the bucket's two URLs: the server's, and the clients'. Stops without credentials."""
    if not bucket.access_key:
        yield Finding(
            "credentials.none",
            FAIL,
            "There are no credentials to sign with.",
            "Write access_key and secret_key in the storage's OPTIONS, or give this machine a "
            "role.",
        )
        raise Stop
    lent = (
        " A role lends them: when they expire, every URL that they signed stops working."
        * bucket.is_lent
    )
    yield Finding("credentials", PASS, f"The access key is {bucket.access_key}.{lent}")
    return bucket.endpoints


def endpoint(probe: Probe, server: str) -> Question[Answer]:
    """Return the answer to an unsigned request: it has S3's time, and often the bucket's region.

    Stops if S3 does not answer.
    """
    answer = probe.send("GET", server)
    host = urlsplit(server).netloc
    if not answer.status:
        yield Finding(
            "endpoint.unreachable",
            FAIL,
            f"Nothing answers at {host} ({answer.text}).",
            "Correct the storage's endpoint_url (for AWS: leave it out and set region_name), "
            "or let this machine connect to it.",
        )
        raise Stop
    if not answer.is_s3:
        yield Finding(
            "endpoint.not_s3",
            FAIL,
            f"The server at {host} is not S3. It answered {answer.status}, "
            f"{answer.headers.get('content-type', 'no type')}.",
            "Correct the storage's endpoint_url. It needs S3's own port, not that of a console or "
            "a web site.",
        )
        raise Stop
    yield Finding("endpoint", PASS, f"S3 answers at {host}.")
    return answer


def clock(first: Answer) -> Question[None]:
    """Compare this machine's clock with S3's, as its first answer says it. Stops if it is off."""
    try:
        theirs = parsedate_to_datetime(first.headers["date"])
    except (KeyError, ValueError):
        yield Finding(
            "clock.unknown",
            WARN,
            "S3 did not say what time it is.",
            "Check that NTP sets this machine's clock.",
        )
        return
    ahead = datetime.now(UTC) - theirs
    apart = f"{abs(ahead).total_seconds():.0f} s"
    way = "ahead of" if ahead > timedelta(0) else "behind"
    ends_early = ahead < timedelta(0) and abs(ahead) > conf.url_expires() / 2
    if abs(ahead) > MAX_SKEW or ends_early:
        yield Finding(
            "clock.off",
            FAIL,
            f"This machine's clock is {apart} {way} S3's. S3 refuses its signatures as forged or "
            "expired.",
            "Set the clock by NTP (timedatectl set-ntp true; for a VM or container: its host).",
        )
        raise Stop
    if abs(ahead) > NOTED_SKEW:
        yield Finding(
            "clock.off",
            WARN,
            f"This machine's clock is {apart} {way} S3's. URLs expire that much "
            f"{'later' if ahead > timedelta(0) else 'earlier'} than they say.",
            "Set the clock by NTP (timedatectl set-ntp true).",
        )
        return
    yield Finding("clock", PASS, f"This machine's clock and S3's are {apart} apart.")


def region(bucket: Bucket, first: Answer) -> Question[None]:
    """Compare the region that is signed with the bucket's own. Stops if they differ."""
    told, why = first.headers.get("x-amz-bucket-region") or first.s3_region, ""
    if first.status in (301, 307):
        # botocore follows a redirect by itself, perhaps without end. A browser cannot follow it.
        told, why = told or ANOTHER, f" ({first})"
    elif not told:
        try:
            told = bucket.ask("head_bucket").get("BucketRegion", "")
        except Refusal as refusal:
            told, why = refusal.headers.get("x-amz-bucket-region", ""), f" ({refusal})"
    # R2 has one region, "auto", and also accepts other names for it.
    if told and told != bucket.region and "auto" not in (told, bucket.region):
        yield wrong_region(bucket, told, why)
        raise Stop
    yield Finding("region", PASS, f"Requests are signed for {bucket.region}; S3 names no other.")


def wrong_region(bucket: Bucket, told: str, why: str) -> Finding:
    """The finding that the storage names the wrong region; ``told``, or ANOTHER, is the right."""
    known = told != ANOTHER
    return Finding(
        "region.wrong",
        FAIL,
        f"The bucket is in {f'the region {told}' if known else 'another region'}, and the "
        f"storage says {bucket.region}. S3 redirects every upload, which browsers report as a "
        f"CORS error{why}.",
        f"Write 'region_name': {told!r} in the storage's OPTIONS."
        if known
        else "Write the region that S3's console shows as region_name in the storage's OPTIONS.",
    )


def signature(probe: Probe, setup: str) -> Question[None]:
    """Ask for a listing. Its answer tells of the secret key, the region and the bucket.

    ``setup`` is the command that makes the bucket. Stops if S3 does not accept the credentials.
    """
    found = None
    try:
        probe.bucket.ask("list_objects_v2", MaxKeys=1)
    except Refusal as refusal:
        found = refusal
    if found and (wrong := _why_refused(probe, found, setup)):
        yield wrong
        raise Stop
    yield Finding("signature", PASS, "S3 accepts these credentials.")


def _why_refused(probe: Probe, found: Refusal, setup: str) -> Finding | None:
    """Why a listing was refused; None if only the permission to list is missing."""
    bucket = probe.bucket
    if found.code == "NoSuchBucket":
        return Finding(
            "bucket.missing",
            FAIL,
            f"There is no bucket {bucket.name} here.",
            f"Correct bucket_name, or run {setup} --create.",
        )
    if known := wrong_credentials(bucket, found.code, f"{found}"):
        return known
    if found.code == "RequestTimeTooSkewed":
        return Finding(
            "clock.off", FAIL, f"S3 answered {found}.", "Set this machine's clock by NTP."
        )
    if found.code in ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException"):
        return wrong_region(bucket, found.detail or ANOTHER, f" ({found})")
    if found.status != 403:
        return Finding(
            "bucket.unavailable", FAIL, f"S3 answered {found} to a listing.", "Try again."
        )
    if bucket.knows_us() or _may_do_anything(probe):
        return None  # the next question reports the permission
    return Finding(
        "credentials.secret",
        FAIL,
        f"S3 refuses all that {bucket.access_key} signs ({found}). Either it is a wrong secret "
        "key, or the access key does not exist or has no permission at all.",
        "Copy access_key and secret_key again. Then grant the permissions that 'manage.py "
        "setup_bucket --format json' prints.",
    )


def wrong_credentials(bucket: Bucket, code: str, said: str) -> Finding | None:
    """What is wrong with the credentials, if S3's error ``code`` says so; ``said`` quotes S3."""
    if code == "SignatureDoesNotMatch":
        return Finding(
            "credentials.secret",
            FAIL,
            f"The secret key does not belong to {bucket.access_key}: S3 answered {said}.",
            "Copy secret_key again, whole and without spaces; or make a new pair of keys.",
        )
    if code in ("InvalidAccessKeyId", "InvalidClientTokenId"):
        return Finding(
            "credentials.unknown",
            FAIL,
            f"S3 does not know the access key {bucket.access_key}: it answered {said}.",
            "Correct access_key. If the key is another provider's, correct endpoint_url.",
        )
    if code in ("ExpiredToken", "InvalidToken"):
        return Finding(
            "credentials.expired",
            FAIL,
            f"The session token is no longer valid: S3 answered {said}.",
            "Get new temporary credentials, or let the machine's role renew them.",
        )
    return None


def _may_do_anything(probe: Probe) -> bool:
    """Whether S3 permits these credentials any other operation than a listing."""
    key = probe.new_key()
    for operation, more in (
        ("get_bucket_location", {}),
        ("list_multipart_uploads", {}),
        ("abort_multipart_upload", {"Key": key, "UploadId": NO_UPLOAD}),
    ):
        try:
            probe.bucket.ask(operation, **more)
            return True
        except Refusal as refusal:
            if refusal.code == "NoSuchUpload":
                return True
    return False
