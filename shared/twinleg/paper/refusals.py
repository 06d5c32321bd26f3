"""The refusal of a whole action."""

from __future__ import annotations


class Refused(Exception):
    """The whole action is refused: ``{"status": "err", "response": text}``."""
