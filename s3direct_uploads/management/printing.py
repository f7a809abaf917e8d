"""A command whose lines are seen as it prints them: a container's log is a pipe, of which Python
would hold 8 KiB back.
"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, OutputWrapper


class Flushed(OutputWrapper):
    def write(self, *args: Any, **kwargs: Any) -> None:
        super().write(*args, **kwargs)
        self.flush()


class PrintingCommand(BaseCommand):
    def execute(self, *args: Any, **options: Any) -> str | None:
        # Django ends the lines, by a wrapper around this one.
        out = options.get("stdout") or self.stdout._out
        return super().execute(*args, **{**options, "stdout": Flushed(out, ending="")})
