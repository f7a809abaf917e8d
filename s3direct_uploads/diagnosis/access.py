"""Who can read the objects? Public objects should be public, and all others should not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s3direct_uploads.destinations import Destination
from s3direct_uploads.provisioning import Needs
from s3direct_uploads.s3 import Refusal

from .findings import FAIL, PASS, WARN, Finding, Question
from .probe import Probe, bare


def acl(probe: Probe, arrives: bool, is_reachable: bool) -> Question[None]:
    """Whether objects are private, and whether each destination's ACL works.

    ``arrives``: a presigned PUT arrives. ``is_reachable``: clients reach S3.
    """
    blocked = _setting(probe, "get_public_access_block", "PublicAccessBlockConfiguration")
    owning = _setting(probe, "get_bucket_ownership_controls", "OwnershipControls").get("Rules", [])
    refuses_acls = any(each.get("ObjectOwnership") == "BucketOwnerEnforced" for each in owning)
    key = probe.traces.some_key()
    if key is not None and is_reachable:
        yield _private_objects(probe, key, blocked)
    for rule in probe.rules:
        if not rule.acl or rule.acl in ("private", "bucket-owner-full-control"):
            continue
        if refuses_acls:
            yield _disabled(probe, rule)
        elif blocked.get("BlockPublicAcls") or blocked.get("IgnorePublicAcls"):
            yield Finding(
                "acl.blocked",
                FAIL,
                f"{_where(rule)}, and Block Public Access cancels it.",
                "If the bucket is to be public, turn BlockPublicAcls and IgnorePublicAcls off.",
            )
        elif arrives:
            yield _acl_of(probe, rule)


def _setting(probe: Probe, operation: str, member: str) -> dict[str, Any]:
    """A part of the bucket's configuration; {} if there is none, or S3 does not show it to us.

    Then the PUTs show what it is.
    """
    try:
        found: dict[str, Any] = probe.bucket.ask(operation).get(member, {})
    except Refusal:
        return {}
    return found


def _private_objects(probe: Probe, key: str, blocked: Mapping[str, Any]) -> Finding:
    if probe.send("GET", bare(probe.sign(key).url)).ok:
        return Finding(
            "public.open",
            WARN,
            "Anybody who has an object's address may read it, without a signature.",
            "If you do not want this, turn Block Public Access on, and look at the bucket's "
            "policy and ACL.",
        )
    walled = " Block Public Access is on." * bool(blocked and all(blocked.values()))
    return Finding("public", PASS, f"Nobody can read an object without a signature.{walled}")


def _acl_of(probe: Probe, rule: Destination) -> Finding:
    """Whether a PUT with this destination's ACL arrives, and is readable if it should be."""
    request = probe.sign(probe.new_key(remember=True, rule=rule), rule=rule)
    answer = probe.put(request)
    if answer.s3_code == "AccessControlListNotSupported":
        return _disabled(probe, rule)
    if not answer.ok:
        return Finding(
            "acl.refused",
            FAIL,
            f"{_where(rule)}, and S3 refuses a PUT with it: {answer}.",
            "Grant the server s3:PutObjectAcl, and check whether the bucket allows ACLs.",
        )
    if rule.acl == "public-read" and not probe.send("GET", bare(request.url)).ok:
        return Finding(
            "acl.ineffective",
            FAIL,
            f"{_where(rule)}, and S3 keeps its objects private nevertheless.",
            policy_instead(probe.needs, rule),
        )
    return Finding("acl", PASS, f"{_where(rule)}, and S3 applies it.")


def _where(rule: Destination) -> str:
    return f"The destination {rule.name} has the ACL {rule.acl}"


def _disabled(probe: Probe, rule: Destination) -> Finding:
    return Finding(
        "acl.disabled",
        FAIL,
        f"{_where(rule)}, and the bucket refuses every ACL (BucketOwnerEnforced, as all new AWS "
        "buckets do).",
        policy_instead(probe.needs, rule),
    )


def policy_instead(needs: Needs, rule: Destination) -> str:
    """What to do if ACLs do not work: the bucket policy that makes the folder public."""
    allow_acls = "Or allow ACLs (Object Ownership: bucket owner preferred)."
    if not rule.common_prefix:  # the policy would make other destinations' objects public, too
        return (
            "Leave 'ACL' out, give the destination a PREFIX of its own and no get_prefix, and "
            f"run this again. Then a bucket policy can make that folder public. {allow_acls}"
        )
    return (
        "Leave 'ACL' out, and let a bucket policy make that folder public: Allow s3:GetObject "
        f"to Principal * on {needs.objects(rule.common_prefix)}. {allow_acls}"
    )
