"""Stops and targets: they wait for the mark, then become orders."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from twinleg.paper import matching
from twinleg.paper.market import Market
from twinleg.paper.numbers import ZERO
from twinleg.paper.orders import Order
from twinleg.paper.state import State


def fire(state: State, market: Market) -> None:
    """Fire every trigger of this market that the mark has reached, oldest first."""
    if not market.triggers or not state.switches.triggers_enabled:
        return
    mark = market.mark
    for oid in list(market.triggers):
        order = state.orders[oid]
        if order.phase != "trigger":
            continue
        if mark >= order.trigger if order.fires_above else mark <= order.trigger:
            _trigger(state, market, order)


def _trigger(state: State, market: Market, order: Order) -> None:
    account = state.accounts[order.user]
    market.triggers.pop(order.oid, None)
    order.fired = True
    held = account.size(order.coin)
    if order.follows_position:
        order.size = order.original = abs(held)
    if order.reduce_only:
        if held * order.sign >= 0:
            matching.finish(state, order, "reduceOnlyCanceled")
            return
        order.size = min(order.size, abs(held))
    state.set_status(order, "triggered")
    limit = _market_limit(state, market, order) if order.trigger_is_market else order.limit
    quotes = matching.plan(state, order, limit, order.size)
    while not matching.affordable_makers(state, quotes):
        quotes = matching.plan(state, order, limit, order.size)
    if not order.reduce_only and not matching.can_carry(state, order, limit, order.size):
        matching.finish(state, order, "perpMarginRejected")
        return
    matching.cancel_own_crossing(state, order, limit, order.size)
    account.orders.pop(order.oid, None)
    order.phase = "fired"
    matching.trade(state, order, quotes)
    if not order.size:
        matching.complete(state, order)
    elif not order.trigger_is_market:
        order.tif = "Gtc"
        matching.rest(state, order)
    elif order.filled:
        matching.finish(state, order, state.switches.partial_ioc_status)
    else:
        matching.finish(state, order, "marketOrderNoLiquidityRejected")
    matching.keep_reduce_only(state, account, market)


def _market_limit(state: State, market: Market, order: Order) -> Decimal:
    slip = state.switches.trigger_slippage
    if order.is_buy:
        return market.listing.round(market.mark * (1 + slip), ROUND_CEILING)
    return max(market.listing.round(market.mark * (1 - slip), ROUND_FLOOR), ZERO)
