"""A finding: one line of the report."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

PASS, WARN, FAIL = "pass", "warn", "fail"


@dataclass(frozen=True)
class Finding:
    """One line of the report. ``code`` is stable: its first word names the question."""

    code: str
    level: str  # "pass", "warn" or "fail"
    detail: str
    cure: str = ""  # what to do; empty if there is nothing to do

    def as_json(self) -> dict[str, str]:
        """The finding as a dict of its four fields."""
        return asdict(self)


_T = TypeVar("_T")
# A question yields its findings. It returns what the next questions need to know.
Question = Generator[Finding, None, _T]


class Stop(Exception):
    """The diagnosis ends here: every later question would fail for the reason just reported."""


def listed(names: Sequence[str]) -> str:
    """The names as a sentence has them: "a, b and c". There must be at least one."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def setup_command(alias: str, origins: Sequence[str]) -> str:
    """The command that sets this storage's bucket up for the first of these origins."""
    origin = next(iter(origins), "https://app.example.com")
    storage = "" if alias == "default" else f"--storage {alias} "
    return f"manage.py setup_bucket {storage}--origin {origin}"
