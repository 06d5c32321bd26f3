"""What must hold whatever goes wrong, judged from the venue's own ledger and the intents: the invariants by name.

The checker believes nothing we recorded about orders and fills. It takes from the records the intents (with the
sizes approved for their legs) and what was told, and from the venue everything that happened. Client order ids are
functions of the intent, so that an order is known to be ours, and whose, without asking who placed it.

What adds exposure is judged here, what stands open in `dangers`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from twinleg.domain.candles import utc_from_ms
from twinleg.domain.money import ZERO, plain
from twinleg.domain.orders import LegRole, OrderKind, Purpose
from twinleg.simulate import dangers
from twinleg.simulate.dangers import alone as alone
from twinleg.simulate.evidence import Evidence, Known, Violation

EXPIRY_SECONDS = 15.0 + 4.0
"""A signed action may run until it expires, by a clock that is up to 2 s off, at a venue we see up to 2 s late."""
STALE_SECONDS = 60.0
"""A read may be this old."""
DECIDED_SECONDS_MAX = 90.0 + EXPIRY_SECONDS
"""From the gate's look at the accounts to the first order: an intent is not acted on for longer."""
READ_AGAIN_SECONDS = 12.0 + EXPIRY_SECONDS
"""From the last read of its account to an entry: leverage is read right before it, and the venue may take its time."""
HEDGE_TOLERANCE = Decimal("1.001")
"""A hedge never exceeds its share of what the main leg filled but by what a division leaves."""
FLATTEN_SWEEPS = 4
"""Sweeps that saw everything after which FLATTEN must have come to its end."""
LIMIT_SECONDS = 45.0 + EXPIRY_SECONDS
"""A resting entry lives at most this long, and is cancelled by the next sweep if its invocation died."""


def check(evidence: Evidence) -> list[Violation]:
    """Every violation, in order of time."""
    found = [
        *_once(evidence),
        *_acted_once(evidence),
        *_cut_once(evidence),
        *_written_ahead(evidence),
        *_proved(evidence),
        *_traced(evidence),
        *_closes_only_reduce(evidence),
        *_fresh(evidence),
        *_closed_fail(evidence),
        *_near_the_oracle(evidence),
        *(Violation("SECRET", at, text) for at, text in evidence.leaked),
        *_leverage(evidence),
        *_never_facing(evidence),
        *_halted(evidence),
        *_flattened(evidence),
        *dangers.check(evidence),
        *(Violation("RAISED", at, text) for at, text in evidence.raised),
    ]
    return sorted(found, key=lambda v: v.at)


def _at(line: Mapping[str, Any], name: str = "timestamp") -> datetime:
    return utc_from_ms(int(line[name]))


def _orders(evidence: Evidence) -> Iterator[tuple[Mapping[str, Any], Known]]:
    """The ledger's orders that are ours."""
    for order in evidence.dump["orders"]:
        whose = evidence.known.get(order["cloid"] or "")
        if whose is not None:
            yield order, whose


def _entries(evidence: Evidence) -> Iterator[tuple[Mapping[str, Any], Known]]:
    """The orders that may add exposure and that the venue took: refused ones are visible too."""
    for order, whose in _orders(evidence):
        if whose.purpose is Purpose.ENTRY and not str(order["status"]).lower().endswith("rejected"):
            yield order, whose


# -- ONCE and TRACE --------------------------------------------------------------------------------


def _once(evidence: Evidence) -> Iterator[Violation]:
    """Exposure added for a leg never exceeds what was approved for it, nor the hedge what the main leg filled."""
    filled: dict[tuple[str, LegRole], Decimal] = {}
    carried: dict[str, int] = {}
    for fill in evidence.fills:
        whose = evidence.known.get(fill.cloid)
        if whose is None:
            continue
        id = whose.trade.trade_id
        if carried.setdefault(fill.cloid, fill.oid) != fill.oid:
            yield Violation("ONCE", fill.at, f"two filled orders under the client id {fill.cloid}")
        if fill.start * fill.end < 0 and not evidence.is_foreign(fill.user, fill.coin, fill.at):
            yield Violation("ONCE", fill.at, f"{whose.purpose} of {id} turned the position round")
        if whose.purpose is not Purpose.ENTRY:
            continue
        if fill.start and not evidence.is_foreign(fill.user, fill.coin, fill.at):
            openers = {h.opener for h in evidence.held[fill.slot] if h.covers(fill.at, fill.at)}
            if id not in openers:
                yield Violation("ONCE", fill.at, f"{id} {whose.role}: entered over the position of {openers}")
        key = (id, whose.role)
        filled[key] = filled.get(key, ZERO) + abs(fill.size)
        approved = whose.trade.leg(whose.role).size_approved
        if filled[key] > approved:
            text = f"{id} {whose.role}: filled {plain(filled[key])} > approved {plain(approved)}"
            yield Violation("ONCE", fill.at, text)
    for trade in evidence.trades:
        main = filled.get((trade.trade_id, LegRole.MAIN), ZERO)
        hedge = filled.get((trade.trade_id, LegRole.HEDGE), ZERO)
        approved_main, approved_hedge = trade.main.size_approved, trade.hedge.size_approved
        if hedge and approved_main and hedge > approved_hedge * main / approved_main * HEDGE_TOLERANCE:
            text = f"{trade.trade_id}: hedge {plain(hedge)} is for more than the main leg's {plain(main)}"
            yield Violation("ONCE", trade.created_at, text)


def _acted_once(evidence: Evidence) -> Iterator[Violation]:
    """What caused a trade caused one."""
    seen: dict[tuple[str, str, str], str] = {}
    for trade in evidence.trades:
        intent = trade.intent
        first = seen.setdefault((intent.strategy, intent.market, intent.trigger), trade.trade_id)
        if first != trade.trade_id:
            yield Violation(
                "ONCE", trade.created_at, f"{first} and {trade.trade_id} come from one alert {intent.trigger}"
            )


def _cut_once(evidence: Evidence) -> Iterator[Violation]:
    """What one decision to cut takes off a leg never exceeds what its first order asked for, plus a lot."""
    asked: dict[tuple[str, LegRole, int], Decimal] = {}
    done: dict[tuple[str, LegRole, int], Decimal] = {}
    for order, whose in _orders(evidence):
        if whose.purpose is not Purpose.CUT:
            continue
        key = (whose.trade.trade_id, whose.role, whose.sequence)
        asked.setdefault(key, Decimal(order["origSz"]))
        done[key] = done.get(key, ZERO) + Decimal(order["filled"])
        if done[key] > asked[key] * Decimal("1.02"):
            text = f"{key[0]} {key[1]}: a cut of {plain(asked[key])} took off {plain(done[key])}"
            yield Violation("ONCE", _at(order), text)


def _written_ahead(evidence: Evidence) -> Iterator[Violation]:
    """Bytes are sent only from a record that was written."""
    for at, text in evidence.unwritten:
        yield Violation("ONCE", at, f"sent without a record of it: {text}")


def _proved(evidence: Evidence) -> Iterator[Violation]:
    """What is recorded as never having run did not run, and orders recorded as accepted did."""
    for said in evidence.verdicts:
        ran = said.id in evidence.carried
        if said.state in ("never_ran", "rejected") and ran:
            yield Violation("ONCE", said.at, f"{said.kind} {said.id} is recorded as {said.state}, and it ran")
        elif said.state == "accepted" and said.orders and not ran:
            yield Violation("ONCE", said.at, f"{said.kind} {said.id} is recorded as accepted, and it never ran")


def _traced(evidence: Evidence) -> Iterator[Violation]:
    """Every order with a client id leads to an intent; but for what only reduces: an orphan, or in an emergency."""
    for order in evidence.dump["orders"]:
        if order["cloid"] and order["cloid"] not in evidence.known and not order["reduceOnly"]:
            yield Violation("TRACE", _at(order), f"order {order['oid']} of {order['coin']} leads to no intent")


def _closes_only_reduce(evidence: Evidence) -> Iterator[Violation]:
    for order, whose in _orders(evidence):
        if whose.purpose is not Purpose.ENTRY and not order["reduceOnly"]:
            text = f"{whose.purpose} of {whose.trade.trade_id} may add exposure: it is not reduce-only"
            yield Violation("ONCE", _at(order), text)


# -- FRESH, CLOSED-FAIL, and what an entry must find -------------------------------------------------


def _fresh(evidence: Evidence) -> Iterator[Violation]:
    """The first order that adds exposure is not placed on an intent, nor under a key, that is about to expire."""
    first: dict[str, Mapping[str, Any]] = {}
    for order, whose in _entries(evidence):
        if whose.role is LegRole.MAIN:
            first.setdefault(whose.trade.trade_id, order)
    for trade in evidence.trades:
        entry = first.get(trade.trade_id)
        if entry is None:
            continue
        at = _at(entry)
        if at > trade.intent.expires_at + timedelta(seconds=EXPIRY_SECONDS):
            text = f"{trade.trade_id} was entered after it expired at {trade.intent.expires_at:%H:%M:%S}"
            yield Violation("FRESH", at, text)
        expires, noted = evidence.keys.get(evidence.signed_by.get(entry["cloid"], ""), (None, at))
        needed = timedelta(seconds=trade.intent.holding_seconds_max - DECIDED_SECONDS_MAX - STALE_SECONDS)
        if expires is not None and noted <= at and expires < at + needed:
            yield Violation("FRESH", at, f"{trade.trade_id} was entered with a key that expires {expires:%H:%M:%S}")


def _closed_fail(evidence: Evidence) -> Iterator[Violation]:
    """No first order while what it is decided by could not be read, in another mode, or over a stranger's position."""
    for order, whose in _entries(evidence):
        if whose.role is not LegRole.MAIN:
            continue
        at, id = _at(order), whose.trade.trade_id
        legs = {evidence.addresses[leg.account] for leg in whose.trade.legs}
        for closed in evidence.unreadable:
            if closed.what in (*legs, "store") and _well_within(closed.since, closed.until, at, READ_AGAIN_SECONDS):
                yield Violation("CLOSED-FAIL", at, f"{id} was entered while {closed.what[:8]} could not be read")
        for closed in evidence.moded:
            if closed.what in legs and _well_within(
                closed.since, closed.until, at, DECIDED_SECONDS_MAX + STALE_SECONDS
            ):
                yield Violation("CLOSED-FAIL", at, f"{id} was entered while {closed.what[:8]} was in another mode")
        for leg in whose.trade.legs:
            slot = (evidence.addresses[leg.account], leg.market.split(":", 1)[1])
            for held in evidence.held.get(slot, ()):
                until = held.until or evidence.ended_at
                if not held.opener and _well_within(held.since, until, at, DECIDED_SECONDS_MAX + STALE_SECONDS):
                    yield Violation("CLOSED-FAIL", at, f"{id} was entered beside a position of {slot[1]} nobody owns")


def _near_the_oracle(evidence: Evidence) -> Iterator[Violation]:
    """No first order while the mark stood off its oracle by more than the limit."""
    for order, whose in _entries(evidence):
        at = _at(order)
        for apart in evidence.apart:
            if (
                whose.role is LegRole.MAIN
                and apart.what == order["coin"]
                and _well_within(apart.since, apart.until, at, DECIDED_SECONDS_MAX + STALE_SECONDS)
            ):
                text = f"{whose.trade.trade_id} was entered while the mark of {apart.what} stood off its oracle"
                yield Violation("FRESH", at, text)


def _well_within(since: datetime, until: datetime, at: datetime, seconds: float) -> bool:
    return since + timedelta(seconds=seconds) < at <= until


def _leverage(evidence: Evidence) -> Iterator[Violation]:
    """Every entry is filled at the leverage that was approved, and with isolated margin."""
    for entered in evidence.entered:
        whose = evidence.known.get(entered.cloid)
        if whose is None or whose.purpose is not Purpose.ENTRY:
            continue
        approved = whose.trade.leg(whose.role).leverage
        if evidence.is_foreign(entered.user, entered.coin, entered.at):
            continue
        if entered.leverage != approved or not entered.isolated:
            text = f"{whose.trade.trade_id} {whose.role}: filled at {entered.leverage}x, approved {approved}x isolated"
            yield Violation("CLOSED-FAIL", entered.at, text)


def _never_facing(evidence: Evidence) -> Iterator[Violation]:
    """Two orders of ours never face each other: no hedge is placed while its main leg's entry could still fill."""
    rested: dict[str, list[tuple[datetime, datetime | None]]] = {}
    for order, whose in _entries(evidence):
        id, began = whose.trade.trade_id, _at(order)
        if whose.role is LegRole.MAIN:
            ended = None if order["live"] else _at(order, "statusTimestamp")
            rested.setdefault(id, []).append((began, ended))
            yield from _outlived(evidence, order, id, began, ended)
            continue
        for since, until in rested.get(id, ()):
            if since < began and (until is None or began < until):
                yield Violation("TWO-LEGGED", began, f"{id}: the hedge was sent while the main order still rested")


def _outlived(
    evidence: Evidence, order: Mapping[str, Any], id: str, began: datetime, ended: datetime | None
) -> Iterator[Violation]:
    """A resting entry is bounded in time, and gone after a sweep that saw everything."""
    seen = evidence.clean_between(began + timedelta(seconds=LIMIT_SECONDS), ended or evidence.ended_at)
    if seen:
        yield Violation(
            "FRESH", began, f"{id}: its entry {order['oid']} rested past the sweep of {seen[0].began:%H:%M}"
        )


# -- HALT ------------------------------------------------------------------------------------------


def _halted(evidence: Evidence) -> Iterator[Violation]:
    """Nothing adds exposure while trading is not ENABLED, but for what was signed before and could still arrive."""
    spans: list[tuple[datetime, datetime]] = []
    began: datetime | None = None
    for at, state, _ in [*evidence.control, (evidence.ended_at, "ENABLED", "")]:
        if state != "ENABLED" and began is None:
            began = at
        elif state == "ENABLED" and began is not None:
            spans.append((began, at))
            began = None
    for fill in evidence.fills:
        whose = evidence.known.get(fill.cloid)
        if whose is None or whose.purpose is not Purpose.ENTRY or abs(fill.end) <= abs(fill.start):
            continue
        if any(_well_within(since, until, fill.at, _halt_seconds(whose)) for since, until in spans):
            text = f"{whose.trade.trade_id} added {plain(abs(fill.size))} {fill.coin} in a halt"
            yield Violation("HALT", fill.at, text)
    for order, whose in _entries(evidence):
        ended = None if order["live"] else _at(order, "statusTimestamp")
        for since, until in spans:
            alive = min(ended or evidence.ended_at, until)
            seen = evidence.clean_between(max(since, _at(order)), alive)
            if seen:
                text = f"{whose.trade.trade_id}: its entry rested on past the sweep of {seen[0].began:%H:%M:%S}"
                yield Violation("HALT", since, text)


def _halt_seconds(whose: Known) -> float:
    """How long after a halt an entry signed before it may still fill: until its expiry, or a limit entry's end."""
    return EXPIRY_SECONDS if whose.trade.intent.order_kind is OrderKind.MARKET else LIMIT_SECONDS


def _flattened(evidence: Evidence) -> Iterator[Violation]:
    """FLATTEN comes to HALTED after a few sweeps that see everything, and then nothing is held."""
    changes = [*evidence.control, (evidence.ended_at, "", "")]
    for (at, state, _), (until, after, by) in pairwise(changes):
        if state != "FLATTEN":
            continue
        seen = evidence.clean_between(at, until)
        if len(seen) > FLATTEN_SWEEPS:
            text = f"FLATTEN has not come to its end after {len(seen)} sweeps that saw everything"
            yield Violation("HALT", at, text)
        if after == "HALTED" and by == "risk":
            for slot in evidence.slots:
                sizes = {evidence.size_at(slot, until - timedelta(seconds=s)) for s in (0, 3, 6)}
                if len(sizes) == 1 and any(sizes):
                    text = f"reported flat while {slot[0][:8]} held {plain(sizes.pop())} {slot[1]}"
                    yield Violation("HALT", until, text)


def records_of(body: bytes) -> str:
    """What a signed request is, in a few words."""
    asked = json.loads(body)
    return f"{asked['action'].get('type')} nonce {asked.get('nonce')}"
