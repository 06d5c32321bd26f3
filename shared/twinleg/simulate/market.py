"""Price paths to be simulated on: calm, trend, crash, or a file's."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from twinleg.domain.candles import MINUTE, Candle

KINDS = ("calm", "trend", "crash")


def candles(kind: str, draw: random.Random, start: datetime, count: int, price: float) -> list[Candle]:
    """One-minute candles of a kind. In a crash, one to three stretches of a few minutes fall (or rise) 3 to 20 %."""
    volatility = {"calm": 0.0003, "trend": 0.0006, "crash": 0.0008}[kind]
    drift = draw.choice((-1, 1)) * 0.0002 if kind == "trend" else 0.0
    shocks: dict[int, float] = {}
    if kind == "crash":
        for _ in range(draw.randint(1, 3)):
            begins, lasts = draw.randrange(40, max(41, count - 20)), draw.randint(1, 8)
            total = draw.choice((-1, -1, 1)) * draw.uniform(0.03, 0.20)
            for minute in range(begins, begins + lasts):
                shocks[minute] = total / lasts
    found: list[Candle] = []
    last = price
    for number in range(count):
        step = drift + draw.gauss(0, volatility) + shocks.get(number, 0.0)
        close = max(last * (1 + step), price * 0.05)
        wick = abs(draw.gauss(0, volatility)) + abs(shocks.get(number, 0.0)) * draw.uniform(0, 0.5)
        high, low = max(last, close) * (1 + wick), min(last, close) * (1 - wick)
        o, h, low_, c = (Decimal(f"{value:.1f}") for value in (last, high, low, close))
        found.append(Candle(start + number * MINUTE, o, h, low_, c, Decimal(10)))
        last = close
    return found


def start_of(seed: int) -> datetime:
    """A Monday, a different hour for each seed, so that days and funding hours are crossed."""
    return datetime(2025, 1, 6, tzinfo=UTC) + timedelta(hours=seed % 24)
