"""Pages: documents laid out for a person in the Firestore console, which lists fields by the alphabet, maps closed.

- Flat fields, grouped by prefix (``main_…``, ``hedge_…``); the unit last in the name; links are ids.
- Money, prices and sizes are decimals as text. Ratios, per cents and seconds are numbers, so that they can be sorted
  by; profit can be too, in whole cents (``pnl_cents``).
- What the program needs and nobody reads starts with ``z_``: it comes last, and has no index. A trade and an action
  are read back from their ``z_record`` alone: nothing is decided by what stands on a page.
- ``summary`` is the line for a list; why something happened is in words beside it.
- ``expire_at`` is when Firestore may delete the document; ``expires_at`` is when an intent or a signed action ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

from twinleg.domain.messages import CloseTrade, Event, HedgedIntent, LegPlan
from twinleg.domain.money import cents, plain
from twinleg.domain.recorded import RECORD
from twinleg.domain.trades import ENDED, Leg, PlacedOrder, Trade, TradeState
from twinleg.engine.ports import Document
from twinleg.engine.records import document

if TYPE_CHECKING:
    from twinleg.engine.orderpath import ActionRecord

ACTIONS_KEPT = timedelta(days=400)
"""After the verdict; an action without one is never deleted. A year, and the time to close its books."""
AUDIT_KEPT = timedelta(days=400)
ALERTS_KEPT = timedelta(days=7)
"""Alerts known by their text only are told apart within minutes."""
EXPIRING = ("actions", "alerts", "audit")
"""Collections with an ``expire_at``. The others are small, and their ids are what keeps "once" true: kept for ever."""
UNINDEXED = (
    "actions.z_record", "books.z_positions", "books.z_trades", "intents.z_message", "markets.z_candles",
    "markets.z_missing_ms", "markets.z_unpublished_ms", "trades.z_record",
)  # fmt: skip
"""Long fields that nobody searches."""

_DIGITS = Context(prec=8)


# -- trades --------------------------------------------------------------------------------------


UNSWEPT = "unswept"
"""Of a trade: the sweep may remember an older one. Every write says so, and only the sweep takes it back."""


def trade_document(trade: Trade) -> Document:
    """A trade as it is stored: its page, and the record beneath it.

    Refused trades never rested with a position, so the sweep remembers nothing of them.
    """
    return {**trade_page(trade), UNSWEPT: trade.state is not TradeState.REFUSED, RECORD: document(trade)}


def trade_page(trade: Trade) -> Document:
    """What a person reads of a trade."""
    fees = trade.main.fees_usd + trade.hedge.fees_usd
    funding = trade.main.funding_usd + trade.hedge.funding_usd
    return {
        **_leg_page(trade.main),
        **_leg_page(trade.hedge),
        **_danger(trade),
        "closed_at": trade.closed_at,
        "created_at": trade.created_at,
        "direction": trade.intent.direction.value,
        "fees_usd": _usd(fees),
        "funding_usd": _usd(funding),
        "hedge_effectiveness": _number(hedge_effectiveness(trade)),
        "hedge_ratio": _number(hedge_ratio(trade)),
        "held_seconds": _seconds(trade.opened_at, trade.closed_at),
        "intent_id": trade.intent.intent_id,
        "market": trade.main.market,
        "opened_at": trade.opened_at,
        "order_ids": [order.client_order_id for leg in trade.legs for order in leg.orders],
        "pnl_cents": int(cents(trade.pnl_usd, 2) * 100),
        "pnl_usd": _usd(trade.pnl_usd),
        "protection": trade.rung or "none",
        "state": trade.state.value,
        "strategy": trade.intent.strategy,
        "summary": trade.summary or f"{trade.state} {trade.intent.direction} {trade.main.market}",
        "trade_id": trade.trade_id,
        "trigger": trade.intent.trigger,
        "unhedged_seconds": _seconds(trade.unhedged_since, trade.opened_at or trade.closed_at),
        "updated_at": trade.updated_at,
        "why_closed": trade.why_closed,
        "why_opened": trade.intent.reason,
    }


def _leg_page(leg: Leg) -> Document:
    pnl = leg.realised_usd - leg.fees_usd - leg.funding_usd
    said: Document = {
        "account": leg.account,
        "entry_price": _price(leg.entry_price),
        "exit_price": _price(leg.exit_price),
        "leverage": leg.leverage,
        "pnl_usd": _usd(pnl),
        "size": plain(leg.size_filled or leg.size_approved),
        "size_open": plain(leg.size_open),
        "stop_price": _price(leg.stop_price),
        "target_price": _price(leg.target_price),
    }
    return {f"{leg.role.value}_{name}": value for name, value in said.items()}


def _danger(trade: Trade) -> Document:
    """Of the leg in the greater danger when it was last read for the trade; the books have it each minute."""
    legs = [leg for leg in trade.legs if leg.size_open > 0]
    distance = min((leg.liquidation_distance for leg in legs if leg.liquidation_distance is not None), default=None)
    return {
        "liquidation_distance_percent": _number(distance * 100 if distance is not None else None, 2),
        "margin_ratio": _number(min((leg.margin_ratio for leg in legs if leg.margin_ratio is not None), default=None)),
        "marked_at": max((leg.marked_at for leg in legs if leg.marked_at), default=None),
    }


def hedge_ratio(trade: Trade) -> Decimal | None:
    """Hedge notional / main notional at entry prices: of what is open, else of what was filled. None without both."""
    main, hedge = trade.legs
    sizes = (main.size_open, hedge.size_open) if main.size_open > 0 else (main.size_filled, hedge.size_filled)
    notional = main.entry_price * sizes[0]
    return hedge.entry_price * sizes[1] / notional if notional > 0 and sizes[1] > 0 else None


def hedge_effectiveness(trade: Trade) -> Decimal | None:
    """Which share of the main leg's loss the hedge's gain offset: -(hedge's P&L) / (main leg's P&L).

    Realised, before fees and funding. 1 = the main leg's result was cancelled out, 0 = not at all; negative = the
    hedge moved the same way. When the main leg won it is the share of the gain that the hedge cost. None while
    nothing of the main leg is closed, and when it came out even.
    """
    main, hedge = trade.legs
    return -hedge.realised_usd / main.realised_usd if main.size_closed > 0 and main.realised_usd else None


# -- orders --------------------------------------------------------------------------------------


def order_page(trade: Trade, leg: Leg, order: PlacedOrder) -> Document:
    """An order: what was wanted, the action that carried it, its fills and its end. Its trade is read back."""
    state, reason = _order_state(trade, order)
    trigger = f" at {plain(order.trigger_price)}" if order.trigger_price else ""
    filled = f" at {_price(order.filled_price)}" if order.filled_size else ""
    return {
        "account": leg.account,
        "action_id": order.action_id,
        "attempt": order.attempt,
        "filled_at": order.filled_at,
        "filled_price": _price(order.filled_price) if order.filled_size else None,
        "filled_size": plain(order.filled_size),
        "intent_id": trade.intent.intent_id,
        "kind": order.kind.value,
        "leg": leg.role.value,
        "limit_price": _price(order.limit_price),
        "market": leg.market,
        "placed_at": order.placed_at,
        "purpose": order.purpose.value,
        "reason": reason,
        "sequence": order.sequence,
        "side": order.side.value,
        "size": plain(order.size),
        "state": state,
        "summary": f"{order.purpose} {order.side} {plain(order.size)} {leg.market} on {leg.account}{trigger}: "
        f"{state.replace('_', ' ')}{filled}",
        "trade_id": trade.trade_id,
        "trigger": trade.intent.trigger,
        "trigger_price": _price(order.trigger_price) if order.trigger_price else None,
        "updated_at": trade.updated_at,
    }


def _order_state(trade: Trade, order: PlacedOrder) -> tuple[str, str]:
    if order.filled_size > 0:
        return ("filled" if order.filled_size >= order.size else "partly_filled"), order.reason
    if order.state is None:
        return "no_verdict", order.reason
    if trade.state in ENDED and order.state.value in ("waiting", "resting"):
        return "ended", "the trade ended without it"
    return order.state.value, order.reason


# -- actions -------------------------------------------------------------------------------------

_KINDS = {
    "PlaceEntry": "open", "PlaceReduction": "reduce", "CancelOrders": "cancel", "SetLeverage": "set leverage",
    "AddMargin": "add margin",
}  # fmt: skip
_STATES = {
    "written": "no verdict yet",
    "arrived": "arrived, what it did is not read yet",
    "accepted": "accepted",
    "rejected": "refused by the venue",
    "never_ran": "never ran and never can",
    "vanished": "arrived and left no trace",
}


def action_document(record: ActionRecord) -> Document:
    """A signed action as it is stored: its page, and the record with the signed bytes beneath it."""
    return {**action_page(record), RECORD: document(record)}


def action_page(record: ActionRecord) -> Document:
    """What a person reads of a signed action. It expires only once its verdict is known."""
    said = _STATES[record.state.value]
    return {
        "account": record.account,
        "adds_exposure": record.adds_exposure,
        "created_at": record.created_at,
        "expire_at": record.created_at + ACTIONS_KEPT if record.final else None,
        "expires_at": record.expires_at,
        "kind": record.kind,
        "market": record.market,
        "nonce": record.nonce,
        "order_ids": list(record.client_order_ids),
        "reason": record.reason,
        "role": record.role.value,
        "signer": record.signer,
        "state": record.state.value,
        "summary": f"{_KINDS[record.kind]} {record.market} on {record.account} for {record.trade_id}: {said}",
        "trade_id": record.trade_id,
        "transitions": [_step(line) for line in record.transitions],
    }


def _step(line: str) -> str:
    """``2025-01-06T12:00:01.5+00:00 noop: accepted -> never_ran`` in words."""
    when, _, what = line.partition(" ")
    heard, _, state = what.partition(" -> ")
    at = datetime.fromisoformat(when)
    words = {"written": "signed and written, not sent yet", "accepted": "sent: accepted"}.get(heard, heard)
    proved = _STATES.get(state, "")
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} {words}" + (
        f" ⇒ {proved}" if proved and proved not in words else ""
    )


# -- intents -------------------------------------------------------------------------------------


def intent_page(message: HedgedIntent | CloseTrade | None) -> Document:
    """What a person reads of a decision: the trade that was wanted, or the close."""
    match message:
        case None:
            return {}
        case CloseTrade():
            return {
                "fraction": plain(message.fraction),
                "reason": message.reason,
                "request_id": message.request_id,
                "trade_id": message.trade_id,
            }
        case HedgedIntent():
            return {
                **_plan_page(message.main),
                **_plan_page(message.hedge),
                "action": message.action.value,
                "budget_percent": plain(message.budget_percent),
                "confidence": plain(message.confidence),
                "direction": message.direction.value,
                "expires_at": message.expires_at,
                "holding_seconds_max": message.holding_seconds_max,
                "intent_id": message.intent_id,
                "order_kind": message.order_kind.value,
                "reason": message.reason,
                "reference_price": plain(message.reference_price),
                "replaces": message.replaces,
                "stop_percent": plain(message.stop_percent),
                "target_percent": plain(message.target_percent),
                "trigger": message.trigger,
                "trigger_at": message.trigger_at,
            }


def _plan_page(plan: LegPlan) -> Document:
    return {f"{plan.role.value}_account": plan.account, f"{plan.role.value}_leverage": plan.leverage}


def decision_document(
    message: HedgedIntent | CloseTrade | None, *, strategy: str, market: str, reason: str, at: datetime, cause: str
) -> Document:
    """A decision as it is stored. ``z_message`` is what is published, byte for byte, however often."""
    decision = "ignored" if message is None else ("close" if isinstance(message, CloseTrade) else "open")
    return intent_page(message) | {
        "cause": cause,
        "decided_at": at,
        "decision": decision,
        "market": market,
        "status": "ignored" if message is None else "proposed",
        "status_reason": reason,
        "strategy": strategy,
        "summary": f"{decision}: {reason}",
        "z_message": message.model_dump_json() if message else "",
    }


def message_of(decision: Mapping[str, Any]) -> str:
    """The message of a stored decision, also of one stored before there were pages."""
    return str(decision["z_message"] if "z_message" in decision else decision["message"])


# -- the rest ------------------------------------------------------------------------------------


def audit_document(event: Event) -> Document:
    """An audit entry: what happened, and of the links those it has."""
    said = {name: value for name, value in document(event).items() if value != "" and name != "schema_version"}
    return said | {"expire_at": event.at + AUDIT_KEPT}


def alert_document(alert_id: str, first_received_at: datetime) -> Document:
    """When the text of an alert without an id of its own was first received."""
    return {
        "expire_at": first_received_at + ALERTS_KEPT,
        "first_received_at": first_received_at,
        "summary": f"alert text {alert_id}, first received {first_received_at:%Y-%m-%dT%H:%M:%SZ}",
    }


# -- values --------------------------------------------------------------------------------------


def _usd(amount: Decimal) -> str:
    """In whole cents; the record beneath has all digits."""
    return f"{cents(amount, 2):f}"


def _price(price: Decimal) -> str | None:
    """To eight significant digits; None where there is none."""
    return plain(_DIGITS.plus(price)) if price else None


def _number(ratio: Decimal | None, places: int = 4) -> float | None:
    """A ratio, per cent or the like as a number that can be sorted by; never money."""
    return None if ratio is None else float(cents(ratio, places))


def _seconds(since: datetime | None, until: datetime | None) -> float | None:
    return round((until - since).total_seconds(), 3) if since and until else None
