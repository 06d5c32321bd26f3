"""The queue of a simulated world: at least once, in order per key, and as unkind as Pub/Sub may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from twinleg.domain.errors import Unavailable
from twinleg.engine.ports import Steps
from twinleg.simulate.faults import Dice
from twinleg.simulate.kernel import Kernel

ORDERED = frozenset({"candles", "alerts", "intents"})
ACK_SECONDS = 60.0
BACKOFF_SECONDS = (1.0, 20.0)
REORDERED_SECONDS_MAX = 90.0
ATTEMPTS_MAX = 100
"""High, so that what a run tries is not cut short by a dead letter; production's are in the infrastructure's table."""


@dataclass(slots=True)
class Message:
    """A message on its way."""

    id: str
    topic: str
    data: bytes
    key: str
    attributes: Mapping[str, str]
    attempt: int = 0
    done: bool = False


@dataclass(slots=True)
class _Lane:
    """The messages of one ordering key: only the first may be delivered."""

    waiting: list[Message] = field(default_factory=list)


Push = Callable[[Message, Callable[[bool], None]], None]
"""Deliver a message; the callback is told whether it was acknowledged."""


class SimulatedQueue:
    """Topics and their pushes. ``bus(steps)`` is the Bus port of one process."""

    def __init__(self, kernel: Kernel, dice: Dice, push: Push, subscribed: frozenset[str]) -> None:
        self.kernel, self.dice, self._push, self._subscribed = kernel, dice, push, subscribed
        self.published: list[Message] = []
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._draw = dice.stream("queue")

    def bus(self, steps: Steps) -> SimulatedBus:
        return SimulatedBus(self, steps)

    def pending(self) -> int:
        """Messages of subscribed topics that nobody acknowledged yet."""
        return sum(not m.done for m in self.published if m.topic in self._subscribed)

    def add(self, topic: str, data: bytes, key: str, attributes: Mapping[str, str]) -> str:
        message = Message(f"m{len(self.published) + 1}", topic, data, key, dict(attributes))
        self.published.append(message)
        if topic not in self._subscribed:
            message.done = True
            return message.id
        if topic in ORDERED and key:
            lane = self._lanes.setdefault((topic, key), _Lane())
            if self.dice.strikes("message_reordered"):
                self.kernel.after(self._draw.uniform(1, REORDERED_SECONDS_MAX), lambda: self._deliver(message))
                return message.id
            lane.waiting.append(message)
            if len(lane.waiting) > 1:
                return message.id
        self._send(message)
        return message.id

    def _send(self, message: Message) -> None:
        seconds = self._draw.uniform(0.02, 0.2)
        if self.dice.strikes("message_delayed"):
            seconds = self._draw.uniform(1, 60)
        if self.dice.strikes("message_dropped"):
            seconds += ACK_SECONDS
        self.kernel.after(seconds, lambda: self._deliver(message))
        if self.dice.strikes("message_duplicated"):
            self.kernel.after(seconds + self._draw.uniform(0, 3), lambda: self._again(message))
        if self.dice.strikes("message_late_again"):
            self.kernel.after(seconds + self._draw.uniform(60, 1200), lambda: self._again(message))

    def _again(self, message: Message) -> None:
        """One more delivery of what may be handled already; its answer changes nothing."""
        message.attempt += 1
        self._push(message, lambda _: None)

    def _deliver(self, message: Message) -> None:
        message.attempt += 1
        self._push(message, lambda acknowledged: self._answered(message, acknowledged))

    def _answered(self, message: Message, acknowledged: bool) -> None:
        if acknowledged:
            message.done = True
            lane = self._lanes.get((message.topic, message.key))
            if lane is not None and message in lane.waiting:
                lane.waiting.remove(message)
                if lane.waiting:
                    self._send(lane.waiting[0])
            return
        low, high = BACKOFF_SECONDS
        self.kernel.after(min(high, low * 2 ** min(message.attempt, 5)), lambda: self._deliver(message))


class SimulatedBus:
    """The Bus port over the simulated queue."""

    def __init__(self, queue: SimulatedQueue, steps: Steps) -> None:
        self._queue, self._steps = queue, steps

    def publish(self, topic: str, data: bytes, *, key: str = "", attributes: Mapping[str, str] | None = None) -> str:
        """The message's id. Raises Unavailable when it is not known to be durable."""
        dice = self._queue.dice
        self._steps.step(f"bus.publish {topic}")
        if dice.strikes("bus_unavailable"):
            raise Unavailable(f"topic {topic}: not reached")
        id = self._queue.add(str(topic), data, key, attributes or {})
        self._steps.step(f"bus.publish {topic} done")
        if dice.strikes("bus_ack_lost"):
            raise Unavailable(f"topic {topic}: no answer")
        return id
