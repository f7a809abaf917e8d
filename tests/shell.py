"""The commands in the blocks of a shell that the documents show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator


def commands(code: str) -> Iterator[list[str]]:
    """The words of each command, without comments. A prompt and a schedule are no part of it."""
    command = ""
    for line in re.sub(r"\\\n\s*", " ", code).splitlines():
        command += re.sub(r"^(\$ |(?:[*/\d]+ ){5})", "", line)
        try:
            words = shlex.split(command, comments=True)
        except ValueError:  # a quotation that ends in another line
            command += "\n"
            continue
        command = ""
        if words:
            yield words
