"""What a stream of the WebSocket is: first the state so far, then what is new since the last look.

The exchange knows nothing of this. Accounts keep their fills, funding payments and transfers as growing lists and
their order history as a capped one, markets keep their path; a feed remembers how far it has read. It is asked after
every request, every move of the clock and every tick, so with a manual clock the same steps bring the same messages.

*Events* (fills, order updates, trades, candles) are told once each, however long the step was. *States* (books, mids,
margin) are told as they stand after the step, when they differ from what was last told, and again every few seconds of
real time when they do not. By the wall's clock a state is told at most every half second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from twinleg.paper.state import State
from twinleg.paper.ws_messages import compact

Json = Any

SNAPSHOT_ROWS = 2_000
ROWS_MAX = 1_000
PACE_SECONDS = 0.5
"""By the wall's clock the same state is looked at this often at most."""
REPEAT_SECONDS = 3.0
"""A state that stays the same is told again after this long, in real time."""


class Feed(Protocol):
    """One stream, told to all who subscribed to it."""

    def first(self) -> list[str]:
        """Messages for somebody who has just subscribed."""

    def news(self, seconds: float) -> list[str]:
        """Messages for everybody, at this real time in seconds."""


def message(channel: str, data: Json) -> str:
    """One message as it is sent."""
    return compact({"channel": channel, "data": data})


def parts(rows: list[Json]) -> Iterator[list[Json]]:
    """The rows of a long step in portions that clients accept as one message; none when there are none."""
    for first in range(0, len(rows), ROWS_MAX):
        yield rows[first : first + ROWS_MAX]


class Pace:
    """Lets a look through once in ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = -math.inf

    def lets(self, now: float) -> bool:
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


class StateFeed:
    """A state told whole: on subscribing, when it changed, and every ``repeat`` seconds when it did not.

    Whether it changed is told without its time stamps, which are all the venue's clock.
    """

    def __init__(
        self, state: State, channel: str, read: Callable[[], Json], pace: float, repeat: float = REPEAT_SECONDS
    ) -> None:
        self._state, self._channel, self._read = state, channel, read
        self._pace = Pace(pace)
        self._repeat = repeat
        self._told = ""
        self._told_at = -math.inf

    def first(self) -> list[str]:
        shown, bare = self._look()
        if not self._told:
            self._told = bare
        return [shown]

    def news(self, seconds: float) -> list[str]:
        if self._told_at == -math.inf:
            self._told_at = seconds
        if not self._pace.lets(seconds):
            return []
        shown, bare = self._look()
        if bare == self._told and seconds - self._told_at < self._repeat:
            return []
        self._told, self._told_at = bare, seconds
        return [shown]

    def _look(self) -> tuple[str, str]:
        shown = message(self._channel, self._read())
        return shown, shown.replace(f":{self._state.now_ms}", ":")
