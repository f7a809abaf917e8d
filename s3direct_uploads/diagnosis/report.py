"""All questions in their order. Each gets what it needs to know of the answers before it."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import TypeVar

from s3direct_uploads.exceptions import UploadError
from s3direct_uploads.s3 import Refusal

from . import access, browser, downloads, enforcement, leftovers, parts, permissions, reach, uploads
from .answers import Answer
from .findings import FAIL, Finding, Question, Stop, setup_command
from .probe import Probe

_T = TypeVar("_T")


def diagnose(alias: str, origins: Sequence[str] = ()) -> Generator[Finding, None, None]:
    """Yield the findings about the bucket of this storage, each as soon as it is made.

    ``origins`` are those of the pages that upload. Without them, the origins that the bucket's
    CORS rules name are tried. Everything that is put into the bucket is deleted in the end, also
    if the caller closes the generator early. Raises StorageNotS3, ImproperlyConfigured.
    """
    probe = Probe(alias)
    try:
        yield from _findings(probe, list(origins))
    finally:
        left = probe.traces.clean()
    for key in left:
        yield Finding(
            "left",
            FAIL,
            f"The object {key} could not be deleted again.",
            "Delete it, and grant the permissions that the lines above name.",
        )


def _findings(probe: Probe, origins: Sequence[str]) -> Iterator[Finding]:
    try:
        server, clients = yield from _reach(probe, origins)
        may_write = yield from _permissions(probe)
        is_reachable, arrives = yield from _uploads(probe, server, clients, origins, may_write)
    except Stop:
        return
    yield from _asked("acl", access.acl(probe, arrives, is_reachable), None)
    if is_reachable:
        yield from _asked("cors", browser.cors(probe, clients, origins, arrives), None)
    setup = setup_command(probe.alias, origins)
    yield from _asked("lifecycle", leftovers.lifecycle(probe, setup), None)


def _reach(probe: Probe, origins: Sequence[str]) -> Question[tuple[str, str]]:
    """Return the bucket's two URLs: the server's, and the clients'."""
    bucket, setup = probe.bucket, setup_command(probe.alias, origins)
    server, clients = yield from _asked("credentials", reach.credentials(bucket), ("", ""))
    first = yield from _asked("endpoint", reach.endpoint(probe, server), Answer(0, {}, ""))
    yield from _asked("clock", reach.clock(first), None)
    yield from _asked("region", reach.region(bucket, first), None)
    yield from _asked("signature", reach.signature(probe, setup), None)
    return server, clients


def _permissions(probe: Probe) -> Question[bool]:
    """Return whether objects may be put into the bucket, because they can be deleted again."""
    may_write = True
    yield from _asked("missing_key", permissions.missing_key(probe), None)
    keeps_versions = yield from _asked("versions", permissions.versions(probe), False)
    if keeps_versions:
        probe.traces.keeps_versions = True
        may_write = yield from _asked("versions", permissions.old_versions(probe), True)
    may_write = yield from _asked("deletion", permissions.deletion(probe, may_write), may_write)
    may_write = yield from _asked("abortion", permissions.abortion(probe, may_write), may_write)
    if may_write:
        may_write = yield from _asked("objects", permissions.objects(probe), True)
    return may_write


def _uploads(
    probe: Probe, server: str, clients: str, origins: Sequence[str], may_write: bool
) -> Question[tuple[bool, bool]]:
    """Return whether clients reach S3, and whether what they send by one PUT arrives there."""
    is_reachable = yield from _asked(
        "public_endpoint", uploads.public_endpoint(probe, server, clients, origins), True
    )
    arrives = False
    if may_write and is_reachable and not probe.bucket.takes_parts_only:
        arrives = yield from _asked("presigned", uploads.presigned(probe, server, clients), False)
    yield from _asked("domain", downloads.domain(probe), None)
    if arrives:
        yield from _asked("enforcement", enforcement.enforcement(probe), None)
    if may_write and is_reachable:
        yield from _asked("multipart", parts.multipart(probe), None)
    return is_reachable, arrives


def _asked(code: str, question: Question[_T], otherwise: _T) -> Question[_T]:
    """Ask one question. Where S3 fails during it, report that, and return ``otherwise``."""
    try:
        return (yield from question)
    except (Refusal, UploadError) as error:
        yield Finding(
            code,
            FAIL,
            f"S3 failed during this question: {error.__cause__ or error}.",
            "Correct what the lines above report. If they report nothing, try again.",
        )
        return otherwise
