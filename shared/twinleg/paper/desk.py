"""The order desk: what an order must satisfy, in the venue's order of evaluation and in its words.

Errors of form fail the whole request with one status and leave no trace. Everything else is per order: the order
gets an id, and when it is refused it stays visible with a ``...Rejected`` status.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Any

from twinleg.paper import matching
from twinleg.paper.accounts import Account
from twinleg.paper.checks import (
    FormError,
    Refusal,
    cap_to_position,
    check_children,
    check_cloids,
    check_count,
    check_margin,
    check_minimum,
    check_oracle,
    check_tick,
    check_trigger,
    formed,
)
from twinleg.paper.market import Market
from twinleg.paper.numbers import ZERO, text, truncated
from twinleg.paper.orders import Order
from twinleg.paper.state import State

Status = str | dict[str, Any]


@dataclass(frozen=True, slots=True)
class OrderFault:
    """What fault injection does to the orders of one request that match ``coin`` and ``cloid`` (None: any)."""

    coin: str | None = None
    cloid: str | None = None
    reject: str | None = None
    fraction: Decimal | None = None

    def strikes(self, order: Order) -> bool:
        return self.coin in (None, order.coin) and self.cloid in (None, order.cloid)


Interference = tuple[OrderFault, ...]
NO_INTERFERENCE: Interference = ()


def place(
    state: State,
    account: Account,
    wires: Sequence[dict[str, Any]],
    grouping: str = "na",
    builder: dict[str, Any] | None = None,
    interference: Interference = NO_INTERFERENCE,
) -> list[Status]:
    """Place a batch. Returns one status per order, or a single error when the form of any is wrong."""
    try:
        if not wires:
            raise FormError("Orders are empty.")
        orders = [formed(state, account, wire, builder) for wire in wires]
        _check_grouping(orders, grouping)
    except FormError as error:
        return [{"error": str(error)}]
    if grouping == "normalTpsl":
        return _place_bracket(state, orders, interference)
    if grouping == "positionTpsl":
        for order in orders:
            order.follows_position = True
            order.siblings = [o for o in orders if o is not order]
    return [place_one(state, order, interference) for order in orders]


def _check_grouping(orders: list[Order], grouping: str) -> None:
    """Stops and targets of a group are reduce-only triggers; under a parent, on the side that closes it."""
    if grouping == "na":
        return
    parent = orders[0] if grouping == "normalTpsl" else None
    for order in orders if parent is None else orders[1:]:
        closes = parent is None or (order.is_buy != parent.is_buy and order.coin == parent.coin)
        if not (order.is_trigger and order.reduce_only and closes):
            raise FormError("Invalid TP/SL order.")


def _place_bracket(state: State, orders: list[Order], interference: Interference) -> list[Status]:
    parent, children = orders[0], orders[1:]
    first = place_one(state, parent, interference, children)
    if isinstance(first, dict) and "error" in first:
        return [first, *({"error": first["error"]} for _ in children)]
    awake = state.switches.woken_children_answer
    return [first, *(awake if child.phase == "trigger" else "waitingForFill" for child in children)]


def place_one(state: State, order: Order, interference: Interference, children: Sequence[Order] = ()) -> Status:
    """Give the order its id, check it, match it, rest it; the status to answer."""
    account = state.accounts[order.user]
    market = state.markets[order.coin]
    order.oid = state.new_oid()
    state.admit(order)
    try:
        _check_entry(state, account, market, order, interference)
        check_cloids(state, account, [order, *children])
        check_children(state, market, order, children)
        if order.is_trigger:
            return _place_trigger(state, account, market, order, children)
        return _place_limit(state, account, market, order, interference, children)
    except Refusal as refusal:
        state.set_status(order, refusal.status)
        return {"error": f"{refusal} asset={market.listing.asset}"}


def _check_entry(state: State, account: Account, market: Market, order: Order, interference: Interference) -> None:
    for fault in interference:
        if fault.reject is not None and fault.strikes(order):
            raise Refusal(fault.reject, "rejected")
    if state.switches.post_only_mode and order.tif != "Alo":
        raise Refusal("Only post-only orders allowed immediately after network upgrade", "rejected")
    check_count(account, order)
    check_tick(market, order)


def _place_trigger(state: State, account: Account, market: Market, order: Order, children: Sequence[Order]) -> Status:
    held = account.size(order.coin)
    if order.reduce_only and held * order.sign >= 0 and state.switches.reduce_only_trigger_needs_position:
        raise Refusal("Reduce only order would increase position.", "reduceOnlyRejected")
    if not order.follows_position:
        check_minimum(state, account, order)
    check_trigger(order, market.mark)
    if order.follows_position:
        order.original = order.size = abs(held) if state.switches.position_tpsl_size_shown == "position" else ZERO
    account.orders[order.oid] = order
    _adopt(state, order, children)
    matching.wake(state, order)
    state.set_status(order, "open")
    return "waitingForTrigger" if order.follows_position else _resting(order)


def _place_limit(
    state: State,
    account: Account,
    market: Market,
    order: Order,
    interference: Interference,
    children: Sequence[Order],
) -> Status:
    if order.reduce_only:
        cap_to_position(state, account, order)
    check_minimum(state, account, order)
    check_oracle(state, account, market, order)
    quotes = matching.plan(state, order, order.limit, order.size)
    while not matching.affordable_makers(state, quotes):
        quotes = matching.plan(state, order, order.limit, order.size)
    check_margin(state, account, market, order, quotes)
    if order.tif == "Alo" and quotes:
        bid, ask = market.book.best(True), market.book.best(False)
        bbo = "@".join("None" if p is None else text(p).removesuffix(".0") for p in (bid, ask))
        raise Refusal(f"Post only order would have immediately matched, bbo was {bbo}.", "badAloPxRejected")
    immediate = order.tif in ("Ioc", "FrontendMarket")
    if order.tif == "FrontendMarket" and not quotes:
        raise Refusal("No liquidity available for market order.", "marketOrderNoLiquidityRejected")
    if immediate and not quotes:
        raise Refusal("Order could not immediately match against any resting orders.", "iocCancelRejected")
    for fault in interference:
        if fault.fraction is not None and fault.strikes(order):
            quotes = _cut(quotes, fault.fraction, market.listing.lot)
    _adopt(state, order, children)
    matching.cancel_own_crossing(state, order, order.limit, order.size)
    matching.trade(state, order, quotes)
    status = _settle(state, market, order, immediate)
    matching.keep_reduce_only(state, account, market)
    return status


def _adopt(state: State, parent: Order, children: Sequence[Order]) -> None:
    """Attach a bracket's children to their parent, each other's sibling."""
    account = state.accounts[parent.user]
    for child in children:
        child.oid = state.new_oid()
        child.parent = parent
        child.phase = "child"
        child.siblings = [c for c in children if c is not child]
        state.admit(child)
        account.orders[child.oid] = child
    parent.children = list(children)
    for child in children:
        state.set_status(child, "open")


def _settle(state: State, market: Market, order: Order, immediate: bool) -> Status:
    """After matching: filled, resting, or the rest dropped."""
    filled = order.filled > 0
    if not order.size:
        matching.complete(state, order)
    elif immediate:
        matching.finish(state, order, state.switches.partial_ioc_status if filled else "iocCancelRejected")
        if not filled:
            return {"error": "Order could not immediately match against any resting orders."}
    else:
        matching.rest(state, order)
        state.set_status(order, "open")
        if not filled or state.switches.partial_gtc_answer == "resting":
            return _resting(order)
    return filled_status(market, order)


def _resting(order: Order) -> Status:
    inner: dict[str, Any] = {"oid": order.oid}
    if order.cloid is not None:
        inner["cloid"] = order.cloid
    return {"resting": inner}


def filled_status(market: Market, order: Order) -> Status:
    """``filled`` with the average price truncated to the coin's price decimals."""
    average = truncated(order.filled_usd / order.filled, market.listing.finest)
    inner: dict[str, Any] = {"totalSz": text(order.filled), "avgPx": text(average), "oid": order.oid}
    if order.cloid is not None:
        inner["cloid"] = order.cloid
    return {"filled": inner}


def _cut(quotes: list[matching.Quote], fraction: Decimal, lot: Decimal) -> list[matching.Quote]:
    """The first ``fraction`` of a plan's size, in whole lots."""
    total = sum((size for _, size, _ in quotes), ZERO)
    left = (total * fraction).quantize(lot, ROUND_DOWN)
    out: list[matching.Quote] = []
    for price, size, maker in quotes:
        take = min(size, left)
        if take:
            out.append((price, take, maker))
            left -= take
    return out
