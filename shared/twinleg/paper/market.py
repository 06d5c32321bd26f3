"""One market: the candles it plays, where its path stands, its oracle, mark and funding premium."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from decimal import Decimal

from twinleg.domain.candles import Candle
from twinleg.domain.errors import BadInput
from twinleg.paper import path
from twinleg.paper.book import Book
from twinleg.paper.listings import Listing
from twinleg.paper.numbers import RATE10, ZERO, rounded
from twinleg.paper.options import BookShape, Switches

NEVER = 1 << 62
DAY_MS = 86_400_000
HOUR_MS = 3_600_000
ORACLE_LAG_MS = Decimal(3_000)
BASIS_LAG_MS = Decimal(150_000)
BASELINE = Decimal("0.0001")
CLAMP = Decimal("0.0005")
RATE_CAP = Decimal("0.04")
HOURS_PAID = Decimal(8)
HISTORY_HOURS = 500


def hourly_rate(premium: Decimal) -> Decimal:
    """Hourly funding rate for an hour's mean premium: an eighth of P + clamp(0.01 % - P, +-0.05 %), at most 4 %.

    Source: Hyperliquid docs, funding.
    """
    eight_hours = premium + min(max(BASELINE - premium, -CLAMP), CLAMP)
    return rounded(min(max(eight_hours / HOURS_PAID, -RATE_CAP), RATE_CAP), RATE10)


class Market:
    """The state of one coin's market. Prices move only in ``step``.

    ``price`` is the path (the last trade), ``oracle`` follows it with a lag of 3 s (validators publish about
    every 3 s), ``mark`` is the median of oracle + smoothed basis (150 s), the last trade, and the oracle, which
    stands in for the perpetual prices of other exchanges. Source: Hyperliquid docs, robust price indices.
    """

    def __init__(
        self,
        listing: Listing,
        candles: Sequence[Candle],
        start_ms: int,
        shape: BookShape,
        jitter: Sequence[Decimal],
        points_min: int = path.POINTS_MIN,
    ) -> None:
        self.listing = listing
        self.only_isolated = listing.rules.only_isolated
        self.strict_isolated = False
        """Whether isolated margin stays in a position until it is closed."""
        self.points_min = points_min
        self.coin = listing.coin
        self.candles: list[Candle] = []
        self.opened: list[int] = []
        self._volumes: list[Decimal] = [ZERO]
        self._notionals: list[Decimal] = [ZERO]
        self.interval_ms = round(candles[0].interval.total_seconds() * 1000)
        self._add(candles)
        self.index = max(bisect_right(self.opened, start_ms) - 1, 0)
        """The candle under way (or next to begin)."""
        self.point = 0
        self.points_walked = 0
        self._path = self._walk(self.candles[self.index], self.opened[self.index])
        self.next_ms, first = self._path[0]
        self.high = self.low = first
        self.price = self.candles[self.index - 1].close if self.index else first
        self.raw_oracle = self.price
        self.basis = ZERO
        self.last_ms = self.next_ms
        self.oracle = self.mark = self.mark_before = listing.round(self.price)
        """``mark_before`` is the mark of the point before."""
        self.premium = ZERO
        self.premium_sum = ZERO
        self.premium_count = 0
        self.funding: list[tuple[int, Decimal, Decimal]] = []
        """(time ms, hourly rate, premium), oldest first; hours before the start at the baseline."""
        self._fund_history(start_ms)
        self.funding_known: dict[int, Decimal] = {}
        """Recorded rates by hour start, used instead of the formula."""
        self.open_size = ZERO
        """Sum of the long positions of all accounts here."""
        self.book = Book(listing, shape, jitter)
        self.book.move(self.price, ZERO, 0)
        self.holders: dict[str, None] = {}
        """Addresses with a position here, in the order they opened."""
        self.triggers: dict[int, None] = {}
        """oids of the orders that wait for this market's mark."""

    def _fund_history(self, start_ms: int) -> None:
        last = start_ms - start_ms % HOUR_MS
        first = max(self.opened[0], last - HISTORY_HOURS * HOUR_MS)
        for hour in range(first - first % HOUR_MS + HOUR_MS, last + 1, HOUR_MS):
            self.funding.append((hour, hourly_rate(ZERO), ZERO))

    def know_funding(self, rates: Sequence[tuple[int, Decimal]]) -> None:
        """Use these recorded hourly rates, (time ms, rate), also for the hours already gone."""
        self.funding_known = {ms - ms % HOUR_MS: rate for ms, rate in rates}
        self.funding = [(at, self.funding_known.get(at, rate), premium) for at, rate, premium in self.funding]

    def append(self, candles: Sequence[Candle], now_ms: int) -> None:
        """Add candles to come; BadInput when one would lie in the past or overlap."""
        end = self.opened[-1] + self.interval_ms
        for candle in candles:
            candle.checked()
            opened = path.opened_ms(candle)
            if opened < end:
                raise BadInput(f"candles of {self.coin}: {opened} opens before the one before it closes ({end})")
            if opened < now_ms:
                raise BadInput(f"candles of {self.coin}: {opened} lies before the venue's clock ({now_ms})")
            end = opened + self.interval_ms
        self._add(candles)
        if self.next_ms == NEVER and candles:
            self._enter(self.index + 1)

    def _add(self, candles: Sequence[Candle]) -> None:
        for candle in candles:
            self.candles.append(candle)
            self.opened.append(path.opened_ms(candle))
            self._volumes.append(self._volumes[-1] + candle.volume)
            self._notionals.append(self._notionals[-1] + candle.volume * candle.close)

    @property
    def ended(self) -> bool:
        """Whether every candle has been played."""
        return self.next_ms == NEVER

    def step(self, switches: Switches) -> None:
        """Walk to the next point: price, oracle, premium, mark, and the book's refill."""
        now_ms = self.next_ms
        price = self._path[self.point][1]
        self.price = price
        if not self.point:
            self.high = self.low = price
        elif price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        elapsed = Decimal(now_ms - self.last_ms)
        self.last_ms = now_ms
        if elapsed:
            self.raw_oracle += (price - self.raw_oracle) * (elapsed / (elapsed + ORACLE_LAG_MS))
            self.basis += (price - self.raw_oracle - self.basis) * (elapsed / (elapsed + BASIS_LAG_MS))
        self.mark_before = self.mark
        self.remark(switches)
        self.points_walked += 1
        self.book.move(price, self._wide(), self.points_walked)
        self.point += 1
        if self.point < len(self._path):
            self.next_ms = self._path[self.point][0]
        else:
            self._enter(self.index + 1)
        self._sample_premium()

    def _enter(self, index: int) -> None:
        if index >= len(self.candles):
            self.next_ms = NEVER
            return
        candle = self.candles[index]
        self.index, self.point = index, 0
        self._path = self._walk(candle, self.opened[index])
        self.next_ms = self._path[0][0]

    def _walk(self, candle: Candle, opened: int) -> list[path.Point]:
        return path.walk(candle, opened, self.interval_ms, self.points_min)

    def remark(self, switches: Switches) -> None:
        """Set oracle and mark from the smoothed state (again after a switch changed)."""
        listing = self.listing
        self.oracle = listing.round(self.raw_oracle)
        a, b, c = self.raw_oracle + self.basis, self.price, self.raw_oracle
        mark = max(min(a, b), min(max(a, b), c))
        if switches.mark_gap:
            mark *= 1 + switches.mark_gap
        self.mark = listing.round(mark)

    def _wide(self) -> Decimal:
        wide = (self.high - self.low) / self.price
        if self.index:
            before = self.candles[self.index - 1]
            last = (before.high - before.low) / self.price
            if last > wide:
                return last
        return wide

    def _sample_premium(self) -> None:
        half = self.price * self.book.half_spread
        above = self.price - half - self.raw_oracle
        below = self.raw_oracle - self.price - half
        if above > 0:
            self.premium = above / self.raw_oracle
        elif below > 0:
            self.premium = -below / self.raw_oracle
        else:
            self.premium = ZERO
        self.premium_sum += self.premium
        self.premium_count += 1

    def settle_hour(self, hour_ms: int) -> tuple[Decimal, Decimal]:
        """Close the hour that ends at ``hour_ms``: (hourly rate, mean premium), and start the next one."""
        mean = rounded(self.premium_sum / self.premium_count, RATE10) if self.premium_count else ZERO
        known = self.funding_known.get(hour_ms - hour_ms % HOUR_MS)
        rate = hourly_rate(mean) if known is None else known
        self.funding.append((hour_ms, rate, mean))
        self.premium_sum, self.premium_count = ZERO, 0
        return rate, mean

    @property
    def running_rate(self) -> Decimal:
        """The estimate of the funding rate for the current hour, hourly."""
        mean = self.premium_sum / self.premium_count if self.premium_count else ZERO
        return hourly_rate(mean)

    def day(self, now_ms: int) -> tuple[Decimal, Decimal, Decimal]:
        """Over the last 24 hours of closed candles: (base volume, quote volume, price a day ago)."""
        last = self.closed_count(now_ms)
        first = bisect_left(self.opened, now_ms - DAY_MS, 0, last)
        before = self.candles[max(first - 1, 0)].close
        return self._volumes[last] - self._volumes[first], self._notionals[last] - self._notionals[first], before

    def closed_count(self, now_ms: int) -> int:
        """How many candles have closed at this time."""
        return bisect_right(self.opened, now_ms - self.interval_ms)

    def forming(self, now_ms: int) -> Candle | None:
        """The candle under way as far as its path has shown it; None between candles."""
        count = self.closed_count(now_ms)
        if count >= len(self.candles) or self.opened[count] > now_ms or count != self.index or not self.point:
            return None
        whole = self.candles[count]
        part = whole.volume * (now_ms - self.opened[count]) / self.interval_ms
        shown = part.quantize(self.listing.lot)
        high, low, close = (self.listing.round(price) for price in (self.high, self.low, self.price))
        return whole._replace(high=max(high, whole.open), low=min(low, whole.open), close=close, volume=shown)
