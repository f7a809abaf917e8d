"""A command that flushes each line. A container's log is a pipe, and Python buffers 8 KiB of it."""

from __future__ import annotations

from typing import Any, TextIO

from django.core.management.base import BaseCommand


class Flushed:
    """A stream that is flushed after each write."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __getattr__(self, name: str) -> Any:
        return getattr(self._out, name)

    def write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


class PrintingCommand(BaseCommand):
    def execute(self, *args: Any, **options: Any) -> str | None:
        out: Any = options.get("stdout") or self.stdout._out
        return super().execute(*args, **{**options, "stdout": Flushed(out)})
