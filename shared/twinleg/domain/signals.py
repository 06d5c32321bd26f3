"""What a strategy thinks."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Direction(StrEnum):
    LONG = "long"
    SHORT = "short"

    @property
    def opposite(self) -> Direction:
        return Direction.SHORT if self is Direction.LONG else Direction.LONG

    @property
    def sign(self) -> int:
        """+1 for long, -1 for short."""
        return 1 if self is Direction.LONG else -1


class Signal(BaseModel):
    """A strategy's view of one market at one candle close or alert.

    ``confidence`` is 0-1 and only scales leverage; ``trigger`` is the exact candle or alert that
    caused the signal and, with strategy and market, its identity.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    strategy: str
    market: str
    direction: Direction
    confidence: Decimal = Field(ge=0, le=1)
    trigger: str
    at: datetime
    reason: str
