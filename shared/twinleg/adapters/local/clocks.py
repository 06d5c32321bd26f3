"""The only home of time reading: the wall's clock, and the replay's, which never looks at the wall."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from twinleg.domain.errors import BadInput, InvariantBroken


class SystemClock:
    """The wall's time, in UTC."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            time.sleep(seconds)


class ReplayClock:
    """A clock that stands still until it is moved, and is only moved forward.

    Waiting on it moves it. Whoever must keep the same time (the paper venue) is told after each move,
    in the thread that moved it.
    """

    def __init__(self, start: datetime, on_advance: Callable[[datetime], None] | None = None) -> None:
        self._now = _utc(start)
        self._followers: list[Callable[[datetime], None]] = [on_advance] if on_advance else []
        self._lock = threading.RLock()

    def now(self) -> datetime:
        return self._now

    def sleep(self, seconds: float) -> None:
        if seconds < 0:
            raise InvariantBroken(f"the replay clock was asked to sleep {seconds} s")
        with self._lock:
            self.advance_to(self._now + timedelta(seconds=seconds))

    def advance_to(self, at: datetime) -> None:
        """Move to *at* and tell the followers. Raises InvariantBroken when that would be going back."""
        at = _utc(at)
        with self._lock:
            if at < self._now:
                raise InvariantBroken(f"the replay clock stands at {self._now.isoformat()}, was sent back to {at}")
            if at == self._now:
                return
            self._now = at
            for follower in self._followers:
                follower(at)

    def follow(self, follower: Callable[[datetime], None]) -> None:
        """Tell *follower* of every move from now on."""
        with self._lock:
            self._followers.append(follower)


def stopwatch() -> Callable[[], float]:
    """A stopwatch started now: calling it gives the wall seconds since."""
    started = time.monotonic()
    return lambda: time.monotonic() - started


def pause(seconds: float) -> None:
    """Wait a moment of wall time inside an adapter, between two tries at a busy resource."""
    time.sleep(seconds)


def _utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise BadInput(f"a clock's time must carry its zone, was {at.isoformat()}")
    return at.astimezone(UTC)
