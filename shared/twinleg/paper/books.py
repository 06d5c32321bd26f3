"""The double-entry books: every amount that leaves one place arrives at another, so all balances sum to 0.

Places are addresses (their perp cash), ``spot:<address>``, and the venue's own: ``world`` (deposits and
withdrawals), ``market`` (realised profit and loss), ``fees``, ``funding`` and ``backstop`` (what the liquidator
took over or made up for).
"""

from __future__ import annotations

from decimal import Decimal

from twinleg.paper.numbers import ZERO

WORLD, MARKET, FEES, FUNDING, BACKSTOP = "world", "market", "fees", "funding", "backstop"


class Books:
    """Balances per place, and per place and kind of entry."""

    def __init__(self) -> None:
        self.balances: dict[str, Decimal] = {}
        self.by_kind: dict[str, dict[str, Decimal]] = {}

    def post(self, source: str, target: str, amount: Decimal, kind: str) -> None:
        """Move ``amount`` from source to target (a negative amount moves the other way)."""
        if not amount:
            return
        for place, change in ((source, -amount), (target, amount)):
            self.balances[place] = self.balances.get(place, ZERO) + change
            kinds = self.by_kind.setdefault(place, {})
            kinds[kind] = kinds.get(kind, ZERO) + change

    def total(self) -> Decimal:
        """The sum over all places: 0, always."""
        return sum(self.balances.values(), ZERO)
