"""The control paths under ``/_sim``: what a tester may do to the venue, and no real venue offers.

Each control is one row of ``CONTROLS``, and ``GET /_sim`` lists them. A GET takes its fields from the query string, a
POST from a JSON object. Whatever changes balances, markets, switches or the clock is written into the ledger like a
trade, so a venue started again on it has it too; fault rules are not. The controls have no password: the venue is for
127.0.0.1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from twinleg.domain.errors import BadInput
from twinleg.domain.money import decimal_of
from twinleg.paper.faults import KINDS
from twinleg.paper.numbers import text
from twinleg.paper.schema import is_address
from twinleg.paper.venue import Venue

ROOT = "/_sim"
USD_DECIMALS = 6
USD_MAX = Decimal(10) ** 12
SPEED_MAX = Decimal(100_000)
STEP_MS_MAX = 366 * 86_400_000

Json = Any
Disconnect = Callable[[], int]
"""Closes every WebSocket without a farewell and says how many there were."""


class Row(NamedTuple):
    """One control: ``fields`` are what its body (or query) may hold."""

    method: str
    path: str
    act: Callable[[Control, Json], Json]
    fields: tuple[str, ...]
    does: str


class Control:
    """The controls of one venue. ``disconnect`` is set by whoever serves its WebSockets."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self.disconnect: Disconnect | None = None

    def answer(self, method: str, path: str, query: Mapping[str, str], raw: bytes) -> tuple[int, Json]:
        """(HTTP status, JSON) of one request under ``/_sim``."""
        path = path.rstrip("/")
        rows = [row for row in CONTROLS if row.path == path]
        row = next((row for row in rows if row.method == method), None)
        if row is None:
            allowed = ", ".join(row.method for row in rows)
            what = f"{path} takes {allowed}, not {method}" if rows else f"{path} is not a control"
            return 405 if rows else 404, {"error": f"{what}; GET {ROOT} lists them"}
        try:
            return 200, row.act(self, _fields(row, query, raw))
        except BadInput as error:
            return 400, {"error": str(error)}

    # What there is

    def listed(self, _: Json) -> Json:
        return {
            "controls": [
                {"method": row.method, "path": row.path, "fields": list(row.fields), "does": row.does}
                for row in CONTROLS
            ],
            "fault_kinds": list(KINDS),
        }

    def status(self, _: Json) -> Json:
        return self._venue.status()

    def ledger(self, _: Json) -> Json:
        return self._venue.ledger()

    def account(self, body: Json) -> Json:
        return self._venue.account(_address(body))

    # Time

    def clock(self, body: Json) -> Json:
        """Exactly one of ``now_ms`` (a manual clock only), ``step_ms`` and ``speed`` (a wall clock only)."""
        venue = self._venue
        if len(body) != 1:
            raise BadInput(f"the clock takes one of now_ms, step_ms, speed, was {sorted(body)}")
        if "step_ms" in body:
            step_ms = _field(body, "step_ms", int)
            if not 0 <= step_ms <= STEP_MS_MAX:
                raise BadInput(f"step_ms must be 0 to {STEP_MS_MAX}, was {step_ms}")
            return {"now_ms": venue.step_clock(step_ms)}
        if "speed" in body:
            speed = _number(body, "speed")
            if not 0 <= speed <= SPEED_MAX:
                raise BadInput(f"speed must be 0 to {SPEED_MAX}, was {speed}")
            return {"now_ms": venue.set_speed(speed), "speed": f"{speed:f}"}
        now_ms, latest = _field(body, "now_ms", int), venue.engine.state.now_ms + STEP_MS_MAX
        if now_ms > latest:
            raise BadInput(f"now_ms must be at most {latest}, a year on, was {now_ms}")
        return {"now_ms": venue.set_clock(now_ms)}

    # Money

    def deposit(self, body: Json) -> Json:
        address, usd = _address(body), _usd(body)
        self._venue.deposit(address, usd)
        return {"address": address.lower(), "usd": str(usd)}

    def withdraw(self, body: Json) -> Json:
        address, usd = _address(body), _usd(body)
        balance = self._venue.balance(address)
        if usd > balance:
            raise BadInput(f"usd must be at most the balance {text(balance)}, was {usd}")
        self._venue.deposit(address, -usd)
        return {"address": address.lower(), "balance": text(balance - usd)}

    def balance(self, body: Json) -> Json:
        address, usd = _address(body), _usd(body, least=Decimal(0))
        change = usd - self._venue.balance(address)
        if change:
            self._venue.deposit(address, change)
        return {"address": address.lower(), "balance": text(usd), "changed_by": text(change)}

    # Rules and markets

    def switches(self, _: Json) -> Json:
        return self._venue.switches()

    def set_switches(self, body: Json) -> Json:
        return self._venue.set_switches(body)

    def candles(self, body: Json) -> Json:
        coin, rows = _field(body, "coin", str), _field(body, "candles", list)
        self._venue.append_candles(coin, rows)
        return {"coin": coin, "appended": len(rows)}

    def funding(self, body: Json) -> Json:
        coin, rows = _field(body, "coin", str), _field(body, "rates", list)
        self._venue.know_funding(coin, rows)
        return {"coin": coin, "hours": len(rows)}

    # What goes wrong

    def faults(self, _: Json) -> Json:
        return self._venue.faults()

    def add_faults(self, body: Json) -> Json:
        return self._venue.add_faults(body)

    def clear_faults(self, body: Json) -> Json:
        kind = body.get("kind")
        if kind is not None and kind not in KINDS:
            raise BadInput(f"kind must be one of {', '.join(KINDS)}, was {kind!r}")
        return self._venue.clear_faults(kind)

    def close_sockets(self, _: Json) -> Json:
        return {"disconnected": 0 if self.disconnect is None else self.disconnect()}


ANY = ("*",)
CONTROLS = (
    Row("GET", ROOT, Control.listed, (), "this list"),
    Row("GET", f"{ROOT}/status", Control.status, (), "clock, markets with their prices, switches, counts"),
    Row("GET", f"{ROOT}/ledger", Control.ledger, (), "everything booked: accounts, orders, fills, funding, books"),
    Row("GET", f"{ROOT}/account", Control.account, ("address",), "the same of one account"),
    Row(
        "POST",
        f"{ROOT}/clock",
        Control.clock,
        ("now_ms", "step_ms", "speed"),
        "move the clock to now_ms (manual) or on by step_ms; speed of a wall clock, 0 stops it",
    ),
    Row("POST", f"{ROOT}/deposit", Control.deposit, ("address", "usd"), "USDC from outside"),
    Row("POST", f"{ROOT}/withdraw", Control.withdraw, ("address", "usd"), "USDC to outside, whatever it was backing"),
    Row("POST", f"{ROOT}/balance", Control.balance, ("address", "usd"), "set the perp balance, profit aside"),
    Row("GET", f"{ROOT}/switches", Control.switches, (), "every switch and where it stands"),
    Row("POST", f"{ROOT}/switches", Control.set_switches, ANY, "turn switches, {name: value}"),
    Row(
        "POST",
        f"{ROOT}/candles",
        Control.candles,
        ("coin", "candles"),
        "candles to come, [[ts_ms, open, high, low, close, volume], ...]",
    ),
    Row("POST", f"{ROOT}/funding", Control.funding, ("coin", "rates"), "hourly rates, [[ts_ms, rate], ...]"),
    Row("GET", f"{ROOT}/faults", Control.faults, (), "the fault rules in force and how often each struck"),
    Row("POST", f"{ROOT}/faults", Control.add_faults, ANY, "add one fault rule, or a list of them"),
    Row("DELETE", f"{ROOT}/faults", Control.clear_faults, ("kind",), "drop all fault rules, or those of one kind"),
    Row("POST", f"{ROOT}/disconnect", Control.close_sockets, (), "close every WebSocket without a farewell"),
)


def _fields(row: Row, query: Mapping[str, str], raw: bytes) -> Json:
    """What a request asks for; BadInput when it is not JSON or has a field that the control does not know."""
    try:
        body = json.loads(raw) if raw else dict(query)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the body must be JSON: {error}") from None
    if row.act is Control.add_faults:
        return body
    if type(body) is not dict:
        raise BadInput(f"the body must be an object, was {_short(body)}")
    unknown = [] if row.fields == ANY else sorted(set(body) - set(row.fields))
    if unknown:
        known = ", ".join(row.fields) or "none"
        raise BadInput(f"{unknown[0]!r} is not a field of {row.method} {row.path}; known are {known}")
    return body


def _short(value: Json) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _field(body: Json, name: str, kind: type) -> Any:
    value = body.get(name)
    if type(value) is not kind:
        raise BadInput(f"{name} must be {kind.__name__}, was {_short(value)}")
    return value


def _number(body: Json, name: str) -> Decimal:
    value = body.get(name)
    return decimal_of(str(value) if type(value) is float else value, name)


def _usd(body: Json, least: Decimal | None = None) -> Decimal:
    """An amount of USDC: above 0 (or from ``least``), with at most six decimals."""
    usd = _number(body, "usd")
    if usd < least if least is not None else usd <= 0:
        raise BadInput(f"usd must be {'above 0' if least is None else f'>= {least}'}, was {usd}")
    if usd > USD_MAX:
        raise BadInput(f"usd must be at most {USD_MAX}, was {usd}")
    if usd != round(usd, USD_DECIMALS):
        raise BadInput(f"usd must have at most {USD_DECIMALS} decimals, was {usd}")
    return usd


def _address(body: Json) -> str:
    address: str = _field(body, "address", str)
    if not is_address(address):
        raise BadInput(f"address must be 40 hex digits, was {_short(address)}")
    return address
