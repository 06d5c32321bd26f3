"""Which messages were published and which of them are handled: known from a second subscription of each topic."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from twinleg.adapters.gcp.emulated_queues import EmulatedQueues, Pulled
from twinleg.adapters.local.bus import BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_MIN
from twinleg.adapters.local.clocks import stopwatch
from twinleg.domain.errors import Unavailable
from twinleg.embedded.front_door import Answer, Call
from twinleg.embedded.last_attempt import NATIVE_PUBLISHED, NATIVE_SUBSCRIPTION
from twinleg.embedded.topology import DEAD_TOPICS, PUSHED
from twinleg.engine.ports import Clock

PUSH_SECONDS_MAX = 90.0
"""How long a published message may take to be pushed: between two tries the emulator waits up to half a minute."""


@dataclass(slots=True)
class _Parked:
    """A push that waits for its turn."""

    call: Call
    answer: Answer | None = None


@dataclass
class Deliveries:
    """The account of one project's messages.

    Numbers are the emulator's message ids, which grow in the order of publishing over all topics. That order is the
    one in which the bus of one process delivers.
    """

    queues: EmulatedQueues
    clock: Clock
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _open: dict[int, Pulled] = field(default_factory=dict)
    _done: set[int] = field(default_factory=set)
    _parked: dict[int, _Parked] = field(default_factory=dict)
    _due: dict[int, datetime] = field(default_factory=dict)
    _attempts: dict[int, int] = field(default_factory=dict)
    _dead: list[Pulled] = field(default_factory=list)
    _given_up: list[Pulled] = field(default_factory=list)
    _closed: bool = False

    def make_subscriptions(self) -> None:
        for topic in (*PUSHED, *DEAD_TOPICS):
            self.queues.make_pull(_watch(topic), topic)

    def look(self, topics: Iterable[str]) -> None:
        """See what was published to these topics, all of it, up to now."""
        for topic in topics:
            found = self.queues.pull(_watch(topic), topic)
            with self._changed:
                self._open.update({one.number: one for one in found if one.number not in self._done})

    def open(self) -> dict[int, str]:
        """Messages seen and not handled: number → topic. Those that Pub/Sub gave up are not among them."""
        with self._changed:
            some = bool(self._open)
        if some:
            self._look_at_dead()
        with self._changed:
            return {number: one.topic for number, one in self._open.items()}

    def dead(self, topic: str) -> list[Pulled]:
        """What could not be handled of a topic so far, oldest first."""
        self._look_at_dead()
        with self._changed:
            return [one for one in self._dead if one.topic == f"{topic}-dead"]

    # -- one at a time ---------------------------------------------------------------------------

    def park(self, call: Call) -> Answer:
        """Keep a push waiting until it is its turn; the function's answer then.

        One that was handled before is acknowledged. One that comes a second time takes the first one's place.
        """
        with self._changed:
            if call.number in self._done:
                return Answer(200)
            if (earlier := self._parked.get(call.number)) is not None:
                earlier.answer = Answer(503)
            mine = self._parked[call.number] = _Parked(call)
            self._changed.notify_all()
            while mine.answer is None and not self._closed:
                self._changed.wait()
            return mine.answer or Answer(503)

    def next_push(self) -> Call | None:
        """The push of the oldest message whose turn it is, when it has come; None when nothing is due."""
        waited = stopwatch()
        while (number := self._head()) is not None:
            with self._changed:
                if number not in self._parked:
                    self._changed.wait(0.5)
                if (parked := self._parked.get(number)) is not None:
                    return parked.call
            self._look_at_dead()
            if waited() > PUSH_SECONDS_MAX:
                raise Unavailable(f"message {number} was not pushed within {PUSH_SECONDS_MAX:g} s")
        return None

    def settle(self, call: Call, answer: Answer) -> None:
        """A function has answered a push.

        A message that it would not take comes again after a while by the clock, as on the bus of one process; one
        whose server died comes again at once.
        """
        number = call.number
        now = None if answer.is_done or answer.died else self.clock.now()
        with self._changed:
            if answer.is_done:
                self._done.add(number)
                self._open.pop(number, None)
                self._due.pop(number, None)
            elif now is not None:
                tries = self._attempts[number] = self._attempts.get(number, 0) + 1
                seconds = min(BACKOFF_SECONDS_MIN * 2 ** (tries - 1), BACKOFF_SECONDS_MAX)
                self._due[number] = now + timedelta(seconds=seconds)
            if (parked := self._parked.pop(number, None)) is not None:
                parked.answer = answer
            self._changed.notify_all()

    def let_go(self) -> None:
        """Answer whatever waits: nothing will be handled any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # -- inside ----------------------------------------------------------------------------------

    def _head(self) -> int | None:
        """The oldest open message that is due and that no older one of its key is in front of."""
        with self._changed:
            waiting, late = sorted(self._open.items()), dict(self._due)
        now = self.clock.now() if late else None
        taken: set[tuple[str, str]] = set()
        for number, one in waiting:
            heads = not one.key or (one.topic, one.key) not in taken
            taken.add((one.topic, one.key))
            if heads and (now is None or number not in late or late[number] <= now):
                return number
        return None

    def _look_at_dead(self) -> None:
        for topic in DEAD_TOPICS:
            found = self.queues.pull(_watch(topic), topic)
            with self._changed:
                self._dead += found
                self._given_up += [one for one in found if NATIVE_SUBSCRIPTION in one.attributes]
                self._given_up = [one for one in self._given_up if not self._bury(one)]

    def _bury(self, dead: Pulled) -> bool:
        """Close the message that Pub/Sub gave up: by what it says and when it was published, for its number is new."""
        known_by = (dead.topic.removesuffix("-dead"), dead.data, dead.attributes.get(NATIVE_PUBLISHED))
        same = [n for n, one in sorted(self._open.items()) if (one.topic, one.data, one.published_at) == known_by]
        for number in same[:1]:
            del self._open[number]
            self._done.add(number)
        return bool(same)


def _watch(topic: str) -> str:
    return f"watch-{topic}"
