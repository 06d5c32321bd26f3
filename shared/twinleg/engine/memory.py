"""What a process remembers between invocations: only what may be lost with it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from twinleg.domain.messages import Event
from twinleg.domain.orders import RestingOrder

if TYPE_CHECKING:
    from twinleg.engine.orderpath import ActionRecord

REFUSED_FOR = timedelta(minutes=10)
"""How long another key is used where the venue refused one: by then a person may have approved it again."""


@dataclass(slots=True)
class Memory:
    """Of one process, shared by its threads. A fresh one is as good: what matters is read from records and venues."""

    sent: list[ActionRecord] = field(default_factory=list)
    """Actions sent without a record, not recorded yet."""
    untold: list[Event] = field(default_factory=list)
    """Events that are not in the audit yet."""
    _strange: dict[str, set[str]] = field(default_factory=dict)
    """Resting orders of nobody's by account, as far as they were said."""
    _nonces: dict[str, int] = field(default_factory=dict)
    _refused: dict[str, datetime] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def nonce(self, signer: str, least: int) -> int:
        """A nonce of at least *least* that this process has not used for the signer."""
        with self._lock:
            self._nonces[signer] = max(least, self._nonces.get(signer, 0) + 1)
            return self._nonces[signer]

    def unsaid(self, account: str, strange: Iterable[RestingOrder]) -> list[RestingOrder]:
        """Those of an account's strange orders that this process has not said yet; the others are forgotten."""
        orders = {order.order_id: order for order in strange}
        said = self._strange.get(account, set())
        self._strange[account] = set(orders)
        return [order for id, order in orders.items() if id not in said]

    def refuse(self, signer: str, at: datetime) -> None:
        """Remember that the venue did not know this key."""
        self._refused[signer] = at

    def is_refused(self, signer: str, at: datetime) -> bool:
        """Whether the venue did not know this key a while ago."""
        refused_at = self._refused.get(signer)
        return refused_at is not None and at - refused_at < REFUSED_FOR
