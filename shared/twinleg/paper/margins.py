"""Leverage and isolated margin: what an account may set, add and take back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from twinleg.paper.accounts import TENTH, Account, Position, cross_margin, isolated_margin
from twinleg.paper.market import Market
from twinleg.paper.numbers import MICRO, NANO8, rounded
from twinleg.paper.refusals import Refused
from twinleg.paper.state import State
from twinleg.paper.transfers import free

Action = dict[str, Any]

NOT_ISOLATED = "Position does not use isolated margin."


def market_of(state: State, asset: int) -> Market:
    """The market of an asset id; Refused when nothing trades under it."""
    market = state.by_asset.get(asset)
    if market is None:
        raise Refused(f"Invalid asset: {asset}")
    return market


def update_leverage(state: State, account: Account, action: Action) -> None:
    """Set leverage and margin mode of one coin.

    The mode changes only without a position. With one, more leverage is always accepted and less when the margin
    suffices. An open isolated position keeps its margin either way; a cross one by a switch.
    """
    market = market_of(state, action["asset"])
    leverage, is_cross = action["leverage"], action["isCross"]
    if not 1 <= leverage <= market.listing.max_leverage:
        raise Refused("Invalid leverage value")
    if is_cross and market.only_isolated:
        raise Refused("Cross margin is not allowed for this asset.")
    position = account.positions.get(market.coin)
    if position is not None:
        _releverage(state, account, market, position, is_cross, leverage)
    account.leverage[market.coin] = (is_cross, leverage)


def _releverage(
    state: State, account: Account, market: Market, position: Position, is_cross: bool, leverage: int
) -> None:
    if is_cross != position.is_cross:
        raise Refused("Cannot switch leverage type with open position.")
    notional = abs(position.size) * market.mark
    if leverage > market.listing.tier(notional)[2]:
        raise Refused("Invalid leverage value")
    if leverage < position.leverage:
        if not is_cross and isolated_margin(position, market.mark) < notional / leverage:
            raise Refused(
                "Isolated position does not have sufficient margin available to decrease leverage. "
                "To decrease leverage, add margin to the position."
            )
        if is_cross:
            cross = cross_margin(account, state.markets)
            if cross.value < cross.used - notional / position.leverage + notional / leverage:
                raise Refused("Insufficient margin to decrease leverage.")
    if not is_cross or state.switches.cross_margin_follows_leverage:
        position.leverage = leverage


def _isolated(state: State, account: Account, asset: int) -> tuple[Market, Position]:
    market = market_of(state, asset)
    position = account.positions.get(market.coin)
    if position is None or position.is_cross:
        raise Refused(NOT_ISOLATED)
    return market, position


def update_isolated_margin(state: State, account: Account, action: Action) -> None:
    """Add millionths of USDC to an isolated position, or take them back as far as its leverage allows."""
    market, position = _isolated(state, account, action["asset"])
    amount = Decimal(action["ntli"]) * MICRO
    if amount < 0:
        if market.strict_isolated:
            raise Refused("Margin cannot be removed from a strict isolated position.")
        notional = abs(position.size) * market.mark
        needed = max(notional / position.leverage, TENTH * notional)
        if isolated_margin(position, market.mark) + amount < needed:
            raise Refused("Isolated position does not have sufficient margin to remove.")
    _add(state, account, position, amount)


def top_up(state: State, account: Account, action: Action) -> None:
    """Add as much margin as brings an isolated position down to this leverage (which need not be whole)."""
    market, position = _isolated(state, account, action["asset"])
    leverage = Decimal(action["leverage"])
    if leverage <= 0:
        raise Refused("Invalid leverage value")
    wanted = rounded(abs(position.size) * market.mark / leverage, MICRO)
    missing = wanted - isolated_margin(position, market.mark)
    if missing > 0:
        _add(state, account, position, rounded(missing, NANO8))


def _add(state: State, account: Account, position: Position, amount: Decimal) -> None:
    if amount > 0 and amount > free(state, account):
        raise Refused("Insufficient margin available to add to the position.")
    position.collateral += amount
    account.balance -= amount
