"""Auto-deleveraging: who bears the loss of an account that fell below zero.

Its position is closed at the mark of the point before, against positions of the other side that are in profit, the
most profitable and most leveraged first: by (mark / entry, turned over for shorts) x (notional / account value). What
no account here holds on the other side goes to the book and the backstop as ever. No fee. Off unless switched on.
Source: Hyperliquid docs, auto-deleveraging.
"""

from __future__ import annotations

from decimal import Decimal

from twinleg.paper import matching
from twinleg.paper.accounts import Account, Position, cross_margin, isolated_margin
from twinleg.paper.market import Market
from twinleg.paper.numbers import ZERO, text
from twinleg.paper.orders import Order
from twinleg.paper.state import State

DIRECTION = "Auto-Deleveraging"
"""How the fill of a winner is named; documents do not give the word."""


def deleverage(state: State, account: Account, market: Market, value: Decimal) -> list[str]:
    """Close as much of a position as there are winners for, when its account value (or own margin) is below zero.

    Returns the winners' addresses: what they lose by it may be what they lived on.
    """
    closed: list[str] = []
    if not state.switches.adl_enabled or value >= 0:
        return closed
    for winner in _winners(state, account, market):
        held = account.size(market.coin)
        if not held:
            break
        _close(state, market, account, winner, min(abs(held), abs(winner.size(market.coin))))
        closed.append(winner.address)
    return closed


def _winners(state: State, account: Account, market: Market) -> list[Account]:
    sign = 1 if account.size(market.coin) > 0 else -1
    holders = [state.accounts[address] for address in market.holders]
    found = [a for a in holders if a.size(market.coin) * sign < 0 and a.positions[market.coin].pnl(market.mark) > 0]
    return sorted(found, key=lambda a: _rank(state, a, market), reverse=True)


def _rank(state: State, account: Account, market: Market) -> Decimal:
    position = account.positions[market.coin]
    entry = position.entry_usd / position.size
    gain = market.mark / entry if position.size > 0 else entry / market.mark
    value = _value(state, account, position, market)
    return gain * abs(position.size) * market.mark / value if value > 0 else ZERO


def _value(state: State, account: Account, position: Position, market: Market) -> Decimal:
    return cross_margin(account, state.markets).value if position.is_cross else isolated_margin(position, market.mark)


def _close(state: State, market: Market, loser: Account, winner: Account, size: Decimal) -> None:
    """One trade at the mark before between the two, outside the book."""
    tid, tx = state.new_tid(), state.new_hash()
    liquidation = {"liquidatedUser": loser.address, "markPx": text(market.mark), "method": "backstop"}
    for account, crossed in ((loser, True), (winner, False)):
        order = order_of_the_venue(state, account, market, size)
        direction = "" if crossed else DIRECTION
        matching.fill(
            state,
            order,
            market.mark_before,
            size,
            crossed=crossed,
            tid=tid,
            tx=tx,
            liquidation=liquidation,
            direction=direction,
        )
        matching.complete(state, order)
        matching.keep_reduce_only(state, account, market)


def order_of_the_venue(state: State, account: Account, market: Market, size: Decimal) -> Order:
    """An order that the venue places to close (part of) an account's position."""
    order = Order(
        oid=state.new_oid(),
        user=account.address,
        coin=market.coin,
        is_buy=account.size(market.coin) < 0,
        limit=market.mark,
        size=size,
        original=size,
        reduce_only=True,
        tif="LiquidationMarket",
        cloid=None,
        placed_ms=state.now_ms,
    )
    state.admit(order)
    return order
