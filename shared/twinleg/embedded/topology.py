"""Which function is called by what, and how: the two tables that every way of running twinleg keeps to.

Terraform has the same two (``infra/terraform/main.tf``); a test holds them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from twinleg.domain.messages import Topic


@dataclass(frozen=True, slots=True)
class FunctionRow:
    """How a function is called, and the limits of a call."""

    trigger: Literal["schedule", "topics", "public"]
    timeout_seconds: int
    concurrency: int = 1
    topics: tuple[str, ...] = ()
    """The topics that are pushed to it."""
    publishes: tuple[str, ...] = ()
    ack_seconds: int | None = None
    """After this long a message is delivered again, whatever the handler answers later."""


@dataclass(frozen=True, slots=True)
class TopicRow:
    """How a topic's messages are delivered."""

    ordered: bool
    """One message per ordering key at a time."""
    attempts: int
    """Deliveries before a message goes to ``<topic>-dead``."""
    backoff_seconds: tuple[int, int]
    """The first and the longest wait between two deliveries of a message."""


FUNCTIONS = {
    "ingest": FunctionRow("schedule", 55, publishes=("candles", "events")),
    "webhook": FunctionRow("public", 10, concurrency=16, publishes=("alerts",)),
    "signal": FunctionRow(
        "topics", 30, concurrency=8, topics=("candles", "alerts"), ack_seconds=60,
        publishes=("intents", "closes", "events", "candles-dead", "alerts-dead", "unknown-dead"),
    ),
    "execute": FunctionRow(
        "topics", 240, concurrency=4, topics=("intents", "closes"), ack_seconds=300,
        publishes=("events", "intents-dead", "closes-dead", "unknown-dead"),
    ),
    "risk": FunctionRow("schedule", 55, publishes=("events",)),
}  # fmt: skip
TOPICS = {
    "candles": TopicRow(True, 10, (1, 10)),
    "alerts": TopicRow(True, 10, (1, 10)),
    "intents": TopicRow(True, 10, (1, 20)),
    "closes": TopicRow(False, 100, (1, 30)),
    "events": TopicRow(False, 20, (10, 600)),
}
DEAD_TOPICS = (*(Topic(topic).dead for topic in TOPICS), "unknown-dead")
"""What could not even be read has no topic of its own."""
PUSHED = {topic: name for name, row in FUNCTIONS.items() for topic in row.topics}
"""topic → the function it is pushed to."""
SCHEDULED = {"ingest": 2, "risk": 20}
"""Called each minute, so many seconds after it began on one machine: the sweep sees what the candle set off."""
