"""Can a client upload by one presigned PUT?"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from s3direct_uploads.exceptions import UploadError
from s3direct_uploads.s3 import PresignedRequest

from .answers import Answer
from .findings import FAIL, PASS, WARN, Finding, Question, Stop
from .probe import BODY, CONTENT_TYPE, LOOPBACK, Probe
from .reach import ANOTHER, wrong_credentials, wrong_region


def public_endpoint(
    probe: Probe, server: str, clients: str, origins: Sequence[str]
) -> Question[bool]:
    """Return whether S3 answers at the URL that clients get, ``clients``."""
    host = urlsplit(clients).netloc
    if clients == server:
        yield _shared_endpoint(clients, origins)
        return True
    answer = probe.send("GET", clients)
    if not answer.status or not answer.is_s3:
        what = f"{answer}" if not answer.status else f"a {answer.status} that is not S3's"
        yield Finding(
            "public_endpoint.unreachable",
            FAIL,
            f"Clients are sent to {host}, and receive {what} there. S3 answers this server at "
            f"{urlsplit(server).netloc}.",
            "Correct the storage's public_endpoint_url, or the proxy, DNS or firewall there.",
        )
        return False
    yield Finding("public_endpoint", PASS, f"Clients are sent to {host}, where S3 answers.")
    return True


def _shared_endpoint(clients: str, origins: Sequence[str]) -> Finding:
    """The finding about a URL that clients and server share: can clients elsewhere use it?"""
    host, name = urlsplit(clients).netloc, urlsplit(clients).hostname or ""
    abroad = [each for each in origins if urlsplit(each).hostname not in LOOPBACK]
    if "." not in name.strip("[]") and ":" not in name and name not in LOOPBACK:
        return _private(host, "only machines in the same network know this name")
    if name in LOOPBACK and abroad:
        return _private(host, "for each user, that is the user's own machine")
    return Finding("public_endpoint", PASS, f"Clients are sent to {host}, as the server is.")


def _private(host: str, what: str) -> Finding:
    return Finding(
        "public_endpoint.private",
        WARN,
        f"Clients are sent to {host}: {what}.",
        "Write public_endpoint_url in the storage's OPTIONS: S3's address for browsers.",
    )


def presigned(probe: Probe, server: str, clients: str) -> Question[bool]:
    """Return whether one PUT that begin would sign arrives as it was declared.

    The module ``enforcement`` tests which PUTs S3 refuses. Stops if the region is wrong.
    """
    key = probe.new_key(remember=True)
    request = probe.sign(key)
    answer = probe.put(request)
    if answer.status in (301, 302, 307, 308):
        told = answer.headers.get("x-amz-bucket-region", ANOTHER)
        yield wrong_region(probe.bucket, told, "")
        raise Stop
    if not answer.ok:
        yield _why_refused(probe, request, answer)
        return False
    try:
        stored = probe.bucket.head(key)
    except UploadError:
        yield Finding(
            "public_endpoint.elsewhere",
            FAIL,
            f"What clients put at {urlsplit(clients).netloc} does not arrive in the bucket at "
            f"{urlsplit(server).netloc}.",
            "Let endpoint_url and public_endpoint_url lead to the same server.",
        )
        return False
    if stored.size != len(BODY) or stored.content_type != CONTENT_TYPE:
        yield Finding(
            "presigned.changed",
            FAIL,
            f"{len(BODY)} bytes of {CONTENT_TYPE} were put, and S3 has {stored.size} of "
            f"{stored.content_type or 'no type'}: confirm would reject every upload.",
            "Use another server, or overwrite_guard 'multipart' (docs/providers.md).",
        )
        return False
    yield Finding("presigned", PASS, "A presigned PUT arrives as it was declared.")
    return True


def _why_refused(probe: Probe, request: PresignedRequest, answer: Answer) -> Finding:
    if answer.status == 501:
        return Finding(
            "overwrite.unsupported",
            FAIL,
            f"This server has no conditional writes: it answered {answer} to If-None-Match.",
            "Write 'overwrite_guard': 'multipart' in the storage's OPTIONS. Then every upload is "
            "a multipart upload.",
        )
    # Requests of our own were accepted. So a proxy causes SignatureDoesNotMatch, no wrong secret.
    if answer.s3_code != "SignatureDoesNotMatch":
        known = wrong_credentials(probe.bucket, answer.s3_code, f"{answer}")
        if known:
            return known
    return Finding(
        "presigned.refused",
        FAIL,
        f"S3 refuses a presigned PUT at {urlsplit(request.url).netloc}: {answer}.",
        "If a proxy stands there, let it pass the host, the path and every header on as they are. "
        "The signature covers each of them.",
    )
