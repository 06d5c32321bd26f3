"""Where the venue's time comes from: told by a caller (manual), or the wall's, at a speed."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from twinleg.domain.candles import ms_from_utc
from twinleg.paper.options import VenueOptions


def wall_ms() -> int:
    """Epoch milliseconds of this machine. The venue is a process of its own: this is its only clock reading."""
    return time.time_ns() // 1_000_000


class WallClock:
    """Venue time that stood at ``origin_ms`` when the wall's was ``wall_ms``, and runs ``speed`` times as fast."""

    def __init__(self, origin_ms: int, speed: Decimal, wall_ms: int | None = None) -> None:
        self.origin_ms = origin_ms
        self.wall_ms = origin_ms if wall_ms is None else wall_ms
        self.speed = speed

    def at(self, wall_now_ms: int) -> int:
        """Venue time at this wall time."""
        return self.origin_ms + int((wall_now_ms - self.wall_ms) * self.speed)


def restamped(options: VenueOptions, history: int, now_ms: int) -> VenueOptions:
    """The options with every candle moved so that ``history`` of the first series lie before ``now_ms``.

    All series move by the same whole number of intervals, so that they stay aligned with each other and with the
    clock's minutes, hours or days.
    """
    longest = max((series[0].interval for series in options.candles.values()), default=timedelta(minutes=1))
    step = round(longest.total_seconds() * 1000)
    first = next(iter(options.candles.values()))
    shift = (now_ms - ms_from_utc(first[history].opened_at)) // step * step
    moved = timedelta(milliseconds=shift)
    candles = {
        coin: [c._replace(opened_at=c.opened_at + moved) for c in series] for coin, series in options.candles.items()
    }
    rates = {coin: [(at + shift, rate) for at, rate in rows] for coin, rows in options.funding_rates.items()}
    return replace(options, candles=candles, funding_rates=rates, start_ms=now_ms)
