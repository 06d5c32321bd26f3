"""One step of a trade's story, and its words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from twinleg.domain.money import cents, plain
from twinleg.domain.orders import OrderKind, Purpose
from twinleg.domain.trades import Leg, PlacedOrder

ORDER = (
    "cause", "intent", "approved", "leverage", "main entry", "main entry fill", "hedge entry", "hedge entry fill",
    "alone at first", "opened", "watched", "cutting", "cut", "cut fill", "cut done", "guard", "guard fill", "ending",
    "unwind", "unwind fill", "close", "close fill", "alone at last", "cancel", "closed", "trading",
)  # fmt: skip
"""What follows what among steps of one instant (on a clock that stands still, or within a millisecond)."""
PLACE = {name: place for place, name in enumerate(ORDER)}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened. ``kind`` is for programs, ``text`` and ``details`` are for people."""

    at: datetime
    kind: str
    text: str
    leg: str = ""
    who: str = ""
    details: tuple[str, ...] = ()
    loud: bool = False
    """Whether a person should have been told: a refusal, a lost answer, a correction, a leg that went."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Ids that lead to the records."""
    place: str = ""

    def as_json(self) -> dict[str, Any]:
        said = {"at": self.at, "kind": self.kind, "leg": self.leg, "who": self.who, "text": self.text}
        return said | {"details": list(self.details), "loud": self.loud, **self.about}


def short_price(price: Decimal) -> str:
    return f"{price:.8g}" if price >= 1 else plain(cents(price, 8))


def usd(amount: Decimal) -> str:
    return f"{cents(amount, 4):f} USD"


def span(seconds: float) -> str:
    if 0 < seconds < 0.1:
        return f"{seconds:.2f} s"
    if seconds < 120:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def wanted(order: PlacedOrder) -> str:
    """What an order asked for, e.g. ``sell 0.02 at 99000 or better``."""
    if order.trigger_price is not None:
        return f"{order.side} {plain(order.size)} when the mark reaches {plain(order.trigger_price)}"
    rests = " (may rest)" if order.kind is OrderKind.LIMIT else ""
    return f"{order.side} {plain(order.size)} at {plain(order.limit_price)} or better{rests}"


def order_place(leg: Leg, purpose: Purpose) -> str:
    match purpose:
        case Purpose.ENTRY:
            return f"{leg.role} entry"
        case Purpose.STOP | Purpose.TARGET:
            return "guard"
        case Purpose.CUT:
            return "cut"
        case Purpose.UNWIND:
            return "unwind"
    return "close"
