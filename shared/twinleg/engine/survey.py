"""What the gate looks at: both accounts, both markets and the counts, read fresh for one intent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from twinleg.domain.control import Control
from twinleg.domain.ids import account_market
from twinleg.domain.orders import AccountState
from twinleg.domain.trades import Leg, Trade
from twinleg.engine.legs import venue_of
from twinleg.engine.ports import Stored
from twinleg.engine.records import DeskBook
from twinleg.engine.system import Engine
from twinleg.risk.gate import Book

HOUR_SECONDS = 3600
DAY_SECONDS = 86_400


def survey(
    engine: Engine,
    trade: Trade,
    control: Control,
    desk: DeskBook,
    slots: Sequence[tuple[str, Stored | None]],
    keys: Mapping[str, datetime | None],
) -> Book:
    """Everything the gate decides by. Raises Unavailable when a venue cannot be read: no new exposure then."""
    main, hedge = trade.legs
    now = engine.now()
    states = {leg.account: venue_of(engine, leg).account(leg.account) for leg in trade.legs}
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
        unresolved=(),
        keys_expire_at=keys,
        range_percent=trade.intent.range_percent,
    )


def _foreign(engine: Engine, leg: Leg, state: AccountState) -> bool:
    """A position or an order is there although the slot is free: it is nobody's we know."""
    resting = venue_of(engine, leg).open_orders(leg.account)
    return state.position(leg.market) is not None or any(order.market == leg.market for order in resting)
