"""Whether an open trade needs anything: the one place that says so, of its record and of the sweep's line alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Self

from twinleg.domain.orders import AccountState, Position, RestingOrder
from twinleg.domain.trades import Trade, TradeState
from twinleg.domain.watched import Watched, WatchedLeg
from twinleg.engine.legs import held_by, is_guarded
from twinleg.risk import ladder
from twinleg.risk.limits import Limits

RESTING = frozenset({TradeState.OPEN, TradeState.NEEDS_A_PERSON})
"""States that nothing takes further by itself: what is open then is protected."""

Positions = tuple[Position | None, Position | None]


@dataclass(frozen=True, slots=True)
class Reading:
    """One account as read in this sweep; positions and resting orders also by market."""

    state: AccountState
    resting: tuple[RestingOrder, ...]
    mode: str
    positions: Mapping[str, Position]
    orders: Mapping[str, tuple[RestingOrder, ...]]

    @classmethod
    def of(cls, state: AccountState, resting: tuple[RestingOrder, ...], mode: str) -> Self:
        orders: dict[str, list[RestingOrder]] = {}
        for order in resting:
            orders.setdefault(order.market, []).append(order)
        positions = {p.market: p for p in reversed(state.positions)}
        return cls(state, resting, mode, positions, {market: tuple(found) for market, found in orders.items()})

    def held(self, leg: WatchedLeg) -> tuple[Decimal, Position | None]:
        """(base size held in the leg's own direction, the position)."""
        return held_by(leg, self.positions.get(leg.market))

    def guards(self, leg: WatchedLeg) -> bool:
        """Whether the leg's stop rests at the venue."""
        return is_guarded(leg, self.orders.get(leg.market, ()))


Readings = Mapping[str, Reading | None]
"""By account; None where it could not be read."""


def at_rest(trade: Trade) -> bool:
    """Whether nothing takes the trade further by itself, and nobody waits for it to leave."""
    return trade.state in RESTING and not trade.requests_waiting


def sizes(trade: Watched, main: Reading, hedge: Reading) -> tuple[Decimal, Decimal]:
    """What the venue holds of both legs, each in its own direction."""
    return main.held(trade.main)[0], hedge.held(trade.hedge)[0]


def is_alone(trade: Watched) -> bool:
    """Whether an open trade has a leg that is gone, by its record: then the other is closed (TWO-LEGGED)."""
    return trade.state is TradeState.OPEN and not (trade.main.size_open and trade.hedge.size_open)


def unguarded(leg: WatchedLeg, reading: Reading | None) -> Position | None:
    """The position of a leg whose stop should rest at the venue and does not."""
    if reading is None or leg.size_open == 0 or reading.guards(leg):
        return None
    return reading.held(leg)[1]


def reason_to_leave(trade: Watched, positions: Positions, equity_usd: Decimal, now: datetime, limits: Limits) -> str:
    """Why both legs are closed now, the ladder aside; empty when they are not."""
    return (
        ladder.time_limit(trade, now)
        or ladder.net_stop(trade, *positions, equity_usd, limits)
        or ladder.net_target(trade, *positions, equity_usd, limits)
        or ladder.hedge_drift(trade, *positions, limits)
        or ""
    )


def is_quiet(trade: Watched, main: Reading | None, hedge: Reading | None, now: datetime, limits: Limits) -> bool:
    """Whether a trade at rest needs nothing: the venue holds what it says, behind its stops, and no rule says act.

    With an account unread only the stops of the other are looked after, so only those are asked about.
    """
    if main is None or hedge is None:
        return unguarded(trade.main, main) is None and unguarded(trade.hedge, hedge) is None
    found = sizes(trade, main, hedge)
    if found != (trade.main.size_open, trade.hedge.size_open) or is_alone(trade):
        return False
    if not any(found):
        return True
    if unguarded(trade.main, main) or unguarded(trade.hedge, hedge):
        return False
    positions = main.held(trade.main)[1], hedge.held(trade.hedge)[1]
    if reason_to_leave(trade, positions, main.state.equity_usd + hedge.state.equity_usd, now, limits):
        return False
    return ladder.step_of(trade, ladder.rung_of(trade, *positions, limits)) is ladder.Step.NONE
