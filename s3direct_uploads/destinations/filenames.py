"""Characters in a filename that nobody can see."""

from __future__ import annotations

import re
import unicodedata

MAX_FILENAME_LENGTH = 255  # characters: the most that common file systems accept

# Invisible characters that set the direction of text, in Hebrew and Arabic names. They can also
# reverse text: "photo\u202egpj.exe" is shown as "photoexe.jpg".
DIRECTION_MARKS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# Characters of no width. Inside a name they have a meaning, in Persian words and in emoji.
JOINERS = "\u200b\u200c\u200d\u2060\ufeff"


def strip_invisible(filename: str) -> str:
    """The filename as a person sees it.

    Without direction marks, without characters of no width at its ends, and with each letter in one
    character (NFC): macOS writes "ü" in two, and a Korean syllable in three.
    """
    return unicodedata.normalize("NFC", DIRECTION_MARKS.sub("", filename).strip(JOINERS))
