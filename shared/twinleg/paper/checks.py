"""What an order must satisfy: form first, for a whole request; then rule by rule, for each order."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from twinleg.paper import fees, matching
from twinleg.paper.accounts import Account, cross_margin, reserved
from twinleg.paper.market import Market
from twinleg.paper.numbers import MICRO, ZERO, rounded, text
from twinleg.paper.orders import Order
from twinleg.paper.state import State

OPEN_ORDERS = 1000
OPEN_ORDERS_MAX = 5000
VOLUME_PER_ORDER = 5_000_000
CAP_BAND = Decimal("0.01")
LARGEST = Decimal(10) ** 15
"""No price or size is larger: beyond it arithmetic would stop being exact."""


class FormError(Exception):
    """The request is refused before anything is placed: one status answers all of it."""


class Refusal(Exception):
    """One order is refused. ``status`` is how the order's history names it."""

    def __init__(self, message: str, status: str) -> None:
        super().__init__(message)
        self.status = status


def formed(state: State, account: Account, wire: dict[str, Any], builder: dict[str, Any] | None) -> Order:
    """The order of a wire, or FormError in the venue's words."""
    market = state.by_asset.get(wire["a"])
    if market is None:
        raise FormError(f"Invalid asset: {wire['a']}")
    listing = market.listing
    limit, size = Decimal(wire["p"]), Decimal(wire["s"])
    limit, size = limit.normalize() + 0, size.normalize() + 0
    if limit <= 0 or limit > LARGEST or (limit != limit.to_integral_value() and limit % listing.finest):
        raise FormError("Order has invalid price.")
    if size > LARGEST or size % listing.lot:
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
        if not 0 < order.trigger <= LARGEST:
            raise FormError("Order has invalid price.")
    return order


def _value_cap(state: State, market: Market, is_market: bool) -> int:
    """Largest order value in USDC: ten times as much for a limit order as for a market order."""
    cap = market_order_cap(state, market.listing.max_leverage)
    return cap if is_market else 10 * cap


def market_order_cap(state: State, leverage: int) -> int:
    """Largest market order in USDC, by maximum leverage. Source: Hyperliquid docs, contract specifications."""
    top = 30_000_000 if state.switches.market_order_cap == "30M" else 15_000_000
    return top if leverage >= 25 else 5_000_000 if leverage >= 20 else 2_000_000 if leverage >= 10 else 500_000


def check_count(account: Account, order: Order) -> None:
    """1000 open orders and one more per 5 M USDC traded, at most 5000; past 1000 no reduce-only or trigger orders."""
    allowed = min(OPEN_ORDERS + int(account.volume) // VOLUME_PER_ORDER, OPEN_ORDERS_MAX)
    bound = OPEN_ORDERS if order.reduce_only or order.is_trigger else allowed
    if len(account.orders) >= bound:
        raise Refusal("Too many open orders.", "tooManyOpenOrdersRejected")


def check_cloids(state: State, account: Account, orders: Sequence[Order]) -> None:
    """A client order id must not be carried by an open order, nor twice in one bracket."""
    if state.switches.duplicate_open_cloid == "accept":
        return
    seen: set[str] = set()
    for order in orders:
        if order.cloid is None:
            continue
        other = account.cloids.get(order.cloid)
        if order.cloid in seen or (other is not None and other.live and other is not order):
            raise Refusal("Client order id is carried by an open order.", "rejected")
        seen.add(order.cloid)


def check_children(state: State, market: Market, parent: Order, children: Sequence[Order]) -> None:
    """A bracket's stop and target: valid prices, on the sides they can be reached from, large enough."""
    for child in children:
        check_tick(market, child)
        check_trigger(child, _expected_fill(market, parent))
        if child.size * child.limit < state.switches.minimum_notional_usd and child.size < parent.size:
            raise too_small(state)


def check_tick(market: Market, order: Order) -> None:
    prices = (order.limit, order.trigger) if order.is_trigger else (order.limit,)
    if any(price % market.listing.tick(price) for price in prices):
        raise Refusal("Price must be divisible by tick size.", "tickRejected")


def _expected_fill(market: Market, parent: Order) -> Decimal:
    """Where a parent can fill: its trigger, else its limit, or the mark when the limit is more generous."""
    if parent.is_trigger:
        return parent.trigger
    return min(parent.limit, market.mark) if parent.is_buy else max(parent.limit, market.mark)


def check_trigger(order: Order, reference: Decimal) -> None:
    """A trigger must lie on the side of the price from which it can be reached, a stop's limit beyond it.

    That of a target at market is not looked at: nothing says so, and the SDK's first example sent the other side.
    """
    reached = reference >= order.trigger if order.fires_above else reference <= order.trigger
    is_market_stop = order.trigger_is_market and order.tpsl == "sl"
    backwards = is_market_stop and (order.limit < order.trigger if order.is_buy else order.limit > order.trigger)
    if reached or backwards:
        raise Refusal("Invalid TP/SL price.", "badTriggerPxRejected")


def cap_to_position(state: State, account: Account, order: Order) -> None:
    """A reduce-only order is cut to the position, or refused when it is larger (by switch)."""
    held = account.size(order.coin)
    larger = order.size > abs(held) and state.switches.oversize_reduce_only == "reject"
    if held * order.sign >= 0 or larger:
        raise Refusal("Reduce only order would increase position.", "reduceOnlyRejected")
    order.size = min(order.size, abs(held))


def check_minimum(state: State, account: Account, order: Order) -> None:
    """$10, unless the order closes the whole position (resting ones only when reduce-only)."""
    if min(order.original, order.size) * order.limit >= state.switches.minimum_notional_usd:
        return
    held = account.size(order.coin)
    if held * order.sign < 0:
        closes = order.original >= abs(held) if order.reduce_only else order.size == abs(held)
        plain_rests = not order.reduce_only and order.tif in ("Gtc", "Alo")
        if closes and not (plain_rests and not state.switches.plain_gtc_close_below_minimum):
            return
    raise too_small(state)


def too_small(state: State) -> Refusal:
    """The refusal of an order under the smallest value."""
    value = text(state.switches.minimum_notional_usd).removesuffix(".0")
    return Refusal(f"Order must have minimum value of ${value}.", "minTradeNtlRejected")


def check_oracle(state: State, account: Account, market: Market, order: Order) -> None:
    """Rules that look at the oracle: too aggressive an order (by switch), and those of a coin at its cap.

    At the open-interest cap nothing may add to a position, and no order may be more than 1 % more aggressive than the
    oracle. Source: Hyperliquid docs, contract specifications.
    """
    switches = state.switches
    beyond = (order.limit - market.oracle) * order.sign / market.oracle
    if switches.oracle_band and beyond > switches.oracle_band:
        raise Refusal("Price too far from oracle", "oracleRejected")
    if order.reduce_only or not at_open_interest_cap(state, market):
        return
    held = account.size(order.coin) * order.sign
    if held >= 0 or order.size > -held:
        status = "positionIncreaseAt" if held >= 0 else "positionFlipAt"
        message = "Order would increase open interest while open interest is capped"
        raise Refusal(message, f"{status}OpenInterestCapRejected")
    if beyond > CAP_BAND:
        message = "Order rejected due to price more aggressive than oracle while at open interest cap"
        raise Refusal(message, "tooAggressiveAtOpenInterestCapRejected")


def at_open_interest_cap(state: State, market: Market) -> bool:
    """Whether the long positions of the accounts here have reached the cap (0: there is none)."""
    cap = state.switches.open_interest_cap_usd
    return bool(cap) and market.open_size * market.oracle >= cap


def check_margin(
    state: State, account: Account, market: Market, order: Order, quotes: Sequence[matching.Quote]
) -> None:
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
    fee = paid * fees.rates(state, account)[0]
    cross = cross_margin(account, state.markets)
    freed = matching.released_by_closing(account, market, order.size - opening)
    free = cross.value - cross.used + freed - reserved(account, state.markets)
    if not is_cross and order.size > opening:
        position = account.positions[order.coin]
        free += position.collateral + position.pnl(market.mark)
    if free < rounded(needed + fee, MICRO):
        raise Refusal("Insufficient margin to place order.", "perpMarginRejected")
    resulting = (opening if held < 0 else abs(held) + opening) * market.mark
    if leverage > market.listing.tier(resulting)[2]:
        message = "Order would cause position to exceed margin tier limit at current leverage"
        raise Refusal(message, "perpMaxPositionRejected")
