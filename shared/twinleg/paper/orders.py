"""An order as the venue keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from twinleg.paper.numbers import ZERO, text


@dataclass(slots=True, eq=False)
class Order:
    """One order. ``size`` is what is left of it; prices in quote currency, sizes in base.

    ``phase``: ``book`` rests in the book, ``trigger`` waits for the mark, ``child`` waits for its parent's fill,
    ``done`` is over (``status`` says how).
    """

    oid: int
    user: str
    coin: str
    is_buy: bool
    limit: Decimal
    size: Decimal
    original: Decimal
    reduce_only: bool
    tif: str | None
    cloid: str | None
    placed_ms: int
    is_trigger: bool = False
    trigger: Decimal = ZERO
    trigger_is_market: bool = False
    tpsl: str = ""
    follows_position: bool = False
    builder: tuple[str, int] | None = None
    twap: int | None = None
    """The TWAP order it is a part of."""
    phase: str = "new"
    status: str = "open"
    status_ms: int = 0
    filled: Decimal = ZERO
    filled_usd: Decimal = ZERO
    fired: bool = False
    parent: Order | None = None
    children: list[Order] = field(default_factory=list)
    siblings: list[Order] = field(default_factory=list)

    @property
    def sign(self) -> int:
        """+1 buys, -1 sells."""
        return 1 if self.is_buy else -1

    @property
    def live(self) -> bool:
        return self.phase != "done"

    @property
    def fires_above(self) -> bool:
        """Whether the trigger fires when the mark is at or above its price (else at or below)."""
        return self.is_buy == (self.tpsl == "sl")

    @property
    def kind(self) -> str:
        """The venue's name of the order type, e.g. ``Stop Market``."""
        if self.twap is not None:
            return "Twap Slice"
        if not self.is_trigger:
            return "Market" if self.tif in ("FrontendMarket", "LiquidationMarket") else "Limit"
        return f"{'Stop' if self.tpsl == 'sl' else 'Take Profit'} {'Market' if self.trigger_is_market else 'Limit'}"

    @property
    def condition(self) -> str:
        if not self.is_trigger:
            return "N/A"
        if self.fired:
            return "Triggered"
        return f"Price {'above' if self.fires_above else 'below'} {_bare(self.trigger)}"

    def shown(self, size: Decimal | None = None) -> dict[str, Any]:
        """The order as frontendOpenOrders lists it."""
        return {
            "coin": self.coin,
            "side": "B" if self.is_buy else "A",
            "limitPx": text(self.limit),
            "sz": text(self.size if size is None else size),
            "oid": self.oid,
            "timestamp": self.placed_ms,
            "triggerCondition": self.condition,
            "isTrigger": self.is_trigger,
            "triggerPx": text(self.trigger),
            "children": [child.shown() for child in self.children if child.phase == "child"],
            "isPositionTpsl": self.follows_position,
            "reduceOnly": self.reduce_only,
            "orderType": self.kind,
            "origSz": text(self.original),
            "tif": self.tif,
            "cloid": self.cloid,
        }


def _bare(number: Decimal) -> str:
    shown = text(number)
    return shown[:-2] if shown.endswith(".0") else shown
