"""What the engine knows of the configuration: accounts, markets, strategies and limits, already checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from twinleg.risk.limits import Limits
from twinleg.strategy.protocol import Strategy


@dataclass(frozen=True, slots=True)
class Account:
    """One address at one venue, dedicated to twinleg."""

    name: str
    venue: str
    address: str
    master: str = ""
    """The master's address when this is a sub-account."""


@dataclass(frozen=True, slots=True)
class MarketPlan:
    """One market we trade: where its two legs are held and which strategies may open them."""

    market: str
    main_account: str
    hedge_account: str
    hedge_market: str
    strategies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StrategyPlan:
    """A strategy with its own limits and what an opposite signal does."""

    name: str
    strategy: Strategy | None
    """None for alerts: the alert is the signal."""
    limits: Limits
    on_opposite: Literal["close", "reverse"] = "close"


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything the engine trades by."""

    accounts: Mapping[str, Account]
    markets: Mapping[str, MarketPlan]
    strategies: Mapping[str, StrategyPlan]
    limits: Limits
    live: bool = False
    alert_confidence: str = "0.6"
    window: int = field(default=240)
    """Closed candles kept per market."""

    def market_of_coin(self, coin: str) -> MarketPlan | None:
        return next((m for m in self.markets.values() if m.market.split(":", 1)[1].upper() == coin.upper()), None)
