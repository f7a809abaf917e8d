"""Can a client upload a file in parts?"""

from __future__ import annotations

from s3direct_uploads.s3 import Declared, PresignedRequest, Refusal, StoredPart

from .enforcement import refused
from .findings import FAIL, PASS, WARN, Finding, Question
from .permissions import no_multipart
from .probe import BODY, CONTENT_TYPE, URL_LIFE, Probe


def multipart(probe: Probe) -> Question[None]:
    """Send a multipart upload of one part, from Create to Complete. A last part may be small."""
    key = probe.new_key(remember=True)
    try:
        created = probe.bucket.ask("create_multipart_upload", Key=key, ContentType=CONTENT_TYPE)
        upload_id = created["UploadId"]
    except (Refusal, KeyError) as error:
        yield Finding(
            "multipart.refused",
            FAIL,
            f"S3 refuses a multipart upload: {error}.",
            f"Grant the server s3:PutObject on {probe.needs.objects()}.",
        )
        return
    probe.traces.unfinished.append((key, upload_id))
    request = _sign_part(probe, key, upload_id)
    wrong = probe.put(request, body=BODY + BODY)
    answer = probe.put(request)
    # Asked of an upload that exists: for another, some servers say that it does not exist before
    # they say that the permission is missing.
    if not probe.may("list_parts", Key=key, UploadId=upload_id):
        yield no_multipart(["s3:ListMultipartUploadParts"])
        return
    there = probe.bucket.list_parts(key, upload_id) if answer.ok else []
    if not answer.ok or [each.size for each in there] != [len(BODY)]:
        yield Finding(
            "multipart.part_refused",
            FAIL,
            f"S3 does not accept a presigned part ({answer}).",
            "If a proxy stands before S3, let it pass the URL's query on as it is: it is signed.",
        )
        return
    yield refused("part_length", "a part of another length than was signed", wrong)
    yield _completed(probe, key, upload_id, there, request)
    if not probe.bucket.takes_parts_only:
        yield _second_complete(probe)


def _completed(
    probe: Probe, key: str, upload_id: str, there: list[StoredPart], request: PresignedRequest
) -> Finding:
    _complete(probe, key, upload_id, there)
    stored = probe.bucket.head(key)
    late = probe.put(request)
    if stored.size != len(BODY):
        return Finding(
            "multipart.wrong_size",
            FAIL,
            f"A part of {len(BODY)} bytes became an object of {stored.size}.",
            "Use another server (docs/providers.md).",
        )
    if late.ok and probe.bucket.head(key) != stored:
        return Finding(
            "multipart.alive",
            FAIL,
            "A part's URL still changes the object after Complete.",
            "Use another server.",
        )
    return Finding(
        "multipart", PASS, "S3 makes an object of the parts, and their URLs no longer work then."
    )


def _second_complete(probe: Probe) -> Finding:
    """Whether Complete replaces an object that is there."""
    key = probe.new_key(remember=True)
    probe.bucket.ask("put_object", Key=key, Body=b"first", ContentType=CONTENT_TYPE)
    upload_id = probe.bucket.ask("create_multipart_upload", Key=key)["UploadId"]
    probe.traces.unfinished.append((key, upload_id))
    probe.put(_sign_part(probe, key, upload_id))
    _complete(probe, key, upload_id, probe.bucket.list_parts(key, upload_id))
    if probe.bucket.head(key).size == len(b"first"):
        return Finding("multipart_overwrite", PASS, "Parts do not replace an object either.")
    return Finding(
        "multipart_overwrite.allowed",
        WARN,
        "Parts replace an object that is there, because this server ignores the condition on "
        "Complete. Only the server completes an upload, and it uses each key once.",
        "Nothing has to be done.",
    )


def _sign_part(probe: Probe, key: str, upload_id: str) -> PresignedRequest:
    (part,) = probe.bucket.presign_parts(key, upload_id, {1: len(BODY)}, expires=URL_LIFE)
    return PresignedRequest("PUT", part.url, part.headers, 0)


def _complete(probe: Probe, key: str, upload_id: str, parts: list[StoredPart]) -> None:
    probe.bucket.complete_multipart(key, upload_id, parts, Declared(len(BODY)))
