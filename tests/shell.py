"""The commands in the blocks of a shell that the documents show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator


def commands(code: str) -> Iterator[list[str]]:
    """The words of each command, without comments. A prompt and a schedule are no part of it."""
    for line in re.sub(r"\\\n\s*", " ", code).splitlines():
        line = re.sub(r"^(\$ |(?:[*/\d]+ ){5})", "", line)
        words = shlex.split(line, comments=True)
        if words:
            yield words
