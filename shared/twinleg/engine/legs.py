"""What each leg really is: fills and positions read from the venue, and the stops that guard it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from twinleg.domain.errors import OutcomeUnknown, TwinlegError, Unavailable
from twinleg.domain.markets import MarketRules
from twinleg.domain.money import BPS, ONE, ZERO
from twinleg.domain.orders import (
    AccountState,
    AckState,
    LegRole,
    OrderKind,
    OrderRequest,
    Position,
    Purpose,
    RestingOrder,
    Side,
)
from twinleg.domain.trades import Leg, Trade
from twinleg.domain.watched import WatchedLeg
from twinleg.engine.orderpath import BETWEEN_FINAL_READS_SECONDS
from twinleg.engine.ports import Venue
from twinleg.engine.system import Engine
from twinleg.engine.tradebook import order_id_for

FILLS_SKEW = timedelta(minutes=2)
"""How far before a trade's record its fills are looked for: venue clock against ours.

More than the gate lets the two differ; what was somebody else's in that time is told by client order id.
"""
OLD_ANSWERS_MAX, OLD_ANSWER_SECONDS = 6, 0.5
"""How often a state from before what is known already is asked for again: another node may answer."""
TRIGGER_SLIPPAGE_BPS = Decimal(1000)
"""Market triggers execute within 10 % (Source: Hyperliquid docs, TP/SL orders)."""


def rules_if_listed(engine: Engine, account: str, market: str) -> MarketRules | None:
    """A market's rules as the process knows them; None for one that the venue lists no more, or cannot be asked of."""
    try:
        return engine.venues.of(account).rules(market)
    except TwinlegError:
        return None


def held(leg: WatchedLeg, state: AccountState) -> tuple[Decimal, Position | None]:
    """(base size held in the leg's own direction, the position). A position the other way round counts as none."""
    return held_by(leg, state.position(leg.market))


def held_by(leg: WatchedLeg, position: Position | None) -> tuple[Decimal, Position | None]:
    """As `held`, of the position in the leg's market."""
    if position is None or (position.size > 0) != (leg.side is Side.BUY):
        return ZERO, None
    return abs(position.size), position


def read_leg(engine: Engine, trade: Trade, leg: Leg) -> tuple[Leg, Decimal, Position | None]:
    """The leg as its fills say, the size held as the position says, and the position.

    Fills never become fewer: an answer that shows less of the entry than was read before is old, and not used. Nor
    is a state from before the leg's last fill, by the venue's own times: it is asked for again.

    Raises Unavailable while the venue answers with such an old state that holds another size than the fills say.
    """
    venue = engine.venues.of(leg.account)
    for _ in range(OLD_ANSWERS_MAX):
        seen = leg.with_fills(venue.fills(leg.account, trade.created_at - FILLS_SKEW))
        known = seen if seen.size_filled >= leg.size_filled else leg
        state = venue.account(leg.account)
        size, position = held(leg, state)
        if size == known.size_open or known.last_fill_at is None or state.at >= known.last_fill_at:
            return known, size, position
        engine.clock.sleep(OLD_ANSWER_SECONDS)
    raise Unavailable(f"{leg.account}: its state is answered as of {state.at.isoformat()}, before the leg's last fill")


def confirmed_leg(engine: Engine, trade: Trade, leg: Leg) -> tuple[Leg, Position | None]:
    """The leg once the venue's answer to its entry, its fills and its position agree; each may lag the others.

    That nothing was filled is believed of a refused entry at once, of any other when two reads at least 5 s
    apart show it (TRUTH). Raises OutcomeUnknown when they do not agree within a few seconds.
    """
    nothing = False
    for _ in range(10):
        leg, size, position = read_leg(engine, trade, leg)
        if leg.size_open == size and not leg.lacks_fills:
            if leg.size_filled > 0 or nothing or was_refused(leg):
                return leg, position
            nothing = True
            engine.clock.sleep(BETWEEN_FINAL_READS_SECONDS)
            continue
        engine.clock.sleep(0.5)
    raise OutcomeUnknown(
        f"trade {trade.trade_id} {leg.role}: fills say {leg.size_open} {leg.market} is held, the position says {size}"
    )


def was_refused(leg: Leg) -> bool:
    """Whether every order that could have opened the leg was refused, so that nothing can have been filled."""
    return all(o.state is AckState.REJECTED for o in leg.orders if o.purpose is Purpose.ENTRY)


def crossing_price(rules: MarketRules, mark: Decimal, side: Side, slippage_bps: Decimal) -> Decimal:
    """A limit price that crosses the book by at most *slippage_bps* of the mark."""
    factor = ONE + side.sign * slippage_bps / BPS
    return rules.price(mark * factor, up=side is Side.SELL)


def guards(
    trade: Trade, leg: Leg, rules: MarketRules, size: Decimal, sequence: int, attempt: int
) -> tuple[OrderRequest, OrderRequest]:
    """The leg's stop and target: reduce-only market triggers at its stop and target price."""
    stop, target = (
        OrderRequest(
            client_order_id=order_id_for(trade, leg.role, purpose, sequence, attempt),
            market=leg.market,
            side=leg.side.opposite,
            size=size,
            limit_price=crossing_price(rules, price, leg.side.opposite, TRIGGER_SLIPPAGE_BPS),
            kind=kind,
            reduce_only=True,
            trigger_price=price,
        )
        for purpose, kind, price in (
            (Purpose.STOP, OrderKind.STOP, leg.stop_price),
            (Purpose.TARGET, OrderKind.TARGET, leg.target_price),
        )
    )
    return stop, target


def is_guarded(leg: WatchedLeg, resting: tuple[RestingOrder, ...]) -> bool:
    """Whether a reduce-only stop for the whole of what is open rests at the venue, at the leg's stop price."""
    return any(
        order.market == leg.market
        and order.kind is OrderKind.STOP
        and order.reduce_only
        and order.side is leg.side.opposite
        and order.trigger_price == leg.stop_price
        and (order.follows_position or order.size >= leg.size_open)
        for order in resting
    )


def is_past_stop(leg: WatchedLeg, mark: Decimal) -> bool:
    """Whether the mark stands at the leg's stop price or beyond: no stop can rest there any more."""
    return (mark - leg.stop_price) * leg.side.sign <= 0


def role_name(role: LegRole) -> str:
    return "main leg" if role is LegRole.MAIN else "hedge"


def venue_of(engine: Engine, leg: Leg) -> Venue:
    return engine.venues.of(leg.account)
