"""A command that flushes each line. A container's log is a pipe, and Python buffers 8 KiB of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def progress_bar(
    what: str, unit: str, total: Callable[[], int]
) -> Iterator[Callable[[int], object]]:
    """Show a progress bar if stderr is a terminal and tqdm is installed.

    Yields a function that advances the bar by a number of units. ``total`` is asked only then.
    """
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda units: None
        return
    # disable=None: no bar without a terminal. It writes to sys.stderr, because self.stderr would
    # end each update with a line break.
    with tqdm(desc=what, unit=f" {unit}", leave=False, disable=None) as bar:
        if not bar.disable:
            bar.reset(total=total())
        yield bar.update
