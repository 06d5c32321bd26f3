"""One venue: the exchange, its clock, its ledger file and its faults, ready to answer requests."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import orjson

from twinleg.domain.candles import Candle, utc_from_ms
from twinleg.domain.errors import BadInput, InvariantBroken
from twinleg.domain.money import decimal_of
from twinleg.paper import ledger, limits
from twinleg.paper.clockwork import WallClock, restamped
from twinleg.paper.desk import Interference, OrderFault
from twinleg.paper.exchange import UNREADABLE, Exchange, default_start_ms, history_count
from twinleg.paper.faults import Faults, Request, Rule, acting, asking, interference
from twinleg.paper.journal import Entry, Journal, checksum
from twinleg.paper.market import HOUR_MS, RATE_CAP
from twinleg.paper.numbers import ZERO
from twinleg.paper.options import VenueOptions
from twinleg.paper.schema import is_address, is_exchange_request
from twinleg.paper.signatures import ZERO_ADDRESS

BAD_GATEWAY = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    "<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n"
)
_any_json = json.JSONEncoder(separators=(",", ":")).encode
REMEMBERED = 1_000
REMEMBERED_LENGTH = 32_000
"""How many answers, of at most what length, are kept for stale reads."""
PRICE_MIN, PRICE_MAX, VOLUME_MAX = Decimal("0.000001"), Decimal(10) ** 12, Decimal(10) ** 18
TIME_MS_MAX = 4_102_444_800_000
"""Of candles: the year 2100."""

Json = Any


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer, and what happens to it on its way.

    ``hold_seconds`` passes first; then ``later``, if any, makes the real reply. ``lost``: the connection closes
    without an answer.
    """

    status: int
    text: str
    content_type: str = "application/json"
    hold_seconds: float = 0
    later: Callable[[], Reply] | None = None
    lost: bool = False


class Venue:
    """Everything of the venue but the sockets. ``wall`` gives epoch milliseconds; only a wall-clock venue asks."""

    def __init__(self, options: VenueOptions, wall: Callable[[], int]) -> None:
        self._wall = wall
        self._journal = None if options.ledger is None else Journal(options.ledger)
        begun = None if self._journal is None else self._journal.beginning()
        self.options = self._first_options(options.checked()) if begun is None else _continued(options, begun)
        self.continued = begun is not None
        """Whether its ledger was begun by an earlier start, whose markets and accounts it has."""
        if self._journal is not None and begun is None:
            self._journal.begin(self.options)
        start_ms = self.options.start_ms
        wall_clock = self.options.clock == "wall" and start_ms is not None
        self._clock = WallClock(start_ms, self.options.speed) if wall_clock and start_ms is not None else None
        self.engine = Exchange(self.options)
        self._faults = Faults()
        self._weights = limits.MinuteWeight()
        self._answers: dict[str, Reply] = {}
        if begun is not None:
            self._replay()

    def _first_options(self, options: VenueOptions) -> VenueOptions:
        if options.clock == "wall":
            return restamped(options, history_count(options), self._wall())
        return options if options.start_ms is not None else replace(options, start_ms=default_start_ms(options))

    # Requests

    def reply(self, path: str, body: Json, client: str = "") -> Reply:
        """Answer ``POST /info`` or ``POST /exchange``, with whatever faults strike it."""
        self.catch_up()
        if self.engine.state.switches.rate_limits and type(body) is dict:
            now_ms = self.engine.state.now_ms
            if not self._weights.allows(client, limits.weight(path, body), now_ms):
                return Reply(429, "null")
            if path == "/info":
                reply = self._asked(body)
                self._weights.add(client, limits.answer_weight(body, reply.text), now_ms)
                return reply
        if path == "/info":
            return self._asked(body)
        if not is_exchange_request(body):
            return shaped(422, UNREADABLE)
        signer = self.engine.signer(body)
        struck = self._faults.struck(acting(path, body, signer, self.engine.state)) if self._faults.rules else {}
        return self._held(struck, lambda: self._acted(body, signer, struck))

    def _held(self, struck: dict[str, Rule], make: Callable[[], Reply]) -> Reply:
        delay = struck.get("delay")
        if delay is None:
            return make()
        if delay.when == "arrival":

            def arrive() -> Reply:
                self.catch_up()
                return make()

            return Reply(0, "", hold_seconds=delay.ms / 1000, later=arrive)
        return replace(make(), hold_seconds=delay.ms / 1000)

    def _acted(self, body: Json, signer: str | None, struck: dict[str, Rule]) -> Reply:
        if "lose_request" in struck:
            return Reply(0, "", lost=True)
        late = struck.get("arrive_late")
        if late is not None and signer is not None:
            at_ms = self.engine.state.now_ms + late.ms
            self._commit("late", {"body": body, "signer": signer, "at_ms": at_ms})
            return Reply(0, "", lost=True)
        failure = _failure(struck)
        if failure is not None and not failure[1]:
            return failure[0]
        answer = self._commit("exchange", _signed(body, signer, interference(struck)))
        if failure is not None:
            return failure[0]
        return replace(shaped(200, answer), lost="lose_answer" in struck)

    def _asked(self, body: Json) -> Reply:
        if not self._faults.rules:
            return self._read(body)
        kind = body.get("type") if type(body) is dict else None
        if type(kind) is not str:
            return self._read(body)
        struck = self._faults.struck(asking(body))
        return self._held(struck, lambda: self._read_with(body, struck))

    def _read_with(self, body: Json, struck: dict[str, Rule]) -> Reply:
        failure = _failure(struck)
        if failure is not None:
            return failure[0]
        if "empty_read" in struck and "user" in body:
            return self._read_empty(body)
        if "stale_read" in struck and (before := self._answers.get(str(body))) is not None:
            return before
        return replace(self._read(body), lost="lose_answer" in struck or "lose_request" in struck)

    def _read_empty(self, body: Json) -> Reply:
        status, answer = self.engine.info({**body, "user": ZERO_ADDRESS})
        return shaped(status, answer)

    def _read(self, body: Json) -> Reply:
        status, answer = self.engine.info(body)
        reply = shaped(status, answer)
        if status == 200 and len(reply.text) <= REMEMBERED_LENGTH:
            if len(self._answers) >= REMEMBERED:
                self._answers.clear()
            self._answers[str(body)] = reply
        return reply

    # Changes: carried out, written down, then answered

    def _commit(self, kind: str, payload: Json) -> Json:
        now_ms = self.engine.state.now_ms
        answer = self._apply(kind, payload)
        if self._journal is not None:
            self._journal.write(Entry(now_ms, kind, payload, checksum(answer)))
        return answer

    def _apply(self, kind: str, payload: Json) -> Json:
        engine = self.engine
        if kind == "exchange":
            return engine.execute(payload["body"], payload["signer"], _interference_of(payload.get("faults", ())))
        if kind == "late":
            return engine.deliver_late(payload["body"], payload["signer"], payload["at_ms"])
        if kind == "deposit":
            return engine.deposit(payload["address"], Decimal(payload["usd"]))
        if kind == "switches":
            return engine.set_switches(payload)
        if kind == "clock":
            self._clock = WallClock(payload["now_ms"], Decimal(payload["speed"]), payload["wall_ms"])
            return engine.advance(payload["now_ms"])
        if kind == "funding":
            market = engine.state.markets[payload["coin"]]
            rates = [(ms, Decimal(rate)) for ms, rate in payload["rates"]]
            return market.know_funding([*market.funding_known.items(), *rates])
        return engine.append_candles(payload["coin"], candles_of(payload["candles"], self._interval(payload["coin"])))

    def _replay(self) -> None:
        journal = self._journal
        if journal is None:
            return
        for number, entry in enumerate(journal.entries(), 1):
            self.engine.advance(entry.now_ms)
            if checksum(self._apply(entry.kind, entry.payload)) != entry.checksum:
                raise InvariantBroken(f"ledger entry {number} ({entry.kind}) replays to another answer than it gave")
        clock = journal.clock()
        if clock is not None and clock > self.engine.state.now_ms:
            self.engine.advance(clock)

    # Control

    def catch_up(self) -> None:
        """Walk a wall-clock venue to now."""
        if self._clock is not None:
            self.engine.advance(max(self._clock.at(self._wall()), self.engine.state.now_ms))

    def set_clock(self, now_ms: int) -> int:
        """Move a manual clock; returns where it stands."""
        if self._clock is not None:
            raise BadInput("now_ms: this venue runs on the wall's clock; step_ms and speed change it")
        self.engine.advance(now_ms)
        if self._journal is not None:
            self._journal.write_clock(now_ms)
        return now_ms

    def step_clock(self, step_ms: int) -> int:
        """Move any clock on by so much; returns where it stands. A wall clock runs on from there at its speed."""
        if self._clock is None:
            return self.set_clock(self.engine.state.now_ms + step_ms)
        return self._restart_clock(step_ms, self._clock.speed)

    def set_speed(self, speed: Decimal) -> int:
        """Let a wall clock run at another speed from now on, 0 to stop it; returns where it stands."""
        if self._clock is None:
            raise BadInput("speed: this venue's clock is manual; now_ms and step_ms move it")
        return self._restart_clock(0, speed)

    def _restart_clock(self, step_ms: int, speed: Decimal) -> int:
        self.catch_up()
        now_ms = self.engine.state.now_ms + step_ms
        self._commit("clock", {"now_ms": now_ms, "wall_ms": self._wall(), "speed": str(speed)})
        return now_ms

    def balance(self, address: str) -> Decimal:
        """The perp USDC of an address, without unrealised profit; 0 when it has no account."""
        self.catch_up()
        account = self.engine.state.accounts.get(_key(address))
        return ZERO if account is None else account.balance

    def account(self, address: str) -> Json:
        """What ``GET /_sim/account`` answers; BadInput when there is no such account."""
        self.catch_up()
        return ledger.snapshot(self.engine.state, _key(address))

    def deposit(self, address: str, amount: Decimal) -> None:
        """USDC from outside for an address; a negative amount goes there."""
        if not is_address(address):
            raise BadInput(f"address must be 40 hex digits, was {address!r}")
        self.catch_up()
        self._commit("deposit", {"address": address, "usd": str(amount)})

    def switches(self) -> Json:
        """Every switch and where it stands."""
        return self.engine.state.switches.as_json()

    def set_switches(self, values: Json) -> Json:
        """Turn switches; returns all of them."""
        self.catch_up()
        self._commit("switches", values)
        return self.switches()

    def know_funding(self, coin: str, rows: Json) -> None:
        """Hourly funding rates to come, ``[[ts_ms, rate], ...]``, instead of those from the premium."""
        self.catch_up()
        self._interval(coin)
        rates = [[ms, str(rate)] for ms, rate in rates_of(rows, self.engine.state.now_ms)]
        self._commit("funding", {"coin": coin, "rates": rates})

    def append_candles(self, coin: str, rows: Json) -> None:
        """Give a market more candles to come, ``[[ts_ms, open, high, low, close, volume], ...]``."""
        self.catch_up()
        self._commit("candles", {"coin": coin, "candles": rows})

    def _interval(self, coin: str) -> timedelta:
        market = self.engine.state.markets.get(coin)
        if market is None:
            raise BadInput(f"coin must be one of {', '.join(self.engine.state.markets)}, was {coin!r}")
        return market.candles[0].interval

    def add_faults(self, rules: Json) -> Json:
        """Add fault rules; returns all in force."""
        return {"faults": self._faults.add(rules)}

    def faults(self) -> Json:
        return {"faults": self._faults.listed()}

    def struck(self, request: Request) -> dict[str, Rule]:
        """The fault rules that strike one message of a WebSocket, by kind."""
        return self._faults.struck(request) if self._faults.rules else {}

    def clear_faults(self, kind: str | None = None) -> Json:
        """Drop every rule, or those of one kind; returns what is left."""
        self._faults.clear(kind)
        return self.faults()

    def status(self) -> Json:
        """What ``GET /_sim/status`` answers."""
        self.catch_up()
        state = self.engine.state
        return {
            "ready": True,
            "pid": os.getpid(),
            "now_ms": state.now_ms,
            "clock": self.options.clock,
            "speed": None if self._clock is None else f"{self._clock.speed:f}",
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
            "faults": len(self._faults.rules),
            "switches": state.switches.as_json(),
        }

    def ledger(self) -> Json:
        """What ``GET /_sim/ledger`` answers."""
        self.catch_up()
        return self.engine.dump()

    def close(self) -> None:
        """Let go of the ledger file."""
        if self._journal is not None:
            self._journal.close()


def _continued(options: VenueOptions, begun: VenueOptions) -> VenueOptions:
    """A ledger's own beginning, served where this start wants it."""
    if options.clock != begun.clock:
        raise BadInput(f"ledger {options.ledger}: was begun with a {begun.clock} clock, not {options.clock}")
    return replace(begun, port=options.port, host=options.host, ledger=options.ledger)


def _signed(body: Json, signer: str | None, faults: Interference) -> Json:
    payload: dict[str, Json] = {"body": body, "signer": signer}
    if faults:
        payload["faults"] = [
            {
                "coin": f.coin,
                "cloid": f.cloid,
                "reject": f.reject,
                "fraction": f.fraction if f.fraction is None else str(f.fraction),
            }
            for f in faults
        ]
    return payload


def _interference_of(raw: Json) -> Interference:
    return tuple(
        OrderFault(f["coin"], f["cloid"], f["reject"], None if f["fraction"] is None else Decimal(f["fraction"]))
        for f in raw
    )


def _failure(struck: dict[str, Rule]) -> tuple[Reply, bool] | None:
    """(the failing answer, whether the request is carried out all the same)."""
    if (rule := struck.get("429")) is not None:
        return Reply(429, "null"), rule.execute
    if (rule := struck.get("500")) is not None:
        return Reply(500, "null"), rule.execute
    if (rule := struck.get("502html")) is not None:
        return Reply(502, BAD_GATEWAY, "text/html"), rule.execute
    return None


def shaped(status: int, answer: Json) -> Reply:
    """An answer as the real venue writes it: JSON, or plain text where the body is refused."""
    if status in (400, 415, 422):
        return Reply(status, str(answer), "text/plain")
    return Reply(status, _compact(answer))


def _compact(answer: Json) -> str:
    try:
        return orjson.dumps(answer).decode()
    except TypeError:  # it repeats what was asked: half a character, or a number past 64 bits
        return _any_json(answer)


def _key(address: str) -> str:
    return "0x" + address.lower().removeprefix("0x")


def rates_of(rows: Json, now_ms: int) -> list[tuple[int, Decimal]]:
    """Rates of ``[[ts_ms, rate], ...]``; BadInput names the row that is wrong or whose hour is already over."""
    out = []
    for number, row in enumerate(rows):
        if type(row) is not list or len(row) != 2 or type(row[0]) is not int:
            raise BadInput(f"rates[{number}] must be [ts_ms, rate], was {row!r}")
        rate = decimal_of(str(row[1]) if type(row[1]) is float else row[1], f"rates[{number}]")
        if abs(rate) > RATE_CAP:
            raise BadInput(f"rates[{number}] must be from -{RATE_CAP} to {RATE_CAP}, was {rate}")
        if row[0] - row[0] % HOUR_MS <= now_ms:
            raise BadInput(f"rates[{number}]: the hour of {row[0]} does not lie after the venue's clock ({now_ms})")
        out.append((row[0], rate))
    return out


def candles_of(rows: Json, interval: timedelta) -> list[Candle]:
    """Candles of ``[[ts_ms, open, high, low, close, volume], ...]``; BadInput names the row that is wrong."""
    out = []
    for number, row in enumerate(rows):
        if type(row) is not list or len(row) != 6 or type(row[0]) is not int:
            raise BadInput(f"candles[{number}] must be [ts_ms, open, high, low, close, volume], was {row!r}")
        o, h, low, c, v = (decimal_of(str(n) if type(n) is float else n, f"candles[{number}]") for n in row[1:])
        if not all(PRICE_MIN <= price <= PRICE_MAX for price in (o, h, low, c)):
            raise BadInput(f"candles[{number}]: prices must be from {PRICE_MIN} to {PRICE_MAX}, were {row[1:5]}")
        if not 0 <= v <= VOLUME_MAX:
            raise BadInput(f"candles[{number}]: volume must be from 0 to {VOLUME_MAX}, was {v}")
        if not 0 <= row[0] <= TIME_MS_MAX:
            raise BadInput(f"candles[{number}]: ts_ms must be from 0 to {TIME_MS_MAX}, was {row[0]}")
        out.append(Candle(utc_from_ms(row[0]), o, h, low, c, v, interval))
    return out
