"""Do downloads work if the storage's own URLs lead to a CDN instead of S3?"""

from __future__ import annotations

from urllib.parse import urlsplit

from .findings import FAIL, PASS, Finding, Question
from .probe import URL_LIFE, Probe


def domain(probe: Probe) -> Question[None]:
    """Whether the storage's own URLs serve a file, and whether a browser saves or shows it."""
    key = probe.traces.some_key()
    if key is None:
        return
    stored = probe.bucket.object_parameters(key, None)
    for inline in (True, False):
        url = probe.bucket.presign_get(
            key,
            filename="check.jpg",
            inline=inline,
            version_id="",
            expires=URL_LIFE,
            stored=stored,
        ).url
        if "X-Amz-Signature" not in url:  # else it leads to S3 itself
            yield _served(probe, url, inline)


def _served(probe: Probe, url: str, inline: bool) -> Finding:
    host, answer = urlsplit(url).netloc, probe.send("GET", url)
    said = answer.headers.get("content-disposition", "")
    if not answer.ok:
        return Finding(
            "domain.refused",
            FAIL,
            f"Downloads are sent to {host}, which answers {answer}.",
            "Let the CDN read the bucket. If it verifies signatures, give it the key of "
            "cloudfront_key_id. If the URLs are unsigned, the bucket must be public.",
        )
    if not inline and not said.lower().startswith("attachment"):
        return Finding(
            "domain.disposition",
            FAIL,
            f"{host} does not pass response-content-disposition on to S3. So browsers show every "
            "file, and run the scripts of an uploaded page.",
            "Add that query parameter to the distribution's cache policy, and let it sign its "
            "requests to S3 (origin access control). Or write 'ContentDisposition': "
            "'attachment' in the storage's object_parameters.",
        )
    return Finding("domain", PASS, f"Files are {'shown' if inline else 'saved'} from {host}.")
