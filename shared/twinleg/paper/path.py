"""The way the price takes inside one candle.

A rising candle (close >= open) goes open, low, high, close; a falling one open, high, low, close. The corners lie
at these parts of the interval, and the price runs straight between them:

    0        1/4            3/4            1 (less 1 ms)
    open     1st extreme    2nd extreme    close

Each of the three stretches is walked in two steps (or in as many as give the points asked for), or in as many as
keep a step under 0.2 % of the price, so a quiet candle has 7 points and a crash has more. Between two points the
venue stands still at the last one: every fill, trigger and liquidation happens at a point, so that advancing the
clock in one step or in many gives the same result. A candle's close is its last millisecond; its closing instant
belongs to the next candle's open.
"""

from __future__ import annotations

from decimal import Decimal

from twinleg.domain.candles import Candle, ms_from_utc

STEP_MAX = Decimal("0.002")
STRETCHES = 3
POINTS_MIN = 7
"""Of a quiet candle, the open and the close among them: two steps a stretch."""
STEPS_MAX = 200
GRAIN = Decimal("0.00000001")

Point = tuple[int, Decimal]
"""(epoch ms, price)."""


def corners(candle: Candle) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    """Open, the extreme visited first, the other extreme, close."""
    if candle.close >= candle.open:
        return candle.open, candle.low, candle.high, candle.close
    return candle.open, candle.high, candle.low, candle.close


def walk(candle: Candle, opened: int, interval_ms: int, points_min: int = POINTS_MIN) -> list[Point]:
    """Every point of the candle's path in order, the open first, the close last; *points_min* or a few more."""
    steps_min = -(-(points_min - 1) // STRETCHES)
    a, b, c, d = corners(candle)
    quarter, three, end = opened + interval_ms // 4, opened + interval_ms * 3 // 4, opened + interval_ms - 1
    points = [(opened, a)]
    for t0, p0, t1, p1 in ((opened, a, quarter, b), (quarter, b, three, c), (three, c, end, d)):
        _stretch(points, t0, p0, t1, p1, steps_min)
    return points


def _stretch(points: list[Point], t0: int, p0: Decimal, t1: int, p1: Decimal, steps_min: int) -> None:
    change = p1 - p0
    steps = max(steps_min, min(int(abs(change) / p0 / STEP_MAX) + 1, STEPS_MAX))
    if steps == 2:
        points.append((t0 + (t1 - t0) // 2, (p0 + p1) / 2))
    else:
        points.extend((t0 + (t1 - t0) * i // steps, (p0 + change * i / steps).quantize(GRAIN)) for i in range(1, steps))
    points.append((t1, p1))


def opened_ms(candle: Candle) -> int:
    """The candle's first instant in epoch milliseconds."""
    return ms_from_utc(candle.opened_at)
