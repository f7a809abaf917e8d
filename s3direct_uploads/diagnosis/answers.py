"""An answer to a plain HTTP request, and how to read it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What a client receives. Status 0 means that no answer came; ``text`` then says why."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    text: str  # at most the first 4 KiB of the body

    @property
    def ok(self) -> bool:
        """Whether the request succeeded: 200 to 299."""
        return 200 <= self.status < 300

    @property
    def s3_code(self) -> str:
        """S3's error code, such as "AccessDenied"; "" if the body has none."""
        return self._element("Code")

    @property
    def s3_region(self) -> str:
        """The region in S3's error; "" if the body has none."""
        return self._element("Region")

    def _element(self, name: str) -> str:
        found = re.search(rf"<{name}>([^<]+)", self.text)
        return found[1] if found else ""

    @property
    def is_s3(self) -> bool:
        """Whether the answer looks like S3's: an XML document, or headers that only S3 sends."""
        theirs = ("x-amz-", "x-goog-", "x-guploader-", "x-minio-", "x-amzn-")
        return self.text.lstrip().startswith("<?xml") or any(
            name.startswith(theirs) for name in self.headers
        )

    def words(self, header: str) -> set[str]:
        """The values of a header that lists several, in lower case."""
        return {each.strip().lower() for each in self.headers.get(header, "").split(",")}

    def __str__(self) -> str:
        return f"{self.status} {self.s3_code}".strip() if self.status else f"nothing ({self.text})"


def reason(error: BaseException) -> str:
    """Why a connection failed. The error's own text may quote the URL, which holds a signature."""
    text = str(error)
    for sign, known in (
        ("Name or service not known", "no such host"),
        ("Temporary failure in name", "no such host"),
        ("NameResolutionError", "no such host"),
        ("refused", "connection refused"),
        ("CERTIFICATE", "its certificate is not trusted"),
        ("timed out", "no answer in time"),
    ):
        if sign in text:
            return known
    return type(error).__name__
