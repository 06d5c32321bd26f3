"""Indicators as plain functions of a series, oldest first. Floats: they suggest a side, never a price or a size.

Every result is as long as its input and NaN until the indicator has enough of it. Averages are seeded the way
TradingView and TA-Lib do it, stated with each function, because the seed is a choice and shows in the first values.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import NamedTuple


class MacdSeries(NamedTuple):
    """Three series of one length: fast EMA - slow EMA, its own EMA, and the difference of the two."""

    line: list[float]
    signal: list[float]
    histogram: list[float]


def ema(values: Sequence[float], length: int) -> list[float]:
    """Exponential moving average, weight 2 / (length + 1), seeded with the simple average of the first *length*."""
    if len(values) < length:
        return [nan] * len(values)
    mean = sum(values[:length]) / length
    weight = 2.0 / (length + 1)
    return [nan] * (length - 1) + [mean] + [mean := mean + weight * (value - mean) for value in values[length:]]


def macd(closes: Sequence[float], fast: int, slow: int, signal: int) -> MacdSeries:
    """Moving average convergence divergence. The signal line is seeded with the first *signal* values of the line.

    The line exists from the *slow*-th close on, signal and histogram from the (*slow* + *signal* - 1)-th.
    """
    line = [a - b for a, b in zip(ema(closes, fast), ema(closes, slow), strict=True)]
    smoothed = [nan] * min(slow - 1, len(line)) + ema(line[slow - 1 :], signal)
    return MacdSeries(line, smoothed, [a - b for a, b in zip(line, smoothed, strict=True)])


def atr(highs: Sequence[float], lows: Sequence[float], closes: Sequence[float], length: int) -> list[float]:
    """Average true range (Wilder's smoothing, weight 1 / length), in price units.

    The first bar has no close before it and no true range; it is left out. The seed is the simple average of the
    next *length* true ranges, so the first value stands at index *length*.
    """
    if len(closes) <= length:
        return [nan] * len(closes)
    ranges = [
        (high if high > before else before) - (low if low < before else before)
        for high, low, before in zip(highs[1:], lows[1:], closes[:-1], strict=True)
    ]
    mean = sum(ranges[:length]) / length
    weight = 1.0 / length
    return [nan] * length + [mean] + [mean := mean + weight * (value - mean) for value in ranges[length:]]


def settled_after(length: int, weight: float, relative: float = 1e-6) -> int:
    """Values after which an exponential average has forgotten its seed but for *relative* of the seed's error.

    Counts the seed's own *length* values too. EMA: weight 2 / (length + 1); Wilder: 1 / length.
    """
    remaining, count = 1.0, length
    while remaining > relative:
        remaining *= 1.0 - weight
        count += 1
    return count
