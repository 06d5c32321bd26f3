"""What Cloud Scheduler does, on one machine: jobs at fixed times of the clock, never one over itself."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from twinleg.domain.errors import BadInput
from twinleg.engine.ports import Clock
from twinleg.logs import stack_of
from twinleg.wire import reason_for, severity_for

LOG = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WAIT_SECONDS_MAX = 1.0
"""How soon a clock that was set, or a machine that slept, is noticed."""


class Job(NamedTuple):
    """Run at every multiple of *every_seconds* (of the day in UTC, so on whole minutes) plus *offset_seconds*."""

    name: str
    every_seconds: int
    offset_seconds: int
    run: Callable[[], object]

    def tick(self, at: datetime) -> datetime:
        """The last time at or before *at* when the job is due."""
        seconds = (at - _EPOCH) // timedelta(seconds=1) - self.offset_seconds
        return _EPOCH + timedelta(seconds=seconds // self.every_seconds * self.every_seconds + self.offset_seconds)


class Scheduler:
    """Runs jobs at their times. Ticks that passed meanwhile are made up for by one run, not by many.

    A job derives its work from state, not from the number of ticks; what it raises is logged and the
    next tick comes all the same.
    """

    def __init__(self, clock: Clock, jobs: Iterable[Job | tuple[str, int, int, Callable[[], object]]]) -> None:
        self._clock = clock
        self._jobs = [_Scheduled(Job(*job), clock.now()) for job in jobs]

    def run_due(self, now: datetime) -> int:
        """Run every job whose time has come, in the order of their times; how many ran."""
        due = sorted((s.job.tick(now), number) for number, s in enumerate(self._jobs) if s.is_due(now))
        return sum(self._jobs[number].run_if_due(now) for _, number in due)

    def next_due(self) -> datetime | None:
        """When the next job is due (in the past when it is overdue); None without jobs."""
        return min((scheduled.next_tick() for scheduled in self._jobs), default=None)

    def run(self, stop: threading.Event) -> None:
        """Run by the clock, each job in a thread of its own, until *stop* is set."""
        threads = [
            threading.Thread(target=self._work, args=(s, stop), name=f"job-{s.job.name}", daemon=True)
            for s in self._jobs
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self, scheduled: _Scheduled, stop: threading.Event) -> None:
        while not stop.is_set():
            now = self._clock.now()
            if not scheduled.run_if_due(now):
                wait = (scheduled.next_tick() - now).total_seconds()
                stop.wait(min(max(wait, 0.001), _WAIT_SECONDS_MAX))


class _Scheduled:
    def __init__(self, job: Job, start: datetime) -> None:
        if job.every_seconds < 1 or not 0 <= job.offset_seconds < job.every_seconds:
            raise BadInput(
                f"job {job.name}: every_seconds must be at least 1 and offset_seconds from 0 to below it, "
                f"was {job.every_seconds} and {job.offset_seconds}"
            )
        self.job = job
        first = job.tick(start)
        # A tick at the very start counts; one before it belongs to an earlier life.
        self._done = first if first < start else first - timedelta(seconds=job.every_seconds)
        self._running = threading.Lock()

    def next_tick(self) -> datetime:
        return self._done + timedelta(seconds=self.job.every_seconds)

    def is_due(self, now: datetime) -> bool:
        tick = self.job.tick(now)
        if tick < self._done:
            # The clock was set back: waiting until it catches up would leave positions unguarded.
            LOG.warning("the clock went back", extra={"job": self.job.name, "to": tick.isoformat()})
            self._done = tick
        return tick > self._done

    def run_if_due(self, now: datetime) -> bool:
        if not self._running.acquire(blocking=False):
            return False
        try:
            if not self.is_due(now):
                return False
            self._done = self.job.tick(now)
            self._run()
            return True
        finally:
            self._running.release()

    def _run(self) -> None:
        try:
            self.job.run()
        except Exception as error:
            LOG.log(
                logging.getLevelNamesMapping()[severity_for(error)],
                "a job failed",
                extra={"job": self.job.name, "reason": reason_for(error), "stack_trace": stack_of(error)},
            )
