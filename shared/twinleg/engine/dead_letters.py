"""Dead letters: messages that could not be handled, and what a person may do with them.

There are two kinds. A permanent fault (a verdict that repeating cannot change) is published by the function itself to
``<topic>-dead`` with its reason, and acknowledged. A message whose every delivery failed (a crash, an outage) is moved
there by the queue, which knows how often it tried but not why.

Each message is at least once in the dead letters, and a replay publishes before it removes: whatever dies in between
makes a message twice, never none. Handlers do no harm when they see a message again.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from twinleg import wire
from twinleg.domain.errors import BadInput
from twinleg.domain.messages import EventKind, HedgedIntent, Topic
from twinleg.engine.audit import recorded
from twinleg.engine.ports import Bus
from twinleg.engine.system import Engine

UNKNOWN = "unknown"
"""Where a request goes that could not even be read as a message; it came from no topic."""
SOURCES = (*(topic.value for topic in Topic), UNKNOWN)
"""Every *source* there is; its dead letters are in the topic ``<source>-dead``, and in Pub/Sub in the subscription
of that name."""
KINDS = {"candles": "candle", "alerts": "alert", "intents": "intent", "closes": "close"}
"""topic → the kind of message in it."""
LOOKED_AT_MAX = 1_000
"""How many dead letters of one topic are looked at in one go."""

REASON, SOURCE_TOPIC, SOURCE_ID = "reason", "source_topic", "source_message_id"
SOURCE_PUBLISHED, ATTEMPTS = "source_published_at", "delivery_attempts"
_ABOUT_DEATH = frozenset((REASON, SOURCE_TOPIC, SOURCE_ID, SOURCE_PUBLISHED, ATTEMPTS))
_NATIVE = "CloudPubSubDeadLetter"
"""What the names of Pub/Sub's own attributes start with. Source: Google Cloud documentation, "Dead-letter topics"."""


def about_death(
    reason: str, *, topic: str = "", message_id: str = "", published_at: datetime | None = None, attempts: int = 0
) -> dict[str, str]:
    """The attributes that a dead letter has beside those of the message."""
    about = {
        REASON: reason,
        SOURCE_TOPIC: topic,
        SOURCE_ID: message_id,
        SOURCE_PUBLISHED: published_at.isoformat() if published_at else "",
        ATTEMPTS: str(attempts) if attempts else "",
    }
    return {name: value for name, value in about.items() if value}


# -- one of them -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message in the dead letters of *source*. ``message_id`` and ``published_at`` are the dead letter's own."""

    source: str
    message_id: str
    data: bytes
    key: str
    attributes: Mapping[str, str]
    published_at: datetime

    @property
    def id(self) -> str:
        """``intents/17``: what a person types; the same from one listing to the next."""
        return f"{self.source}/{self.message_id}"

    @property
    def kind(self) -> str:
        """candle, alert, intent, close, an event's own kind, or empty."""
        return self.attributes.get("kind") or KINDS.get(self.source, "")

    @property
    def attempts(self) -> int:
        """How often it was delivered; 0 when nobody counted."""
        text = self.attributes.get(ATTEMPTS) or self.attributes.get(f"{_NATIVE}SourceDeliveryCount", "")
        return int(text) if text.isdecimal() else 0

    @property
    def reason(self) -> str:
        """Why it is here: our own words, or what the queue can tell."""
        if REASON in self.attributes:
            return self.attributes[REASON]
        subscription = self.attributes.get(f"{_NATIVE}SourceSubscription", "")
        function = subscription.partition("-")[0] if "-" in subscription else ""
        where = f"the log of {function}" if function else "the log"
        count = f"{self.attempts} deliveries" if self.attempts else "every delivery"
        return f"{count} failed; look in {where} before {self.published_at:%Y-%m-%d %H:%M:%S}Z"

    @property
    def original_attributes(self) -> dict[str, str]:
        """The attributes it had before it died; its trace is among them."""
        return {
            name: value
            for name, value in self.attributes.items()
            if name not in _ABOUT_DEATH and not name.startswith(_NATIVE)
        }

    @property
    def content(self) -> object:
        """The message as JSON; as text, or as base64, when it is none."""
        try:
            found: object = json.loads(self.data)
        except (ValueError, RecursionError):
            try:
                return {"text": self.data.decode()}
            except UnicodeDecodeError:
                return {"base64": base64.b64encode(self.data).decode()}
        return found

    @property
    def summary(self) -> str:
        """What it is about, in a few words."""
        content = self.content
        if not isinstance(content, dict) or set(content) in ({"text"}, {"base64"}):
            return f"{len(self.data)} bytes that are no message"
        alert = content.get("alert")
        about = {**content, **alert} if isinstance(alert, dict) else content
        words = [f"{name} {_word(about[name])}" for name in _SHOWN if about.get(name) not in (None, "")]
        return " ".join(words) or f"an object with {', '.join(sorted(map(str, about))[:5])[:80]}"

    def expired_at(self) -> datetime | None:
        """When the intent in it stopped being worth anything; None for everything that never expires."""
        if self.kind != KINDS[Topic.INTENTS]:
            return None
        try:
            return wire.from_bytes(HedgedIntent, self.data).expires_at
        except BadInput:
            return None


_SHOWN = (
    "trade_id", "intent_id", "alert_id", "market", "market_ticker", "action", "direction", "fraction", "opened_at",
    "expires_at",
)  # fmt: skip
"""The fields of a message that a summary shows. None can hold what somebody else wrote freely."""


def _word(value: object) -> str:
    return re.sub(r"\s+", " ", str(value))[:60]


# -- the port --------------------------------------------------------------------------------------


class DeadLetters(Protocol):
    """The dead letters of one system. One primitive: go through them; some are removed.

    Errors: Unavailable (not reached; what was removed by then stays removed).
    """

    def each(
        self,
        sources: Sequence[str],
        visit: Callable[[DeadLetter], bool],
        *,
        ids: Collection[str] | None = None,
        limit: int = LOOKED_AT_MAX,
    ) -> bool:
        """Show every dead letter of *sources* to *visit*, oldest of a source first; remove those it answers True for.

        One is removed only after *visit* returned, so that what *visit* did is done. Whatever *visit* raises ends the
        going through; the rest stays, and can be seen again at once. With *ids* only those are shown, and as soon as
        all were seen no more are looked for. At most *limit* of a source are looked at: False when that was not
        enough to see all.
        """


# -- what a person does ----------------------------------------------------------------------------


def sources_of(topic: str) -> tuple[str, ...]:
    """The sources that a person means: one, with or without ``-dead``, or all when *topic* is empty."""
    name = topic.removesuffix("-dead")
    if not name:
        return SOURCES
    if name not in SOURCES:
        raise BadInput(f"topic must be one of {', '.join(SOURCES)}, was {topic[:40]!r}")
    return (name,)


def listed(letters: DeadLetters, topic: str = "") -> tuple[list[DeadLetter], bool]:
    """The dead letters of a topic or of all, oldest first, and whether these are all."""
    found: list[DeadLetter] = []

    def keep(letter: DeadLetter) -> bool:
        found.append(letter)
        return False

    complete = letters.each(sources_of(topic), keep)
    return sorted(found, key=lambda letter: letter.published_at), complete


def shown(letters: DeadLetters, id: str) -> DeadLetter:
    """One dead letter. BadInput when there is none of that id."""
    found: list[DeadLetter] = []

    def keep(letter: DeadLetter) -> bool:
        found.append(letter)
        return False

    _each(letters, [id], "", keep)
    return found[0]


@dataclass(frozen=True, slots=True)
class Replayed:
    """A dead letter that was published again: where, under which id, and what to know about it."""

    letter: DeadLetter
    topic: str
    message_id: str
    warning: str = ""


def replay(engine: Engine, letters: DeadLetters, ids: Sequence[str], topic: str, *, to: str, by: str) -> list[Replayed]:
    """Publish dead letters again where they came from, then remove them: those of *ids*, else of *topic*, else all.

    The data, the key and the attributes, with the trace among them, are those the message had. What came from
    no topic goes *to* one that is named, and stays where it is without.
    """
    if to and to not in tuple(Topic):
        raise BadInput(f"--to must be one of {', '.join(Topic)}, was {to[:40]!r}")
    done: list[Replayed] = []

    def again(letter: DeadLetter) -> bool:
        target = to or letter.source
        if letter.source == UNKNOWN and not to:
            if ids:
                raise BadInput(f"{letter.id} came from no topic: name one with --to {'|'.join(Topic)}")
            return False
        if letter.source != UNKNOWN and target != letter.source:
            raise BadInput(f"{letter.id} came from {letter.source} and can be replayed there only, not to {to}")
        recorded(engine, EventKind.DEAD_LETTER, f"{letter.id} replayed to {target} by {by}: {letter.summary}", by)
        done.append(Replayed(letter, target, _published(engine.bus, letter, target), warning(letter, engine.now())))
        return True

    _each(letters, ids, topic, again)
    return done


def drop(engine: Engine, letters: DeadLetters, ids: Sequence[str], *, why: str, by: str) -> list[DeadLetter]:
    """Remove dead letters for good. The audit says which, what they were about, who wanted it and why."""
    if not why.strip():
        raise BadInput("dropping a dead letter wants --why: it is the only thing left of it")
    done: list[DeadLetter] = []

    def away(letter: DeadLetter) -> bool:
        summary = f"{letter.id} dropped by {by}: {why}; it was {letter.kind or 'unreadable'} {letter.summary}"
        recorded(engine, EventKind.DEAD_LETTER, f"{summary}; dead because: {letter.reason}", by)
        done.append(letter)
        return True

    _each(letters, ids, "", away)
    return done


def warning(letter: DeadLetter, now: datetime) -> str:
    """What a person should know before replaying it; empty when there is nothing."""
    expired = letter.expired_at()
    if expired is not None and expired <= now:
        return f"the intent expired at {expired:%Y-%m-%d %H:%M:%S}Z: unless its trade has begun it is refused (FRESH)"
    return ""


def _each(letters: DeadLetters, ids: Sequence[str], topic: str, visit: Callable[[DeadLetter], bool]) -> None:
    """Visit the dead letters of *ids*, or of a topic. BadInput, after the others were visited, for ids of none."""
    if not ids:
        letters.each(sources_of(topic), visit)
        return
    missing = dict.fromkeys(ids)
    sources = tuple(dict.fromkeys(_source_of(id) for id in missing))

    def seen(letter: DeadLetter) -> bool:
        missing.pop(letter.id, None)
        return visit(letter)

    letters.each(sources, seen, ids=tuple(missing))
    if missing:
        raise BadInput(f"there is no dead letter {', '.join(missing)}; twinleg dead list shows which there are")


def _source_of(id: str) -> str:
    source, slash, message_id = id.partition("/")
    if not slash or not message_id or source not in SOURCES:
        raise BadInput(f"a dead letter's id is like intents/17, was {id[:60]!r}")
    return source


def _published(bus: Bus, letter: DeadLetter, target: str) -> str:
    """Publish it; a request that could not be read when it came, and can be by now, as the message in it."""
    data, key, attributes = letter.data, letter.key, letter.original_attributes
    if letter.source == UNKNOWN:
        try:
            inner = wire.decode({}, letter.data)
        except BadInput:
            pass
        else:
            data, key, attributes = inner.data, inner.key, {**attributes, **inner.attributes}
    return bus.publish(target, data, key=key or attributes.get(wire.ORDERING_KEY, ""), attributes=attributes)


def as_json(letter: DeadLetter, now: datetime) -> dict[str, Any]:
    """What a listing tells of a dead letter."""
    return {
        "id": letter.id,
        "topic": f"{letter.source}-dead",
        "published_at": letter.published_at.isoformat(),
        "age_seconds": int((now - letter.published_at).total_seconds()),
        "key": letter.key,
        "kind": letter.kind,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "summary": letter.summary,
        "warning": warning(letter, now),
    }
