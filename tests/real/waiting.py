"""Waits for what another process, a thread or a page does."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], object],
    *,
    seconds: float = 60,
    state: Callable[[], object] = lambda: "It took too long.",
    pause: Callable[[], object] = lambda: time.sleep(0.05),
) -> None:
    """Raises AssertionError with the ``state`` if the condition is false for so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, state()
        pause()
