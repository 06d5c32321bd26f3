"""The engine's parts in one value, and the two things every handler does with them: announce and know who it is."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime

from twinleg.domain.control import CONTROL_ID, Control, read_control
from twinleg.domain.errors import Unavailable
from twinleg.domain.ids import time_ordered_id
from twinleg.domain.messages import Event, EventKind, Topic
from twinleg.engine.config import Desk
from twinleg.engine.memory import Memory
from twinleg.engine.pages import audit_document
from twinleg.engine.ports import Bus, Clock, Exists, SignerRole, Store, Venues
from twinleg.logs import NOTICE
from twinleg.risk.limits import Limits

log = logging.getLogger("twinleg")
events_log = logging.getLogger("twinleg.events")

SEVERITIES: dict[EventKind, int] = {
    EventKind.NEEDS_A_PERSON: logging.CRITICAL,
    EventKind.ORPHAN: logging.CRITICAL,
    EventKind.EMERGENCY: logging.CRITICAL,
    EventKind.UNWOUND: logging.ERROR,
    EventKind.BREAKER: logging.ERROR,
    EventKind.WARNED: logging.WARNING,
    EventKind.PROTECTED: logging.WARNING,
    EventKind.CUT: logging.WARNING,
    EventKind.MARGIN_ADDED: logging.WARNING,
    EventKind.CORRECTED: logging.WARNING,
    EventKind.HALTED: logging.WARNING,
    EventKind.RESTORED: logging.WARNING,
    EventKind.GAP: logging.WARNING,
    EventKind.CANDLE_SUSPECT: logging.WARNING,
    EventKind.SIGNAL: logging.INFO,
    EventKind.SIGNAL_IGNORED: logging.INFO,
    EventKind.REFUSED: logging.INFO,
    EventKind.APPROVED: logging.INFO,
    EventKind.ALERT_IGNORED: logging.INFO,
    EventKind.ALERT_DUPLICATE: logging.INFO,
}
"""How loud an event is; one not listed is a NOTICE."""


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
    memory: Memory = field(default_factory=Memory)

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
        """Append to the audit, log and publish. Announcing the same thing twice leaves one audit entry and one line.

        What is told has happened already, so a store or bus that cannot take it holds nothing up: a leg must not
        wait for its hedge until somebody can be told. It is logged instead.
        """
        event = Event(
            kind=kind, at=self.now(), who=self.role.value, summary=summary,
            market=market, trade_id=trade_id, intent_id=intent_id, account=account,
        )  # fmt: skip
        entry = time_ordered_id(event.at, kind, summary, market, trade_id, intent_id, account)
        try:
            self.store.create("audit", entry, audit_document(event))
        except Exists:
            return
        except Unavailable as missed:
            log.error("not in the audit: %s %s: %s", kind.value, summary, missed)
        self.tell(event)

    def tell(self, event: Event) -> None:
        """Log and publish an event that is in the audit, or will be."""
        write_line(event)
        try:
            self.bus.publish(Topic.EVENTS, event.model_dump_json().encode(), attributes={"kind": event.kind.value})
        except Unavailable as missed:
            log.error("not told: %s %s: %s", event.kind.value, event.summary, missed)


def write_line(event: Event) -> None:
    """An event as one log line, with the links it has. A trade's id is its intent's."""
    about = {
        "trade_id": event.trade_id,
        "intent_id": event.intent_id or event.trade_id,
        "account": event.account,
        "market": event.market,
        "client_order_id": event.client_order_id,
        "who": event.who,
    }
    linked = {name: text for name, text in about.items() if text}
    level = SEVERITIES.get(event.kind, NOTICE)
    events_log.log(level, "%s: %s", event.kind.value, event.summary, extra={"event": event.kind.value, **linked})


def severity_of(kind: str) -> str:
    """How loud an event of this kind is, in Google Cloud's words."""
    try:
        return logging.getLevelName(SEVERITIES.get(EventKind(kind), NOTICE))
    except ValueError:  # of another version
        return "NOTICE"
