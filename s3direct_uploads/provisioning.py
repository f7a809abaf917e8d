"""What a bucket needs for direct uploads: CORS rule, lifecycle rule, permissions.

These functions only compute data. They send no request, and keep the rules that others wrote.
"""

from __future__ import annotations

import difflib
import json
import posixpath
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from . import conf, destinations, keys
from .s3 import CHECKSUMS, get_bucket, is_access_point, is_access_point_alias

Rule = dict[str, Any]
RULE_ID = "s3direct-uploads"  # by this id we find our own rules
METHODS = ["GET", "HEAD", "PUT"]  # the first two are for pages that fetch uploaded files
EXPOSED = ["ETag"]
MAX_AGE = 3600  # seconds; Chromium uses two hours at most
# With a shorter age, signatures fail at random because of clocks and network delays (AWS's docs).
MIN_SIGNATURE_AGE = timedelta(minutes=2)
BLOCK_PUBLIC_ACCESS = {
    "BlockPublicAcls": True,
    "BlockPublicPolicy": True,
    "IgnorePublicAcls": True,
    "RestrictPublicBuckets": True,
}
OBJECT_ACTIONS = [
    "s3:PutObject",
    "s3:GetObject",
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
]
VERSION_ACTIONS = ["s3:GetObjectVersion", "s3:DeleteObjectVersion"]
BUCKET_ACTIONS = ["s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:ListBucketVersions"]
ORIGIN = re.compile(r"https?://(\[[0-9a-f:.*]+\]|[a-z0-9._*-]+)(?::([0-9*]{1,5}))?")
ADDRESS = re.compile(r"^\[|\.(\d+|0x[0-9a-f]*)\.?$")  # what a browser takes for an IP address


@dataclass(frozen=True)
class Needs:
    """What the destinations of one storage need of its bucket."""

    bucket: str  # or the ARN or alias of an access point
    folder: str  # the folder of all keys: "site/", or "" for the whole bucket
    headers: tuple[str, ...]  # in lower case: all headers that a PUT from a browser may need
    acls: tuple[str, ...]
    abort_days: int  # after so many days no upload in parts can be completed any more
    partition: str = "aws"

    @property
    def is_access_point(self) -> bool:
        """Whether the "bucket" is an access point."""
        return is_access_point(self.bucket)

    @property
    def arn(self) -> str:
        """The ARN of the bucket or access point for a policy."""
        if is_access_point_alias(self.bucket):
            return f"<the ARN of {self.bucket}>"  # it cannot be computed from the alias
        if self.bucket.startswith("arn:"):
            return self.bucket.replace(":accesspoint:", ":accesspoint/")
        return f"arn:{self.partition}:s3:::{self.bucket}"

    def objects(self, prefix: str = "") -> str:
        """The ARN of all objects in our folder, or in a folder inside it, for a policy."""
        where = f"{self.arn}/object" if self.is_access_point else self.arn
        return f"{where}/{self.folder}{prefix}*"


def aliases(destination: str | None = None, storage: str | None = None) -> list[str]:
    """The aliases of the storages: of all destinations, of one destination, or only this alias.

    Raises ValidationError for an unknown destination, and ImproperlyConfigured.
    """
    if storage is not None:
        return [storage]
    names = conf.destinations() if destination is None else [destination]
    return sorted({destinations.get(name).storage for name in names})


def needs_of(alias: str) -> Needs:
    """What the destinations of this storage need. Raises StorageNotS3, ImproperlyConfigured."""
    bucket = get_bucket(alias)
    rules = [
        each for name in conf.destinations() if (each := destinations.get(name)).storage == alias
    ]
    days = -(-conf.multipart_expires() // timedelta(days=1)) + 1
    folder = keys.join(bucket.location, "")
    acls = tuple(sorted({each.acl for each in rules if each.acl}))
    if bucket.takes_parts_only:  # a part needs only these headers; the rest is in its URL
        shared = tuple(sorted(_names(bucket.headers_of({}))))
        return Needs(bucket.name, folder, shared, acls, days, bucket.partition)
    headers = {"content-type", "if-none-match"}
    for each in rules:
        key = keys.join(bucket.location, each.default_prefix + "x")
        headers |= _names(bucket.headers_of(bucket.object_parameters(key, each.acl)))
    for algorithm in CHECKSUMS:
        declared = {"ChecksumAlgorithm": algorithm, f"Checksum{algorithm}": "-"}
        headers |= _names(bucket.headers_of(declared))
    return Needs(bucket.name, folder, tuple(sorted(headers)), acls, days, bucket.partition)


def by_bucket(every: Sequence[Needs]) -> list[Needs]:
    """Join the needs of storages that share a bucket. The folder is the innermost common one."""
    united: dict[str, Needs] = {}
    for needs in every:
        other = united.get(needs.bucket, needs)
        common = posixpath.commonpath([needs.folder, other.folder])
        united[needs.bucket] = Needs(
            needs.bucket,
            keys.join(common, ""),
            tuple(sorted({*needs.headers, *other.headers})),
            tuple(sorted({*needs.acls, *other.acls})),
            max(needs.abort_days, other.abort_days),
            needs.partition,
        )
    return list(united.values())


def _names(headers: Mapping[str, str]) -> set[str]:
    return {name.lower() for name in headers}


# CORS.


def wrong_origin(origin: str, *, any_origin: bool = False) -> str | None:
    """Why no browser sends this origin, or why it is dangerous to allow it; None if it is right."""
    wrong = None if origin == "*" else _malformed(origin)
    if wrong is None and not any_origin and lets_strangers_in(origin):
        return (
            f"{origin} would allow pages of other people. If you want this, add --allow-any-origin"
        )
    return wrong


def _malformed(origin: str) -> str | None:
    scheme, slashes, rest = origin.partition("://")
    if not slashes or not rest:
        return f"{origin} has no scheme: write https://{origin.split('//')[-1].strip('/')}"
    if scheme.lower() not in ("http", "https"):
        return f"{origin}: the scheme of an origin is http or https"
    found = ORIGIN.fullmatch(origin)
    host, port = found.groups("") if found else ("", "")
    if not host or ".." in host or host == "." or (port.isdigit() and int(port) > 65535):
        authority = re.split(r"[/?#\\]", rest)[0].rpartition("@")[2].strip().lower()
        try:
            better = f"{scheme.lower()}://{authority.encode('idna').decode()}"
        except UnicodeError:
            better = ""
        advice = f": write {better}" if better != origin and ORIGIN.fullmatch(better) else ""
        return f"{origin} is no origin{advice}"
    default = {"http": "80", "https": "443"}[scheme]
    if port == default:
        return f"{origin}: browsers leave the :{default} out, so do the same"
    if origin.count("*") > 1:
        return f"{origin}: S3 allows one * at most"
    return None


def lets_strangers_in(origin: str) -> bool:
    """Whether the star in this origin also matches hosts of other people.

    S3's star matches any characters, also dots: https://app.* matches https://app.evil.example.
    """
    host = re.sub(r":[0-9*]*$", "", origin.rpartition("//")[2])
    if "*" not in host:
        return False
    # Only whole labels after the star count. "*example.com" also matches "evilexample.com".
    domain = host.rpartition("*")[2].partition(".")[2].rstrip(".")
    # An IP address has no subdomains. Nobody else can have a subdomain of "localhost".
    return domain != "localhost" and (
        not domain or ADDRESS.search(host) is not None or _is_shared(domain)
    )


def _is_shared(domain: str) -> bool:
    """Whether other people can have names in this domain, as in "co.uk" or "github.io"."""
    # Imported here, because it reads a list of 300 KB, and only an origin with a star needs it.
    from publicsuffixlist import PSLFILE, PublicSuffixList

    if PublicSuffixList().privatesuffix(domain) is None:
        return True
    with open(PSLFILE, encoding="utf-8") as lines:  # the list has s3.amazonaws.com and similar
        return any(line.rstrip().endswith(f".{domain}") for line in lines if line[:2] != "//")


def cors_rule(needs: Needs, origins: Sequence[str]) -> Rule:
    """The CORS rule that lets pages at these origins upload."""
    rule = {
        "ID": RULE_ID,
        "AllowedOrigins": sorted(set(origins)),
        "AllowedMethods": METHODS,
        "AllowedHeaders": list(needs.headers),
        "ExposeHeaders": EXPOSED,
        "MaxAgeSeconds": MAX_AGE,
    }
    return {part: value for part, value in rule.items() if value}


def matching_rule(
    rules: Sequence[Rule], origin: str, method: str, headers: Collection[str] = ()
) -> Rule | None:
    """The rule that S3 uses: the first that names the origin, if it allows method and headers too.

    If it does not, AWS also looks at later rules, and Ceph does not.
    """
    rule = next((each for each in rules if _names_origin(each, origin)), {})
    if method in rule.get("AllowedMethods", ()) and all(
        any(_fits(each.lower(), name) for each in rule.get("AllowedHeaders", ()))
        for name in headers
    ):
        return rule
    return None


def exposes_etag(rule: Rule) -> bool:
    """Whether a page may read the ETag of an answer."""
    return any(name.lower() in ("etag", "*") for name in rule.get("ExposeHeaders", ()))


def merge_cors(there: list[Rule], rule: Rule) -> list[Rule]:
    """Add our rule to the bucket's rules, or extend it.

    It stands before the first rule that S3 would use instead. If nothing is missing, ``there`` is
    returned unchanged.
    """
    if all(_suffices(there, rule, origin) for origin in rule["AllowedOrigins"]):
        return there
    mine = next((each for each in there if each.get("ID") == RULE_ID), {})
    others = [each for each in there if each is not mine]
    ours = _united(
        rule, mine, "AllowedOrigins", "AllowedMethods", "AllowedHeaders", "ExposeHeaders"
    )
    origins = ours["AllowedOrigins"]
    after = [each for each in others if any(_names_origin(each, origin) for origin in origins)]
    for each in after:
        # S3 now uses our rule instead of this one. So ours must also allow what this one allows.
        if all(_names_origin(each, origin) for origin in origins):
            ours = _united(ours, each, "AllowedMethods", "ExposeHeaders")
    at = others.index(after[0]) if after else len(others)
    return [*others[:at], ours, *others[at:]]


def _united(rule: Rule, other: Rule, *parts: str) -> Rule:
    both = {part: sorted({*rule.get(part, ()), *other.get(part, ())}) for part in parts}
    return {**rule, **{part: value for part, value in both.items() if value}}


def _names_origin(rule: Rule, origin: str) -> bool:
    return any(_fits(each, origin) for each in rule.get("AllowedOrigins", ()))


def _suffices(there: Sequence[Rule], rule: Rule, origin: str) -> bool:
    put = matching_rule(there, origin, "PUT", rule.get("AllowedHeaders", ()))
    return (
        put is not None
        and exposes_etag(put)
        and all(matching_rule(there, origin, method) for method in rule["AllowedMethods"])
    )


def _fits(pattern: str, value: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), value) is not None


# Lifecycle.


def lifecycle_rule(needs: Needs) -> Rule:
    """The rule that deletes the parts of uploads that nobody completes."""
    return {
        "ID": f"{RULE_ID} {needs.folder}".strip(),
        "Status": "Enabled",
        "Filter": {"Prefix": needs.folder},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": needs.abort_days},
    }


def aborting_rules(there: Sequence[Rule], needs: Needs) -> Iterator[Rule]:
    """The rules that delete unfinished multipart uploads in our folder."""
    for rule in there:
        prefix = _prefix_of(rule)
        if (
            rule.get("Status") == "Enabled"
            and "AbortIncompleteMultipartUpload" in rule
            and prefix is not None
            and needs.folder.startswith(prefix)
        ):
            yield rule


def abort_days(rule: Rule) -> int:
    """After how many days this rule deletes unfinished multipart uploads."""
    days: int = rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
    return days


def merge_lifecycle(there: list[Rule], needs: Needs) -> list[Rule]:
    """Add our rule to the bucket's rules, unless somebody else's rule already does its work."""
    rule = lifecycle_rule(needs)
    if any(each.get("ID") != rule["ID"] for each in aborting_rules(there, needs)):
        return there
    if "Prefix" in {part for each in there for part in each}:
        # Some rule has the old form. AWS wants the same form for all rules.
        rule = {"Prefix": rule.pop("Filter")["Prefix"], **rule}
    mine = next((each for each in there if each.get("ID") == rule["ID"]), None)
    if mine is None:
        return [*there, rule]
    if list(aborting_rules([mine], needs)) and abort_days(mine) == needs.abort_days:
        return there
    return [rule if each is mine else each for each in there]


def _prefix_of(rule: Rule) -> str | None:
    """The folder of a rule; None if the rule is only for some objects in it (by tags or sizes)."""
    if "Prefix" in rule:
        prefix: str = rule["Prefix"]
        return prefix
    found = rule.get("Filter", {})
    return found.get("Prefix", "") if set(found) <= {"Prefix"} else None


# Permissions.


def iam_policy(needs: Needs) -> Rule:
    """The smallest policy that the server needs."""
    acl = ["s3:PutObjectAcl"] if needs.acls else []
    return {
        "Version": "2012-10-17",
        "Statement": [
            _allow("Objects", [*OBJECT_ACTIONS, *acl], needs.objects()),
            _allow("ObjectsWhereTheBucketHasVersions", VERSION_ACTIONS, needs.objects()),
            # Not restricted to a prefix: a HEAD has none, and would answer 403 for a missing key.
            _allow("Bucket", BUCKET_ACTIONS, needs.arn),
        ],
    }


def _allow(sid: str, actions: Sequence[str], resource: str) -> Rule:
    return {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": resource}


def signature_age_policy(needs: Needs, age: timedelta) -> Rule:
    """A policy by which a bucket or access point refuses all signatures older than ``age``."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "NoOldSignatures",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [needs.arn, needs.objects()],
                "Condition": {
                    "NumericGreaterThan": {"s3:signatureAge": int(age.total_seconds() * 1000)}
                },
            }
        ],
    }


def wrong_signature_age(age: timedelta) -> str | None:
    """Why this maximum age of signatures is wrong; None if it is right."""
    if age < MIN_SIGNATURE_AGE:
        return "Signatures that are valid for less than 120 seconds fail at random."
    if age < conf.url_expires():
        return (
            f"URL_EXPIRES is {conf.url_expires().total_seconds():.0f} seconds, so URLs would "
            "expire earlier than they say. Lower URL_EXPIRES, or write more seconds."
        )
    return None


# Everything together.


def as_json(
    needs: Needs, origins: Sequence[str], *, age: timedelta | None, block: bool
) -> dict[str, Any]:
    """Each part in the form for ``aws s3api put-bucket-cors`` and similar commands.

    For an access point, only the policies are its own. The rules are for the bucket behind it.
    """
    policy = "access_point_policy" if needs.is_access_point else "bucket_policy"
    return {
        "bucket": needs.bucket,
        "cors": {"CORSRules": [cors_rule(needs, origins)]},
        "lifecycle": {"Rules": [lifecycle_rule(needs)]},
        "iam_policy": iam_policy(needs),
        **({policy: signature_age_policy(needs, age)} if age else {}),
        **({"public_access_block": BLOCK_PUBLIC_ACCESS} if block else {}),
    }


def as_cloudformation(
    every: Sequence[Needs], origins: Sequence[str], *, age: timedelta | None, block: bool
) -> dict[str, Any]:
    """A template with the buckets, and the policy for the server's role or user.

    For an access point it has only that policy. The template that creates the access point must
    have the rest.
    """
    resources: dict[str, Any] = {}
    for number, needs in enumerate(every, start=1):
        suffix = "" if len(every) == 1 else str(number)
        resources[f"UploadsServerPolicy{suffix}"] = {
            "Type": "AWS::IAM::ManagedPolicy",
            "Properties": {"PolicyDocument": iam_policy(needs)},
        }
        if needs.is_access_point:
            continue
        # The uploads stay when the stack is deleted.
        resources[f"UploadsBucket{suffix}"] = {
            "Type": "AWS::S3::Bucket",
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
            "Properties": _bucket_properties(needs, origins, block=block),
        }
        if age:
            resources[f"UploadsBucketPolicy{suffix}"] = {
                "Type": "AWS::S3::BucketPolicy",
                "Properties": {
                    "Bucket": {"Ref": f"UploadsBucket{suffix}"},
                    "PolicyDocument": signature_age_policy(needs, age),
                },
            }
    return {"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}


def _bucket_properties(needs: Needs, origins: Sequence[str], *, block: bool) -> dict[str, Any]:
    rule, lifecycle = cors_rule(needs, origins), lifecycle_rule(needs)
    properties: dict[str, Any] = {
        "BucketName": needs.bucket,
        "CorsConfiguration": {"CorsRules": [_renamed(rule)]},
        "LifecycleConfiguration": {
            "Rules": [
                {
                    "Id": lifecycle["ID"],
                    "Status": "Enabled",
                    "Prefix": needs.folder,
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": needs.abort_days},
                }
            ]
        },
    }
    if block:
        properties["PublicAccessBlockConfiguration"] = BLOCK_PUBLIC_ACCESS
    elif needs.acls:
        # Without this, a new bucket refuses every ACL.
        properties["OwnershipControls"] = {"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]}
        properties["PublicAccessBlockConfiguration"] = {
            **BLOCK_PUBLIC_ACCESS,
            "BlockPublicAcls": False,
            "IgnorePublicAcls": False,
        }
    return properties


def _renamed(rule: Rule) -> Rule:
    names = {"ID": "Id", "ExposeHeaders": "ExposedHeaders", "MaxAgeSeconds": "MaxAge"}
    return {names.get(part, part): value for part, value in rule.items()}


def diff(what: str, before: Sequence[Rule], after: Sequence[Rule]) -> Iterator[str]:
    """The lines of ``diff -u``; none if nothing changes."""
    old, new = (
        json.dumps(each, indent=2, sort_keys=True, default=str).splitlines()
        for each in (before, after)
    )
    yield from difflib.unified_diff(
        old, new, f"{what} as it is", f"{what} as it will be", lineterm=""
    )
