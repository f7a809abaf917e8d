"""Does a browser let a page upload? It asks S3 first, by a preflight request (CORS)."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from s3direct_uploads import provisioning
from s3direct_uploads.provisioning import Rule
from s3direct_uploads.s3 import Refusal

from .findings import FAIL, PASS, WARN, Finding, Question, listed, setup_command
from .probe import LOOPBACK, Probe, bare

STRANGER = "https://stranger.invalid"  # no rule has a reason to name it


def cors(probe: Probe, clients: str, origins: Sequence[str], arrives: bool) -> Question[None]:
    """Whether pages at these origins may upload, and pages of strangers may not.

    ``clients`` is the URL that clients get. ``arrives``: a presigned PUT arrives. Without
    ``origins``, those that the bucket's CORS rules name are asked.
    """
    rules: list[Rule] | None
    try:
        rules = probe.bucket.cors_rules()
    except Refusal:
        rules = None  # we may not read them, or this server has none
    is_open = _lets_in(probe, STRANGER)
    if rules == [] and not is_open:
        yield Finding(
            "cors.none",
            FAIL,
            "The bucket has no CORS rule: browsers let no page upload to it.",
            f"Run {setup_command(probe.alias, origins)}.",
        )
        return
    asked = origins or _concrete_origins(rules or ())
    if not asked:
        yield Finding(
            "cors.unasked",
            WARN,
            "It is not known at which origins the pages are that upload.",
            "Name them: check_bucket --origin https://app.example.com",
        )
    for origin in asked:
        yield from cors_of(probe, origin, rules or [], clients, arrives)
    yield _strangers(rules or (), is_open)


def _strangers(rules: Sequence[Rule], is_open: bool) -> Finding:
    broad = {
        origin
        for rule in rules
        if "PUT" in rule.get("AllowedMethods", ())
        for origin in rule["AllowedOrigins"]
        if provisioning.lets_strangers_in(origin)
    }
    if is_open:
        return Finding(
            "cors.open",
            WARN,
            "A page of any web site may send to this bucket, if it has a presigned URL.",
            "Name your own origins instead of *; some servers cannot (docs/providers.md).",
        )
    if broad:
        return Finding(
            "cors.broad",
            WARN,
            "Pages of other people may send to this bucket, if they have a presigned URL: its CORS "
            f"rules name {listed(sorted(broad))}.",
            "Name your own origins instead.",
        )
    return Finding("cors_strangers", PASS, "Pages of other sites may not send to this bucket.")


def cors_of(
    probe: Probe, origin: str, rules: Sequence[Rule], clients: str, arrives: bool
) -> Question[None]:
    """Whether pages at this origin may upload, and may read an answer's ETag."""
    if (
        origin.startswith("https:")
        and clients.startswith("http:")
        and urlsplit(clients).hostname not in LOOPBACK
    ):
        yield Finding(
            "cors.mixed_content",
            FAIL,
            f"Pages at {origin} use https, and clients are sent to {clients}: browsers refuse "
            "such requests.",
            "Write an https address of S3 as public_endpoint_url in the storage's OPTIONS.",
        )
        return
    cure = f"Run {setup_command(probe.alias, [origin])}."
    if not _lets_in(probe, origin):
        yield _why_kept_out(probe, origin, rules, cure)
        return
    headers = probe.needs.headers
    if _misses(probe, origin, headers):
        # Some servers refuse all headers if one of them is not allowed.
        missing = [each for each in headers if _misses(probe, origin, [each])]
        yield Finding(
            "cors.headers",
            FAIL,
            f"Pages at {origin} may not send {listed(missing or headers)}, which uploads need: the "
            "CORS rule's AllowedHeaders lack it.",
            cure,
        )
        return
    yield Finding("cors", PASS, f"Pages at {origin} may upload.")
    yield _exposure(probe, origin, rules, arrives)


def _why_kept_out(probe: Probe, origin: str, rules: Sequence[Rule], cure: str) -> Finding:
    other = next((each for each in ("GET", "HEAD") if _lets_in(probe, origin, each)), None)
    if other:
        return Finding(
            "cors.method",
            FAIL,
            f"Pages at {origin} may send a {other} and no PUT: the CORS rule's AllowedMethods "
            "lack it.",
            cure,
        )
    named = sorted({each for rule in rules for each in rule["AllowedOrigins"]})
    near = _nearly(origin, named)
    but = f" The rules name {listed(named)}." if named else ""
    but += f" To a browser {near} is another origin." if near else ""
    return Finding(
        "cors.origin",
        FAIL,
        f"Pages at {origin} may not upload: no CORS rule allows this origin.{but}",
        cure,
    )


def _exposure(probe: Probe, origin: str, rules: Sequence[Rule], arrives: bool) -> Finding:
    rule = provisioning.matching_rule(rules, origin, "PUT", probe.needs.headers)
    if arrives:
        request = probe.sign(probe.new_key(remember=True))
        answer = probe.put(request, headers={"Origin": origin})
        is_exposed = bool({"etag", "*"} & answer.words("access-control-expose-headers"))
    else:
        is_exposed = rule is None or provisioning.exposes_etag(rule)
    if is_exposed:
        return Finding("cors_etag", PASS, f"Pages at {origin} may read an answer's ETag.")
    name = f"the rule {rule['ID']}" if rule and rule.get("ID") else "the CORS rule"
    return Finding(
        "cors.etag",
        WARN,
        f"Pages at {origin} cannot read an answer's ETag: {name} lacks it in ExposeHeaders. "
        "upload.js does not need it; other clients that send parts fail.",
        "Add ETag to its ExposeHeaders.",
    )


def _lets_in(probe: Probe, origin: str, method: str = "PUT") -> bool:
    """Whether S3 allows the origin. The preflight names no header, so none can be the reason."""
    return _preflight(probe, origin, (), method) is not None


def _misses(probe: Probe, origin: str, headers: Sequence[str]) -> bool:
    return _preflight(probe, origin, headers) != set()


def _preflight(
    probe: Probe, origin: str, headers: Sequence[str], method: str = "PUT"
) -> set[str] | None:
    """Send the preflight request that a browser sends before a PUT, to the same URL.

    The answer is those of the headers that S3 does not allow, or None if it allows no request.
    """
    asking = {"Origin": origin, "Access-Control-Request-Method": method}
    if headers:
        asking["Access-Control-Request-Headers"] = ",".join(sorted(headers))
    url = probe.sign(probe.new_key()).url
    answer = probe.send("OPTIONS", url if method == "PUT" else bare(url), headers=asking)
    if not answer.ok or answer.headers.get("access-control-allow-origin") not in (origin, "*"):
        return None
    methods = answer.words("access-control-allow-methods")
    if method == "PUT" and not {"put", "*"} & methods:
        return None
    allowed = answer.words("access-control-allow-headers")
    return set() if "*" in allowed else set(headers) - allowed


def _concrete_origins(rules: Sequence[Rule]) -> list[str]:
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
    """An origin that a person may take for the same: http for https, a slash, a port, www."""

    def gist(each: str) -> str:
        return (urlsplit(each.lower()).hostname or each.lower()).removeprefix("www.")

    return next((each for each in named if "*" not in each and gist(each) == gist(origin)), None)
