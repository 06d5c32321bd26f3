"""The steps of one signed action: written, sent, sent again, fenced, found."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from twinleg.domain.trades import Leg, PlacedOrder, Trade
from twinleg.engine.orderpath import ActionRecord
from twinleg.engine.story_words import Step, order_place, wanted

QUIET_WORDS = ("written", "accepted")
WORDS = {
    "written": "signed and written, not sent yet",
    "accepted": "answered: accepted",
    "sending again": "no answer: the same bytes go out again",
    "noop written": "still no answer: a noop under the same nonce goes out, to fence it",
    "noop: accepted": "the noop was accepted: the action never ran and never can",
    "noop: duplicate": "the noop was refused as a duplicate: the action had arrived",
    "found": "found at the venue",
    "arrived": "it arrived",
    "unknown": "no answer came back",
    "duplicate": "answered: duplicate nonce, so an earlier copy arrived",
    "expired": "answered: expired",
    "throttled": "answered: too many requests",
    "rejected": "answered: refused",
    "malformed": "answered: unreadable",
    "unknown_signer": "answered: the key is not known",
    "nonce_too_low": "answered: nonce too low",
    "noop: unknown": "the noop had no answer either",
    "noop: throttled": "the noop was one request too many, and did nothing",
    "final read, twice: no trace": "read twice at the venue, past its expiry: no trace of it",
}
STATES = {
    "never_ran": "never ran",
    "rejected": "refused",
    "vanished": "it arrived and left no trace",
    "arrived": "its nonce is spent, what it did is not read yet",
}


def action_steps(record: ActionRecord, trade: Trade | None) -> Iterator[Step]:
    """When it was written, and each thing that was learned of it; in one step when all went well."""
    leg = _leg_of(record, trade)
    role, place = (leg.role.value if leg else ""), _place_of(record, trade)
    about = {"action_id": record.id, "nonce": record.nonce, "client_order_ids": list(record.client_order_ids)}
    lines = [_transition(line) for line in record.transitions]
    until = f", good until {record.expires_at:%H:%M:%S}" if record.expires_at else ""
    details = [*_orders_of(record, trade), f"signed by the {record.role} key{until}: action {record.id}"]
    well = len(lines) == 2 and lines[1][1] == "accepted" and not any(_is_refused(ack.state) for ack in record.acks)
    if well:
        took = (lines[1][0] - record.created_at).total_seconds()
        text = f"{_what(record)}: accepted" + (f" after {took:.1f} s" if took >= 0.05 else "")
        yield Step(record.created_at, "action", text, role, record.role.value, tuple(details), False, about, place)
        return
    written = _what(record)
    yield Step(record.created_at, "action", written, role, record.role.value, tuple(details), False, about, place)
    for at, heard, state in lines[1:] if lines else []:
        text = WORDS.get(heard, heard)
        if state in STATES and STATES[state] not in text:
            text = f"{text} ⇒ {STATES[state]}"
        last = (at, heard, state) == lines[-1]
        found = tuple(_acks_of(record, trade)) if last and state == "accepted" else ()
        reasons = (record.reason,) if last and record.reason and state in ("rejected", "never_ran") else ()
        loud = heard not in QUIET_WORDS or any(_is_refused(ack.state) for ack in record.acks)
        yield Step(at, "verdict", f"{_short_what(record)}: {text}", role, record.role.value, (*found, *reasons), loud,
                   {**about, "state": state}, place)  # fmt: skip
    if not record.final:
        said = f"{_short_what(record)}: no verdict yet ({record.state})"
        yield Step(lines[-1][0] if lines else record.created_at, "verdict", said, role, record.role.value, (), True,
                   about, place)  # fmt: skip


def _transition(line: str) -> tuple[datetime, str, str]:
    """``TIME word -> state`` in its parts; the first line of a record has no state."""
    when, _, what = line.partition(" ")
    heard, _, state = what.partition(" -> ")
    return datetime.fromisoformat(when), heard.removeprefix("sent again: "), state


def _is_refused(state: str) -> bool:
    return state == "rejected"


def _leg_of(record: ActionRecord, trade: Trade | None) -> Leg | None:
    legs = trade.legs if trade else ()
    return next((leg for leg in legs if (leg.account, leg.market) == (record.account, record.market)), None)


def _placed(record: ActionRecord, trade: Trade | None) -> list[PlacedOrder]:
    ids = set(record.client_order_ids)
    return [o for leg in (trade.legs if trade else ()) for o in leg.orders if o.client_order_id in ids]


def _what(record: ActionRecord) -> str:
    where = f"on {record.account}"
    match record.kind:
        case "SetLeverage":
            return f"set leverage of {record.market} {where}" + (f" to {record.asked}" if record.asked else "")
        case "AddMargin":
            return f"add {record.asked or 'margin'} to {record.market} {where}"
        case "CancelOrders":
            return f"cancel what rests in {record.market} {where}"
        case "PlaceEntry":
            return f"open {record.market} {where}"
    return f"reduce {record.market} {where}"


def _short_what(record: ActionRecord) -> str:
    names = {"SetLeverage": "leverage", "AddMargin": "margin", "CancelOrders": "cancel", "PlaceEntry": "entry"}
    return names.get(record.kind, "reduction")


def _orders_of(record: ActionRecord, trade: Trade | None) -> Iterator[str]:
    if record.kind == "CancelOrders":
        yield from (f"cancels {_named(id, trade)}" for id in record.asked.split(", ") if id)
    acks = dict(zip(record.client_order_ids, record.acks, strict=False))
    for order in _placed(record, trade):
        ack = acks.get(order.client_order_id)
        became = f": {ack.state}" + (f" ({ack.reason})" if ack.reason else "") if ack else ""
        yield f"{order.purpose} {wanted(order)}{became}  {order.client_order_id}"


def _named(id: str, trade: Trade | None) -> str:
    order = next((o for leg in (trade.legs if trade else ()) for o in leg.orders if o.client_order_id == id), None)
    return f"the {order.purpose}  {id}" if order else id


def _acks_of(record: ActionRecord, trade: Trade | None) -> Iterator[str]:
    purposes: dict[str, str] = {o.client_order_id: o.purpose.value for o in _placed(record, trade)}
    for id, ack in zip(record.client_order_ids, record.acks, strict=False):
        yield f"{purposes.get(id, 'order')}: {ack.state}" + (f" ({ack.reason})" if ack.reason else "")


def _place_of(record: ActionRecord, trade: Trade | None) -> str:
    match record.kind:
        case "SetLeverage":
            return "leverage"
        case "AddMargin":
            return "watched"
        case "CancelOrders":
            return "cancel"
    leg, placed = _leg_of(record, trade), _placed(record, trade)
    return order_place(leg, placed[0].purpose) if leg and placed else "close"
