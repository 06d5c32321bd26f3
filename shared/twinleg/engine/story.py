"""The story of one trade: from the alert or candle behind it to every order, fill and risk action, in order of time.

``records_of`` finds what is kept of a trade (by its id or any id that leads to it), ``story_of`` puts it in order. Both
only read. Times of fills are the venue's; all others are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from twinleg.domain.messages import EventKind, HedgedIntent
from twinleg.domain.money import ZERO, plain
from twinleg.domain.orders import LegRole, Purpose
from twinleg.domain.trades import ENDED, Leg, PlacedOrder, Trade
from twinleg.engine.ports import Document
from twinleg.engine.story_actions import action_steps
from twinleg.engine.story_records import Records
from twinleg.engine.story_words import ORDER, PLACE, Step, order_place, short_price, span, usd

STATE_EVENTS = {
    "APPROVED": {EventKind.APPROVED},
    "REFUSED": {EventKind.REFUSED},
    "MAIN_FILLED_UNHEDGED": set[EventKind](),
    "MAIN_SENT": set[EventKind](),
    "HEDGE_SENT": set[EventKind](),
    "OPEN": {EventKind.OPENED, EventKind.CUT},
    "UNWINDING": {EventKind.UNWOUND},
    "NEEDS_A_PERSON": {EventKind.NEEDS_A_PERSON},
    "CLOSED": {EventKind.CLOSED},
}
"""Which events tell of a state already; of those with none an order tells."""


@dataclass(frozen=True, slots=True)
class Alone:
    """A time in which one leg stood without the other, by the venue's clock."""

    leg: LegRole
    since: datetime
    until: datetime
    why: str

    @property
    def seconds(self) -> float:
        return (self.until - self.since).total_seconds()

    def as_json(self) -> dict[str, Any]:
        return {"leg": self.leg.value, "since": self.since, "until": self.until, "seconds": self.seconds,
                "why": self.why}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Story:
    """What is known of a trade, in order of time."""

    id: str
    title: str
    ending: str
    """How it ended, or how it stands."""
    steps: tuple[Step, ...]
    alone: tuple[Alone, ...] = ()
    trade: Trade | None = None

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs: decimals as text."""
        said: dict[str, Any] = {"id": self.id, "title": self.title, "ending": self.ending}
        if self.trade is not None:
            said |= {
                "state": self.trade.state.value,
                "why_closed": self.trade.why_closed,
                "pnl_usd": plain(self.trade.pnl_usd),
                "legs": [_leg_json(leg) for leg in self.trade.legs],
                "history": list(self.trade.history),
            }
        return said | {"alone": [a.as_json() for a in self.alone], "steps": [s.as_json() for s in self.steps]}


def story_of(records: Records) -> Story:
    """Every step that the records tell of, in order of time; whatever is missing is left out."""
    trade = records.trade
    alone = tuple(_alone(trade)) if trade else ()
    steps: list[Step] = [
        *_cause(records),
        *_gate(records),
        *(step for record in records.actions for step in action_steps(record, trade)),
        *_events(records),
        *_trading(records),
    ]
    if trade:
        steps += [*_states(trade, records), *_fills(trade), *(_alone_step(a) for a in alone)]
    steps.sort(key=lambda s: (s.at, PLACE.get(s.place, len(ORDER)), s.leg == LegRole.HEDGE))
    return Story(records.id, _title(records), _ending(records), tuple(steps), alone, trade)


# -- the beginning -------------------------------------------------------------------------------


def _title(records: Records) -> str:
    intent, page = records.message, records.intent or {}
    if intent is None:
        return str(page.get("summary") or "actions of no trade")
    return f"{intent.direction} {intent.market} by {intent.strategy}"


def _cause(records: Records) -> Iterator[Step]:
    page, intent = records.intent or {}, records.message
    cause = str(page.get("cause") or "")
    if intent is not None:
        words = cause or f"{'candle' if intent.trigger[:1].isdigit() else 'alert'} {intent.trigger}"
        about = {"trigger": intent.trigger, "intent_id": intent.intent_id}
        yield Step(intent.trigger_at, "cause", words, about=about, place="cause")
        yield Step(
            intent.created_at, "intent",
            f"wanted: {intent.direction} {intent.market}, confidence {plain(intent.confidence)}",
            who="signal", details=tuple(_asked(intent)), about={"intent_id": intent.intent_id}, place="intent",
        )  # fmt: skip
    elif "decided_at" in page:
        yield Step(
            page["decided_at"], "intent", str(page.get("summary", "")), who="signal",
            details=(cause,) if cause else (), about={"intent_id": records.id}, place="intent",
        )  # fmt: skip
    for request in records.requests:
        text = f"asked to close {_percent(request.get('fraction', '1'))}: {request.get('reason', '')}"
        detail = str(request.get("cause") or "")
        yield Step(
            request["decided_at"], "request", text, who="signal", details=(detail,) if detail else (),
            about={"intent_id": request["id"]}, place="watched",
        )  # fmt: skip


def _asked(intent: HedgedIntent) -> Iterator[str]:
    yield intent.reason
    size = "the smallest both legs may have" if intent.de_minimis else f"{plain(intent.budget_percent)} % of the equity"
    legs = ", ".join(
        f"{plan.role} {plan.side} on {plan.account} with {plain(plan.margin_share * 100)} % of it at {plan.leverage}x"
        for plan in (intent.main, intent.hedge)
    )
    yield f"asked: {size} of both accounts; {legs}"
    yield (
        f"{intent.order_kind} entry within {plain(intent.slippage_bps)} bps of the mark (reference price "
        f"{plain(intent.reference_price)}), stop {plain(intent.stop_percent)} %, target {plain(intent.target_percent)} "
        f"%, at most {span(intent.holding_seconds_max)}, good until {intent.expires_at:%H:%M:%S}"
    )
    if intent.replaces:
        yield f"in place of {intent.replaces}, which is closed first"


def _gate(records: Records) -> Iterator[Step]:
    """The gate's answer, from the audit; its numbers, from the intent."""
    saw = str((records.intent or {}).get("gate_saw") or "")
    numbers = tuple(f"saw {part}" for part in saw.split("; ")) if saw else ()
    for entry in records.audit:
        if entry["kind"] == EventKind.APPROVED:
            details = (*str(entry["summary"]).split("; "), *numbers)
            yield Step(entry["at"], "approved", "approved by the gate", who=entry["who"], details=details,
                       place="approved")  # fmt: skip
        elif entry["kind"] == EventKind.REFUSED:
            yield Step(entry["at"], "refused", f"refused: {entry['summary']}", who=entry["who"], details=numbers,
                       loud=True, place="approved")  # fmt: skip


# -- fills ---------------------------------------------------------------------------------------


def _fills(trade: Trade) -> Iterator[Step]:
    for leg in trade.legs:
        for order in leg.orders:
            if order.filled_size > 0 and order.filled_at is not None:
                yield _fill(leg, order)
        yield from _foreign_exit(leg)


def _fill(leg: Leg, order: PlacedOrder) -> Step:
    part = f"{plain(order.filled_size)}" + (
        f" of {plain(order.size)}" if order.filled_size < order.size and order.purpose is not Purpose.STOP else ""
    )
    did = {"buy": "bought", "sell": "sold"}[order.side.value]
    text = f"{order.purpose} filled: {did} {part} {leg.market} at {short_price(order.filled_price)}"
    return Step(
        order.filled_at or order.placed_at or leg.entered_at,  # type: ignore[arg-type]  # it has fills
        "fill", f"{text}, fee {usd(order.fees_usd)}", leg.role.value, leg.account,
        loud=order.purpose in (Purpose.STOP, Purpose.EMERGENCY),
        about={"client_order_id": order.client_order_id, "size": plain(order.filled_size),
               "price": plain(order.filled_price), "fee_usd": plain(order.fees_usd)},
        place=f"{order_place(leg, order.purpose)} fill",
    )  # fmt: skip


def _foreign_exit(leg: Leg) -> Iterator[Step]:
    """What reduced a leg and was no order of ours: a liquidation, a hand, or nothing that a fill explains."""
    ours = sum((o.filled_size for o in leg.orders if o.side is not leg.side), ZERO)
    gone = leg.size_closed - ours
    if gone > 0 and leg.exited_at is not None and leg.last_exit is None:
        what = "closed by an order that is none of ours"
        if leg.liquidated or leg.deleveraged:
            what = f"{'LIQUIDATED' if leg.liquidated else 'AUTO-DELEVERAGED'} by the venue"
        text = f"{what}: {plain(gone)} {leg.market} at {short_price(leg.last_exit_price)}"
        yield Step(leg.exited_at, "fill", text, leg.role.value, leg.account, loud=True, place="guard fill")


# -- alone ---------------------------------------------------------------------------------------


def _alone(trade: Trade) -> Iterator[Alone]:
    """When one leg stood without the other, from the first and last fills of both."""
    main, hedge = trade.legs
    spans = {leg.role: (leg.entered_at, _left_at(leg, trade)) for leg in trade.legs if leg.entered_at}
    if main.role not in spans and hedge.role not in spans:
        return
    if len(spans) == 1:
        (role, (since, until)), *_ = spans.items()
        if since and (until or trade.updated_at) > since:
            yield Alone(role, since, until or trade.updated_at, "the other leg was never opened")
        return
    (main_in, main_out), (hedge_in, hedge_out) = spans[main.role], spans[hedge.role]
    assert main_in is not None and hedge_in is not None
    if main_in != hedge_in:
        first = main.role if main_in < hedge_in else hedge.role
        yield Alone(first, min(main_in, hedge_in), max(main_in, hedge_in), "while the legs were opened")
    if main_out is None and hedge_out is None:
        return
    gone = [(at, role) for at, role in ((main_out, main.role), (hedge_out, hedge.role)) if at is not None]
    left_first = min(gone)
    until = max(at for at, _ in gone) if len(gone) == 2 else trade.updated_at
    if until > left_first[0]:
        yield Alone(left_first[1].other, left_first[0], until, "while the legs were closed")


def _left_at(leg: Leg, trade: Trade) -> datetime | None:
    """When nothing of the leg was left; of one that no fill explains, when the trade was over."""
    if leg.size_open > 0:
        return None
    return leg.exited_at or trade.closed_at


def _alone_step(alone: Alone) -> Step:
    text = f"the {alone.leg} leg stood alone for {span(alone.seconds)} {alone.why}"
    place = "alone at first" if alone.why.startswith("while the legs were opened") else "alone at last"
    about = {"seconds": alone.seconds, "since": alone.since}
    return Step(alone.until, "alone", text, alone.leg.value, loud=alone.seconds > 10, about=about, place=place)


# -- events and states ---------------------------------------------------------------------------

TOLD_OTHERWISE = {
    EventKind.APPROVED, EventKind.REFUSED, EventKind.SIGNAL, EventKind.SIGNAL_IGNORED, EventKind.MAIN_FILLED,
}  # fmt: skip
EVENTPLACES = {
    EventKind.OPENED: "opened", EventKind.CUT: "cut done", EventKind.CLOSED: "closed", EventKind.UNWOUND: "ending",
    EventKind.NEEDS_A_PERSON: "ending",
}  # fmt: skip
QUIET_EVENTS = {EventKind.OPENED, EventKind.CLOSED, EventKind.ALERT_DUPLICATE}


def _events(records: Records) -> Iterator[Step]:
    for entry in records.audit:
        kind = str(entry["kind"])
        if kind not in TOLD_OTHERWISE:
            yield Step(
                entry["at"], kind, f"{kind.replace('_', ' ')}: {entry['summary']}", who=str(entry["who"]),
                loud=kind not in QUIET_EVENTS, about={"audit_id": entry["id"]},
                place=EVENTPLACES.get(EventKind(kind), "watched") if kind in set(EventKind) else "watched",
            )  # fmt: skip


def _trading(records: Records) -> Iterator[Step]:
    for entry in records.trading:
        yield Step(entry["at"], "trading", f"trading: {entry['summary']}", who=str(entry["who"]), loud=True,
                   about={"audit_id": entry["id"]}, place="trading")  # fmt: skip


def _states(trade: Trade, records: Records) -> Iterator[Step]:
    """Decisions to leave, and states of which no event tells."""
    told = {str(entry["kind"]) for entry in records.audit}
    for line in trade.history:
        when, _, what = line.partition(" ")
        state, _, why = what.partition(" ")
        if state in STATE_EVENTS and (not STATE_EVENTS[state] or STATE_EVENTS[state] & told):
            continue
        words = {"REDUCING": "decided to cut both legs", "CLOSING": "decided to close both legs"}.get(state, state)
        place = {"REDUCING": "cutting", "CLOSING": "ending", "UNWINDING": "ending"}.get(state, "watched")
        text = f"{words}: {why}" if why else words
        yield Step(datetime.fromisoformat(when), "decision", text, place=place, about={"state": state})


# -- the end -------------------------------------------------------------------------------------


def _ending(records: Records) -> str:
    trade = records.trade
    if trade is None:
        return str((records.intent or {}).get("summary", "")) or "it belongs to no trade"
    if trade.state in ENDED:
        return f"{trade.state}: {trade.why_closed}"
    held = ", ".join(f"{leg.role} {plain(leg.size_open)} on {leg.account}" for leg in trade.legs)
    return f"{trade.state}, held: {held}" + (f" ({trade.why_closed})" if trade.why_closed else "")


def _leg_json(leg: Leg) -> Document:
    numbers: dict[str, Decimal] = {
        "size_approved": leg.size_approved, "size_filled": leg.size_filled, "entry_price": leg.entry_price,
        "size_closed": leg.size_closed, "exit_price": leg.exit_price, "stop_price": leg.stop_price,
        "target_price": leg.target_price, "realised_usd": leg.realised_usd, "fees_usd": leg.fees_usd,
        "funding_usd": leg.funding_usd,
    }  # fmt: skip
    return {
        "role": leg.role.value,
        "account": leg.account,
        "market": leg.market,
        "side": leg.side.value,
        "leverage": leg.leverage,
        "entered_at": leg.entered_at,
        "exited_at": leg.exited_at,
        **{name: plain(number) for name, number in numbers.items()},
        "orders": [_order_json(order) for order in leg.orders],
    }


def _order_json(order: PlacedOrder) -> Document:
    said: Document = order.model_dump(mode="json")
    return said


def _percent(fraction: Any) -> str:
    return f"{plain(Decimal(str(fraction)) * 100)} %"
