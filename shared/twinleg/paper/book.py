"""The order book of one market: synthetic levels around the path, and the orders of accounts between them.

Synthetic orders are older than anybody's: at one price they fill first. What a taker consumed is gone until the
path moves on; then ``refill`` of it comes back at each point, in whole lots. Matching is by price, then time.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal

from twinleg.paper.listings import Listing
from twinleg.paper.numbers import ZERO
from twinleg.paper.options import BookShape
from twinleg.paper.orders import Order

BPS = Decimal(10_000)
TWO = Decimal(2)
ONE = Decimal(1)
REFERENCE_LEVERAGE = 40

Level = tuple[Decimal, Decimal]
Quote = tuple[Decimal, Decimal, Order | None]
"""(price, size, the resting order, or None for synthetic liquidity)."""


class Book:
    """Both sides of one market. ``True`` names the bid side (buyers), ``False`` the ask side."""

    def __init__(self, listing: Listing, shape: BookShape, jitter: Sequence[Decimal]) -> None:
        self._listing = listing
        self._shape = shape
        self._jitter = jitter
        self._level_usd = shape.level_usd * listing.max_leverage / REFERENCE_LEVERAGE
        self._growth = [ONE + shape.level_growth * i for i in range(shape.levels)]
        self.resting: dict[bool, list[tuple[Decimal, int, Order]]] = {True: [], False: []}
        """Per side (sort key, oid, order), best first; bids sort by negative price."""
        self.consumed: dict[bool, Decimal] = {True: ZERO, False: ZERO}
        self._price = ONE
        self._stretch = ONE
        self._seen = 0
        self._ladders: dict[bool, list[Level]] = {}

    def move(self, price: Decimal, wide: Decimal, point: int) -> None:
        """Centre on a new price; ``wide`` is the candle's relative range, ``point`` the count of points walked."""
        self._price = price
        self._stretch = ONE + wide * BPS / self._shape.calm_range_bps
        self._seen = point
        self._ladders.clear()
        for side, used in self.consumed.items():
            if used:
                self.consumed[side] = (used * (ONE - self._shape.refill)).quantize(self._listing.lot, ROUND_DOWN)

    @property
    def half_spread(self) -> Decimal:
        """Half the synthetic spread, as a fraction of the price."""
        return self._shape.spread_bps * self._stretch / BPS / TWO

    def ladder(self, bids: bool) -> list[Level]:
        """The synthetic levels of one side as they stand, best first, less what was consumed."""
        whole = self._ladders.get(bids)
        if whole is None:
            whole = self._ladders[bids] = self._build(bids)
        used = self.consumed[bids]
        if not used:
            return whole
        out = []
        for price, size in whole:
            if used >= size:
                used -= size
                continue
            out.append((price, size - used))
            used = ZERO
        return out

    def _build(self, bids: bool) -> list[Level]:
        listing, shape = self._listing, self._shape
        mode = ROUND_FLOOR if bids else ROUND_CEILING
        half = self._price * self.half_spread
        first = listing.round(self._price - half if bids else self._price + half, mode)
        tick, digits = listing.tick(first), first.adjusted()
        gap = max((self._price * shape.level_gap_bps * self._stretch / BPS).quantize(tick, ROUND_DOWN), tick)
        base = self._level_usd / self._stretch / self._price
        count = len(self._jitter)
        out: list[Level] = []
        for i in range(shape.levels):
            price = first - gap * i if bids else first + gap * i
            if price <= 0:
                break
            wobble = self._jitter[(self._seen * 7 + i + (0 if bids else 31)) % count]
            size = (base * self._growth[i] * wobble).quantize(listing.lot, ROUND_DOWN)
            if price.adjusted() > digits:  # past a power of ten the step is coarser
                price = listing.round(price, mode)
            out.append((price, size or listing.lot))
        return out

    def best(self, bids: bool) -> Decimal | None:
        """The best price of one side, anybody's."""
        ladder, resting = self.ladder(bids), self.resting[bids]
        prices = [level[0] for level in ladder[:1]] + [entry[2].limit for entry in resting[:1]]
        if not prices:
            return None
        return max(prices) if bids else min(prices)

    def add(self, order: Order) -> None:
        """Rest an order behind everything at its price."""
        key = -order.limit if order.is_buy else order.limit
        insort(self.resting[order.is_buy], (key, order.oid, order))

    def remove(self, order: Order) -> None:
        """Take a resting order out; quietly nothing when it is not there."""
        entries = self.resting[order.is_buy]
        key = -order.limit if order.is_buy else order.limit
        at = bisect_left(entries, (key, order.oid))
        if at < len(entries) and entries[at][2] is order:
            del entries[at]

    def crossing(self, buys: bool, limit: Decimal) -> Iterator[Quote]:
        """What a taker who buys (or sells) up to ``limit`` meets, best first."""
        side = not buys
        ladder = iter(self.ladder(side))
        resting = iter(list(self.resting[side]))
        level, entry = next(ladder, None), next(resting, None)
        while level is not None or entry is not None:
            if level is not None and (
                entry is None or (level[0] <= entry[2].limit if buys else level[0] >= entry[2].limit)
            ):
                price, size, order = level[0], level[1], None
                level = next(ladder, None)
            elif entry is not None:
                price, size, order = entry[2].limit, entry[2].size, entry[2]
                entry = next(resting, None)
            if price > limit if buys else price < limit:
                return
            yield price, size, order

    def levels(self, bids: bool, count: int) -> list[tuple[Decimal, Decimal, int]]:
        """(price, size, orders) per price, best first, synthetic and resting together."""
        merged: dict[Decimal, tuple[Decimal, int]] = {
            price: (size, 1 + int(size / self._listing.lot) % 7) for price, size in self.ladder(bids)
        }
        for _, _, order in self.resting[bids]:
            size, number = merged.get(order.limit, (ZERO, 0))
            merged[order.limit] = (size + order.size, number + 1)
        return [(price, *merged[price]) for price in sorted(merged, reverse=bids)[:count]]

    def impact(self, bids: bool, usd: Decimal) -> Decimal | None:
        """The average price of trading ``usd`` of notional against one side; None when it is too thin."""
        left, size = usd, ZERO
        for price, available, _ in self.crossing(not bids, ZERO if bids else Decimal("1e30")):
            take = min(available, left / price)
            size += take
            left -= take * price
            if left <= 0:
                return self._listing.round(usd / size)
        return None
