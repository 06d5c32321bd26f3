"""The trade tape of a market: synthetic trades along the path, and what the accounts here traded.

Nobody else trades on a paper venue, so the tape is told from what is known. Each point of a candle's path is one
trade at its price (the nearest valid one), with an equal share of the candle's volume in whole lots: a candle without
volume has none, and its trades together have its volume. The aggressor buys where the path rose or stood, and sells
where it fell. A fill of an account is a trade of its own; where the synthetic book was the other side, so is one of
its made-up addresses.

Everything is a function of the candles, the venue's seed and the fills, so the tape reads the same whenever it is
asked for.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from twinleg.paper import path
from twinleg.paper.market import Market
from twinleg.paper.numbers import ZERO, text
from twinleg.paper.state import State

RECENT = 10
"""How many trades ``recentTrades`` answers."""
CROWD = 16
"""How many made-up addresses stand behind the synthetic book."""

Row = dict[str, Any]


def trades_between(state: State, coin: str, after_ms: int, until_ms: int) -> list[Row]:
    """Trades of a market with ``after_ms`` < time <= ``until_ms``, oldest first.

    A trade has ``coin``, ``side`` (the aggressor's: B buys, A sells), ``px``, ``sz``, ``time``, ``hash``, ``tid`` and
    ``users`` (buyer, seller). Nothing later than the venue's clock is told.
    """
    market = state.markets[coin]
    until_ms = min(until_ms, state.now_ms)
    rows = _of_the_path(state.seed, market, after_ms, until_ms)
    first = bisect_right(state.fills, after_ms, key=_when)
    last = bisect_right(state.fills, until_ms, key=_when)
    rows += _of_fills(state.seed, coin, state.fills[first:last])
    rows.sort(key=_when)
    return rows


def new_trades(state: State, coin: str, after_ms: int, fills_seen: int) -> list[Row]:
    """Trades since a last look, oldest first, which had come to ``after_ms`` and seen so many of all fills."""
    rows = _of_the_path(state.seed, state.markets[coin], after_ms, state.now_ms)
    rows += _of_fills(state.seed, coin, state.fills[fills_seen:])
    rows.sort(key=_when)
    return rows


def recent_trades(state: State, coin: str, count: int = RECENT) -> list[Row]:
    """The last trades of a market, newest first."""
    market = state.markets[coin]
    back_ms, floor = market.interval_ms, market.opened[0] - 1
    while True:
        after = max(state.now_ms - back_ms, floor)
        found = trades_between(state, coin, after, state.now_ms)
        if len(found) >= count or after == floor:
            return found[-count:][::-1]
        back_ms *= 2


def _of_the_path(seed: int, market: Market, after_ms: int, until_ms: int) -> list[Row]:
    """One trade per point of the path that was walked in this span."""
    rows: list[Row] = []
    first = max(bisect_left(market.opened, after_ms - market.interval_ms), 0)
    for index in range(first, bisect_right(market.opened, until_ms)):
        candle, opened = market.candles[index], market.opened[index]
        if not candle.volume:
            continue
        points = path.walk(candle, opened, market.interval_ms, market.points_min)
        done, before = ZERO, market.candles[index - 1].close if index else candle.open
        for number, (at, price) in enumerate(points, 1):
            size = (candle.volume * number / len(points)).quantize(market.listing.lot) - done
            done += size
            rose, before = price >= before, price
            if size and after_ms < at <= until_ms:
                rows.append(_row(seed, market.coin, rose, market.listing.round(price), size, at, number))
    return rows


def _row(seed: int, coin: str, buys: bool, price: Decimal, size: Decimal, at: int, number: int) -> Row:
    digest = hashlib.sha256(f"tape:{seed}:{coin}:{at}:{number}".encode()).digest()
    aggressor, maker = _somebody(seed, digest[0]), _somebody(seed, digest[0] + 1 + digest[1] % (CROWD - 1))
    return {
        "coin": coin,
        "side": "B" if buys else "A",
        "px": text(price),
        "sz": text(size),
        "time": at,
        "hash": "0x" + digest.hex(),
        "tid": int.from_bytes(digest[2:8]) >> 1,
        "users": [aggressor, maker] if buys else [maker, aggressor],
    }


def _of_fills(seed: int, coin: str, fills: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One trade per trade id among the fills; the side that crossed is the aggressor."""
    by_tid: dict[int, list[Mapping[str, Any]]] = {}
    for fill in fills:
        if fill["coin"] == coin:
            by_tid.setdefault(fill["tid"], []).append(fill)
    rows: list[Row] = []
    for tid, sides in by_tid.items():
        taker = next((fill for fill in sides if fill["crossed"]), None)
        shown = taker or sides[0]
        aggressor_buys = (shown["side"] == "B") == (taker is not None)
        named = {fill["side"]: fill["user"] for fill in sides}
        rows.append(
            {
                "coin": coin,
                "side": "B" if aggressor_buys else "A",
                **{name: shown[name] for name in ("px", "sz", "time", "hash", "tid")},
                "users": [named.get(side) or _somebody(seed, tid) for side in ("B", "A")],
            }
        )
    return rows


def _somebody(seed: int, number: int) -> str:
    """One of the made-up addresses behind the synthetic book."""
    return "0x" + hashlib.sha256(f"crowd:{seed}:{number % CROWD}".encode()).hexdigest()[:40]


def _when(row: Mapping[str, Any]) -> int:
    at: int = row["time"]
    return at
