"""The Bus port on one SQLite file: a message is a committed row before `publish` returns.

Delivery is at least once: a message leaves only when its handler answered 2xx and that was written. A
process that dies while handling it gets it again, and the attempt is counted before the handler runs,
so that a message which kills its process ends in the dead-letter topic too.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from twinleg.adapters.local.sqlite import Database, Row, Synchronous
from twinleg.domain.errors import BadInput, TwinlegError, Unavailable
from twinleg.engine.dead_letters import about_death
from twinleg.engine.ports import Clock, Steps
from twinleg.logs import stack_of, traced
from twinleg.wire import reason_for

LOG = logging.getLogger(__name__)

BACKOFF_SECONDS_MIN, BACKOFF_SECONDS_MAX = 1.0, 60.0
POLL_SECONDS = 0.25
"""How soon a message published by another process is seen; one of ours wakes its worker at once."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PRUNE_EVERY = 256


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message as it is handed to a subscriber. ``delivery_attempt`` is 1 the first time (0: never yet delivered)."""

    topic: str
    message_id: str
    data: bytes
    key: str
    attributes: Mapping[str, str]
    delivery_attempt: int
    published_at: datetime


Handler = Callable[[Envelope], int]
"""Handles a message and returns an HTTP status: 2xx acknowledges, anything else (or an Exception) asks again."""


@dataclass(frozen=True, slots=True)
class _Subscription:
    handler: Handler
    workers: int


class LocalBus:
    """Topics in a SQLite file, shared with the store.

    Messages of one key are handled one after the other; one that fails holds back its own key, nothing
    else, and comes again after 1, 2, 4 … 60 s by the clock, until *max_delivery_attempts* sends it to
    ``<topic>-dead`` with the reason. Topics nobody subscribes to keep their messages. Of the handled
    messages of a topic, and of the topics in *kept*, only the newest are kept.

    One process delivers; any number may publish.
    """

    def __init__(
        self,
        path: str | Path | Database,
        steps: Steps | None,
        clock: Clock,
        *,
        synchronous: Synchronous = "FULL",
        max_delivery_attempts: int = 10,
        kept: Mapping[str, int] | None = None,
        handled_kept: int = 1_000,
    ) -> None:
        if max_delivery_attempts < 1:
            raise BadInput(f"max_delivery_attempts must be at least 1, was {max_delivery_attempts}")
        self.database = Database.of(path, synchronous)
        self.max_delivery_attempts = max_delivery_attempts
        self._steps = steps or Steps()
        self._clock = clock
        self._kept = dict(kept if kept is not None else {"events": 10_000})
        self._handled_kept = handled_kept
        self._subscriptions: dict[str, _Subscription] = {}
        self._in_hand: set[int] = set()
        self._news = threading.Condition()
        self._published = 0
        self._since_pruned: Counter[str] = Counter()

    # -- publishing ------------------------------------------------------------------------------

    def publish(self, topic: str, data: bytes, *, key: str = "", attributes: Mapping[str, str] | None = None) -> str:
        """Durable when it returns; the message's id."""
        now = _us(self._clock.now())
        row = (str(topic), key, data, _attributes_text(traced(attributes or {})), now, now)
        self._steps.step(f"bus.publish {topic}")
        seq = self.database.write(_INSERT, row).lastrowid
        self._steps.step(f"bus.publish {topic} done")
        with self._news:
            self._published += 1
            self._news.notify_all()
        if topic in self._kept:
            self._prune_sometimes(topic, "1", self._kept[topic])
        return str(seq)

    # -- delivering ------------------------------------------------------------------------------

    def subscribe(self, topic: str, handler: Handler, *, workers: int = 1) -> None:
        """Deliver a topic to *handler*, by up to *workers* threads (never two for one key) under `run`."""
        if topic in self._subscriptions:
            raise BadInput(f"topic {topic} has a subscriber already")
        self._subscriptions[str(topic)] = _Subscription(handler, workers)

    def deliver_due(self, now: datetime) -> int:
        """Deliver in this thread, in the order of publishing, until nothing is due; how many deliveries.

        What handlers publish meanwhile is delivered too, as is what becomes due when they move the clock.
        """
        count = 0
        while self._deliver_one(list(self._subscriptions), max(now, self._clock.now())):
            count += 1
        return count

    def next_due(self) -> datetime | None:
        """When the next waiting message of a subscribed topic may be delivered; None when none waits."""
        if not self._subscriptions:
            return None
        topics = list(self._subscriptions)
        row = self.database.read(f"SELECT min(due_us) FROM messages m WHERE {_heads(topics)}", topics)[0]
        return None if row[0] is None else _at(row[0])

    def run(self, stop: threading.Event) -> None:
        """Deliver by the wall's clock, each topic with threads of its own, until *stop* is set."""
        threads = [
            threading.Thread(target=self._work, args=(topic, stop), name=f"bus-{topic}-{number}", daemon=True)
            for topic, subscription in self._subscriptions.items()
            for number in range(subscription.workers)
        ]
        for thread in threads:
            thread.start()
        stop.wait()
        with self._news:
            self._news.notify_all()
        for thread in threads:
            thread.join()

    # -- looking ---------------------------------------------------------------------------------

    def pending(self) -> int:
        """How many messages of subscribed topics are not handled yet."""
        topics = list(self._subscriptions)
        sql = f"SELECT count(*) FROM messages WHERE done = 0 AND topic IN ({_marks(topics)})"
        return int(self.database.read(sql, topics)[0][0])

    def dead(self, topic: str) -> list[Envelope]:
        """What could not be handled of a topic, oldest first; the reason is in the attributes."""
        return self.messages(f"{topic}-dead", 1_000)

    def messages(self, topic: str, limit: int) -> list[Envelope]:
        """The newest messages of a topic, handled or not, oldest of them first."""
        sql = f"SELECT {_COLUMNS} FROM messages m WHERE topic = ? ORDER BY seq DESC LIMIT ?"
        return [_envelope(row, row[5]) for row in reversed(self.database.read(sql, (topic, limit)))]

    def oldest(self, topic: str, limit: int) -> list[Envelope]:
        """The oldest messages of a topic, handled or not."""
        sql = f"SELECT {_COLUMNS} FROM messages m WHERE topic = ? ORDER BY seq LIMIT ?"
        return [_envelope(row, row[5]) for row in self.database.read(sql, (topic, limit))]

    def remove(self, message_id: str) -> None:
        """Delete a message for good: a dead letter that a person is done with."""
        self.database.write("DELETE FROM messages WHERE seq = ?", (int(message_id),))

    def close(self) -> None:
        self.database.close()

    # -- one delivery ----------------------------------------------------------------------------

    def _work(self, topic: str, stop: threading.Event) -> None:
        while not stop.is_set():
            with self._news:
                seen = self._published
            try:
                delivered = self._deliver_one([topic], self._clock.now())
            except TwinlegError as error:
                LOG.error("the bus could not deliver", extra={"topic": topic, "reason": str(error)})
                delivered = False
            if not delivered:
                with self._news:
                    if self._published == seen and not stop.is_set():
                        self._news.wait(POLL_SECONDS)

    def _deliver_one(self, topics: list[str], now: datetime) -> bool:
        with self._taken(topics, now) as row:
            if row is None:
                return False
            envelope = _envelope(row, row[5] + 1)
            if envelope.delivery_attempt > self.max_delivery_attempts:
                self._bury(envelope, "the process ended during the last attempt")
                return True
            self._step_write("bus.attempt", envelope, "UPDATE messages SET attempt = ? WHERE seq = ?",
                             (envelope.delivery_attempt, int(envelope.message_id)))  # fmt: skip
            reason = self._handle(envelope)
            if reason is None:
                self._acknowledge(envelope)
            elif envelope.delivery_attempt >= self.max_delivery_attempts:
                self._bury(envelope, reason)
            else:
                self._postpone(envelope, reason)
            return True

    @contextmanager
    def _taken(self, topics: list[str], now: datetime) -> Iterator[Row | None]:
        """The oldest message that is due, heads its key and is in nobody's hand."""
        with self._news:
            row = self._head(topics, now) if topics else None
            if row is not None:
                self._in_hand.add(row[0])
        try:
            yield row
        finally:
            if row is not None:
                with self._news:
                    self._in_hand.discard(row[0])
                    self._news.notify_all()

    def _head(self, topics: list[str], now: datetime) -> Row | None:
        sql = f"SELECT {_COLUMNS} FROM messages m WHERE due_us <= ? AND {_heads(topics)} ORDER BY seq LIMIT ?"
        rows = self.database.read(sql, (_us(now), *topics, len(self._in_hand) + 1))
        return next((row for row in rows if row[0] not in self._in_hand), None)

    def _handle(self, envelope: Envelope) -> str | None:
        """None when it was handled, otherwise why not. Only an Exception is a failure: an exit ends the process."""
        try:
            status = self._subscriptions[envelope.topic].handler(envelope)
            return None if 200 <= status < 300 else f"answered {status}"
        except Exception as error:
            if not isinstance(error, TwinlegError):
                LOG.error("a handler failed", extra={"topic": envelope.topic, "stack_trace": stack_of(error)})
            return reason_for(error)

    def _acknowledge(self, envelope: Envelope) -> None:
        seq = int(envelope.message_id)
        self._step_write("bus.acknowledge", envelope, "UPDATE messages SET done = 1 WHERE seq = ?", (seq,))
        if envelope.topic not in self._kept:
            self._prune_sometimes(envelope.topic, "done = 1", self._handled_kept)

    def _postpone(self, envelope: Envelope, reason: str) -> None:
        seconds = min(BACKOFF_SECONDS_MIN * 2 ** (envelope.delivery_attempt - 1), BACKOFF_SECONDS_MAX)
        due = self._clock.now() + timedelta(seconds=seconds)
        LOG.warning(
            "a message comes again",
            extra={"topic": envelope.topic, "message_id": envelope.message_id, "reason": reason,
                   "delivery_attempt": envelope.delivery_attempt, "after_seconds": seconds},
        )  # fmt: skip
        self._step_write("bus.postpone", envelope, "UPDATE messages SET due_us = ? WHERE seq = ?",
                         (_us(due), int(envelope.message_id)))  # fmt: skip

    def _bury(self, envelope: Envelope, reason: str) -> None:
        LOG.error(
            "a message is dead",
            extra={"topic": envelope.topic, "message_id": envelope.message_id, "reason": reason},
        )
        about = about_death(
            reason,
            topic=envelope.topic,
            message_id=envelope.message_id,
            published_at=envelope.published_at,
            attempts=min(envelope.delivery_attempt, self.max_delivery_attempts),
        )
        now = _us(self._clock.now())
        row = (f"{envelope.topic}-dead", envelope.key, envelope.data,
               _attributes_text({**envelope.attributes, **about}), now, now)  # fmt: skip
        self._steps.step(f"bus.bury {envelope.topic}")
        with self.database.transaction() as connection:
            connection.execute(_INSERT, row)
            connection.execute("UPDATE messages SET done = 1 WHERE seq = ?", (int(envelope.message_id),))
        self._steps.step(f"bus.bury {envelope.topic} done")

    def _step_write(self, name: str, envelope: Envelope, sql: str, values: tuple[int, ...]) -> None:
        self._steps.step(f"{name} {envelope.topic}")
        self.database.write(sql, values)
        self._steps.step(f"{name} {envelope.topic} done")

    # -- pruning ---------------------------------------------------------------------------------

    def _prune_sometimes(self, topic: str, condition: str, kept: int) -> None:
        """Delete all but the newest, at a process's first message of a topic and every so many after it."""
        self._since_pruned[topic] += 1
        if self._since_pruned[topic] % _PRUNE_EVERY != 1:
            return
        newest = f"SELECT seq FROM messages WHERE topic = ? AND {condition} ORDER BY seq DESC LIMIT 1 OFFSET ?"
        sql = f"DELETE FROM messages WHERE topic = ? AND {condition} AND seq <= ({newest})"
        with suppress(Unavailable):  # what was just written is durable; tidying can wait
            self.database.write(sql, (topic, topic, kept))


_COLUMNS = "m.seq, m.topic, m.key, m.data, m.attributes, m.attempt, m.published_us"
_INSERT = "INSERT INTO messages (topic, key, data, attributes, published_us, due_us) VALUES (?, ?, ?, ?, ?, ?)"


def _heads(topics: list[str]) -> str:
    """The condition of a waiting message that no older one of its key is in front of."""
    return (
        f"m.done = 0 AND m.topic IN ({_marks(topics)}) AND (m.key = '' OR NOT EXISTS (SELECT 1 FROM messages e "
        "WHERE e.done = 0 AND e.topic = m.topic AND e.key = m.key AND e.seq < m.seq))"
    )


def _marks(values: list[str]) -> str:
    return ", ".join("?" * len(values))


def _envelope(row: Row, attempt: int) -> Envelope:
    seq, topic, key, data, attributes, _, published_us = row
    return Envelope(topic, str(seq), bytes(data), key, json.loads(attributes), attempt, _at(published_us))


def _attributes_text(attributes: Mapping[str, str]) -> str:
    for name, value in attributes.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise BadInput(f"the attribute {name!r} must be text, was {value!r}")
    return json.dumps(dict(attributes), ensure_ascii=False)


def _us(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _at(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
