"""What the gate looks at: both accounts, both markets and the counts, read fresh for one intent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from twinleg.domain.control import Control
from twinleg.domain.errors import OutcomeUnknown
from twinleg.domain.ids import account_market
from twinleg.domain.money import ZERO
from twinleg.domain.orders import AccountState, Purpose
from twinleg.domain.trades import BETWEEN_LEGS, ENDED, Leg, Trade, TradeState
from twinleg.engine.budget import requests_left, weights
from twinleg.engine.legs import venue_of
from twinleg.engine.orderpath import FINAL_MARGIN, ActionRecord, ActionState, OrderPath
from twinleg.engine.pages import UNSWEPT
from twinleg.engine.ports import Stored
from twinleg.engine.records import DeskBook, parsed
from twinleg.engine.system import Engine
from twinleg.risk.gate import Book
from twinleg.risk.margin import initial_margin_usd

MINUTE_SECONDS = 60
HOUR_SECONDS = 3600
DAY_SECONDS = 86_400


def survey(
    engine: Engine,
    trade: Trade,
    control: Control,
    desk: DeskBook,
    slots: Sequence[tuple[str, Stored | None]],
    keys: Mapping[str, datetime | None],
    unresolved: tuple[str, ...],
) -> Book:
    """Everything the gate decides by. Raises Unavailable when a venue cannot be read: no new exposure then."""
    main, hedge = trade.legs
    now = engine.now()
    promises = _promises(engine, trade)  # before the accounts: what is filled meanwhile counts twice, never not at all
    spent = weights(engine, (main.market, hedge.market), desk.since(desk.entries, now, MINUTE_SECONDS))
    found = {leg.account: venue_of(engine, leg).account(leg.account) for leg in trade.legs}
    states = {name: _less_promised(state, promises) for name, state in found.items()}
    return Book(
        now=now,
        control=control,
        limits=engine.limits(trade.intent.strategy),
        main=states[main.account],
        hedge=states[hedge.account],
        main_mode=venue_of(engine, main).mode(main.account),
        hedge_mode=venue_of(engine, hedge).mode(hedge.account),
        main_snapshot=venue_of(engine, main).snapshot(main.market),
        hedge_snapshot=venue_of(engine, hedge).snapshot(hedge.market),
        main_rules=venue_of(engine, main).rules(main.market),
        hedge_rules=venue_of(engine, hedge).rules(hedge.market),
        open_trades=len(desk.open_trades),
        entries_last_hour=desk.since(desk.entries, now, HOUR_SECONDS),
        entries_last_day=desk.since(desk.entries, now, DAY_SECONDS),
        unwinds_last_day=desk.since(desk.unwinds, now, DAY_SECONDS),
        slots_taken=tuple(
            f"{id} by {stored.data['owner']}"
            for id, stored in slots
            if stored and stored.data.get("owner") not in ("", None, trade.trade_id)
        ),
        foreign=tuple(
            account_market(leg.account, leg.market) for leg in trade.legs if _foreign(engine, leg, states[leg.account])
        ),
        unresolved=unresolved,
        keys_expire_at=keys,
        range_percent=trade.intent.range_percent,
        weights=spent,
        requests_left=requests_left(engine, main.account) | requests_left(engine, hedge.account),
    )


def _foreign(engine: Engine, leg: Leg, state: AccountState) -> bool:
    """A position or an order is there although the slot is free: it is nobody's we know."""
    resting = venue_of(engine, leg).open_orders(leg.account)
    return state.position(leg.market) is not None or any(order.market == leg.market for order in resting)


# -- promised ------------------------------------------------------------------------------------

ENTERING = BETWEEN_LEGS | {TradeState.APPROVED}
Promise = tuple[str, str, Decimal]
"""(account, market, margin in dollars that a leg was approved for)."""


def _promises(engine: Engine, trade: Trade) -> list[Promise]:
    """Margin of the legs of other trades that may not be in their accounts yet.

    Every trade between two states is marked as not swept yet, so that one query finds them all.
    """
    others = [parsed("trades", s, Trade) for s in engine.store.query("trades", {UNSWEPT: True})]
    return [
        (leg.account, leg.market, usd)
        for other in others
        if other.trade_id != trade.trade_id
        for leg in other.legs
        if (usd := _promised_usd(other, leg)) > 0
    ]


def _promised_usd(trade: Trade, leg: Leg) -> Decimal:
    """The margin a leg takes, or may yet take: of what was approved while it is entered, then of what it holds."""
    undecided = any(o.purpose is Purpose.ENTRY and o.state is None for o in leg.orders)
    if trade.state in ENTERING or undecided:
        return initial_margin_usd(leg.size_approved, leg.entry_limit_price, leg.leverage)
    if trade.state in ENDED:
        return ZERO
    return initial_margin_usd(leg.size_open, leg.entry_price, leg.leverage)


def _less_promised(state: AccountState, promises: Sequence[Promise]) -> AccountState:
    """The account as if all that was promised of it were in use, as far as its positions do not show it already."""
    missing = ZERO
    for account, market, usd in promises:
        if account == state.account:
            position = state.position(market)
            missing += max(ZERO, usd - (position.margin_used_usd if position else ZERO))
    used, free = state.margin_used_usd + missing, max(ZERO, state.free_usd - missing)
    return state.model_copy(update={"margin_used_usd": used, "free_usd": free})


# -- undecided -----------------------------------------------------------------------------------


def unresolved_actions(engine: Engine, path: OrderPath, trade: Trade) -> tuple[str, ...]:
    """The trade's slots with a signed action of another trade that has no verdict: ``account:market by action``.

    One that must have ended by now is decided first: whoever sent it may be dead, and nobody else looks at it.
    """
    slots = {account_market(leg.account, leg.market) for leg in trade.legs}
    found = []
    for state in (ActionState.WRITTEN, ActionState.ARRIVED):
        for stored in engine.store.query("actions", {"state": state.value}):
            record = parsed("actions", stored, ActionRecord)
            slot = account_market(record.account, record.market)
            if slot not in slots or record.trade_id == trade.trade_id:
                continue
            if not _is_decided(engine, path, record):
                found.append(f"{slot} by {record.id}")
    return tuple(found)


def _is_decided(engine: Engine, path: OrderPath, record: ActionRecord) -> bool:
    if record.expires_at is None or engine.now() < record.expires_at + FINAL_MARGIN:
        return False
    try:
        return path.outcome(record.id).final
    except OutcomeUnknown:
        return False
