"""What must hold whatever goes wrong, judged from the venue's own ledger and the intents: the invariants by name.

The checker believes nothing we recorded about orders and fills. It takes from the records the intents (with the
sizes approved for their legs), and from the venue everything that happened. Client order ids are functions of the
intent, so that an order is known to be ours, and whose, without asking who placed it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from twinleg.domain.candles import utc_from_ms
from twinleg.domain.ids import client_order_id
from twinleg.domain.money import ZERO, plain
from twinleg.domain.orders import LegRole, Purpose
from twinleg.domain.trades import ENDED, Trade, TradeState
from twinleg.paper.state import State

SEQUENCES, ATTEMPTS = 48, 8
"""How many client order ids are tried per intent, leg and purpose."""
EXPIRY_SECONDS = 15.0 + 4.0
"""A signed action may run until it expires, by a clock that is up to 2 s off, at a venue we see up to 2 s late."""
ALONE_SECONDS_MAX = 75.0
"""The longest a leg may stand alone in any case: one sweep missed nothing, and its two reads 5 s apart."""
HEDGE_TOLERANCE = Decimal("1.10")
"""A hedge may exceed its share by rounding to its lot, and by the band in which its ratio may drift."""
NAKED_SECONDS_MAX = 20.0
"""The longest a fresh leg may lack its own stop: it is placed in the invocation that found the fill."""


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold, in words with numbers."""

    invariant: str
    at: datetime
    text: str

    def __str__(self) -> str:
        return f"{self.invariant} at {self.at:%H:%M:%S}: {self.text}"


@dataclass(frozen=True, slots=True)
class Sweep:
    """One call of risk: when it began and ended, and whether it saw everything and said that all is well."""

    began: datetime
    ended: datetime
    clean: bool


@dataclass(slots=True)
class Span:
    """A time in which something dangerous stood; ``ended`` None while it still does."""

    what: str
    user: str
    coin: str
    began: datetime
    ended: datetime | None = None
    ours: bool = False


@dataclass(slots=True)
class Watch:
    """Looks at the venue after every action and every candle point it is shown, and keeps the dangerous spans."""

    state: State
    hand: set[str] = field(default_factory=set)
    """Client ids, and "user coin" slots, that a simulated person traded by hand."""
    naked: list[Span] = field(default_factory=list)
    liquidated: list[str] = field(default_factory=list)
    _open: dict[tuple[str, str], Span] = field(default_factory=dict)

    def look(self, at: datetime) -> None:
        """Note every position that has no stop of its own resting inside its liquidation."""
        seen = set()
        for user, account in self.state.accounts.items():
            for coin, position in account.positions.items():
                if not position.size:
                    continue
                key = (user, coin)
                if not _guarded(account.orders.values(), coin, position.size):
                    seen.add(key)
                    if key not in self._open:
                        span = Span("no stop", user, coin, at)
                        self._open[key] = span
                        self.naked.append(span)
        for key in [key for key in self._open if key not in seen]:
            self._open.pop(key).ended = at


def _guarded(orders: Any, coin: str, size: Decimal) -> bool:
    covered = ZERO
    for order in orders:
        if order.coin != coin or order.tpsl != "sl" or order.phase not in ("trigger", "book"):
            continue
        if order.is_buy == (size > 0) or not (order.reduce_only or order.follows_position):
            continue
        if order.follows_position:
            return True
        covered += order.size
    return covered >= abs(size)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything the checker judges by."""

    dump: Mapping[str, Any]
    trades: Sequence[Trade]
    addresses: Mapping[str, str]
    """account → address."""
    sweeps: Sequence[Sweep]
    halts: Sequence[tuple[datetime, str]]
    """(when, state) of every change of the trading state that was acknowledged."""
    naked: Sequence[Span]
    by_hand: frozenset[tuple[str, str]]
    """(address, coin) that a person traded: those legs are judged for ONCE only."""
    unwritten: Sequence[tuple[datetime, str]]
    """Signed actions that were sent with no record of them."""
    open_positions: Mapping[tuple[str, str], Decimal]
    ended_at: datetime
    calm_since: datetime


@dataclass(frozen=True, slots=True)
class Known:
    """Whose an order is."""

    trade: Trade
    role: LegRole
    purpose: Purpose


def check(evidence: Evidence) -> list[Violation]:
    """Every violation, in order of time."""
    known = _known(evidence.trades)
    found = [
        *_once(evidence, known),
        *_written_ahead(evidence),
        *_traced(evidence, known),
        *_closes_only_reduce(evidence, known),
        *_fresh(evidence, known),
        *_halted(evidence, known),
        *_two_legged(evidence),
        *_guarded_spans(evidence),
        *_true_records(evidence),
    ]
    return sorted(found, key=lambda v: v.at)


def _known(trades: Sequence[Trade]) -> dict[str, Known]:
    """Every client order id that any decision of these trades could have."""
    return {
        client_order_id(trade.trade_id, role.value, purpose.value, sequence, attempt): Known(trade, role, purpose)
        for trade in trades
        for role in LegRole
        for purpose in Purpose
        for sequence in range(1, SEQUENCES)
        for attempt in range(1, ATTEMPTS)
    }


def _fills(evidence: Evidence) -> Iterator[tuple[Mapping[str, Any], Decimal, Decimal]]:
    """Each fill with its signed size and the position before it."""
    for fill in evidence.dump["fills"]:
        size = Decimal(fill["sz"]) * (1 if fill["side"] == "B" else -1)
        yield fill, size, Decimal(fill["startPosition"])


def _at(line: Mapping[str, Any], name: str = "time") -> datetime:
    return utc_from_ms(int(line[name]))


# -- ONCE ------------------------------------------------------------------------------------------


def _once(evidence: Evidence, known: Mapping[str, Known]) -> Iterator[Violation]:
    """Exposure added for a leg never exceeds what was approved for it, nor the hedge what the main leg filled."""
    filled: dict[tuple[str, LegRole], Decimal] = {}
    carried: dict[str, int] = {}
    for fill, size, start in _fills(evidence):
        cloid = fill["cloid"]
        if cloid is None or cloid not in known:
            continue
        if carried.setdefault(cloid, fill["oid"]) != fill["oid"]:
            yield Violation("ONCE", _at(fill), f"two filled orders under the client id {cloid}")
        whose = known[cloid]
        if start * (start + size) < 0:
            yield Violation("ONCE", _at(fill), f"{whose.purpose} of {whose.trade.trade_id} turned the position round")
        if whose.purpose is not Purpose.ENTRY:
            continue
        key = (whose.trade.trade_id, whose.role)
        filled[key] = filled.get(key, ZERO) + abs(size)
        approved = whose.trade.leg(whose.role).size_approved
        if filled[key] > approved:
            yield Violation(
                "ONCE", _at(fill), f"{key[0]} {key[1]}: filled {plain(filled[key])} > approved {plain(approved)}"
            )
    for trade in evidence.trades:
        main = filled.get((trade.trade_id, LegRole.MAIN), ZERO)
        hedge = filled.get((trade.trade_id, LegRole.HEDGE), ZERO)
        approved_main, approved_hedge = trade.main.size_approved, trade.hedge.size_approved
        if hedge and approved_main and hedge > approved_hedge * main / approved_main * HEDGE_TOLERANCE:
            text = f"{trade.trade_id}: hedge {plain(hedge)} is for more than the main leg's {plain(main)}"
            yield Violation("ONCE", trade.created_at, text)


def _written_ahead(evidence: Evidence) -> Iterator[Violation]:
    """Bytes are sent only from a record that was written."""
    for at, text in evidence.unwritten:
        yield Violation("ONCE", at, f"sent without a record of it: {text}")


# -- TRACE, and closes that only reduce ------------------------------------------------------------


def _traced(evidence: Evidence, known: Mapping[str, Known]) -> Iterator[Violation]:
    """Every fill with a client id leads to an intent."""
    for fill, _, _ in _fills(evidence):
        if fill["cloid"] and fill["cloid"] not in known and (fill["user"], fill["coin"]) not in evidence.by_hand:
            yield Violation("TRACE", _at(fill), f"fill of {fill['sz']} {fill['coin']} leads to no intent")


def _closes_only_reduce(evidence: Evidence, known: Mapping[str, Known]) -> Iterator[Violation]:
    for order in evidence.dump["orders"]:
        whose = known.get(order["cloid"] or "")
        if whose and whose.purpose is not Purpose.ENTRY and not order["reduceOnly"]:
            yield Violation(
                "TWO-LEGGED", _at(order, "timestamp"), f"{whose.purpose} of {whose.trade.trade_id} may add exposure"
            )


# -- FRESH and HALT --------------------------------------------------------------------------------


def _fresh(evidence: Evidence, known: Mapping[str, Known]) -> Iterator[Violation]:
    """The first order that adds exposure is not placed on an intent that has expired."""
    first: dict[str, Mapping[str, Any]] = {}
    for order in evidence.dump["orders"]:
        whose = known.get(order["cloid"] or "")
        if whose and whose.purpose is Purpose.ENTRY and whose.role is LegRole.MAIN:
            first.setdefault(whose.trade.trade_id, order)
    for trade in evidence.trades:
        order = first.get(trade.trade_id)
        limit = trade.intent.expires_at + timedelta(seconds=EXPIRY_SECONDS)
        if order is not None and _at(order, "timestamp") > limit:
            text = f"{trade.trade_id} was entered after it expired at {trade.intent.expires_at:%H:%M:%S}"
            yield Violation("FRESH", _at(order, "timestamp"), text)


def _halted(evidence: Evidence, known: Mapping[str, Known]) -> Iterator[Violation]:
    """Nothing adds exposure while trading is not ENABLED, but for what was signed before and could still arrive."""
    spans: list[tuple[datetime, datetime]] = []
    began: datetime | None = None
    for at, state in [*evidence.halts, (evidence.ended_at, "ENABLED")]:
        if state != "ENABLED" and began is None:
            began = at
        elif state == "ENABLED" and began is not None:
            spans.append((began, at))
            began = None
    for fill, size, start in _fills(evidence):
        whose = known.get(fill["cloid"] or "")
        if whose is None or whose.purpose is not Purpose.ENTRY or abs(start + size) <= abs(start):
            continue
        for since, until in spans:
            if since + timedelta(seconds=EXPIRY_SECONDS) < _at(fill) < until:
                yield Violation(
                    "HALT", _at(fill), f"{whose.trade.trade_id} added {fill['sz']} {fill['coin']} in a halt"
                )


# -- TWO-LEGGED and GUARDED ------------------------------------------------------------------------


def alone(evidence: Evidence) -> list[Span]:
    """The times in which a pair's address held a position and the other did not hold its opposite."""
    main, hedge = evidence.addresses["main"], evidence.addresses["hedge"]
    found: list[Span] = []
    for coin in sorted({f["coin"] for f in evidence.dump["fills"]}):
        held = {main: ZERO, hedge: ZERO}
        span: Span | None = None
        for fill, size, start in _fills(evidence):
            if fill["coin"] != coin or fill["user"] not in held:
                continue
            held[fill["user"]] = start + size
            dangerous = any(held.values()) and held[main] * held[hedge] >= 0
            if dangerous and span is None:
                span = Span("alone", main if held[main] else hedge, coin, _at(fill))
                found.append(span)
            elif not dangerous and span is not None:
                span.ended, span = _at(fill), None
    return [s for s in found if (s.user, s.coin) not in evidence.by_hand]


def _two_legged(evidence: Evidence) -> Iterator[Violation]:
    yield from _outlasting(evidence, "TWO-LEGGED", alone(evidence), ALONE_SECONDS_MAX)


def _guarded_spans(evidence: Evidence) -> Iterator[Violation]:
    spans = [s for s in evidence.naked if (s.user, s.coin) not in evidence.by_hand]
    yield from _outlasting(evidence, "GUARDED", spans, NAKED_SECONDS_MAX)


def _outlasting(evidence: Evidence, name: str, spans: Sequence[Span], seconds_max: float) -> Iterator[Violation]:
    """A dangerous state may outlast its limit only while no sweep that saw everything ended well; never the calm."""
    for span in spans:
        ended = span.ended or evidence.ended_at
        if (ended - span.began).total_seconds() <= seconds_max:
            continue
        until = ended - timedelta(seconds=1)
        seen = [s for s in evidence.sweeps if s.clean and s.began >= span.began and s.ended < until]
        person = any(
            t.state is TradeState.NEEDS_A_PERSON and t.main.market.endswith(span.coin) for t in evidence.trades
        )
        if seen:
            yield Violation(
                name, span.began,
                f"{span.user[:8]} {span.coin}: {span.what} for {(ended - span.began).total_seconds():.0f} s, "
                f"past the sweep of {seen[0].began:%H:%M:%S} that ended well",
            )  # fmt: skip
        elif span.ended is None and (ended - max(span.began, evidence.calm_since)).total_seconds() > 180 and not person:
            yield Violation(name, span.began, f"{span.user[:8]} {span.coin}: {span.what} and never ended")


# -- TRUTH -----------------------------------------------------------------------------------------


def _true_records(evidence: Evidence) -> Iterator[Violation]:
    """At the end, after calm minutes, our records say what the venue held at the last sweep."""
    recorded: dict[tuple[str, str], Decimal] = {}
    for trade in evidence.trades:
        if trade.state in ENDED:
            continue
        for leg in trade.legs:
            key = (evidence.addresses[leg.account], leg.market.split(":", 1)[1])
            recorded[key] = recorded.get(key, ZERO) + leg.size_open * leg.side.sign
    last = max((s.began for s in evidence.sweeps if s.clean), default=evidence.calm_since)
    since = {(f["user"], f["coin"]) for f in evidence.dump["fills"] if _at(f) >= last}
    for key in sorted({*recorded, *evidence.open_positions} - since):
        ours, theirs = recorded.get(key, ZERO), evidence.open_positions.get(key, ZERO)
        if ours != theirs and key not in evidence.by_hand:
            text = f"{key[0][:8]} {key[1]}: recorded {plain(ours)}, held {plain(theirs)}"
            yield Violation("TRUTH", evidence.ended_at, text)


def records_of(body: bytes) -> str:
    """What a signed request is, in a few words."""
    asked = json.loads(body)
    return f"{asked['action'].get('type')} nonce {asked.get('nonce')}"
