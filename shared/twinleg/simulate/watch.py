"""Looks at the venue's own state while a run goes on: stops, and what leverage an entry was filled with."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from twinleg.domain.candles import utc_from_ms
from twinleg.domain.money import ZERO
from twinleg.paper.accounts import Position, isolated_margin, liquidation_price
from twinleg.paper.market import Market
from twinleg.paper.orders import Order
from twinleg.paper.state import State
from twinleg.simulate.evidence import Entered, Liquidated, Span


class Watch:
    """Shown the venue whenever something may have changed there, it keeps what was dangerous, and for how long."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.naked: list[Span] = []
        """Positions without a stop of their own that rests inside their liquidation price."""
        self.uncovered: list[Span] = []
        """Those of them that lost it by a cancel of ours."""
        self.entered: list[Entered] = []
        self.liquidated: list[Liquidated] = []
        self._stops: dict[tuple[str, str], Decimal] = {}
        """Of each guarded position, where its stop rests."""
        self._marks: dict[str, Decimal] = {}
        self._liquidations = 0
        self._open: dict[tuple[str, str], Span] = {}
        self._seen: tuple[int, ...] = ()
        self._fills = 0

    def glance(self, at: datetime) -> None:
        """Look, if anything was filled, placed or ended since the last time."""
        state = self.state
        if len(state.liquidations) > self._liquidations:
            self._keep_liquidations()
        self._marks = {coin: market.mark for coin, market in state.markets.items()}
        if (len(state.fills), *(len(a.orders) for a in state.accounts.values())) != self._seen:
            self.look(at)

    def _keep_liquidations(self) -> None:
        new, self._liquidations = self.state.liquidations[self._liquidations :], len(self.state.liquidations)
        for line in new:
            coin, mark = line["coin"], Decimal(line["markPx"])
            before, stop = self._marks.get(coin, mark), self._stops.get((line["user"], coin))
            at = utc_from_ms(line["time"])
            size = Decimal(line["szi"])
            self.liquidated.append(Liquidated(at, line["user"], coin, size, stop, before, mark))

    def look(self, at: datetime, *, cancelled: bool = False) -> None:
        """Note every position that is not guarded now. *cancelled*: a cancel of ours was just carried out."""
        state = self.state
        self._seen = (len(state.fills), *(len(a.orders) for a in state.accounts.values()))
        new, self._fills = state.fills[self._fills :], len(state.fills)
        last = {(line["user"], line["coin"]): utc_from_ms(line["time"]) for line in new}
        seen = set()
        for user, account in state.accounts.items():
            for coin, position in account.positions.items():
                key = (user, coin)
                if not position.size:
                    continue
                stop = _stop_of(account.orders.values(), coin, position, state.markets[coin])
                if stop is not None:
                    self._stops[key] = stop
                    continue
                self._stops.pop(key, None)
                seen.add(key)
                if key not in self._open:
                    span = Span("no stop inside its liquidation price", user, coin, last.get(key, at))
                    self._open[key] = span
                    self.naked.append(span)
                    if cancelled:
                        self.uncovered.append(span)
        for key in [key for key in self._open if key not in seen]:
            self._open.pop(key).ended = at
        for line in new:
            held = state.accounts[line["user"]].positions.get(line["coin"])
            if line.get("cloid") and held is not None:
                self.entered.append(
                    Entered(at, line["user"], line["coin"], line["cloid"], held.leverage, not held.is_cross)
                )


def _stop_of(orders: Iterable[Order], coin: str, position: Position, market: Market) -> Decimal | None:
    """Where reduce-only stops for all of it wait on the near side of its liquidation price: the last of them."""
    covered, size = ZERO, position.size
    last: Decimal | None = None
    limit: Decimal | None = None
    if not position.is_cross:
        limit = liquidation_price(position, market, isolated_margin(position, market.mark), ZERO)
    for order in orders:
        if order.coin != coin or order.tpsl != "sl" or order.phase not in ("trigger", "book"):
            continue
        if order.is_buy == (size > 0) or not (order.reduce_only or order.follows_position):
            continue
        if limit is not None and (order.trigger - limit) * (1 if size > 0 else -1) <= 0:
            continue
        if order.follows_position:
            return order.trigger
        covered += order.size
        last = order.trigger if last is None else min(last, order.trigger) if size > 0 else max(last, order.trigger)
    return last if covered >= abs(size) else None
