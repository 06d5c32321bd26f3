"""The count of what a system does to the outside world. Alone in a file: every adapter has it, the smallest one too."""

from __future__ import annotations

from collections.abc import Callable


class Steps:
    """Counts the I/O steps of all ports of one system, so that a test can stop the world at any of them."""

    def __init__(self, on_step: Callable[[int, str], None] | None = None) -> None:
        self.count = 0
        self._on_step = on_step

    def step(self, name: str) -> None:
        """Called by an adapter immediately before and immediately after an outside effect."""
        self.count += 1
        if self._on_step:
            self._on_step(self.count, name)
