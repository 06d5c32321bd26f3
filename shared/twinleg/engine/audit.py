"""What a person does beside trading, in the audit before it is done."""

from __future__ import annotations

import logging

from twinleg.domain.errors import Unavailable
from twinleg.domain.ids import time_ordered_id
from twinleg.domain.messages import Event, EventKind, Topic
from twinleg.engine.pages import audit_document
from twinleg.engine.ports import Exists
from twinleg.engine.system import Engine, write_line

log = logging.getLogger("twinleg")


def recorded(engine: Engine, kind: EventKind, summary: str, by: str) -> None:
    """Write to the audit what *by* is about to do, and publish it.

    Unlike a trade's next step this can wait: Unavailable when the audit cannot be written.
    """
    event = Event(kind=kind, at=engine.now(), who=by, summary=summary)
    try:
        engine.store.create("audit", time_ordered_id(event.at, kind, summary, by), audit_document(event))
    except Exists:
        return
    write_line(event)
    try:
        engine.bus.publish(Topic.EVENTS, event.model_dump_json().encode(), attributes={"kind": kind.value})
    except Unavailable as missed:
        log.error("not told: %s %s: %s", kind.value, summary, missed)
