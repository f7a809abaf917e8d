"""Which wrong requests does S3 refuse itself, and which would only confirm find?"""

from __future__ import annotations

import base64
import hashlib
import time
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

from s3direct_uploads.exceptions import UploadError
from s3direct_uploads.s3 import PresignedRequest

from .answers import Answer
from .findings import FAIL, PASS, WARN, Finding, Question
from .probe import BODY, Probe, bare

SHORT_LIFE = timedelta(seconds=1)


def enforcement(probe: Probe) -> Question[None]:
    """Send requests that differ from what was signed. Takes SHORT_LIFE and 1.5 s at least."""
    short = probe.sign(probe.new_key(remember=True), expires=SHORT_LIFE)
    signed_at = time.monotonic()
    yield _signatures(probe)
    yield _overwrite(probe)
    yield refused(
        "content_type",
        "another content type than was declared",
        probe.put(_signed(probe), headers={"Content-Type": "text/html"}),
    )
    yield refused(
        "length",
        "another length than was declared",
        probe.put(_signed(probe), body=BODY + BODY),
    )
    yield from _checksum(probe)
    yield refused(
        "unsigned_headers",
        "an x-amz- header that was not signed (such as a public ACL)",
        probe.put(_signed(probe), headers={"x-amz-acl": "public-read"}),
        found_later=False,
    )
    time.sleep(max(0, signed_at + SHORT_LIFE.total_seconds() + 1.5 - time.monotonic()))
    yield refused("expiry", "a URL that has expired", probe.put(short), found_later=False)


def refused(code: str, what: str, answer: Answer, *, found_later: bool = True) -> Finding:
    """The finding about a request that S3 should refuse; ``what`` says how it was wrong.

    ``found_later``: confirm finds it, so that S3's acceptance is a warning and no failure.
    """
    if not answer.ok:
        return Finding(code, PASS, f"S3 refuses {what} ({answer}).")
    if found_later:
        return Finding(
            f"{code}.accepted",
            WARN,
            f"S3 accepts {what}. Only confirm finds it, and rejects the upload.",
            "Nothing, as long as only completed uploads are used.",
        )
    return Finding(
        f"{code}.accepted",
        FAIL,
        f"S3 accepts {what}, which confirm cannot find.",
        "Use another server, or use this one for development only.",
    )


def _signed(probe: Probe) -> PresignedRequest:
    return probe.sign(probe.new_key(remember=True))


def _signatures(probe: Probe) -> Finding:
    forged = _signed(probe)
    tampered = PresignedRequest("PUT", _tampered(forged.url), forged.headers, forged.expires_in)
    unsigned = PresignedRequest("PUT", bare(forged.url), forged.headers, 0)
    let_in = [
        what
        for what, request in (("forged signatures", tampered), ("no signature", unsigned))
        if probe.put(request).ok
    ]
    if let_in:
        return Finding(
            "signatures.unchecked",
            FAIL,
            f"Anybody can write to this server: it accepts {' and '.join(let_in)}.",
            "Use it for development only. If it is a real server, close the bucket to the public.",
        )
    return Finding("signatures", PASS, "Forged and missing signatures are refused.")


def _tampered(url: str) -> str:
    """The same URL with another signature."""
    signature = parse_qs(urlsplit(url).query)["X-Amz-Signature"][0]
    return url.replace(signature, signature[::-1] if signature != signature[::-1] else "0" * 64)


def _overwrite(probe: Probe) -> Finding:
    request = _signed(probe)
    probe.put(request)
    again = probe.put(request)
    if again.status == 412:
        return Finding("overwrite", PASS, "A second PUT to the same URL is refused.")
    return Finding(
        "overwrite.allowed",
        FAIL,
        f"S3 does not refuse a second PUT to the same URL ({again}). So a client can replace an "
        "object after it was confirmed.",
        "Write 'overwrite_guard': 'multipart' in the storage's OPTIONS. Then every upload is a "
        "multipart upload.",
    )


def _checksum(probe: Probe) -> Question[None]:
    digest = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    declared = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": digest}
    yield refused(
        "checksum",
        "another content than the declared SHA-256",
        probe.put(probe.sign(probe.new_key(remember=True), declared=declared), body=BODY[::-1]),
    )
    if any(each.require_checksum for each in probe.rules):
        key = probe.new_key(remember=True)
        probe.put(probe.sign(key, declared=declared))
        try:
            kept = probe.bucket.head(key).checksums
        except UploadError:
            kept = {}
        if kept.get("SHA256") != digest:
            yield Finding(
                "checksum.forgotten",
                FAIL,
                "A destination has REQUIRE_CHECKSUM, and this server keeps no checksum. So confirm "
                "would reject every upload.",
                "Leave REQUIRE_CHECKSUM out, or use another server.",
            )
