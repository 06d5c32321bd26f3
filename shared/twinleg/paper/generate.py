"""Markets made up from a seed: calm, trend, crash, gap and thin, several coins at once.

A price is ``start x noise x scenario``. The noise is a random walk of eight steps a minute, shared between coins: a
coin's step is ``beta x volatility x (sqrt(correlation) x common + sqrt(1 - correlation) x own)``, where *beta* is 1
for a 40x coin and more for coins of lower maximum leverage, and the volatility itself wanders between half and twice
its level. The scenario is what the kind is named for; it starts after the history and is the same moment for all coins,
scaled by their beta.

    kind    volatility a minute   what happens
    calm    0.03 % (22 % a year)  nothing
    trend   0.04 % (29 % a year)  legs of 2 to 6 hours of 0.01 % a minute, three of four in one direction
    crash   0.06 % (43 % a year)  once a day a fall of 8 to 20 % within 4 to 15 minutes, its last minute with a wick
                                  below; a third to two thirds come back over two to four times as long, and the
                                  noise stays up to three times as loud for two hours
    gap     0.05 % (36 % a year)  every 20 to 60 minutes the next candle opens 0.5 to 2.5 % from the last close: no
                                  price in between is traded, so stops fill beyond their level
    thin    0.06 % (43 % a year)  a book of 10 levels, 8 bps wide, 1,500 USD at the best level of a 40x coin, of which
                                  a fifth comes back at each point of the path; a twentieth of the volume

A coin's candles depend on kind, seed, coin, length and correlation alone: adding a coin does not change the others.
Sums and products only (a sum of 12 uniform draws stands for a normal one), so that every machine makes the same.
Prices lie on the venue's tick, volumes on its lot; a quiet minute of a 40x coin trades about 2 million USD.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from math import sqrt
from typing import NamedTuple

from twinleg.domain.candles import MINUTE, Candle
from twinleg.domain.errors import BadInput
from twinleg.paper.listings import Listing, listings
from twinleg.paper.options import BookShape

STEPS = 8
DAY = 1_440
MINUTES_MAX = 44_640
HISTORY_MAX = 10_080
CANDLES_MAX = 10 * MINUTES_MAX
"""Of all coins together: some 300 MB."""
CORRELATION = Decimal("0.8")

PRICES = {
    "BTC": "100000", "ETH": "3500", "ATOM": "6", "MATIC": "0.4", "DYDX": "0.9", "SOL": "180", "AVAX": "30",
    "BNB": "650", "APE": "0.6", "OP": "0.8", "LTC": "100", "ARB": "0.5", "DOGE": "0.2", "INJ": "14", "SUI": "3.5",
    "kPEPE": "0.012", "CRV": "0.7", "LDO": "1.1", "LINK": "18", "STX": "0.8", "RNDR": "5", "CFX": "0.15",
    "FTM": "0.5", "GMX": "15", "SNX": "0.9", "XRP": "2.5", "BCH": "480", "APT": "6", "AAVE": "250", "ADA": "0.8",
    "NEAR": "3", "HYPE": "35",
}  # fmt: skip
"""Where each coin starts: round figures, not quotes."""

THIN_BOOK = BookShape(
    spread_bps=Decimal(8), levels=10, level_gap_bps=Decimal(4), level_usd=Decimal(1_500), refill=Decimal("0.2")
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of market: the volatility per minute of a 40x coin, its share of ordinary volume, its book."""

    volatility: float
    volume: float = 1.0
    book: BookShape = field(default_factory=BookShape)


KINDS = {
    "calm": Kind(0.0003),
    "trend": Kind(0.0004),
    "crash": Kind(0.0006),
    "gap": Kind(0.0005),
    "thin": Kind(0.0006, 0.05, THIN_BOOK),
}


class Incident(NamedTuple):
    """Something the scenario does, for whoever watches: when, and in words (of a 40x coin)."""

    at: datetime
    what: str


class Generated(NamedTuple):
    """Candles per coin, the book that belongs to them, and what will happen."""

    candles: dict[str, list[Candle]]
    book: BookShape
    incidents: list[Incident]


class _Minute(NamedTuple):
    """What the scenario does to one minute of a 40x coin, as fractions of the price it had before."""

    jump: float = 0.0
    """Before the minute opens."""
    drift: float = 0.0
    """Over the minute."""
    wick: float = 0.0
    """In its middle, and back."""
    loud: float = 1.0
    """Times the volatility."""


QUIET = _Minute()


def generated(
    kind: str,
    coins: Sequence[str],
    seed: int,
    start: datetime,
    *,
    history: int,
    minutes: int,
    correlation: Decimal = CORRELATION,
) -> Generated:
    """*history* quiet minutes from *start*, then *minutes* of the kind. BadInput names what cannot be made."""
    if kind not in KINDS:
        raise BadInput(f"generate: kind must be one of {', '.join(KINDS)}, was {kind!r}")
    for name, value, most in (("minutes", minutes, MINUTES_MAX), ("history", history, HISTORY_MAX)):
        if not 1 <= value <= most:
            raise BadInput(f"generate: {name} must be 1 to {most}, was {value}")
    if (history + minutes) * len(coins) > CANDLES_MAX:
        raise BadInput(
            f"generate: history and minutes of all coins must be at most {CANDLES_MAX} candles, "
            f"were {(history + minutes) * len(coins)}"
        )
    if not 0 <= correlation <= 1:
        raise BadInput(f"generate: correlation must be 0 to 1, was {correlation}")
    known = listings()
    for coin in coins:
        if coin not in known:
            raise BadInput(f"generate: {coin!r} is not a listed coin; known are {', '.join(known)}")
    script, incidents = _script(kind, random.Random(f"{seed} {kind}"), minutes)
    draw = random.Random(f"{seed} {kind} common")
    loudness = _loudness(draw, history + minutes)
    shared = _normals(draw, (history + minutes) * STEPS)
    louder = [m._replace(loud=m.loud * by) for m, by in zip([QUIET] * history + script, loudness, strict=True)]
    weights = sqrt(float(correlation)), sqrt(1 - float(correlation))
    found = {}
    for coin in coins:
        draw = random.Random(f"{seed} {kind} {coin}")
        own = _normals(draw, len(shared))
        steps = [weights[0] * a + weights[1] * b for a, b in zip(shared, own, strict=True)]
        found[coin] = _candles(known[coin], KINDS[kind], steps, louder, start, draw)
    told = [Incident(start + (history + minute) * MINUTE, what) for minute, what in incidents]
    return Generated(found, KINDS[kind].book, told)


def _normals(draw: random.Random, count: int) -> list[float]:
    uniform = draw.random
    return [sum([uniform() for _ in range(12)]) - 6.0 for _ in range(count)]


def _loudness(draw: random.Random, count: int) -> list[float]:
    """How loud each minute is, around 1: the volatility of all coins wanders together."""
    level, out = 1.0, []
    for _ in range(count):
        level = min(max(level + 0.05 * (1.0 - level) + draw.uniform(-0.15, 0.15), 0.5), 2.0)
        out.append(level)
    return out


def beta(listing: Listing) -> float:
    """How much more than a 40x coin this one moves: the lower its maximum leverage, the more."""
    return next(b for least, b in ((40, 1.0), (25, 1.3), (20, 1.6), (0, 2.0)) if listing.max_leverage >= least)


def usd_per_minute(listing: Listing) -> float:
    """What a quiet minute trades. A 40x coin: 3 billion USD a day, as bitcoin on the real venue."""
    return next(
        usd for least, usd in ((40, 2e6), (25, 1e6), (20, 3e5), (10, 6e4), (0, 2e4)) if listing.max_leverage >= least
    )


def _script(kind: str, draw: random.Random, minutes: int) -> tuple[list[_Minute], list[tuple[int, str]]]:
    script = [QUIET] * minutes
    incidents: list[tuple[int, str]] = []
    if kind == "trend":
        _trend(script, incidents, draw)
    elif kind == "gap":
        _gaps(script, incidents, draw)
    elif kind == "crash":
        for day in range(0, minutes, DAY):
            _crash(script, incidents, draw, day, min(DAY, minutes - day))
    return script, incidents


def _trend(script: list[_Minute], incidents: list[tuple[int, str]], draw: random.Random) -> None:
    main, minute = draw.choice((-1, 1)), 0
    while minute < len(script):
        lasts = draw.randint(120, 360)
        way = main if not minute or draw.random() < 0.75 else -main
        incidents.append((minute, f"{'rises' if way > 0 else 'falls'} for {lasts} minutes"))
        for at in range(minute, min(minute + lasts, len(script))):
            script[at] = _Minute(drift=way * 0.0001)
        minute += lasts


def _gaps(script: list[_Minute], incidents: list[tuple[int, str]], draw: random.Random) -> None:
    minute = draw.randint(5, 20)
    while minute < len(script):
        jump = draw.choice((-1, 1)) * draw.uniform(0.005, 0.025)
        script[minute] = _Minute(jump=jump, loud=2.0)
        incidents.append((minute, f"opens {jump:+.1%} from the last close"))
        minute += draw.randint(20, 60)


def _crash(script: list[_Minute], incidents: list[tuple[int, str]], draw: random.Random, day: int, count: int) -> None:
    """One fall within these minutes: faster and faster, a wick at the bottom, and part of the way back."""
    begins = day + draw.randint(count // 10, max(count * 3 // 10, count // 10))
    lasts, deep = draw.randint(4, 15), draw.uniform(0.08, 0.20)
    back, rebound = lasts * draw.randint(2, 4), deep * draw.uniform(1 / 3, 2 / 3)
    incidents.append((begins, f"falls {deep:.0%} within {lasts} minutes; {rebound:.0%} comes back over {back}"))
    level, end = 1.0, day + count
    weights = lasts * (lasts + 1) / 2
    for i in range(lasts):
        wick = -0.2 * deep if i == lasts - 1 else 0.0
        level = _down(script, end, begins + i, level, -deep * (i + 1) / weights, wick)
    for i in range(back):
        level = _down(script, end, begins + lasts + i, level, rebound / back, 0.0)
    for i in range(120):
        at = begins + lasts + i
        if at < end:
            script[at] = script[at]._replace(loud=3.0 - i / 60)


def _down(script: list[_Minute], end: int, at: int, level: float, change: float, wick: float) -> float:
    """Move a minute by this part of the price before the fall; returns where that leaves it."""
    if at < end:
        script[at] = _Minute(drift=change / level, wick=wick / level, loud=3.0)
    return level + change


def _candles(
    listing: Listing, kind: Kind, steps: list[float], script: list[_Minute], start: datetime, draw: random.Random
) -> list[Candle]:
    scale, usd = beta(listing), usd_per_minute(listing) * kind.volume
    volatility = kind.volatility * scale
    price = float(PRICES[listing.coin])
    least = float(listing.finest) * 100
    out = []
    for number, minute in enumerate(script):
        sigma = volatility * minute.loud / sqrt(STEPS)
        price = max(price * (1 + minute.jump * scale), least)
        opened, walked = price, [price]
        drift, wick = max(minute.drift * scale, -0.5) / STEPS, max(minute.wick * scale, -0.3)
        for i in range(STEPS):
            price = max(price + opened * drift + price * sigma * steps[number * STEPS + i], least)
            walked.append(price)
        low = min(walked) + (opened * wick if wick < 0 else 0.0)
        moved = abs(price - opened) / opened + abs(minute.jump * scale) - wick
        traded = usd * (0.4 + draw.random()) * min(0.6 + moved / volatility / 2, 30.0) / price
        o, h, lo, c = (listing.round(Decimal(p)) for p in (opened, max(walked), max(low, least), price))
        volume = max(Decimal(traded).quantize(listing.lot), listing.lot)
        out.append(Candle(start + number * MINUTE, o, h, lo, c, volume))
    return out
