"""The engine's parts in one value, and the two things every handler does with them: announce and know who it is."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from twinleg.domain.control import CONTROL_ID, Control, read_control
from twinleg.domain.errors import Unavailable
from twinleg.domain.ids import time_ordered_id
from twinleg.domain.messages import Event, EventKind, Topic
from twinleg.engine.config import Desk
from twinleg.engine.ports import Bus, Clock, Exists, SignerRole, Store, Venues
from twinleg.engine.records import document
from twinleg.risk.limits import Limits

log = logging.getLogger("twinleg")


@dataclass(frozen=True, slots=True)
class Engine:
    """The parts a handler works with. Only clock, bus, store and venues differ between backtest, paper and live."""

    desk: Desk
    clock: Clock
    bus: Bus
    store: Store
    venues: Venues
    role: SignerRole
    """Which keys this function signs with."""

    def now(self) -> datetime:
        return self.clock.now()

    def limits(self, strategy: str) -> Limits:
        """The limits a strategy trades under."""
        plan = self.desk.strategies.get(strategy)
        return plan.limits if plan else self.desk.limits

    def control(self) -> tuple[Control, str | None]:
        """The trading state and its version (None: the document is missing, which means HALTED)."""
        stored = self.store.get("control", CONTROL_ID)
        return read_control(stored.data if stored else None), stored.version if stored else None

    def announce(
        self,
        kind: EventKind,
        summary: str,
        *,
        market: str = "",
        trade_id: str = "",
        intent_id: str = "",
        account: str = "",
    ) -> None:
        """Append to the audit and publish. Announcing the same thing twice leaves one audit entry.

        What is told has happened already, so a store or bus that cannot take it holds nothing up: a leg must not
        wait for its hedge until somebody can be told. It is logged instead.
        """
        event = Event(
            kind=kind, at=self.now(), who=self.role.value, summary=summary,
            market=market, trade_id=trade_id, intent_id=intent_id, account=account,
        )  # fmt: skip
        entry = time_ordered_id(event.at, kind, summary, market, trade_id, intent_id, account)
        try:
            self.store.create("audit", entry, document(event))
        except Exists:
            return
        except Unavailable as missed:
            log.error("not in the audit: %s %s: %s", kind.value, summary, missed)
        try:
            self.bus.publish(Topic.EVENTS, event.model_dump_json().encode(), attributes={"kind": kind.value})
        except Unavailable as missed:
            log.error("not told: %s %s: %s", kind.value, summary, missed)
