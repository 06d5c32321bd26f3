"""Crash days: stretches of candles around a fall, cut from a file or made from a seed."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

from twinleg.adapters.local.candle_files import read_candles
from twinleg.domain.candles import MINUTE, Candle
from twinleg.domain.errors import BadInput
from twinleg.paper.listings import listings
from twinleg.paper.path import corners

HISTORY = 60
"""Candles before the first minute that is traded: what the gate's range and the venue's past are read from."""
FALL_WITHIN = timedelta(hours=1)
BEFORE_SHARE = Decimal("0.4")
"""Of the window: how much of it lies before the fall's low."""
APART = timedelta(hours=12)
"""Two windows of one file are at least so far apart."""
GRAIN = Decimal("0.000001")
INTERVAL_MAX = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class CrashDay:
    """One-minute candles around a fall: first `HISTORY` of them, then those that are traded."""

    name: str
    coin: str
    source: str
    synthetic: bool
    candles: Sequence[Candle]
    low_at: datetime
    """When the candle opened in which the fall of at most an hour was deepest."""
    fall_percent: Decimal

    @property
    def start(self) -> datetime:
        return self.candles[HISTORY].opened_at

    @property
    def minutes(self) -> int:
        return len(self.candles) - HISTORY


def coin_of_file(path: Path) -> str:
    """The listed coin whose name is a word of the file's name; BTC when there is none."""
    words = path.name.lower().replace("-", "_").replace(".", "_").split("_")
    words += [word.removesuffix("usdt").removesuffix("usd") for word in words]
    return next((coin for coin in listings() if coin.lower() in words), "BTC")


def days_of_file(
    path: Path, coin: str, minutes: int, count: int, start: datetime | None = None, end: datetime | None = None
) -> list[CrashDay]:
    """The *count* deepest falls of a file, each in a window of *minutes*; with *start* and *end* that window alone."""
    candles = read_candles(path)
    if candles[0].interval > INTERVAL_MAX or candles[0].interval % MINUTE:
        raise BadInput(f"{path.name}: candles must last whole minutes, at most an hour, last {candles[0].interval}")
    if start is not None and end is not None:
        return [_cut(path, coin, candles, start, round((end - start) / MINUTE))]
    return [
        _cut(path, coin, candles, at - minutes * BEFORE_SHARE_MINUTES, minutes)
        for at in _deepest(candles, count, start, end)
    ]


BEFORE_SHARE_MINUTES = timedelta(seconds=float(BEFORE_SHARE) * 60)


def _cut(path: Path, coin: str, candles: Sequence[Candle], start: datetime, minutes: int) -> CrashDay:
    step = candles[0].interval
    first = max(start, candles[0].opened_at + HISTORY * MINUTE)
    first = first.replace(minute=first.minute - first.minute % max(1, step // MINUTE), second=0, microsecond=0)
    wanted = (first - HISTORY * MINUTE, first + minutes * MINUTE)
    kept = minute_candles([c for c in candles if wanted[0] - step < c.opened_at < wanted[1]])
    kept = [c for c in kept if wanted[0] <= c.opened_at < wanted[1]]
    if len(kept) < HISTORY + 30 or kept[0].opened_at != wanted[0]:
        raise BadInput(f"{path.name}: no {HISTORY} minutes before and 30 after {first:%Y-%m-%dT%H:%M} without a hole")
    low_at, fall = deepest_fall(kept[HISTORY:])
    source = path.name if step == MINUTE else f"{path.name}, each bar of {step // MINUTE} min split along its path"
    return CrashDay(f"{coin} {low_at:%Y-%m-%d}", coin, source, False, tuple(kept), low_at, fall)


def _deepest(candles: Sequence[Candle], count: int, start: datetime | None, end: datetime | None) -> list[datetime]:
    falls = sorted(_falls(candles), key=lambda fall: fall[1])
    found: list[datetime] = []
    for at, _ in falls:
        outside = (start is not None and at < start) or (end is not None and at >= end)
        if not outside and all(abs(at - other) >= APART for other in found):
            found.append(at)
        if len(found) == count:
            break
    return found


def _falls(candles: Sequence[Candle]) -> list[tuple[datetime, Decimal]]:
    """(open time, low against the highest high of the hour before and itself) of every candle."""
    highest: deque[Candle] = deque()
    found = []
    for candle in candles:
        while highest and highest[0].opened_at <= candle.opened_at - max(FALL_WITHIN, candle.interval):
            highest.popleft()
        while highest and highest[-1].high <= candle.high:
            highest.pop()
        highest.append(candle)
        found.append((candle.opened_at, candle.low / highest[0].high - 1))
    return found


def deepest_fall(candles: Sequence[Candle]) -> tuple[datetime, Decimal]:
    """(when, by how many per cent, positive) the price fell most within an hour."""
    at, fall = min(_falls(candles), key=lambda row: row[1])
    return at, -fall * 100


def minute_candles(candles: Sequence[Candle]) -> list[Candle]:
    """Longer bars split into minutes along the path the paper venue would walk (open, extreme, extreme, close)."""
    found: list[Candle] = []
    for candle in candles:
        found.extend([candle] if candle.interval == MINUTE else _split(candle))
    return found


def _split(candle: Candle) -> list[Candle]:
    count = candle.interval // MINUTE
    a, b, c, d = corners(candle)
    turns = [(Decimal(0), a), (Decimal(count) / 4, b), (Decimal(count) * 3 / 4, c), (Decimal(count), d)]

    def price(at: Decimal) -> Decimal:
        (t0, p0), (t1, p1) = next(pair for pair in pairwise(turns) if at <= pair[1][0])
        return (p0 + (p1 - p0) * (at - t0) / (t1 - t0)).quantize(GRAIN)

    minutes = []
    for number in range(count):
        start, end = Decimal(number), Decimal(number + 1)
        passed = [price(start), *(p for t, p in turns if start < t < end), price(end)]
        opened = candle.opened_at + number * MINUTE
        minutes.append(Candle(opened, passed[0], max(passed), min(passed), passed[-1], candle.volume / count))
    return minutes


# -- made from a seed ----------------------------------------------------------------------------

SYNTHETIC_START = datetime(2025, 1, 6, 12, tzinfo=UTC)
SYNTHETIC_PRICE = 100_000.0

Shocks = Callable[[random.Random, int], dict[int, tuple[float, float]]]
"""minute → (jump at its open, move within it), as fractions of the price."""


def _slide(_: random.Random, at: int) -> dict[int, tuple[float, float]]:
    return {at - 30 + n: (0.0, -0.0045) for n in range(45)}


def _cascade(draw: random.Random, at: int) -> dict[int, tuple[float, float]]:
    moves: dict[int, tuple[float, float]] = {}
    for begin in (at - 40, at - 18, at):
        moves |= {begin + n: (0.0, -draw.uniform(0.02, 0.035)) for n in range(3)}
        moves |= {begin + 3 + n: (0.0, draw.uniform(0.005, 0.012)) for n in range(4)}
    return moves


def _flash(_: random.Random, at: int) -> dict[int, tuple[float, float]]:
    return {at: (0.0, -0.22), at + 1: (0.0, 0.20), at + 5: (0.0, -0.06)}


def _gap(_: random.Random, at: int) -> dict[int, tuple[float, float]]:
    return {at: (-0.15, -0.01), at + 60: (0.05, 0.0)}


SYNTHETIC: dict[str, tuple[str, Shocks]] = {
    "slide": ("18 % in 45 minutes", _slide),
    "cascade": ("three falls of 6 to 10 % in three minutes each, each with a rebound", _cascade),
    "flash": ("22 % down within one minute, 20 % up within the next", _flash),
    "gap": ("opens 15 % lower than it closed: no price between", _gap),
}


def synthetic_days(seed: int, minutes: int, kinds: Sequence[str] = tuple(SYNTHETIC)) -> list[CrashDay]:
    """One day of each kind for BTC, the coin with the highest leverage."""
    return [_synthetic(kind, seed, minutes) for kind in kinds]


def _synthetic(kind: str, seed: int, minutes: int) -> CrashDay:
    words, shocks = SYNTHETIC[kind]
    draw = random.Random(f"{seed}:{kind}")
    at = HISTORY + round(minutes * float(BEFORE_SHARE))
    moves, last = shocks(draw, at), SYNTHETIC_PRICE
    candles = []
    for number in range(HISTORY + minutes):
        jump, move = moves.get(number, (0.0, 0.0))
        opened = last * (1 + jump)
        close = opened * (1 + move + draw.gauss(0, 0.0005))
        wick = abs(draw.gauss(0, 0.0004)) + abs(move) * draw.uniform(0, 0.2)
        o, h, low, c = (
            Decimal(f"{value:.1f}")
            for value in (opened, max(opened, close) * (1 + wick), min(opened, close) * (1 - wick), close)
        )
        candles.append(Candle(SYNTHETIC_START + (number - HISTORY) * MINUTE, o, h, low, c, Decimal(10)))
        last = close
    low_at, fall = deepest_fall(candles[HISTORY:])
    return CrashDay(f"synthetic {kind}", "BTC", words, True, tuple(candles), low_at, fall)
