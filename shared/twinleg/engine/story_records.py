"""What is kept of one trade, found by its id or by any id that leads to it. Only reads, only through the Store port."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from twinleg.domain.errors import BadInput
from twinleg.domain.messages import EventKind, HedgedIntent
from twinleg.domain.trades import Trade
from twinleg.engine.orderpath import ActionRecord
from twinleg.engine.pages import message_of
from twinleg.engine.ports import Document, Store, Stored
from twinleg.engine.records import parsed

NEWEST = 1000
"""How many trades and intents, newest first, are looked at for one whose id begins with what was given."""
NAMED_MAX = 5
STEERED = (EventKind.HALTED, EventKind.RESUMED, EventKind.BREAKER)


@dataclass(frozen=True, slots=True)
class Records:
    """All that is kept of one trade, or of an intent or action that belongs to none."""

    id: str
    intent: Document | None
    """The decision's page."""
    message: HedgedIntent | None
    trade: Trade | None
    actions: tuple[ActionRecord, ...]
    audit: tuple[Document, ...]
    """What was announced of it, with its ``id``."""
    requests: tuple[Document, ...]
    """Decisions to close it, with their ``id``."""
    trading: tuple[Document, ...]
    """Halts, breakers and resumes while it lived."""


def records_of(store: Store, given: str) -> Records:
    """The records of a trade by its id, the beginning of it, a client order id, an action's id or an alert's id.

    Raises BadInput in one line when nothing, or more than one trade, is meant.
    """
    id = _trade_id(store, given.strip())
    if not id:
        return _of_no_trade(store, given.strip().lower())
    stored, decision = store.get("trades", id), store.get("intents", id)
    trade = parsed("trades", stored, Trade) if stored else None
    actions = [parsed("actions", s, ActionRecord) for s in store.query("actions", {"trade_id": id})]
    requests = [s for s in store.query("intents", {"trade_id": id}) if s.data.get("decision") == "close"]
    return Records(
        id=id,
        intent=decision.data if decision else None,
        message=trade.intent if trade else _message(decision),
        trade=trade,
        actions=tuple(sorted(actions, key=lambda a: (a.created_at, a.nonce))),
        audit=tuple(_audit(store, id)),
        requests=tuple({**s.data, "id": s.id} for s in requests),
        trading=tuple(_trading(store, trade)) if trade else (),
    )


def _of_no_trade(store: Store, action_id: str) -> Records:
    """An action that was carried out for no trade, alone."""
    stored = store.get("actions", action_id)
    actions = (parsed("actions", stored, ActionRecord),) if stored else ()
    return Records(action_id, None, None, None, actions, (), (), ())


def _message(decision: Stored | None) -> HedgedIntent | None:
    if decision is None or decision.data.get("decision") != "open":
        return None
    try:
        return HedgedIntent.model_validate_json(message_of(decision.data))
    except (ValidationError, KeyError):
        return None


def _audit(store: Store, id: str) -> Iterator[Document]:
    found = {s.id: s for name in ("trade_id", "intent_id") for s in store.query("audit", {name: id})}
    yield from ({**found[key].data, "id": key} for key in sorted(found))


def _trading(store: Store, trade: Trade) -> Iterator[Document]:
    until: datetime = trade.closed_at or trade.updated_at
    for kind in STEERED:
        for stored in store.query("audit", {"kind": kind.value}):
            if trade.created_at <= stored.data["at"] <= until:
                yield {**stored.data, "id": stored.id}


# -- which trade is meant ------------------------------------------------------------------------


def _trade_id(store: Store, given: str) -> str:
    if not given or "/" in given:
        raise BadInput(f"a trade's id, client order id, action id or alert id was expected, was {given[:60]!r}")
    for look in (_by_itself, _by_order, _by_action, _by_alert, _by_beginning):
        ids = list(dict.fromkeys(look(store, given)))
        if len(ids) == 1:
            return ids[0]
        if ids:
            named = ", ".join(sorted(ids)[:NAMED_MAX]) + (", …" if len(ids) > NAMED_MAX else "")
            raise BadInput(f"{given!r} could be any of {len(ids)}: {named}")
    raise BadInput(f"there is no trade, order, action or alert {given[:80]!r}; twinleg trades lists the trades")


def _by_itself(store: Store, given: str) -> Iterator[str]:
    if store.get("trades", given) is not None:
        yield given
    else:
        decision = store.get("intents", given)
        if decision is not None:  # a decision to close leads to what it closes
            yield str(decision.data.get("trade_id") or given)


def _by_order(store: Store, given: str) -> Iterator[str]:
    order = store.get("orders", given.lower()) if given[:2].lower() == "0x" else None
    if order is not None:
        yield str(order.data["trade_id"])


def _by_action(store: Store, given: str) -> Iterator[str]:
    action = store.get("actions", given.lower()) if ":" in given else None
    if action is not None:
        yield str(action.data["trade_id"])


def _by_alert(store: Store, given: str) -> Iterator[str]:
    for stored in store.query("intents", {"trigger": given}):
        yield stored.id


def _by_beginning(store: Store, given: str) -> Iterator[str]:
    asked: tuple[tuple[str, str], ...] = (("trades", "created_at"), ("intents", "decided_at"))
    for collection, order in asked:
        newest = store.query(collection, order_by=order, descending=True, limit=NEWEST)
        yield from (_meant(s) for s in newest if s.id.startswith(given))


def _meant(stored: Stored) -> str:
    data: dict[str, Any] = stored.data
    return str(data.get("trade_id") or stored.id) if data.get("decision") == "close" else stored.id
