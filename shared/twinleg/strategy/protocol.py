"""What a strategy is: a pure function of the last closed candles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twinleg.domain.candles import Candle
from twinleg.domain.signals import Signal


class Strategy(Protocol):
    """Decides from closed candles alone.

    ``decide`` looks only at the last ``lookback`` candles it is given, so that a longer history and a
    later future change nothing: ``decide(window) == decide(longer[-lookback:])``.
    """

    name: str
    lookback: int

    def decide(self, market: str, candles: Sequence[Candle]) -> Signal | None:
        """A signal at the close of the last candle, or None. Oldest first; fewer than lookback: None."""
