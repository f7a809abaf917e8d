"""What may the server do in the bucket?

The permission to delete is tested first, with keys that do not exist. Without it, nothing is put
into the bucket, because it would stay there.
"""

from __future__ import annotations

from collections.abc import Sequence

from s3direct_uploads.s3 import Refusal

from .findings import FAIL, PASS, WARN, Finding, Question, listed
from .probe import BODY, CONTENT_TYPE, NO_UPLOAD, Probe

KEEPS_VERSIONS = "The bucket keeps old versions"


def missing_key(probe: Probe) -> Question[None]:
    """Whether S3 answers 404 for an object that does not exist: confirm needs to know."""
    try:
        probe.bucket.ask("head_object", Key=probe.new_key())
    except Refusal as refusal:
        if refusal.status == 404:
            yield Finding("missing_key", PASS, "S3 answers 404 for an object that does not exist.")
            return
        yield Finding(
            "missing_key.forbidden",
            FAIL,
            f"S3 answers {refusal.status} for an object that does not exist. So confirm cannot "
            "tell an upload that has not arrived from a bucket that is down, and answers 503.",
            "Grant the server s3:ListBucket on the bucket itself (not on bucket/*).",
        )
        return
    yield Finding(
        "missing_key.found",
        FAIL,
        "S3 finds an object that was never put there.",
        "Use another server (docs/providers.md).",
    )


def versions(probe: Probe) -> Question[bool]:
    """Return whether the bucket keeps old versions; False if S3 does not say."""
    try:
        state = probe.bucket.ask("get_bucket_versioning").get("Status", "")
    except Refusal as refusal:
        level = PASS if refusal.is_unknown_operation else WARN
        yield Finding(
            "versions.unknown",
            level,
            f"It is not known whether the bucket keeps old versions ({refusal}).",
            "" if level == PASS else "Grant s3:GetBucketVersioning to whoever runs this command.",
        )
        return False
    if not state:
        yield Finding("versions", PASS, "The bucket keeps no old versions.")
    return bool(state)


def old_versions(probe: Probe) -> Question[bool]:
    """Return whether the server may delete old versions. Asked only if the bucket keeps them."""
    may_list = probe.may("list_object_versions", Prefix=probe.new_key())
    may_delete = probe.may("delete_object", Key=probe.new_key(), VersionId="null")
    if not (may_list and may_delete):
        yield Finding(
            "versions.forbidden",
            FAIL,
            f"{KEEPS_VERSIONS}, and the server may not delete them. A file that a user deletes "
            "stays there.",
            "Grant the server s3:ListBucketVersions and s3:DeleteObjectVersion.",
        )
        return False
    yield Finding("versions", PASS, f"{KEEPS_VERSIONS}, and the server may delete them.")
    return True


def deletion(probe: Probe, may_write: bool) -> Question[bool]:
    """Return whether we may put an object there, because the server can delete it again.

    ``may_write`` is the same of the questions before: False skips the permission, and only Object
    Lock is looked at.
    """
    if may_write:
        # In a bucket with versions this deletion leaves a marker, which has to be deleted too.
        key = probe.new_key(remember=probe.traces.keeps_versions)
        may_write = probe.may("delete_object", Key=key)
        if may_write:
            yield Finding("delete", PASS, "The server may delete objects.")
        else:
            yield Finding(
                "delete.forbidden",
                FAIL,
                "The server may not delete objects. Whatever users delete or confirm rejects "
                "stays, and costs money.",
                f"Grant it s3:DeleteObject on {probe.needs.objects()}.",
            )
    try:
        lock = probe.bucket.ask("get_object_lock_configuration")["ObjectLockConfiguration"]
    except (Refusal, KeyError):
        lock = {}
    if lock.get("Rule"):
        yield Finding(
            "delete.locked",
            FAIL,
            "Object Lock keeps every object of this bucket for a time. An object that is rejected "
            "or deleted stays until then.",
            "Use a bucket without a default retention for uploads.",
        )
        return False
    return may_write


def abortion(probe: Probe, may_write: bool) -> Question[bool]:
    """Return whether we may begin a multipart upload, because the server can abort it again."""
    denied = [
        action
        for action, operation, more in (
            ("s3:AbortMultipartUpload", "abort_multipart_upload", {"UploadId": NO_UPLOAD}),
            ("s3:ListBucketMultipartUploads", "list_multipart_uploads", None),
        )
        if not probe.may(operation, **({"Key": probe.new_key(), **more} if more else {}))
    ]
    if denied:
        may_write = False
        yield no_multipart(denied)
    if not may_write:
        yield Finding(
            "writing.skipped",
            WARN,
            "Nothing was put into the bucket, because it could not be deleted again. So uploads "
            "themselves were not tried.",
            "Correct what the lines above report, and run this again.",
        )
    return may_write


def no_multipart(denied: Sequence[str]) -> Finding:
    """The finding that these actions, which multipart uploads need, are not permitted."""
    return Finding(
        "multipart.forbidden",
        FAIL,
        f"The server lacks permissions that multipart uploads need: {listed(denied)}.",
        f"Grant it {listed(denied)}.",
    )


def objects(probe: Probe) -> Question[bool]:
    """Return whether the server may put an object, HEAD it and read it."""
    key = probe.new_key(remember=True)
    version_id = ""
    for action, operation, more, ability in (
        ("s3:PutObject", "put_object", {"Body": BODY, "ContentType": CONTENT_TYPE}, "put"),
        ("s3:GetObject", "head_object", {}, "HEAD"),
        ("s3:GetObject", "get_object", {}, "read"),
    ):
        code = operation.removesuffix("_object")
        try:
            answer = probe.bucket.ask(operation, Key=key, **more)
        except Refusal as refusal:
            yield _forbidden(probe, code, ability, action, refusal)
            return False
        if operation == "head_object":
            version_id = answer.get("VersionId", "")
        if operation == "head_object" and answer.get("ContentType") != CONTENT_TYPE:
            yield Finding(
                "head.content_type",
                FAIL,
                f"{CONTENT_TYPE} was put, and S3 says {answer.get('ContentType')}. This server "
                "does not keep content types, so confirm would reject every upload.",
                "Use another server (docs/providers.md).",
            )
            continue
        yield Finding(code, PASS, f"The server may {ability} objects.")
    yield from _range(probe, key, version_id)
    return True


def _range(probe: Probe, key: str, version_id: str) -> Question[None]:
    """Whether the server may read a part of one version of an object, as confirm and scans do.

    Asked if a destination looks into files. In a bucket with versions, every download needs it too.
    """
    looked_into = any(each.sniff or each.image is not None or each.hold for each in probe.rules)
    if not version_id and not looked_into:
        return
    pinned = {"VersionId": version_id} if version_id else {}
    try:
        answer = probe.bucket.ask("get_object", Key=key, Range="bytes=1-2", **pinned)
    except Refusal as refusal:
        action = "s3:GetObjectVersion" if version_id else "s3:GetObject"
        what = "the version" if version_id else "a part"
        yield _forbidden(probe, "range", f"read {what} of", action, refusal)
        return
    answer["Body"].close()
    if "ContentRange" not in answer:
        yield Finding(
            "range.ignored",
            FAIL,
            "A part of an object was asked for, and the whole object was sent. So SNIFF, IMAGE and "
            "scans cannot read files.",
            "If a proxy stands before S3, let it pass the header Range on. Otherwise use another "
            "server.",
        )
        return
    yield Finding("range", PASS, "The server may read parts of objects.")


def _forbidden(probe: Probe, code: str, ability: str, action: str, refusal: Refusal) -> Finding:
    kms = " (and, with aws:kms, the use of the key)" * (
        refusal.status == 403 or refusal.code.startswith("KMS.")
    )
    return Finding(
        f"{code}.forbidden",
        FAIL,
        f"The server may not {ability} an object: S3 answered {refusal}.",
        f"Grant it {action} on {probe.needs.objects()}{kms}.",
    )
