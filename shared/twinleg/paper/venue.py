"""One venue: the exchange, its clock, its journal and its faults, ready to answer requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from twinleg.domain.candles import Candle, utc_from_ms
from twinleg.domain.errors import BadInput
from twinleg.domain.money import decimal_of
from twinleg.paper.clockwork import WallClock, restamped
from twinleg.paper.exchange import Exchange, history_count
from twinleg.paper.options import VenueOptions

Json = Any


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer, and what happens to it on its way."""

    status: int
    text: str
    content_type: str = "application/json"
    hold_seconds: float = 0
    later: Callable[[], Reply] | None = None
    lost: bool = False


class Venue:
    """Everything of the venue but the sockets."""

    def __init__(self, options: VenueOptions, wall: Callable[[], int]) -> None:
        options.checked()
        self._wall = wall
        self._clock: WallClock | None = None
        if options.clock == "wall":
            now_ms = wall()
            options = restamped(options, history_count(options), now_ms)
            self._clock = WallClock(now_ms, options.speed)
        self.options = options
        self.exchange_engine = Exchange(options)

    def reply(self, path: str, body: Json) -> Reply:
        """Answer ``POST /info`` or ``POST /exchange``."""
        self.catch_up()
        engine = self.exchange_engine
        status, answer = engine.info(body) if path == "/info" else engine.exchange(body)
        return shaped(status, answer)

    def catch_up(self) -> None:
        """Walk a wall-clock venue to now."""
        if self._clock is not None:
            self.exchange_engine.advance(max(self._clock.at(self._wall()), self.exchange_engine.state.now_ms))

    def status(self) -> Json:
        """What ``GET /_sim/status`` answers."""
        state = self.exchange_engine.state
        return {
            "ready": True,
            "now_ms": state.now_ms,
            "clock": self.options.clock,
            "open_accounts": self.options.open_accounts,
            "markets": {
                coin: {
                    "asset": m.listing.asset,
                    "mark": str(m.mark),
                    "oracle": str(m.oracle),
                    "last": str(m.price),
                    "first_ms": m.opened[0],
                    "end_ms": m.opened[-1] + m.interval_ms,
                    "interval_ms": m.interval_ms,
                    "ended": m.ended,
                }
                for coin, m in state.markets.items()
            },
            "accounts": len(state.accounts),
            "switches": state.switches.as_json(),
        }

    def set_clock(self, now_ms: int) -> int:
        """Move a manual clock; returns where it stands."""
        if self._clock is not None:
            raise BadInput("now_ms: this venue runs on the wall's clock")
        self.exchange_engine.advance(now_ms)
        return self.exchange_engine.state.now_ms

    def deposit(self, address: str, amount: Decimal) -> None:
        self.exchange_engine.deposit(address, amount)

    def set_switches(self, values: Json) -> Json:
        self.exchange_engine.set_switches(values)
        return self.exchange_engine.state.switches.as_json()

    def append_candles(self, coin: str, rows: Json) -> None:
        self.exchange_engine.append_candles(coin, candles_of(rows, self._interval(coin)))

    def _interval(self, coin: str) -> timedelta:
        market = self.exchange_engine.state.markets.get(coin)
        if market is None:
            known = ", ".join(self.exchange_engine.state.markets)
            raise BadInput(f"coin must be one of {known}, was {coin!r}")
        return market.candles[0].interval

    def add_faults(self, rules: Json) -> Json:
        raise BadInput("faults: none are known")

    def clear_faults(self) -> Json:
        return {"faults": []}

    def close(self) -> None:
        """Nothing is held open without a ledger file."""


def shaped(status: int, answer: Json) -> Reply:
    """An answer as the real venue writes it: JSON, or plain text where the body is refused."""
    if status in (400, 415, 422):
        return Reply(status, str(answer), "text/plain")
    return Reply(status, json.dumps(answer, separators=(",", ":")))


def candles_of(rows: Json, interval: timedelta) -> list[Candle]:
    """Candles of ``[[ts_ms, open, high, low, close, volume], ...]``; BadInput names the row that is wrong."""
    out = []
    for number, row in enumerate(rows):
        if type(row) is not list or len(row) != 6 or type(row[0]) is not int:
            raise BadInput(f"candles[{number}] must be [ts_ms, open, high, low, close, volume], was {row!r}")
        o, h, low, c, v = (decimal_of(str(n) if type(n) is float else n, f"candles[{number}]") for n in row[1:])
        out.append(Candle(utc_from_ms(row[0]), o, h, low, c, v, interval))
    return out
