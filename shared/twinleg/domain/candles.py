"""Candles and snapshots: what the market did, and what it looks like now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict

from twinleg.domain.errors import BadInput

MINUTE = timedelta(minutes=1)


def utc_from_ms(ms: int) -> datetime:
    """A UTC time from epoch milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC) if ms % 1000 else datetime.fromtimestamp(ms // 1000, UTC)


def ms_from_utc(at: datetime) -> int:
    """Epoch milliseconds of a UTC time (rounded to the nearest millisecond)."""
    return round(at.timestamp() * 1000)


class Candle(NamedTuple):
    """One closed bar. ``opened_at`` is the bar's first instant; it is closed at ``closed_at``.

    Prices are in quote currency, ``volume`` in base currency.
    """

    opened_at: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    interval: timedelta = MINUTE

    @property
    def closed_at(self) -> datetime:
        return self.opened_at + self.interval

    def checked(self) -> Self:
        """Itself, or BadInput when the prices cannot be those of one bar."""
        prices = (self.open, self.high, self.low, self.close)
        if not all(p.is_finite() and p > 0 for p in prices):
            raise BadInput(f"candle {self.opened_at:%Y-%m-%dT%H:%M:%SZ}: prices must be above 0, were {prices}")
        if self.low > min(prices) or self.high < max(prices):
            raise BadInput(
                f"candle {self.opened_at:%Y-%m-%dT%H:%M:%SZ}: low {self.low} and high {self.high} "
                f"must enclose open {self.open} and close {self.close}"
            )
        if not self.volume.is_finite() or self.volume < 0:
            raise BadInput(f"candle {self.opened_at:%Y-%m-%dT%H:%M:%SZ}: volume must be >= 0, was {self.volume}")
        return self


class Snapshot(BaseModel):
    """What a venue says of a market at one time. Depths are base size within 0.5 % of mid."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    market: str
    at: datetime
    mark_price: Decimal
    oracle_price: Decimal
    mid_price: Decimal | None
    funding_rate_hourly: Decimal
    open_interest: Decimal
    bid_depth: Decimal
    ask_depth: Decimal
