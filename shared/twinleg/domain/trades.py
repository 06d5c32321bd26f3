"""A trade: an intent being carried out. Its legs, its states, and the one transition function."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Self

from twinleg.domain.emergency import danger_of
from twinleg.domain.errors import InvariantBroken
from twinleg.domain.ids import ClientOrderId
from twinleg.domain.messages import CloseTrade, HedgedIntent
from twinleg.domain.money import ZERO
from twinleg.domain.orders import AckState, Fill, Frozen, LegRole, OrderKind, Position, Purpose, Side
from twinleg.domain.recorded import Recorded


class TradeState(StrEnum):
    PROPOSED = "PROPOSED"
    REFUSED = "REFUSED"
    APPROVED = "APPROVED"
    MAIN_SENT = "MAIN_SENT"
    MAIN_FILLED_UNHEDGED = "MAIN_FILLED_UNHEDGED"
    HEDGE_SENT = "HEDGE_SENT"
    OPEN = "OPEN"
    REDUCING = "REDUCING"
    CLOSING = "CLOSING"
    UNWINDING = "UNWINDING"
    CLOSED = "CLOSED"
    NEEDS_A_PERSON = "NEEDS_A_PERSON"


S = TradeState
ALLOWED: dict[TradeState, frozenset[TradeState]] = {
    S.PROPOSED: frozenset({S.APPROVED, S.REFUSED}),
    S.APPROVED: frozenset({S.MAIN_SENT, S.REFUSED}),
    S.MAIN_SENT: frozenset({S.MAIN_FILLED_UNHEDGED, S.REFUSED, S.UNWINDING, S.NEEDS_A_PERSON}),
    S.MAIN_FILLED_UNHEDGED: frozenset({S.HEDGE_SENT, S.UNWINDING, S.NEEDS_A_PERSON}),
    S.HEDGE_SENT: frozenset({S.OPEN, S.MAIN_FILLED_UNHEDGED, S.UNWINDING, S.NEEDS_A_PERSON}),
    S.OPEN: frozenset({S.REDUCING, S.CLOSING, S.NEEDS_A_PERSON}),
    S.REDUCING: frozenset({S.OPEN, S.CLOSING, S.NEEDS_A_PERSON}),
    S.CLOSING: frozenset({S.CLOSED, S.NEEDS_A_PERSON}),
    S.UNWINDING: frozenset({S.CLOSED, S.NEEDS_A_PERSON}),
    S.NEEDS_A_PERSON: frozenset({S.CLOSING, S.UNWINDING, S.CLOSED}),
    S.REFUSED: frozenset(),
    S.CLOSED: frozenset(),
}
ENDED = frozenset({S.REFUSED, S.CLOSED})
BETWEEN_LEGS = frozenset({S.MAIN_SENT, S.MAIN_FILLED_UNHEDGED, S.HEDGE_SENT})
"""The dangerous states: one leg may stand alone."""


class PlacedOrder(Frozen):
    """One order of a leg: what was wanted, which signed action carried it, what became of it."""

    client_order_id: ClientOrderId
    purpose: Purpose
    sequence: int
    attempt: int
    kind: OrderKind
    side: Side
    size: Decimal
    limit_price: Decimal
    trigger_price: Decimal | None = None
    action_id: str
    state: AckState | None = None
    """None while no verdict is known."""
    filled_said: Decimal = ZERO
    """What the venue's own answer said was filled; zero when it did not say."""
    reason: str = ""
    placed_at: datetime | None = None
    filled_size: Decimal = ZERO
    """What its fills say, in base units."""
    filled_price: Decimal = ZERO
    """The average of its fills."""
    fees_usd: Decimal = ZERO
    """Of its fills; positive = paid."""
    filled_at: datetime | None = None
    """Of its last fill, by the venue's clock."""


class Leg(Frozen):
    """One leg of a trade. Sizes are base units and positive; ``side`` is the side that opened it.

    Filled and closed sizes, prices, fees and realised profit come from fills alone.
    """

    role: LegRole
    account: str
    market: str
    side: Side
    leverage: int
    size_approved: Decimal = ZERO
    entry_limit_price: Decimal = ZERO
    stop_price: Decimal = ZERO
    target_price: Decimal = ZERO
    size_filled: Decimal = ZERO
    entry_price: Decimal = ZERO
    entered_at: datetime | None = None
    """Of its first fill, by the venue's clock."""
    size_closed: Decimal = ZERO
    exit_price: Decimal = ZERO
    exited_at: datetime | None = None
    """Of the last fill that reduced it, whosever order that was, by the venue's clock."""
    fees_usd: Decimal = ZERO
    funding_usd: Decimal = ZERO
    """Positive = paid."""
    realised_usd: Decimal = ZERO
    """Of closed size, before fees and funding."""
    liquidated: bool = False
    deleveraged: bool = False
    last_exit: Purpose | None = None
    """Of the order that last reduced the leg; None while nothing did, or when the order was none of ours."""
    last_exit_price: Decimal = ZERO
    entry_liquidation_distance: Decimal | None = None
    """Liquidation distance when the leg was opened: the ladder's yardstick."""
    liquidation_distance: Decimal | None = None
    margin_ratio: Decimal | None = None
    marked_at: datetime | None = None
    """When the two above were read: on opening and whenever the ladder's rung changes. The books have them."""
    orders: tuple[PlacedOrder, ...] = ()
    summary: str = ""

    @property
    def size_open(self) -> Decimal:
        return self.size_filled - self.size_closed

    @property
    def lacks_fills(self) -> bool:
        """Whether the venue answered that more of the entry was filled than its fills show (yet)."""
        entries = [o for o in self.orders if o.purpose is Purpose.ENTRY]
        if self.size_filled < sum((o.filled_said for o in entries), ZERO):
            return True
        return self.size_filled == 0 and any(o.state is AckState.FILLED for o in entries)

    @property
    def last_fill_at(self) -> datetime | None:
        """When the latest fill of ours that is known happened, by the venue's clock."""
        times = [o.filled_at for o in self.orders if o.filled_at is not None]
        return max(times, default=self.entered_at)

    def order(self, client_order_id: str) -> PlacedOrder | None:
        return next((o for o in self.orders if o.client_order_id == client_order_id), None)

    def placed(self, purpose: Purpose) -> PlacedOrder | None:
        """The latest order of this purpose."""
        return next((o for o in reversed(self.orders) if o.purpose is purpose), None)

    def with_order(self, order: PlacedOrder) -> Self:
        """A copy that holds the order, replacing the one with its client order id."""
        kept = [o for o in self.orders if o.client_order_id != order.client_order_id]
        return self.model_copy(update={"orders": (*kept, order)})

    def marked(self, position: Position | None, at: datetime) -> Self:
        """A copy that shows how near the position is to liquidation; unchanged when none is held."""
        if position is None:
            return self
        return self.model_copy(
            update={
                "liquidation_distance": position.liquidation_distance,
                "margin_ratio": position.margin_ratio,
                "marked_at": at,
            }
        )

    def with_fills(self, fills: list[Fill]) -> Self:
        """A copy whose sizes, prices, fees and profit are those of *fills*.

        *fills* are the account's fills since about when the trade began, oldest first: those that carry
        one of this leg's client order ids, and liquidations, emergency orders (which no record named when they
        were sent) and fills without a client id of anybody's (closed by hand, taken over by the venue) as far as
        they reduce it. What happened before its first fill, and what took off more than it holds, is of somebody
        else's position.
        """
        ours = {o.client_order_id: o.purpose for o in self.orders if o.purpose is not Purpose.EMERGENCY}
        emergencies: dict[ClientOrderId, PlacedOrder] = {}
        entry_size = entry_value = exit_size = exit_value = fees = last_exit_price = ZERO
        last_exit: Purpose | None = None
        entered_at: datetime | None = None
        exited_at: datetime | None = None
        liquidated = deleveraged = False
        for fill in fills:
            mine, emergency = fill.client_order_id in ours, danger_of(fill.client_order_id) is not None
            reduces = (emergency or fill.client_order_id is None) and fill.side is not self.side
            if fill.market != self.market or not (mine or reduces):
                continue
            if fill.side is self.side:
                entered_at = entered_at or fill.at
                entry_size, entry_value = entry_size + fill.size, entry_value + fill.size * fill.price
                fees += fill.fee_usd
                continue
            left = entry_size - exit_size
            others = ZERO if mine else max(ZERO, fill.start_position * self.side.sign - left)
            size = min(left, max(ZERO, fill.size - others))
            if size > 0:
                fees += fill.fee_usd * size / fill.size
                liquidated, deleveraged = liquidated or fill.liquidation, deleveraged or fill.deleveraged
                exit_size, exit_value = exit_size + size, exit_value + size * fill.price
                last_exit = ours.get(fill.client_order_id) if fill.client_order_id else None
                last_exit_price, exited_at = fill.price, fill.at
                if emergency and fill.client_order_id is not None:
                    last_exit = Purpose.EMERGENCY
                    emergencies.setdefault(fill.client_order_id, _emergency_order(fill, fills))
        entry_price = entry_value / entry_size if entry_size else ZERO
        return self.model_copy(
            update={
                "size_filled": entry_size,
                "entry_price": entry_price,
                "entered_at": entered_at,
                "exited_at": exited_at,
                "size_closed": exit_size,
                "exit_price": exit_value / exit_size if exit_size else ZERO,
                "fees_usd": fees,
                "realised_usd": (exit_value - exit_size * entry_price) * self.side.sign,
                "liquidated": liquidated,
                "deleveraged": deleveraged,
                "last_exit": last_exit,
                "last_exit_price": last_exit_price,
                "orders": tuple(_with_fills(order, fills) for order in (*self.orders, *self._new(emergencies))),
            }
        )

    def _new(self, found: dict[ClientOrderId, PlacedOrder]) -> list[PlacedOrder]:
        return [order for id, order in found.items() if self.order(id) is None]


def _emergency_order(fill: Fill, fills: list[Fill]) -> PlacedOrder:
    """The order behind a fill that no record names. What it asked for beyond its fills is not known."""
    danger = danger_of(fill.client_order_id)
    assert fill.client_order_id is not None and danger is not None
    return PlacedOrder(
        client_order_id=fill.client_order_id,
        purpose=Purpose.EMERGENCY,
        sequence=0,
        attempt=1,
        kind=OrderKind.MARKET,
        side=fill.side,
        size=sum((f.size for f in fills if f.client_order_id == fill.client_order_id), ZERO),
        limit_price=fill.price,
        action_id="",
        state=AckState.FILLED,
        reason=f"recorded later: {danger}",
        placed_at=fill.at,
    )


def _with_fills(order: PlacedOrder, fills: list[Fill]) -> PlacedOrder:
    """The order with what its own fills say; fills never become fewer."""
    own = [fill for fill in fills if fill.client_order_id == order.client_order_id]
    size = sum((fill.size for fill in own), ZERO)
    if size <= order.filled_size:
        return order
    price = sum((fill.size * fill.price for fill in own), ZERO) / size
    fees = sum((fill.fee_usd for fill in own), ZERO)
    said = {"filled_size": size, "filled_price": price, "filled_at": own[-1].at, "fees_usd": fees}
    return order.model_copy(update=said)


class Trade(Recorded):
    """An intent being carried out: one record, its version the lock under which each step is claimed."""

    trade_id: str
    intent: HedgedIntent
    state: TradeState
    main: Leg
    hedge: Leg
    created_at: datetime
    updated_at: datetime
    sequence: int = 0
    """Decisions taken so far; allotted to client order ids."""
    unhedged_since: datetime | None = None
    opened_at: datetime | None = None
    closed_at: datetime | None = None
    close_by: datetime | None = None
    why_closed: str = ""
    closing_fraction: Decimal = ZERO
    requests_done: tuple[str, ...] = ()
    """Ids of close requests already acted upon."""
    requests_waiting: tuple[CloseTrade, ...] = ()
    """Close requests that came while the trade was between two states: acted upon as soon as it can be."""
    margin_added: bool = False
    cut: bool = False
    rung: str = ""
    """The protection ladder's last rung: warn, margin, cut, close."""
    gone_seen_at: datetime | None = None
    """When a leg was first read as gone without a fill that explains it."""
    person_since: datetime | None = None
    history: tuple[str, ...] = ()
    """Each state it went into since it was proposed, when and why: ``TIME STATE why``."""
    summary: str = ""

    @property
    def strategy(self) -> str:
        """Whose limits it is protected under."""
        return self.intent.strategy

    @property
    def holding_seconds_max(self) -> int:
        return self.intent.holding_seconds_max

    def leg(self, role: LegRole) -> Leg:
        return self.main if role is LegRole.MAIN else self.hedge

    @property
    def legs(self) -> tuple[Leg, Leg]:
        return self.main, self.hedge

    def with_leg(self, leg: Leg) -> Self:
        return self.model_copy(update={leg.role.value: leg})

    def marked(self, main: Position | None, hedge: Position | None, at: datetime) -> Self:
        """A copy whose legs show how near their positions are to liquidation."""
        return self.with_leg(self.main.marked(main, at)).with_leg(self.hedge.marked(hedge, at))

    @property
    def asked_to_end(self) -> str:
        """Why somebody waits for the whole trade to be closed; empty when nobody does."""
        return next((r.reason for r in self.requests_waiting if r.fraction >= 1), "")

    @property
    def pnl_usd(self) -> Decimal:
        """Realised, after fees and funding, of both legs."""
        return sum((leg.realised_usd - leg.fees_usd - leg.funding_usd for leg in self.legs), ZERO)

    def to(self, state: TradeState, **changes: object) -> Self:
        """A copy in the next state. Any transition the life of a trade does not have raises InvariantBroken."""
        if state is not self.state and state not in ALLOWED[self.state]:
            raise InvariantBroken(f"trade {self.trade_id}: {self.state} cannot become {state}")
        return self.model_copy(update={**changes, "state": state})
