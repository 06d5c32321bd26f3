"""Candles as ``candleSnapshot`` answers them, built from what the market has already played."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from twinleg.domain.candles import Candle
from twinleg.paper.market import DAY_MS, HOUR_MS, Market
from twinleg.paper.numbers import ZERO, text

MINUTE_MS = 60_000
ROWS_MAX = 5_000
MONDAY_MS = 4 * DAY_MS
"""The first Monday after the epoch: weeks start on Mondays."""
TRADE_USD = Decimal(500)
"""The notional of one recorded trade, from which the plausible number of trades is told."""

_FIXED = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "1d": DAY_MS,
    "3d": 3 * DAY_MS,
}
INTERVALS = (*_FIXED, "1w", "1M")


def _fixed(length: int) -> Callable[[int], tuple[int, int]]:
    return lambda ms: (ms - ms % length, ms - ms % length + length)


def _week(ms: int) -> tuple[int, int]:
    start = ms - (ms - MONDAY_MS) % (7 * DAY_MS)
    return start, start + 7 * DAY_MS


def _month(ms: int) -> tuple[int, int]:
    at = datetime.fromtimestamp(ms // 1000, UTC)
    first = datetime(at.year, at.month, 1, tzinfo=UTC)
    after = datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)
    return round(first.timestamp()) * 1000, round(after.timestamp()) * 1000


@dataclass(slots=True)
class _Bar:
    start: int
    end: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal

    def add(self, candle: Candle) -> None:
        self.high = max(self.high, candle.high)
        self.low = min(self.low, candle.low)
        self.close = candle.close
        self.volume += candle.volume


class CandleRows:
    """The rows of one market and interval, grown as its candles close."""

    def __init__(self, market: Market, interval: str) -> None:
        self._market = market
        self._interval = interval
        self._bucket = _fixed(_FIXED[interval]) if interval in _FIXED else _week if interval == "1w" else _month
        self._finer = interval in _FIXED and _FIXED[interval] < market.interval_ms
        self._rows: list[dict[str, Any]] = []
        self._starts: list[int] = []
        self._bar: _Bar | None = None
        self._next = 0

    def between(self, start_ms: int, end_ms: int, now_ms: int) -> list[dict[str, Any]]:
        """Rows that overlap the span, oldest first; the last may still be forming."""
        if self._finer:
            return []
        self._catch_up(now_ms)
        first = bisect_left(self._starts, start_ms)
        if first and self._rows[first - 1]["T"] >= start_ms:
            first -= 1
        out = [row for row in self._rows[first:] if row["t"] <= end_ms]
        forming = self._forming(now_ms)
        if forming is not None and forming["t"] <= end_ms and forming["T"] >= start_ms:
            out.append(forming)
        return out[-ROWS_MAX:]

    def _catch_up(self, now_ms: int) -> None:
        market = self._market
        closed = market.closed_count(now_ms)
        for index in range(self._next, closed):
            self._take(market.candles[index], market.opened[index])
        self._next = closed
        if len(self._rows) > 2 * ROWS_MAX:
            del self._rows[:-ROWS_MAX], self._starts[:-ROWS_MAX]

    def _take(self, candle: Candle, opened: int) -> None:
        bar = self._bar
        if bar is not None and opened >= bar.end:
            self._push(bar)
            bar = None
        if bar is None:
            start, end = self._bucket(opened)
            self._bar = bar = _Bar(start, end, *candle[1:6])
        else:
            bar.add(candle)
        if opened + self._market.interval_ms >= bar.end:
            self._push(bar)
            self._bar = None

    def _push(self, bar: _Bar) -> None:
        self._rows.append(self._row(bar))
        self._starts.append(bar.start)

    def _forming(self, now_ms: int) -> dict[str, Any] | None:
        part = self._market.forming(now_ms)
        bar = self._bar
        if part is not None:
            opened = self._market.opened[self._next]
            start, end = self._bucket(opened)
            if bar is None or bar.start != start:
                bar = _Bar(start, end, *part[1:6])
            else:
                bar = _Bar(bar.start, bar.end, bar.open, bar.high, bar.low, bar.close, bar.volume)
                bar.add(part)
        return self._row(bar) if bar is not None else None

    def _row(self, bar: _Bar) -> dict[str, Any]:
        trades = int(bar.volume * bar.close / TRADE_USD) + 1 if bar.volume else 0
        return {
            "t": bar.start,
            "T": bar.end - 1,
            "s": self._market.coin,
            "i": self._interval,
            "o": text(bar.open),
            "c": text(bar.close),
            "h": text(bar.high),
            "l": text(bar.low),
            "v": text(bar.volume or ZERO),
            "n": trades,
        }
