"""Fills: an order against the book, what they do to positions and money, and what follows from them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from twinleg.paper import fees
from twinleg.paper.accounts import Account, Position, cross_margin, reserved
from twinleg.paper.books import BACKSTOP, FEES, MARKET
from twinleg.paper.market import Market
from twinleg.paper.numbers import MICRO, NANO8, ZERO, rounded, text, truncated
from twinleg.paper.orders import Order
from twinleg.paper.state import State

Quote = tuple[Decimal, Decimal, Order | None]


def plan(state: State, order: Order, limit: Decimal, size: Decimal) -> list[Quote]:
    """What the order would trade against right now, best first; its own resting orders left out."""
    market = state.markets[order.coin]
    out: list[Quote] = []
    for price, available, maker in market.book.crossing(order.is_buy, limit):
        if size <= 0:
            break
        if maker is not None and maker.user == order.user:
            continue
        take = min(available, size)
        out.append((price, take, maker))
        size -= take
    return out


def cancel_own_crossing(state: State, order: Order, limit: Decimal, size: Decimal) -> None:
    """Self-match: the account's own resting orders that the order would reach are cancelled, without a fill."""
    market = state.markets[order.coin]
    reached: list[Order] = []
    for _, available, maker in market.book.crossing(order.is_buy, limit):
        if size <= 0:
            break
        if maker is not None and maker.user == order.user:
            reached.append(maker)
        else:
            size -= available
    for maker in reached:
        finish(state, maker, "selfTradeCanceled")


def affordable_makers(state: State, quotes: list[Quote]) -> bool:
    """Cancel resting orders in the plan that their accounts can no longer carry; False when one was."""
    fine = True
    for price, size, maker in quotes:
        if maker is not None and maker.live and not can_carry(state, maker, price, size):
            finish(state, maker, "marginCanceled")
            fine = False
    return fine


def can_carry(state: State, order: Order, price: Decimal, size: Decimal) -> bool:
    """Whether the account's margin suffices for this part of a resting order to fill."""
    account = state.accounts[order.user]
    market = state.markets[order.coin]
    held = account.size(order.coin) * order.sign
    opening = size if held >= 0 else max(ZERO, size + held)
    if not opening:
        return True
    cross = cross_margin(account, state.markets)
    leverage = account.setting(market)[1]
    freed = released_by_closing(account, market, size - opening)
    free = cross.value - cross.used + freed - reserved(account, state.markets, without=order)
    fee = price * size * fees.rates(state, account)[1]
    return free >= opening * price / leverage + fee


def released_by_closing(account: Account, market: Market, closing: Decimal) -> Decimal:
    """Cross margin set free when ``closing`` of the position goes."""
    position = account.positions.get(market.coin)
    if position is None or not closing or not position.is_cross:
        return ZERO
    return closing * market.mark / position.leverage


def trade(state: State, taker: Order, quotes: list[Quote], liquidation: dict[str, Any] | None = None) -> None:
    """Execute a plan. Makers fill at their own prices; one trade id and hash per match.

    The caller ends the taker's order and then calls ``keep_reduce_only`` for its account, so that a filled stop
    ends its sibling before the flat position would.
    """
    market = state.markets[taker.coin]
    makers: list[Order] = []
    for price, size, maker in quotes:
        if maker is not None:
            size = min(size, maker.size) if maker.live else ZERO
        if not size:
            continue
        tid, tx = state.new_tid(), state.new_hash()
        if maker is None:
            market.book.consumed[not taker.is_buy] += size
        else:
            fill(state, maker, price, size, crossed=False, tid=tid, tx=tx, liquidation=None)
            makers.append(maker)
        fill(state, taker, price, size, crossed=True, tid=tid, tx=tx, liquidation=liquidation)
    for maker in makers:
        if maker.live and not maker.size:
            complete(state, maker)
        keep_reduce_only(state, state.accounts[maker.user], market)


def fill(
    state: State,
    order: Order,
    price: Decimal,
    size: Decimal,
    *,
    crossed: bool,
    tid: int,
    tx: str,
    liquidation: dict[str, Any] | None,
    direction: str = "",
) -> None:
    """One execution of one order: money, position, and the line in the fills."""
    account = state.accounts[order.user]
    market = state.markets[order.coin]
    start = account.size(order.coin)
    closed_pnl, beyond = _move_position(account, market, order.sign * size, price)
    step = MICRO if state.switches.fee_decimals == 6 else Decimal(1).scaleb(-state.switches.fee_decimals)
    fee = truncated(price * size * _fee_rate(state, account, crossed, liquidation), step)
    builder_fee = ZERO
    if order.builder is not None:
        builder_fee = truncated(price * size * order.builder[1] / Decimal(100_000), step)
    account.balance += closed_pnl - fee - builder_fee
    if account.balance < 0:
        state.indebted[account.address] = None
    if beyond and state.switches.isolated_loss_confined:
        account.balance += beyond
        state.books.post(BACKSTOP, account.address, beyond, "backstop")
    state.books.post(MARKET, account.address, closed_pnl, "pnl")
    state.books.post(account.address, FEES, fee + builder_fee, "fee")
    fees.count(state, account, price * size, crossed)
    order.size -= size
    order.filled += size
    order.filled_usd += price * size
    line: dict[str, Any] = {
        "coin": order.coin,
        "px": text(price),
        "sz": text(size),
        "side": "B" if order.is_buy else "A",
        "time": state.now_ms,
        "startPosition": text(start),
        "dir": direction or _direction(start, account.size(order.coin), order.is_buy),
        "closedPnl": text(closed_pnl),
        "hash": tx,
        "oid": order.oid,
        "crossed": crossed,
        "fee": text(fee + builder_fee),
        "tid": tid,
        "feeToken": "USDC",
        "twapId": order.twap,
    }
    if order.cloid is not None:
        line["cloid"] = order.cloid
    if builder_fee:
        line["builderFee"] = text(builder_fee)
    if liquidation is not None:
        line["liquidation"] = liquidation
    account.fills.append(line)
    state.fills.append({"user": account.address, **line})


def _fee_rate(state: State, account: Account, crossed: bool, liquidation: dict[str, Any] | None) -> Decimal:
    if liquidation is not None and liquidation["method"] == "backstop":
        return ZERO
    taker, maker = fees.rates(state, account)
    return taker if crossed else maker


def _direction(start: Decimal, end: Decimal, is_buy: bool) -> str:
    if start > 0 > end:
        return "Long > Short"
    if start < 0 < end:
        return "Short > Long"
    if is_buy:
        return "Open Long" if start >= 0 else "Close Short"
    return "Open Short" if start <= 0 else "Close Long"


def _move_position(account: Account, market: Market, change: Decimal, price: Decimal) -> tuple[Decimal, Decimal]:
    """Apply a signed size change. Returns the profit realised by the part that closed, and an isolated one's loss
    beyond its own margin.
    """
    coin = market.coin
    position = account.positions.get(coin)
    before = position.size if position is not None else ZERO
    closed_pnl = beyond = ZERO
    opening = change
    if position is not None and before * change < 0:
        closing = max(change, -before) if before > 0 else min(change, -before)
        opening = change - closing
        closed_pnl, beyond = _close_part(account, position, closing, price)
        if not position.size:
            del account.positions[coin]
            market.holders.pop(account.address, None)
            position = None
    if opening:
        if position is None:
            is_cross, leverage = account.setting(market)
            position = account.positions[coin] = Position(ZERO, ZERO, is_cross, leverage)
            market.holders[account.address] = None
        _open_part(account, market, position, opening, price)
    if position is not None:
        position.funding_changed = ZERO
    market.open_size += max(account.size(coin), ZERO) - max(before, ZERO)
    return closed_pnl, beyond


def _close_part(account: Account, position: Position, closing: Decimal, price: Decimal) -> tuple[Decimal, Decimal]:
    whole = closing == -position.size
    share = -closing / position.size
    entry = position.entry_usd if whole else rounded(position.entry_usd * share, NANO8)
    pnl, beyond = -closing * price - entry, ZERO
    if not position.is_cross:
        release = position.collateral if whole else rounded(position.collateral * share, NANO8)
        position.collateral -= release
        account.balance += release
        beyond = max(ZERO, -release - pnl)
    position.entry_usd -= entry
    position.size += closing
    return pnl, beyond


def _open_part(account: Account, market: Market, position: Position, opening: Decimal, price: Decimal) -> None:
    position.size += opening
    position.entry_usd += opening * price
    leverage = account.setting(market)[1]
    position.leverage = leverage
    if not position.is_cross:
        added = rounded(abs(opening) * price / leverage, NANO8)
        position.collateral += added
        account.balance -= added


def complete(state: State, order: Order) -> None:
    """An order is filled to its end: its children wake, its sibling goes."""
    finish(state, order, "filled")


def finish(state: State, order: Order, status: str) -> None:
    """End an order with a status, and do what follows for its children and siblings."""
    if not order.live:
        return
    state.set_status(order, status)
    if status == "filled":
        for child in order.children:
            if child.phase == "child":
                wake(state, child)
        for sibling in order.siblings:
            if sibling.live and sibling.phase != "child":
                finish(state, sibling, "siblingFilledCanceled")
        return
    wakes = order.filled > 0 and (status == "marginCanceled" or state.switches.children_wake_on_partial)
    for child in order.children:
        if child.phase != "child":
            continue
        if wakes:
            wake(state, child)
        else:
            finish(state, child, "canceled")


def wake(state: State, child: Order) -> None:
    """A child starts to wait for its trigger (from the next mark on)."""
    child.phase = "trigger"
    child.status_ms = state.now_ms
    state.markets[child.coin].triggers[child.oid] = None


def keep_reduce_only(state: State, account: Account, market: Market) -> None:
    """Keep reduce-only orders within the position: shrink, cancel the older of several, cancel all when flat."""
    held = account.size(market.coin)
    mine = [o for o in account.orders.values() if o.coin == market.coin and o.reduce_only and o.phase != "child"]
    if not mine:
        return
    for order in mine:
        goes = order.follows_position or state.switches.triggers_canceled_when_flat
        bound = order.phase == "book" or (order.phase == "trigger" and goes)
        if bound and held * order.sign >= 0:
            finish(state, order, "reduceOnlyCanceled")
    resting = [o for o in mine if o.phase == "book"]
    total = sum((o.size for o in resting), ZERO)
    while len(resting) > 1 and total > abs(held):
        oldest = resting.pop(0)
        total -= oldest.size
        finish(state, oldest, "reduceOnlyCanceled")
    if resting and resting[0].size > abs(held):
        resting[0].size = abs(held)


def rest(state: State, order: Order) -> None:
    """Put what is left of an order into the book."""
    order.phase = "book"
    state.accounts[order.user].orders[order.oid] = order
    state.markets[order.coin].book.add(order)


def match_resting(state: State, market: Market) -> None:
    """Fill resting orders that the path went through, against the synthetic flow that took it there.

    A resting order fills at its own price, at most for what the opposite synthetic side offers up to that price
    (at least its best level), which is consumed.
    """
    book = market.book
    if not book.resting[True] and not book.resting[False]:
        return
    for bids in (True, False):
        for _, _, order in list(book.resting[bids]):
            through = market.price < order.limit if bids else market.price > order.limit
            if not through and not (state.switches.fill_on_touch and market.price == order.limit):
                break
            if not order.live:
                continue
            _fill_passively(state, market, order)


def _fill_passively(state: State, market: Market, order: Order) -> None:
    ladder = market.book.ladder(not order.is_buy)
    reach = [size for price, size in ladder if (price <= order.limit if order.is_buy else price >= order.limit)]
    available = sum(reach, ZERO) if reach else (ladder[0][1] if ladder else ZERO)
    size = min(order.size, available)
    if not size:
        return
    if not can_carry(state, order, order.limit, size):
        finish(state, order, "marginCanceled")
        return
    market.book.consumed[not order.is_buy] += size
    fill(state, order, order.limit, size, crossed=False, tid=state.new_tid(), tx=state.new_hash(), liquidation=None)
    if not order.size:
        complete(state, order)
    keep_reduce_only(state, state.accounts[order.user], market)
