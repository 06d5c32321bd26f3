"""What requests weigh against the limit that Hyperliquid sets an IP address, and what they weighed in the last minute.

Source: Hyperliquid docs, rate limits and user limits: 1200 a minute; signed actions 1 and 1 more for each 40 orders;
these reads 2, any other 20, and more for long answers: 1 for each 20 rows, of candles for each 60.
"""

from __future__ import annotations

import threading
from collections import deque
from datetime import datetime, timedelta

from twinleg.engine.ports import Clock

PER_MINUTE = 1200
LIGHT_READS = frozenset({"l2Book", "allMids", "clearinghouseState", "orderStatus", "exchangeStatus"})
ORDERS_PER_WEIGHT = 40
ROWS_PER_WEIGHT = {
    "userFillsByTime": 20, "userFunding": 20, "userNonFundingLedgerUpdates": 20, "candleSnapshot": 60,
}  # fmt: skip


def of_read(kind: str) -> int:
    """Weight of one question."""
    return 2 if kind in LIGHT_READS else 20


def of_rows(kind: str, rows: int) -> int:
    """What the rows of its answer add."""
    return rows // ROWS_PER_WEIGHT[kind] if kind in ROWS_PER_WEIGHT else 0


def of_action(orders: int) -> int:
    """Weight of one signed action with so many orders."""
    return 1 + orders // ORDERS_PER_WEIGHT


class Weights:
    """Counts what this process sent within the last minute, by the given clock; without one it counts nothing."""

    def __init__(self, clock: Clock | None) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._spent: deque[tuple[datetime, int]] = deque()
        self._sum = 0

    def spend(self, weight: int) -> None:
        """A request of this weight is sent now."""
        if self._clock is None or weight == 0:
            return
        now = self._clock.now()
        with self._lock:
            self._spent.append((now, weight))
            self._sum += weight
            self._forget(now)

    def last_minute(self) -> int:
        """What was sent within the last 60 s."""
        if self._clock is None:
            return 0
        with self._lock:
            self._forget(self._clock.now())
            return self._sum

    def _forget(self, now: datetime) -> None:
        while self._spent and self._spent[0][0] <= now - timedelta(minutes=1):
            self._sum -= self._spent.popleft()[1]
