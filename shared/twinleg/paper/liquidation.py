"""Liquidation: market orders first, the liquidator's backstop below two thirds of maintenance.

Below maintenance the account's orders are cancelled and its position is sold into the book: 20 % first when it is
above 100 000 USDC, then a 30 s rest after which all may go. Below 2/3 of maintenance the liquidator takes position
and remaining margin at the mark. No fee beyond the taker's. With auto-deleveraging switched on, an account below zero
is closed against the winners of the other side first (``adl``). Source: Hyperliquid docs, liquidations.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal
from typing import Any

from twinleg.paper import adl, matching, twaps
from twinleg.paper.accounts import Account, Position, cross_margin, isolated_margin
from twinleg.paper.books import BACKSTOP
from twinleg.paper.market import Market
from twinleg.paper.numbers import ZERO, text, usd
from twinleg.paper.state import State

FIRST_STEP = Decimal("0.2")
COOLDOWN_MS = 30_000
TWO_THIRDS = Decimal(2) / Decimal(3)
ANY_PRICE = Decimal("1e18")


def check(state: State, addresses: list[str]) -> None:
    """Liquidate what lies below maintenance among these accounts, and among those deleveraged for them."""
    if not state.switches.liquidations_enabled:
        return
    waiting = list(addresses)
    while waiting:
        address = waiting.pop(0)
        account = state.accounts[address]
        for coin, position in list(account.positions.items()):
            if not position.is_cross and account.positions.get(coin) is position:
                waiting += _check_isolated(state, account, state.markets[coin], position)
        cross = cross_margin(account, state.markets)
        if cross.notional and cross.value < cross.maintenance:
            waiting += _liquidate_cross(state, account)
        else:
            _rested(account)


def settle_debts(state: State) -> None:
    """Make whole the accounts that closed at a loss beyond their balance, once they hold no cross position."""
    if state.switches.liquidations_enabled:
        for address in state.indebted:
            _absorb_debt(state, state.accounts[address])
    state.indebted.clear()


def _rested(account: Account) -> None:
    """A healthy account starts its next liquidation, if any, with the first step again."""
    for position in account.positions.values():
        if position.is_cross:
            position.cooldown_ms = 0


def _check_isolated(state: State, account: Account, market: Market, position: Position) -> list[str]:
    maintenance = market.listing.maintenance(abs(position.size) * market.mark)
    if isolated_margin(position, market.mark) >= maintenance:
        position.cooldown_ms = 0
        return []
    _cancel_orders(state, account, market.coin)
    before = account.balance
    touched = adl.deleverage(state, account, market, isolated_margin(position, market.mark))
    if market.coin in account.positions:
        _sell(state, account, market, position)
    left = account.positions.get(market.coin)
    if left is None:
        if account.balance < before:
            _hand_over(state, account, account.balance - before, NOTHING_LEFT)
        return touched
    maintenance = market.listing.maintenance(abs(left.size) * market.mark)
    if isolated_margin(left, market.mark) < TWO_THIRDS * maintenance:
        _backstop(state, account, [market.coin])
    return touched


def _liquidate_cross(state: State, account: Account) -> list[str]:
    _cancel_orders(state, account, None)
    touched: list[str] = []
    for coin in [c for c, p in account.positions.items() if p.is_cross] if state.switches.adl_enabled else []:
        touched += adl.deleverage(state, account, state.markets[coin], cross_margin(account, state.markets).value)
    for coin in [c for c, p in account.positions.items() if p.is_cross]:
        cross = cross_margin(account, state.markets)
        if not cross.notional or cross.value >= cross.maintenance:
            return touched
        _sell(state, account, state.markets[coin], account.positions[coin])
    cross = cross_margin(account, state.markets)
    if not cross.notional:
        _absorb_debt(state, account)
    elif cross.value < TWO_THIRDS * cross.maintenance:
        _backstop(state, account, [c for c, p in account.positions.items() if p.is_cross])
    return touched


def _cancel_orders(state: State, account: Account, coin: str | None) -> None:
    twaps.terminate_all(state, account, coin)
    for order in list(account.orders.values()):
        if order.live and order.phase != "child" and (coin is None or order.coin == coin):
            matching.finish(state, order, "liquidatedCanceled")


def _sell(state: State, account: Account, market: Market, position: Position) -> None:
    """A market order of the venue's for the position, or for its first step."""
    if state.now_ms < position.cooldown_ms:
        return
    size = abs(position.size)
    stepwise = size * market.mark > state.switches.liquidation_step_usd and not position.cooldown_ms
    if stepwise:
        size = (size * FIRST_STEP).quantize(market.listing.lot, ROUND_DOWN) or market.listing.lot
        position.cooldown_ms = state.now_ms + COOLDOWN_MS
    order = adl.order_of_the_venue(state, account, market, size)
    quotes = matching.plan(state, order, ANY_PRICE if order.is_buy else ZERO, size)
    _record(state, account, market, position, size, "market")
    matching.trade(state, order, quotes, _mark_of(account, market, "market"))
    if order.size:
        matching.finish(state, order, state.switches.partial_ioc_status)
    else:
        matching.complete(state, order)
    matching.keep_reduce_only(state, account, market)
    if not account.positions:
        _absorb_debt(state, account)


def _mark_of(account: Account, market: Market, method: str) -> dict[str, Any]:
    return {"liquidatedUser": account.address, "markPx": text(market.mark), "method": method}


def _record(state: State, account: Account, market: Market, position: Position, size: Decimal, method: str) -> None:
    cross = cross_margin(account, state.markets)
    value = cross.value if position.is_cross else isolated_margin(position, market.mark)
    state.liquidations.append(
        {
            "time": state.now_ms,
            "user": account.address,
            "coin": market.coin,
            "szi": text(position.size),
            "size": text(size),
            "markPx": text(market.mark),
            "accountValue": usd(value),
            "isCross": position.is_cross,
            "method": method,
        }
    )


def _backstop(state: State, account: Account, coins: list[str]) -> None:
    """The liquidator takes over positions at the mark, and the margin that is left behind them."""
    cross_side = account.positions[coins[0]].is_cross
    shown = _ledger_line(state, account, coins)
    taken = ZERO
    for coin in coins:
        market, position = state.markets[coin], account.positions[coin]
        margin = ZERO if cross_side else isolated_margin(position, market.mark)
        _record(state, account, market, position, abs(position.size), "backstop")
        order = adl.order_of_the_venue(state, account, market, abs(position.size))
        matching.fill(
            state,
            order,
            market.mark,
            order.size,
            crossed=True,
            tid=state.new_tid(),
            tx=state.new_hash(),
            liquidation=_mark_of(account, market, "backstop"),
        )
        matching.complete(state, order)
        matching.keep_reduce_only(state, account, market)
        taken += margin
    if cross_side:
        taken = account.balance
    _hand_over(state, account, taken, shown)


NOTHING_LEFT: dict[str, Any] = {
    "type": "liquidation",
    "liquidatedNtlPos": "0.0",
    "accountValue": "0.0",
    "leverageType": "Cross",
    "liquidatedPositions": [],
}


def _ledger_line(state: State, account: Account, coins: list[str]) -> dict[str, Any]:
    """The line of the account's ledger for what the liquidator takes over."""
    held = [(state.markets[coin], account.positions[coin]) for coin in coins]
    is_cross = held[0][1].is_cross
    value = cross_margin(account, state.markets).value if is_cross else isolated_margin(held[0][1], held[0][0].mark)
    return {
        "type": "liquidation",
        "liquidatedNtlPos": usd(sum((abs(p.size) * m.mark for m, p in held), ZERO)),
        "accountValue": usd(value),
        "leverageType": "Cross" if is_cross else "Isolated",
        "liquidatedPositions": [{"coin": market.coin, "szi": text(position.size)} for market, position in held],
    }


def _hand_over(state: State, account: Account, amount: Decimal, shown: dict[str, Any]) -> None:
    if not amount:
        return
    account.balance -= amount
    state.books.post(account.address, BACKSTOP, amount, "backstop")
    state.note_transfer(account, shown)


def _absorb_debt(state: State, account: Account) -> None:
    """An account left below zero without positions is made whole by the backstop."""
    if account.balance < 0 and not any(p.is_cross for p in account.positions.values()):
        _hand_over(state, account, account.balance, NOTHING_LEFT)
