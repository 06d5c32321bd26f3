"""What a report shows, and how a trade's end is named on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from twinleg.domain.candles import Candle
from twinleg.domain.messages import Event
from twinleg.domain.trades import ENDED, Trade, TradeState
from twinleg.risk.limits import Limits


@dataclass(frozen=True, slots=True)
class Sample:
    """One account at one time, as the sweep recorded it."""

    at: datetime
    account: str
    equity_usd: Decimal
    margin_ratio: Decimal | None
    """Account value / maintenance margin; None without a position."""
    liquidation_distance: Decimal | None
    """|mark - liquidation price| / mark, the smallest of its positions; None when none can be liquidated."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch of time on one market: a replay of real candles, or a stress made from a seed."""

    name: str
    """As in the summary: ``replay`` or ``stress``."""
    label: str
    synthetic: bool
    market: str
    candles: Sequence[Candle]
    samples: Sequence[Sample]
    trades: Sequence[Trade]
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything the page is made of. *limits* are those whose ladder is drawn."""

    title: str
    segments: Sequence[Segment]
    summary: Mapping[str, Any]
    limits: Limits = field(default_factory=lambda: Limits.model_validate({}))


class Ending(StrEnum):
    """How a trade came to its end."""

    TARGET = "target"
    STOP = "stop"
    TIME_LIMIT = "time limit"
    SIGNAL = "signal"
    LADDER = "ladder"
    UNWOUND = "unwound"
    LIQUIDATED = "liquidated"
    NET_LIMIT = "net limit"
    OTHER = "other"
    OPEN = "still open"


def ending(trade: Trade) -> Ending:
    """The ending by its recorded reason. A hedge's target lies at the main leg's stop price, and its stop at the
    main leg's target, so a hedge that goes first tells of the main leg's other exit."""
    if trade.state not in ENDED:
        return Ending.OPEN
    why = trade.why_closed.lower()
    if any(leg.liquidated for leg in trade.legs) or "liquidated" in why:
        return Ending.LIQUIDATED
    if why.startswith("unwound"):
        return Ending.UNWOUND
    words = (
        (("ladder",), Ending.LADDER),
        (("main leg stop", "hedge target"), Ending.STOP),
        (("main leg target", "hedge stop"), Ending.TARGET),
        (("held_seconds",), Ending.TIME_LIMIT),
        (("net_loss", "net_profit"), Ending.NET_LIMIT),
        (("signal", "alert", "reversed"), Ending.SIGNAL),
    )
    return next((kind for starts, kind in words if any(word in why for word in starts)), Ending.OTHER)


def shown_trades(segment: Segment) -> list[Trade]:
    """The trades that are drawn and listed, oldest first: all but those refused before anything was filled."""
    kept = (trade for trade in segment.trades if trade.state is not TradeState.REFUSED)
    return sorted(kept, key=lambda trade: trade.created_at)
