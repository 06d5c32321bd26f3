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
from twinleg.paper.accounts import Account, cross_margin, reserved
from twinleg.paper.market import Market
from twinleg.paper.numbers import ZERO, rounded, text, truncated
from twinleg.paper.orders import Order
from twinleg.paper.state import State

MINIMUM_USD = Decimal(10)
OPEN_ORDERS_MAX = 1000
NEVER_PLACED = "Order was never placed, already canceled, or filled."
ONE = Decimal(1)

Status = str | dict[str, Any]


class FormError(Exception):
    """The request is refused before anything is placed: one status answers all of it."""


class Refusal(Exception):
    """One order is refused. ``status`` is how the order's history names it."""

    def __init__(self, message: str, status: str) -> None:
        super().__init__(message)
        self.status = status


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
        orders = [_formed(state, account, wire, builder) for wire in wires]
        if grouping != "na" and not all(o.is_trigger and o.reduce_only for o in _dependants(orders, grouping)):
            raise FormError("Invalid TP/SL order.")
    except FormError as error:
        return [{"error": str(error)}]
    if grouping == "normalTpsl":
        return _place_bracket(state, orders, interference)
    if grouping == "positionTpsl":
        for order in orders:
            order.follows_position = True
            order.siblings = [o for o in orders if o is not order]
    return [_place_one(state, order, interference) for order in orders]


def _dependants(orders: list[Order], grouping: str) -> list[Order]:
    return orders[1:] if grouping == "normalTpsl" else orders


def _formed(state: State, account: Account, wire: dict[str, Any], builder: dict[str, Any] | None) -> Order:
    """The order of a wire, or FormError in the venue's words."""
    market = state.by_asset.get(wire["a"])
    if market is None:
        raise FormError(f"Invalid asset: {wire['a']}")
    listing = market.listing
    limit, size = Decimal(wire["p"]), Decimal(wire["s"])
    limit, size = limit.normalize() + 0, size.normalize() + 0
    if limit <= 0 or (limit != limit.to_integral_value() and limit % listing.finest):
        raise FormError("Order has invalid price.")
    if size % listing.lot:
        raise FormError("Order has invalid size.")
    kind = wire["t"]
    trigger = kind.get("trigger")
    if not size and not (trigger and wire["r"]):
        raise FormError("Order has zero size.")
    band = state.switches.price_band
    reference = market.oracle if state.switches.price_band_reference == "oracle" else market.mark
    if abs(limit - reference) > band * reference:
        percent = text(band * 100).removesuffix(".0")
        raise FormError(f"Order price cannot be more than {percent}% away from the reference price")
    is_market = (trigger or {}).get("isMarket", False) or kind.get("limit", {}).get("tif") in ("Ioc", "FrontendMarket")
    cap = _value_cap(state, market, is_market)
    if size * limit > cap:
        raise FormError(f"Order value too large. Max is ${cap}.")
    order = Order(
        oid=0,
        user=account.address,
        coin=market.coin,
        is_buy=wire["b"],
        limit=limit,
        size=size,
        original=size,
        reduce_only=wire["r"],
        tif=None if trigger else kind["limit"]["tif"],
        cloid=wire.get("c"),
        placed_ms=state.now_ms,
        builder=(builder["b"], builder["f"]) if builder else None,
    )
    if trigger:
        order.is_trigger = True
        order.trigger = Decimal(trigger["triggerPx"]).normalize() + 0
        order.trigger_is_market = trigger["isMarket"]
        order.tpsl = trigger["tpsl"]
        if order.trigger <= 0:
            raise FormError("Order has invalid price.")
    return order


def _value_cap(state: State, market: Market, is_market: bool) -> int:
    """Largest order value in USDC. Source: Hyperliquid docs, contract specifications."""
    leverage = market.listing.max_leverage
    top = 30_000_000 if state.switches.market_order_cap == "30M" else 15_000_000
    cap = top if leverage >= 25 else 5_000_000 if leverage >= 20 else 2_000_000 if leverage >= 10 else 500_000
    return cap if is_market else 10 * cap


def _place_bracket(state: State, orders: list[Order], interference: Interference) -> list[Status]:
    parent, children = orders[0], orders[1:]
    first = _place_one(state, parent, interference, children)
    if isinstance(first, dict) and "error" in first:
        return [first, *({"error": first["error"]} for _ in children)]
    awake = state.switches.woken_children_answer
    return [first, *(awake if child.phase == "trigger" else "waitingForFill" for child in children)]


def _place_one(state: State, order: Order, interference: Interference, children: Sequence[Order] = ()) -> Status:
    """Give the order its id, check it, match it, rest it; the status to answer."""
    account = state.accounts[order.user]
    market = state.markets[order.coin]
    order.oid = state.new_oid()
    duplicate = order.cloid is not None and _cloid_is_open(account, order.cloid)
    state.admit(order)
    try:
        for fault in interference:
            if fault.reject is not None and fault.strikes(order):
                raise Refusal(fault.reject, "rejected")
        if duplicate and state.switches.duplicate_open_cloid == "reject":
            raise Refusal("Client order id is carried by an open order.", "rejected")
        if state.switches.post_only_mode and order.tif != "Alo":
            raise Refusal("Only post-only orders allowed immediately after network upgrade", "rejected")
        if len(account.orders) >= OPEN_ORDERS_MAX and (order.reduce_only or order.is_trigger):
            raise Refusal("Too many open orders.", "tooManyOpenOrdersRejected")
        _check_tick(market, order)
        for child in children:
            _check_tick(market, child)
            _check_trigger(child, _expected_fill(market, order))
        if order.is_trigger:
            return _place_trigger(state, account, market, order)
        return _place_limit(state, account, market, order, interference, children)
    except Refusal as refusal:
        state.set_status(order, refusal.status)
        return {"error": f"{refusal} asset={market.listing.asset}"}


def _cloid_is_open(account: Account, cloid: str) -> bool:
    other = account.cloids.get(cloid)
    return other is not None and other.live


def _check_tick(market: Market, order: Order) -> None:
    prices = (order.limit, order.trigger) if order.is_trigger else (order.limit,)
    if any(price % market.listing.tick(price) for price in prices):
        raise Refusal("Price must be divisible by tick size.", "tickRejected")


def _expected_fill(market: Market, parent: Order) -> Decimal:
    """Where a parent can fill: its limit, or the mark when the limit is more generous than that."""
    return min(parent.limit, market.mark) if parent.is_buy else max(parent.limit, market.mark)


def _check_trigger(order: Order, reference: Decimal) -> None:
    """A trigger must lie on the side of the price from which it can be reached, its limit beyond it."""
    reached = reference >= order.trigger if order.fires_above else reference <= order.trigger
    backwards = order.trigger_is_market and (
        order.limit < order.trigger if order.is_buy else order.limit > order.trigger
    )
    if reached or backwards:
        raise Refusal("Invalid TP/SL price.", "badTriggerPxRejected")


def _place_trigger(state: State, account: Account, market: Market, order: Order) -> Status:
    held = account.size(order.coin)
    if order.reduce_only and held * order.sign >= 0 and state.switches.reduce_only_trigger_needs_position:
        raise Refusal("Reduce only order would increase position.", "reduceOnlyRejected")
    if not order.follows_position:
        _check_minimum(state, account, order)
    _check_trigger(order, market.mark)
    if order.follows_position:
        order.original = order.size = abs(held) if state.switches.position_tpsl_size_shown == "position" else ZERO
    account.orders[order.oid] = order
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
        _cap_to_position(account, order)
    _check_minimum(state, account, order)
    quotes = matching.plan(state, order, order.limit, order.size)
    while not matching.affordable_makers(state, quotes):
        quotes = matching.plan(state, order, order.limit, order.size)
    check_margin(state, account, market, order, quotes)
    if order.tif == "Alo" and quotes:
        bid, ask = market.book.best(True), market.book.best(False)
        bbo = "@".join("None" if p is None else text(p).removesuffix(".0") for p in (bid, ask))
        raise Refusal(f"Post only order would have immediately matched, bbo was {bbo}.", "badAloPxRejected")
    immediate = order.tif in ("Ioc", "FrontendMarket")
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


def _cap_to_position(account: Account, order: Order) -> None:
    held = account.size(order.coin)
    if held * order.sign >= 0:
        raise Refusal("Reduce only order would increase position.", "reduceOnlyRejected")
    order.size = min(order.size, abs(held))


def _check_minimum(state: State, account: Account, order: Order) -> None:
    """$10, unless the order closes the whole position (resting ones only when reduce-only)."""
    if order.original * order.limit >= MINIMUM_USD and order.size * order.limit >= MINIMUM_USD:
        return
    held = account.size(order.coin)
    if held * order.sign < 0:
        closes = order.original >= abs(held) if order.reduce_only else order.size == abs(held)
        plain_rests = not order.reduce_only and order.tif in ("Gtc", "Alo")
        if closes and not (plain_rests and not state.switches.plain_gtc_close_below_minimum):
            return
    raise Refusal("Order must have minimum value of $10.", "minTradeNtlRejected")


def check_margin(state: State, account: Account, market: Market, order: Order, quotes: list[matching.Quote]) -> None:
    """Initial margin for the part that opens or increases, and the tier limit of the resulting notional."""
    held = account.size(order.coin) * order.sign
    opening = order.size if held >= 0 else max(ZERO, order.size + held)
    if not opening:
        return
    is_cross, leverage = account.setting(market)
    taken = sum((size for _, size, _ in quotes), ZERO)
    at_limit = state.switches.new_order_margin_price == "limit"
    paid = sum(((order.limit if at_limit else price) * size for price, size, _ in quotes), ZERO)
    value = paid + (order.size - taken) * order.limit
    needed = value * opening / order.size / leverage
    fee = paid * state.switches.taker_fee_rate
    cross = cross_margin(account, state.markets)
    freed = matching.released_by_closing(account, market, order.size - opening)
    free = cross.value - cross.used + freed - reserved(account, state.markets)
    if not is_cross and order.size > opening:
        position = account.positions[order.coin]
        free += position.collateral + position.pnl(market.mark)
    if free < rounded(needed + fee, Decimal("0.000001")):
        raise Refusal("Insufficient margin to place order.", "perpMarginRejected")
    resulting = (opening if held < 0 else abs(held) + opening) * market.mark
    if leverage > market.listing.tier(resulting)[2]:
        message = "Order would cause position to exceed margin tier limit at current leverage"
        raise Refusal(message, "perpMaxPositionRejected")


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


def cancel(state: State, order: Order | None, asset: int) -> Status:
    """Cancel one order, with its waiting children."""
    market = state.by_asset.get(asset)
    if order is None or not order.live or market is None or order.coin != market.coin:
        return {"error": f"{NEVER_PLACED} asset={asset}"}
    matching.finish(state, order, "canceled")
    return "success"


def find(account: Account, ident: int | str) -> Order | None:
    """The account's order with this id, or the newest one with this client order id."""
    return account.known.get(ident) if isinstance(ident, int) else account.cloids.get(ident)


def modify(
    state: State, account: Account, ident: int | str, wire: dict[str, Any], always: bool, interference: Interference
) -> Status:
    """Cancel and place anew: another oid, the back of the queue. Waiting children go with the old order."""
    old = find(account, ident)
    if old is None or not old.live:
        return {"error": "Cannot modify canceled or filled order"}
    if state.switches.modify_always_place_rule and not always:
        if "trigger" in wire["t"]:
            return {"error": "Cannot modify into a trigger order."}
        wire = {**wire, "t": {"limit": {"tif": "Alo"}}}
    try:
        order = _formed(state, account, wire, None)
    except FormError as error:
        return {"error": str(error)}
    _withdraw(state, account, old)
    status = _place_one(state, order, interference)
    failed = isinstance(status, dict) and "error" in status
    if failed and state.switches.modify_keeps_old_when_rejected:
        _reinstate(state, account, old)
    else:
        old.phase = old.phase if old.live else "done"
        matching.finish(state, old, "canceled")
    return status


def _withdraw(state: State, account: Account, order: Order) -> None:
    market = state.markets[order.coin]
    market.book.remove(order)
    market.triggers.pop(order.oid, None)
    account.orders.pop(order.oid, None)
    if order.cloid is not None and account.cloids.get(order.cloid) is order:
        del account.cloids[order.cloid]


def _reinstate(state: State, account: Account, order: Order) -> None:
    market = state.markets[order.coin]
    account.orders[order.oid] = order
    if order.cloid is not None:
        account.cloids[order.cloid] = order
    if order.phase == "book":
        market.book.add(order)
    elif order.phase == "trigger":
        market.triggers[order.oid] = None
