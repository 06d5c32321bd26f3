"""What the gate looks at: both accounts, both markets and the counts, read fresh for one intent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from twinleg.domain.candles import Snapshot
from twinleg.domain.control import Control
from twinleg.domain.markets import MarketRules
from twinleg.domain.messages import HedgedIntent, LegPlan
from twinleg.domain.orders import AccountState, LegRole
from twinleg.risk.approval import Refused
from twinleg.risk.limits import Limits


@dataclass(frozen=True, slots=True)
class LegView:
    """One leg's plan with its account and market; nothing missing."""

    plan: LegPlan
    state: AccountState
    snapshot: Snapshot
    rules: MarketRules

    @property
    def mark_price(self) -> Decimal:
        return self.snapshot.mark_price


@dataclass(frozen=True, slots=True)
class Book:
    """Everything the gate decides by. None means unreadable, and refuses (CLOSED-FAIL)."""

    now: datetime
    control: Control | None
    limits: Limits | None
    main: AccountState | None
    hedge: AccountState | None
    main_mode: str | None
    """The account mode the venue reports; only ``disabled`` keeps balances where our arithmetic sees them."""
    hedge_mode: str | None
    main_snapshot: Snapshot | None
    hedge_snapshot: Snapshot | None
    main_rules: MarketRules | None
    hedge_rules: MarketRules | None
    open_trades: int
    entries_last_hour: int
    entries_last_day: int
    unwinds_last_day: int
    slots_taken: tuple[str, ...]
    """``account:market`` already held by another trade, each optionally followed by a blank and by whom."""
    foreign: tuple[str, ...]
    """``account:market`` with positions or orders nobody owns."""
    unresolved: tuple[str, ...]
    """``account:market`` with a signed action whose outcome is unknown."""
    keys_expire_at: Mapping[str, datetime | None]
    """By account; None: the key never expires. An account that is not in it is refused."""
    range_percent: Decimal | None
    """The recent one-minute range in per cent of price."""
    weights: Mapping[str, tuple[int, int]]
    """venue → (weight of our requests within the last minute, what it takes a minute; 0: no limit)."""
    requests_left: Mapping[str, int | None]
    """By account; None: its venue counts none. An account that is not in it is refused."""

    def view(self, intent: HedgedIntent, role: LegRole) -> LegView | Refused:
        """One leg with everything it needs, or a refusal that names what is missing."""
        plan = intent.main if role is LegRole.MAIN else intent.hedge
        state, snapshot, rules = (
            (self.main, self.main_snapshot, self.main_rules)
            if role is LegRole.MAIN
            else (self.hedge, self.hedge_snapshot, self.hedge_rules)
        )
        where = f"{role.value} {plan.account} {plan.market}"
        if state is None or state.account != plan.account:
            return Refused("account_unknown", f"{where}: the account's state could not be read")
        if state.equity_usd <= 0:
            return Refused("no_equity", f"{where}: equity_usd {state.equity_usd} must be above 0")
        if snapshot is None or snapshot.market != plan.market:
            return Refused("price_missing", f"{where}: no snapshot of the market")
        if snapshot.mark_price <= 0 or snapshot.oracle_price <= 0:
            prices = f"mark {snapshot.mark_price} and oracle {snapshot.oracle_price}"
            return Refused("price_missing", f"{where}: {prices} must be above 0")
        if rules is None or rules.market != plan.market or not rules.tiers:
            return Refused("rules_missing", f"{where}: the market's rules could not be read")
        return LegView(plan, state, snapshot, rules)

    def equity_usd(self, intent: HedgedIntent) -> Decimal:
        """The equity of both accounts together; one account is counted once. Unreadable ones count nothing."""
        states = {state.account: state.equity_usd for state in (self.main, self.hedge) if state is not None}
        return sum((states[a] for a in {intent.main.account, intent.hedge.account} if a in states), Decimal(0))
