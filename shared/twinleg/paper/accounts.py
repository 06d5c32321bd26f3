"""Accounts, positions and agent keys as the venue keeps them, and the margin arithmetic over them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from twinleg.paper.market import Market
from twinleg.paper.numbers import ZERO
from twinleg.paper.orders import Order

DEFAULT_LEVERAGE = 20
TENTH = Decimal("0.1")
UNIFIED = ("unifiedAccount", "portfolioMargin")
"""Modes in which perpetuals and spot share one pool of USDC."""


@dataclass(slots=True)
class Position:
    """What an account holds of one coin. ``size`` is signed; ``entry_usd`` is the exact signed entry notional."""

    size: Decimal
    entry_usd: Decimal
    is_cross: bool
    leverage: int
    collateral: Decimal = ZERO
    """Isolated only: what was moved into the position, less what was released, plus its funding."""
    funding_opened: Decimal = ZERO
    """Funding paid since opened (positive = paid)."""
    funding_changed: Decimal = ZERO
    """Funding paid since the size last changed."""
    cooldown_ms: int = 0
    """Until when a partial liquidation rests."""

    def pnl(self, mark: Decimal) -> Decimal:
        """Unrealised profit at this mark."""
        return self.size * mark - self.entry_usd


@dataclass(slots=True, eq=False)
class Twap:
    """An order worked off in equal parts every 30 seconds. ``status`` is empty while it runs."""

    ident: int
    user: str
    coin: str
    is_buy: bool
    size: Decimal
    reduce_only: bool
    minutes: int
    randomize: bool
    started_ms: int
    next_ms: int
    slices_done: int = 0
    executed: Decimal = ZERO
    executed_usd: Decimal = ZERO
    status: str = ""


@dataclass(frozen=True, slots=True)
class Agent:
    """A key that may sign trades for ``master``. ``name`` is empty for the unnamed one."""

    address: str
    master: str
    name: str
    valid_until_ms: int


@dataclass(slots=True, eq=False)
class Account:
    """One address. ``balance`` is the perp USDC that backs cross positions, without unrealised profit."""

    address: str
    balance: Decimal = ZERO
    spot: Decimal = ZERO
    positions: dict[str, Position] = field(default_factory=dict)
    leverage: dict[str, tuple[bool, int]] = field(default_factory=dict)
    """Per coin (cross?, leverage) where it was set."""
    orders: dict[int, Order] = field(default_factory=dict)
    """Everything alive: in the book, waiting for a trigger, waiting for a parent."""
    known: dict[int, Order] = field(default_factory=dict)
    cloids: dict[str, Order] = field(default_factory=dict)
    history: deque[dict[str, Any]] = field(default_factory=deque)
    fills: list[dict[str, Any]] = field(default_factory=list)
    fundings: list[dict[str, Any]] = field(default_factory=list)
    transfers: list[dict[str, Any]] = field(default_factory=list)
    funding_all_time: dict[str, Decimal] = field(default_factory=dict)
    volume: Decimal = ZERO
    daily: dict[int, tuple[Decimal, Decimal]] = field(default_factory=dict)
    """Per day since the epoch: what was traded as taker and as maker, in USDC; the last of them only."""
    requests: int = 0
    reserved_requests: int = 0
    """Bought beforehand, at 0.0005 USDC each."""
    over_budget_ms: int = -1 << 62
    """When a request was last let through past the budget."""
    master: str | None = None
    name: str = ""
    sub_accounts: list[str] = field(default_factory=list)
    abstraction: str = "disabled"
    cancel_at_ms: int | None = None
    cancel_day: int = 0
    cancels_today: int = 0
    builders: dict[str, str] = field(default_factory=dict)
    agent_removal_until_ms: int = 0
    """Until when no agent can be approved, because one was removed."""
    twaps: dict[int, Twap] = field(default_factory=dict)
    """Every TWAP order ever placed, by its id."""
    twap_history: list[dict[str, Any]] = field(default_factory=list)

    def setting(self, market: Market) -> tuple[bool, int]:
        """(cross?, leverage) for this coin; by default cross at 20x or the coin's maximum."""
        found = self.leverage.get(market.coin)
        if found is not None:
            return found
        return not market.only_isolated, min(DEFAULT_LEVERAGE, market.listing.max_leverage)

    def size(self, coin: str) -> Decimal:
        """The signed position in this coin, 0 when flat."""
        position = self.positions.get(coin)
        return position.size if position is not None else ZERO

    def cash(self) -> Decimal:
        """Balance and isolated collateral together: equity without unrealised profit, spot excluded."""
        return self.balance + sum((p.collateral for p in self.positions.values()), ZERO)


class CrossMargin(NamedTuple):
    """An account's cross side at the current marks, in USDC."""

    value: Decimal
    """Balance plus unrealised profit of cross positions."""
    used: Decimal
    maintenance: Decimal
    notional: Decimal
    raw: Decimal
    """Account value less the signed value of the positions."""


def cross_margin(account: Account, markets: Mapping[str, Market]) -> CrossMargin:
    """Sums over the cross positions. Maintenance counts the coin's tiers, not the chosen leverage."""
    value, used, maintenance, notional, raw = account.balance, ZERO, ZERO, ZERO, account.balance
    for coin, position in account.positions.items():
        if not position.is_cross:
            continue
        market = markets[coin]
        signed = position.size * market.mark
        worth = abs(signed)
        value += signed - position.entry_usd
        raw -= position.entry_usd
        used += worth / position.leverage
        maintenance += market.listing.maintenance(worth)
        notional += worth
    return CrossMargin(value, used, maintenance, notional, raw)


def reserved(account: Account, markets: Mapping[str, Market], without: Order | None = None) -> Decimal:
    """Margin held back for resting orders that would increase exposure: limit notional / leverage.

    Orders against an open position, reduce-only orders and triggers reserve nothing (measured on mainnet).
    """
    total = ZERO
    for order in account.orders.values():
        if order.phase != "book" or order.reduce_only or order is without:
            continue
        if account.size(order.coin) * order.sign < 0:
            continue
        total += order.size * order.limit / account.setting(markets[order.coin])[1]
    return total


def withdrawable(account: Account, markets: Mapping[str, Market], cross: CrossMargin, resting: bool = True) -> Decimal:
    """What may leave the account: value - max(initial margin, with resting orders, 10 % of the notional)."""
    held = reserved(account, markets) if resting else ZERO
    needed = max(cross.used + held, TENTH * cross.notional)
    return max(ZERO, cross.value - needed)


def isolated_margin(position: Position, mark: Decimal) -> Decimal:
    """Margin behind an isolated position, unrealised profit included."""
    return position.collateral + position.pnl(mark)


def liquidation_price(
    position: Position, market: Market, equity: Decimal, other_maintenance: Decimal
) -> Decimal | None:
    """Where the position is liquidated; None when that is at or below 0.

    ``equity`` is the cross account value or the isolated margin; ``other_maintenance`` that of the account's other
    cross positions. With tiers, the tier is the one at the liquidation notional, with its deduction.
    Source: Hyperliquid docs, liquidations.
    """
    side = 1 if position.size > 0 else -1
    size = abs(position.size)
    base = equity - position.size * market.mark - other_maintenance
    tiers = market.listing.tiers
    candidates = []
    for i, (lower, rate, deduction, _) in enumerate(tiers):
        # equity(p) = base + signed size * p  equals  size * p * rate - deduction
        price = (-base - deduction) / (size * (side - rate))
        candidates.append(price)
        upper = tiers[i + 1][0] if i + 1 < len(tiers) else None
        if size * price >= lower and (upper is None or size * price < upper):
            return price if price > 0 else None
    price = candidates[0]
    return price if price > 0 else None


def add_history(account: Account, entry: dict[str, Any], memory: int) -> None:
    """Remember one status of one order, newest first, at most ``memory`` of them."""
    account.history.appendleft(entry)
    while len(account.history) > memory:
        account.history.pop()


def remember_order(account: Account, order: Order, memory: int, newest_owns_cloid: bool) -> None:
    """Make an order findable by its ids; the oldest finished ones are forgotten beyond ``memory``.

    A client order id leads to the newest order that carried it; to the open one, unless ``newest_owns_cloid``.
    """
    account.known[order.oid] = order
    if order.cloid is not None:
        holder = account.cloids.get(order.cloid)
        if holder is None or not holder.live or newest_owns_cloid:
            account.cloids[order.cloid] = order
    if len(account.known) > memory:
        for oid in list(account.known)[: len(account.known) - memory]:
            if not account.known[oid].live:
                gone = account.known.pop(oid)
                if gone.cloid is not None and account.cloids.get(gone.cloid) is gone:
                    del account.cloids[gone.cloid]
