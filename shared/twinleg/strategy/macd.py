"""MACD on closed candles: a crossing that held for a few bars and is strong for the market's recent range."""

# Annotations are objects here, not text: pydantic would compile each text at every cold start.

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from twinleg.domain.candles import Candle
from twinleg.domain.signals import Direction, Signal
from twinleg.strategy.indicators import atr, macd, settled_after


class MacdParameters(BaseModel):
    """Lengths are closed candles."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fast: int = Field(default=8, ge=1, le=500)
    slow: int = Field(default=21, ge=2, le=500)
    signal: int = Field(default=5, ge=1, le=500)
    confirm: int = Field(default=3, ge=1, le=60)
    """Closed candles for which the histogram must have kept its sign, the last one included."""
    k: float = Field(default=1.3, gt=0, le=100)
    """Histogram, in average true ranges, that counts as full strength (1). With the default ``strength_min`` a
    crossing has to reach 0.39 ranges: some 15 to 40 signals a day on one-minute BTC, ETH and SOL."""
    strength_min: float = Field(default=0.3, ge=0, le=1)
    atr: int = Field(default=14, ge=1, le=500)
    lookback: int | None = Field(default=None, ge=1, le=7_500)
    """Candles looked at. None: so many that how the averages were seeded changes no value by more than 1e-6 of
    the seed's own error; 14 + 187 for Wilder's 14. A market's candles are one document, which may be 1 MiB."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.fast >= self.slow:
            raise ValueError(f"fast {self.fast} must be shorter than slow {self.slow}")
        if self.lookback is not None and self.lookback < self.lookback_min:
            raise ValueError(f"lookback {self.lookback} must be at least {self.lookback_min} for these lengths")
        return self

    @property
    def lookback_min(self) -> int:
        """Candles without which the condition cannot be asked at all."""
        return max(self.slow + self.signal - 1, self.atr + 1) + self.confirm

    @property
    def lookback_settled(self) -> int:
        averages = (
            settled_after(self.slow, 2 / (self.slow + 1)) + self.signal,
            settled_after(self.atr, 1 / self.atr) + 1,
        )
        return max(*averages, self.lookback_min)


class Macd:
    """Long when the MACD histogram has been above zero for ``confirm`` closed candles, short when below.

    Strength = |histogram| / (k x ATR), at most 1; under ``strength_min`` nothing is said. It is the signal's
    confidence. A crossing acts once: at the first candle since the histogram changed sign at which all of it holds.

    Missing candles further back only thin the window out; a hole among the last ``confirm`` bars (or right before
    them) confirms nothing. A market that does not move (ATR 0) has no strength. With fewer than ``lookback``
    candles there is no signal.
    """

    name = "macd"

    def __init__(self, parameters: MacdParameters | None = None) -> None:
        self.parameters = parameters or MacdParameters()
        self.lookback = self.parameters.lookback or self.parameters.lookback_settled

    def decide(self, market: str, candles: Sequence[Candle]) -> Signal | None:
        """A signal at the close of the last candle, or None. Pure: of the last ``lookback`` candles alone."""
        if len(candles) < self.lookback:
            return None
        window = candles[-self.lookback :]
        p = self.parameters
        if not _unbroken(window[-p.confirm - 1 :]):
            return None
        closes = [float(candle.close) for candle in window]
        histogram = macd(closes, p.fast, p.slow, p.signal).histogram
        run = _same_sign_run(histogram)
        if run < p.confirm:
            return None
        ranges = atr([float(c.high) for c in window], [float(c.low) for c in window], closes, p.atr)
        strength = self._strength(histogram[-1], ranges[-1])
        if strength < p.strength_min or self._acted_before(window, histogram, ranges, run):
            return None
        return self._signal(market, window[-1], histogram[-1], ranges[-1], strength)

    def _strength(self, histogram: float, average_range: float) -> float:
        """NaN (too early) and a range of 0 give 0."""
        full = self.parameters.k * average_range
        return min(1.0, abs(histogram) / full) if full > 0 else 0.0

    def _acted_before(self, window: Sequence[Candle], histogram: list[float], ranges: list[float], run: int) -> bool:
        """Whether an earlier candle of the present same-sign run already met the condition."""
        p, last = self.parameters, len(window) - 1
        return any(
            self._strength(histogram[at], ranges[at]) >= p.strength_min and _unbroken(window[at - p.confirm : at + 1])
            for at in range(last - run + p.confirm, last)
        )

    def _signal(self, market: str, candle: Candle, histogram: float, average_range: float, strength: float) -> Signal:
        p = self.parameters
        above = histogram > 0
        return Signal(
            strategy=self.name,
            market=market,
            direction=Direction.LONG if above else Direction.SHORT,
            confidence=Decimal(f"{strength:.4f}"),
            trigger=f"{candle.closed_at:%Y-%m-%dT%H:%M:%SZ}",
            at=candle.closed_at,
            reason=(
                f"MACD {p.fast}/{p.slow}/{p.signal} histogram {histogram:+.6g} {'above' if above else 'below'} zero "
                f"for {p.confirm} closed candles or more, {abs(histogram) / average_range:.2f} of the average range "
                f"{average_range:.6g}: strength {strength:.2f}"
            ),
        )


def _unbroken(candles: Sequence[Candle]) -> bool:
    return all(after.opened_at == before.closed_at for before, after in pairwise(candles))


def _same_sign_run(histogram: list[float]) -> int:
    """How many of the last values have the last one's sign; 0 when that is zero or not a number."""
    above = histogram[-1] > 0
    if not above and not histogram[-1] < 0:
        return 0
    run = 0
    for value in reversed(histogram):
        if (value > 0) is not above or not value:
            break
        run += 1
    return run
