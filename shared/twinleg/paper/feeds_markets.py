"""Streams about one market: its book, its best prices, trades and candles."""

from __future__ import annotations

import base64
import zlib
from typing import Any

from twinleg.paper import tape
from twinleg.paper.exchange import Exchange
from twinleg.paper.feed import Pace, message, parts
from twinleg.paper.market import Market
from twinleg.paper.numbers import text
from twinleg.paper.ws_messages import compact

Json = Any

TRADES_REPLAYED = 30
FAST_LEVELS = 5


class Trades:
    """The tape: its last trades to begin with, then every one that comes."""

    def __init__(self, engine: Exchange, coin: str) -> None:
        self._state, self._coin = engine.state, coin
        self._walked_ms = engine.state.now_ms
        self._fills = len(engine.state.fills)

    def first(self) -> list[str]:
        rows = tape.recent_trades(self._state, self._coin, TRADES_REPLAYED)[::-1]
        return [message("trades", rows)] if rows else []

    def news(self, _: float) -> list[str]:
        state, after_ms, known = self._state, self._walked_ms, self._fills
        self._walked_ms, self._fills = state.now_ms, len(state.fills)
        if after_ms == state.now_ms and known == len(state.fills):
            return []
        rows = tape.new_trades(state, self._coin, after_ms, known)
        return [message("trades", part) for part in parts(rows)]


class Candles:
    """The candle under way whenever it changed, and each one that closed, in its last form, exactly in order."""

    def __init__(self, engine: Exchange, coin: str, interval: str, pace: float) -> None:
        self._engine, self._coin, self._interval = engine, coin, interval
        self._pace = Pace(pace)
        self._since_ms = engine.state.now_ms
        self._told = ""

    def first(self) -> list[str]:
        rows = self._rows()
        if not rows:
            return []
        shown = message("candle", rows[-1])
        if not self._told:
            self._since_ms, self._told = rows[-1]["t"], shown
        return [shown]

    def news(self, seconds: float) -> list[str]:
        if not self._pace.lets(seconds):
            return []
        out = []
        for row in self._rows():
            shown = message("candle", row)
            if row["t"] >= self._since_ms and shown != self._told:
                out.append(shown)
                self._since_ms, self._told = row["t"], shown
        return out

    def _rows(self) -> list[Json]:
        if self._coin not in self._engine.state.markets:
            return []
        asked = {
            "coin": self._coin,
            "interval": self._interval,
            "startTime": self._since_ms,
            "endTime": self._engine.state.now_ms,
        }
        status, rows = self._engine.info({"type": "candleSnapshot", "req": asked})
        found: list[Json] = rows if status == 200 else []
        return found


class Best:
    """The best price of both sides, whenever one of them changed."""

    def __init__(self, engine: Exchange, coin: str) -> None:
        self._engine, self._coin = engine, coin
        self._told: list[Json] | None = None

    def first(self) -> list[str]:
        best = self._look()
        if self._told is None:
            self._told = best
        return [self._message(best)]

    def news(self, _: float) -> list[str]:
        best = self._look()
        if best == self._told:
            return []
        self._told = best
        return [self._message(best)]

    def _look(self) -> list[Json]:
        market = self._engine.state.markets.get(self._coin)
        return [None, None] if market is None else [_level(market, bids) for bids in (True, False)]

    def _message(self, best: list[Json]) -> str:
        return message("bbo", {"coin": self._coin, "time": self._engine.state.now_ms, "bbo": best})


class FastContexts:
    """Mark and mid of every market, packed: base64 of the raw deflate of JSON. First all, then what changed."""

    def __init__(self, engine: Exchange, pace: float) -> None:
        self._engine, self._pace = engine, Pace(pace)
        self._told = self._look()

    def first(self) -> list[str]:
        return [self._message(self._look())]

    def news(self, seconds: float) -> list[str]:
        if not self._pace.lets(seconds):
            return []
        before, self._told = self._told, self._look()
        changed = {coin: row for coin, row in self._told.items() if row != before.get(coin)}
        return [self._message(changed)] if changed else []

    def _look(self) -> dict[str, Json]:
        mids = self._engine.info({"type": "allMids"})[1]
        markets = self._engine.state.markets.values()
        return {m.coin: {"markPx": text(m.mark), "midPx": mids[m.coin]} for m in markets}

    def _message(self, rows: dict[str, Json]) -> str:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        packed = packer.compress(compact(rows).encode()) + packer.flush()
        return message("fastAssetCtxs", base64.b64encode(packed).decode())


def _level(market: Market, bids: bool) -> Json:
    levels = market.book.levels(bids, 1)
    if not levels:
        return None
    price, size, number = levels[0]
    return {"px": text(price), "sz": text(size), "n": number}
